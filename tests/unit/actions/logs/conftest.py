"""A log in Envoy's form, and a context that keeps evidence in memory."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from actions.logs import AccessLogs, CrossOwnerReads
from bot.model.outcome import Evidence, Outcome

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclass
class Log:
    """Writes lines as Envoy does, one second after the other from noon on."""

    path: Path
    seconds: int = 0

    def line(self, path: str = "/api/orders/1", **changes: Any) -> dict[str, Any]:
        self.seconds += 1
        return {
            "start_time": (NOON + timedelta(seconds=self.seconds)).strftime(
                "%Y-%m-%dT%H:%M:%S.000Z"
            ),
            "method": "GET",
            "path": path,
            "response_code": 200,
            "sub": "mallory",
            "role": "customer",
            "resource_owner": "alice",
            "client_ip": "192.0.2.1",
            "user_agent": "curl/8",
            "request_id": f"r{self.seconds}",
            "bytes_sent": 100,
            "duration_ms": 3,
            "upstream_cluster": "orders",
        } | changes

    def write(self, path: str = "/api/orders/1", **changes: Any) -> None:
        self.raw(json.dumps(self.line(path, **changes)).encode() + b"\n")

    def raw(self, content: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(content)


@dataclass
class Context:
    """The parts of an action's context that reading a log uses."""

    logs: AccessLogs
    kept: dict[str, bytes] = field(default_factory=dict)

    @property
    def evidence(self) -> Context:
        return self

    def keep(self, name: str, content: bytes, media_type: str, summary: str) -> Evidence:
        self.kept[name] = content
        return Evidence(
            id=name,
            sha256=hashlib.sha256(content).hexdigest(),
            size_bytes=len(content),
            media_type=media_type,
            summary=summary,
            kept_at=self.now(),
        )

    def connection(self, type_: type, name: str | None = None) -> AccessLogs:
        assert type_ is AccessLogs
        assert name in {None, self.logs.name}
        return self.logs

    def now(self) -> datetime:
        return NOON + timedelta(hours=1)


@dataclass
class Asking:
    """Asks the action, as a runbook's step would."""

    context: Context
    outcome: Outcome | None = None

    def __call__(self, endpoint: str = "GET /api/orders/{order_id}", **params: Any) -> Any:
        action = CrossOwnerReads()
        values = {"endpoint": endpoint, "since": NOON.isoformat()} | params
        self.outcome = action.run(action.read_params(values), self.context)  # type: ignore[arg-type]
        assert self.outcome.facts.keys() == action.facts.model_fields.keys()
        return self.outcome.facts

    @property
    def csv(self) -> str:
        (content,) = self.context.kept.values()
        return content.decode()

    @property
    def objects(self) -> list[str]:
        return [row.partition(",")[0] for row in self.csv.splitlines()[1:]]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "access.log")


@pytest.fixture
def ask(tmp_path: Path) -> Asking:
    return Asking(Context(AccessLogs("edge-access", files=[str(tmp_path / "access*.log*")])))
