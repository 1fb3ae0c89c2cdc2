"""A whole incident as the journal keeps it: built from the real models, with a real hash chain.

An alert opens INC-7. A throttle runs by policy; a close is planned, drifts, is approved, applied
and proven; the reads are counted; a credential is rotated by two approvals after one failure;
stakeholders are told (one cannot be); the fix is proven; the containments are lifted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bot.model import commands as c
from bot.model import events as e
from bot.model.alert import Alert
from bot.model.containment import Containment, Control, ControlKind
from bot.model.endpoint import Endpoint
from bot.model.events import Event
from bot.model.incident import Incident, IncidentStatus, Origin, Run, RunStatus, Severity
from bot.model.journal import GENESIS, Record, hash_of, moment_text
from bot.model.outcome import Check, Evidence, Notice, Outcome, Proof
from bot.model.plan import Plan

T0 = datetime(2026, 3, 14, 12, 0, 0, tzinfo=UTC)
KEY = "GET /api/orders/{order_id}"
TITLE = f"Broken object level authorization on {KEY}"
RUN = "INC-7-R1"
IRIS, SAM, TARIQ = "slack:U0IRIS", "slack:U0SAM", "slack:U0TARIQ"

RUNBOOK = """\
id: api1-bola
name: Broken object level authorization
summary: A caller reads objects that belong to other customers.
owasp: API1:2023
severity: sev1
owners: [security-oncall]
steps: []
"""

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)> **bold** [click](http://evil.example) "
    '![i](http://evil.example/i.png) `code` | pipe | # heading #7 <!channel> @here "quote" '
    '#set page(fill: red) #read("/etc/passwd") $x^2$ {{ 7*7 }} {% raw %} www.evil.example '
    "\u202edesrever\u202c \u0000\u0007 \ud800 \u4e2d\u6587 \U0001f600 &lt; \\ ~~gone~~ _em_\n"
    "# injected heading\n- injected item\n\n```\nfence\n"
)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


@dataclass
class Journal:
    """Appends records as the store does, but after any ``gap`` of other incidents' records."""

    records: list[Record] = field(default_factory=list)
    previous: str = GENESIS
    seq: int = 0

    def add(
        self,
        seconds: float,
        kind: str,
        body: dict[str, Any],
        *,
        actor: str = "firedoor",
        run: str | None = None,
        step: str | None = None,
        incident: str | None = "INC-7",
    ) -> Record:
        self.seq += 1
        fields: dict[str, Any] = {
            "seq": self.seq,
            "incident_id": incident,
            "run_id": run,
            "step_id": step,
            "actor": actor,
            "kind": kind,
            "body": body,
            "previous_hash": self.previous,
        }
        record_hash = hash_of(at=moment_text(at(seconds)), **_without_surrogates(fields))
        record = Record(at=at(seconds), hash=record_hash, **fields)
        self.previous = record_hash
        self.records.append(record)
        return record

    def event(self, event: Event, *then: c.Command) -> Record:
        actor = getattr(event, "by", "firedoor")
        return self.add(
            (event.at - T0).total_seconds(),
            event.kind,
            {
                "event": event.model_dump(mode="json"),
                "commands": [command.model_dump(mode="json") for command in then],
            },
            actor=event.origin.actor if isinstance(event, e.RunStarted) else actor,
            run=RUN,
            step=getattr(event, "step", None),
        )


def _without_surrogates(fields: dict[str, Any]) -> dict[str, Any]:
    """A lone surrogate cannot be hashed as UTF-8, so it never reaches the journal; tests that
    put one into a body only need some hash."""
    import json

    text = json.dumps(fields, ensure_ascii=True).replace("\\ud800", "?")
    return dict(json.loads(text))


