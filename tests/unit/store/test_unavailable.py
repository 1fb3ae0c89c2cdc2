"""A database that cannot be used: said clearly, nothing half done, and good again afterwards."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from bot.errors import StoreUnavailable
from bot.store import SqlStore
from bot.store import store as store_module

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Disk:
    """Bounds how large a store's database may grow, as a full disk does."""

    def __init__(self, store: SqlStore) -> None:
        self._engine = store.engine
        self._pages: int | None = None
        sa.event.listen(self._engine, "checkout", self._limit)

    def _limit(self, connection: sqlite3.Connection, _record: object, _proxy: object) -> None:
        if self._pages is not None:
            connection.execute(f"PRAGMA max_page_count={self._pages}")

    def fill(self) -> None:
        """Leave no room for another page."""
        with self._engine.connect() as connection:
            self._pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    def free(self) -> None:
        self._pages = 1_000_000


class TestFullDisk:
    def test_it_is_said_with_what_to_do(self, file_store, database):
        """
        Fact, consequence and remedy: the file, the cause, and that room is needed.
        """
        Disk(file_store).fill()

        with pytest.raises(StoreUnavailable, match=r"full.*nothing more is done.*disk space") as e:
            write_much(file_store)

        assert str(database) in str(e.value)

    def test_nothing_is_half_written(self, file_store):
        """
        The transaction that met the full disk left nothing behind, and the chain holds.
        """
        with file_store.begin() as tx:
            tx.append(at=NOON, kind="note", body={})
        Disk(file_store).fill()

        with pytest.raises(StoreUnavailable):
            write_much(file_store)

        with file_store.read() as tx:
            assert len(tx.records()) == 1

    def test_it_goes_on_when_there_is_room_again(self, file_store):
        """
        The same store, without a restart.
        """
        disk = Disk(file_store)
        disk.fill()
        with pytest.raises(StoreUnavailable):
            write_much(file_store)

        disk.free()
        write_much(file_store)

        with file_store.read() as tx:
            assert len(tx.records()) == 1


def write_much(store: SqlStore) -> None:
    """Write one record that needs new pages."""
    with store.begin() as tx:
        tx.append(at=NOON, kind="note", body={"text": "x" * 100_000})


class TestOtherTroubles:
    def test_a_folder_that_is_not_there(self, tmp_path):
        """
        Opening a database where there is no folder is unavailable, not a traceback.
        """
        store = SqlStore(f"sqlite:///{tmp_path / 'nowhere' / 'firedoor.sqlite'}")

        with pytest.raises(StoreUnavailable, match="unable to open"):
            store.migrate()

    def test_a_file_that_is_no_database(self, tmp_path):
        """
        Whatever was put in its place is not overwritten.
        """
        file = tmp_path / "firedoor.sqlite"
        file.write_text("this is no database, but it is somebody's text\n" * 50)
        store = SqlStore(f"sqlite:///{file}")

        with pytest.raises(StoreUnavailable, match="not a database"):
            store.migrate()

        assert file.read_text().startswith("this is no database")

    def test_a_writer_that_never_ends(self, url, store, monkeypatch):
        """
        Another process that keeps the lock makes us say so, after a while.
        """
        monkeypatch.setattr(store_module, "BUSY_TIMEOUT_MS", 1)
        monkeypatch.setitem(store_module.POSTGRES_OPTIONS, "lock_timeout", 1)
        other = SqlStore(url)

        with store.begin(), pytest.raises(StoreUnavailable, match="lock"), other.begin():
            pass
        other.close()

    def test_a_file_that_may_not_be_written(self, file_store):
        """
        Missing permission is unavailable too.
        """
        sa.event.listen(
            file_store.engine,
            "checkout",
            lambda c, _record, _proxy: c.execute("PRAGMA query_only=ON"),
        )

        with pytest.raises(StoreUnavailable, match="readonly"):
            write_much(file_store)


class TestPastTheStore:
    def test_what_is_written_in_one_block_is_there_as_a_whole_or_not(self, store):
        """
        Also by its engine alone, as a repair would.
        """
        write_much(store)

        def repair() -> None:
            with store.engine.begin() as connection:
                connection.exec_driver_sql("DELETE FROM journal")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            repair()

        with store.read() as tx:
            assert tx.records()


class TestMistakes:
    def test_a_broken_rule_of_the_schema_is_not_a_full_disk(self, store):
        """
        A mistake of ours is not waited out: it is an error, and nothing of it is kept.
        """
        with pytest.raises(IntegrityError):
            remember_twice(store)

        with store.read() as tx:
            assert tx.seen_alert(source="s", fingerprint="f", starts_at=NOON) is None


def remember_twice(store: SqlStore) -> None:
    with store.begin() as tx:
        for _ in range(2):
            tx.remember_alert(source="s", fingerprint="f", starts_at=NOON, incident_id="INC-1")


class TestMigration:
    def test_it_is_safe_to_repeat(self, store, url):
        """
        Every start migrates; a database that is up to date is left as it is.
        """
        with store.begin() as tx:
            tx.append(at=NOON, kind="note", body={})

        again = SqlStore(url)
        again.migrate()

        with again.read() as tx:
            assert len(tx.records()) == 1
        again.close()

    def test_it_makes_the_tables_that_the_code_declares(self, store):
        """
        The migrations and the table declarations say the same.
        """
        from alembic.autogenerate import compare_metadata
        from alembic.migration import MigrationContext

        from bot.store.tables import metadata

        with store.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})

            assert compare_metadata(context, metadata) == []


class TestDurability:
    @pytest.mark.parametrize(
        ("pragma", "value"),
        [
            pytest.param("journal_mode", "wal", id="readers-do-not-wait"),
            pytest.param("synchronous", 2, id="a-commit-survives-a-power-cut"),
            pytest.param("busy_timeout", 10_000, id="writers-wait-for-each-other"),
        ],
    )
    def test_every_connection_is_set_up(self, file_store, pragma, value):
        """
        A committed record is on the disk, not in a cache.
        """
        with file_store.engine.connect() as connection:
            assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() == value


def test_the_path_is_a_path(tmp_path: Path) -> None:
    """
    A folder whose name holds spaces and signs is opened as it is.
    """
    folder = tmp_path / "my state? %41 #1"
    folder.mkdir()
    store = SqlStore(f"sqlite:///{folder / 'firedoor.sqlite'}")
    store.migrate()
    store.close()

    assert [file.name for file in folder.iterdir()] == ["firedoor.sqlite"]


class TestLostConnection:
    def test_whoever_uses_it_next_hears_the_same(self, postgres_url):
        """
        Writers share a transaction: one meets the loss, and the others must not take it for a
        mistake of theirs.
        """
        store = SqlStore(postgres_url)

        def use_it_twice() -> None:
            with store.begin() as tx:
                pid = tx._connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
                with store.read() as other:
                    other._connection.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 5000)")
                with contextlib.suppress(DBAPIError):
                    tx.runs()
                tx.runs()

        with pytest.raises(StoreUnavailable):
            use_it_twice()

        with store.begin() as tx:
            assert tx.runs() == []
        store.close()
