"""Containments over the life of the service: expiry, restarts, gateways that were away."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.errors import ProviderUnreachable
from bot.model.incident import IncidentStatus, RunStatus
from tests.scenario.company import CLOSE, LOGIN, ORDERS, SAM, TRIGGER, Company, alert, text_of

WAIT = """
- id: sure
  manual: {ask: "Is the fix deployed?"}
- id: reopen
  uses: acme.lift
  with: {containment: "{{ steps.close.containment }}"}
"""


@pytest.fixture
def company(tmp_path: Path, store_url_of) -> Company:
    return Company(
        tmp_path, [text_of(CLOSE + WAIT, more=TRIGGER)], store_url=store_url_of(tmp_path)
    )


class TestExpiry:
    def test_it_fires_after_a_restart_that_slept_past_it(self, company):
        """
        The process was gone when the time came; the next one reopens the endpoint at once, and the
        run still waits for its person.
        """
        company.world.service.incidents.take_alert(alert())
        assert [c.endpoint for c in company.gateway.controls] == [ORDERS.key]
        company.restart()
        company.clock.advance(hours=5)

        company.world.keep()

        assert company.gateway.controls == ()
        assert "containment_expired" in company.kinds()
        assert company.state().status is RunStatus.RUNNING
        company.world.service.people.answer(company.ask().token, SAM, {})
        assert company.state().status is RunStatus.DONE
        company.restart()

    def test_a_repeated_round_does_nothing_more(self, company):
        """
        The keeper's round costs nothing when nothing is due.
        """
        company.world.service.incidents.take_alert(alert())
        company.clock.advance(hours=5)
        company.world.keep()
        before = company.kinds(None)

        company.world.keep()

        assert company.kinds(None) == before
        company.restart()

    def test_two_incidents_end_each_at_its_own_time(self, company):
        """
        The later one's endpoint stays closed.
        """
        company.world.service.incidents.take_alert(alert())
        company.clock.advance(hours=2)
        company.world.service.incidents.take_alert(alert("f2", LOGIN.key))
        company.clock.advance(hours=3)

        company.world.keep()

        assert [c.endpoint for c in company.gateway.controls] == [LOGIN.key]
        company.restart()


class TestGatewayAway:
    def test_the_run_waits_and_the_endpoint_is_closed_when_it_is_back(self, company):
        """
        The step says that it is not closed yet; the keeper closes it; a retry proves it.
        """
        company.gateway.down = True
        company.world.service.incidents.take_alert(alert())
        assert company.ask().kind == "decision"
        incident = company.world.service.reports.incidents()[0]
        assert incident.status is IncidentStatus.DECLARED

        company.gateway.down = False
        company.restart()
        company.world.keep()
        assert [c.endpoint for c in company.gateway.controls] == [ORDERS.key]
        company.world.service.people.decide(company.ask().token, SAM, "retry")

        assert company.ask().step_id == "sure"
        assert company.kinds().count("containment_held") == 1
        assert company.world.service.reports.incidents()[0].status is IncidentStatus.CONTAINED
        company.restart()

    def test_a_lift_while_it_is_away_is_not_forgotten(self, company):
        """
        A person reopens from the command line; the gateway follows when it is there.
        """
        company.world.service.incidents.take_alert(alert())
        (containment,) = company.world.service.reports.containments()
        company.gateway.down = True
        with pytest.raises(ProviderUnreachable):
            company.world.service.desk.lift([containment.id], SAM.actor)
        company.restart()
        company.gateway.down = False

        company.world.keep()

        assert company.gateway.controls == ()
        company.restart()
