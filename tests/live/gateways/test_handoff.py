"""Patches, merged into an operator's own configuration, on real gateways without Firedoor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jwt
import pytest

from actions.gateway.variants import variants
from bot.model.answers import CLOSED, REFUSED, THROTTLED
from bot.model.containment import (
    ANY_METHOD,
    Control,
    ControlKind,
    subject,
)
from tests.gateways.containments import address, api_key, control, rendered
from tests.gateways.hostile import HOSTILE, TEMPLATES, sent
from tests.gateways.operated import NGINX, OPERATED, ORDER, Envoy, HAProxy, Nginx, Operated
from tests.gateways.rig import API_KEYS
from tests.gateways.upstream import ENDPOINTS
from tests.live.gateways.test_rungs import is_answer

pytestmark = pytest.mark.live

NEIGHBOURS = ("/api/orders", "/api/orders/export", "/api/customers/me", "/health")
OTHER_ADDRESS = "127.0.0.2"


Merge = Callable[..., Operated]


@pytest.fixture(params=OPERATED, ids=lambda each: each.format)
def kind(request: pytest.FixtureRequest) -> type[Operated]:
    return request.param


@pytest.fixture
def merge(kind: type[Operated], tmp_path: Path) -> Iterator[Merge]:
    """Return a function that starts a gateway with patches in it, each of a list of controls."""
    with ExitStack() as stack:

        def start(*patches: list[Control], **more: Any) -> Operated:
            merged = [
                rendered(kind.format, controls, known=ENDPOINTS, **more) for controls in patches
            ]
            operated = kind(tmp_path / "gateway", *merged)
            stack.callback(operated.close)
            operated.start()
            return operated

        yield start


def test_without_a_patch_all_is_served(merge: Merge) -> None:
    """
    The operator's own configuration holds nobody back.
    """
    gateway = merge()

    assert [gateway.status(path) for path in (ORDER, *NEIGHBOURS)] == [200] * 5
    assert gateway.status(ORDER, "mallory", source=OTHER_ADDRESS) == 200
    assert gateway.request("DELETE", ORDER).status == 405


class TestClose:
    def test_closed_method(self, merge: Merge) -> None:
        """
        A closed method answers 503 to everyone as Firedoor's own close does; other methods and the
        neighbours, a more specific endpoint among them, are served.
        """
        gateway = merge([control(ControlKind.CLOSE)])

        is_answer(gateway.get(), CLOSED)
        is_answer(gateway.get(ORDER, "mallory", source=OTHER_ADDRESS), CLOSED)
        assert gateway.request("HEAD", ORDER).status == 503
        assert gateway.request("DELETE", ORDER).status == 405
        assert [gateway.status(path) for path in NEIGHBOURS] == [200] * 4

    def test_closed_route(self, merge: Merge) -> None:
        """
        A closed route answers 503 to every method, and the more specific endpoint only to those
        that are not its own.
        """
        gateway = merge([control(ControlKind.CLOSE, method=ANY_METHOD)])

        for method in ("GET", "DELETE", "PUT", "POST", "PATCH"):
            is_answer(gateway.request(method, ORDER), CLOSED)
        assert [gateway.status(path) for path in NEIGHBOURS] == [200] * 4
        is_answer(gateway.request("DELETE", "/api/orders/export"), CLOSED)

    @pytest.mark.parametrize("method", ["GET", ANY_METHOD])
    def test_no_spelling_gets_through(self, merge: Merge, method: str) -> None:
        """
        None of the spellings that a live close is proven with reaches the service.
        """
        gateway = merge([control(ControlKind.CLOSE, method=method)])

        for each in variants("GET", ORDER, ["GET", "DELETE"]):
            gateway.request(each.method, each.path, headers=each.headers, body=b"x")

        assert gateway.upstream.reached == []


class TestCallers:
    def test_blocked_address(self, merge: Merge) -> None:
        """
        The address and the network are refused with 403, all others are served.
        """
        callers = (address(OTHER_ADDRESS), address("127.0.1.0/24"))
        gateway = merge([control(ControlKind.BLOCK, principals=callers)])

        is_answer(gateway.get(source=OTHER_ADDRESS), REFUSED)
        is_answer(gateway.get(source="127.0.1.77"), REFUSED)
        assert gateway.status() == 200
        assert gateway.status("/api/orders", source=OTHER_ADDRESS) == 200
        assert gateway.status("/api/orders/export", source=OTHER_ADDRESS) == 200

    def test_lists_of_the_allowed(self, merge: Merge) -> None:
        """
        A caller must be on each list.
        """
        one = control(
            ControlKind.ALLOW_ONLY, principals=(address("127.0.0.1"), address(OTHER_ADDRESS))
        )
        other = control(
            ControlKind.ALLOW_ONLY, principals=(address(OTHER_ADDRESS), address("127.0.0.3"))
        )
        gateway = merge([one, other])

        assert [gateway.status(source=f"127.0.0.{n}") for n in (1, 2, 3)] == [403, 200, 403]
        assert gateway.status("/api/orders") == 200

    def test_many_addresses(self, merge: Merge) -> None:
        """
        A list may be longer than a line of the configuration.
        """
        callers = tuple(address(f"127.0.2.{n}") for n in range(200))
        gateway = merge([control(ControlKind.BLOCK, principals=callers)])

        assert [gateway.status(source=f"127.0.2.{n}") for n in (0, 199, 200)] == [403, 403, 200]


class TestThrottle:
    def test_the_rest_gets_429(self, merge: Merge) -> None:
        """
        What exceeds the rate is refused as by Firedoor's own throttle; neighbours and other
        methods are not limited.
        """
        gateway = merge([control(ControlKind.THROTTLE, rate_per_s=2.0)])

        replies = [gateway.get() for _ in range(12)]

        refused = [reply for reply in replies if reply.status != 200]
        assert any(reply.status == 200 for reply in replies)
        assert refused
        for reply in refused:
            is_answer(reply, THROTTLED)
        assert [gateway.status("/api/orders") for _ in range(12)] == [200] * 12
        assert [gateway.status("/api/orders/export") for _ in range(12)] == [200] * 12
        assert [gateway.request("DELETE", ORDER).status for _ in range(12)] == [405] * 12

    def test_it_lets_through_what_it_says(self, merge: Merge) -> None:
        """
        Over a time, about as many are let through as the rate says.
        """
        gateway = merge([control(ControlKind.THROTTLE, rate_per_s=5.0)])
        ends, passed = time.monotonic() + 3.0, 0
        while time.monotonic() < ends:
            passed += gateway.status() == 200
            time.sleep(0.02)

        # 15, and a bucket that was full at first or a window that began late.
        assert 8 <= passed <= 27


class TestTogether:
    def test_several_in_one_patch(self, merge: Merge) -> None:
        """
        Controls on one endpoint all hold, and each endpoint has its own.
        """
        gateway = merge(
            [
                control(ControlKind.BLOCK, principals=(address(OTHER_ADDRESS),)),
                control(ControlKind.THROTTLE, rate_per_s=1.0),
                control(ControlKind.CLOSE, path="/api/customers/me"),
                control(ControlKind.THROTTLE, path="/api/orders", rate_per_s=1000.0),
            ]
        )

        is_answer(gateway.get(source=OTHER_ADDRESS), REFUSED)
        assert {gateway.status() for _ in range(6)} == {200, 429}
        is_answer(gateway.get("/api/customers/me"), CLOSED)
        assert gateway.status("/api/orders") == 200
        assert gateway.status("/api/orders/export") == 200

    def test_two_patches_in_one_configuration(self, merge: Merge) -> None:
        """
        Patches of two incidents do not get into each other's way: their names are their own.
        """
        gateway = merge(
            [
                control(ControlKind.BLOCK, principals=(address(OTHER_ADDRESS),)),
                control(ControlKind.THROTTLE, path="/api/orders", rate_per_s=1.0),
            ],
            [
                control(ControlKind.CLOSE, path="/api/customers/me"),
                control(ControlKind.BLOCK, principals=(address("127.0.0.3"),)),
                control(ControlKind.THROTTLE, path="/health", rate_per_s=1000.0),
            ],
        )

        found = [gateway.status(source=f"127.0.0.{n}") for n in (1, 2, 3)]
        assert found == [200, 403, 403]
        assert gateway.status("/api/customers/me") == 503
        assert {gateway.status("/api/orders") for _ in range(6)} == {200, 429}
        assert gateway.status("/health") == 200


@pytest.mark.parametrize("template", TEMPLATES)
def test_hostile_text_is_text(merge: Merge, template: str) -> None:
    """
    Whatever others have written, into a path, a reason or an owner, the gateway takes the patch,
    closes what the path says, in the spelling of a polite client, and nothing else.
    """
    gateway = merge([control(ControlKind.CLOSE, path=template)], reason=HOSTILE, owner=HOSTILE)

    reply = gateway.get(sent(template))
    if "%5c" in sent(template).lower() and isinstance(gateway, Envoy):
        # It redirects a path with an encoded backslash, whatever its routes are.
        assert reply.status == 307
    else:
        is_answer(reply, CLOSED)
    assert [gateway.status(path) for path in (ORDER, *NEIGHBOURS)] == [200] * 5


class TestCheckedCallers:
    @pytest.mark.parametrize("kind", [Envoy, HAProxy], ids=lambda each: each.format)
    def test_subject_of_a_verified_token(self, merge: Merge) -> None:
        """
        Where the gateway verifies tokens, a patch refuses by their subject; who only says so is
        nobody.
        """
        gateway = merge([control(ControlKind.BLOCK, principals=(subject("c-mallory"),))])

        is_answer(gateway.get(ORDER, "mallory"), REFUSED)
        assert gateway.status() == 200
        assert gateway.status("/api/orders", "mallory") == 200
        forged = jwt.encode({"sub": "c-mallory"}, "k" * 32, "HS256", headers={"kid": "k"})
        reply = gateway.get(headers={"Authorization": f"Bearer {forged}"})
        assert reply.status == 401

    @pytest.mark.parametrize("kind", OPERATED[1:], ids=lambda each: each.format)
    def test_api_key(self, merge: Merge) -> None:
        """
        Where the gateway checks API keys, a patch refuses by a key's name.
        """
        callers = (api_key("partner-7"), address(OTHER_ADDRESS))
        gateway = merge([control(ControlKind.BLOCK, principals=callers)])

        def status(name: str, **more: Any) -> int:
            return gateway.status(headers={"X-Api-Key": API_KEYS[name]}, **more)

        assert [status("partner-7"), status("partner-8")] == [403, 200]
        assert status("partner-8", source=OTHER_ADDRESS) == 403
        assert gateway.status(headers={"X-Api-Client": "partner-7"}) == 200
        assert gateway.status() == 200

    @pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
    @pytest.mark.parametrize("kind", [Nginx], ids=lambda each: each.format)
    def test_allowed_by_address_or_key(self, merge: Merge) -> None:
        """
        Of a list of addresses and keys, one is enough.
        """
        callers = (api_key("partner-7"), address(OTHER_ADDRESS))
        gateway = merge([control(ControlKind.ALLOW_ONLY, principals=callers)])

        assert gateway.status() == 403
        assert gateway.status(source=OTHER_ADDRESS) == 200
        assert gateway.status(headers={"X-Api-Key": API_KEYS["partner-7"]}) == 200
        assert gateway.status(headers={"X-Api-Key": API_KEYS["partner-8"]}) == 403
