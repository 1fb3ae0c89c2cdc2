"""Every rung of the ladder on every real gateway, looked at from outside."""

from __future__ import annotations

import http.client
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from actions.gateway.rules import OVERRIDE_HEADERS
from bot.model.answers import CLOSED, MARK_HEADER, REFUSED, THROTTLED, ControlAnswer
from bot.model.containment import ANY_METHOD, Control, ControlKind, Principal, PrincipalKind
from bot.model.containment import subject as subject_is
from tests.gateways.rig import Reply, Rig

pytestmark = pytest.mark.live

PATH = "/api/orders/{order_id}"
ORDER = "/api/orders/4001"
NEIGHBOURS = ("/api/orders", "/api/orders/export", "/api/customers/me", "/health")
OTHER_ADDRESS = "127.0.0.2"


def address(value: str) -> Principal:
    return Principal(kind=PrincipalKind.IP, value=value)


def key(name: str) -> Principal:
    return Principal(kind=PrincipalKind.API_KEY, value=name)


def holding(rig: Rig, kind: ControlKind, *, method: str = "GET", **more: Any) -> Control:
    """Put a control in force, or skip with what the gateway declares."""
    control = Control(kind=kind, method=method, path=PATH, **more)
    support = rig.gateway.supports(control)
    if not support.ok:
        pytest.skip(f"{rig.kind} declares: {support.why}")
    rig.gateway.converge([control])
    return control


def is_answer(reply: Reply, answer: ControlAnswer) -> None:
    """Check for one of the control's own answers: a problem document (RFC 9457)."""
    assert reply.status == answer.status
    assert reply.headers["content-type"].startswith("application/problem+json")
    assert reply.headers[MARK_HEADER] == answer.mark
    assert reply.headers.get("retry-after") == (
        None if answer.retry_after_s is None else str(answer.retry_after_s)
    )
    problem = reply.json()
    assert (problem["status"], problem["code"]) == (answer.status, answer.code)
    assert problem["detail"] == answer.detail


def is_free(rig: Rig) -> None:
    """Check that nobody is held back, after the last control is gone."""
    rig.gateway.converge(())
    assert [rig.status(path) for path in (ORDER, *NEIGHBOURS)] == [200] * 5
    assert rig.status(ORDER, "mallory", source=OTHER_ADDRESS) == 200
    assert rig.request("DELETE", ORDER).status == 405


class TestClose:
    def test_closed_method(self, rig: Rig) -> None:
        """
        A closed method answers 503 to everyone; other methods and the neighbours serve on.
        """
        holding(rig, ControlKind.CLOSE)

        is_answer(rig.get(ORDER), CLOSED)
        is_answer(rig.get(ORDER, "mallory", source=OTHER_ADDRESS), CLOSED)
        assert rig.request("HEAD", ORDER).status == 503
        assert [rig.status(path) for path in NEIGHBOURS] == [200] * 4
        assert rig.request("DELETE", ORDER).status == 405

        is_free(rig)

    def test_closed_route(self, rig: Rig) -> None:
        """
        A closed route answers 503 to every method on the path.
        """
        holding(rig, ControlKind.CLOSE, method=ANY_METHOD)

        for method in ("GET", "DELETE", "PUT", "POST", "PATCH"):
            is_answer(rig.request(method, ORDER), CLOSED)
        assert [rig.status(path) for path in NEIGHBOURS] == [200] * 4

        is_free(rig)

    def test_open_connection_is_closed_out_too(self, rig: Rig) -> None:
        """
        A caller that keeps its connection gets 503 on it, or has to open another.
        """
        line = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=5)
        headers = {"Authorization": f"Bearer {rig.tokens.make('probe-owner')}"}

        def ask() -> int:
            line.request("GET", ORDER, headers=headers)
            answer = line.getresponse()
            answer.read()
            return answer.status

        assert ask() == 200
        holding(rig, ControlKind.CLOSE)

        try:
            assert ask() == 503
        except (http.client.HTTPException, OSError):
            line.close()
            assert ask() == 503
        line.close()


