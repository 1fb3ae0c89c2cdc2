"""A worker in this process: many runs, stuck calls, things at the same time, and its own doubt."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from bot.action import Context, Params, ReadAction
from bot.durable import Worker
from bot.durable.identity import LEASE_S, Identity, fresh_id
from bot.errors import LeaseLost, Problem, Refused, RunbookInvalid, StoreUnavailable
from bot.language.load import load
from bot.model.incident import Origin, RunStatus, StartRun
from bot.model.outcome import Outcome
from bot.service import record
from bot.testing import World
from bot.wiring import SystemClock
from tests.scenario.company import GROUPS, SAM, text_of


class ProbeParams(Params):
    key: str = ""


class Probe(ReadAction[ProbeParams]):
    """Does what a test wants."""

    name = "acme.probe"
    params = ProbeParams
    timeout_s = 30.0

    def __init__(self) -> None:
        self.call: Callable[[str, str], None] = lambda _key, _run: None
        self.calls: list[str] = []

    def run(self, params: ProbeParams, ctx: Context) -> Outcome:
        self.calls.append(params.key)
        self.call(params.key, ctx.run_id)
        return Outcome()


ONE = "- {id: one, uses: acme.probe, with: {key: one}}"
TWO = """
- parallel:
    - {id: one, uses: acme.probe, with: {key: one}}
    - {id: two, uses: acme.probe, with: {key: two}}
"""
ASK = '- {id: sure, manual: {ask: "Sure?"}}\n' + ONE


class Site:
    """A service whose runs a real worker drives."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.probe = Probe()
        known = {self.probe.name: self.probe}
        books = {"one": ONE, "two": TWO, "ask": ASK}
        self.world = World(
            folder,
            actions=[self.probe],
            runbooks=[load(text_of(t, name), "b.yaml", known) for name, t in books.items()],
            groups=GROUPS,
            clock=SystemClock(),
            store_url=url,
            is_driven_inline=False,
        )
        self.worker = Worker(self.world.store, self.world.clock)
        self.world.service.incidents._runner = self.worker
        self.world.service.people._runner = self.worker
        self.worker.launch(self.world.service.driver)

    def start(self, runbook: str = "one") -> str:
        wish = StartRun(runbook_id=runbook, origin=Origin(kind="person", actor=SAM.actor))
        return self.world.service.incidents.start(wish).run.id

    def wait(self, run_id: str, timeout_s: float = 20.0) -> None:
        ends = time.monotonic() + timeout_s
        while self.world.service.reports.state(run_id).status is RunStatus.RUNNING:
            assert time.monotonic() < ends, f"{run_id} did not end"
            time.sleep(0.01)

    def rests(self, run_id: str, timeout_s: float = 20.0) -> None:
        """Wait until a run waits for people, and nobody drives it."""
        ends = time.monotonic() + timeout_s
        while self.held(run_id) != (None, None):
            assert time.monotonic() < ends, f"{run_id} did not come to rest"
            time.sleep(0.01)

    def asked(self, run_id: str) -> str:
        """Wait until a run's only question is put, and return its token."""
        self.rests(run_id)
        return str(self.world.service.people.ask_of_step(run_id, None).token)

    def held(self, run_id: str) -> tuple[Any, ...]:
        with self.world.store.engine.connect() as connection:
            query = f"SELECT worker, due_at FROM runs WHERE id = '{run_id}'"
            return tuple(connection.exec_driver_sql(query).one())

    def close(self) -> None:
        self.worker.close()
        self.world.close()


@pytest.fixture
def site(tmp_path: Path, store_url_of) -> Iterator[Site]:
    site = Site(tmp_path, store_url_of(tmp_path))
    yield site
    site.close()


class TestDriving:
    def test_more_stuck_calls_than_threads_keep_nobody_up(self, site):
        """
        A system that hangs holds up the runs that call it, and no other.
        """
        release = threading.Event()
        site.probe.call = lambda _key, run_id: (
            release.wait(30) if int(run_id.split("-")[1]) <= 40 else None
        )
        stuck = [site.start() for _ in range(40)]
        deadline = time.monotonic() + 20
        while len(site.probe.calls) < 40 and time.monotonic() < deadline:
            time.sleep(0.01)

        site.wait(site.start(), 10)

        release.set()
        for run_id in stuck:
            site.wait(run_id)

    def test_a_run_that_waits_is_nobodys_and_a_word_wakes_it(self, site):
        """
        It holds neither a thread nor a lease.
        """
        run_id = site.start("ask")
        token = site.asked(run_id)
        site.world.service.people.answer(token, SAM, {})

        site.wait(run_id)
        assert site.probe.calls == ["one"]

    def test_what_is_outstanding_is_done_side_by_side(self, site):
        """
        Each of two calls waits for the other; each event is recorded as it comes.
        """
        barrier = threading.Barrier(2)
        site.probe.call = lambda _key, _run: barrier.wait(15) and None

        run_id = site.start("two")
        site.wait(run_id)

        assert sorted(site.probe.calls) == ["one", "two"]
        kinds = [r.kind for r in site.world.service.reports.records("INC-1") if r.run_id == run_id]
        assert kinds == ["run_started", "applied", "applied"]

    def test_a_drive_that_fails_unforeseen_is_looked_at_again(self, site, monkeypatch, caplog):
        """
        The others go on meanwhile, and so does it after a pause.
        """
        monkeypatch.setattr("bot.durable.worker.FAILED_PAUSE_S", 0.1)
        real, failures = record.Recorder.record, [RuntimeError("odd")]

        def fail_once(self: Any, *args: Any) -> Any:
            if failures:
                raise failures.pop()
            return real(self, *args)

        monkeypatch.setattr(record.Recorder, "record", fail_once)

        site.wait(site.start())

        assert failures == []


