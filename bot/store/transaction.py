"""One transaction: the mapping between models and rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from bot.errors import BadInput, JournalBroken, LeaseLost, NotFound
from bot.model.ask import Ask, Parcel, StoredParcel
from bot.model.base import canonical_json
from bot.model.containment import Containment
from bot.model.events import EVENT, Event
from bot.model.incident import Incident, IncidentStatus, Origin, Run, RunStatus, Severity
from bot.model.journal import GENESIS, Record, hash_of, moment_text
from bot.model.outcome import Evidence
from bot.ports import Claimed, Due, StoredRun
from bot.store import tables as t

Row = sa.Row[Any]

# Building a statement costs more than SQLite needs to run it. Those on the way from an alert to the
# containment are built once.
_LAST = sa.select(t.journal.c.seq, t.journal.c.hash).order_by(t.journal.c.seq.desc()).limit(1)
_ADD_RECORD = t.journal.insert()
_INCIDENT = sa.select(t.incidents).where(t.incidents.c.number == sa.bindparam("number"))
_RUN = sa.select(t.runs).where(t.runs.c.id == sa.bindparam("run_id"))
_SAVE_RUN = (
    t.runs.update()
    .where(t.runs.c.id == sa.bindparam("run_id"))
    .values({name: sa.bindparam(name) for name in ("status", "ended_at", "state", "events")})
    .values(commands=sa.bindparam("commands"))
)
_FENCE = sa.select(t.runs.c.fence).where(t.runs.c.id == sa.bindparam("run_id"))
_CLAIM = (
    t.runs.update()
    .where(
        t.runs.c.id == sa.bindparam("run_id"),
        t.runs.c.worker.is_(None),
        t.runs.c.due_at <= sa.bindparam("now"),
        t.runs.c.engine <= sa.bindparam("version"),
        # Not in the name of a worker that was taken for dead since.
        sa.exists().where(t.workers.c.id == sa.bindparam("name")),
    )
    .values(
        worker=sa.bindparam("name"),
        fence=t.runs.c.fence + 1,
        engine=sa.bindparam("version"),
        due_at=None,
    )
    .returning(*t.runs.c)
)
_RELEASE = (
    t.runs.update()
    .where(t.runs.c.id == sa.bindparam("run_id"), t.runs.c.fence == sa.bindparam("held"))
    .values(worker=None, due_at=sa.bindparam("due"))
)
_DUE = (
    sa.select(t.runs.c.id, t.runs.c.worker)
    .where(
        t.runs.c.due_at <= sa.bindparam("now"),
        t.runs.c.engine <= sa.bindparam("version"),
        sa.or_(t.runs.c.worker.is_(None), t.runs.c.worker == sa.bindparam("name")),
    )
    .order_by(t.runs.c.due_at)
    .limit(sa.bindparam("count"))
)
_NEXT_DUE = (
    sa.select(t.runs.c.due_at)
    .where(t.runs.c.due_at > sa.bindparam("now"))
    .order_by(t.runs.c.due_at)
    .limit(1)
)
_NOTICED = (
    t.runs.update().where(t.runs.c.id == sa.bindparam("run_id")).values(due_at=sa.bindparam("due"))
)
_OPEN_ASKS = (
    sa.select(t.asks)
    .where(t.asks.c.run_id == sa.bindparam("run_id"), t.asks.c.closed == "")
    .order_by(t.asks.c.position)
)
_PARCEL = sa.select(t.outbox).where(t.outbox.c.key == sa.bindparam("key"))
_HAS_PARCEL = sa.select(t.outbox.c.id).where(t.outbox.c.key == sa.bindparam("key"))
_REPLACE_PARCEL = (
    t.outbox.update()
    .where(t.outbox.c.key == sa.bindparam("parcel_key"))
    .values(
        parcel=sa.bindparam("content"),
        next_at=sa.bindparam("at"),
        status="pending",
        attempts=0,
        refusals=0,
        error="",
    )
)
_ADD_PARCEL = t.outbox.insert()
_SEND_AGAIN = (
    t.outbox.update()
    .where(t.outbox.c.key == sa.bindparam("parcel_key"))
    .values(status="pending", next_at=sa.bindparam("at"), attempts=0, refusals=0, error="")
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
_NEXT_MESSAGE = (
    sa.select(t.mailbox)
    .where(t.mailbox.c.run_id == sa.bindparam("run_id"), t.mailbox.c.taken.is_(False))
    .order_by(t.mailbox.c.number)
    .limit(1)
)


AT_ONCE = moment_text(datetime.min.replace(tzinfo=UTC))
"""Due before everything else, whatever the clocks say."""

CHANNEL = "firedoor"
"""Where PostgreSQL tells all workers that something came for a run."""

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


def _check_text(value: str) -> None:
    problem = "a NUL character" if "\0" in value else ""
    try:
        value.encode()
    except UnicodeEncodeError:
        problem = "half a character (a lone surrogate)"
    if problem:
        raise BadInput(
            f"A text holds {problem}, which the database cannot keep; nothing was done. "
            "Take it out."
        )


def _moment(value: datetime | None) -> str | None:
    return None if value is None else moment_text(value)


class Pending:
    """
    Writes whose result nobody asks for: made together, right before they could be seen.

    ``head`` is the end of the journal's chain, as number and hash, once it is known.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self._rows: list[tuple[sa.Executable, dict[str, Any]]] = []
        self.head: tuple[int, str] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, statement: sa.Executable, values: dict[str, Any]) -> None:
        """Take one more. What the database would refuse is refused here: later it could not be
        told whose it was."""
        for value in values.values():
            if isinstance(value, str):
                _check_text(value)
        self._rows.append((statement, values))

    def take_in(self, other: Pending) -> None:
        """Go on with another's, after one's own."""
        self._rows += other._rows
        self.head = other.head

    def write(self) -> None:
        """Make them all. If one cannot be made, the transaction is lost."""
        # Of one kind together: they are of different tables, so their order is of no matter.
        for statement in dict.fromkeys(statement for statement, _ in self._rows):
            values = [values for each, values in self._rows if each is statement]
            self.connection.execute(statement, values)
        self._rows = []

    def broke(self) -> None:
        """A statement was refused. PostgreSQL takes no other until there is a way back."""

    def before(self, statement: sa.Executable) -> None:
        """Make room for a statement that is executed at once."""
        if not self.is_independent(statement):
            self.write()

    @staticmethod
    def is_independent(statement: sa.Executable) -> bool:
        """Tell whether nothing that may be pending changes what the statement reads."""
        return statement is _FENCE


