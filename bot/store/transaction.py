"""One transaction: the mapping between models and rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from bot.errors import NotFound
from bot.model.ask import Ask, Parcel, StoredParcel
from bot.model.base import canonical_json
from bot.model.containment import Containment
from bot.model.events import EVENT, Event
from bot.model.incident import Incident, IncidentStatus, Origin, Run, RunStatus, Severity
from bot.model.journal import GENESIS, Record, hash_of, moment_text
from bot.model.outcome import Evidence
from bot.ports import StoredRun
from bot.store import tables as t
from bot.store.executing import LAST, Pending, moment_of
from bot.store.leases import AT_ONCE, NEXT_MESSAGE, Leases
from bot.store.rows import (
    incident_of,
    no_run,
    number_of,
    parcel_of,
    record_of,
    run_of,
    stored_of,
)

# Building a statement costs more than SQLite needs to run it. Those on the way from an alert to the
# containment are built once.
_ADD_RECORD = t.journal.insert()
_ADD_CONTAINMENT = t.containments.insert()
_CONTAINMENT = sa.select(t.containments).where(t.containments.c.id == sa.bindparam("id"))
_LAST_INCIDENT = sa.select(sa.func.max(t.incidents.c.number))
_ADD_INCIDENT = t.incidents.insert()
_INCIDENT = sa.select(t.incidents).where(t.incidents.c.number == sa.bindparam("number"))
_COUNT_RUNS = (
    sa.select(sa.func.count())
    .select_from(t.runs)
    .where(t.runs.c.incident_id == sa.bindparam("incident_id"))
)
_ADD_RUN = t.runs.insert()
_RUN = sa.select(t.runs).where(t.runs.c.id == sa.bindparam("run_id"))
_SAVE_RUN = (
    t.runs.update()
    .where(t.runs.c.id == sa.bindparam("run_id"))
    .values({name: sa.bindparam(name) for name in ("status", "ended_at", "state", "events")})
    .values(commands=sa.bindparam("commands"))
)
_OPEN_ASKS = (
    sa.select(t.asks)
    .where(t.asks.c.run_id == sa.bindparam("run_id"), t.asks.c.closed == "")
    .order_by(t.asks.c.position)
)
_PARCEL = sa.select(t.outbox).where(t.outbox.c.key == sa.bindparam("key"))
_NEW_PARCEL: dict[str, sa.Insert] = {
    "sqlite": sqlite.insert(t.outbox).on_conflict_do_nothing(index_elements=["key"]),
    "postgresql": postgresql.insert(t.outbox).on_conflict_do_nothing(index_elements=["key"]),
}
_AGAIN = {"status": "pending", "attempts": 0, "refusals": 0, "error": ""}


def _replacing(insert: sqlite.Insert | postgresql.Insert) -> sa.Insert:
    """Return an insert that takes the place of a parcel with the same key, and is sent again."""
    new = {name: insert.excluded[name] for name in ("parcel", "next_at")}
    return insert.on_conflict_do_update(index_elements=["key"], set_={**new, **_AGAIN})


_REPLACE_PARCEL: dict[str, sa.Insert] = {
    "sqlite": _replacing(sqlite.insert(t.outbox)),
    "postgresql": _replacing(postgresql.insert(t.outbox)),
}
_SEND_AGAIN = (
    t.outbox.update()
    .where(t.outbox.c.key == sa.bindparam("parcel_key"))
    .values(next_at=sa.bindparam("at"), **_AGAIN)
)
_SAVE_PARCEL = (
    t.outbox.update()
    .where(t.outbox.c.id == sa.bindparam("parcel_id"))
    .values(
        {
            name: sa.bindparam(name)
            for name in ("parcel", "status", "attempts", "refusals", "next_at", "ref", "error")
        }
    )
)


_TAKE_MESSAGE = (
    t.mailbox.update().where(t.mailbox.c.number == sa.bindparam("message")).values(taken=True)
)
# Whoever drives the run takes its messages until there is none; then it is due no more.
_NOTHING_CAME = (
    t.runs.update()
    .where(
        t.runs.c.id
        == sa.select(t.mailbox.c.run_id)
        .where(t.mailbox.c.number == sa.bindparam("message"))
        .scalar_subquery(),
        t.runs.c.worker.is_not(None),
    )
    .values(due_at=None)
)


@cache
def _containments(*by: str, in_force: bool) -> sa.Select[Any]:
    """Return the statement that looks for containments by these columns."""
    query = sa.select(t.containments.c.content).order_by(t.containments.c.position)
    for name in by:
        query = query.where(t.containments.c[name] == sa.bindparam(name))
    return query.where(t.containments.c.lifted_at.is_(None)) if in_force else query


class SqlTransaction(Leases):
    """Implements ``bot.ports.Transaction``."""

    def __init__(self, connection: sa.Connection, pending: Pending | None = None) -> None:
        super().__init__(connection, pending)
        self._run_counts: dict[str, int] = {}
        """How many runs the incidents have that this transaction has opened."""

    # --- journal -------------------------------------------------------------------------------

    def append(
        self,
        *,
        at: datetime,
        kind: str,
        body: dict[str, Any],
        actor: str = "firedoor",
        incident_id: str | None = None,
        run_id: str | None = None,
        step_id: str | None = None,
    ) -> Record:
        if self._pending.head is None:
            last = self._one(LAST)
            self._pending.head = (0, GENESIS) if last is None else (last.seq, last.hash)
        seq, previous = self._pending.head[0] + 1, self._pending.head[1]
        record_hash = hash_of(
            seq=seq,
            at=moment_text(at),
            incident_id=incident_id,
            run_id=run_id,
            step_id=step_id,
            actor=actor,
            kind=kind,
            body=body,
            previous_hash=previous,
        )
        values = {
            "seq": seq,
            "at": moment_text(at),
            "incident_id": incident_id,
            "run_id": run_id,
            "step_id": step_id,
            "actor": actor,
            "kind": kind,
            "previous_hash": previous,
            "hash": record_hash,
        }
        self._pending.add(_ADD_RECORD, {**values, "body": canonical_json(body)})
        self._pending.head = (seq, record_hash)
        return Record(**{**values, "at": at}, body=body)

    def records(
        self,
        incident_id: str | None = None,
        run_id: str | None = None,
        step_id: str | None = None,
        kind: str | None = None,
    ) -> Sequence[Record]:
        query = sa.select(t.journal).order_by(t.journal.c.seq)
        wanted = {"incident_id": incident_id, "run_id": run_id, "step_id": step_id, "kind": kind}
        for column, value in wanted.items():
            if value is not None:
                query = query.where(t.journal.c[column] == value)
        return [record_of(row) for row in self._all(query)]

    # --- incidents and alerts ------------------------------------------------------------------

    def add_incident(self, *, key: str, title: str, severity: Severity, at: datetime) -> Incident:
        status = IncidentStatus.DECLARED
        # There is one writer, so this is free; a sequence would leave a gap at each rollback.
        number = (self._execute(_LAST_INCIDENT).scalar() or 0) + 1
        values = {
            "number": number,
            "key": key,
            "title": title,
            "severity": severity.value,
            "status": status.value,
            "opened_at": moment_of(at),
        }
        self._pending.add(_ADD_INCIDENT, values)
        incident = Incident(
            id=f"INC-{number}", key=key, title=title, severity=severity, opened_at=at, status=status
        )
        self._run_counts[incident.id] = 0
        return incident

    def incident(self, incident_id: str) -> Incident:
        row = self._one(_INCIDENT, number=number_of(incident_id))
        if row is None:
            raise NotFound(f"There is no incident {incident_id}. `firedoor incidents` lists them.")
        return incident_of(row)

    def open_incident(self, key: str) -> Incident | None:
        row = self._one(
            sa.select(t.incidents)
            .where(t.incidents.c.key == key, t.incidents.c.status != IncidentStatus.CLOSED.value)
            .order_by(t.incidents.c.number.desc())
        )
        return None if row is None else incident_of(row)

    def incidents(self) -> Sequence[Incident]:
        rows = self._all(sa.select(t.incidents).order_by(t.incidents.c.number.desc()))
        return [incident_of(row) for row in rows]

    def save_incident(self, incident: Incident) -> None:
        self._execute(
            t.incidents.update()
            .where(t.incidents.c.number == number_of(incident.id))
            .values(
                title=incident.title,
                severity=incident.severity.value,
                status=incident.status.value,
                channel=incident.channel,
            )
        )

    def seen_alert(self, *, source: str, fingerprint: str, starts_at: datetime) -> str | None:
        row = self._one(
            sa.select(t.alerts.c.incident_id).where(
                t.alerts.c.source == source,
                t.alerts.c.fingerprint == fingerprint,
                t.alerts.c.starts_at == moment_of(starts_at),
            )
        )
        return None if row is None else str(row.incident_id)

    def remember_alert(
        self, *, source: str, fingerprint: str, starts_at: datetime, incident_id: str
    ) -> None:
        self._execute(
            t.alerts.insert().values(
                source=source,
                fingerprint=fingerprint,
                starts_at=moment_of(starts_at),
                incident_id=incident_id,
            )
        )

    # --- runs ----------------------------------------------------------------------------------

    def add_run(
        self,
        *,
        incident_id: str,
        runbook_id: str,
        runbook_digest: str,
        runbook_text: str,
        origin: Origin,
        at: datetime,
        called_texts: Mapping[str, str] | None = None,
    ) -> Run:
        number = self._count_runs(incident_id) + 1
        run = Run(
            id=f"{incident_id}-R{number}",
            incident_id=incident_id,
            runbook_id=runbook_id,
            runbook_digest=runbook_digest,
            runbook_text=runbook_text,
            called_texts=dict(called_texts or {}),
            origin=origin,
            started_at=at,
        )
        values = {
            "id": run.id,
            "incident_id": incident_id,
            "number": number,
            "runbook_id": runbook_id,
            "runbook_digest": runbook_digest,
            "runbook_text": runbook_text,
            "called_texts": canonical_json(run.called_texts),
            "origin": canonical_json(origin.model_dump(mode="json")),
            "status": run.status.value,
            "started_at": moment_of(at),
            "due_at": AT_ONCE,
        }
        self._pending.add(_ADD_RUN, values)
        self._tell(run.id)
        return run

    def _count_runs(self, incident_id: str) -> int:
        """Count the runs of an incident; of a new one without a question to the database."""
        count = self._run_counts.get(incident_id)
        if count is None:
            return int(self._execute(_COUNT_RUNS, {"incident_id": incident_id}).scalar_one())
        self._run_counts[incident_id] = count + 1
        return count

    def run(self, run_id: str) -> StoredRun:
        row = self._one(_RUN, run_id=run_id)
        if row is None:
            raise no_run(run_id)
        return stored_of(row)

    def runs(self, incident_id: str | None = None, unfinished: bool = False) -> Sequence[Run]:
        query = sa.select(t.runs).order_by(t.runs.c.started_at, t.runs.c.id)
        if incident_id is not None:
            query = query.where(t.runs.c.incident_id == incident_id)
        if unfinished:
            query = query.where(t.runs.c.status == RunStatus.RUNNING.value)
        return [run_of(row) for row in self._all(query)]

    def save_run(
        self,
        run: Run,
        *,
        state: dict[str, Any],
        events: int,
        commands: Sequence[dict[str, Any]],
    ) -> None:
        values = {
            "run_id": run.id,
            "status": run.status.value,
            "ended_at": moment_of(run.ended_at),
            "state": json.dumps(state),  # steps keep the order of the runbook
            "events": events,
            "commands": canonical_json(list(commands)),
        }
        self._pending.add(_SAVE_RUN, values)

    def put_message(self, run_id: str, event: Event, key: str) -> bool:
        if self._one(sa.select(t.mailbox.c.number).where(t.mailbox.c.key == f"{run_id}:{key}")):
            return False
        values = {"run_id": run_id, "key": f"{run_id}:{key}", "event": event.model_dump_json()}
        self._execute(t.mailbox.insert().values(**values))
        self.make_due(run_id)
        return True

    def next_message(self, run_id: str) -> tuple[int, Event] | None:
        row = self._one(NEXT_MESSAGE, run_id=run_id)
        return None if row is None else (row.number, EVENT.validate_json(row.event))

    def newest_message(self, run_id: str) -> tuple[int, Event] | None:
        newest = (
            sa.select(t.mailbox)
            .where(t.mailbox.c.run_id == run_id, t.mailbox.c.taken.is_(False))
            .order_by(t.mailbox.c.number.desc())
            .limit(1)
        )
        row = self._one(newest)
        return None if row is None else (row.number, EVENT.validate_json(row.event))

    def take_message(self, number: int) -> None:
        self._execute(_TAKE_MESSAGE, {"message": number})
        self._execute(_NOTHING_CAME, {"message": number})

    # --- containments --------------------------------------------------------------------------

    def add_containment(self, containment: Containment) -> None:
        self._execute(
            _ADD_CONTAINMENT,
            {
                "id": containment.id,
                "incident_id": containment.incident_id,
                "gateway": containment.gateway,
                "lifted_at": moment_of(containment.lifted_at),
                "content": containment.model_dump_json(),
            },
        )

    def containment(self, containment_id: str) -> Containment | None:
        row = self._one(_CONTAINMENT, id=containment_id)
        return None if row is None else Containment.model_validate_json(row.content)

    def containments(
        self,
        *,
        incident_id: str | None = None,
        gateway: str | None = None,
        in_force: bool = False,
    ) -> Sequence[Containment]:
        sought = {"incident_id": incident_id, "gateway": gateway}
        values = {name: value for name, value in sought.items() if value is not None}
        rows = self._all(_containments(*values, in_force=in_force), **values)
        return [Containment.model_validate_json(row.content) for row in rows]

    def save_containment(self, containment: Containment) -> None:
        self._execute(
            t.containments.update()
            .where(t.containments.c.id == containment.id)
            .values(
                lifted_at=moment_of(containment.lifted_at), content=containment.model_dump_json()
            )
        )

    def remove_containment(self, containment_id: str) -> None:
        self._execute(t.containments.delete().where(t.containments.c.id == containment_id))

    # --- asks ----------------------------------------------------------------------------------

    def add_ask(self, ask: Ask) -> None:
        self._execute(
            t.asks.insert().values(
                token=ask.token,
                run_id=ask.run_id,
                step_id=ask.step_id,
                closed=ask.closed,
                content=ask.model_dump_json(),
            )
        )

    def ask(self, token: str) -> Ask:
        row = self._one(sa.select(t.asks).where(t.asks.c.token == token))
        if row is None:
            raise NotFound("This question is not known here. Look at the run's latest message.")
        return Ask.model_validate_json(row.content)

    def open_asks(self, run_id: str) -> Sequence[Ask]:
        return [
            Ask.model_validate_json(row.content) for row in self._all(_OPEN_ASKS, run_id=run_id)
        ]

    def asks(self, run_id: str) -> Sequence[Ask]:
        query = sa.select(t.asks).where(t.asks.c.run_id == run_id).order_by(t.asks.c.position)
        return [Ask.model_validate_json(row.content) for row in self._all(query)]

    def save_ask(self, ask: Ask) -> None:
        self._execute(
            t.asks.update()
            .where(t.asks.c.token == ask.token)
            .values(closed=ask.closed, content=ask.model_dump_json())
        )

    # --- outbox --------------------------------------------------------------------------------

    def put_parcel(
        self, parcel: Parcel, at: datetime, *, replace: bool = False, sent: bool = False
    ) -> None:
        values = {
            "key": parcel.key,
            "incident_id": parcel.incident_id,
            "parcel": parcel.model_dump_json(),
            "status": "sent" if sent else "pending",
            "next_at": moment_of(at),
        }
        statements = _REPLACE_PARCEL if replace else _NEW_PARCEL
        self._pending.add(statements[self._connection.dialect.name], values)

    def send_again(self, key: str, at: datetime) -> None:
        self._pending.add(_SEND_AGAIN, {"parcel_key": key, "at": moment_of(at)})

    def due_parcels(self, now: datetime, limit: int) -> Sequence[StoredParcel]:
        query = (
            sa.select(t.outbox)
            .where(
                t.outbox.c.status.in_(("pending", "claimed")), t.outbox.c.next_at <= moment_of(now)
            )
            .order_by(t.outbox.c.id)
            .limit(limit)
        )
        return [parcel_of(row) for row in self._all(query)]

    def parcel(self, key: str) -> StoredParcel | None:
        row = self._one(_PARCEL, key=key)
        return None if row is None else parcel_of(row)

    def parcels(self, incident_id: str) -> Sequence[StoredParcel]:
        query = (
            sa.select(t.outbox).where(t.outbox.c.incident_id == incident_id).order_by(t.outbox.c.id)
        )
        return [parcel_of(row) for row in self._all(query)]

    def save_parcel(self, stored: StoredParcel) -> None:
        values = {
            "parcel_id": stored.id,
            "parcel": stored.parcel.model_dump_json(),
            "status": stored.status,
            "attempts": stored.attempts,
            "refusals": stored.refusals,
            "next_at": moment_of(stored.next_at),
            "ref": stored.ref.model_dump_json() if stored.ref else None,
            "error": stored.error,
        }
        self._execute(_SAVE_PARCEL, values)

    def touch(self, at: datetime) -> None:
        updated = self._execute(t.heartbeat.update().values(at=moment_of(at)))
        if updated.rowcount == 0:
            self._execute(t.heartbeat.insert().values(id=1, at=moment_of(at)))

    # --- evidence ------------------------------------------------------------------------------

    def add_evidence(self, incident_id: str, evidence: Evidence) -> None:
        self._execute(
            t.evidence.insert().values(
                incident_id=incident_id, id=evidence.id, content=evidence.model_dump_json()
            )
        )

    def evidence(self, incident_id: str) -> Sequence[Evidence]:
        query = (
            sa.select(t.evidence)
            .where(t.evidence.c.incident_id == incident_id)
            .order_by(t.evidence.c.position)
        )
        return [Evidence.model_validate_json(row.content) for row in self._all(query)]