class TestLostAnswers:
    def test_a_claim_whose_answer_is_lost_is_let_go_of(self, site, monkeypatch):
        """
        The store says that this worker drives it, and the worker knows nothing of it: it frees
        the run, which nobody else could.
        """
        store, lost = site.worker._store, [True]

        class Deaf:
            """Loses the answer to one commit of a claim."""

            def __getattr__(self, name: str) -> Any:
                return getattr(store, name)

            @contextmanager
            def begin(self) -> Iterator[Any]:
                claimed = []
                with store.begin() as tx:
                    real = tx.claim
                    tx.claim = lambda *a, **k: claimed.append(real(*a, **k)) or claimed[-1]
                    yield tx
                if any(claimed) and lost:
                    lost.clear()
                    raise StoreUnavailable("The answer was lost; it is tried again.")

        monkeypatch.setattr(site.worker, "_store", Deaf())

        site.wait(site.start())

        assert not lost

    def test_a_call_is_not_begun_beside_one_that_a_lost_drive_left_behind(self, site, monkeypatch):
        """
        Whoever drives the run now waits until it has ended: it may still take effect.
        """
        monkeypatch.setattr("bot.durable.worker.FAILED_PAUSE_S", 0.1)
        release, at_once, most = threading.Event(), [], []

        def hang(_key: str, _run: str) -> None:
            at_once.append(1)
            most.append(len(at_once))
            release.wait(20)
            at_once.pop()

        site.probe.call = hang
        run_id = site.start()
        deadline = time.monotonic() + 20
        while not most and time.monotonic() < deadline:
            time.sleep(0.01)
        with site.worker._lock:
            (held,) = site.worker._held.values()
        site.worker._drop(run_id, held, RuntimeError("odd"))
        time.sleep(1.5)

        release.set()
        people = site.world.service.people
        while site.world.service.reports.state(run_id).status is RunStatus.RUNNING:
            with site.world.store.read() as tx:
                asks = tx.open_asks(run_id)
            if asks:
                with suppress(Refused):  # it may just have heard the one before
                    people.decide(asks[0].token, SAM, "retry")
            time.sleep(0.05)
            assert time.monotonic() < deadline + 20

        assert max(most) == 1


class TestOtherVersions:
    def test_a_run_that_a_newer_worker_can_read_is_left_to_it(self, site, monkeypatch):
        """
        An older worker beside it knows fewer actions, and must not end its runs.
        """
        monkeypatch.setattr(site.worker, "_may_give_up", lambda: False)
        site.world.service.driver.may_give_up = lambda: False
        recorder = site.world.service.recorder

        def unreadable(_self: Any, _run: Any) -> Any:
            raise RunbookInvalid("b.yaml", [Problem(1, 1, "", "No action is called so.")])

        run_id = site.start("ask")
        token = site.asked(run_id)
        real = type(recorder).runbook_of
        monkeypatch.setattr(type(recorder), "runbook_of", unreadable)
        with site.world.store.begin() as tx:
            tx.make_due(run_id)
        time.sleep(2.0)
        assert site.world.service.reports.state(run_id).status is RunStatus.RUNNING

        monkeypatch.setattr(type(recorder), "runbook_of", real)
        monkeypatch.setattr(site.worker, "_may_give_up", lambda: True)
        site.world.service.people.answer(token, SAM, {})
        site.wait(run_id)

        assert site.world.service.reports.state(run_id).status is RunStatus.DONE


class TestIdentity:
    def test_silence_for_a_lease_ends_it_for_good(self):
        """
        Whoever was stopped finds out by its own clock, before it asks anybody.
        """
        now = [0.0]
        identity = Identity("me", beats=True, clock=lambda: now[0])
        now[0] = LEASE_S - 0.1
        identity.check()
        now[0] = LEASE_S
        with pytest.raises(LeaseLost):
            identity.check()

        identity.heard(now[0])

        with pytest.raises(LeaseLost):
            identity.check()

    def test_alone_on_a_file_nobody_else_can_be_meant(self):
        """
        Where no other worker can take over, silence loses nothing.
        """
        now = [0.0]
        identity = Identity("me", beats=False, clock=lambda: now[0])
        now[0] = 10 * LEASE_S
        identity.check()

    def test_no_two_are_alike_and_postgresql_shows_all_of_it(self):
        """
        By its name its connections are ended: nobody else's may begin with it.
        """
        ids = {fresh_id("a host/with signs " * 9) for _ in range(20)}
        assert len(ids) == 20
        assert max(len(f"firedoor:{each}") for each in ids) < 64


class TestLosing:
    def test_it_serves_on_under_another_id(self, site, monkeypatch):
        """
        After it was taken for dead: nothing more under the old one, everything under the new one.
        """
        monkeypatch.setattr("bot.durable.worker.BEAT_S", 0.1)
        if not site.world.store.is_shared:
            pytest.skip("nobody else can take over")
        old = site.worker.id
        with site.world.store.begin() as tx:
            tx.bury(old, lease_s=None)
        deadline = time.monotonic() + 10
        while site.worker.id == old and time.monotonic() < deadline:
            time.sleep(0.02)

        assert site.worker.id != old
        site.wait(site.start())

    def test_a_store_that_is_away_for_a_moment_is_waited_for(self, site, monkeypatch):
        """
        The dispatcher goes on when it is back.
        """
        real, away = site.world.store.begin, [1, 1, 1]

        def begin() -> Any:
            if away:
                away.pop()
                raise StoreUnavailable("away")
            return real()

        run_id = site.start("ask")
        token = site.asked(run_id)
        site.world.service.people.answer(token, SAM, {})
        monkeypatch.setattr(site.world.store, "begin", begin)
        site.wait(run_id)
