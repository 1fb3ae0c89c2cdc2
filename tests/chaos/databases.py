"""Where companies keep their journal: files, and databases of a PostgreSQL that may crash."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

from bot.store import SqlStore
from tests.postgres import Cluster


class Databases(Protocol):
    """Makes empty, migrated databases."""

    kind: str

    def make(self, folder: Path) -> str:
        """Return the URL of an empty one."""

    def drop(self, url: str) -> None: ...


class Files:
    """SQLite: one file a company."""

    kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._template = Path(tempfile.mkdtemp(dir=folder)) / "template.sqlite"
        store = SqlStore(f"sqlite:///{self._template}")
        store.migrate()
        store.close()
        with sqlite3.connect(self._template) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()

    def make(self, folder: Path) -> str:
        place = folder / "firedoor.sqlite"
        shutil.copy(self._template, place)
        return f"sqlite:///{place}"

    def drop(self, url: str) -> None:
        """The folder goes as a whole."""


class Servers:
    """PostgreSQL: one database a company, used again."""

    kind = "postgres"

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._free: list[str] = []

    def make(self, folder: Path) -> str:
        del folder
        if self._free:
            url = self._free.pop()
            self.cluster.empty(url)
            return url
        return self.cluster.database()

    def drop(self, url: str) -> None:
        self._free.append(url)


def hold_lock(spec: dict[str, Any]) -> None:
    """Hold the write lock of a file for a while, as a backup or a slow disk would."""
    connection = sqlite3.connect(spec["file"], isolation_level=None, timeout=10)
    connection.execute("BEGIN IMMEDIATE")
    time.sleep(spec["seconds"])
    connection.execute("ROLLBACK")
    connection.close()
