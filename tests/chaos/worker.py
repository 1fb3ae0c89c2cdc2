"""A worker as a process, which may be told to die, or to stop, exactly at one boundary.

A boundary is a moment before or after something that lasts: a write transaction's commit, an
effect at the remote system. They are found by watching a run; nobody lists them.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.sql.dml import UpdateBase

import bot.durable.worker
import bot.service.drive
import bot.service.outbox
import bot.wiring.background
from bot.durable import Worker
from bot.errors import StoreUnavailable
from bot.store import SqlStore
from bot.store.executing import Pending
from bot.store.transaction import SqlTransaction
from bot.wiring.background import Background
from tests.chaos.remote import Remote
from tests.chaos.site import Crowd, Site, patiently
from tests.chaos.stories import Story

TOKEN = re.compile(r"ask:[\w-]{8}")

LOOK_S = 0.02


class Tripwire:
    """Counts boundaries by what happens there, and sends this process a signal at one of them."""

    def __init__(self, at: dict[str, Any] | None, report: Path | None) -> None:
        self._at = at
        self._file = None
        if report is not None:
            self._file = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def point(self, side: str, what: str) -> None:
        what = TOKEN.sub("ask:*", what)
        with self._lock:
            self._counts[side, what] += 1
            boundary = {"side": side, "what": what, "nth": self._counts[side, what]}
            if self._file is not None:
                os.write(self._file, json.dumps(boundary).encode() + b"\n")
        at = self._at
        if at is not None and all(at[name] == value for name, value in boundary.items()):
            # To this very thread: it goes no step further.
            signal.pthread_kill(threading.get_ident(), at["signal"])

    def watch_store(self) -> None:
        """Pass a boundary before and after the commit of every transaction that wrote."""
        real_begin, real_append = SqlStore.begin, SqlTransaction.append
        real_execute, real_add = SqlTransaction._execute, Pending.add
        trip, here = self, threading.local()

        def note(word: str) -> None:
            words = getattr(here, "words", [])
            if word not in words:
                words.append(word)

        def append(tx: SqlTransaction, **record: Any) -> Any:
            note(f"{record['kind']} {record.get('step_id') or ''}".strip())
            return real_append(tx, **record)

        def execute(tx: SqlTransaction, statement: Any, values: Any = None) -> Any:
            note_write(statement)
            return real_execute(tx, statement, values)

        def add(pending: Pending, statement: Any, *values: Any) -> Any:
            note_write(statement)
            return real_add(pending, statement, *values)

        def note_write(statement: Any) -> None:
            if isinstance(statement, UpdateBase) and statement.table.name != "journal":
                note(f"{statement.__visit_name__} {statement.table.name}")

        @contextmanager
        def begin(store: SqlStore) -> Iterator[SqlTransaction]:
            here.words = words = []
            with real_begin(store) as tx:
                yield tx
                what = "commit: " + ", ".join(words)
                if words:
                    trip.point("before", what)
            if words:
                trip.point("after", what)

        SqlStore.begin = begin  # type: ignore[method-assign]
        SqlTransaction.append = append  # type: ignore[method-assign]
        SqlTransaction._execute = execute  # type: ignore[method-assign]
        Pending.add = add  # type: ignore[method-assign]


def work(spec: dict[str, Any]) -> None:
    """
    Serve as a worker.

    Args:
        spec: ``folder``, ``store``, ``remote``, ``name``, ``lease_s``, ``beat_s``, ``tick_s``; for
            a scripted one also ``story``, and ``trip`` and ``report``.
    """
    # What waits for minutes waits for moments here.
    bot.wiring.background.TICK_S = spec["tick_s"]
    bot.wiring.background.RECONCILE_S = 1.0
    bot.service.drive.STORE_RETRY_S = 0.1
    bot.service.outbox.LONGEST_DELAY_S = 1.0
    bot.durable.worker.FAILED_PAUSE_S = 1.0
    folder = Path(spec["folder"])
    report = spec.get("report")
    trip = Tripwire(spec.get("trip"), Path(report) if report else None)
    if report or spec.get("trip"):
        trip.watch_store()
    remote = Remote(spec["remote"], trip.point)
    stories = [Story(**spec["story"])] if "story" in spec else []
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    site = Site(folder, spec["store"], remote, stories)
    worker = _launch(spec, site)
    background = Background(site.service, worker)
    background.start()
    if stories:
        _play(site, stories[0])
    else:
        stop.wait()
    background.stop()
    worker.close()
    site.close()


def _launch(spec: dict[str, Any], site: Site) -> Worker:
    """Start a worker; another one if the store was away just then, as a supervisor would."""
    while True:
        worker = Worker(
            site.store,
            site.world.clock,
            name=spec["name"],
            version="chaos",
            lease_s=spec["lease_s"],
            beat_s=spec["beat_s"],
        )
        try:
            worker.launch(site.service.driver)
        except StoreUnavailable:
            time.sleep(0.1)
        else:
            return worker


def _play(site: Site, story: Story) -> None:
    """Be the door and the people too, until the story's run is over and all is sent."""
    crowd = Crowd(site, temper=story.temper)
    while True:
        if patiently(lambda: site.begin(story)):
            break
        time.sleep(LOOK_S)
    while not _is_over(site, crowd):
        time.sleep(LOOK_S)


def _is_over(site: Site, crowd: Crowd) -> bool:
    left = 1

    def look() -> None:
        nonlocal left
        left = crowd.round() or unsent(site) or drifting(site)

    return patiently(look) and left == 0


def drifting(site: Site) -> int:
    """Return how many gateways do not hold yet what they should."""
    return sum(
        gateway.observe() != gateway.version_of([c.control for c in site.service.desk.in_force(n)])
        for n, gateway in site.gateways.items()
    )


def unsent(site: Site) -> int:
    """Return how many messages are still to be sent."""
    with site.store.read() as tx:
        parcels = [p for incident in tx.incidents() for p in tx.parcels(incident.id)]
    return sum(parcel.status in ("pending", "claimed") for parcel in parcels)
