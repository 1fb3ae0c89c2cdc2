"""The main job, once, by itself: from an alert to a closed endpoint to a postmortem.

Real traffic runs, an attacker walks order numbers, and an alert reaches the webhook of a real
``firedoor serve``. People are played through the Slack stand-in's event path, by the same calls
that its web page makes. At the end everything is compared with what the sandbox itself knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from bot.engine.state import RunState
from bot.errors import Failed, TimedOut
from bot.inventory import load_openapi
from bot.model.incident import Incident, Run, RunStatus
from bot.model.journal import Record, verify_chain
from bot.sandbox.company import FIXED_VERSION, Company
from bot.sandbox.orders_data import PROBE_OWNER, PROBE_STRANGER
from bot.sandbox.responders import Responders, until
from bot.sandbox.traffic import Neighbour, Traffic, Watched, Watcher
from bot.store import FolderFiles, SqlStore

ENDPOINT = "GET /api/orders/{order_id}"
WARM_UP_S = 4.0
"""How long the attacker walks before the alert."""

Say = Callable[[str], None]


@dataclass
class Finding:
    """One thing the main job must have achieved, and what was seen."""

    name: str
    ok: bool
    seen: str


@dataclass
class Result:
    """What came of it. ``ok`` when every finding holds."""

    incident: str = ""
    run: str = ""
    status: str = ""
    steps: list[dict[str, Any]] = field(default_factory=list)
    first_blocked_ms: float | None = None
    neighbours_ok: bool = False
    affected: dict[str, Any] = field(default_factory=dict)
    rotated: dict[str, Any] = field(default_factory=dict)
    notices: list[dict[str, Any]] = field(default_factory=list)
    postmortem: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def ok(self) -> bool:
        return bool(self.findings) and all(finding.ok for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``firedoor demo --json`` prints."""
        return {
            "ok": self.ok,
            "incident": self.incident,
            "run": self.run,
            "status": self.status,
            "steps": self.steps,
            "first_blocked_ms": self.first_blocked_ms,
            "neighbours_ok": self.neighbours_ok,
            "affected": self.affected,
            "rotated": self.rotated,
            "notices": self.notices,
            "postmortem": self.postmortem,
            "findings": [vars(finding) for finding in self.findings],
            "took_s": round(self.took_s, 1),
        }


