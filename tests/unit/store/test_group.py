"""Writers that wait for their turn are committed together, and each as if it had been alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from bot.errors import BadInput, LeaseLost, StoreUnavailable
from bot.model.ask import Parcel
from bot.model.incident import Origin, Severity
from bot.model.journal import verify_chain
from bot.model.message import Message
from bot.store import SqlStore
from bot.store import group as group_module
from bot.store.transaction import SqlTransaction

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody commit early because others are slow to come: these tests are about sharing."""
    monkeypatch.setattr(group_module, "LOOK_S", 30.0)


class Crowd:
    """Writers that all come while one is writing, so that they share its transaction."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self.raised: dict[str, BaseException] = {}
        self.returned: list[str] = []

    def write(self, *writers: tuple[str, Callable[[SqlTransaction], None]]) -> None:
        """Let all of them write at once, in any order; the first waits for the others to come."""
        group = self._store._writers
        threads = [threading.Thread(target=self._one, args=writer) for writer in writers]
        try:
            with self._store.begin() as tx:
                for thread in threads:
                    thread.start()
                while group._waiting < len(threads):
                    pass
                tx.append(at=NOON, kind="first", body={})
        finally:
            for thread in threads:
                thread.join(30)

    def _one(self, name: str, work: Callable[[SqlTransaction], None]) -> None:
        try:
            with self._store.begin() as tx:
                if name:
                    tx.append(at=NOON, kind=name, body={})
                work(tx)
        except BaseException as error:
            self.raised[name] = error
        else:
            self.returned.append(name)


def parcel(key: str) -> Parcel:
    return Parcel(key=key, incident_id="INC-1", kind="post", message=Message(title=key))


def open_incident(tx: SqlTransaction) -> str:
    return tx.add_incident(key="k", title="One", severity=Severity.SEV2, at=NOON).id


def add_run(tx: SqlTransaction, incident_id: str) -> str:
    return tx.add_run(
        incident_id=incident_id,
        runbook_id="book",
        runbook_digest="d" * 64,
        runbook_text="id: book\n",
        origin=Origin(kind="person", actor="cli:sam"),
        at=NOON,
    ).id


def nothing(_tx: object) -> None:
    """Write nothing more."""


def kinds(store: SqlStore) -> list[str]:
    with store.read() as tx:
        records = tx.records()
    assert verify_chain(records) == len(records)
    return sorted(record.kind for record in records)


class TestTogether:
    def test_many_writers_need_few_commits(self, store: SqlStore) -> None:
        """
        Whoever came while another was writing shares its commit.
        """
        commits: list[int] = []
        sa.event.listen(store._writing, "commit", lambda _connection: commits.append(1))

        Crowd(store).write(*((f"w{n}", nothing) for n in range(10)))

        assert len(commits) == 1
        assert kinds(store) == sorted(["first", *(f"w{n}" for n in range(10))])

    def test_there_is_a_bound(self, store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Other processes wait for a transaction, so it does not take in writers without end.
        """
        monkeypatch.setattr(group_module, "MOST", 3)
        commits: list[int] = []
        sa.event.listen(store._writing, "commit", lambda _connection: commits.append(1))

        Crowd(store).write(*((f"w{n}", nothing) for n in range(8)))

        assert len(commits) == 3
        assert len(kinds(store)) == 9


class TestAlone:
    def test_a_writer_that_fails_takes_back_its_own_writes_only(self, store: SqlStore) -> None:
        """
        Also those that the database has seen already.
        """

        def fail(tx: SqlTransaction) -> None:
            tx.touch(NOON)  # written at once
            raise BadInput("It is wrong; nothing was done. Mend it.")

        crowd = Crowd(store)
        crowd.write(("good", nothing), ("bad", fail), ("fine", nothing))

        assert kinds(store) == ["fine", "first", "good"]
        assert sorted(crowd.returned) == ["fine", "good"]
        assert isinstance(crowd.raised["bad"], BadInput)

    def test_a_writer_sees_what_those_before_it_wrote(self, store: SqlStore) -> None:
        """
        As if each had been committed before the next began.
        """
        seen: list[int] = []

        def count(tx: SqlTransaction) -> None:
            seen.append(len(tx.records()))

        Crowd(store).write(("a", count), ("b", count))

        assert seen == [2, 3]

    def test_a_first_writer_that_fails_leaves_nothing(self, store: SqlStore) -> None:
        """
        With nobody else in its transaction, that is rolled back as a whole.
        """

        def fail(_tx: object) -> None:
            raise BadInput("It is wrong; nothing was done. Mend it.")

        crowd = Crowd(store)
        crowd._one("bad", fail)

        assert isinstance(crowd.raised["bad"], BadInput)

        assert kinds(store) == []


