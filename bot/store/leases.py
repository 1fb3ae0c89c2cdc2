"""Which worker drives which run, which are due, and who has a duty: rows of runs and workers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from bot.errors import LeaseLost
from bot.model.journal import GENESIS, moment_text
from bot.ports import Claimed, Due
from bot.store import tables as t
from bot.store.executing import FENCE, FENCE_AND_HEAD, Executing, moment_of
from bot.store.rows import no_run, stored_of

AT_ONCE = moment_text(datetime.min.replace(tzinfo=UTC))
"""Due before everything else, whatever the clocks say."""

NEXT_MESSAGE = (
    sa.select(t.mailbox)
    .where(t.mailbox.c.run_id == sa.bindparam("run_id"), t.mailbox.c.taken.is_(False))
    .order_by(t.mailbox.c.number)
    .limit(1)
)
_HAS_MESSAGE = (
    sa.exists()
    .where(t.mailbox.c.run_id == sa.bindparam("run_id"), t.mailbox.c.taken.is_(False))
    .correlate(None)
)
CLAIM = (
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
    .returning(*t.runs.c, _HAS_MESSAGE.label("has_message"))
)
RELEASE = (
    t.runs.update()
    .where(
        t.runs.c.id == sa.bindparam("run_id"),
        t.runs.c.fence == sa.bindparam("held"),
        sa.or_(sa.bindparam("force", type_=sa.Boolean), ~_HAS_MESSAGE),
    )
    .values(worker=None, due_at=sa.bindparam("due"))
)
ALONE = frozenset({CLAIM, RELEASE})
"""Statements that are the only write of their writer, who has nothing to take back after them."""
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
NOTICED = (
    t.runs.update().where(t.runs.c.id == sa.bindparam("run_id")).values(due_at=sa.bindparam("due"))
)


class Leases(Executing):
    """The part of a transaction that is about workers."""

    def claim(self, run_id: str, *, worker: str, engine: int, now: datetime) -> Claimed | None:
        values = {"run_id": run_id, "name": worker, "version": engine, "now": moment_of(now)}
        row = self._execute(CLAIM, values).first()
        if row is None:
            return None
        return Claimed(stored=stored_of(row), fence=row.fence, has_message=bool(row.has_message))

    def fence_of(self, run_id: str) -> int:
        wants_head = self._pending.is_writing and self._pending.head is None
        row = self._one(FENCE_AND_HEAD if wants_head else FENCE, run_id=run_id)
        if row is None:
            raise no_run(run_id)
        if wants_head:
            self._pending.head = (row.seq or 0, row.hash or GENESIS)
        return int(row.fence)

    def take_away(self, run_id: str, *, now: datetime) -> None:
        runs = t.runs.update().where(t.runs.c.id == run_id)
        self._execute(runs.values(fence=t.runs.c.fence + 1, worker=None, due_at=moment_of(now)))

    def release(
        self, run_id: str, *, fence: int, due_at: datetime | None, force: bool = False
    ) -> bool:
        values = {"run_id": run_id, "held": fence, "due": moment_of(due_at), "force": force}
        if self._execute(RELEASE, values).rowcount == 1:
            return True
        if self.fence_of(run_id) != fence:
            raise LeaseLost(f"Another worker drives {run_id} now; this one leaves it alone.")
        return False

    def make_due(self, run_id: str) -> None:
        self._execute(NOTICED, {"run_id": run_id, "due": AT_ONCE})
        self._tell(run_id)

    def due_runs(
        self, *, worker: str, engine: int, now: datetime, limit: int
    ) -> tuple[Sequence[Due], datetime | None]:
        at = moment_of(now)
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
