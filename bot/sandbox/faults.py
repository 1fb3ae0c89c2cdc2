"""A proxy that makes a server fail on purpose, at a moment that a test chooses.

It stands before one server on loopback. Requests pass unchanged until a rule says otherwise: held
(and the test is told), answered by the proxy, or dropped with their connection; before the server
sees them, or after it acted and before its answer gets back. It can also refuse connections, as a
stopped server does.

::

    with FaultProxy(aws_port) as aws:
        hold = aws.hold(Match(body="Action=CreateAccessKey"), when="answer")
        ...                      # the program under test calls AWS through aws.url
        hold.wait()              # the key exists, and the program does not know it yet

HTTP is read request by request, so a rule may match the tenth request of one connection. With
``http=False`` bytes pass as they are, and rules apply to whole connections. Upgrades (WebSocket)
are not supported over HTTP; use ``http=False`` for them.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from bot.errors import TimedOut

HOST = "127.0.0.1"
ACCEPT_POLL_S = 0.05
UPSTREAM_TIMEOUT_S = 60.0

When = Literal["request", "answer"]


@dataclass(frozen=True)
class SeenRequest:
    """A request that came in. ``path`` has its query; a raw connection has empty fields."""

    method: str = ""
    path: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True)
class Match:
    """Which requests a rule is for: a method, and patterns searched in path and body."""

    method: str | None = None
    path: str = ""
    body: str = ""

    def matches(self, request: SeenRequest) -> bool:
        """Whether all that is given fits."""
        return (
            (self.method is None or self.method == request.method)
            and re.search(self.path, request.path) is not None
            and re.search(self.body.encode(), request.body) is not None
        )


ANY = Match()


@dataclass
class Rule:
    """What happens to matching requests, ``times`` times or until it is removed."""

    match: Match
    when: When = "request"
    times: int | None = None


@dataclass
class Drop(Rule):
    """The connection is closed without an answer."""


@dataclass
class Answer(Rule):
    """The proxy answers; the server never sees the request."""

    status: int = 500
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass
class Hold(Rule):
    """Requests wait until they are let go on or discarded."""

    _held: list[SeenRequest] = field(default_factory=list)
    _one_more: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _over: threading.Event = field(default_factory=threading.Event)
    _discarded: bool = False

    def wait(self, timeout_s: float = 30.0) -> SeenRequest:
        """
        Wait until a request is held, and return it; called again, wait for the next one.

        Raises:
            TimedOut: None came in time.
        """
        if not self._one_more.acquire(timeout=timeout_s):
            raise TimedOut(
                f"No request that matches {self.match} was held within {timeout_s:g} s. "
                "Look whether the program calls through the proxy."
            )
        return self._held.pop(0)

    def release(self) -> None:
        """Let what is held go on, and hold nothing more."""
        self._over.set()

    def discard(self) -> None:
        """Drop what is held with its connection, and hold nothing more."""
        self._discarded = True
        self._over.set()

    @property
    def is_over(self) -> bool:
        """Whether it was released or discarded."""
        return self._over.is_set()

    def _keep(self, request: SeenRequest) -> bool:
        """Hold a request in its own thread; says whether it may go on."""
        self._held.append(request)
        self._one_more.release()
        self._over.wait()
        return not self._discarded


class FaultProxy:
    """
    The proxy. A context manager; its port stays the same while it refuses connections.

    Of several rules that match, the newest counts.
    """

    def __init__(self, upstream_port: int, *, http: bool = True) -> None:
        self._upstream_port = upstream_port
        self._http = http
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._seen: list[SeenRequest] = []
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._listener: socket.socket | None = self._listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, name="fault-proxy", daemon=True)
        self._accepting.start()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def requests(self) -> tuple[SeenRequest, ...]:
        """All requests that came in so far, oldest first."""
        with self._lock:
            return tuple(self._seen)

    def hold(self, match: Match = ANY, *, when: When = "request") -> Hold:
        """Hold matching requests, or the answers to them."""
        hold = Hold(match, when)
        self._add(hold)
        return hold

    def answer(
        self,
        status: int,
        match: Match = ANY,
        *,
        body: bytes = b"",
        headers: Sequence[tuple[str, str]] = (),
        times: int | None = None,
    ) -> Answer:
        """Answer matching requests with this status, in the server's place."""
        rule = Answer(match, "request", times, status, tuple(headers), body)
        self._add(rule)
        return rule

    def drop(self, match: Match = ANY, *, when: When = "request", times: int | None = None) -> Drop:
        """Close the connection of matching requests, before or after the server acts on them."""
        rule = Drop(match, when, times)
        self._add(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Take a rule back; what it holds goes on."""
        with self._lock:
            if rule in self._rules:
                self._rules.remove(rule)
        if isinstance(rule, Hold):
            rule.release()

    def pass_all(self) -> None:
        """Take all rules back and accept connections again."""
        for rule in list(self._rules):
            self.remove(rule)
        self.accept()

    def refuse(self) -> None:
        """Refuse connections and cut the open ones, as a server does that was stopped."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        self._cut()

    def accept(self) -> None:
        """Accept connections again, on the same port."""
        with self._lock:
            if self._listener is None:
                self._listener = self._listen(self.port)

    def close(self) -> None:
        """Stop for good: what is held is dropped, connections are cut, threads have ended."""
        with self._lock:
            rules, self._rules = self._rules, []
        for rule in rules:
            if isinstance(rule, Hold):
                rule.discard()
        self._closed = True
        self.refuse()
        self._accepting.join()
        # A connection accepted in the meantime is cut as well.
        self._cut()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server((HOST, port))
        listener.settimeout(ACCEPT_POLL_S)
        return listener

    def _add(self, rule: Rule) -> None:
        with self._lock:
            self._rules.insert(0, rule)

    def _cut(self) -> None:
        with self._lock:
            for connection in self._open:
                _shut(connection)

    def _accept(self) -> None:
        pause = threading.Event()
        while not self._closed:
            listener = self._listener
            if listener is None:
                pause.wait(ACCEPT_POLL_S)
                continue
            try:
                client, _ = listener.accept()
            except OSError:
                continue  # nobody came for a while, or the listener was closed to refuse
            client.settimeout(None)
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads = [t for t in self._threads if t.is_alive()] + [thread]
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self._open.add(client)
        try:
            if self._http:
                self._serve_http(client)
            else:
                self._serve_raw(client)
        except (OSError, ValueError, http.client.HTTPException):
            pass  # one of the two ends is gone or garbled; closing tells the other one
        finally:
            with self._lock:
                self._open.discard(client)
            client.close()

    def _serve_http(self, client: socket.socket) -> None:
        with client.makefile("rb") as reader:
            while (request := _read_request(reader)) is not None:
                rule = self._rule_for(request)
                if isinstance(rule, Answer):
                    client.sendall(_answer_bytes(rule.status, "", rule.headers, rule.body))
                    continue
                if not _may_go_on(rule, "request", request):
                    return
                answer = self._forward(request)
                if not _may_go_on(rule, "answer", request):
                    return
                client.sendall(answer)

    def _forward(self, request: SeenRequest) -> bytes:
        upstream = http.client.HTTPConnection(HOST, self._upstream_port, timeout=UPSTREAM_TIMEOUT_S)
        try:
            upstream.putrequest(
                request.method, request.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in request.headers:
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    upstream.putheader(name, value)
            if request.body or request.method not in ("GET", "HEAD"):
                upstream.putheader("Content-Length", str(len(request.body)))
            upstream.endheaders(request.body or None)
            answer = upstream.getresponse()
            body = answer.read()
            return _answer_bytes(answer.status, answer.reason, answer.getheaders(), body)
        finally:
            upstream.close()

    def _serve_raw(self, client: socket.socket) -> None:
        rule = self._rule_for(SeenRequest())
        if isinstance(rule, Answer) or not _may_go_on(rule, "request", SeenRequest()):
            return
        with socket.create_connection((HOST, self._upstream_port)) as upstream:
            with self._lock:
                self._open.add(upstream)
            back = threading.Thread(target=_pump, args=(upstream, client), daemon=True)
            back.start()
            _pump(client, upstream)
            back.join()
            with self._lock:
                self._open.discard(upstream)

    def _rule_for(self, request: SeenRequest) -> Rule | None:
        with self._lock:
            self._seen.append(request)
            for rule in self._rules:
                over = rule.times == 0 or (isinstance(rule, Hold) and rule.is_over)
                if over or not rule.match.matches(request):
                    continue
                if rule.times is not None:
                    rule.times -= 1
                return rule
        return None


def _may_go_on(rule: Rule | None, when: When, request: SeenRequest) -> bool:
    if rule is None or rule.when != when:
        return True
    return isinstance(rule, Hold) and rule._keep(request)


def _read_request(reader: io.BufferedReader) -> SeenRequest | None:
    """Read one request, or None when the client has no more."""
    words = reader.readline().decode("latin-1").split()
    if len(words) != 3:
        return None
    headers = http.client.parse_headers(reader)
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = _read_chunks(reader)
    else:
        body = reader.read(int(headers.get("content-length", "0")))
    return SeenRequest(words[0], words[1], tuple(headers.items()), body)


def _read_chunks(reader: io.BufferedReader) -> bytes:
    parts = []
    while size := int(reader.readline().split(b";")[0], 16):
        parts.append(reader.read(size))
        reader.readline()
    reader.readline()
    return b"".join(parts)


def _answer_bytes(
    status: int, reason: str, headers: Sequence[tuple[str, str]], body: bytes
) -> bytes:
    reason = reason or http.client.responses.get(status, "")
    kept = [
        (name, value)
        for name, value in headers
        if name.lower() not in ("transfer-encoding", "connection")
        # A HEAD's answer names a length that it does not have.
        and (name.lower() != "content-length" or not body)
    ]
    if not any(name.lower() == "content-length" for name, _ in kept) and status not in (204, 304):
        kept.append(("Content-Length", str(len(body))))
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in kept)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            target.sendall(data)
    except OSError:
        pass  # the other direction was cut
    _shut(target)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it may be closed already
        connection.shutdown(socket.SHUT_RDWR)
