"""A worker: it takes runs that are due, drives them, and says that it lives.

It holds no truth of its own. Which worker drives a run stands in the store, in the very rows that
the journal's transactions check; a worker that is gone, or was stopped for too long, loses all of
its runs to the others at once.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from queue import Empty, SimpleQueue

from bot.durable.identity import BEAT_S, LEASE_S, Identity, fresh_id, now_s
from bot.errors import LeaseLost, LeftToNewer, StoreUnavailable
from bot.ports import Clock, SharedStore, Signals
from bot.service.drive import Drive, Driver
from bot.service.lease import Lease

log = logging.getLogger(__name__)

ENGINE_VERSION = 2
"""Raised when the engine reads or writes a run's state in a way that an older one would not
understand. A worker leaves runs alone that a newer engine has driven."""

DRIVE_THREADS = 32
"""Drives that write or decide at once. Calls under way and runs that wait hold none of them."""

LOOK_S = 1.0
"""How often the store is asked for what is due even if no news came."""

NEWS_S = 0.2
"""How long news is waited for at once: whoever ends the worker waits as long."""

BATCH = 200

CLOSE_S = 5.0
"""How long calls that are under way are waited for at the end."""

FAILED_PAUSE_S = 5.0
"""How long a run is left alone whose drive failed in a way that nobody foresaw."""

_LOOK = ""
"""News without a run: look for all that is due."""

_NUDGE = "-"
"""News that only ends the dispatcher's wait, since an earlier moment is waited for now."""


class _Held:
    """A run in this worker's hands, gone on with by one thread at a time. Without a ``drive`` it
    is just being claimed."""

    def __init__(self) -> None:
        self.drive: Drive | None = None
        self.lease: Lease | None = None
        self.is_going = True
        self.go_again = False


