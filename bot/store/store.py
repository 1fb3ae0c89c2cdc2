"""The store on SQLAlchemy, on SQLite or PostgreSQL: one writer at a time."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    PendingRollbackError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from bot.errors import BadInput, ProviderUnreachable, StoreUnavailable
from bot.ports import Signals
from bot.store.group import GroupCommit
from bot.store.signals import PostgresSignals, SqliteSignals
from bot.store.transaction import SqlTransaction

log = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 10_000
"""How long a writer waits for another one before it gives up."""

WRITE_LOCK = 8_300_100
"""The advisory lock that every write transaction on PostgreSQL takes at its start."""

BEAT_TIMEOUT_MS = 3_000

POSTGRES_OPTIONS = {
    "idle_in_transaction_session_timeout": 5_000,
    "lock_timeout": BUSY_TIMEOUT_MS,
    "statement_timeout": 30_000,
    "client_min_messages": "warning",
}
"""So that a process that was stopped in a transaction holds nobody up for long."""


class SqlStore:
    """Implements ``bot.ports.SharedStore``. Every write transaction takes the one write lock at
    its start, so the journal's chain, and whatever is looked at before it is written, has one
    writer at a time, over all processes."""

    def __init__(self, url: str, password: str | None = None) -> None:
        """
        Args:
            url: SQLAlchemy's, e.g. ``sqlite:////var/lib/firedoor/firedoor.sqlite``. What follows
                ``sqlite:///`` is taken as the path itself, whatever signs are in it. Or
                ``postgresql://user@host/database``.
        """
        self._name = "-"
        path = url.removeprefix("sqlite:///")
        if path != url:
            self._url = sa.URL.create("sqlite", database=path)
            self._place = path
        else:
            self._url = sa.make_url(url)
            if password is not None:
                self._url = self._url.set(password=password)
            self._place = self._url.render_as_string(hide_password=True)
        self._is_postgres = self._url.get_backend_name() == "postgresql"
        opened = partial(self._connected, write=True)
        self._writers = GroupCommit(opened, BUSY_TIMEOUT_MS / 1000, self._check_sound)
        self.engine: sa.Engine
        """For whoever looks past the store, in transactions that begin and end as usual."""
        if not self._is_postgres:
            # A reader must not wait for others: that many drives and calls there may be at once.
            self._engine = sa.create_engine(
                self._url, pool_size=16, max_overflow=-1, hide_parameters=True
            )
            sa.event.listen(self._engine, "connect", _on_sqlite_connect)
            self._reading = self._writing = self._beating = self._engine
            self.engine = self._engine.execution_options()
            # Only here, on what shares nothing with the store but its connections: one listener
            # slows every statement down.
            sa.event.listen(self.engine, "begin", _on_sqlite_begin)
            return
        self._url = self._url.set(drivername="postgresql+psycopg")
        self.engine = self._engine = self._postgres(pool_size=10, max_overflow=30)
        # Not through the pool above: a worker must be able to say that it lives when all wait.
        self._beating = self._postgres(pool_size=1, max_overflow=1, isolation_level="AUTOCOMMIT")
        self._writing = self._postgres(
            pool_size=1, max_overflow=4, pool_pre_ping=False, isolation_level="READ COMMITTED"
        )
        self._reading = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )

    def _postgres(self, **options: Any) -> sa.Engine:
        try:
            engine = sa.create_engine(
                self._url, **{"pool_pre_ping": True, "hide_parameters": True} | options
            )
        except ModuleNotFoundError:
            raise BadInput(
                "The store is on PostgreSQL, and its driver is not installed; nothing was started. "
                "Install `firedoor[postgres]`."
            ) from None
        sa.event.listen(engine, "do_connect", self._on_postgres_connect)
        return engine

    def _on_postgres_connect(
        self, _dialect: object, _record: object, _args: object, options: dict[str, Any]
    ) -> None:
        set_here = " ".join(f"-c {name}={value}" for name, value in POSTGRES_OPTIONS.items())
        options.setdefault("options", set_here)
        options.setdefault("connect_timeout", 5)
        # A network that is cut in the middle is noticed, not waited for.
        options.setdefault("keepalives_idle", 5)
        options.setdefault("keepalives_interval", 2)
        options.setdefault("keepalives_count", 3)
        options.setdefault("tcp_user_timeout", 8_000)
        options["application_name"] = self._application(self._name)

    @staticmethod
    def _application(worker: str) -> str:
        return f"firedoor:{worker}"

    @property
    def is_shared(self) -> bool:
        return self._is_postgres

    def migrate(self, revision: str = "head") -> None:
        """Bring the schema up to date, or to an earlier revision on the way there.

        Raises:
            StoreUnavailable: The database cannot be opened or written.
        """
        from alembic import command  # slow to import, needed once a start
        from alembic.config import Config

        logging.getLogger("alembic").setLevel(logging.WARNING)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        try:
            with self._writing.connect() as connection, connection.begin():
                self._begin_in_database(connection, write=True)
                config.attributes["connection"] = connection
                command.upgrade(config, revision)
        except (DBAPIError, sqlite3.Error) as error:
            raise _unavailable(error, self._place) from error

    @contextmanager
    def begin(self) -> Iterator[SqlTransaction]:
        with self._explained(), self._writers.transaction() as transaction:
            yield transaction

    @contextmanager
    def read(self) -> Iterator[SqlTransaction]:
        with self._explained(), self._connected(write=False) as connection:
            yield SqlTransaction(connection)

    @contextmanager
    def _connected(self, *, write: bool) -> Iterator[sa.Connection]:
        try:
            stack, connection = self._open(write=write)
        except DBAPIError as error:
            if not (write and error.connection_invalidated):
                raise
            # It was cut since it was used last. A writer finds out by its first statement, instead
            # of asking before each write whether it is there still; nothing was done on it yet.
            stack, connection = self._open(write=write)
        with stack:
            yield connection

    def _open(self, *, write: bool) -> tuple[ExitStack, sa.Connection]:
        """Begin a transaction; the stack ends it."""
        with ExitStack() as stack:
            engine = self._writing if write else self._reading
            connection = stack.enter_context(engine.connect())
            stack.enter_context(connection.begin())
            self._begin_in_database(connection, write=write)
            return stack.pop_all(), connection

    def _check_sound(self, connection: sa.Connection) -> None:
        """Raise if PostgreSQL would not commit: it ends an aborted transaction without an error."""
        if not self._is_postgres:
            return
        driver: Any = connection.connection.driver_connection
        if driver.info.transaction_status.name == "INERROR":
            raise StoreUnavailable(
                f"The database {self._place} has given a transaction up; nothing was done. It is "
                "tried again."
            )

    def _begin_in_database(self, connection: sa.Connection, *, write: bool) -> None:
        """Let one write at a time, from its first statement on; let a reader see one moment."""
        if not self._is_postgres:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
        elif write:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (DataError, IntegrityError, ProgrammingError):
            raise  # a mistake of ours: waiting for room would never mend it
        except (DBAPIError, PoolTimeoutError, PendingRollbackError, sqlite3.Error) as error:
            # Pending: another writer of this transaction met the lost connection first.
            raise _unavailable(error, self._place) from error

    # --- workers -------------------------------------------------------------------------------

    def call_me(self, worker: str) -> None:
        self._name = worker
        if self._is_postgres:
            # A connection that is in use would go on under the old name.
            with self._explained(), self._writers.nobody():
                self._dispose()

    def beat(self, worker: str) -> bool:
        with self._explained(), self._beating.connect() as connection:
            connection.exec_driver_sql(f"SET statement_timeout = {BEAT_TIMEOUT_MS}")
            return SqlTransaction(connection).beat(worker)

    def silence(self, worker: str) -> None:
        if not self._is_postgres:
            return
        end = sa.text(
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity "
            "WHERE application_name = :name AND datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )
        try:
            with self._explained(), self._beating.connect() as connection:
                connection.execute(end, {"name": self._application(worker)})
        except ProgrammingError as error:
            # Another role's sessions are not ours to end; the fence holds without.
            log.warning("The sessions of %s could not be ended: %s", worker, error.orig)

    def signals(self) -> Signals:
        with self._explained():
            if self._is_postgres:
                return PostgresSignals(self._beating)
            return SqliteSignals(str(self._url.database))

    @contextmanager
    def only_one(self, name: str, timeout_s: float) -> Iterator[None]:
        if not self._is_postgres:
            yield  # one process drives a file, and it has locks of its own
            return
        with self._explained():
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        with connection:
            try:
                self._hold(connection, name, timeout_s)
                yield
            finally:
                # Its lock and its time limits are the session's: not for the next one.
                connection.invalidate()

    def _hold(self, connection: sa.Connection, name: str, timeout_s: float) -> None:
        with self._explained():
            connection.exec_driver_sql(f"SET lock_timeout = {int(timeout_s * 1000)}")
            connection.exec_driver_sql(f"SET statement_timeout = {int(timeout_s * 1000) + 1000}")
            try:
                connection.execute(sa.select(sa.func.pg_advisory_lock(sa.func.hashtext(name))))
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", "") != "55P03":
                    raise
                raise ProviderUnreachable(
                    f"Another worker is writing to {name} and has not ended within {timeout_s:g} "
                    "s; nothing was written by this one. It is tried again."
                ) from None

    def close(self) -> None:
        try:
            with self._explained(), self._writers.nobody():
                self._dispose()
        except StoreUnavailable:
            self._dispose()  # whoever writes hangs, or has lost what it wrote

    def _dispose(self) -> None:
        for engine in (self._engine, self._writing, self._beating):
            engine.dispose()


def _unavailable(error: Exception, place: str) -> StoreUnavailable:
    cause = str(getattr(error, "orig", None) or error).strip().replace("\n", "; ")
    remedy = (
        "Mend the connection to it, or the server."
        if place.startswith("postgresql")
        else "Free disk space, or restore the file and its permissions."
    )
    return StoreUnavailable(
        f"The database {place} cannot be used ({cause}); nothing more is done until it can. "
        f"{remedy}"
    )


def _on_sqlite_connect(connection: sqlite3.Connection, _record: object) -> None:
    # The store begins transactions itself; the driver must not.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode=WAL")
    # FULL: a committed record survives a power cut, not only a crash of ours.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _on_sqlite_begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN")
