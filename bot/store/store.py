"""The store on SQLAlchemy: SQLite now, one writer at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from bot.errors import StoreUnavailable
from bot.store.transaction import SqlTransaction

BUSY_TIMEOUT_MS = 10_000
"""How long a writer waits for another one before it gives up."""


class SqlStore:
    """Implements ``bot.ports.Store``. Every write transaction takes the write lock at its start,
    so the journal's chain has one writer at a time, over all processes."""

    def __init__(self, url: str) -> None:
        """
        Args:
            url: SQLAlchemy's, e.g. ``sqlite:////var/lib/firedoor/firedoor.sqlite``. What follows
                ``sqlite:///`` is taken as the path itself, whatever signs are in it.
        """
        self._url = url
        path = url.removeprefix("sqlite:///")
        self._engine = sa.create_engine(
            url if path == url else sa.URL.create("sqlite", database=path)
        )
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _on_sqlite_connect)
            sa.event.listen(self._engine, "begin", _on_sqlite_begin)

    @property
    def engine(self) -> sa.Engine:
        return self._engine

    def migrate(self) -> None:
        """Bring the schema up to date.

        Raises:
            StoreUnavailable: The database cannot be opened or written.
        """
        import logging

        from alembic import command  # slow to import, needed once a start
        from alembic.config import Config

        logging.getLogger("alembic").setLevel(logging.WARNING)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        try:
            with self._engine.connect().execution_options(firedoor_write=True) as connection:
                config.attributes["connection"] = connection
                with connection.begin():
                    command.upgrade(config, "head")
        except (DBAPIError, sqlite3.Error) as error:
            raise _unavailable(error, self._url) from error

    @contextmanager
    def begin(self) -> Iterator[SqlTransaction]:
        with self._transaction(write=True) as transaction:
            yield transaction

    @contextmanager
    def read(self) -> Iterator[SqlTransaction]:
        with self._transaction(write=False) as transaction:
            yield transaction

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[SqlTransaction]:
        try:
            with (
                self._engine.connect().execution_options(firedoor_write=write) as connection,
                connection.begin(),
            ):
                yield SqlTransaction(connection)
        except (DataError, IntegrityError, ProgrammingError):
            raise  # a mistake of ours: waiting for room would never mend it
        except (DBAPIError, PoolTimeoutError, sqlite3.Error) as error:
            raise _unavailable(error, self._url) from error

    def close(self) -> None:
        self._engine.dispose()


def _unavailable(error: Exception, url: str) -> StoreUnavailable:
    cause = getattr(error, "orig", None) or error
    place = url.removeprefix("sqlite:///")
    return StoreUnavailable(
        f"The database {place} cannot be used ({cause}); nothing more is done until it can. "
        "Free disk space, or restore the file and its permissions."
    )


def _on_sqlite_connect(connection: sqlite3.Connection, _record: object) -> None:
    # SQLAlchemy begins transactions itself (_on_sqlite_begin); the driver must not.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode=WAL")
    # FULL: a committed record survives a power cut, not only a crash of ours.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _on_sqlite_begin(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("firedoor_write", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