class Worker:
    """Implements ``bot.ports.Runner`` where runs are driven."""

    def __init__(
        self,
        store: SharedStore,
        clock: Clock,
        *,
        name: str | None = None,
        version: str = "",
        engine: int = ENGINE_VERSION,
        threads: int = DRIVE_THREADS,
        lease_s: float = LEASE_S,
        beat_s: float = BEAT_S,
    ) -> None:
        """
        Args:
            name: What its id begins with; the machine's name if it is not given.

            lease_s: The same for all workers of a store: each judges the others by its own.
        """
        self._lease_s, self._beat_s = lease_s, beat_s
        self._store, self._clock, self._name = store, clock, name
        self._version, self._engine = version, engine
        self._driver: Driver | None = None
        self._identity = self._new_identity()
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._news: SimpleQueue[str] = SimpleQueue()
        self._timers: dict[str, float] = {}
        self._orphans: list[Lease] = []
        self._left_to_newer: set[str] = set()
        """Runs that only a worker of another version can read, as long as there is one."""
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="drive")
        self._threads = [
            threading.Thread(target=self._dispatch, name="dispatcher", daemon=True),
            threading.Thread(target=self._listen, name="listener", daemon=True),
        ]
        if store.is_shared:
            self._threads.append(threading.Thread(target=self._beat, name="beat", daemon=True))

    def _new_identity(self) -> Identity:
        return Identity(fresh_id(self._name), beats=self._store.is_shared, lease_s=self._lease_s)

    @property
    def id(self) -> str:
        return self._identity.worker

    # --- life -----------------------------------------------------------------------------------

    def launch(self, driver: Driver) -> None:
        """Begin to drive.

        Raises:
            StoreUnavailable: It could not be registered.
        """
        self._driver = driver
        driver.may_give_up = self._may_give_up
        self._register()
        driver.find_unreadable(self._store)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop driving. What is under way is left as by a crash; others go on with it at once."""
        self._stop.set()
        self._news.put(_LOOK)
        identity = self._identity
        identity.lose()
        self._pool.shutdown(wait=True, cancel_futures=True)
        idle = self._driver is None or self._driver.performer.wait_idle(CLOSE_S)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=5.0)
        if not idle and self._store.is_shared:
            return  # a call is under way still: others wait until it cannot be any more
        try:
            with self._store.begin() as tx:
                tx.bury(identity.worker, lease_s=None)
        except StoreUnavailable as error:
            log.warning("%s", error)

    def _register(self) -> None:
        identity = self._identity
        self._store.call_me(identity.worker)
        at = now_s()
        with self._store.begin() as tx:
            if not self._store.is_shared:
                # Whoever opens a file to drive is alone with it: all others are gone.
                for other in tx.workers():
                    tx.bury(other, lease_s=None)
            tx.add_worker(
                identity.worker,
                host=socket.gethostname(),
                pid=os.getpid(),
                version=self._version,
            )
        identity.heard(at)
        log.info("This is worker %s.", identity.worker)

    def _beat(self) -> None:
        while not self._stop.wait(self._beat_s):
            identity = self._identity
            try:
                if not self._is_heard(identity):
                    self._begin_anew()
            except StoreUnavailable as error:
                log.warning("It could not be said that %s lives: %s", identity.worker, error)
            except Exception:
                # The edge of a thread: a worker that says nothing more is taken for dead.
                log.exception("One beat of %s failed; it goes on", identity.worker)

    def _is_heard(self, identity: Identity) -> bool:
        """Say that this worker lives; False if it was taken for dead before it could be heard."""
        at = now_s()
        if identity.is_lost or not self._store.beat(identity.worker):
            identity.lose()
            return False
        identity.heard(at)
        return not identity.is_lost

    def _begin_anew(self) -> None:
        """Give up all that was done under the old id, and serve on under another."""
        old = self._identity
        log.warning(
            "%s was not heard of for %g s; its runs are left to others, and it goes on under "
            "another id.",
            old.worker,
            self._lease_s,
        )
        with self._lock:
            self._held.clear()
            self._timers.clear()
        try:
            with self._store.begin() as tx:
                tx.bury(old.worker, lease_s=None)
            self._identity = self._new_identity()
            self._register()
        except StoreUnavailable as error:
            self._identity.lose()
            log.warning("%s", error)
        self._news.put(_LOOK)

    # --- duties ---------------------------------------------------------------------------------

    def duty(self, name: str) -> Callable[[], None] | None:
        """Take a duty if nobody has it; return None if another worker has.

        Returns what raises LeaseLost once this worker may not do it any more: also when it has
        begun anew since, under another id.

        Raises:
            StoreUnavailable: It cannot be told.
        """
        identity = self._identity
        if identity.is_lost:
            return None
        if name not in identity.duties:
            with self._store.read() as tx:
                holder = tx.duty_holder(name)
            if holder is None:
                with self._store.begin() as tx:
                    tx.take_duty(name, identity.worker)
                    holder = tx.duty_holder(name)
            if holder != identity.worker:
                return None
            identity.duties.add(name)
        return None if identity.is_lost else identity.check

    # --- news -----------------------------------------------------------------------------------

    def start(self, run_id: str) -> None:
        self._news.put(run_id)

    def wake(self, run_id: str) -> None:
        self._news.put(run_id)

    def _listen(self) -> None:
        signals: Signals | None = None
        while not self._stop.is_set():
            try:
                signals = signals or self._store.signals()
                for run_id in self._news_of(signals):
                    self._news.put(run_id)
            except StoreUnavailable:
                if signals is not None:
                    signals.close()
                signals = None
                self._stop.wait(LOOK_S)
            except Exception:
                # The edge of a thread; the dispatcher looks every second anyway.
                log.exception("News could not be read; it goes on")
                self._stop.wait(LOOK_S)
        if signals is not None:
            signals.close()

    @staticmethod
    def _news_of(signals: Signals) -> tuple[str, ...]:
        news = signals.wait(NEWS_S)
        if news is None:
            return ()
        return tuple(news) or (_LOOK,)

    # --- dispatching ----------------------------------------------------------------------------

    def _dispatch(self) -> None:
        look_at = time.monotonic()
        while not self._stop.is_set():
            try:
                timeout_s = max(
                    0.0, min([look_at, *list(self._timers.values())]) - time.monotonic()
                )
                run_ids = self._next_news(timeout_s)
                if self._identity.is_lost:
                    self._stop.wait(0.05)
                    continue
                self._go_on_with_timers()
                must_look = _LOOK in run_ids or time.monotonic() >= look_at
                for run_id in run_ids - {_LOOK, _NUDGE}:
                    self._came(run_id)
                if must_look:
                    look_at = time.monotonic() + self._look()
            except StoreUnavailable as error:
                log.warning("%s", error)
                self._stop.wait(LOOK_S)
            except Exception:
                # The edge of a thread: without it nothing would be driven any more.
                log.exception("One round of the dispatcher failed; it goes on")
                self._stop.wait(LOOK_S)

    def _next_news(self, timeout_s: float) -> set[str]:
        """Return all that has come, once something has."""
        found: set[str] = set()
        try:
            found.add(self._news.get(timeout=timeout_s))
            while True:
                found.add(self._news.get_nowait())
        except Empty:
            return found

    def _go_on_with_timers(self) -> None:
        now = time.monotonic()
        for run_id, at in list(self._timers.items()):
            if at <= now:
                self._timers.pop(run_id, None)
                with self._lock:
                    held = self._held.get(run_id)
                if held is not None:
                    self._go_on(run_id, held)

    def _came(self, run_id: str) -> None:
        """Something came for a run: look into its mailbox, or take it if nobody drives it."""
        if run_id in self._left_to_newer:
            if not self._may_give_up():
                return
            self._left_to_newer.discard(run_id)
        with self._lock:
            held = self._held.get(run_id)
            if held is None:
                held = self._held[run_id] = _Held()
                self._submit(partial(self._claim, run_id, held, self._identity))
                return
            drive = held.drive
            if drive is None:
                held.go_again = True
                return
        drive.poke()

    def _look(self) -> float:
        """Look for what is due, and for workers that are gone; return when to look again."""
        self._take_over()
        self._let_go_of_orphans()
        with self._store.read() as tx:
            now = self._clock.now()
            due, next_at = tx.due_runs(worker=self.id, engine=self._engine, now=now, limit=BATCH)
            mine = tx.driven_by(self.id)
        self._free_lost(mine)
        for each in due:
            self._came(each.run_id)
        until_next_s = LOOK_S if next_at is None else (next_at - now).total_seconds()
        return min(max(until_next_s, 0.005), LOOK_S)

    def _free_lost(self, mine: Sequence[str]) -> None:
        """Let go of runs that are this worker's in the store and that it knows nothing of: the
        answer to a claim, or to a write, was lost."""
        with self._lock:
            known = {*self._held, *(lease.run_id for lease in self._orphans)}
        lost = [run_id for run_id in mine if run_id not in known]
        if lost:
            with self._store.begin() as tx:
                for run_id in lost:
                    tx.free(run_id, self.id)

    def _may_give_up(self) -> bool:
        """Tell whether no worker of another version is there, which may know more actions."""
        if not self._store.is_shared:
            return True
        with self._store.read() as tx:
            return not tx.other_versions(self.id, self._lease_s)

    def _take_over(self) -> None:
        if not self._store.is_shared:
            return
        with self._store.read() as tx:
            dead = [each for each in tx.dead_workers(self._lease_s) if each != self.id]
        for worker in dead:
            self._store.silence(worker)
            with self._store.begin() as tx:
                count = tx.bury(worker, lease_s=self._lease_s)
            if count is not None:
                log.warning("Worker %s is gone; %d runs of it are taken over.", worker, count)

    # --- driving --------------------------------------------------------------------------------

    def _submit(self, call: Callable[[], None]) -> None:
        try:
            self._pool.submit(self._safely, call)
        except RuntimeError:
            return  # closing

    def _safely(self, call: Callable[[], None]) -> None:
        if self._stop.is_set():
            return
        try:
            call()
        except (LeaseLost, LeftToNewer, StoreUnavailable) as error:
            if not self._stop.is_set():
                log.warning("%s", error)
        except Exception:
            # The edge of a thread. A run that cannot be driven must not stop the others.
            log.exception("A drive failed; it is looked at again")

    def _claim(self, run_id: str, held: _Held, identity: Identity) -> None:
        assert self._driver is not None  # noqa: S101  # launched
        try:
            identity.check()
            with self._store.begin() as tx:
                claimed = tx.claim(
                    run_id, worker=identity.worker, engine=self._engine, now=self._clock.now()
                )
            if claimed is not None:
                lease = held.lease = Lease(self._store, claimed, identity.check)
                drive = self._driver.open(claimed, lease, lambda: self._go_on(run_id, held))
        except BaseException as error:
            self._drop(run_id, held, error)
            raise
        with self._lock:
            if claimed is None:
                self._leave(run_id, held)
                return
            held.drive = drive
            came_meanwhile = held.go_again
        if came_meanwhile:
            drive.poke()
        self._go(run_id, held, drive)

    def _go_on(self, run_id: str, held: _Held) -> None:
        with self._lock:
            if held.is_going or held.drive is None:
                held.go_again = True
                return
            held.is_going = True
            self._submit(partial(self._go, run_id, held, held.drive))

    def _go(self, run_id: str, held: _Held, drive: Drive) -> None:
        while True:
            held.go_again = False
            try:
                rest = drive.go()
            except BaseException as error:
                self._drop(run_id, held, error)
                raise
            with self._lock:
                if rest.left:
                    self._leave(run_id, held)
                    return
                if held.go_again:
                    continue
                held.is_going = False
                if rest.wait_s is not None and self._held.get(run_id) is held:
                    self._timers[run_id] = time.monotonic() + rest.wait_s
                    if rest.wait_s < LOOK_S:
                        self._news.put(_NUDGE)
                return

    def _leave(self, run_id: str, held: _Held) -> None:
        """The run is nobody's now. What came in the last moment is looked at."""
        self._forget(run_id, held)
        if held.go_again:
            self._news.put(run_id)

    def _drop(self, run_id: str, held: _Held, error: BaseException) -> None:
        """Let go of a drive that failed. Its run is looked at again, by whoever comes first."""
        with self._lock:
            self._forget(run_id, held)
            if isinstance(error, LeftToNewer):
                self._left_to_newer.add(run_id)
            if held.lease is not None and not isinstance(error, LeaseLost):
                self._orphans.append(held.lease)

    def _forget(self, run_id: str, held: _Held) -> None:
        if self._held.get(run_id) is held:
            del self._held[run_id]
            self._timers.pop(run_id, None)

    def _let_go_of_orphans(self) -> None:
        due_at = self._clock.now() + timedelta(seconds=FAILED_PAUSE_S)
        while self._orphans:
            lease = self._orphans[0]
            try:
                with lease.store.begin() as tx:
                    tx.release(lease.run_id, fence=lease.fence, due_at=due_at, force=True)
            except LeaseLost:
                pass  # then it is another's
            self._orphans.remove(lease)


class LeftToOthers:
    """Implements ``bot.ports.Runner`` where runs are not driven: whoever drives them hears from
    the store that something came."""

    def start(self, run_id: str) -> None:
        """There is nothing to do here."""

    def wake(self, run_id: str) -> None:
        """There is nothing to do here."""
