"""The real program, ``firedoor serve``, in front of a rig, with the settings of an operator."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
import yaml

from bot.engine.state import RunState, StepState
from bot.model.journal import Record
from bot.sandbox.processes import Processes
from bot.store import SqlStore
from tests.gateways.rig import Rig
from tests.gateways.upstream import PASSWORD

TOKENS = {"alertmanager": "a-token-0123456789", "iris": "i-token-0123456789"}
RUNBOOK = """\
id: close-exposed
name: Close an endpoint
summary: Closes an endpoint at once, and asks when it may be opened.
severity: sev2
owners: [oncall]
inputs:
  endpoint: {type: endpoint, examples: ["GET /api/orders/{order_id}"]}
triggers:
  - source: alertmanager
    if: "{{ alert.labels.alertname == 'DataExposed' }}"
    inputs: {endpoint: "{{ alert.labels.endpoint }}"}
    auto: [close]
steps:
  - id: close
    uses: gateway.close
    with: {endpoint: "{{ inputs.endpoint }}"}
    ttl: 1h
  - id: over
    manual: {ask: "Is the reason gone?"}
"""

_NO_SETTINGS = {"name", "endpoints", "kept_dir", "take_timeout_s"}


def settings_of(rig: Rig) -> dict[str, Any]:
    """Return what stands under ``gateways`` for a rig: what its adapter is made with, but for what
    Firedoor knows by itself."""
    given = {key: _plain(v) for key, v in rig.arguments().items() if key not in _NO_SETTINGS}
    return {"kind": rig.kind.replace("-", "_"), "public_url": rig.url, **given}


def _plain(value: Any) -> Any:
    match value:
        case Path():
            return str(value)
        case tuple():
            return [_plain(each) for each in value]
        case _:
            return value


def inventory_of(rig: Rig) -> dict[str, Any]:
    """Return the rig's endpoints as an OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    order = {"name": "order_id", "in": "path", "required": True, "example": 4001}
    for endpoint in rig.endpoints.values():
        operation = {"x-owner": "team-orders", "x-data-classification": ["personal"]}
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = {
            **operation,
            "parameters": [order] if "{order_id}" in endpoint.path else [],
            "responses": {"200": {"description": "It is."}},
        }
    return {"openapi": "3.1.0", "info": {"title": "Orders", "version": "1"}, "paths": paths}


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it said."""

    code: int
    text: str

    def json(self) -> Any:
        assert self.code == 0, self.text
        return json.loads(self.text)


class Served:
    """``firedoor serve`` as a process, which can be killed, and what its operators do. A context
    manager."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.folder = rig.directory / "operator"
        self.folder.mkdir()
        self.port = rig.take_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = self.folder / "firedoor.yaml"
        self._processes = Processes(self.folder / "logs")
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy stands before loopback
        (self.folder / "runbooks").mkdir()
        (self.folder / "runbooks" / "close-exposed.yaml").write_text(RUNBOOK)
        (self.folder / "openapi.yaml").write_text(json.dumps(inventory_of(rig)))
        (self.folder / "secrets").mkdir(mode=0o700)
        for name, secret in {**TOKENS, "probe": PASSWORD}.items():
            (self.folder / "secrets" / name).write_text(secret)
        self.configure(settings_of(rig))

    def configure(self, gateway: Mapping[str, Any]) -> None:
        """Write firedoor.yaml."""
        probe = {"password": {"file": "secrets/probe"}}
        if gateway["kind"] == "traefik":
            # Firedoor's own door gives the answers their bodies.
            gateway = {**gateway, "responder_url": self.url}
        settings = {
            "http": {"port": self.port},
            "webhooks": {"alertmanager": {"token": {"file": "secrets/alertmanager"}}},
            "api_tokens": {"U0IRIS": {"file": "secrets/iris"}},
            "groups": {"oncall": ["U0IRIS", "U0SAM"]},
            "guard_rails": {"protected": ["POST /api/login"]},
            "gateways": {self.rig.name: dict(gateway)},
            "probes": {
                "orders": {
                    "gateway": self.rig.name,
                    "upstream_url": self.rig.upstream.url,
                    "login_path": "/api/login",
                    "owner": {"username": "probe-owner", **probe},
                    "stranger": {"username": "probe-stranger", **probe},
                }
            },
            "inventory": ["openapi.yaml"],
            "runbooks": ["runbooks"],
        }
        self.config.write_text(yaml.safe_dump(settings, sort_keys=False))

    # --- running ---------------------------------------------------------------------------------

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.stop_all()
        self._http.close()

    def start(self) -> None:
        """Start it, and return once it takes alerts."""
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        self._processes.start(
            "serve", [*self._command(), "serve", "--ready-file", str(ready)], cwd=self.folder
        )
        self._processes.wait_ready("serve", ready.exists)

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self._processes.stop("serve", kill=True)

    def log(self) -> str:
        return self._processes.child("serve").log_tail(40)

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "bot.cli", "--config", str(self.config)]

    def run(self, *words: str) -> Said:
        """Call ``firedoor``."""
        done = subprocess.run(
            [*self._command(), *words], capture_output=True, text=True, timeout=60, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Said(done.returncode, done.stdout + (done.stderr if done.returncode else ""))

    # --- the HTTP door ---------------------------------------------------------------------------

    def alert(self, endpoint: str) -> str:
        """Be Alertmanager; return the run that was started."""
        labels = {"alertname": "DataExposed", "endpoint": endpoint}
        alert = {
            "status": "firing",
            "labels": labels,
            "annotations": {},
            "startsAt": datetime.now(UTC).isoformat(),
            "fingerprint": "c0ffee",
        }
        body = {"version": "4", "status": "firing", "alerts": [alert]}
        (taken,) = self._post("/webhooks/alertmanager", body, "alertmanager")["taken"]
        return str(taken["run_id"])

    def do(self, containment: str, verb: str, **body: str) -> Any:
        """Be Iris, and extend, lift or hand over over HTTP."""
        return self._post(f"/containments/{containment}/{verb}", body, "iris")

    def _post(self, path: str, body: Any, who: str) -> Any:
        headers = {"Authorization": f"Bearer {TOKENS[who]}"}
        response = self._http.post(f"{self.url}{path}", json=body, headers=headers, timeout=10)
        assert response.status_code == 200, (response.status_code, response.text)
        return response.json()

    # --- the journal -----------------------------------------------------------------------------

    def records(self, kind: str) -> list[Record]:
        store = SqlStore(f"sqlite:///{self.folder / 'state' / 'firedoor.sqlite'}")
        try:
            with store.read() as tx:
                return list(tx.records(kind=kind))
        finally:
            store.close()

    def troubles(self) -> list[str]:
        """Return what was told of the gateway, in its order."""
        return [str(record.body["what"]) for record in self.records("gateway_drifted")]

    def step(self, run_id: str, step: str) -> StepState:
        store = SqlStore(f"sqlite:///{self.folder / 'state' / 'firedoor.sqlite'}")
        try:
            with store.read() as tx:
                return RunState.model_validate(tx.run(run_id).state).steps[step]
        finally:
            store.close()