@dataclass
class Story:
    """Everything ``build`` wants."""

    incident: Incident
    runs: list[Run]
    records: list[Record]
    evidence: list[Evidence]
    containments: list[Containment]
    endpoints: dict[str, Endpoint]
    drafted_at: datetime = T0 + timedelta(seconds=3900)  # pure

    def build(self, records: list[Record] | None = None, **changes: Any) -> Any:
        from bot.postmortem.build import build

        given: dict[str, Any] = {
            "incident": self.incident,
            "runs": self.runs,
            "records": self.records if records is None else records,
            "evidence": self.evidence,
            "containments": self.containments,
            "endpoints": self.endpoints,
            "drafted_at": self.drafted_at,
            **changes,
        }
        return build(**given)


def endpoint(key: str, owner: str, *data: str) -> Endpoint:
    method, path = key.split(" ", 1)
    return Endpoint(method=method, path=path, owner=owner, data_classification=data)


def proof(total: int, bad: int = 0) -> Proof:
    return Proof(
        checks=tuple(
            Check(
                name=f"variant {n}",
                ok=n >= bad,
                expected="503",
                seen="503" if n >= bad else "200",
            )
            for n in range(total)
        )
    )


def plan(action: str, summary: str, before: Any, after: Any) -> Plan:
    params = {"endpoint": KEY}
    return Plan(action=action, params=params, summary=summary, before=before, after=after)


THROTTLE = plan("gateway.throttle", f"{KEY} at edge would be held to 1 request a second.", [], [1])
CLOSE_OLD = plan("gateway.close", f"{KEY} at edge would answer 503.", [], [2])
CLOSE = plan("gateway.close", f"{KEY} at edge would answer 503.", [1], [1, 2])
ROTATE = Plan(
    action="credentials.rotate",
    params={"credential": "orders-service", "mode": "compromise"},
    summary="The IAM key AKIAOLD of orders-service would be replaced.",
    before={"active": "AKIAOLD"},
    after={"active": "new"},
)
LIFT = plan("gateway.lift", f"{KEY} at edge would be served as before.", [1, 2], [])

LIST = Evidence(
    id="cross-owner-reads.csv",
    sha256="ab" * 32,
    size_bytes=48_213,
    media_type="text/csv",
    summary="214 records of 97 people read by 1 other caller",
    kept_at=at(185),
)


def control(kind: ControlKind) -> Control:
    rate = 1.0 if kind is ControlKind.THROTTLE else None
    return Control(kind=kind, method="GET", path="/api/orders/{order_id}", rate_per_s=rate)


def held(
    step: str, kind: ControlKind, seconds: float, owner: str, ttl_s: float, reason: str
) -> Containment:
    return Containment(
        id=f"{RUN}-{step}",
        incident_id="INC-7",
        run_id=RUN,
        step_id=step,
        gateway="edge",
        control=control(kind),
        owner=owner,
        reason=reason,
        since=at(seconds),
        expires_at=at(seconds + ttl_s),
    )


def lifted(containment: Containment, seconds: float, by: str) -> Containment:
    return containment.model_copy(update={"lifted_at": at(seconds), "lifted_by": by})


def notice(audience: str, way: Any, to: str) -> Notice:
    return Notice(
        key=f"{audience}-{way}",
        way=way,
        to=to,
        audience=audience,
        subject="INC-7: personal data of 97 people",
        text="…",
    )


NOTICES = (
    notice("security", "slack", "#security"),
    notice("legal", "email", "legal@acme.example"),
    notice("compliance", "email", "compliance@acme.example"),
)


