"""What the HTTP helper makes of each answer, against a real server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from actions.gateway.adapters import http_api
from actions.gateway.adapters.http_api import HttpApi, first_text
from bot.errors import Conflict, ProviderRefused, ProviderUnreachable

TOKEN = "t0ken-of-the-admin"
Answer = tuple[int, dict[str, str], bytes]
Serve = Callable[[Answer], HttpApi]


class Recorder(ThreadingHTTPServer):
    daemon_threads = True
    answer: Answer = (200, {}, b"{}")
    requests: list[tuple[str, str, dict[str, str], bytes]]


class Handler(BaseHTTPRequestHandler):
    server: Recorder

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.command, self.path, headers, body))
        status, extra, content = self.server.answer
        self.send_response(status)
        for name, value in extra.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_any

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Recorder]:
    server = Recorder(("127.0.0.1", 0), Handler)
    server.requests = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def serve(server: Recorder) -> Serve:
    def answering(answer: Answer) -> HttpApi:
        server.answer = answer
        return api(f"http://127.0.0.1:{server.server_port}/admin")

    return answering


def api(url: str, **changes: object) -> HttpApi:
    arguments: dict[str, object] = {
        "gateway": "edge",
        "what": "The Admin API",
        "base_url": url,
        "headers": {"x-token": TOKEN},
        "secrets": (TOKEN,),
        "reason": first_text("message"),
        "timeout_s": 2.0,
    }
    return HttpApi(**{**arguments, **changes})  # type: ignore[arg-type]


def said(status: int, **body: object) -> Answer:
    return status, {"Content-Type": "application/json"}, json.dumps(body).encode()


class TestRead:
    def test_value_and_credential(self, serve: Serve, server: Recorder) -> None:
        """
        A read returns the JSON value, below the base address, and sends the credential.
        """
        assert serve(said(200, data=[1])).read("/routes", {"size": "10"}) == {"data": [1]}

        (method, path, headers, body) = server.requests[0]
        assert (method, path, body) == ("GET", "/admin/routes?size=10", b"")
        assert headers["x-token"] == TOKEN

    @pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 418, 429, 500, 503])
    def test_anything_but_200_is_no_answer(self, serve: Serve, status: int) -> None:
        """
        A state that cannot be read is never taken for one, nor for a refusal.
        """
        with pytest.raises(ProviderUnreachable, match=rf"gateway edge .* answers {status}"):
            serve(said(status, message="no")).read("/routes")

    def test_redirect_gets_no_credential(self, serve: Serve, server: Recorder) -> None:
        """
        A redirect is not followed: its target would get the credential.
        """
        target = f"http://127.0.0.1:{server.server_port}/elsewhere"
        with pytest.raises(ProviderUnreachable):
            serve((307, {"Location": target}, b"")).read("/routes")

        assert [path for _, path, _, _ in server.requests] == ["/admin/routes"]

    def test_missing_may_be_an_answer(self, serve: Serve) -> None:
        """
        A 404 in the API's own form means that there is none; a bare one means nothing.
        """
        assert serve(said(404, message="Not found")).read("/x", missing_ok=True) is None
        with pytest.raises(ProviderUnreachable):
            serve((404, {}, b"<html>nginx</html>")).read("/x", missing_ok=True)

    def test_missing_may_be_told_by_the_body(self, serve: Serve) -> None:
        """
        Where a 404 can mean several things, its body decides.
        """
        client = serve(said(404, code=3))
        assert client.read("/x", missing_ok=lambda body: body["code"] == 3) is None
        with pytest.raises(ProviderUnreachable):
            client.read("/x", missing_ok=lambda body: body["code"] == 4)

    @pytest.mark.parametrize("content", [b"", b"<html>", b'{"a": "\xff', b"[" * 100_000])
    def test_no_json_is_no_answer(self, serve: Serve, content: bytes) -> None:
        """
        What cannot be parsed is not let through raw.
        """
        with pytest.raises(ProviderUnreachable, match=r"gateway edge .* not of this API"):
            serve((200, {}, content)).read("/routes")

    def test_endless_answer_is_cut(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        An answer has a size limit.
        """
        monkeypatch.setattr(http_api, "MAX_ANSWER_BYTES", 1000)
        with pytest.raises(ProviderUnreachable):
            serve(said(200, data="x" * 2000)).read("/routes")

    def test_dripping_answer_is_cut(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        An answer has a time limit, even if something arrives all the time.
        """
        monkeypatch.setattr(http_api, "CALL_TIMEOUT_S", -1.0)
        with pytest.raises(ProviderUnreachable, match="takes too long"):
            serve(said(200)).read("/routes")

    def test_nobody_listens(self) -> None:
        """
        Silence names the gateway and says what is not known.
        """
        with pytest.raises(ProviderUnreachable, match=r"gateway edge .* gives no answer"):
            api("http://127.0.0.1:1").read("/routes")

    def test_pause_is_told(self, serve: Serve) -> None:
        """
        How long to wait, if the other side says so, goes with the error.
        """
        with pytest.raises(ProviderUnreachable) as caught:
            serve((429, {"Retry-After": "7"}, b"{}")).read("/routes")
        assert caught.value.retry_after_s == 7.0

        with pytest.raises(ProviderUnreachable) as caught:
            serve((503, {"Retry-After": "soon"}, b"{}")).read("/routes")
        assert caught.value.retry_after_s is None


class TestWrite:
    def test_body_and_answer(self, serve: Serve, server: Recorder) -> None:
        """
        A write sends JSON, and returns the JSON answered with, if any.
        """
        assert serve(said(201, id="1")).write("PUT", "/routes/1", {"paths": ["/ü"]}) == {"id": "1"}
        assert serve((204, {}, b"")).write("DELETE", "/routes/1") is None

        put, delete = server.requests
        assert json.loads(put[3]) == {"paths": ["/ü"]}
        assert put[2]["content-type"] == "application/json"
        assert "content-type" not in delete[2]

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 422])
    def test_refusal_has_the_reason(self, serve: Serve, status: int) -> None:
        """
        A refusal says what the other side says.
        """
        with pytest.raises(ProviderRefused, match=rf"edge.*{status} \(schema violation\)"):
            serve(said(status, message="schema\n violation")).write("PUT", "/routes/1", {})

    @pytest.mark.parametrize("status", [409, 412])
    def test_another_writer(self, serve: Serve, status: int) -> None:
        """
        A precondition that does not hold is another writer's doing.
        """
        with pytest.raises(Conflict):
            serve(said(status, message="changed")).write("PUT", "/routes/1", {})

    @pytest.mark.parametrize("status", [302, 408, 425, 429, 500, 502, 503, 504])
    def test_what_may_have_happened_is_no_refusal(self, serve: Serve, status: int) -> None:
        """
        An answer that does not decide the write leaves it open.
        """
        with pytest.raises(ProviderUnreachable, match="not known") as caught:
            serve(said(status)).write("PUT", "/routes/1", {})
        assert not isinstance(caught.value, Conflict)


class TestSecrets:
    def test_no_message_holds_one(self, serve: Serve) -> None:
        """
        Even if the other side echoes the credential, no message and no representation has it.
        """
        client = serve(said(400, message=f"bad token {TOKEN}"))
        with pytest.raises(ProviderRefused) as refused:
            client.write("PUT", "/routes/1", {})
        with pytest.raises(ProviderUnreachable) as unread:
            client.read("/routes")
        assert "bad token …" in str(refused.value)
        assert TOKEN not in f"{refused.value} {unread.value} {client!r}"

    def test_address_is_shown_without_one(self) -> None:
        """
        A credential in the address is not shown.
        """
        client = api(f"http://admin:{TOKEN}@127.0.0.1:1/x", secrets=())
        with pytest.raises(ProviderUnreachable) as caught:
            client.read("/routes")
        assert client.shown_url == "http://127.0.0.1:1/x"
        assert TOKEN not in f"{caught.value} {client!r}"

    def test_environment_is_not_asked(
        self, serve: Serve, server: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A proxy of the environment gets nothing.
        """
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

        serve(said(200)).read("/routes")

        assert len(server.requests) == 1

    def test_long_reason_is_cut(self, serve: Serve) -> None:
        """
        A message stays readable.
        """
        with pytest.raises(ProviderRefused) as caught:
            serve(said(400, message="x" * 5000)).write("PUT", "/routes/1", {})
        assert len(str(caught.value)) < 1000


def test_reason_is_the_first_text() -> None:
    """
    The members are looked at in order; what is no text does not count.
    """
    reason = first_text("message", "error")
    assert reason({"message": "", "error": "why"}) == "why"
    assert reason({"message": 5}) == ""
    assert reason(["x"]) == ""
