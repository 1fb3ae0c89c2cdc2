"""A real gateway in front of a lenient service, Firedoor's adapter for it, and a desk that uses
it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from actions.probe import Prober
from bot.action import ChangeAction, Facts
from bot.errors import ProviderUnreachable
from bot.model.endpoint import Endpoint
from bot.model.outcome import Outcome, Proof
from bot.model.plan import Plan
from bot.sandbox.processes import Ports
from bot.service.containments import ContainmentDesk
from bot.service.context import ActionContext, Connections
from bot.store import SqlStore
from bot.testing import FakeClock
from tests.gateways.subject import Subject
from tests.gateways.upstream import ENDPOINTS, PASSWORD, Tokens, Upstream, until

HOUR = timedelta(hours=1)
API_KEYS = {"partner-7": "k-7-0123456789abcdef", "partner-8": "k-8-0123456789abcdef"}
"""Keys that the rig's gateway checks, if it checks any: in the header ``x-api-key``."""


@dataclass(frozen=True)
class Reply:
    """What came back. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Rig(Subject):
    """
    Subclasses write what their gateway needs (`install`), say how it is started (`argv`) and
    implement the rest of `Subject`.

    ``resumes`` is false of one that starts without what Firedoor gave it.
    ``starts_alone`` is false of one that serves nobody until it has heard of Firedoor.

    ``host`` is 127.0.0.1; a gateway listens on ``port``, and administers on ``admin_port`` if it
    has such a thing. ``seen_from`` lists loopback addresses that it can tell apart.
    """

    name: ClassVar[str] = "edge"
    starts_alone: ClassVar[bool] = True
    resumes: bool = True

    def __init__(self, directory: Path, endpoints: Mapping[str, Endpoint] | None = None) -> None:
        self.directory = directory
        self.endpoints = dict(ENDPOINTS if endpoints is None else endpoints)
        self._claimed = Ports()
        self.port, self.admin_port, self.upstream_port = (self._claimed.take() for _ in range(3))
        self.tokens = Tokens()
        self.upstream = Upstream(self.upstream_port, self.tokens)
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self.install()
        self.gateway = self.adapter()
        self.gateway.prepare()
        self.clock = FakeClock(datetime(2026, 11, 23, 12, tzinfo=UTC))
        self.store = SqlStore(f"sqlite:///{directory / 'firedoor.sqlite'}")
        self.store.migrate()
        self.restart_firedoor()
        self.prober = Prober(
            name="orders",
            gateway=self.name,
            public_url=self.url,
            upstream_url=self.upstream.url,
            login_path="/api/login",
            owner=("probe-owner", PASSWORD),
            stranger=("probe-stranger", PASSWORD),
        )

    @classmethod
    def missing(cls) -> str:
        """Say what this machine lacks to run it; empty if nothing."""
        return ""

    @abstractmethod
    def install(self) -> None:
        """Write the operator's configuration into ``directory``."""

    @abstractmethod
    def argv(self) -> tuple[str, ...]:
        """Return the command that runs the gateway in the foreground."""

    def take_port(self) -> int:
        return self._claimed.take()

    def restart_firedoor(self) -> None:
        """Have a new adapter and a new desk on the same store."""
        self.gateway = self.adapter()
        self.desk = ContainmentDesk(self.store, {self.name: self.gateway}, self.clock)

    def leave(self) -> None:
        """Let another process be the Firedoor that writes to the gateway."""

    # --- running ---------------------------------------------------------------------------------

    def start(self) -> None:
        if self.process is not None:
            return
        with (self.directory / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.argv(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
            )
        until(self.is_ready, f"{self.kind} to be ready")

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "gateway.log").read_text()[-4000:]
        try:
            self.gateway.observe()
            return self.get("/health", None).status == 200
        except (ProviderUnreachable, OSError, http.client.HTTPException):
            return False

    def stop(self) -> None:
        if self.process is not None:
            # Its workers are of its own process group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def close(self) -> None:
        self.stop()
        self.upstream.close()
        self.store.close()
        self._claimed.close()

    # --- looking from outside --------------------------------------------------------------------

    def get(self, path: str, username: str | None = "probe-owner", **kwargs: Any) -> Reply:
        return self.request("GET", path, username, **kwargs)

    def request(
        self,
        method: str,
        path: str,
        username: str | None = "probe-owner",
        *,
        headers: Mapping[str, str] | None = None,
        source: str = "127.0.0.1",
        api_key: str | None = None,
        body: bytes | None = None,
    ) -> Reply:
        """Send one request on a fresh connection from a loopback address; the path goes out as it
        is."""
        sent = dict(headers or {})
        if username is not None:
            sent.setdefault("Authorization", f"Bearer {self.tokens.make(username)}")
        if api_key is not None:
            sent["x-api-key"] = API_KEYS[api_key]
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=5, source_address=(source, 0)
        )
        try:
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, response.read())
        finally:
            connection.close()

    def status(self, path: str, username: str | None = "probe-owner", **kwargs: Any) -> int:
        return self.get(path, username, **kwargs).status

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
