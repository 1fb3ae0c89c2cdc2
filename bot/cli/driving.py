"""Driving runs in this process: one at a time per state folder, by a lock; on PostgreSQL any
number, by leases in the store."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from bot import __version__, wiring
from bot.cli.common import chat_of
from bot.durable import LEASE_S, Worker
from bot.errors import Refused
from bot.service.app import Service
from bot.settings import Settings
from bot.wiring.background import Background

PATIENCE_S = 2.0
"""How long the lock is waited for: others may be looking at it."""


@contextmanager
def driving_lock(settings: Settings) -> Iterator[None]:
    """Hold the one lock that allows driving runs and writing to gateways.

    Raises:
        Refused: Another process holds it.
    """
    if settings.store is not None:
        yield  # workers and gateways have their locks in the store
        return
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _lock_file(settings).open("a+") as file:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                # Whoever only looks holds it for a moment.
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                file.seek(0)
                raise Refused(
                    f"Another firedoor (process {file.read().strip() or 'unknown'}) drives the "
                    f"runs of {settings.state}; this one was not started. Use that one, or stop it."
                ) from None
            break
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def is_driven(settings: Settings) -> bool:
    """Tell whether some process drives runs now."""
    if settings.store is not None:
        store = wiring.open_store(settings)
        try:
            with store.read() as tx:
                return bool(tx.living_workers(LEASE_S))
        finally:
            store.close()
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _lock_file(settings).open("a+") as file:
        try:
            # Shared, so that several may look at once.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        return False


def _lock_file(settings: Settings) -> Path:
    return settings.state / "driving.lock"


@contextmanager
def engine(settings: Settings) -> Iterator[Service]:
    """Drive runs in this process: the service, the worker, the keeper and the senders."""
    with driving_lock(settings):
        store = wiring.open_store(settings)
        worker = Worker(store, wiring.SystemClock(), version=__version__)
        service = wiring.build(settings, store, worker, chat_of(settings))
        service.desk.gateways.prepare_all()
        worker.launch(service.driver)
        background = Background(service, worker)
        background.start()
        try:
            yield service
        finally:
            background.stop()
            worker.close()
            store.close()


def raise_interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Make SIGTERM end a foreground command as Ctrl-C does."""
    raise KeyboardInterrupt


def end_on_terminate() -> None:
    signal.signal(signal.SIGTERM, raise_interrupt)
