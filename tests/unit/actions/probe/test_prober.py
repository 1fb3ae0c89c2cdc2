"""Requests as test customers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from actions.probe import Answer, Authorization, Prober
from bot.errors import BadInput, ProviderRefused, ProviderUnreachable
from bot.model.endpoint import Endpoint
from tests.gateways.upstream import PASSWORD, Tokens, Upstream


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def upstream(tokens: Tokens) -> Iterator[Upstream]:
    upstream = Upstream(0, tokens)
    yield upstream
    upstream.close()


def prober(url: str, **changes: Any) -> Prober:
    arguments: dict[str, Any] = {
        "name": "orders",
        "public_url": url,
        "upstream_url": url,
        "login_path": "/api/login",
        "owner": ("probe-owner", PASSWORD),
        "stranger": ("probe-stranger", PASSWORD),
        "timeout_s": 2.0,
    }
    return Prober(**{**arguments, **changes})


class TestProber:
    def test_each_user_logs_in_once(self, upstream: Upstream) -> None:
        """
        Tokens are kept: probing does not flood the login.
        """
        outside = prober(upstream.url)

        statuses = [outside.get("/api/orders/1", who).status for who in ("owner", "stranger") * 3]

        assert statuses == [200] * 6
        assert upstream.logins == 2
        assert outside.check() == "both test customers can log in"

    def test_expired_token_is_renewed(self, upstream: Upstream) -> None:
        """
        A token that is refused is replaced once; a service that refuses every token says 401.
        """
        outside = prober(upstream.url)
        upstream.revoked.add(outside.token("owner"))
        assert outside.get("/api/orders", "owner").status == 200

        upstream.refuses_all = True
        assert outside.get("/api/orders", "owner").status == 401

    @pytest.mark.parametrize(
        "path",
        [
            "/api//orders/1",
            "/api/./orders/1",
            "/api/orders/%31",
            "/api;v=1/orders/1",
            "/%61pi/orders/1",
        ],
    )
    def test_path_goes_out_byte_for_byte(self, upstream: Upstream, path: str) -> None:
        """
        The spelling is the point; nothing tidies it up.
        """
        prober(upstream.url).get(path, "owner")

        assert upstream.paths[-1] == path

    @pytest.mark.parametrize("path", ["/a b", "/é", "/a\r\nX: y"])
    def test_path_that_cannot_be_sent_is_refused(self, upstream: Upstream, path: str) -> None:
        """
        No header can be smuggled in with a path.
        """
        with pytest.raises(BadInput, match="percent-encoded"):
            prober(upstream.url).get(path, "nobody")

    def test_several_requests_on_one_connection(self, upstream: Upstream) -> None:
        """
        A kept connection stays the same one.
        """
        with prober(upstream.url).connection("upstream") as line:
            for _ in range(3):
                assert line.request("GET", "/health", "nobody").status == 200

        assert len(upstream.clients) == 1

    def test_redirect_is_shown_and_not_followed(self) -> None:
        """
        A caller decides whether to follow, and only to the same host.
        """
        outside = prober("http://gateway.test:80")

        def onward(location: str) -> str | None:
            return outside.same_host_path(Answer(307, {"location": location}))

        assert onward("/api/orders/1?x=1") == "/api/orders/1?x=1"
        assert onward("http://gateway.test:80/x") == "/x"
        assert onward("http://elsewhere.test/x") is None
        assert outside.same_host_path(Answer(200, {"location": "/x"})) is None

    def test_passwords_and_bodies_are_not_shown(self, upstream: Upstream) -> None:
        """
        Neither a probe nor an answer shows what must not be written down.
        """
        outside = prober(upstream.url)
        answer = outside.get("/api/orders/1", "owner")

        shown = f"{outside!r} {outside} {answer!r} {answer}"

        assert PASSWORD not in shown
        assert outside.token("owner") not in shown
        assert "order" not in repr(answer)

    def test_wrong_password_is_said_without_it(self, upstream: Upstream) -> None:
        """
        A refused login names the user and where to mend it, not the password.
        """
        outside = prober(upstream.url, owner=("probe-owner", "wrong horse"))

        with pytest.raises(ProviderRefused, match=r"as owner.*firedoor\.yaml") as caught:
            outside.get("/api/orders", "owner")
        assert "wrong horse" not in str(caught.value)

    def test_no_answer_is_unreachable(self) -> None:
        """
        A service that is down is not a proof of anything.
        """
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            outside = prober(f"http://127.0.0.1:{unused.getsockname()[1]}")
            with pytest.raises(ProviderUnreachable, match="nothing can be proven"):
                outside.get("/health", "nobody")

    @pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:80", ""])
    def test_unusable_address_is_bad_input(self, url: str) -> None:
        """
        An address that is none is a mistake in the settings.
        """
        with pytest.raises(BadInput, match=r"firedoor\.yaml"):
            prober(url).get("/health", "nobody")


class Inventory:
    """The part of a context that is read before anything is asked."""

    endpoints = {
        "POST /a": Endpoint(method="POST", path="/a", example_path="/a"),
        "GET /a/{b}": Endpoint(method="GET", path="/a/{b}"),
    }


class TestAuthorization:
    @pytest.mark.parametrize(
        ("endpoint", "why"),
        [
            pytest.param("GET /x", "no endpoint", id="unknown"),
            pytest.param("POST /a", "must not change data", id="changes-data"),
            pytest.param("GET /a/{b}", "no example path", id="no-object"),
        ],
    )
    def test_what_cannot_be_probed_is_said(self, endpoint: str, why: str) -> None:
        """
        Without an object that may be asked for, nothing is asked.
        """
        action = Authorization()
        ctx: Any = Inventory()

        with pytest.raises(BadInput, match=why):
            action.run(action.read_params({"endpoint": endpoint}), ctx)