def start_firedoor(company: Company, name: str = "firedoor") -> str:
    """Start ``firedoor serve`` beside the company and return its address once it takes alerts."""
    ready = company.directory / f"{name}.ready"
    ready.unlink(missing_ok=True)
    company.processes.start_python(
        name,
        "bot.cli",
        "--config",
        str(company.settings_file),
        "serve",
        "--ready-file",
        str(ready),
    )
    url = company.firedoor_url

    def is_ready() -> bool:
        if not ready.exists():
            return False
        try:
            return requests.get(f"{url}/ready", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    company.processes.wait_ready(name, is_ready)
    return url


def alert_body(starts_at: datetime, fingerprint: str = "c0ffee0000000001") -> dict[str, Any]:
    """Return what Alertmanager posts when a detector sees one customer read others' orders."""
    labels = {"alertname": "CrossOwnerReads", "endpoint": ENDPOINT, "severity": "critical"}
    return {
        "version": "4",
        "groupKey": '{}:{alertname="CrossOwnerReads"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "firedoor",
        "groupLabels": {"alertname": "CrossOwnerReads"},
        "commonLabels": labels,
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example",
        "alerts": [
            {
                "status": "firing",
                "labels": labels,
                "annotations": {"summary": "One caller reads orders of many customers."},
                "startsAt": starts_at.isoformat(),
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prometheus.example/graph",
                "fingerprint": fingerprint,
            }
        ],
    }


def post_alert(
    company: Company, url: str, body: dict[str, Any], token: str | None = None
) -> requests.Response:
    """Post to Firedoor's webhook as Alertmanager does."""
    token = company.alertmanager_token if token is None else token
    return requests.post(
        f"{url}/webhooks/alertmanager",
        json=body,
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    )


class MainJob:
    """One run of the main job in a running company."""

    def __init__(self, company: Company, *, say: Say = lambda _text: None) -> None:
        self._company, self._say = company, say

    def run(self) -> Result:
        """
        Do it all and return what came of it.

        Raises:
            TimedOut: Something that had to happen did not.
        """
        began = time.monotonic()
        url = start_firedoor(self._company)
        self._say("Firedoor serves; customers shop, and one of them walks the order numbers.")
        # Plays Prometheus, which has a clock of its own.
        starts_at = datetime.now(UTC)  # noqa: TID251
        with Traffic(self._company.gateway_url, self._company.accounts()) as traffic:
            time.sleep(WARM_UP_S)
            watched, first_blocked_ms, opened = self._alert_and_watch(url, starts_at)
            self._say(
                f"{opened['incident_id']} is open; the endpoint answered "
                f"{watched.blocked_status} {first_blocked_ms:.0f} ms after the alert."
            )
            self._play_people(opened["run_id"])
            self._wait_for_end(opened["run_id"])
        return self._examine(opened, watched, first_blocked_ms, traffic, time.monotonic() - began)

    def _alert_and_watch(
        self, url: str, starts_at: datetime
    ) -> tuple[Watched, float, dict[str, Any]]:
        owner = self._company.login(PROBE_OWNER)
        neighbours = (Neighbour("/api/customers/me", owner), Neighbour("/health"))
        watcher = Watcher(
            self._company.gateway_url, self._example_path(), owner, neighbours=neighbours
        )
        with watcher:
            began_ns = time.monotonic_ns()
            response = post_alert(self._company, url, alert_body(starts_at))
            if response.status_code != 200:
                raise Failed(f"The webhook answered {response.status_code}: {response.text}")
            watched = watcher.wait_blocked()
        if watched.first_blocked_ns is None:
            raise TimedOut("The endpoint was never blocked after the alert.")
        watched = watcher.stop()
        assert watched.first_blocked_ns is not None  # noqa: S101  # seen above
        opened = response.json()["taken"][0]
        return watched, (watched.first_blocked_ns - began_ns) / 1e6, opened

    def _example_path(self) -> str:
        file = self._company.directory / "openapi.yaml"
        path = load_openapi(file.read_text(encoding="utf-8"), str(file))[ENDPOINT].example_path
        if path is None:
            raise Failed(f"The inventory has no example for {ENDPOINT}.")
        return path

    # --- people --------------------------------------------------------------------------------

    def _play_people(self, run_id: str) -> None:
        people = Responders(self._company.places.url("slack"))
        people.approve("U0IRIS", "close")
        self._say("Iris approved closing the endpoint.")
        for user, name in (("U0SAM", "Sam"), ("U0TARIQ", "Tariq")):
            people.approve(user, "rotate")
            self._say(f"{name} approved rotating the key.")
        people.wait_for_card("U0SAM", "fixed needs an answer")
        self._company.deploy_fix(FIXED_VERSION)
        self._say(f"The orders team deployed {FIXED_VERSION}, which checks who owns an order.")
        people.answer("U0SAM", "fixed", {"version": FIXED_VERSION})
        self._say(f"Sam answered in Slack; {run_id} goes on.")

    # --- the end -------------------------------------------------------------------------------

    def _wait_for_end(self, run_id: str) -> None:
        with self._store() as store:

            def over() -> bool:
                with store.read() as tx:
                    status = tx.run(run_id).run.status
                    step_states = RunState.model_validate(tx.run(run_id).state).steps
                stuck = [s for s in step_states.values() if s.status == "awaiting_decision"]
                if stuck and stuck[0].failure:
                    raise Failed(f"The run waits for a decision: {stuck[0].failure.message}")
                return status.is_final

            until(over, "the end of the run")

            def told() -> bool:
                with store.read() as tx:
                    waiting = [
                        p
                        for p in tx.parcels(tx.run(run_id).run.incident_id)
                        if p.status in ("pending", "claimed")
                    ]
                return not waiting

            until(told, "everything in the outbox to be sent")

    @contextmanager
    def _store(self) -> Iterator[SqlStore]:
        store = SqlStore(f"sqlite:///{self._company.directory / 'state' / 'firedoor.sqlite'}")
        try:
            yield store
        finally:
            store.close()

    def _examine(
        self,
        opened: dict[str, Any],
        watched: Watched,
        first_blocked_ms: float,
        traffic: Traffic,
        took_s: float,
    ) -> Result:
        with self._store() as store, store.read() as tx:
            incident = tx.incident(opened["incident_id"])
            stored = tx.run(opened["run_id"])
            state = RunState.model_validate(stored.state)
            records = list(tx.records())
        result = Result(
            incident=incident.id,
            run=stored.run.id,
            status=stored.run.status.value,
            steps=_steps(state),
            first_blocked_ms=round(first_blocked_ms, 1),
            neighbours_ok=watched.neighbours_ok,
            took_s=took_s,
        )
        facts = {step_id: step.facts for step_id, step in state.steps.items()}
        affected, rotate = facts.get("affected", {}), facts.get("rotate", {})
        result.affected = {k: affected.get(k) for k in ("records", "people", "principals")}
        result.rotated = {k: rotate.get(k) for k in ("credential", "old", "new")}
        result.notices = [r.body for r in records if r.kind == "notice_sent"]
        result.postmortem = self._write_postmortem(incident)
        result.findings = self._findings(result, stored.run, state, records, traffic)
        return result

    def _write_postmortem(self, incident: Incident) -> dict[str, str]:
        files = FolderFiles(self._company.directory / "state" / "evidence")
        written: dict[str, str] = {}
        with self._store() as store, store.read() as tx:
            for evidence in tx.evidence(incident.id):
                if evidence.id.startswith("postmortem."):
                    target = self._company.directory / f"{incident.id}-{evidence.id}"
                    target.write_bytes(files.get(evidence.sha256))
                    written[evidence.id.rpartition(".")[2]] = str(target)
        return written

    def _findings(
        self,
        result: Result,
        run: Run,
        state: RunState,
        records: list[Record],
        traffic: Traffic,
    ) -> list[Finding]:
        truth = traffic.reads()
        expected = {
            "records": len(truth.foreign_records),
            "people": len(truth.foreign_owners),
            "principals": 1,
        }
        steps = {step_id: step.status.value for step_id, step in state.steps.items()}
        undone = [f"{step_id} {status}" for step_id, status in steps.items() if status != "done"]
        mails = sorted({str(mail.to) for mail in self._company.mails()})
        health = self._company.orders_health()
        answers = {who: self._ask(who) for who in (PROBE_OWNER, PROBE_STRANGER)}
        sent = {notice["audience"] for notice in result.notices}
        return [
            Finding("the run is done, every step", run.status is RunStatus.DONE and not undone,
                    f"{run.status.value} {', '.join(undone)}".strip()),
            Finding("the endpoint was blocked from outside", result.first_blocked_ms is not None,
                    f"{result.first_blocked_ms} ms after the alert"),
            Finding("its neighbours answered all the time", result.neighbours_ok,
                    "yes" if result.neighbours_ok else "no"),
            Finding("the counts are those of the real attack", result.affected == expected,
                    f"{result.affected}, in truth {expected}"),
            Finding("the service works with the new key",
                    health["access_key_id"] == result.rotated["new"] and health["ok"] is True,
                    str(health["access_key_id"])),
            Finding("security, legal and compliance were told",
                    {"security", "legal", "compliance"} <= sent, ", ".join(sorted(sent))),
            Finding("mails arrived", len(mails) >= 3, ", ".join(mails)),
            Finding("a stranger gets 403 and the owner 200, through the gateway",
                    answers == {PROBE_OWNER: 200, PROBE_STRANGER: 403}, str(answers)),
            Finding("the postmortem is there in three forms",
                    {"md", "html", "pdf"} <= set(result.postmortem),
                    ", ".join(sorted(result.postmortem))),
            Finding("the journal's chain holds", verify_chain(records) == len(records),
                    f"{len(records)} records"),
        ]  # fmt: skip

    def _ask(self, username: str) -> int:
        token = self._company.login(username)
        response = requests.get(
            f"{self._company.gateway_url}{self._example_path()}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        )
        return response.status_code


def _steps(state: RunState) -> list[dict[str, Any]]:
    return [
        {
            "step": step_id,
            "status": step.status.value,
            "started_at": step.started_at.isoformat() if step.started_at else None,
            "took_s": round((step.ended_at - step.started_at).total_seconds(), 3)
            if step.started_at and step.ended_at
            else None,
        }
        for step_id, step in state.steps.items()
    ]


def fresh_folder(parent: Path) -> Path:
    """Make and return a new numbered folder, so that one demo never meets another's files."""
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = parent / f"run-{number}"
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            number += 1
        else:
            return folder
