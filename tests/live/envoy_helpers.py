"""A real Envoy, a lenient service behind it, and the real desk of containments."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from actions.gateway import EnvoyGateway
from actions.probe import Prober
from bot.action import ChangeAction, Facts
from bot.errors import ProviderUnreachable
from bot.model.endpoint import Endpoint
from bot.model.outcome import Outcome, Proof
from bot.model.plan import Plan
from bot.sandbox.envoy import EnvoyFiles, prepare
from bot.sandbox.processes import Ports
from bot.service.containments import ContainmentDesk
from bot.service.context import ActionContext, Connections
from bot.store import SqlStore
from bot.testing import FakeClock

PASSWORD = "correct horse"
ORDER = "GET /api/orders/{order_id}"
EXPORT = "GET /api/orders/export"
ME = "GET /api/customers/me"
USERS = {
    "probe-owner": ("c-owner", "customer"),
    "probe-stranger": ("c-stranger", "customer"),
    "mallory": ("c-mallory", "customer"),
}
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


class Upstream:
    """
    A service that forgives more than it should: it decodes a path, folds slashes, drops path
    parameters, and obeys method overrides. A spelling that gets past the gateway reaches it.

    ``reached`` holds method and path of what arrived at the order endpoint, as it was written.
    """

    def __init__(self, port: int, tokens: Tokens) -> None:
        self.tokens = tokens
        self.folds_case = False
        self.decodes = 1
        self.checks_owner = False
        self.logins = 0
        self.revoked: set[str] = set()
        self.refuses_all = False
        self.reached: list[tuple[str, str]] = []
        self.paths: list[str] = []
        self.clients: set[Any] = set()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body are two writes

            def answer(self) -> None:
                upstream.paths.append(self.path)
                upstream.clients.add(self.client_address)
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                method = self.headers.get("X-HTTP-Method-Override", self.command)
                status, content, headers = upstream.route(method, self, body)
                payload = json.dumps(content).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(payload))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(payload)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def route(
        self, method: str, request: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, Any, Mapping[str, str]]:
        path = request.path.partition("?")[0]
        for _ in range(self.decodes):
            path = unquote(path)
        if self.folds_case:
            path = path.lower()
        parts = [part.partition(";")[0] for part in path.split("/") if part]
        if parts == ["health"]:
            return 200, {}, {}
        if parts == ["api", "login"]:
            return self._log_in(method, body)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            if self.refuses_all or token in self.revoked:
                return 401, {}, {}
            key = self.tokens.key.public_key()
            subject = jwt.decode(token, key, algorithms=["RS256"])["sub"]
        except jwt.InvalidTokenError:
            return 401, {}, {}
        match parts:
            case ["api", "orders"]:
                return 200, {"query": request.path}, {}
            case ["api", "orders", "export"]:
                return 200, {}, {}
            case ["api", "customers", "me"]:
                return 200, {}, {"x-resource-owner": subject}
            case ["api", "orders", order]:
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
        if not order.isdigit():
            return 422, {}, {}
        if method not in ("GET", "HEAD"):
            return 405, {}, {}
        if self.checks_owner and subject != "c-owner":
            return 403, {}, {}
        return 200, {"order": order}, {"x-resource-owner": "c-owner"}


@dataclass
class Edge:
    """Envoy in front of an upstream, Firedoor's adapter for it, and a desk that uses it."""

    directory: Path
    endpoints: Mapping[str, Endpoint] = field(default_factory=lambda: ENDPOINTS)

    def __post_init__(self) -> None:
        self._claimed = Ports()
        self.port, self.admin_port, self.upstream_port = (self._claimed.take() for _ in range(3))
        self.tokens = Tokens()
        self.upstream = Upstream(self.upstream_port, self.tokens)
        self.files: EnvoyFiles = prepare(
            self.directory / "gateway",
            listen_port=self.port,
            admin_port=self.admin_port,
            upstream_port=self.upstream_port,
            jwks=self.tokens.jwks(),
        )
        self.url = f"http://127.0.0.1:{self.port}"
        self.gateway = self.adapter()
        self.process: subprocess.Popen[bytes] | None = None
        self.clock = FakeClock(datetime(2026, 11, 23, 12, tzinfo=UTC))
        self.store = SqlStore(f"sqlite:///{self.directory / 'firedoor.sqlite'}")
        self.store.migrate()
        self.desk = ContainmentDesk(self.store, {"edge": self.gateway}, self.clock)
        self.prober = Prober(
            name="orders",
            gateway="edge",
            public_url=self.url,
            upstream_url=self.upstream.url,
            login_path="/api/login",
            owner=("probe-owner", PASSWORD),
            stranger=("probe-stranger", PASSWORD),
        )

    def adapter(self, **changes: Any) -> EnvoyGateway:
        arguments: dict[str, Any] = {
            "name": "edge",
            "base_routes": self.files.base_routes,
            "rds_file": self.files.rds_file,
            "admin_url": f"http://127.0.0.1:{self.admin_port}",
            "endpoints": self.endpoints,
            "take_timeout_s": 4.0,
        }
        return EnvoyGateway(**{**arguments, **changes})

    def start(self) -> None:
        with (self.directory / "envoy.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.files.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until(self._is_ready, "Envoy to be ready")

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "envoy.log").read_text()
        try:
            return bool(self.gateway.observe())
        except ProviderUnreachable:
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self) -> None:
        self.stop()
        self.upstream.close()
        self.store.close()
        self._claimed.close()

    # --- asking ----------------------------------------------------------------------------------

    def get(self, path: str, username: str | None = "probe-owner", **kwargs: Any) -> Any:
        headers = kwargs.pop("headers", {})
        if username is not None:
            headers = {"Authorization": f"Bearer {self.tokens.make(username)}", **headers}
        return requests.get(f"{self.url}{path}", headers=headers, timeout=5, **kwargs)

    def status(self, path: str, username: str | None = "probe-owner") -> int:
        return int(self.get(path, username).status_code)

    def log_lines(self, path: str) -> list[dict[str, Any]]:
        text = self.files.access_log.read_text() if self.files.access_log.exists() else ""
        return [
            line for line in map(json.loads, text.splitlines()) if line["path"].startswith(path)
        ]

    # --- acting ----------------------------------------------------------------------------------

    def context(self, run: str = "INC-1-R1", step: str = "close", **changes: Any) -> ActionContext:
        unused: Any = None
        arguments: dict[str, Any] = {
            "incident_id": run.partition("-R")[0],
            "incident_title": "Cross-owner reads",
            "run_id": run,
            "step_id": step,
            "actor": "slack:U0IRIS",
            "ttl_s": 3600.0,
            "endpoints": self.endpoints,
            "containments": self.desk,
            "evidence": unused,
            "notes": unused,
            "postmortem": unused,
            "clock": self.clock,
            "connections": Connections({(Prober, "orders"): self.prober}),
        }
        return ActionContext(**{**arguments, **changes})

    def do(
        self, action: ChangeAction[Any], ctx: ActionContext, **params: Any
    ) -> tuple[Plan, Facts]:
        """Observe, plan and apply, as Firedoor does."""
        read = action.read_params(params)
        plan = action.plan(read, action.observe(read, ctx))
        outcome: Outcome = action.apply(plan, ctx)
        return plan, action.facts.model_validate(outcome.facts)


def failed(proof: Proof) -> list[str]:
    """Return what does not hold, readable."""
    return [
        f"{check.name}: expected {check.expected}, saw {check.seen}"
        for check in proof.checks
        if not check.ok
    ]


def seen(proof: Proof, name: str) -> str:
    """Return what the one check whose name starts so has seen."""
    found = [check.seen for check in proof.checks if check.name.startswith(name)]
    assert len(found) == 1, [check.name for check in proof.checks]
    return found[0]


HOUR = timedelta(hours=1)
