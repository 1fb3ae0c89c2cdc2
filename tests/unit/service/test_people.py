"""What people may say about a run, and what they hear when it does not count."""

from __future__ import annotations

import pytest

from bot.engine import StepStatus
from bot.errors import BadInput, NotAllowed, NotFound, ProviderRefused, Refused
from bot.model.incident import RunStatus
from bot.service.people import Groups, Person
from tests.scenario.company import GROUPS, IRIS, SAM, STRANGER, TARIQ, Company, text_of

SET = """
- id: set
  uses: acme.set
  with: {key: door, value: shut}
  approval: {from: [security], required: 1, timeout: 15m}
"""
TWO = SET.replace("required: 1", "required: 2").replace("[security]", "[security, commanders]")
MANUAL = """
- id: fixed
  manual:
    ask: Is the check deployed?
    fields: {version: {type: string}, count: {type: integer, default: 1}}
    timeout: 1h
"""
LOOK = """
- id: look
  uses: acme.look
  with: {key: door}
"""


@pytest.fixture
def waiting(company_of) -> Company:
    """A run of Iris that waits for security."""
    company = company_of(text_of(SET))
    company.start(IRIS)
    return company


@pytest.fixture
def failed(company_of) -> Company:
    """A run whose step was refused, so that people are asked what to do."""
    company = company_of(text_of(LOOK))
    company.outside.fail["look.run"] = [ProviderRefused("No. Look at it.")]
    company.start(IRIS)
    return company


def recorded(company: Company) -> list[str]:
    return [kind for kind in company.kinds() if kind not in ("channel_opened", "message_sent")]


class TestApproving:
    @pytest.mark.parametrize("person", [SAM, TARIQ])
    def test_someone_of_the_group_may(self, waiting, person):
        """
        Their yes makes the change, and they hear that it counts.
        """
        said = waiting.world.service.people.approve(waiting.ask().token, person)

        assert said == "Your approval of set in INC-1-R1 is recorded."
        assert waiting.state().status is RunStatus.DONE
        assert waiting.state().steps["set"].approvals == (person.actor,)

    @pytest.mark.parametrize(
        ("person", "why"),
        [
            pytest.param(STRANGER, "needs security", id="in-no-group"),
            pytest.param(Person(actor="cli:root"), "needs security", id="from-another-door"),
            pytest.param(Person(actor="U0SAM"), "needs security", id="without-the-door"),
        ],
    )
    @pytest.mark.parametrize("verb", ["approve", "reject"])
    def test_others_may_not_and_hear_whom_to_ask(self, waiting, person, why, verb):
        """
        Nothing is recorded, and they are told who can.
        """
        before = recorded(waiting)
        with pytest.raises(NotAllowed, match=why) as caught:
            getattr(waiting.world.service.people, verb)(waiting.ask().token, person)

        assert "nothing was recorded" in str(caught.value)
        assert recorded(waiting) == before
        assert waiting.state().steps["set"].status is StepStatus.AWAITING_APPROVAL

    @pytest.mark.parametrize("verb", ["approve", "reject"])
    def test_who_started_the_run_may_not(self, company_of, verb):
        """
        Four eyes, even for someone in the group.
        """
        company = company_of(text_of(SET))
        company.start(SAM)

        with pytest.raises(NotAllowed, match="You started INC-1-R1"):
            getattr(company.world.service.people, verb)(company.ask().token, SAM)

    def test_two_people_are_two(self, company_of):
        """
        The card shows who has approved while it waits for the second.
        """
        company = company_of(text_of(TWO))
        company.start(IRIS)
        token = company.ask().token
        people = company.world.service.people

        people.approve(token, SAM)
        people.approve(token, SAM)
        company.world.send()

        assert company.state().steps["set"].approvals == (SAM.actor,)
        (card,) = company.chat.titled("approve set?")
        assert card.context == f"1 of 2 approved: {SAM.actor}"
        assert len(card.buttons) == 2
        people.approve(token, TARIQ)
        assert company.state().status is RunStatus.DONE

    def test_a_question_is_answered_once(self, waiting):
        """
        Who clicks on an old message hears how it ended.
        """
        token = waiting.ask().token
        waiting.world.service.people.approve(token, SAM)

        with pytest.raises(Refused, match=r"decided already: Approved by slack:U0SAM"):
            waiting.world.service.people.approve(token, TARIQ)

    def test_the_closed_card_has_no_buttons(self, waiting):
        """
        What was decided cannot be clicked again, and shows who decided.
        """
        waiting.world.service.people.approve(waiting.ask().token, SAM)
        waiting.world.send()

        (card,) = waiting.chat.titled("approve set?")
        assert (card.buttons, card.context) == ((), "Approved by slack:U0SAM.")

    def test_too_late_is_too_late(self, waiting):
        """
        After its time a question cannot be answered, even before the run has noticed.
        """
        token = waiting.ask().token
        waiting.clock.advance(minutes=15)

        with pytest.raises(Refused, match="time to answer this is over"):
            waiting.world.service.people.approve(token, SAM)

    def test_silence_closes_the_card(self, waiting):
        """
        And says so.
        """
        waiting.clock.advance(minutes=15)
        waiting.resume()
        waiting.world.send()

        (card,) = waiting.chat.titled("approve set?")
        assert (card.buttons, card.context) == ((), "nobody approved in time")
        assert waiting.state().status is RunStatus.STOPPED

    def test_a_rejection_keeps_its_reason(self, waiting):
        """
        In the journal, the state and the card.
        """
        waiting.world.service.people.reject(waiting.ask().token, SAM, "customers would notice")
        waiting.world.send()

        assert (
            waiting.state().steps["set"].note == "rejected by slack:U0SAM: customers would notice"
        )
        (card,) = waiting.chat.titled("approve set?")
        assert card.context == "Rejected by slack:U0SAM: customers would notice."
        assert waiting.outside.effects == []

    def test_a_forged_token_finds_nothing(self, waiting):
        """
        Tokens are opaque; guessing one is answered like any unknown one.
        """
        with pytest.raises(NotFound):
            waiting.world.service.people.approve("forged", SAM)

    def test_a_plan_that_drifted_is_asked_anew_with_another_token(self, waiting):
        """
        The old message's buttons do not approve the new plan.
        """
        old = waiting.ask().token
        waiting.outside.values["door"] = "ajar"
        waiting.world.service.people.approve(old, SAM)

        new = waiting.ask()
        assert new.token != old
        assert waiting.outside.effects == []
        with pytest.raises(Refused, match="decided already"):
            waiting.world.service.people.approve(old, TARIQ)
        waiting.world.service.people.approve(new.token, SAM)
        assert waiting.outside.effects == ["door=shut"]


