"""A lenient service to stand behind a gateway, and the tokens of its customers."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from actions.probe.prober import DIRECT_AGENT
from bot.model.endpoint import Endpoint

PASSWORD = "correct horse"
ORDER = "GET /api/orders/{order_id}"
EXPORT = "GET /api/orders/export"
ME = "GET /api/customers/me"
USERS = {
    "probe-owner": ("c-owner", "customer"),
    "probe-stranger": ("c-stranger", "customer"),
    "mallory": ("c-mallory", "customer"),
}
VERIFIED = ("sub", "role")
OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
ENDPOINTS = {
    endpoint.key: endpoint
    for endpoint in (
        Endpoint(method="GET", path="/health", example_path="/health"),
        Endpoint(method="POST", path="/api/login"),
        Endpoint(method="GET", path="/api/orders", example_path="/api/orders"),
        Endpoint(method="GET", path="/api/orders/export", example_path="/api/orders/export"),
        Endpoint(method="GET", path="/api/orders/{order_id}", example_path="/api/orders/4001"),
        Endpoint(method="DELETE", path="/api/orders/{order_id}"),
        Endpoint(method="GET", path="/api/customers/me", example_path="/api/customers/me"),
    )
}


def until(is_so: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain for {what}"
        time.sleep(0.01)


def walked(path: str) -> list[str]:
    """Return the segments of a path as servlet containers see it: they drop path parameters first,
    and walk then."""
    found: list[str] = []
    for segment in (part.partition(";")[0] for part in path.split("/")):
        if segment == "..":
            del found[-1:]
        elif segment not in ("", "."):
            found.append(segment)
    return found


def overridden(headers: Message) -> str | None:
    """Return the method that a request says it is of: the last word of any such header. As in CGI,
    an underscore in its name is a hyphen."""
    spelled = {name: name.replace("_", "-").lower() for name in headers}
    names = [name for name, meant in spelled.items() if meant in map(str.lower, OVERRIDES)]
    values = [v for name in names for v in headers.get_all(name, [])]
    return values[-1].split(",")[-1].strip().upper() if values else None


class Tokens:
    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def make(self, username: str, **claims: Any) -> str:
        subject, role = USERS[username]
        content = {"sub": subject, "role": role, "exp": int(time.time()) + 600} | claims
        return jwt.encode(content, self.key, algorithm="RS256", headers={"kid": "k"})

    def jwks(self) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [{**public, "kid": "k", "alg": "RS256", "use": "sig"}]}


class _Server(ThreadingHTTPServer):
    """Says nothing of connections that a gateway has dropped. Once closed it answers on none: a
    gateway keeps connections, on which the threads of a plain server would go on."""

    def __init__(self, *arguments: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        self._open.discard(request)
        super().close_request(request)

    def server_close(self) -> None:
        super().server_close()
        for each in tuple(self._open):
            with contextlib.suppress(OSError):  # its thread may be about to close it
                each.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Upstream:
    """
    A service that forgives more than it should: it takes no notice of a fragment, decodes a path,
    drops path parameters, walks, folds slashes, and obeys method overrides, also those in a list. A
    spelling that gets past the gateway reaches it.

    ``reached`` holds method and path of what arrived at the order endpoints, as it was written.
    """

    def __init__(self, port: int, tokens: Tokens) -> None:
        self.tokens = tokens
        self.logins = 0
        self.reset()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body are two writes

            def answer(self) -> None:
                time.sleep(float(self.headers.get("x-test-delay-s", "0")))
                upstream.paths.append(self.path)
                upstream.clients.add(self.client_address)
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                method = overridden(self.headers) or self.command
                if upstream.obeys_all:
                    method = self.asked(body) or method
                status, content, headers = upstream.route(method, self, body)
                payload = json.dumps(content).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(payload))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(payload)

            def asked(self, body: bytes) -> str | None:
                """Obey what no gateway can close: a path in a header, a method in a query or a
                form."""
                for name in ("X-Original-URL", "X-Rewrite-URL"):
                    self.path = self.headers.get(name, self.path)
                is_form = "form" in self.headers.get("Content-Type", "")
                texts = [self.path.partition("?")[2], body.decode() if is_form else ""]
                found = [word for text in texts for word in parse_qs(text).get("_method", [])]
                return found[0] if found else None

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = _Server(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def reset(self) -> None:
        """Be as new: forgiving in everything but case, and with nothing seen yet."""
        self.folds_case = False
        self.decodes = 1
        self.obeys_all = False
        self.checks_owner = False
        self.revoked: set[str] = set()
        self.refuses_all = False
        self.reached: list[tuple[str, str]] = []
        self.paths: list[str] = []
        self.clients: set[Any] = set()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def route(
        self, method: str, request: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, Any, Mapping[str, str]]:
        path = re.split("[?#]", request.path)[0]
        for _ in range(self.decodes):
            path = unquote(path)
        if self.folds_case:
            path = path.lower()
        parts = walked(path)
        if parts == ["health"]:
            return 200, {}, {}
        if parts == ["api", "login"]:
            return self._log_in(method, body)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            if self.refuses_all or token in self.revoked:
                return 401, {}, {}
            key = self.tokens.key.public_key()
            claims = jwt.decode(token, key, algorithms=["RS256"])
            subject = claims["sub"]
        except jwt.InvalidTokenError:
            return 401, {}, {}
        match parts:
            case ["verify"]:  # for gateways that have tokens verified by a service
                return 200, {}, {f"x-verified-{name}": str(claims[name]) for name in VERIFIED}
            case ["api", "orders"]:
                return 200, {"query": request.path}, {}
            case ["api", "orders", "export"]:
                return 200, {}, {}
            case ["api", "customers", "me"]:
                return 200, {}, {"x-resource-owner": subject}
            case ["api", "orders", order]:
                is_there = method in ("GET", "HEAD", "DELETE")
                if is_there and request.headers.get("User-Agent") != DIRECT_AGENT:
                    self.reached.append((request.command, request.path))
                return self._order(method, order, subject)
        return 404, {}, {}

    def _log_in(self, method: str, body: bytes) -> tuple[int, Any, Mapping[str, str]]:
        if method != "POST":
            return 405, {}, {}
        try:
            given = json.loads(body)
        except ValueError:
            return 422, {}, {}
        if given["username"] not in USERS or given["password"] != PASSWORD:
            return 401, {}, {}
        self.logins += 1
        return 200, {"token": self.tokens.make(given["username"], jti=str(self.logins))}, {}

    def _order(self, method: str, order: str, subject: str) -> tuple[int, Any, Mapping[str, str]]:
        if method not in ("GET", "HEAD", "DELETE"):
            return 405, {}, {}
        if not order.isdigit():
            return 422, {}, {}
        if method == "DELETE":
            return 405, {}, {}
        if self.checks_owner and subject != "c-owner":
            return 403, {}, {}
        return 200, {"order": order}, {"x-resource-owner": "c-owner"}
