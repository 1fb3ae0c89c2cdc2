"""Opening incidents: one for one trouble, however often and from whom it is heard."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bot.errors import BadInput, NotFound
from bot.model.incident import IncidentStatus, Origin, RunStatus, StartRun
from bot.testing import START
from tests.scenario.company import (
    CLOSE,
    IRIS,
    LOGIN,
    ORDERS,
    SAM,
    TRIGGER,
    Company,
    alert,
    text_of,
)

WAIT = """
- id: sure
  manual: {ask: "Is it real?"}
"""
REOPEN = """
- id: reopen
  uses: acme.lift
  with: {containment: "{{ steps.close.containment }}"}
"""


@pytest.fixture
def company(company_of) -> Company:
    """A company whose runbook closes the endpoint at once and then asks a person."""
    return company_of(text_of(CLOSE + WAIT + REOPEN, more=TRIGGER))


def take(company: Company, *args, **changes):
    return company.world.service.incidents.take_alert(alert(*args, **changes))


def runs(company: Company) -> list[str]:
    return [run.id for run in company.world.service.reports.runs()]


class TestFirstAlert:
    def test_it_opens_an_incident_and_starts_its_run(self, company):
        """
        The answer names both, and what policy allows has been done.
        """
        taken = take(company)

        assert (taken.opened, taken.incident_id, taken.run_id) == (True, "INC-1", "INC-1-R1")
        assert [c.path for c in company.gateway.controls] == [ORDERS.path]
        incident = company.world.service.reports.incidents()[0]
        assert incident.title == f"book: {ORDERS.key}"
        assert incident.status is IncidentStatus.CONTAINED

    def test_the_opening_is_journaled_with_the_alert(self, company):
        """
        Before anything was done, and with all that the alert said.
        """
        take(company)

        first, second = company.world.service.reports.records("INC-1")[:2]
        assert (first.kind, first.actor) == ("incident_opened", "alert:alertmanager")
        assert first.body["alert"]["labels"]["endpoint"] == ORDERS.key
        assert second.kind == "run_started"

    def test_the_channel_is_opened_for_those_who_may_be_needed(self, company):
        """
        The runbook's owners are in it from the start.
        """
        take(company)

        with company.world.store.read() as tx:
            parcel = tx.parcel("INC-1:channel").parcel
        assert (parcel.to, parcel.members) == ("inc-1-book", ("slack:U0SAM",))

    def test_the_run_pins_the_endpoints_as_they_were(self, company):
        """
        A later inventory does not change what this run knows.
        """
        take(company)

        assert company.state().endpoints == {ORDERS.key: ORDERS}


class TestRepeatedAlert:
    def test_the_very_same_joins(self, company):
        """
        Alertmanager repeats itself; one incident, one run.
        """
        take(company)
        again = take(company)

        assert (again.opened, again.incident_id, again.run_id) == (False, "INC-1", None)
        assert runs(company) == ["INC-1-R1"]
        assert "alert_joined" not in company.kinds()

    def test_it_joins_even_after_the_incident_is_over(self, company):
        """
        A late repeat of an old alert is not a new incident.
        """
        take(company)
        company.world.service.people.answer(company.ask().token, SAM, {})
        assert company.world.service.reports.incidents()[0].status is IncidentStatus.RECOVERED

        assert take(company).opened is False

    def test_another_alert_on_the_same_endpoint_joins(self, company):
        """
        Two detectors, one trouble: it is journaled, and no second run starts.
        """
        take(company)

        joined = take(company, "f2")

        assert (joined.opened, joined.incident_id) == (False, "INC-1")
        assert runs(company) == ["INC-1-R1"]
        assert company.kinds().count("alert_joined") == 1

    def test_one_that_joined_is_then_known(self, company):
        """
        Its repeats are not journaled again and again.
        """
        take(company)
        take(company, "f2")
        take(company, "f2")

        assert company.kinds().count("alert_joined") == 1

    def test_another_endpoint_is_another_incident(self, company):
        """
        Two holes are two incidents, each with its run.
        """
        take(company)

        other = take(company, "f2", LOGIN.key)

        assert (other.opened, other.incident_id) == (True, "INC-2")
        assert sorted(c.path for c in company.gateway.controls) == [LOGIN.path, ORDERS.path]

    def test_after_recovery_it_is_a_new_incident(self, company):
        """
        What begins again after the endpoint was reopened is handled anew.
        """
        take(company)
        company.world.service.people.answer(company.ask().token, SAM, {})
        assert company.gateway.controls == ()

        again = take(company, starts_at=START + timedelta(hours=1))

        assert (again.opened, again.incident_id) == (True, "INC-2")
        assert len(company.gateway.controls) == 1

    def test_a_restart_in_between_changes_nothing(self, company):
        """
        What was taken is in the store, not in a process.
        """
        take(company)
        company.restart()

        assert take(company).opened is False
        assert runs(company) == ["INC-1-R1"]


class TestResolvedAlert:
    def test_it_is_noted_in_its_incident(self, company):
        """
        The run goes on: that the symptom is gone does not mend the hole.
        """
        take(company)

        taken = take(company, status="resolved")

        assert (taken.opened, taken.incident_id) == (False, "INC-1")
        assert company.kinds()[-1] == "alert_resolved"
        assert company.state().status is RunStatus.RUNNING

    def test_one_that_was_never_seen_opens_nothing(self, company):
        """
        The end of something we did not hear of is no incident.
        """
        taken = take(company, status="resolved")

        assert (taken.opened, taken.incident_id) == (False, None)
        assert company.kinds(None) == []


class TestAlertThatStartsNothing:
    def test_without_a_trigger_it_is_ignored_and_journaled(self, company):
        """
        Nobody has to wonder whether it arrived.
        """
        taken = take(company, labels={"alertname": "DiskFull"})

        assert (taken.opened, taken.incident_id) == (False, None)
        assert "no runbook" in taken.reason
        assert company.kinds(None) == ["alert_ignored"]

    @pytest.mark.parametrize(
        ("labels", "said"),
        [
            pytest.param({"alertname": "CrossOwnerReads"}, "endpoint", id="missing-label"),
            pytest.param(
                {"alertname": "CrossOwnerReads", "endpoint": "GET /nowhere"},
                "not in the inventory",
                id="unknown-endpoint",
            ),
            pytest.param(
                {"alertname": "CrossOwnerReads", "endpoint": "{{ 1 + 1 }}"},
                "not in the inventory",
                id="text-is-never-a-template",
            ),
        ],
    )
    def test_inputs_that_do_not_fit_open_nothing(self, company, labels, said):
        """
        The sender hears what is missing, and nothing is half begun.
        """
        with pytest.raises(BadInput, match=said):
            take(company, labels=labels)

        assert company.kinds(None) == []
        assert company.world.service.reports.incidents() == []

    def test_another_runbook_may_still_take_it(self, company_of):
        """
        One runbook that cannot use an alert does not keep it from the next.
        """
        strict = TRIGGER.replace("alert.labels.endpoint", "alert.labels.operation")
        company = company_of(text_of(CLOSE, "a-strict", strict), text_of(CLOSE, "b-good", TRIGGER))

        assert take(company).opened is True
        assert company.world.service.reports.runs()[0].runbook_id == "b-good"


class TestStartedByAPerson:
    def test_it_opens_an_incident_of_its_own(self, company):
        """
        A person who starts a runbook means a new incident.
        """
        run_id = company.start(IRIS, endpoint=ORDERS.key)

        assert run_id == "INC-1-R1"
        first = company.world.service.reports.records("INC-1")[0]
        assert (first.actor, first.body["alert"]) == (IRIS.actor, None)

    def test_or_joins_the_one_they_name(self, company):
        """
        A second runbook in a known incident.
        """
        take(company)
        wish = StartRun(
            runbook_id="book",
            inputs={"endpoint": LOGIN.key},
            origin=Origin(kind="person", actor=IRIS.actor),
            incident_id="INC-1",
        )

        started = company.world.service.incidents.start(wish)

        assert started.run.id == "INC-1-R2"
        assert len(company.world.service.reports.incidents()) == 1

    def test_an_alert_joins_what_a_person_opened(self, company):
        """
        Whoever was first, it is one trouble.
        """
        company.start(IRIS, endpoint=ORDERS.key)

        assert take(company).incident_id == "INC-1"
        assert runs(company) == ["INC-1-R1"]

    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            pytest.param({"runbook_id": "none"}, NotFound, id="unknown-runbook"),
            pytest.param({"incident_id": "INC-9"}, NotFound, id="unknown-incident"),
            pytest.param({"inputs": {}}, BadInput, id="missing-input"),
            pytest.param({"inputs": {"endpoint": "GET /x"}}, BadInput, id="unknown-endpoint"),
        ],
    )
    def test_what_does_not_fit_starts_nothing(self, company, changes, error):
        """
        Bad input: nothing was done.
        """
        fields = {
            "runbook_id": "book",
            "inputs": {"endpoint": ORDERS.key},
            "origin": Origin(kind="person", actor=IRIS.actor),
        }

        with pytest.raises(error):
            company.world.service.incidents.start(StartRun.model_validate(fields | changes))

        assert company.kinds(None) == []


class TestPinnedRunbook:
    def test_an_edit_of_the_file_changes_no_run_that_has_begun(self, company):
        """
        What was started is what is run, also after a restart with another file.
        """
        take(company)
        company.restart()
        company.texts = [text_of(WAIT, more=TRIGGER.replace("auto: [close]", "auto: []"))]

        company.world.service.people.answer(company.ask().token, SAM, {})

        assert company.state().status is RunStatus.DONE
        assert company.state().steps["reopen"].status.value == "done"


class TestAnIncidentThatNobodyWorksOn:
    """Every run of it has ended, and it has not recovered."""

    @pytest.fixture
    def abandoned(self, company) -> Company:
        """A person cancelled the run; the closing is still in force."""
        take(company)
        company.world.service.people.cancel("INC-1-R1", SAM)
        assert company.world.service.reports.runs()[0].status is RunStatus.CANCELLED
        return company

    def test_a_new_alert_starts_a_new_run_in_it(self, abandoned):
        """
        An alert is never swallowed by an incident whose runs have all ended.
        """
        taken = take(abandoned, fingerprint="another")

        assert (taken.opened, taken.incident_id, taken.run_id) == (False, "INC-1", "INC-1-R2")
        assert runs(abandoned) == ["INC-1-R1", "INC-1-R2"]

    def test_a_repeat_changes_nothing_while_the_endpoint_is_held(self, abandoned):
        """
        The known alert goes on firing, and what it asks for is in force.
        """
        assert take(abandoned).run_id is None
        assert runs(abandoned) == ["INC-1-R1"]

    def test_a_repeat_starts_a_run_once_nothing_is_in_force(self, abandoned):
        """
        It still fires and nothing protects the endpoint any more.
        """
        desk = abandoned.world.service.desk
        held = [c.id for c in desk.in_force("edge")]
        desk.lift(held, "slack:U0SAM")

        assert take(abandoned).run_id == "INC-1-R2"