class TestAnswering:
    @pytest.fixture
    def asked(self, company_of) -> Company:
        company = company_of(text_of(MANUAL))
        company.start(IRIS)
        return company

    def test_any_responder_may_answer(self, asked):
        """
        Values are typed, and defaults are filled in.
        """
        asked.world.service.people.answer(asked.ask().token, STRANGE_HOURS, {"version": "1.2"})

        assert asked.state().steps["fixed"].facts == {
            "version": "1.2",
            "count": 1,
            "answered_by": STRANGE_HOURS.actor,
        }

    def test_a_stranger_may_not(self, asked):
        """
        Only people in some group act.
        """
        with pytest.raises(NotAllowed, match="in no group"):
            asked.world.service.people.answer(asked.ask().token, STRANGER, {"version": "1"})

    def test_all_that_does_not_fit_is_said_at_once(self, asked):
        """
        Nothing is recorded until the answer is good.
        """
        with pytest.raises(BadInput) as caught:
            asked.world.service.people.answer(asked.ask().token, SAM, {"count": "many", "x": "1"})

        for name in ("version", "count", "x"):
            assert name in str(caught.value)
        assert "answered" not in asked.kinds()

    def test_the_second_answer_is_refused_even_before_the_run_took_the_first(self, asked):
        """
        Nobody is told that their answer counts when it does not.
        """
        token = asked.ask().token
        asked.world.runner.driver = None  # the run is busy elsewhere
        asked.world.service.people.answer(token, SAM, {"version": "1"})

        with pytest.raises(Refused, match="not recorded"):
            asked.world.service.people.answer(token, TARIQ, {"version": "2"})

    def test_the_form_has_the_declared_fields(self, asked):
        """
        A door can ask for exactly what the runbook declares.
        """
        fields = asked.world.service.fields_of(asked.ask())

        assert list(fields) == ["version", "count"]


STRANGE_HOURS = TARIQ


class TestDeciding:
    def test_what_is_offered_can_be_chosen(self, failed):
        """
        A retry that works brings the run to its end.
        """
        failed.world.service.people.decide(failed.ask().token, SAM, "retry")

        assert failed.state().status is RunStatus.DONE

    def test_what_is_not_offered_cannot(self, failed):
        """
        Nobody says of a READ that it did happen.
        """
        with pytest.raises(BadInput, match="offered: retry, skip, stop"):
            failed.world.service.people.decide(failed.ask().token, SAM, "done")

    def test_a_stranger_may_not(self, failed):
        """
        Only people in some group act.
        """
        with pytest.raises(NotAllowed):
            failed.world.service.people.decide(failed.ask().token, STRANGER, "retry")

    def test_the_second_decision_is_refused_even_before_the_run_took_the_first(self, failed):
        """
        Nobody is told that their decision counts when it does not.
        """
        token = failed.ask().token
        failed.world.runner.driver = None
        failed.world.service.people.decide(token, SAM, "stop")

        with pytest.raises(Refused, match="not recorded"):
            failed.world.service.people.decide(token, TARIQ, "retry")


