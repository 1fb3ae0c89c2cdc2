"""Driving: one event a position, and waits that end when something is due."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bot.model import events
from bot.model.incident import RunStatus
from bot.service.drive import LONGEST_WAIT_S
from bot.testing import Idle
from tests.scenario.company import IRIS, SAM, Company, text_of

LOOK = """
- id: look
  uses: acme.look
  with: {key: door}
"""
ASK = """
- id: sure
  manual: {ask: "Is it real?", timeout: TIMEOUT}
"""


class Clocked:
    """A durable executor that notes how long it was asked to wait, and wakes once."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def step(self, name: str, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        return call()

    def wait(self, timeout_s: float) -> None:
        self.waits.append(timeout_s)
        if len(self.waits) == 2:
            raise Idle


def waiting(company_of, timeout: str = "1h") -> Company:
    company = company_of(text_of(ASK.replace(", timeout: TIMEOUT", f", timeout: {timeout}")))
    company.start(IRIS)
    return company


class TestPosition:
    def test_an_event_for_a_position_that_has_passed_changes_nothing(self, company_of):
        """
        Two drives of one run cannot both record: the second finds itself too late.
        """
        company = waiting(company_of)
        recorder = company.world.service.recorder
        position = recorder.position("INC-1-R1")
        before = company.kinds()
        late = events.Cancelled(at=company.clock.now(), by=SAM.actor)

        again = recorder.record("INC-1-R1", position.events - 1, late)

        assert again == position
        assert company.kinds() == before

    def test_so_does_a_question_or_a_look_into_the_mailbox(self, company_of):
        """
        Nothing is asked or taken twice.
        """
        company = waiting(company_of)
        recorder, performer = company.world.service.recorder, company.world.service.performer
        position = recorder.position("INC-1-R1")
        with company.world.store.begin() as tx:
            event = events.Cancelled(at=company.clock.now(), by=SAM.actor)
            tx.put_message("INC-1-R1", event, "cancel")

        assert recorder.take_message("INC-1-R1", position.events - 1) == position
        assert performer.perform("INC-1-R1", position.events - 1) == position
        assert company.state().status is RunStatus.RUNNING
        assert len(company.open_asks()) == 1

    def test_an_action_is_not_called_for_a_position_that_has_passed(self, company_of):
        """
        A repeated step of the executor repeats no effect.
        """
        company = company_of(text_of(LOOK))
        company.start(IRIS)

        company.world.service.performer.perform("INC-1-R1", 1)

        assert company.outside.calls == ["look.run"]


class TestWaiting:
    @pytest.mark.parametrize(
        ("timeout", "waited_s"),
        [
            pytest.param("10m", 600.0, id="until-what-is-due"),
            pytest.param("2d", LONGEST_WAIT_S, id="at-most-an-hour"),
        ],
    )
    def test_it_lasts_until_something_is_due(self, company_of, timeout, waited_s):
        """
        Or an hour: then the loop looks again.
        """
        company = waiting(company_of, timeout)
        durable = Clocked()

        with pytest.raises(Idle):
            company.world.service.driver.drive("INC-1-R1", durable)

        assert durable.waits == [waited_s, waited_s]

    def test_without_a_deadline_it_is_an_hour(self, company_of):
        """
        Nothing is due; a wake ends it.
        """
        company = company_of(text_of(ASK.replace(", timeout: TIMEOUT", "")))
        company.start(IRIS)
        durable = Clocked()

        with pytest.raises(Idle):
            company.world.service.driver.drive("INC-1-R1", durable)

        assert durable.waits == [LONGEST_WAIT_S] * 2

    def test_what_became_due_while_nobody_drove_is_seen_at_once(self, company_of):
        """
        A restart that slept past a deadline goes on without waiting.
        """
        company = waiting(company_of, "10m")
        company.restart()
        company.clock.advance(hours=3)
        durable = Clocked()

        company.world.service.driver.drive("INC-1-R1", durable)

        assert durable.waits == []
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
        A drive that comes too late does nothing.
        """
        company = company_of(text_of(LOOK))
        company.start(IRIS)
        durable = Clocked()

        company.world.service.driver.drive("INC-1-R1", durable)

        assert durable.waits == []
        assert company.outside.calls == ["look.run"]