class TestNewRows:
    """They are put off as changes are."""

    def test_one_is_there_before_it_is_changed(self, store: SqlStore) -> None:
        """
        Whatever was changed first in the same transaction.
        """
        with store.begin() as tx:
            tx.put_parcel(parcel("old"), NOON, sent=True)

        def again(tx: SqlTransaction) -> None:
            tx.send_again("old", NOON)

        def both(key: str) -> Callable[[SqlTransaction], None]:
            def put(tx: SqlTransaction) -> None:
                tx.put_parcel(parcel(key), NOON, sent=True)
                tx.send_again(key, NOON)

            return put

        Crowd(store).write(("a", again), *((key, both(key)) for key in "bcde"))

        with store.read() as tx:
            due = {stored.parcel.key for stored in tx.due_parcels(NOON, 10)}
        assert due == {"old", *"bcde"}

    def test_incidents_and_runs_of_many_writers_are_numbered_without_a_gap(
        self, store: SqlStore
    ) -> None:
        """
        Also beside one that fails.
        """
        runs: list[str] = []

        def start(tx: SqlTransaction) -> None:
            incident_id = open_incident(tx)
            runs.extend(add_run(tx, incident_id) for _ in range(2))

        def fail(tx: SqlTransaction) -> None:
            add_run(tx, open_incident(tx))
            raise BadInput("It is wrong; nothing was done. Mend it.")

        crowd = Crowd(store)
        crowd.write(("a", start), ("bad", fail), ("b", start))

        assert isinstance(crowd.raised["bad"], BadInput)
        with store.read() as tx:
            kept = [run.id for run in tx.runs()]
        assert sorted(kept) == ["INC-1-R1", "INC-1-R2", "INC-2-R1", "INC-2-R2"] == sorted(runs)

    def test_a_lease_that_is_gone_takes_nobody_else_down(self, store: SqlStore) -> None:
        """
        Giving a run back is tried without a way back of its own.
        """
        with store.begin() as tx:
            run_id = add_run(tx, open_incident(tx))

        def release(tx: SqlTransaction) -> None:
            tx.release(run_id, fence=7, due_at=None)

        crowd = Crowd(store)
        crowd.write(("a", nothing), ("", release), ("b", nothing))

        assert isinstance(crowd.raised[""], LeaseLost)
        assert kinds(store) == ["a", "b", "first"]


class TestLost:
    def test_if_the_commit_fails_it_has_failed_for_all(
        self, store: SqlStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Nobody returns as if their writes were there, and nothing of any is.
        """
        dialect = store._writing.dialect
        real = dialect.do_commit

        def full(connection: object) -> None:
            raise sa.exc.OperationalError("COMMIT", {}, Exception("disk full"))

        monkeypatch.setattr(dialect, "do_commit", full)
        crowd = Crowd(store)
        try:
            crowd.write(("a", nothing), ("b", nothing))
        except StoreUnavailable as error:
            crowd.raised["first"] = error
        monkeypatch.setattr(dialect, "do_commit", real)

        assert crowd.returned == []
        assert set(crowd.raised) == {"first", "a", "b"}
        assert all(isinstance(e, StoreUnavailable) for e in crowd.raised.values())
        assert kinds(store) == []
        with store.begin() as tx:
            tx.append(at=NOON, kind="again", body={})
        assert kinds(store) == ["again"]


class TestBrokenTransaction:
    @pytest.mark.parametrize(
        "statement",
        [
            pytest.param(
                sa.select(sa.column("no_such_column")).select_from(sa.table("runs")), id="read"
            ),
            pytest.param(sa.table("no_such_table", sa.column("x")).insert(), id="write"),
        ],
    )
    def test_nobody_hears_that_what_is_not_there_is_done(
        self, store: SqlStore, statement: sa.Executable
    ) -> None:
        """
        PostgreSQL commits an aborted transaction as a rollback, without a word. Whoever returned
        has written; whoever has not was told.
        """

        def break_it(tx: object) -> None:
            tx._execute(statement, {})

        crowd = Crowd(store)
        try:
            crowd.write(("a", nothing), ("bad", break_it), ("b", nothing))
        except StoreUnavailable as error:
            crowd.raised["first"] = error
        else:
            crowd.returned.append("first")

        assert "bad" in crowd.raised
        assert kinds(store) == sorted(crowd.returned)

    def test_whose_text_cannot_be_kept_fails_alone(self, store: SqlStore) -> None:
        """
        It is found when it is handed in: later, nobody could say whose it was, and the chain would
        have a gap.
        """

        def half(tx: object) -> None:
            tx.append(at=NOON, kind="half", body={}, actor="\ud800")

        def nul(tx: object) -> None:
            tx.append(at=NOON, kind="nul", body={}, actor="a\0b")

        crowd = Crowd(store)
        crowd.write(("a", nothing), ("half", half), ("nul", nul), ("b", nothing))

        assert sorted(crowd.returned) == ["a", "b"]
        assert all(isinstance(error, BadInput) for error in crowd.raised.values())
        assert kinds(store) == ["a", "b", "first"]

    def test_others_do_not_hear_a_neighbours_values(
        self, store: SqlStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        What one writer was about to write, tokens among it, is not for the others' messages.
        """

        def lose(tx: object) -> None:
            table = sa.table("no_such_table", sa.column("x"))
            tx._execute(table.insert(), {"x": "secret-token"})

        monkeypatch.setattr(
            sa.NestedTransaction,
            "rollback",
            lambda _s: (_ for _ in ()).throw(sa.exc.InvalidRequestError()),
        )
        crowd = Crowd(store)
        try:
            crowd.write(("a", nothing), ("lose", lose))
        except StoreUnavailable as error:
            crowd.raised["first"] = error

        assert len(crowd.raised) >= 2
        assert not any("secret-token" in str(error) for error in crowd.raised.values())
