"""Driving: one event a position, everything outstanding at once, and waits without a thread."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from bot.durable import ENGINE_VERSION
from bot.errors import LeaseLost
from bot.model import events
from bot.model.incident import RunStatus
from bot.service.lease import Lease
from bot.store import tables
from bot.testing import START
from tests.scenario.company import IRIS, SAM, Company, text_of

RUN = "INC-1-R1"
LOOK = """
- id: look
  uses: acme.look
  with: {key: door}
"""
ASK = """
- id: sure
  manual: {ask: "Is it real?", timeout: TIMEOUT}
"""


def waiting(company_of, timeout: str = "1h") -> Company:
    company = company_of(text_of(ASK.replace(", timeout: TIMEOUT", f", timeout: {timeout}")))
    company.start(IRIS)
    return company


def row_of(company: Company) -> Any:
    with company.world.store.engine.connect() as connection:
        return connection.execute(sa.select(tables.runs)).one()


class TestPosition:
    def test_an_event_for_a_position_that_has_passed_changes_nothing(self, company_of):
        """
        Two drives of one run cannot both record: the second finds itself too late.
        """
        company = waiting(company_of)
        recorder = company.world.service.recorder
        position = recorder.position(RUN)
        before = company.kinds()
        late = events.Cancelled(at=company.clock.now(), by=SAM.actor)

        again = recorder.record(RUN, position.events - 1, late)

        assert again == position
        assert company.kinds() == before

    def test_so_does_a_look_into_the_mailbox(self, company_of):
        """
        Nothing is taken twice.
        """
        company = waiting(company_of)
        recorder = company.world.service.recorder
        position = recorder.position(RUN)
        with company.world.store.begin() as tx:
            event = events.Cancelled(at=company.clock.now(), by=SAM.actor)
            tx.put_message(RUN, event, "cancel")

        assert recorder.take_message(RUN, position.events - 1) == position
        assert company.state().status is RunStatus.RUNNING
        assert len(company.open_asks()) == 1


class TestWaiting:
    @pytest.mark.parametrize(
        ("timeout", "due_at"),
        [
            pytest.param("10m", START + timedelta(minutes=10), id="a-deadline"),
            pytest.param("2d", START + timedelta(days=2), id="a-late-one"),
        ],
    )
    def test_it_lasts_until_something_is_due(self, company_of, timeout, due_at):
        """
        The run is nobody's meanwhile: any worker may go on with it then.
        """
        row = row_of(waiting(company_of, timeout))

        assert row.worker is None
        assert datetime.fromisoformat(row.due_at) == due_at

    def test_without_a_deadline_nothing_is_due(self, company_of):
        """
        Only a message ends it.
        """
        company = company_of(text_of(ASK.replace(", timeout: TIMEOUT", "")))
        company.start(IRIS)

        row = row_of(company)
        assert (row.worker, row.due_at) == (None, None)

    def test_what_became_due_while_nobody_drove_is_seen_at_once(self, company_of):
        """
        A restart that slept past a deadline goes on without waiting.
        """
        company = waiting(company_of, "10m")
        company.restart()
        company.clock.advance(hours=3)

        company.resume()

        assert company.state().status is RunStatus.STOPPED

    def test_a_wake_without_news_leaves_no_trace(self, company_of):
        """
        Looking is not an event: the journal does not grow while a run waits.
        """
        company = waiting(company_of)
        before = company.kinds()
        for _ in range(5):
            company.resume()

        assert company.kinds() == before

    def test_a_finished_run_is_not_driven(self, company_of):
        """
        There is nothing to claim.
        """
        company = company_of(text_of(LOOK))
        company.start(IRIS)

        company.world.runner.wake(RUN)

        row = row_of(company)
        assert (row.worker, row.due_at, row.fence) == (None, None, 1)
        assert company.outside.calls == ["look.run"]

    def test_a_word_after_the_end_is_put_away(self, company_of):
        """
        A click that came too late neither counts nor keeps the run busy.
        """
        company = company_of(text_of(LOOK))
        company.start(IRIS)
        before = company.kinds()
        with company.world.store.begin() as tx:
            late = events.Cancelled(at=company.clock.now(), by=SAM.actor)
            tx.put_message(RUN, late, "late")

        company.world.runner.wake(RUN)

        assert company.kinds() == before
        with company.world.store.read() as tx:
            assert tx.next_message(RUN) is None
        assert row_of(company).due_at is None


class TestFence:
    def test_who_lost_the_run_writes_nothing_more(self, company_of):
        """
        In the very transaction that would journal it: nothing of a drive that others have taken
        over is kept, whether an event, a note or evidence.
        """
        company = waiting(company_of)
        store, clock = company.world.store, company.world.clock
        with store.begin() as tx:
            tx.make_due(RUN)
            tx.add_worker("old", host="-", pid=0, version="-")
            claimed = tx.claim(RUN, worker="old", engine=ENGINE_VERSION, now=clock.now())
        assert claimed is not None
        lease = Lease(store, claimed)
        recorder = company.world.service.recorder.fenced(lease)
        lease.confirm()
        before = company.kinds()
        with store.begin() as tx:
            tx.bury("old", lease_s=None)

        cancelled = events.Cancelled(at=clock.now(), by=SAM.actor)
        at = recorder.position(RUN).events
        for call in (
            lambda: recorder.record(RUN, at, cancelled),
            lambda: recorder.take_message(RUN, at),
            lambda: recorder.give_up(RUN, "no"),
            lambda: recorder.release(RUN, None),
            lease.confirm,
        ):
            with pytest.raises(LeaseLost):
                call()
        assert company.kinds() == before

    def test_a_run_is_claimed_once(self, company_of):
        """
        Of two workers that see it due, one gets it; and none that is unknown, or too old.
        """
        company = waiting(company_of)
        store, now = company.world.store, company.clock.now()
        with store.begin() as tx:
            tx.make_due(RUN)
            for worker in ("a", "b"):
                tx.add_worker(worker, host="-", pid=0, version="-")
            assert tx.claim(RUN, worker="unknown", engine=ENGINE_VERSION, now=now) is None
            assert tx.claim(RUN, worker="a", engine=0, now=now) is None
            first = tx.claim(RUN, worker="a", engine=7, now=now)
            assert tx.claim(RUN, worker="b", engine=7, now=now) is None
            assert first is not None
            assert tx.release(RUN, fence=first.fence, due_at=now)
            assert tx.due_runs(worker="b", engine=6, now=now, limit=9)[0] == []
            assert tx.claim(RUN, worker="b", engine=6, now=now) is None
            second = tx.claim(RUN, worker="b", engine=7, now=now)
        assert second is not None
        assert second.fence == first.fence + 1