def story(title: str = TITLE, labels: dict[str, str] | None = None) -> Story:
    """Return the whole incident; ``title`` and ``labels`` may hold anything."""
    journal = Journal()
    alert = Alert(
        source="alertmanager",
        fingerprint="c0ffee1234567890",
        labels={"alertname": "CrossOwnerReads", "endpoint": KEY, **(labels or {})},
        annotations={"summary": "One caller reads orders of many customers"},
        starts_at=at(-35),
    )
    journal.add(-4000, "alert_ignored", {"source": "x"}, incident=None)
    journal.records.clear()  # another incident's: the chain goes on, our records begin later
    pinned = {KEY: endpoint(KEY, "team-orders", "personal", "payment")}
    throttle = held("throttle", ControlKind.THROTTLE, 2, "alert:alertmanager", 1800, title)
    close = held("close", ControlKind.CLOSE, 130, IRIS, 14_400, title)
    _opening(journal, title, alert, pinned, throttle)
    _closing(journal, close)
    _scoping(journal)
    _rotating(journal)
    _telling(journal)
    throttle_end, close_end = _fixing(journal, throttle, close)
    return Story(
        incident=Incident(
            id="INC-7",
            key="api1-bola:x",
            title=title,
            severity=Severity.SEV1,
            status=IncidentStatus.RECOVERED,
            opened_at=T0,
            channel="C0INC7",
        ),
        runs=[
            Run(
                id=RUN,
                incident_id="INC-7",
                runbook_id="api1-bola",
                runbook_digest="d1" * 32,
                runbook_text=RUNBOOK,
                origin=Origin(kind="alert", actor="alert:alertmanager"),
                status=RunStatus.RUNNING,
                started_at=T0,
            )
        ],
        records=journal.records,
        evidence=[LIST],
        containments=[throttle_end, close_end],
        endpoints={
            **pinned,
            "GET /api/customers/{customer_id}": endpoint(
                "GET /api/customers/{customer_id}", "team-customers", "personal"
            ),
            "DELETE /api/orders/{order_id}": endpoint(
                "DELETE /api/orders/{order_id}", "team-orders"
            ),
            "GET /api/health": endpoint("GET /api/health", "team-platform"),
        },
    )


def _opening(
    journal: Journal,
    title: str,
    alert: Alert,
    pinned: dict[str, Endpoint],
    throttle: Containment,
) -> None:
    body = {"title": title, "severity": "sev1", "alert": alert.model_dump(mode="json")}
    journal.add(0, "incident_opened", body, actor="alert:alertmanager")
    journal.event(
        e.RunStarted(
            at=at(0.1),
            incident_id="INC-7",
            run_id=RUN,
            inputs={"endpoint": KEY, "since": "2026-03-13T12:00:00+00:00"},
            origin=Origin(kind="alert", actor="alert:alertmanager"),
            alert=alert,
            endpoints=pinned,
            auto=("throttle",),
        ),
        c.PlanStep(step="throttle", action="gateway.throttle", params={"endpoint": KEY}),
    )
    apply = c.ApplyStep(
        step="throttle", plan=THROTTLE, attempt=1, actor="alert:alertmanager", ttl_s=1800
    )
    journal.event(e.Planned(at=at(1), step="throttle", plan=THROTTLE), apply)
    journal.add(1.5, "channel_opened", {"channel": "C0INC7", "name": "inc-7-api1-bola"})
    body = {"containment": throttle.model_dump(mode="json")}
    journal.add(2, "containment_held", body, actor=throttle.owner, run=RUN, step="throttle")
    for second in (2.4, 2.5):
        fact = {"gateway": "edge", "version": "5f" * 8, "controls": 1}
        journal.add(second, "gateway_converged", fact)
    verify = c.VerifyStep(step="throttle", plan=THROTTLE, attempt=1)
    facts = {"containment": throttle.id, "gateway": "edge"}
    journal.event(e.Applied(at=at(2.6), step="throttle", outcome=Outcome(facts=facts)), verify)
    journal.event(
        e.Verified(at=at(4.2), step="throttle", outcome=Outcome(proof=proof(9))),
        c.PlanStep(step="close", action="gateway.close", params={"endpoint": KEY}),
    )


def _ask(step: str, what: Plan, group: str, required: int, until: float) -> c.AskApproval:
    return c.AskApproval(
        step=step, plan=what, groups=(group,), required=required, expires_at=at(until)
    )


