"""Leases in the store: what is due, who has it, and who is gone."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from bot.errors import BadInput, LeaseLost, ProviderUnreachable, StoreUnavailable
from bot.model import events
from bot.model.incident import Origin, Severity
from bot.store import SqlStore

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def add_run(tx) -> str:
    incident = tx.add_incident(key="k", title="t", severity=Severity.SEV1, at=NOON)
    run = tx.add_run(
        incident_id=incident.id,
        runbook_id="book",
        runbook_digest="d" * 64,
        runbook_text="id: book\n",
        called_texts={"other": "id: other\n"},
        origin=Origin(kind="person", actor="slack:U1"),
        at=NOON,
    )
    return run.id


def add_worker(tx, worker: str) -> None:
    tx.add_worker(worker, host="here", pid=1, version="1")


def due(tx, worker: str = "a", now: datetime = NOON) -> list[tuple[str, bool]]:
    found, _ = tx.due_runs(worker=worker, engine=1, now=now, limit=10)
    return [(each.run_id, each.is_mine) for each in found]


@pytest.fixture
def run_id(store) -> str:
    with store.begin() as tx:
        add_worker(tx, "a")
        add_worker(tx, "b")
        return add_run(tx)


class TestDue:
    def test_a_new_run_is_due_until_it_is_claimed(self, store, run_id):
        """
        Whoever comes first has it; its pinned texts come with it.
        """
        with store.begin() as tx:
            assert due(tx) == [(run_id, False)]
            claimed = tx.claim(run_id, worker="a", engine=1, now=NOON)
            assert due(tx) == due(tx, "b") == []

        assert claimed is not None
        assert claimed.stored.run.called_texts == {"other": "id: other\n"}
        assert not claimed.has_message

    def test_it_is_due_again_when_its_moment_comes(self, store, run_id):
        """
        Whose moment is next is told as well, so that nobody sleeps past it.
        """
        later = NOON + timedelta(minutes=5)
        with store.begin() as tx:
            claimed = tx.claim(run_id, worker="a", engine=1, now=NOON)
            assert tx.release(run_id, fence=claimed.fence, due_at=later)
            assert due(tx) == []
            assert tx.due_runs(worker="a", engine=1, now=NOON, limit=1)[1] == later
            assert due(tx, now=later) == [(run_id, False)]

    def test_a_message_makes_it_due(self, store, run_id):
        """
        Of one that somebody drives only that one hears; it is not let go of before it has heard.
        """
        event = events.Cancelled(at=NOON, by="slack:U1")
        with store.begin() as tx:
            claimed = tx.claim(run_id, worker="a", engine=1, now=NOON)
            tx.put_message(run_id, event, "cancel")
            assert due(tx) == [(run_id, True)]
            assert due(tx, "b") == []
            assert not tx.release(run_id, fence=claimed.fence, due_at=None)
            tx.take_message(tx.next_message(run_id)[0])
            assert due(tx) == []
            assert tx.release(run_id, fence=claimed.fence, due_at=None)
            tx.put_message(run_id, event, "again")
            assert due(tx) == due(tx, "b") == [(run_id, False)]

    def test_finding_it_does_not_get_slower_with_what_has_ended(self, store):
        """
        The questions asked every second read indexes that hold the runs that are going on.
        """
        with store.engine.begin() as connection:
            connection.exec_driver_sql(MANY)
            if store.is_shared:
                connection.exec_driver_sql("ANALYZE runs")
            plans = [
                "\n".join(map(str, connection.exec_driver_sql(f"{_explain(store)} {query}")))
                for query in (
                    "SELECT id, worker FROM runs WHERE due_at <= 'x' AND engine <= 1 "
                    "AND (worker IS NULL OR worker = 'a') ORDER BY due_at LIMIT 10",
                    "SELECT due_at FROM runs WHERE due_at > 'x' ORDER BY due_at LIMIT 1",
                    "SELECT id FROM runs WHERE worker = 'a'",
                )
            ]

        assert "ix_runs_due" in plans[0]
        assert "ix_runs_due" in plans[1]
        assert "ix_runs_worker" in plans[2]
        began = time.perf_counter()
        for _ in range(20):
            with store.read() as tx:
                assert due(tx) == []
        assert time.perf_counter() - began < 2.0


MANY = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
INSERT INTO runs (id, incident_id, number, runbook_id, runbook_digest, runbook_text, origin, status,
  started_at) SELECT 'R' || i, 'INC-' || i, 1, 'b', 'd', 't', '{}', 'done', '2026' FROM n
"""


def _explain(store: SqlStore) -> str:
    return "EXPLAIN" if store.is_shared else "EXPLAIN QUERY PLAN"


