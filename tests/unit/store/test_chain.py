"""The journal in a real database: whoever alters it behind our back is found out."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from bot.errors import JournalBroken
from bot.model.journal import verify_chain
from bot.service.reports import Reports
from bot.store import SqlStore
from bot.testing import FakeClock

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def fill(store: SqlStore, count: int = 6) -> None:
    for number in range(count):
        with store.begin() as tx:
            tx.append(at=NOON, kind="note", body={"n": number, "name": "Zoë", "rate": 0.1})


def tamper(store: SqlStore, statement: str) -> None:
    """Alter the database as someone with access to it would."""
    with store.engine.begin() as connection:
        connection.exec_driver_sql(statement.replace("%", "%%"))


def audit(store: SqlStore) -> int:
    return Reports(store, FakeClock()).audit()


def write_and_fail(store: SqlStore) -> None:
    with store.begin() as tx:
        tx.append(at=NOON, kind="note", body={})
        raise RuntimeError


class TestAudit:
    def test_an_untouched_journal_holds(self, store):
        """
        What was written is what is read: the chain holds over the database.
        """
        fill(store)

        assert audit(store) == 6

    def test_an_empty_journal_holds(self, store):
        """
        Nothing was written, so nothing was altered.
        """
        assert audit(store) == 0

    @pytest.mark.parametrize(
        ("statement", "seq"),
        [
            pytest.param(
                "UPDATE journal SET body = replace(body, 'Zoë', 'Eve') WHERE seq = 3", 3, id="body"
            ),
            pytest.param("UPDATE journal SET actor = 'slack:U1' WHERE seq = 4", 4, id="actor"),
            pytest.param(
                "UPDATE journal SET at = '2026-01-01T00:00:00.000000+00:00' WHERE seq = 2",
                2,
                id="time",
            ),
            pytest.param("UPDATE journal SET hash = 'x' WHERE seq = 6", 6, id="hash-of-the-last"),
            pytest.param("DELETE FROM journal WHERE seq = 1", 1, id="first-deleted"),
            pytest.param("DELETE FROM journal WHERE seq IN (3, 4)", 3, id="two-deleted"),
            pytest.param(
                "UPDATE journal SET seq = CASE seq WHEN 2 THEN -3 WHEN 3 THEN -2 ELSE seq END",
                2,
                id="swapped",
            ),
            pytest.param(
                "INSERT INTO journal SELECT seq + 1, at, incident_id, run_id, step_id, actor, "
                "kind, body, hash, previous_hash FROM journal WHERE seq = 6",
                7,
                id="forged-at-the-end",
            ),
            pytest.param("UPDATE journal SET body = '{not json' WHERE seq = 5", 5, id="no-json"),
            pytest.param("UPDATE journal SET at = 'yesterday' WHERE seq = 5", 5, id="no-time"),
            pytest.param("UPDATE journal SET body = '[]' WHERE seq = 5", 5, id="no-object"),
        ],
    )
    def test_the_first_bad_record_is_named(self, store, statement, seq):
        """
        Altered, deleted, swapped, forged or made unreadable: the first bad place is named.
        """
        fill(store)
        tamper(store, statement)
        if "-3" in statement:
            tamper(store, "UPDATE journal SET seq = abs(seq)")

        with pytest.raises(JournalBroken) as caught:
            audit(store)

        assert caught.value.seq == seq
        assert f"Record {seq}" in str(caught.value)


class TestConcurrentWriters:
    def test_they_keep_one_chain(self, url, store):
        """
        Two processes' stores on one file append in turn: no gap, no fork, nothing lost.
        """
        stores = [SqlStore(url) for _ in range(3)]
        start = threading.Barrier(len(stores))
        problems: list[BaseException] = []

        def write(name: str, mine: SqlStore) -> None:
            try:
                start.wait()
                for number in range(15):
                    with mine.begin() as tx:
                        tx.append(at=NOON, kind="note", body={"by": name, "n": number})
            except BaseException as error:
                problems.append(error)

        threads = [
            threading.Thread(target=write, args=(str(index), mine))
            for index, mine in enumerate(stores)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for mine in stores:
            mine.close()

        assert problems == []
        with store.read() as tx:
            records = tx.records()
        assert verify_chain(records) == 45
        for index in range(3):
            mine_in_order = [r.body["n"] for r in records if r.body["by"] == str(index)]
            assert mine_in_order == list(range(15))

    def test_a_reader_does_not_wait_for_a_writer(self, url, store):
        """
        Status pages answer while a transaction is open, and see only what was committed.
        """
        other = SqlStore(url)
        with store.begin() as writing:
            writing.append(at=NOON, kind="note", body={})
            with other.read() as reading:
                assert reading.records() == []
        with other.read() as reading:
            assert len(reading.records()) == 1
        other.close()


class TestTransaction:
    def test_an_error_takes_everything_back(self, store):
        """
        Committed together or not at all.
        """
        with pytest.raises(RuntimeError):
            write_and_fail(store)

        assert audit(store) == 0
        fill(store, 1)
        assert audit(store) == 1