class TestThrottle:
    def test_the_rest_gets_429(self, rig: Rig) -> None:
        """
        What exceeds the rate gets 429, whoever asks; the neighbours are not limited.
        """
        holding(rig, ControlKind.THROTTLE, rate_per_s=2.0)

        replies = [rig.get(ORDER) for _ in range(12)]

        refused = [reply for reply in replies if reply.status != 200]
        assert any(reply.status == 200 for reply in replies)
        assert refused
        for reply in refused:
            is_answer(reply, THROTTLED)
        assert [rig.status("/api/orders") for _ in range(12)] == [200] * 12
        assert rig.request("DELETE", ORDER).status == 405

        is_free(rig)

    def test_slow_rate_lets_through_what_it_says(self, rig: Rig) -> None:
        """
        Over a time, about as many are let through as the rate says, not many more or fewer.
        """
        holding(rig, ControlKind.THROTTLE, rate_per_s=5.0)
        ends, passed = time.monotonic() + 3.0, 0
        while time.monotonic() < ends:
            passed += rig.status(ORDER) == 200
            time.sleep(0.02)

        # 15, and a bucket that was full at first or a window that began late.
        assert 8 <= passed <= 27


class TestBlock:
    def test_address(self, rig: Rig) -> None:
        """
        An address is refused with 403, others are served.
        """
        holding(rig, ControlKind.BLOCK, principals=(address(OTHER_ADDRESS),))

        is_answer(rig.get(ORDER, source=OTHER_ADDRESS), REFUSED)
        assert rig.status(ORDER) == 200
        assert rig.status("/api/orders", source=OTHER_ADDRESS) == 200

        is_free(rig)

    def test_network(self, rig: Rig) -> None:
        """
        A network in CIDR notation is refused as a whole.
        """
        holding(rig, ControlKind.BLOCK, principals=(address("127.0.0.8/29"),))

        assert [rig.status(ORDER, source=f"127.0.0.{n}") for n in (7, 8, 15, 16)] == [
            200,
            403,
            403,
            200,
        ]

    def test_subject_of_a_verified_token(self, rig: Rig) -> None:
        """
        A subject is refused with 403; nobody else is, whoever they say they are.
        """
        holding(rig, ControlKind.BLOCK, principals=(subject_is("c-mallory"),))

        is_answer(rig.get(ORDER, "mallory"), REFUSED)
        assert rig.status(ORDER) == 200
        assert rig.status("/api/orders", "mallory") == 200

        is_free(rig)

    @pytest.mark.parametrize("header", OVERRIDE_HEADERS)
    def test_method_override_is_no_way_around(self, rig: Rig, header: str) -> None:
        """
        Who is refused may not write another method, and mean this one by a header that the service
        obeys; others may.
        """
        holding(rig, ControlKind.BLOCK, principals=(subject_is("c-mallory"),))
        meant = {header: "GET"}

        assert rig.request("POST", ORDER, "mallory", headers=meant).status == 403
        assert rig.request("POST", ORDER, headers=meant).status == 200
        assert rig.request("POST", ORDER, "mallory").status == 405

    def test_forged_token_frames_nobody(self, rig: Rig) -> None:
        """
        A token that nobody signed is refused as such: it is no basis for a block, and gets its
        bearer nothing.
        """
        holding(rig, ControlKind.BLOCK, principals=(subject_is("c-mallory"),))
        stranger_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        forged = jwt.encode({"sub": "c-owner"}, stranger_key, "RS256", headers={"kid": "k"})
        unsigned = jwt.encode({"sub": "c-mallory"}, None, "none", headers={"kid": "k"})

        for token in (forged, unsigned):
            reply = rig.get(ORDER, None, headers={"Authorization": f"Bearer {token}"})
            assert reply.status == 401
        assert rig.upstream.reached == []

    def test_claim(self, rig: Rig) -> None:
        """
        Any claim of a verified token can name who is refused.
        """
        role = Principal(kind=PrincipalKind.CLAIM, claim="role", value="customer")
        holding(rig, ControlKind.BLOCK, principals=(role,))

        is_answer(rig.get(ORDER), REFUSED)
        support = rig.tokens.make("probe-owner", role="support")
        assert rig.get(ORDER, None, headers={"Authorization": f"Bearer {support}"}).status == 200

    def test_api_key(self, rig: Rig) -> None:
        """
        A key that the gateway has checked is refused by its name; who only writes the name
        somewhere is not taken for its holder.
        """
        holding(rig, ControlKind.BLOCK, principals=(key("partner-7"),))

        is_answer(rig.get(ORDER, api_key="partner-7"), REFUSED)
        assert rig.status(ORDER, api_key="partner-8") == 200
        assert rig.status(ORDER) == 200


