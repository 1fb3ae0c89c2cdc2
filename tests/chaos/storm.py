"""Random chaos: many runs at once in one company, and faults that fall on all of them.

A batch follows from its first seed: its stories, when they begin, and the schedule of faults. What
the machine makes of it differs a little each time, as in life.
"""

from __future__ import annotations

import random
import signal
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from bot.store.tables import journal
from tests.chaos import stories
from tests.chaos.checker import Fault, check, repeated_mails
from tests.chaos.collect import collect, dump
from tests.chaos.databases import Databases, Servers
from tests.chaos.enumerating import remove, wait_until
from tests.chaos.nursery import Nursery
from tests.chaos.remote import Remote
from tests.chaos.site import Crowd, Site, patiently
from tests.chaos.worker import drifting, unsent

BATCH = 25
"""Seeds whose runs go on at the same time in one company."""

LEASE_S, BEAT_S = 1.0, 0.25

STORM_S = 18.0
"""How long faults come. Runs begin during most of it."""

STILL_S = 60.0
"""A company in which nothing has happened for so long, though nothing goes wrong any more, is
stuck. The machine may be busy with other things, so its whole time has no bound but this."""

CALM_S = 900.0

STORMY = {"slow": 0.1, "slow_s": 1.5, "lost": 0.04}


@dataclass(frozen=True)
class Blow:
    """One fault: ``what``, ``at`` so many seconds, to which worker, for how long."""

    at_s: float
    what: str
    who: int = 0
    for_s: float = 0.0


@dataclass
class Batch:
    """What came of one batch."""

    store: str
    first: int
    size: int
    kills: int = 0
    stalls: int = 0
    long_stalls: int = 0
    restarts: int = 0
    locks: int = 0
    effects: int = 0
    words: int = 0
    repeated_mails: int = 0
    faults: list[Fault] = field(default_factory=list)
    late: list[Fault] = field(default_factory=list)
    seeds: dict[str, int] = field(default_factory=dict)
    folder: str = ""
    seconds: float = 0.0

    def command(self) -> str:
        return (
            f"python -m tests.chaos random --store {self.store} --seed {self.first} "
            f"--seeds {self.size}"
        )


def schedule(first: int, *, shared: bool) -> list[Blow]:
    """Return a batch's faults in order; the same for the same first seed."""
    dice = random.Random(f"storm {first}")
    workers = 2 if shared else 1
    blows: list[Blow] = []
    at_s = 0.3
    while at_s < STORM_S:
        at_s += dice.expovariate(0.9)
        who = dice.randrange(workers)
        kind = dice.random()
        if kind < 0.6:
            blows.append(Blow(at_s, "kill", who, dice.uniform(0.0, 0.4)))
        elif kind < 0.8:
            blows.append(Blow(at_s, "stall", who, dice.uniform(0.05, 0.6)))
        elif shared:
            blows.append(Blow(at_s, "stall", who, dice.uniform(LEASE_S * 1.1, LEASE_S * 2)))
        else:
            blows.append(Blow(at_s, "lock", for_s=dice.uniform(0.2, 2.0)))
    if shared:
        for _ in range(dice.randint(1, 2)):
            blows.append(Blow(dice.uniform(1.0, STORM_S), "restart"))
    return sorted(blows, key=lambda blow: blow.at_s)


class Storm:
    """Runs batches, one after the other, on one kind of store."""

    def __init__(self, nursery: Nursery, databases: Databases, folder: Path) -> None:
        self._nursery, self._databases, self._folder = nursery, databases, folder

    def run(self, first: int, size: int) -> Batch:
        began = time.monotonic()
        scene = _Scene(self._nursery, self._databases, self._folder, first, size)
        try:
            scene.play()
        finally:
            scene.close()
        scene.batch.seconds = time.monotonic() - began
        return scene.batch


class _Worker:
    def __init__(self) -> None:
        self.pid: int | None = None
        self.start_at = 0.0
        self.wake_at: float | None = None