def _closing(journal: Journal, close: Containment) -> None:
    groups = ("incident-commander",)
    journal.event(
        e.Planned(at=at(5), step="close", plan=CLOSE_OLD),
        _ask("close", CLOSE_OLD, "incident-commander", 1, 905),
    )
    journal.event(e.Asked(at=at(5.1), step="close"), c.Wait(until=at(905)))
    joined = {"fingerprint": "c0ffee1234567890", "source": "alertmanager", "starts_at": "x"}
    journal.add(60, "alert_joined", joined, actor="alert:alertmanager")
    journal.event(
        e.Approved(at=at(70), step="close", digest=CLOSE_OLD.digest, by=IRIS, groups=groups),
        c.ApplyStep(step="close", plan=CLOSE_OLD, attempt=1, actor=IRIS, ttl_s=14_400),
    )
    journal.event(
        e.PlanDrifted(at=at(71), step="close", plan=CLOSE),
        _ask("close", CLOSE, "incident-commander", 1, 971),
    )
    journal.event(e.Asked(at=at(71.1), step="close"), c.Wait(until=at(971)))
    journal.event(
        e.Approved(at=at(100), step="close", digest=CLOSE.digest, by=SAM, groups=("security",)),
        c.Wait(until=at(971)),
    )
    journal.event(
        e.Approved(at=at(128), step="close", digest=CLOSE.digest, by=IRIS, groups=groups),
        c.ApplyStep(step="close", plan=CLOSE, attempt=1, actor=IRIS, ttl_s=14_400),
    )
    body = {"containment": close.model_dump(mode="json")}
    journal.add(130, "containment_held", body, actor=IRIS, run=RUN, step="close")
    journal.event(
        e.Applied(at=at(131), step="close", outcome=Outcome(facts={"containment": close.id})),
        c.VerifyStep(step="close", plan=CLOSE, attempt=1),
    )
    run_step = c.RunStep(
        step="affected",
        action="logs.cross_owner_reads",
        params={"endpoint": KEY, "since": "2026-03-13T12:00:00Z"},
        attempt=1,
    )
    journal.event(
        e.Verified(at=at(134.5), step="close", outcome=Outcome(proof=proof(17))), run_step
    )
    change = {"from": "declared", "to": "contained"}
    journal.add(134.5, "status_changed", change, run=RUN, step="close")


def _scoping(journal: Journal) -> None:
    body = {"evidence": LIST.model_dump(mode="json")}
    journal.add(185, "evidence_kept", body, run=RUN, step="affected")
    facts = {
        "records": 214,
        "people": 97,
        "principals": 1,
        "reads": 1_312,
        "principal_ids": ["cust-666"],
        "service_accounts": ["orders-service"],
        "unknown_owner_reads": 3,
        "unreadable_lines": 0,
        "first_seen": "2026-03-14T10:47:12Z",
        "last_seen": "2026-03-14T12:02:09Z",
        "since": "2026-03-13T12:00:00Z",
        "until": "2026-03-14T12:03:05Z",
        "covers_window": True,
        "evidence": LIST.id,
        "sha256": LIST.sha256,
    }
    journal.event(
        e.Applied(at=at(186), step="affected", outcome=Outcome(facts=facts, evidence=(LIST,))),
        c.PlanStep(step="rotate", action="credentials.rotate", params=ROTATE.params),
    )