class TestAllowOnly:
    def test_address(self, rig: Rig) -> None:
        """
        Only the named networks are served, all others get 403.
        """
        holding(rig, ControlKind.ALLOW_ONLY, principals=(address(f"{OTHER_ADDRESS}/32"),))

        is_answer(rig.get(ORDER), REFUSED)
        assert rig.status(ORDER, source=OTHER_ADDRESS) == 200
        assert rig.status("/api/orders") == 200

        is_free(rig)

    def test_subject(self, rig: Rig) -> None:
        """
        Only the named subjects are served.
        """
        holding(rig, ControlKind.ALLOW_ONLY, principals=(subject_is("c-owner"),))

        is_answer(rig.get(ORDER, "mallory"), REFUSED)
        assert rig.status(ORDER) == 200

    def test_two_of_them_let_through_whom_both_name(self, rig: Rig) -> None:
        """
        Each incident's list holds: a caller must be on both.
        """
        one = holding(
            rig, ControlKind.ALLOW_ONLY, principals=(address("127.0.0.1"), address("127.0.0.2"))
        )
        other = one.model_copy(update={"principals": (address("127.0.0.2"), address("127.0.0.3"))})
        rig.gateway.converge([one, other])

        found = [rig.status(ORDER, source=f"127.0.0.{n}") for n in (1, 2, 3)]
        assert found == [403, 200, 403]


class TestShadow:
    def test_it_counts_and_changes_nothing(self, rig: Rig) -> None:
        """
        Every caller is served as before; what would be refused is counted, and nothing else.
        """
        shadow = holding(
            rig,
            ControlKind.SHADOW,
            would=ControlKind.BLOCK,
            principals=(address(OTHER_ADDRESS),),
        )
        before = rig.gateway.shadow_hits(shadow)

        assert [rig.status(ORDER, source=OTHER_ADDRESS) for _ in range(3)] == [200] * 3
        assert rig.status(ORDER) == 200
        assert rig.status("/api/orders", source=OTHER_ADDRESS) == 200

        assert rig.gateway.shadow_hits(shadow) - before == 3


class TestTogether:
    def test_rungs_on_one_endpoint_all_hold(self, rig: Rig) -> None:
        """
        A block beside a throttle refuses whom it names, and the rest is limited.
        """
        block = holding(rig, ControlKind.BLOCK, principals=(address(OTHER_ADDRESS),))
        limit = Control(kind=ControlKind.THROTTLE, method="GET", path=PATH, rate_per_s=1.0)
        if not rig.gateway.supports(limit).ok:
            pytest.skip(f"{rig.kind} declares: {rig.gateway.supports(limit).why}")
        rig.gateway.converge([block, limit])

        assert rig.status(ORDER, source=OTHER_ADDRESS) == 403
        assert {rig.status(ORDER) for _ in range(6)} == {200, 429}

    def test_more_specific_endpoint_stays_open(self, rig: Rig) -> None:
        """
        An endpoint of the inventory that the template would match too is not closed with it.
        """
        holding(rig, ControlKind.CLOSE, method=ANY_METHOD)

        assert rig.status("/api/orders/export") == 200