class SqlTransaction:
    """Implements ``bot.ports.Transaction``."""

    def __init__(self, connection: sa.Connection, pending: Pending | None = None) -> None:
        self._connection = connection
        self._pending = Pending(connection) if pending is None else pending

    def _execute(
        self, statement: sa.Executable, values: dict[str, Any] | None = None
    ) -> sa.CursorResult[Any]:
        self._pending.before(statement)
        try:
            result = self._connection.execute(statement, values)
        except sa.exc.SQLAlchemyError as error:
            self._pending.broke()
            if "NUL" in str(getattr(error, "orig", "")):
                raise BadInput(
                    "A text holds a NUL character, which the database cannot keep; nothing was "
                    "done. Take it out."
                ) from None
            raise
        assert isinstance(result, sa.CursorResult)  # noqa: S101  # what Core returns
        return result

    def _one(self, statement: sa.Executable, **values: Any) -> Row | None:
        return self._execute(statement, values).first()

    def _all(self, statement: sa.Executable, **values: Any) -> Sequence[Row]:
        return self._execute(statement, values).all()

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
            last = self._one(_LAST)
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
        return [_record(row) for row in self._all(query)]

    # --- incidents and alerts ------------------------------------------------------------------

    def add_incident(self, *, key: str, title: str, severity: Severity, at: datetime) -> Incident:
        status = IncidentStatus.DECLARED
        # There is one writer, so this is free; a sequence would leave a gap at each rollback.
        last = self._execute(sa.select(sa.func.max(t.incidents.c.number))).scalar()
        number = (last or 0) + 1
        self._execute(
            t.incidents.insert().values(
                number=number,
                key=key,
                title=title,
                severity=severity.value,
                status=status.value,
                opened_at=_moment(at),
            )
        )
        return Incident(
            id=f"INC-{number}", key=key, title=title, severity=severity, opened_at=at, status=status
        )

    def incident(self, incident_id: str) -> Incident:
        row = self._one(_INCIDENT, number=_number(incident_id))
        if row is None:
            raise NotFound(f"There is no incident {incident_id}. `firedoor incidents` lists them.")
        return _incident(row)

    def open_incident(self, key: str) -> Incident | None:
        row = self._one(
            sa.select(t.incidents)
            .where(t.incidents.c.key == key, t.incidents.c.status != IncidentStatus.CLOSED.value)
            .order_by(t.incidents.c.number.desc())
        )
        return None if row is None else _incident(row)

    def incidents(self) -> Sequence[Incident]:
        rows = self._all(sa.select(t.incidents).order_by(t.incidents.c.number.desc()))
        return [_incident(row) for row in rows]

    def save_incident(self, incident: Incident) -> None:
        self._execute(
            t.incidents.update()
            .where(t.incidents.c.number == _number(incident.id))
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
                t.alerts.c.starts_at == _moment(starts_at),
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
                starts_at=_moment(starts_at),
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
        count = self._execute(
            sa.select(sa.func.count()).where(t.runs.c.incident_id == incident_id)
        ).scalar_one()
        run = Run(
            id=f"{incident_id}-R{count + 1}",
            incident_id=incident_id,
            runbook_id=runbook_id,
            runbook_digest=runbook_digest,
            runbook_text=runbook_text,
            called_texts=dict(called_texts or {}),
            origin=origin,
            started_at=at,
        )
        self._execute(
            t.runs.insert().values(
                id=run.id,
                incident_id=incident_id,
                number=count + 1,
                runbook_id=runbook_id,
                runbook_digest=runbook_digest,
                runbook_text=runbook_text,
                called_texts=canonical_json(run.called_texts),
                origin=canonical_json(origin.model_dump(mode="json")),
                status=run.status.value,
                started_at=_moment(at),
                due_at=AT_ONCE,
            )
        )
        self._tell(run.id)
        return run

    def run(self, run_id: str) -> StoredRun:
        row = self._one(_RUN, run_id=run_id)
        if row is None:
            raise _no_run(run_id)
        return _stored(row)

    def runs(self, incident_id: str | None = None, unfinished: bool = False) -> Sequence[Run]:
        query = sa.select(t.runs).order_by(t.runs.c.started_at, t.runs.c.id)
        if incident_id is not None:
            query = query.where(t.runs.c.incident_id == incident_id)
        if unfinished:
            query = query.where(t.runs.c.status == RunStatus.RUNNING.value)
        return [_run(row) for row in self._all(query)]

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
            "ended_at": _moment(run.ended_at),
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
        row = self._one(_NEXT_MESSAGE, run_id=run_id)
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

    def _tell(self, run_id: str) -> None:
        """Tell the other processes once this is committed. SQLite's see that the file changed."""
        if self._connection.dialect.name == "postgresql":
            self._execute(sa.select(sa.func.pg_notify(CHANNEL, run_id)))

    # --- leases --------------------------------------------------------------------------------

    def claim(self, run_id: str, *, worker: str, engine: int, now: datetime) -> Claimed | None:
        values = {"run_id": run_id, "name": worker, "version": engine, "now": _moment(now)}
        row = self._execute(_CLAIM, values).first()
        if row is None:
            return None
        has_message = self._one(_NEXT_MESSAGE, run_id=run_id) is not None
        return Claimed(stored=_stored(row), fence=row.fence, has_message=has_message)

    def fence_of(self, run_id: str) -> int:
        row = self._one(_FENCE, run_id=run_id)
        if row is None:
            raise _no_run(run_id)
        return int(row.fence)

    def take_away(self, run_id: str, *, now: datetime) -> None:
        runs = t.runs.update().where(t.runs.c.id == run_id)
        self._execute(runs.values(fence=t.runs.c.fence + 1, worker=None, due_at=_moment(now)))

    def release(
        self, run_id: str, *, fence: int, due_at: datetime | None, force: bool = False
    ) -> bool:
        if not force and self._one(_NEXT_MESSAGE, run_id=run_id) is not None:
            return False
        values = {"run_id": run_id, "held": fence, "due": _moment(due_at)}
        if self._execute(_RELEASE, values).rowcount == 0:
            raise LeaseLost(f"Another worker drives {run_id} now; this one leaves it alone.")
        return True

    def make_due(self, run_id: str) -> None:
        self._execute(_NOTICED, {"run_id": run_id, "due": AT_ONCE})
        self._tell(run_id)

    def due_runs(
        self, *, worker: str, engine: int, now: datetime, limit: int
    ) -> tuple[Sequence[Due], datetime | None]:
        at = _moment(now)
        rows = self._all(_DUE, now=at, version=engine, name=worker, count=limit)
        later = self._one(_NEXT_DUE, now=at)
        return (
            [Due(run_id=row.id, is_mine=row.worker is not None) for row in rows],
            None if later is None else datetime.fromisoformat(later.due_at),
        )

    def _time(self, earlier_s: float = 0.0) -> sa.ColumnElement[str]:
        """The database's own time as text like ours, so that workers need not agree on theirs."""
        if self._connection.dialect.name == "postgresql":
            moment = sa.func.clock_timestamp() - sa.func.make_interval(
                0, 0, 0, 0, 0, 0, sa.cast(earlier_s, sa.Float)
            )
            form = 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'
            return sa.func.to_char(sa.func.timezone("UTC", moment), form)
        return sa.func.strftime("%Y-%m-%dT%H:%M:%f000+00:00", "now", f"-{earlier_s:f} seconds")

    def add_worker(self, worker: str, *, host: str, pid: int, version: str) -> None:
        now = self._time()
        values = {"id": worker, "host": host, "pid": pid, "version": version}
        self._execute(t.workers.insert().values(started_at=now, beat_at=now, **values))

    def beat(self, worker: str) -> bool:
        beat = t.workers.update().where(t.workers.c.id == worker).values(beat_at=self._time())
        return self._execute(beat).rowcount == 1

    def workers(self) -> Sequence[str]:
        return [row.id for row in self._all(sa.select(t.workers.c.id).order_by(t.workers.c.id))]

    def living_workers(self, lease_s: float) -> Sequence[str]:
        query = sa.select(t.workers.c.id).where(t.workers.c.beat_at >= self._time(lease_s))
        return [row.id for row in self._all(query)]

    def driven_by(self, worker: str) -> Sequence[str]:
        query = sa.select(t.runs.c.id).where(t.runs.c.worker == worker)
        return [row.id for row in self._all(query)]

    def free(self, run_id: str, worker: str) -> None:
        run = t.runs.update().where(t.runs.c.id == run_id, t.runs.c.worker == worker)
        self._execute(run.values(worker=None, fence=t.runs.c.fence + 1, due_at=AT_ONCE))

    def other_versions(self, worker: str, lease_s: float) -> bool:
        mine = sa.select(t.workers.c.version).where(t.workers.c.id == worker).scalar_subquery()
        query = sa.select(t.workers.c.id).where(
            t.workers.c.beat_at >= self._time(lease_s), t.workers.c.version != mine
        )
        return self._one(query.limit(1)) is not None

    def dead_workers(self, lease_s: float) -> Sequence[str]:
        query = sa.select(t.workers.c.id).where(t.workers.c.beat_at < self._time(lease_s))
        return [row.id for row in self._all(query)]

    def bury(self, worker: str, *, lease_s: float | None) -> int | None:
        gone = t.workers.delete().where(t.workers.c.id == worker)
        if lease_s is not None:
            gone = gone.where(t.workers.c.beat_at < self._time(lease_s))
        if self._execute(gone).rowcount == 0:
            return None
        self._execute(t.duties.delete().where(t.duties.c.worker == worker))
        freed = t.runs.update().where(t.runs.c.worker == worker)
        free = {"worker": None, "fence": t.runs.c.fence + 1, "due_at": AT_ONCE}
        count = self._execute(freed.values(free)).rowcount
        if count:
            self._tell("")
        return count

    def duty_holder(self, name: str) -> str | None:
        row = self._one(sa.select(t.duties.c.worker).where(t.duties.c.name == name))
        return None if row is None else str(row.worker)

    def take_duty(self, name: str, worker: str) -> bool:
        holder = self.duty_holder(name)
        if holder is not None:
            return holder == worker
        if self._one(sa.select(t.workers.c.id).where(t.workers.c.id == worker)) is None:
            return False
        self._execute(t.duties.insert().values(name=name, worker=worker))
        return True

    # --- containments --------------------------------------------------------------------------

    def add_containment(self, containment: Containment) -> None:
        self._execute(
            t.containments.insert().values(
                id=containment.id,
                incident_id=containment.incident_id,
                gateway=containment.gateway,
                lifted_at=_moment(containment.lifted_at),
                content=containment.model_dump_json(),
            )
        )

    def containment(self, containment_id: str) -> Containment | None:
        row = self._one(sa.select(t.containments).where(t.containments.c.id == containment_id))
        return None if row is None else Containment.model_validate_json(row.content)

    def containments(
        self,
        *,
        incident_id: str | None = None,
        gateway: str | None = None,
        in_force: bool = False,
    ) -> Sequence[Containment]:
        query = sa.select(t.containments).order_by(t.containments.c.position)
        if incident_id is not None:
            query = query.where(t.containments.c.incident_id == incident_id)
        if gateway is not None:
            query = query.where(t.containments.c.gateway == gateway)
        if in_force:
            query = query.where(t.containments.c.lifted_at.is_(None))
        return [Containment.model_validate_json(row.content) for row in self._all(query)]

    def save_containment(self, containment: Containment) -> None:
        self._execute(
            t.containments.update()
            .where(t.containments.c.id == containment.id)
            .values(lifted_at=_moment(containment.lifted_at), content=containment.model_dump_json())
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
    ) -> bool:
        if self._one(_HAS_PARCEL, key=parcel.key) is not None:
            if replace:
                changes = {"content": parcel.model_dump_json(), "at": _moment(at)}
                self._execute(_REPLACE_PARCEL, {"parcel_key": parcel.key, **changes})
            return False
        values = {
            "key": parcel.key,
            "incident_id": parcel.incident_id,
            "parcel": parcel.model_dump_json(),
            "status": "sent" if sent else "pending",
            "next_at": _moment(at),
        }
        self._execute(_ADD_PARCEL, values)
        return True

    def send_again(self, key: str, at: datetime) -> None:
        self._pending.add(_SEND_AGAIN, {"parcel_key": key, "at": _moment(at)})

    def due_parcels(self, now: datetime, limit: int) -> Sequence[StoredParcel]:
        query = (
            sa.select(t.outbox)
            .where(
                t.outbox.c.status.in_(("pending", "claimed")), t.outbox.c.next_at <= _moment(now)
            )
            .order_by(t.outbox.c.id)
            .limit(limit)
        )
        return [_parcel(row) for row in self._all(query)]

    def parcel(self, key: str) -> StoredParcel | None:
        row = self._one(_PARCEL, key=key)
        return None if row is None else _parcel(row)

    def parcels(self, incident_id: str) -> Sequence[StoredParcel]:
        query = (
            sa.select(t.outbox).where(t.outbox.c.incident_id == incident_id).order_by(t.outbox.c.id)
        )
        return [_parcel(row) for row in self._all(query)]

    def save_parcel(self, stored: StoredParcel) -> None:
        values = {
            "parcel_id": stored.id,
            "parcel": stored.parcel.model_dump_json(),
            "status": stored.status,
            "attempts": stored.attempts,
            "refusals": stored.refusals,
            "next_at": _moment(stored.next_at),
            "ref": stored.ref.model_dump_json() if stored.ref else None,
            "error": stored.error,
        }
        self._execute(_SAVE_PARCEL, values)

    def touch(self, at: datetime) -> None:
        updated = self._execute(t.heartbeat.update().values(at=_moment(at)))
        if updated.rowcount == 0:
            self._execute(t.heartbeat.insert().values(id=1, at=_moment(at)))

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


def _number(incident_id: str) -> int:
    text = incident_id.upper().removeprefix("INC-")
    return int(text) if text.isdecimal() and len(text) < 18 else -1


def _record(row: Row) -> Record:
    try:
        return Record(**{**row._mapping, "body": json.loads(row.body)})
    except (TypeError, ValueError):
        raise JournalBroken(
            f"Record {row.seq} can no longer be read; the journal from there on cannot be trusted. "
            "Compare with a backup.",
            row.seq,
        ) from None


def _incident(row: Row) -> Incident:
    return Incident(
        id=f"INC-{row.number}",
        key=row.key,
        title=row.title,
        severity=Severity(row.severity),
        status=IncidentStatus(row.status),
        opened_at=datetime.fromisoformat(row.opened_at),
        channel=row.channel,
    )


def _no_run(run_id: str) -> NotFound:
    return NotFound(f"There is no run {run_id}. `firedoor status` lists the current ones.")


def _stored(row: Row) -> StoredRun:
    return StoredRun(
        run=_run(row),
        state=json.loads(row.state),
        events=row.events,
        commands=tuple(json.loads(row.commands)),
    )


def _run(row: Row) -> Run:
    return Run(
        id=row.id,
        incident_id=row.incident_id,
        runbook_id=row.runbook_id,
        runbook_digest=row.runbook_digest,
        runbook_text=row.runbook_text,
        called_texts=json.loads(row.called_texts),
        origin=Origin.model_validate_json(row.origin),
        status=RunStatus(row.status),
        started_at=datetime.fromisoformat(row.started_at),
        ended_at=datetime.fromisoformat(row.ended_at) if row.ended_at else None,
    )


def _parcel(row: Row) -> StoredParcel:
    return StoredParcel.model_validate(
        {
            "id": row.id,
            "parcel": json.loads(row.parcel),
            "status": row.status,
            "attempts": row.attempts,
            "refusals": row.refusals,
            "next_at": row.next_at,
            "ref": json.loads(row.ref) if row.ref else None,
            "error": row.error,
        }
    )