def _rotating(journal: Journal) -> None:
    journal.event(
        e.Planned(at=at(190), step="rotate", plan=ROTATE),
        _ask("rotate", ROTATE, "security", 2, 1090),
    )
    journal.event(e.Asked(at=at(190.1), step="rotate"), c.Wait(until=at(1090)))
    yes = {"step": "rotate", "digest": ROTATE.digest, "groups": ("security",)}
    journal.event(e.Approved(at=at(260), by=SAM, **yes), c.Wait(until=at(1090)))
    apply = c.ApplyStep(step="rotate", plan=ROTATE, attempt=1, actor=TARIQ)
    journal.event(e.Approved(at=at(300), by=TARIQ, **yes), apply)
    failed = e.StepFailed(
        at=at(305),
        step="rotate",
        phase="apply",
        error="unreachable",
        message="Vault main answers 503 (sealed); no key was made. Unseal it, then retry.",
    )
    journal.event(failed, c.Wait(until=at(310)))
    journal.event(e.TimerFired(at=at(310)), apply)
    journal.add(311, "note", {"created": "AKIANEW"}, run=RUN, step="rotate")
    facts = {"credential": "orders-service", "old": "AKIAOLD", "new": "AKIANEW", "version": 4}
    journal.event(
        e.Applied(at=at(314), step="rotate", outcome=Outcome(facts=facts)),
        c.VerifyStep(step="rotate", plan=ROTATE, attempt=1),
    )
    tell = c.RunStep(step="tell", action="notify.stakeholders", params={"people": 97}, attempt=1)
    journal.event(e.Verified(at=at(322), step="rotate", outcome=Outcome(proof=proof(4))), tell)


def _telling(journal: Journal) -> None:
    journal.event(
        e.Applied(at=at(323), step="tell", outcome=Outcome(notices=NOTICES)),
        c.AskPerson(step="fixed", ask="Is the ownership check deployed?", expires_at=at(9000)),
    )
    for seconds, sent in zip((324, 326), NOTICES, strict=False):
        body = {
            "key": f"{RUN}:tell:notice:{sent.key}",
            "way": sent.way,
            "to": sent.to,
            "audience": sent.audience,
            "subject": sent.subject,
        }
        journal.add(seconds, "notice_sent", body, run=RUN, step="tell")
    lost = {
        "key": f"{RUN}:tell:notice:{NOTICES[2].key}",
        "to": NOTICES[2].to,
        "audience": "compliance",
        "message": "The mail server refuses the address.",
    }
    journal.add(340, "notice_failed", lost, run=RUN, step="tell")


def _fixing(
    journal: Journal, throttle: Containment, close: Containment
) -> tuple[Containment, Containment]:
    expired = lifted(throttle, 1802, "expiry")
    _ended(journal, expired, "containment_expired", "firedoor")
    probe = c.RunStep(
        step="prove", action="probe.authorization", params={"endpoint": KEY}, attempt=1
    )
    journal.event(
        e.Answered(at=at(3600), step="fixed", by=SAM, values={"version": "2.14.1"}), probe
    )
    outcome = Outcome(facts={"stranger": 403, "owner": 200}, proof=proof(3))
    plan_lift = c.PlanStep(step="reopen", action="gateway.lift", params={"containments": []})
    journal.event(e.Applied(at=at(3610), step="prove", outcome=outcome), plan_lift)
    change = {"from": "contained", "to": "eradicated"}
    journal.add(3610, "status_changed", change, run=RUN, step="prove")
    journal.event(
        e.Planned(at=at(3611), step="reopen", plan=LIFT),
        c.ApplyStep(step="reopen", plan=LIFT, attempt=1, actor="alert:alertmanager"),
    )
    ended = lifted(close, 3612, "alert:alertmanager")
    _ended(journal, ended, "containment_lifted", "alert:alertmanager")
    journal.event(
        e.Applied(at=at(3613), step="reopen", outcome=Outcome(facts={"lifted": 2})),
        c.VerifyStep(step="reopen", plan=LIFT, attempt=1),
    )
    journal.event(
        e.Verified(at=at(3616), step="reopen", outcome=Outcome(proof=proof(12))),
        c.RunStep(step="report", action="postmortem.draft", params={}, attempt=1),
    )
    change = {"from": "eradicated", "to": "recovered"}
    journal.add(3616, "status_changed", change, run=RUN, step="reopen")
    return expired, ended


def _ended(journal: Journal, containment: Containment, kind: str, actor: str) -> None:
    assert containment.lifted_at is not None
    body = {"containment": containment.model_dump(mode="json")}
    seconds = (containment.lifted_at - T0).total_seconds()
    journal.add(seconds, kind, body, actor=actor, run=RUN, step=containment.step_id)