class TestWrongKind:
    @pytest.mark.parametrize(
        "say",
        [
            pytest.param(lambda people, token: people.answer(token, SAM, {}), id="answer"),
            pytest.param(lambda people, token: people.decide(token, SAM, "retry"), id="decide"),
        ],
    )
    def test_an_approval_is_neither_answered_nor_decided(self, waiting, say):
        """
        Each question takes its own kind of word.
        """
        with pytest.raises(BadInput, match="approval"):
            say(waiting.world.service.people, waiting.ask().token)

    def test_a_decision_is_not_approved(self, failed):
        """
        A click that means something else changes nothing.
        """
        with pytest.raises(BadInput, match="decision"):
            failed.world.service.people.approve(failed.ask().token, SAM)


class TestCancelling:
    def test_a_waiting_run_ends(self, waiting):
        """
        Its question is closed, and the world is as it was.
        """
        waiting.world.service.people.cancel("INC-1-R1", SAM, "a false alarm")
        waiting.world.send()

        assert waiting.state().status is RunStatus.CANCELLED
        assert waiting.state().reason == "a false alarm"
        assert waiting.open_asks() == []
        assert waiting.outside.effects == []

    def test_a_running_one_ends_before_its_next_command(self, waiting):
        """
        What is under way is finished; nothing more begins.
        """
        waiting.outside.on_call = lambda what: (
            waiting.world.service.people.cancel("INC-1-R1", TARIQ) if what == "set.apply" else None
        )
        waiting.world.runner.wake = lambda _run_id: None
        waiting.world.service.people.approve(waiting.ask().token, SAM)
        del waiting.world.runner.wake
        waiting.resume()

        assert waiting.outside.calls[-1] == "set.verify"
        assert waiting.state().status is RunStatus.CANCELLED

    def test_what_is_over_cannot_be_cancelled(self, waiting):
        """
        And the person hears it.
        """
        waiting.world.service.people.cancel("INC-1-R1", SAM)

        with pytest.raises(Refused, match="is over"):
            waiting.world.service.people.cancel("INC-1-R1", SAM)

    @pytest.mark.parametrize(
        ("run_id", "person", "error"),
        [
            pytest.param("INC-1-R1", STRANGER, NotAllowed, id="a-stranger"),
            pytest.param("INC-9-R9", SAM, NotFound, id="an-unknown-run"),
        ],
    )
    def test_not_by_everybody_and_not_everything(self, waiting, run_id, person, error):
        """
        A stranger cannot stop a response to an incident.
        """
        with pytest.raises(error):
            waiting.world.service.people.cancel(run_id, person)


class TestFindingTheQuestion:
    def test_of_a_run_or_of_a_step(self, waiting):
        """
        Where only one thing is asked, nobody has to name the step.
        """
        people = waiting.world.service.people

        assert people.ask_of_step("INC-1-R1", None) == people.ask_of_step("INC-1-R1", "set")

    @pytest.mark.parametrize("step_id", ["other", None])
    def test_nothing_asked_is_said(self, waiting, step_id):
        """
        With where to look.
        """
        if step_id is None:
            waiting.world.service.people.cancel("INC-1-R1", SAM)

        with pytest.raises(NotFound, match="firedoor status"):
            waiting.world.service.people.ask_of_step("INC-1-R1", step_id)


class TestGroups:
    def test_members_without_a_prefix_are_slack_users(self):
        """
        Ids of one door are not those of another.
        """
        groups = Groups({"a": ["U1", "cli:sam"], "b": ["U1"]})

        assert groups.of("slack:U1") == ("a", "b")
        assert groups.of("cli:sam") == ("a",)
        assert groups.of("cli:U1") == ()
        assert groups.members(["a", "b", "none"]) == ("cli:sam", "slack:U1")

    def test_one_human_is_one_person_at_every_door(self):
        """
        Known by the Slack id, which can be mentioned; somebody else's id stays what it is.
        """
        people = {"sam": ["cli:sam", "U1"], "kim": ["cli:kim"]}
        groups = Groups({"a": ["cli:sam", "U1", "cli:kim"], "b": ["cli:sam"]}, people)

        assert groups.person("cli:sam").actor == groups.person("slack:U1").actor == "slack:U1"
        assert groups.person("cli:kim").actor == "cli:kim"
        assert groups.person("slack:U2").actor == "slack:U2"
        assert groups.members(["a", "b"]) == ("cli:kim", "slack:U1")
        assert groups.of(groups.person("cli:sam").actor) == ("a", "b")

    def test_the_companys_groups_are_known(self, waiting):
        """
        A responder is someone in a group.
        """
        waiting.world.service.check_known(SAM)
        with pytest.raises(NotAllowed):
            waiting.world.service.check_known(STRANGER)
        assert set(GROUPS) == {"oncall", "commanders", "security"}
