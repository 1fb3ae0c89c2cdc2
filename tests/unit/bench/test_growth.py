"""The past that the growth benchmark puts into a store is a past that Firedoor believes."""

from __future__ import annotations

import pytest

from bot.model.incident import IncidentStatus, RunStatus
from bot.model.journal import verify_chain
from bot.store import SqlStore
from tests.bench.growth import RECORDS, fill, one_past
from tests.scenario.company import SAM, Company, alert, text_of

LOOK = text_of("- id: look\n  uses: acme.look\n  with: {key: door}")


@pytest.fixture
def company(tmp_path) -> Company:
    company = Company(tmp_path, [LOOK])
    yield company
    company.restart()


class TestFill:
    def test_every_run_has_ended_and_the_journal_holds(self, company):
        """
        Beside a run that was there before, with its own names each.
        """
        before = company.start(SAM)
        company.world.send()
        fill(company.world.store, 3)

        with company.world.store.read() as tx:
            runs, incidents = tx.runs(), tx.incidents()
            assert [run.id for run in runs if run.id != before] == [
                "INC-2-R1",
                "INC-3-R1",
                "INC-4-R1",
            ]
            assert {run.status for run in runs} == {RunStatus.DONE}
            assert {each.status for each in incidents[:3]} == {IncidentStatus.CLOSED}
            assert len({each.key for each in incidents}) == 4
            assert verify_chain(tx.records()) > 3 * RECORDS
            assert tx.waiting_mailboxes() == []
            assert tx.open_asks("INC-3-R1") == []
            assert tx.due_parcels(company.clock.now(), 10) == []
            assert {each.status for each in tx.parcels("INC-4")} == {"sent"}
            assert tx.containments(in_force=True) == []
            assert len({each.id for each in tx.containments()}) == 3

    def test_the_copies_can_be_read_like_any_run(self, company):
        """
        State, evidence and alerts included.
        """
        fill(company.world.store, 2)

        assert list(company.state("INC-2-R1").steps) == ["close", "look", "set", "tell", "lift"]
        with company.world.store.read() as tx:
            assert tx.evidence("INC-2")
            seen = alert("growth-fingerprint-2")
            assert (
                tx.seen_alert(
                    source=seen.source, fingerprint=seen.fingerprint, starts_at=seen.starts_at
                )
                == "INC-2"
            )

    def test_what_comes_after_goes_on(self, company):
        """
        The next incident has the next number, and its records are chained to the copies'.
        """
        store: SqlStore = company.world.store
        fill(store, 2)
        fill(store, 1)

        assert company.start(SAM) == "INC-4-R1"
        with store.read() as tx:
            verify_chain(tx.records())


def test_a_past_has_every_kind_of_row():
    """
    Also the ones that a slow query would have to step over: what was sent, taken, closed, lifted.
    """
    past = one_past()
    there = {table.name for table, rows in past.rows.items() if rows}

    wanted = {"incidents", "alerts", "runs", "mailbox", "containments", "asks", "outbox"}
    assert wanted <= there
    assert len(past.journal) == RECORDS
