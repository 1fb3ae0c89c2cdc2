"""Answers of something that may be Caddy's administration API, or not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from actions.gateway.adapters.caddy import CaddyGateway
from bot.action import Writing
from bot.errors import BadInput, Conflict, FiredoorError, ProviderRefused, ProviderUnreachable
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind
from bot.model.containment import subject as subject_is

CLOSE = Control(kind=ControlKind.CLOSE, method="GET", path="/api/orders/{order_id}")
ETAG = '"/config/apps/http/servers/edge/routes 0123456789abcdef"'
NOBODY = "http://127.0.0.1:1"
"""Port 1 needs a privilege to be listened on, and nothing does."""


class Answering:
    """Gives one answer to what is read and one to what is written."""

    def __init__(self) -> None:
        self.reading: tuple[int, bytes, dict[str, str]] = (200, b"[]", {"ETag": ETAG})
        self.writing: tuple[int, bytes, dict[str, str]] = (200, b"", {})
        self.written: list[tuple[str, str]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                is_read = self.command == "GET"
                if not is_read:
                    stub.written.append((self.command, self.path))
                status, body, headers = stub.reading if is_read else stub.writing
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def stub() -> Iterator[Answering]:
    stub = Answering()
    yield stub
    stub.close()


def gateway(url: str, tmp_path: Path, **more: Any) -> CaddyGateway:
    return CaddyGateway(
        name="edge",
        admin_url=url,
        server="edge",
        kept_dir=tmp_path / "kept",
        take_timeout_s=0.05,
        **more,
    )


def error(text: str) -> bytes:
    return json.dumps({"error": text}).encode()


class TestReading:
    @pytest.mark.parametrize(
        ("status", "body", "headers"),
        [
            pytest.param(200, b"[]", {}, id="no-etag"),
            pytest.param(200, b"[]", {"ETag": 'W/"1"'}, id="another-etag"),
            pytest.param(200, b"<html>", {"ETag": ETAG}, id="not-json"),
            pytest.param(200, b"{}", {"ETag": ETAG}, id="no-list"),
            pytest.param(302, b"", {"Location": "http://127.0.0.1:1/"}, id="redirect"),
            pytest.param(404, b"", {}, id="not-found"),
            pytest.param(429, b"", {}, id="too-many"),
            pytest.param(500, error("odd"), {}, id="error"),
            pytest.param(403, error("not authorized"), {}, id="no-right"),
        ],
    )
    def test_what_is_not_caddys_word_is_none(
        self, stub: Answering, tmp_path: Path, status: int, body: bytes, headers: dict[str, str]
    ) -> None:
        """
        Only Caddy's own answer says what is in force; from anything else nothing is written.
        """
        stub.reading = (status, body, headers)
        subject = gateway(stub.url, tmp_path)

        with pytest.raises(ProviderUnreachable, match=r"(?i)gateway edge"):
            subject.observe()
        with pytest.raises(ProviderUnreachable):
            subject.converge([CLOSE])
        assert stub.written == []

    @pytest.mark.parametrize("url", [NOBODY, "https://127.0.0.1:1", "nonsense", "http://["])
    def test_no_answer_is_unreachable(self, url: str, tmp_path: Path) -> None:
        """
        No library's error comes through, for whatever stands in the settings.
        """
        with pytest.raises(ProviderUnreachable, match="gives no answer"):
            gateway(url, tmp_path).observe()

    def test_certificate_that_is_not_there_is_said(self, tmp_path: Path) -> None:
        """
        A slip in a file's name neither crashes nor does without the certificate.
        """
        subject = gateway("https://127.0.0.1:1", tmp_path, client_certificate=tmp_path / "none.pem")

        with pytest.raises(ProviderUnreachable):
            subject.observe()


class TestWriting:
    @pytest.mark.parametrize(
        ("status", "body", "expected"),
        [
            pytest.param(412, error("If-Match header did not match"), Conflict, id="faster"),
            pytest.param(400, error("bad index"), ProviderRefused, id="refused-400"),
            pytest.param(500, error("loading new config: no"), ProviderRefused, id="refused-500"),
            pytest.param(403, error("not authorized"), ProviderRefused, id="no-right"),
            pytest.param(500, error("something else"), ProviderUnreachable, id="error"),
            pytest.param(400, b"<html>", ProviderUnreachable, id="not-caddy"),
            pytest.param(502, b"", ProviderUnreachable, id="proxy"),
            pytest.param(429, b"", ProviderUnreachable, id="too-many"),
            pytest.param(200, b"", ProviderUnreachable, id="not-taken"),
        ],
    )
    def test_each_answer_is_told_apart(
        self,
        stub: Answering,
        tmp_path: Path,
        status: int,
        body: bytes,
        expected: type[FiredoorError],
    ) -> None:
        """
        A faster writer, a refusal and silence are three things; and accepted is not in force.
        """
        stub.writing = (status, body, {})

        with pytest.raises(expected) as raised:
            gateway(stub.url, tmp_path).converge([CLOSE])

        assert type(raised.value) is expected
        assert stub.written == [("PUT", "/config/apps/http/servers/edge/routes/0")]

    def test_disk_that_keeps_nothing_loses_no_edit(self, stub: Answering, tmp_path: Path) -> None:
        """
        What another hand wrote is kept before it is replaced; if it cannot be, it stays.
        """
        (tmp_path / "kept").write_text("a file, where the folder should be")
        theirs = [{"@id": "firedoor-edge", "handle": []}]
        stub.reading = (200, json.dumps(theirs).encode(), {"ETag": ETAG})
        begun: list[bool] = []

        with pytest.raises(ProviderUnreachable, match=r"cannot be (kept|written)"):
            gateway(stub.url, tmp_path).converge([CLOSE], Writing(begin=lambda: begun.append(True)))
        assert (stub.written, begun) == ([], [])


class TestSupports:
    def test_callers_are_known_by_address_only(self, tmp_path: Path) -> None:
        """
        Without a verifier stock Caddy knows no key and no claim, and says so.
        """
        subject = gateway(NOBODY, tmp_path)
        address = Principal(kind=PrincipalKind.IP, value="198.51.100.7")
        key = Principal(kind=PrincipalKind.API_KEY, value="partner-7")

        for kind in (ControlKind.BLOCK, ControlKind.ALLOW_ONLY):
            control = CLOSE.model_copy(update={"kind": kind, "principals": (address,)})
            assert subject.supports(control).ok
            for unknown in (key, subject_is("c-1")):
                mixed = control.model_copy(update={"principals": (address, unknown)})
                support = subject.supports(mixed)
                assert (support.ok, support.nearest) == (False, ControlKind.CLOSE)
                assert "verifier" in support.why

    def test_verifier_tells_what_it_is_said_to_tell(self, tmp_path: Path) -> None:
        """
        A claim or a key whose header nobody named is not known.
        """
        subject = gateway(
            NOBODY, tmp_path, verifier="http://who.internal/", claim_headers={"sub": "x-sub"}
        )

        def support(principal: Principal) -> str:
            update = {"kind": ControlKind.BLOCK, "principals": (principal,)}
            return subject.supports(CLOSE.model_copy(update=update)).why

        assert support(subject_is("c-1")) == ""
        role = Principal(kind=PrincipalKind.CLAIM, claim="role", value="x")
        assert "the claim role" in support(role)
        assert "API keys" in support(Principal(kind=PrincipalKind.API_KEY, value="x"))

    def test_shadows_are_not_counted(self, tmp_path: Path) -> None:
        """
        There is no number to give, rather than one that is always zero.
        """
        shadow = Control(kind=ControlKind.SHADOW, method="GET", path="/x", would=ControlKind.CLOSE)

        assert gateway(NOBODY, tmp_path).supports(shadow).nearest is None
        with pytest.raises(BadInput, match="counts nothing"):
            gateway(NOBODY, tmp_path).shadow_hits(shadow)
