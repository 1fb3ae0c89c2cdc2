"""Firedoor's engine: durable steps a second, how long an approval takes to be acted on, and whether
steps get slower by runs that ended. On the real store and a real worker, on either database.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bot.action import Action, ChangeAction, Context, Params, ReadAction
from bot.durable import Worker
from bot.language.load import load
from bot.model.incident import Origin, StartRun
from bot.model.outcome import Check, Outcome, Proof
from bot.model.plan import Plan
from bot.service.people import Person
from bot.store import SqlStore
from bot.testing import World
from bot.wiring import SystemClock
from tests.bench.growth import fill
from tests.bench.ratios import FEW, MANY

STEPS, SEQUENTIAL, PARALLEL, APPROVALS = 10, 30, 100, 30
PERSON = Person(actor="cli:bench")
APPROVER = Person(actor="slack:UAPPROVER")


class Nothing(ReadAction[Params]):
    name = "bench.nothing"
    params = Params

    def run(self, params: Params, ctx: Context) -> Outcome:
        del params, ctx
        return Outcome()


class Change(ChangeAction[Params]):
    """Changes nothing, and notes when it began to."""

    name = "bench.change"
    params = Params

    def __init__(self) -> None:
        self.began: list[float] = []

    def observe(self, params: Params, ctx: Context) -> Any:
        del params, ctx
        return None

    def plan(self, params: Params, observed: Any) -> Plan:
        del params
        return Plan(action=self.name, params={}, summary="Nothing.", before=observed, after="x")

    def in_progress(self, plan: Plan, observed: Any, ctx: Context) -> bool:
        del plan, observed, ctx
        return False

    def apply(self, plan: Plan, ctx: Context) -> Outcome:
        del plan, ctx
        self.began.append(time.perf_counter())
        return Outcome()

    def verify(self, plan: Plan, ctx: Context) -> Proof:
        del plan, ctx
        return Proof(checks=(Check(name="none", ok=True, expected="-", seen="-"),))

    def undo(self, plan: Plan, ctx: Context) -> Outcome:
        del plan, ctx
        return Outcome()


HEAD = "id: {id}\nname: {id}\nsummary: A benchmark.\nseverity: sev4\nowners: [nobody]\nsteps:\n"
NOTHING = HEAD.format(id="nothing") + "".join(
    f"  - {{id: step-{number}, uses: bench.nothing}}\n" for number in range(STEPS)
)
APPROVED = HEAD.format(id="approved") + (
    "  - {id: change, uses: bench.change, approval: {from: [approvers]}}\n"
)


class Watched(Worker):
    """Says when it has let go of a run, so that nobody asks the store all the time meanwhile."""

    def __init__(self, store: SqlStore, clock: SystemClock) -> None:
        super().__init__(store, clock)
        self.has_let_go = threading.Event()

    def _leave(self, run_id: str, held: Any) -> None:
        super()._leave(run_id, held)
        self.has_let_go.set()


class Bench:
    """A service and a worker on one store."""

    def __init__(self, folder: Path, store_url: str | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.change = Change()
        self.known: dict[str, Action[Any]] = {a.name: a for a in (Nothing(), self.change)}
        self.world = World(
            folder,
            actions=list(self.known.values()),
            runbooks=[load(text, "bench.yaml", self.known) for text in (NOTHING, APPROVED)],
            groups={"approvers": ["UAPPROVER"]},
            clock=SystemClock(),  # type: ignore[arg-type]
            store_url=store_url,
            is_driven_inline=False,
        )
        self.worker = Watched(self.world.store, SystemClock())
        self.worker.launch(self.world.service.driver)

    def start(self, runbook: str) -> str:
        origin = Origin(kind="person", actor=PERSON.actor)
        wish = StartRun(runbook_id=runbook, origin=origin)
        run_id = self.world.service.incidents.start(wish).run.id
        self.worker.start(run_id)
        return run_id

    def unfinished(self) -> int:
        query = "SELECT count(*) FROM runs WHERE status = 'running'"
        with self.world.store.engine.connect() as connection:
            return int(connection.execute(sa.text(query)).scalar_one())

    def wait(self) -> None:
        while self.unfinished():
            self.worker.has_let_go.wait(0.1)
            self.worker.has_let_go.clear()

    def sequential(self, runs: int = SEQUENTIAL) -> float:
        """Return steps a second of one run after the other."""
        began = time.perf_counter()
        for _ in range(runs):
            self.start("nothing")
            self.wait()
        return STEPS * runs / (time.perf_counter() - began)

    def parallel(self) -> float:
        """Return steps a second of many runs at once."""
        began = time.perf_counter()
        for _ in range(PARALLEL):
            self.start("nothing")
        self.wait()
        return STEPS * PARALLEL / (time.perf_counter() - began)

    def approval_ms(self) -> float:
        """Return the median from a person's yes until the effect that it lets begin."""
        people = self.world.service.people
        found = []
        for _ in range(APPROVALS):
            run_id = self.start("approved")
            while (token := self._asked(run_id)) is None:
                time.sleep(0.005)
            time.sleep(0.2 + random.random() * 0.05)  # at any moment of a round
            count, began = len(self.change.began), time.perf_counter()
            people.approve(token, APPROVER)
            while len(self.change.began) == count:
                time.sleep(0.0005)
            found.append((self.change.began[-1] - began) * 1000)
        self.wait()
        return statistics.median(found)

    def _asked(self, run_id: str) -> str | None:
        with self.world.store.read() as tx:
            return next((ask.token for ask in tx.open_asks(run_id)), None)

    def close(self) -> None:
        self.worker.close()
        self.world.close()


@contextmanager
def opened(folder: Path, store_url: str | None) -> Iterator[Bench]:
    bench = Bench(folder, store_url)
    try:
        bench.sequential(2)  # so that nothing is imported or compiled for the first time below
        yield bench
    finally:
        bench.close()


def measure_engine(folder: Path, store: str, store_url: str | None = None) -> dict[str, float]:
    """Measure on one store: ``sqlite`` (a file in ``folder``), ``postgres`` (an empty database)."""
    with opened(folder, store_url) as bench:
        found = {
            f"engine_{store}_sequential_steps_per_s": bench.sequential(),
            f"engine_{store}_parallel_steps_per_s": bench.parallel(),
            f"approval_{store}_p50_ms": bench.approval_ms(),
        }
    if store == "sqlite":
        found["steps_per_s"] = found["engine_sqlite_sequential_steps_per_s"]
    return found


def measure_growth(
    folders: tuple[Path, Path], store: str, urls: tuple[str | None, str | None] = (None, None)
) -> dict[str, float]:
    """Measure a step with few and with many finished runs, in turns, so that the machine's moods
    fall on both."""
    found: dict[str, list[float]] = {}
    counts = (FEW, MANY)
    for folder, url, runs in zip(folders, urls, counts, strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        filled = SqlStore(url or f"sqlite:///{folder / 'firedoor.sqlite'}")
        filled.migrate()
        fill(filled, runs)
        filled.close()
    with opened(folders[0], urls[0]) as few, opened(folders[1], urls[1]) as many:
        for _ in range(5):
            for bench, runs in ((few, FEW), (many, MANY)):
                steps_per_s = bench.sequential(10)
                found.setdefault(f"engine_{store}_step_ms_with_{runs}_runs", []).append(
                    1000 / steps_per_s
                )
    return {name: statistics.median(values) for name, values in found.items()}