class TestWorkers:
    def test_the_runs_of_one_that_is_gone_are_taken_over(self, store, run_id):
        """
        What it still wants to write is refused by its fence, and its duties are free.
        """
        with store.begin() as tx:
            claimed = tx.claim(run_id, worker="a", engine=1, now=NOON)
            assert tx.take_duty("keeper", "a")
            assert not tx.take_duty("keeper", "b")
            assert tx.bury("a", lease_s=None) == 1
            assert tx.bury("a", lease_s=None) is None
            assert tx.workers() == ["b"]
            assert tx.take_duty("keeper", "b")
            assert not tx.take_duty("sender", "a")
            assert tx.fence_of(run_id) > claimed.fence
            with pytest.raises(LeaseLost):
                tx.release(run_id, fence=claimed.fence, due_at=None)
            assert tx.claim(run_id, worker="a", engine=1, now=NOON) is None
            assert tx.claim(run_id, worker="b", engine=1, now=NOON) is not None

    def test_silence_for_a_lease_is_death_by_the_databases_clock(self, store, run_id):
        """
        One that says that it lives is left alone; it learns that it was taken for dead.
        """
        time.sleep(0.3)
        assert not store.is_shared or store.beat("b")
        with store.begin() as tx:
            assert tx.living_workers(8) == ["a", "b"] or sorted(tx.living_workers(8)) == ["a", "b"]
            assert tx.bury("a", lease_s=8) is None
            assert "a" in tx.dead_workers(0.2)
            assert tx.bury("a", lease_s=0.2) == 0
        assert not store.is_shared or not store.beat("a")


class TestOnPostgres:
    @pytest.fixture
    def server(self, postgres_url):
        store = SqlStore(postgres_url)
        yield store
        store.close()

    def test_one_at_a_time_over_all_processes(self, server, postgres_url):
        """
        A second writer to a gateway waits, then says who is in the way; afterwards it may.
        """
        other = SqlStore(postgres_url)
        with server.only_one("gateway edge", 5):
            with other.only_one("gateway inner", 0.1):
                pass
            with (
                pytest.raises(ProviderUnreachable, match="Another worker is writing"),
                other.only_one("gateway edge", 0.1),
            ):
                pass
        with other.only_one("gateway edge", 0.1):
            pass
        other.close()

    def test_news_reach_other_processes_at_once(self, server, postgres_url):
        """
        Once committed, and not before.
        """
        other = SqlStore(postgres_url)
        signals = other.signals()
        with server.begin() as tx:
            run_id = add_run(tx)
            assert signals.wait(0.1) is None
        assert list(signals.wait(5) or ()) == [run_id]
        signals.close()
        other.close()

    def test_a_dead_workers_connections_are_ended(self, server, postgres_url):
        """
        Stopped in the middle of a transaction, it neither holds the lock nor commits.
        """
        stopped = SqlStore(postgres_url)
        stopped.call_me("stopped")

        def write() -> None:
            with stopped.begin() as tx:
                tx.append(at=NOON, kind="note", body={})
                server.silence("stopped")
                with server.begin() as mine:
                    mine.append(at=NOON, kind="other", body={})

        with pytest.raises(StoreUnavailable, match="Mend the connection"):
            write()
        with stopped.begin() as tx:
            assert [record.kind for record in tx.records()] == ["other"]
        stopped.close()

    def test_nul_is_kept_in_json_shown_in_words_and_refused_in_names(self, server):
        """
        What PostgreSQL's text cannot hold never ends in a traceback, nor in another text.
        """
        with server.begin() as tx:
            tx.append(at=NOON, kind="note", body={"it": "a\x00b"})
            tx.add_incident(key="k", title="a\x00b", severity=Severity.SEV1, at=NOON)
        with server.read() as tx:
            assert tx.records()[0].body == {"it": "a\x00b"}
            assert tx.incident("INC-1").title == "a\u2400b"
        alert = {"source": "s", "fingerprint": "f\x00", "starts_at": NOON, "incident_id": "INC-1"}
        with pytest.raises(BadInput, match="NUL"), server.begin() as tx:
            tx.remember_alert(**alert)

    def test_a_reader_sees_one_moment(self, server, postgres_url):
        """
        Two looks in one transaction never disagree.
        """
        other = SqlStore(postgres_url)
        with server.read() as reading:
            assert reading.records() == []
            with other.begin() as tx:
                tx.append(at=NOON, kind="note", body={})
            assert reading.records() == []
        other.close()

    def test_a_server_that_is_not_there_is_said_without_the_password(self):
        """
        Fact, consequence, remedy, and no secret.
        """
        store = SqlStore("postgresql://me@127.0.0.1:1/none", "hunter2")

        with pytest.raises(StoreUnavailable, match="nothing more is done") as caught:
            store.migrate()

        assert "hunter2" not in str(caught.value)
        store.close()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            pytest.param("application_name", "firedoor:me-1", id="who-it-is"),
            pytest.param("idle_in_transaction_session_timeout", "5s", id="held-up-by-nobody"),
            pytest.param("lock_timeout", "10s", id="writers-wait-for-each-other"),
        ],
    )
    def test_every_connection_is_set_up(self, server, name, value):
        """
        By name, so that others can end it; with limits, so that it holds nobody up.
        """
        server.call_me("me-1")
        with server.engine.connect() as connection:
            assert connection.execute(sa.text(f"SHOW {name}")).scalar_one() == value
