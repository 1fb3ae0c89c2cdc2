"""News of runs that became due, from whatever process made them due."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from bot.errors import StoreUnavailable
from bot.store.executing import CHANNEL

POLL_S = 0.05
"""How often a file is asked whether it changed: SQLite tells nobody."""


class PostgresSignals:
    """``LISTEN`` on a connection of its own."""

    def __init__(self, engine: sa.Engine) -> None:
        from psycopg import Error  # only where there is PostgreSQL

        self._errors = (Error, OSError)
        pooled = engine.raw_connection()
        driver: Any = pooled.driver_connection
        pooled.detach()  # it is ours now
        self._connection = driver
        self._connection.autocommit = True
        self._connection.execute(f"LISTEN {CHANNEL}")

    def wait(self, timeout_s: float) -> Sequence[str] | None:
        try:
            notices = list(self._connection.notifies(timeout=timeout_s, stop_after=1))
        except self._errors as error:  # the driver's own: SQLAlchemy is not in between
            raise StoreUnavailable(f"The database says no more what came ({error}).") from error
        return [notice.payload for notice in notices] or None

    def close(self) -> None:
        self._connection.close()


class SqliteSignals:
    """Looks at the number by which SQLite counts the commits of others."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._version = self._read()

    def wait(self, timeout_s: float) -> Sequence[str] | None:
        ends = time.monotonic() + timeout_s
        while True:
            version = self._read()
            if version != self._version:
                self._version = version
                return []
            if time.monotonic() >= ends:
                return None
            time.sleep(POLL_S)

    def close(self) -> None:
        self._connection.close()

    def _read(self) -> int:
        try:
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error as error:
            raise StoreUnavailable(f"The database cannot be read ({error}).") from error
