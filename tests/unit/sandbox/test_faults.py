"""The fault proxy fails as told, when told, and is invisible otherwise."""

from __future__ import annotations

import http.server
import socket
import threading

import pytest
import requests

from bot.errors import TimedOut
from bot.sandbox.faults import FaultProxy, Match


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.seen.append((self.command, self.path, self.headers.get("Host"), body))
        content = b"" if self.path == "/empty" else b"%s %s" % (self.command.encode(), body)
        self.send_response(204 if self.path == "/empty" else 200)
        self.send_header("X-Kept", "yes")
        if self.path != "/empty":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_HEAD = answer

    def log_message(self, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    seen: list

    def paths(self) -> list[str]:
        return [path for _, path, _, _ in self.seen]


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as running:
        running.seen = []
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def proxy(server):
    with FaultProxy(server.server_port) as running:
        yield running


@pytest.fixture
def client():
    with requests.Session() as session:
        session.trust_env = False
        yield session


class Asking(threading.Thread):
    """A request in the background; ``result`` is the answer or the error."""

    def __init__(self, client: requests.Session, url: str) -> None:
        super().__init__(daemon=True)
        self.client, self.url, self.result = client, url, None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.client.get(self.url, timeout=20)
        except requests.RequestException as error:
            self.result = error

    def ended(self):
        self.join(20)
        return self.result


class TestPassing:
    def test_requests_and_answers_pass_unchanged(self, server, proxy, client):
        """
        Method, path, query, host, body, status and headers arrive as they were sent.
        """
        answer = client.post(f"{proxy.url}/a/b?c=%2F", data=b"hello")

        assert (
            answer.status_code,
            answer.content,
            answer.headers["X-Kept"],
        ) == (200, b"POST hello", "yes")
        assert [("POST", "/a/b?c=%2F", f"127.0.0.1:{proxy.port}", b"hello")] == server.seen

    def test_answers_without_a_body_end(self, proxy, client):
        """
        HEAD and 204 have no body; the connection goes on being usable after them.
        """
        assert client.head(f"{proxy.url}/x").status_code == 200
        assert client.get(f"{proxy.url}/empty").status_code == 204
        assert client.get(f"{proxy.url}/x").content == b"GET "

    def test_chunked_bodies_pass(self, server, proxy, client):
        """
        A body sent in chunks arrives whole.
        """
        client.put(f"{proxy.url}/x", data=iter([b"one ", b"two"]))

        assert server.seen[0][3] == b"one two"


class TestHolding:
    def test_a_held_request_is_not_seen_by_the_server(self, server, proxy, client):
        """
        A request held before the server has not happened; released, it happens.
        """
        hold = proxy.hold(Match("GET", r"^/slow/\d+$"))
        asking = Asking(client, f"{proxy.url}/slow/7")

        assert hold.wait().path == "/slow/7"
        assert server.seen == []
        hold.release()
        assert asking.ended().status_code == 200
        assert server.paths() == ["/slow/7"]

    def test_a_held_answer_is_of_a_request_that_happened(self, server, proxy, client):
        """
        A request held after the server has happened, and its caller does not know it yet.
        """
        hold = proxy.hold(when="answer")
        asking = Asking(client, f"{proxy.url}/made")

        hold.wait()
        assert server.paths() == ["/made"]
        assert asking.is_alive()
        hold.discard()
        assert isinstance(asking.ended(), requests.ConnectionError)

    def test_others_pass_meanwhile(self, proxy, client):
        """
        Holding one request holds no other, also on another body of the same path.
        """
        hold = proxy.hold(Match(body="Action=Create"))
        with requests.Session() as other:
            assert other.post(f"{proxy.url}/", data={"Action": "List"}).status_code == 200
        with pytest.raises(TimedOut):
            hold.wait(timeout_s=0.01)

    def test_nothing_is_held_for_ever(self, server, client):
        """
        Closing the proxy ends what it holds; no thread stays behind.
        """
        before = threading.active_count()
        with FaultProxy(server.server_port) as proxy:
            hold = proxy.hold()
            asking = Asking(client, f"{proxy.url}/x")
            hold.wait()

        assert isinstance(asking.ended(), requests.ConnectionError)
        assert before == threading.active_count()


class TestFailing:
    def test_answers_in_the_servers_place(self, server, proxy, client):
        """
        An answer of the proxy's own counts down, and the server never sees the request.
        """
        proxy.answer(429, Match(path="/busy"), body=b"{}", headers=[("Retry-After", "1")], times=1)

        refused = client.get(f"{proxy.url}/busy")
        assert (
            refused.status_code,
            refused.headers["Retry-After"],
            refused.content,
        ) == (429, "1", b"{}")
        assert client.get(f"{proxy.url}/busy").status_code == 200
        assert len(server.seen) == 1

    @pytest.mark.parametrize(("when", "happened"), [("request", 0), ("answer", 1)])
    def test_drops_before_or_after_the_server_acts(self, server, proxy, client, when, happened):
        """
        A dropped connection says nothing about whether the server acted; a test can choose.
        """
        proxy.drop(when=when)

        with pytest.raises(requests.ConnectionError):
            client.get(f"{proxy.url}/x")
        assert happened == len(server.seen)

    def test_refuses_connections_and_accepts_them_again(self, proxy, client):
        """
        Refusing looks like a stopped server: open connections are cut, new ones refused.
        """
        client.get(f"{proxy.url}/x")
        proxy.refuse()

        with pytest.raises(requests.ConnectionError):
            client.get(f"{proxy.url}/x")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", proxy.port))
        proxy.accept()
        assert client.get(f"{proxy.url}/x").status_code == 200

    def test_a_stopped_server_looks_stopped(self, server, proxy, client):
        """
        With nothing behind it the proxy cuts the connection instead of inventing an answer.
        """
        with FaultProxy(1) as lonely, pytest.raises(requests.ConnectionError):
            client.get(f"{lonely.url}/x")


class TestRawConnections:
    def test_bytes_pass_both_ways(self, server):
        """
        Without HTTP the bytes pass as they are, until the connection is cut.
        """
        with FaultProxy(server.server_port, http=False) as proxy:
            connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
            with connection, connection.makefile("rb") as reader:
                connection.sendall(b"GET /raw HTTP/1.1\r\nHost: x\r\n\r\n")
                assert reader.readline().startswith(b"HTTP/1.1 200")
                assert next(line for line in reader if not line.strip()) == b"\r\n"
                assert reader.read(4) == b"GET "
                proxy.refuse()
                assert reader.read() == b""
