"""Requests as test customers."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from actions.probe import Answer, Authorization, Prober, VantagePoint
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

    @pytest.mark.parametrize(
        "url", ["ftp://x", "127.0.0.1:80", "", "http://x:99999", "http://x:y", "http://[::1"]
    )
    def test_unusable_address_is_bad_input(self, url: str) -> None:
        """
        An address that is none is a mistake in the settings.
        """
        with pytest.raises(BadInput, match=r"firedoor\.yaml"):
            prober(url).get("/health", "nobody")


class Seen(Upstream):
    """Keeps from where each request came, and with what headers; and the names that were asked for
    in handshakes of TLS."""

    def __init__(self, tokens: Tokens) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.names: list[str | None] = []
        super().__init__(0, tokens)

    def serve_tls(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def route(self, method: str, request: BaseHTTPRequestHandler, body: bytes) -> Any:
        self.requests.append((request.client_address[0], dict(request.headers)))
        return super().route(method, request, body)

    @property
    def at(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)


@pytest.fixture
def seen(tokens: Tokens) -> Iterator[Seen]:
    seen = Seen(tokens)
    yield seen
    seen.close()


class TestVantagePoints:
    def test_one_node_is_asked_in_the_name_of_the_public_host(self, seen: Seen) -> None:
        """
        The name is not looked up; the node is told it, with the port that callers use.
        """
        node = VantagePoint("edge-2", connect_to=seen.at)
        outside = prober("http://api.acme.invalid:8080", vantage_points=[node])

        assert outside.get("/health", "nobody", "edge-2").status == 200

        assert [headers["Host"] for _, headers in seen.requests] == ["api.acme.invalid:8080"]

    def test_the_usual_port_is_not_named(self, seen: Seen) -> None:
        """
        As browsers do.
        """
        node = VantagePoint("edge-2", connect_to=seen.at)

        prober("http://api.acme.invalid", vantage_points=[node]).get("/", "nobody", "edge-2")

        assert seen.requests[0][1]["Host"] == "api.acme.invalid"

    def test_a_given_host_goes_out_once(self, seen: Seen) -> None:
        """
        A spelling with another host is that and nothing else.
        """
        outside = prober(seen.url)

        outside.request("GET", "/health", "nobody", headers={"Host": "other.invalid"})

        assert seen.requests[0][1]["Host"] == "other.invalid"

    @pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
    def test_it_is_asked_from_the_source_address(self, seen: Seen, source: str) -> None:
        """
        On each new connection.
        """
        outside = prober(seen.url, vantage_points=[VantagePoint("office", source=source)])

        with outside.connection("office") as line:
            line.request("GET", "/health", "nobody")
        outside.get("/health", "nobody", "office")

        assert [came_from for came_from, _ in seen.requests] == [source] * 2

    def test_a_source_that_is_not_ours_is_said(self, seen: Seen) -> None:
        """
        With the place's name: nothing was looked at from there.
        """
        outside = prober(seen.url, vantage_points=[VantagePoint("office", source="192.0.2.7")])

        with pytest.raises(ProviderUnreachable, match=r"\(office\).*nothing can be proven"):
            outside.get("/health", "nobody", "office")

    def test_requests_say_whose_they_are(self, seen: Seen) -> None:
        """
        In the service's log, those that went past the gateway are told from the others.
        """
        outside = prober(seen.url, vantage_points=[VantagePoint("edge-2", connect_to=seen.at)])

        for via in ("gateway", "edge-2", "upstream"):
            outside.get("/api/orders", "owner", via)

        agents = [headers["User-Agent"] for _, headers in seen.requests]
        login = agents.pop(0)
        assert agents == ["firedoor-probe", "firedoor-probe", "firedoor-probe (direct)"]
        assert login == "firedoor-probe (direct)"

    def test_logins_go_past_every_place(self, seen: Seen, upstream: Upstream) -> None:
        """
        A node that is closed does not keep the probe from its token.
        """
        node = VantagePoint("edge-2", connect_to=seen.at)
        outside = prober(seen.url, upstream_url=upstream.url, vantage_points=[node])

        outside.get("/api/orders", "owner", "edge-2")

        assert (upstream.logins, seen.logins) == (1, 0)

    def test_the_public_address_is_looked_at_first_and_always(self) -> None:
        """
        Then the others by name; each is seen as what was said of it.
        """
        points = [VantagePoint("b", seen_as="192.0.2.2"), VantagePoint("a")]

        outside = prober("http://edge", vantage_points=points, seen_as="192.0.2.1")

        assert outside.vantages == ("gateway", "a", "b")
        assert [outside.seen_as(via) for via in outside.vantages] == [
            "192.0.2.1",
            None,
            "192.0.2.2",
        ]
        assert prober("http://edge").vantages == ("gateway",)


class TestTls:
    """A node by its own address, behind the certificate of the public host."""

    HOST = "api.acme.invalid"

    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        """A certificate of the public host and its key, signed by itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self.HOST)])
        now = datetime.now(UTC)  # the clock of the TLS library; it cannot be injected
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(self.HOST)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        private = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file = tmp_path / "certificate.pem"
        file.write_bytes(made.public_bytes(pem) + private)
        return file

    @pytest.fixture
    def node(self, seen: Seen, certificate: Path) -> VantagePoint:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        seen.serve_tls(context)
        return VantagePoint("edge-2", connect_to=seen.at, source="127.0.0.2")

    def test_it_is_known_by_the_name_of_the_public_host(
        self, seen: Seen, node: VantagePoint, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Asked for by that name in the handshake, and from the source address.
        """
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        outside = prober(f"https://{self.HOST}", vantage_points=[node])

        assert outside.get("/health", "nobody", "edge-2").status == 200

        came_from, headers = seen.requests[0]
        assert (came_from, headers["Host"]) == ("127.0.0.2", self.HOST)
        assert seen.names == [self.HOST]

    @pytest.mark.parametrize("host", [HOST, "other.acme.invalid"])
    def test_who_cannot_prove_to_be_it_is_no_node(
        self,
        seen: Seen,
        node: VantagePoint,
        certificate: Path,
        monkeypatch: pytest.MonkeyPatch,
        host: str,
    ) -> None:
        """
        Neither one whom nobody vouches for, nor one with the certificate of another host.
        """
        if host != self.HOST:
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        outside = prober(f"https://{host}", vantage_points=[node])

        with pytest.raises(ProviderUnreachable, match="SSLCertVerificationError"):
            outside.get("/health", "nobody", "edge-2")

        assert seen.requests == []


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
