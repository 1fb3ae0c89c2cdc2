"""An HTTP server on loopback that answers JSON, and everything that may be wrong with one."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

GARBAGE = b'{"data": [[1, 2], "\xff'


@dataclass(frozen=True)
class Request:
    """``path`` holds the decoded parts between the slashes."""

    method: str
    path: tuple[str, ...]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any

    @property
    def is_write(self) -> bool:
        return self.method != "GET"


@dataclass(frozen=True)
class Response:
    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class JsonServer:
    """
    Subclasses write `answer`. It runs between `start` and `stop`, on one port all the time, and
    keeps its state while it is stopped.

    Attributes:
        calls: All requests that it has read.

        writes: How many writes it has done.

        garbled: It answers everything with 200 and nonsense.

        instead: Answers given in place of its own, to the requests that come next; None is its
            own. ``sees`` is called with each request before it is answered.
    """

    def __init__(self) -> None:
        self.calls: list[Request] = []
        self.writes = 0
        self.garbled = False
        self.instead: list[Response | None] = []
        self.sees: Any = lambda _request: None
        self._lock = threading.RLock()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._open: set[socket.socket] = set()
        self._port = 0

    def answer(self, request: Request) -> Response:
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        if self._server is not None:
            return
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body are two writes

            def setup(self) -> None:
                super().setup()
                outer._open.add(self.connection)

            def finish(self) -> None:
                outer._open.discard(self.connection)
                super().finish()

            def reply(self) -> None:
                status, headers, content = outer._replied(self)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = reply

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,))
        self._thread.start()

    def stop(self) -> None:
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server = self._thread = None

    def _replied(self, handler: BaseHTTPRequestHandler) -> tuple[int, Mapping[str, str], bytes]:
        raw = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        parts = urlsplit(handler.path)
        with self._lock:
            try:
                body = json.loads(raw) if raw else None
            except ValueError:
                return 400, {}, b'{"message":"Cannot parse JSON body"}'
            request = Request(
                method=handler.command,
                path=tuple(unquote(part) for part in parts.path.split("/") if part),
                query=dict(parse_qsl(parts.query, keep_blank_values=True)),
                headers={name.lower(): value for name, value in handler.headers.items()},
                body=body,
            )
            self.sees(request)
            self.calls.append(request)
            if self.garbled:
                return 200, {"Content-Type": "application/json"}, GARBAGE
            response = (self.instead.pop(0) if self.instead else None) or self.answer(request)
            if request.is_write and response.status < 300:
                self.writes += 1
        content = b"" if response.body is None else json.dumps(response.body).encode()
        return response.status, {"Content-Type": "application/json", **response.headers}, content