class _Scene:
    def __init__(
        self, nursery: Nursery, databases: Databases, folder: Path, first: int, size: int
    ) -> None:
        self._nursery, self._databases = nursery, databases
        self._is_shared = databases.kind == "postgres"
        self.batch = Batch(databases.kind, first, size)
        self._folder = Path(tempfile.mkdtemp(prefix=f"batch-{first}-", dir=folder))
        self._url = databases.make(self._folder)
        self._path = str(self._folder / "remote")
        self._others = [nursery.spawn("remote", {"path": self._path}, self._folder / "remote.log")]
        wait_until(Path(self._path).exists, 60)
        told = [stories.of_seed(seed) for seed in range(first, first + size)]
        self._seed_of = {story.id: first + n for n, story in enumerate(told)}
        self._site = Site(self._folder, self._url, Remote(self._path), told)
        self._crowd = Crowd(self._site, temper=stories.TEMPER)
        dice = random.Random(f"begin {first}")
        self._starts = sorted((dice.uniform(0.0, STORM_S * 0.8), story.id) for story in told)
        self._workers = [_Worker() for _ in range(2 if self._is_shared else 1)]
        self._began = 0.0
        self._is_calm, self._is_over = False, threading.Event()
        self._head, self._moved_at = 0, 0.0

    # --- playing ------------------------------------------------------------------------------

    def play(self) -> None:
        self._weather(STORMY)
        blows = schedule(self.batch.first, shared=self._is_shared)
        self._began = time.monotonic()
        # People have a thread of their own: a worker that stops may hold up their words.
        people = threading.Thread(target=self._be_people)
        people.start()
        try:
            while blows or self._now < STORM_S:
                while blows and blows[0].at_s <= self._now:
                    self._strike(blows.pop(0))
                self._tend()
                time.sleep(0.01)
            self._weather({})
            self._calm_down()
        finally:
            self._is_over.set()
            people.join()
        self._judge()

    def _be_people(self) -> None:
        """Begin the runs as their time comes, and answer what is asked, until all is over."""
        while not self._is_over.wait(0.2):
            try:
                patiently(self._look)
            except Exception as error:
                self.batch.faults.append(Fault("people", "", repr(error)))
                raise

    def _look(self) -> None:
        while self._starts and self._starts[0][0] <= self._now:
            self._site.begin(self._site.stories[self._starts[0][1]])
            self._starts.pop(0)
        self._watch()
        left = self._crowd.round()
        if self._is_calm and not left and not self._starts:
            left = unsent(self._site) or drifting(self._site)
            if not left:
                self._is_over.set()

    @property
    def _now(self) -> float:
        return time.monotonic() - self._began

    def _weather(self, how: dict[str, float]) -> None:
        self._site.remote.ask("weather", seed=self.batch.first, **how)

    def _watch(self) -> None:
        """Note when the journal last grew."""
        query = sa.select(sa.func.max(journal.c.seq))
        with self._site.store.read() as tx:
            head = tx._connection.execute(query).scalar() or 0
        if head > self._head:
            self._head, self._moved_at = head, time.monotonic()

    def _strike(self, blow: Blow) -> None:
        worker = self._workers[blow.who]
        if worker.pid is None and self._is_shared:
            worker = self._workers[1 - blow.who]
        if blow.what == "restart":
            assert isinstance(self._databases, Servers)
            self._databases.cluster.crash()
            self.batch.restarts += 1
        elif blow.what == "lock":
            spec = {"file": self._url.removeprefix("sqlite:///"), "seconds": blow.for_s}
            self._others.append(self._nursery.spawn("lock", spec, self._folder / "lock.log"))
            self.batch.locks += 1
        elif worker.pid is None:
            return  # it is down already
        elif blow.what == "kill":
            self._nursery.kill(worker.pid)
            worker.pid, worker.start_at, worker.wake_at = None, self._now + blow.for_s, None
            self.batch.kills += 1
        elif worker.wake_at is None:
            self._nursery.signal(worker.pid, signal.SIGSTOP)
            worker.wake_at = self._now + blow.for_s
            self.batch.stalls += 1
            self.batch.long_stalls += blow.for_s > LEASE_S

    def _tend(self) -> None:
        """Start workers that are down, wake those that have slept long enough."""
        for number, worker in enumerate(self._workers):
            if worker.pid is None and worker.start_at <= self._now:
                spec = {
                    "folder": str(self._folder),
                    "store": self._url,
                    "remote": self._path,
                    "name": f"w{number}",
                    "lease_s": LEASE_S,
                    "beat_s": BEAT_S,
                    "tick_s": 0.3,
                }
                log = self._folder / f"worker-{number}.log"
                worker.pid = self._nursery.spawn("worker", spec, log)
            if worker.wake_at is not None and worker.wake_at <= self._now:
                assert worker.pid is not None
                self._nursery.signal(worker.pid, signal.SIGCONT)
                worker.wake_at = None

    def _calm_down(self) -> None:
        for worker in self._workers:
            worker.start_at = 0.0
            worker.wake_at = None if worker.wake_at is None else 0.0

        self._is_calm, self._moved_at = True, time.monotonic()
        ends = time.monotonic() + CALM_S
        while not self._is_over.wait(0.02) and time.monotonic() < min(
            ends, self._moved_at + STILL_S
        ):
            self._tend()
        for worker in self._workers:
            assert worker.pid is not None
            self._nursery.signal(worker.pid, signal.SIGTERM)
        for number, worker in enumerate(self._workers):
            assert worker.pid is not None
            code = self._nursery.wait(worker.pid, 30)
            if code != 0:
                self.batch.faults.append(Fault("stuck", "", f"w{number} ended with {code}"))

    def _judge(self) -> None:
        history = collect(self._site)
        batch = self.batch
        found = check(history)
        batch.faults += [fault for fault in found if fault.kind != "late"]
        batch.late += [fault for fault in found if fault.kind == "late"]
        known = {run.story for run in history.runs}
        batch.faults += [
            Fault("lost", "", f"the run of seed {seed} never began")
            for story, seed in self._seed_of.items()
            if story not in known
        ]
        batch.seeds = {run.id: self._seed_of[run.story] for run in history.runs}
        batch.effects = sum(effect["op"] != "update" for effect in history.effects)
        batch.words = self._crowd.words
        batch.repeated_mails = repeated_mails(history)
        if batch.faults:
            batch.folder = str(self._folder)
            dump(history, batch.faults, self._site, self._folder)

    def close(self) -> None:
        for pid in [*self._others, *(w.pid for w in self._workers if w.pid is not None)]:
            self._nursery.kill(pid)
        self._site.close()
        self._databases.drop(self._url)
        if not self.batch.faults:
            remove(self._folder)
