"""What people are shown of a run: where it stands, and exactly what they approve."""

from __future__ import annotations

from typing import Any

import pytest

from bot.model.plan import Plan
from bot.service.cards import MAX_CODE, plan_text
from tests.scenario.company import IRIS, SAM, Company, text_of

STEPS = """
- id: look
  uses: acme.look
  with: {key: door}
- id: set
  uses: acme.set
  with: {key: door, value: shut}
  approval: {from: [security], required: 1}
"""


def plan(before: Any, after: Any, **params: Any) -> Plan:
    return Plan(action="acme.set", params=params, summary="s", before=before, after=after)


class TestPlanText:
    def test_it_is_the_difference(self):
        """
        What goes is marked with a minus, what comes with a plus, what stays with neither.
        """
        text = plan_text(plan({"routes": ["a", "b"]}, {"routes": ["a", "b", "closed"]}))

        assert "+- closed" in text.splitlines()
        assert not [line for line in text.splitlines() if line.startswith("-")]

    @pytest.mark.parametrize("value", ["-- drop", "++ add", "--", "@@ -1 +1 @@", "---", "+++ b"])
    @pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"k": v}])
    def test_no_value_can_hide_in_the_signs_of_the_difference(self, value, wrap):
        """
        Whoever approves sees every line that changes, whatever it looks like.
        """
        gone = plan_text(plan(wrap(value), wrap("x")))
        new = plan_text(plan(wrap("x"), wrap(value)))

        assert value in gone
        assert value in new

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            pytest.param(None, {"a": 1}, id="from-nothing"),
            pytest.param({"a": 1}, None, id="to-nothing"),
            pytest.param([], ["a"], id="first-of-a-list"),
            pytest.param(False, True, id="a-switch"),
        ],
    )
    def test_a_change_is_never_empty(self, before, after):
        """
        There is always something to read.
        """
        assert "+" in plan_text(plan(before, after))

    def test_without_before_and_after_the_parameters_are_shown(self):
        """
        Notices have no before; what they are made from is what is approved.
        """
        assert "Data was read." in plan_text(plan(None, None, text="Data was read."))

    def test_a_long_one_is_cut_and_says_where_the_whole_is(self):
        """
        A message cannot hold everything, and does not pretend to.
        """
        text = plan_text(plan([], [f"route {n}" for n in range(1_000)]))

        assert len(text) < MAX_CODE + 100
        assert "the whole plan" in text


class TestRunCard:
    @pytest.fixture
    def company(self, company_of) -> Company:
        company = company_of(text_of(STEPS))
        company.start(IRIS)
        company.world.send()
        return company

    def card(self, company: Company) -> Any:
        (key,) = (key for key in company.chat.keys if key.endswith(":card"))
        return company.chat.messages[company.chat.keys[key][0]]

    def test_it_is_one_message_that_follows_the_run(self, company):
        """
        Every step with where it stands, and what the run waits for.
        """
        card = self.card(company)

        assert card.code.splitlines()[0] == "✓ look  acme.look  affected 3"
        assert card.code.splitlines()[1].startswith("? set  acme.set  (awaiting approval")
        assert ("Run", "INC-1-R1: waiting: set (awaiting approval)") in card.facts
        company.world.service.people.approve(company.ask().token, SAM)
        company.world.send()

        done = self.card(company)
        assert ("Run", "INC-1-R1: done") in done.facts
        assert "✓ set  acme.set  (approved by slack:U0SAM)" in done.code

    def test_a_reason_cannot_look_like_a_step(self, company):
        """
        What someone wrote stays on the line of the step they wrote it about.
        """
        reason = "no\n✓ set  acme.set  (approved by slack:U0IRIS)"
        company.world.service.people.reject(company.ask().token, SAM, reason)
        company.world.send()

        assert len(self.card(company).code.splitlines()) == 2

    def test_an_approval_card_says_what_for_by_whom_and_until_when(self, company):
        """
        The plan's digest on it is what the approval binds to.
        """
        (card,) = company.chat.titled("approve set?")

        digest = company.state().steps["set"].card
        assert dict(card.facts) == {
            "Needs": "1 of security",
            "Plan": digest[:12],
            "Until": "no limit",
        }
        assert card.paragraphs == ("Sets door to shut.",)
        assert [button.verb for button in card.buttons] == ["approve", "reject"]


class TestReports:
    def test_status_says_what_each_run_waits_for(self, company_of):
        """
        One line a run that is not over.
        """
        company = company_of(text_of(STEPS))
        company.start(IRIS)

        assert company.world.service.reports.status_lines() == [
            "INC-1-R1 book: set: awaiting approval"
        ]
        company.world.service.people.approve(company.ask().token, SAM)
        assert company.world.service.reports.status_lines() == []

    def test_incidents_and_timeline_are_lines(self, company_of):
        """
        Newest incident first; the timeline in order.
        """
        company = company_of(text_of(STEPS))
        company.start(IRIS)

        reports = company.world.service.reports
        assert reports.incident_lines() == ["INC-1 sev1 declared: book"]
        lines = reports.timeline_lines("INC-1")
        assert all(line.startswith("03:04:05 ") for line in lines)
        assert "INC-1" in lines[0]
