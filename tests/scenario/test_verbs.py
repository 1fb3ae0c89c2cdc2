"""Each verb of a person, on a real journal from its beginning to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.engine import StepStatus
from bot.errors import (
    Ambiguous,
    BadInput,
    NotAllowed,
    ProviderRefused,
    ProviderUnreachable,
    Refused,
    TimedOut,
)
from bot.model.incident import RunStatus
from bot.model.journal import verify_chain
from bot.sandbox.slack_standin.blockkit import message_findings
from bot.slack import blocks
from tests.scenario.company import (
    CLOSE,
    IRIS,
    ORDERS,
    SAM,
    STRANGER,
    TARIQ,
    Company,
    text_of,
)

ENDPOINT = "inputs:\n  endpoint: {type: endpoint}\n"
RUN = "INC-1-R1"


def step(id_: str, key: str = "", more: str = "") -> str:
    """Return the text of a step that sets a value."""
    with_ = f"{{key: {key or id_}, value: new}}"
    return f"\n- id: {id_}\n  uses: acme.set\n  with: {with_}\n{more}"


APPROVED = "  approval: {from: [security], required: 1, break_glass: oncall}\n"


@pytest.fixture
def company_of(tmp_path: Path) -> Iterator[Callable[..., Company]]:
    made: list[Company] = []

    def make(*texts: str, **fields: Any) -> Company:
        made.append(Company(tmp_path, list(texts), **fields))
        return made[-1]

    yield make
    for company in made:
        verify_chain(company.world.service.reports.records())
        company.restart()


def during(company: Company, call: str, say: Callable[[], Any]) -> None:
    """Have something said while a call is under way, once."""
    said: list[Any] = []

    def hear(what: str) -> None:
        if what == call and not said:
            said.append(None)
            say()

    company.outside.on_call = hear


class TestPause:
    def test_a_change_under_way_is_brought_to_its_end_and_nothing_more_begins(self, company_of):
        """
        Pause in the middle: what was begun is applied and proven, the next step waits until resume.
        """
        company = company_of(text_of(step("a") + step("b")))
        people = company.world.service.people
        during(company, "set.apply", lambda: people.pause(RUN, TARIQ, "lunch"))
        company.start(IRIS)

        assert company.outside.effects == ["a=new"]
        assert company.state().paused_by == TARIQ.actor
        assert company.state().step("b").status is StepStatus.PENDING
        with pytest.raises(Refused, match=r"paused already, by slack:U0TARIQ"):
            people.pause(RUN, SAM)
        company.restart()
        company.resume()
        assert company.outside.effects == ["a=new"]
        company.world.service.people.resume(RUN, SAM)
        assert company.outside.effects == ["a=new", "b=new"]
        assert company.state().status is RunStatus.DONE
        assert company.kinds().count("paused") == company.kinds().count("resumed") == 1

    def test_an_answer_that_comes_during_a_pause_counts_after_it(self, company_of):
        """
        People need not repeat themselves.
        """
        company = company_of(text_of(step("a", more=APPROVED)))
        company.start(IRIS)
        token = company.ask().token
        people = company.world.service.people
        people.pause(RUN, IRIS)
        people.approve(token, SAM)

        assert company.outside.effects == []
        people.resume(RUN, IRIS)
        assert company.outside.effects == ["a=new"]

    @pytest.mark.parametrize(
        ("words", "heard"),
        [
            pytest.param("pp", ["paused"], id="two-clicks"),
            pytest.param("prp", ["paused", "resumed", "paused"], id="the-last-word-counts"),
            pytest.param("prppr", ["paused", "resumed", "paused", "resumed"], id="and-its-clicks"),
            pytest.param("prprr", ["paused", "resumed"] * 2, id="and-those-of-another-word"),
        ],
    )
    def test_what_is_said_before_the_run_hears_it_counts_in_its_order(
        self, company_of, words, heard
    ):
        """
        Whoever hears yes is obeyed: a word is a repeat only if nothing else was said since.
        """
        company = company_of(text_of(step("a", more=APPROVED)))
        company.start(IRIS)
        people = company.world.service.people
        wake, company.world.runner.wake = company.world.runner.wake, lambda _run_id: None
        for word in words:
            (people.pause if word == "p" else people.resume)(RUN, TARIQ)
        company.world.runner.wake = wake
        company.resume()

        assert [kind for kind in company.kinds() if kind in ("paused", "resumed")] == heard
        assert (company.state().paused is not None) is (heard[-1] == "paused")

    def test_what_is_not_paused_is_not_resumed(self, company_of):
        """
        And nothing is written of it.
        """
        company = company_of(text_of(step("a", more=APPROVED)))
        company.start(IRIS)

        with pytest.raises(Refused, match="is not paused"):
            company.world.service.people.resume(RUN, SAM)
        assert "resumed" not in company.kinds()


class TestSkip:
    def test_a_waiting_step_is_passed_over(self, company_of):
        """
        Its question is closed with who skipped it and why, and the run goes on.
        """
        company = company_of(text_of(step("a", more=APPROVED) + step("b")))
        company.start(IRIS)
        company.world.service.people.skip(RUN, "a", IRIS, "not\nneeded")
        company.world.send()

        assert company.outside.effects == ["b=new"]
        assert company.state().step("a").note == "skipped by slack:U0IRIS: not needed"
        (card,) = company.chat.titled("approve a?")
        assert (card.buttons, card.context) == ((), "skipped by slack:U0IRIS: not needed")
        assert company.state().status is RunStatus.DONE

    def test_a_step_that_has_not_begun_is_passed_over_when_its_turn_comes(self, company_of):
        """
        It may be said in advance.
        """
        company = company_of(text_of(step("a", more=APPROVED) + step("b") + step("c")))
        company.start(IRIS)
        company.world.service.people.skip(RUN, "b", IRIS)
        company.world.service.people.approve(company.ask().token, SAM)

        assert company.outside.effects == ["a=new", "c=new"]

    def test_a_skip_that_was_refused_never_counts_later(self, company_of):
        """
        Whoever hears that a step cannot be skipped is not obeyed once it could be.
        """
        company = company_of(text_of(step("a")))
        heard: list[Exception] = []
        company.outside.fail["set.apply"] = [ProviderRefused("No.")]

        def skip() -> None:
            with pytest.raises(Refused, match="is running, so it cannot be skipped") as error:
                company.world.service.people.skip(RUN, "a", SAM)
            heard.append(error.value)

        during(company, "set.apply", skip)
        company.start(IRIS)

        assert heard
        assert company.state().step("a").status is StepStatus.AWAITING_DECISION
        assert "skipped" not in company.kinds()


class TestRetry:
    def test_a_step_that_waits_for_its_next_attempt_is_tried_now(self, company_of):
        """
        Whoever has mended the cause does not wait for the clock.
        """
        retry = "  retry: {attempts: 3, delay: 10m, on: [unreachable]}\n"
        company = company_of(text_of(step("a", more=retry)))
        company.outside.fail["set.apply"] = [ProviderUnreachable("Down.")]
        company.start(IRIS)

        assert company.state().step("a").status is StepStatus.AWAITING_RETRY
        company.world.service.people.retry(RUN, "a", SAM)
        assert company.state().status is RunStatus.DONE

    def test_a_failure_that_was_passed_over_is_tried_again_while_the_run_lives(self, company_of):
        """
        `on_failure: continue` is not the last word.
        """
        company = company_of(
            text_of(step("a", more="  on_failure: continue\n") + step("b", more=APPROVED))
        )
        company.outside.fail["set.apply"] = [ProviderRefused("No.")]
        company.start(IRIS)
        assert company.state().step("a").status is StepStatus.FAILED
        company.world.service.people.retry(RUN, "a", SAM)

        assert company.state().step("a").status is StepStatus.DONE
        assert company.outside.effects == ["a=new"]

    def test_what_has_not_failed_is_not_tried_again(self, company_of):
        """
        And the way to do it all again is named.
        """
        company = company_of(text_of(step("a") + step("b", more=APPROVED)))
        company.start(IRIS)

        with pytest.raises(Refused, match=r"has not failed.*firedoor rerun INC-1-R1"):
            company.world.service.people.retry(RUN, "a", SAM)


class TestCancel:
    @pytest.mark.parametrize(
        ("undo", "values"), [(False, {"a": "new", "b": "new"}), (True, {"a": None, "b": None})]
    )
    def test_changes_stay_or_are_taken_back(self, company_of, undo, values):
        """
        Whoever cancels says which; `always` runs in both cases.
        """
        always = "always:\n  - id: told\n    uses: acme.tell\n    with: {text: over}\n"
        steps = step("a") + step("b") + step("c", more=APPROVED)
        company = company_of(text_of(steps) + always)
        company.start(IRIS)
        said = company.world.service.people.cancel(RUN, TARIQ, "a drill", undo=undo)

        assert ("taken back" in said) is undo
        assert company.outside.values == values
        assert company.state().status is RunStatus.CANCELLED
        assert company.state().step("told").status is StepStatus.DONE
        assert company.open_asks() == []

    def test_a_wish_to_undo_is_heard_beside_a_cancel_said_a_moment_before(self, company_of):
        """
        The same person says it twice before the run has heard either, the second time with more.
        """
        always = 'always:\n  - id: why\n    manual: {ask: "Why?"}\n'
        company = company_of(text_of(step("a") + step("b", more=APPROVED)) + always)
        company.start(IRIS)
        people = company.world.service.people
        wake, company.world.runner.wake = company.world.runner.wake, lambda _run_id: None
        people.cancel(RUN, TARIQ)
        people.cancel(RUN, TARIQ, undo=True)
        company.world.runner.wake = wake
        company.resume()

        assert company.outside.effects == ["a=new", "a=None"]
        assert company.state().status is RunStatus.CANCELLED

    def test_said_again_it_waits_for_nobody_any_more(self, company_of):
        """
        A question in `always` does not hold a run that somebody wants to be over.
        """
        always = 'always:\n  - id: why\n    manual: {ask: "Why?"}\n'
        company = company_of(text_of(step("a") + step("b", more=APPROVED)) + always)
        company.start(IRIS)
        people = company.world.service.people
        people.cancel(RUN, TARIQ)
        assert company.state().step("why").status is StepStatus.AWAITING_ANSWER
        said = people.cancel(RUN, TARIQ)

        assert said == "INC-1-R1 comes to its end already; nobody is waited for any more."
        assert company.state().status is RunStatus.CANCELLED
        assert company.outside.values == {"a": "new"}

    @pytest.mark.parametrize("undo", [False, True])
    def test_after_the_end_its_person_hears_how_to_undo(self, company_of, undo):
        """
        The run ended a moment before: nothing is taken back, and what would do it is named.
        """
        company = company_of(text_of(step("a")))
        company.start(IRIS)
        with pytest.raises(Refused, match=r"is over \(done\); nothing was done") as refused:
            company.world.service.people.cancel(RUN, TARIQ, undo=undo)

        assert ("`firedoor undo INC-1-R1`" in str(refused.value)) is undo
        assert company.outside.values == {"a": "new"}


class TestUndo:
    def test_a_finished_run_is_taken_back_the_last_change_first(self, company_of):
        """
        Weeks later, too: the run lives again for it, and ends undone.
        """
        company = company_of(text_of(step("a") + step("b")))
        company.start(IRIS)
        assert company.state().status is RunStatus.DONE
        said = company.world.service.people.undo(RUN, SAM, "a false alarm")

        assert said == "The changes of INC-1-R1 are being taken back: b, a."
        assert company.outside.effects == ["a=new", "b=new", "b=None", "a=None"]
        assert company.state().status is RunStatus.UNDONE
        with pytest.raises(Refused, match="no change that could be taken back"):
            company.world.service.people.undo(RUN, SAM)

    def test_a_change_that_somebody_else_has_changed_since_is_left(self, company_of):
        """
        A person decides; the run does not end as if all were as before.
        """
        company = company_of(text_of(step("a")))
        company.start(IRIS)
        company.outside.values["a"] = "theirs"
        people = company.world.service.people
        people.undo(RUN, SAM)

        assert company.state().step("a").status is StepStatus.AWAITING_DECISION
        people.decide(company.ask().token, SAM, "skip")
        assert company.state().status is RunStatus.FAILED
        assert company.state().reason.endswith("taken back: nothing; not taken back: a")
        assert company.outside.values["a"] == "theirs"


class TestRerun:
    def test_outcomes_before_the_step_are_kept_and_its_containment_is_its_own(self, company_of):
        """
        Nothing before the step is done again; what it holds in force is held anew by the new run.
        """
        look = "\n- id: look\n  uses: acme.look\n  with: {key: door}\n"
        company = company_of(text_of(look + CLOSE + step("b", more=APPROVED), more=ENDPOINT))
        company.outside.values["door"] = "ajar"
        company.start(IRIS, endpoint=ORDERS.key)
        service = company.world.service
        again = service.incidents.rerun(RUN, "close", TARIQ)

        assert again.id == "INC-1-R2"
        assert company.outside.calls.count("look.run") == 1
        assert company.state(again.id).step("look").facts["value"] == "ajar"
        assert company.state(again.id).rerun_of == RUN
        assert company.state().status is RunStatus.CANCELLED
        assert company.state().reason == "run again from close by slack:U0TARIQ"
        owners = {held.run_id: held.owner for held in service.reports.containments()}
        assert owners == {RUN: IRIS.actor, again.id: TARIQ.actor}

    def test_undoing_the_new_run_leaves_what_the_old_one_did(self, company_of):
        """
        A run takes back its own changes alone.
        """
        company = company_of(text_of(step("a") + step("b")))
        company.start(IRIS)
        company.outside.values["b"] = "old"
        again = company.world.service.incidents.rerun(RUN, "b", SAM)
        company.world.service.people.undo(again.id, SAM)

        assert company.outside.values == {"a": "new", "b": "old"}

    def test_two_clicks_begin_one_run(self, company_of):
        """
        The second hears which run it is.
        """
        company = company_of(text_of(step("a") + step("b", more=APPROVED)))
        company.start(IRIS)
        company.world.service.incidents.rerun(RUN, "b", IRIS)

        with pytest.raises(Refused, match="INC-1-R2 runs INC-1-R1 again just now"):
            company.world.service.incidents.rerun(RUN, "b", IRIS)

    @pytest.mark.parametrize("from_", ["a", "b"])
    @pytest.mark.parametrize(
        ("error", "retry"),
        [
            pytest.param(Ambiguous("No answer; it may be done."), "", id="asked"),
            pytest.param(
                TimedOut("Too long; it may go on."),
                "  retry: {attempts: 3, delay: 10m, on: [timeout]}\n",
                id="tried-again-later",
            ),
        ],
    )
    def test_not_while_an_effect_may_still_be_under_way(self, company_of, from_, error, retry):
        """
        What ended without an answer may still come to pass, in the middle of the new run.
        """
        company = company_of(text_of(step("a", more=retry) + step("b")))
        company.outside.fail["set.apply"] = [error]
        company.start(IRIS)
        incidents = company.world.service.incidents

        with pytest.raises(Refused, match=r"may still be under way.*Decide about a first"):
            incidents.rerun(RUN, from_, SAM)
        assert company.state().status is RunStatus.RUNNING
        company.world.service.people.skip(RUN, "a", SAM)
        assert incidents.rerun(RUN, from_, SAM).id == "INC-1-R2"

    def test_what_was_plainly_refused_holds_no_rerun(self, company_of):
        """
        Nothing of it is under way.
        """
        company = company_of(text_of(step("a", more="  on_failure: ask\n")))
        company.outside.fail["set.apply"] = [ProviderRefused("No. Look at it.")]
        company.start(IRIS)

        assert company.world.service.incidents.rerun(RUN, "a", SAM).id == "INC-1-R2"

    @pytest.mark.parametrize(
        ("person", "from_", "error"),
        [(STRANGER, "b", NotAllowed), (SAM, "nowhere", BadInput)],
    )
    def test_not_by_everybody_and_not_from_anywhere(self, company_of, person, from_, error):
        """
        The old run goes on as it was.
        """
        company = company_of(text_of(step("a") + step("b", more=APPROVED)))
        company.start(IRIS)

        with pytest.raises(error):
            company.world.service.incidents.rerun(RUN, from_, person)
        assert company.state().status is RunStatus.RUNNING


class TestBreakGlass:
    @pytest.fixture
    def company(self, company_of) -> Company:
        company = company_of(
            text_of(step("a", more=APPROVED)), announce_in="#incidents", secrets=["hunter2-token"]
        )
        company.start(SAM)
        company.world.send()
        return company

    def test_it_is_announced_in_both_channels_and_reviewed_by_somebody_else(self, company):
        """
        Also who started the run may do it; what they may not is look away from it afterwards.
        """
        people = company.world.service.people
        token = company.ask().token
        people.override(token, SAM, "nobody\nanswers")
        company.world.send()

        assert company.outside.effects == ["a=new"]
        told = company.chat.titled("glass broken at a")
        assert [card.paragraphs[1] for card in told] == ["Reason: nobody answers"] * 2
        channels = [
            ref.channel
            for ref, card in company.chat.messages.items()
            if "glass broken" in card.title
        ]
        assert "#incidents" in channels
        assert len(set(channels)) == 2
        review = people.review_of_step(RUN, "a")
        with pytest.raises(NotAllowed, match="cannot review it"):
            people.review(review.token, SAM, "fine")
        with pytest.raises(NotAllowed, match="is for security"):
            people.review(review.token, IRIS, "fine")
        with pytest.raises(BadInput, match="needs a finding"):
            people.review(review.token, TARIQ, " \u200b\n")
        people.review(review.token, TARIQ, "It was right; rotate hunter2-token.")
        company.world.send()

        assert "hunter2-token" not in str(company.world.service.reports.records())
        with pytest.raises(Refused, match=r"Reviewed by slack:U0TARIQ"):
            people.review(review.token, TARIQ, "again")
        closed = [card for card in company.chat.titled("glass broken") if not card.buttons]
        assert any("It was right" in card.context for card in closed)

    def test_the_run_card_does_not_say_that_it_was_approved(self, company):
        """
        It says who broke the glass and why.
        """
        company.world.service.people.override(company.ask().token, SAM, "nobody answers")
        company.world.send()

        (line,) = [
            line
            for card in company.chat.messages.values()
            for line in card.code.splitlines()
            if "✓ a" in line
        ]
        assert "glass broken by slack:U0SAM: nobody answers" in line
        assert "approved" not in line

    @pytest.mark.parametrize(
        ("person", "reason", "error"),
        [
            pytest.param(TARIQ, "now", NotAllowed, id="another-group"),
            pytest.param(STRANGER, "now", NotAllowed, id="no-group"),
            pytest.param(SAM, "  ", BadInput, id="no-reason"),
            pytest.param(SAM, "\u200b\u202e", BadInput, id="an-invisible-reason"),
        ],
    )
    def test_who_may_not_or_does_not_say_why_changes_nothing(self, company, person, reason, error):
        """
        The glass holds.
        """
        with pytest.raises(error):
            company.world.service.people.override(company.ask().token, person, reason)
        assert company.outside.effects == []
        assert "overridden" not in company.kinds()

    def test_two_people_break_it_once(self, company):
        """
        The second hears so, and one review is left.
        """
        token = company.ask().token
        wake, company.world.runner.wake = company.world.runner.wake, lambda _run_id: None
        people = company.world.service.people
        people.override(token, SAM, "now")
        with pytest.raises(Refused, match="a moment ago"):
            people.override(token, SAM, "now")
        company.world.runner.wake = wake
        company.resume()

        assert [ask.kind for ask in company.open_asks()] == ["review"]

    def test_a_review_is_no_question_of_the_run(self, company):
        """
        It outlives the run, and no other word closes it.
        """
        people = company.world.service.people
        people.override(company.ask().token, SAM, "now")
        review = people.review_of_step(RUN, "a")

        assert company.state().status is RunStatus.DONE
        with pytest.raises(BadInput):
            people.approve(review.token, TARIQ)
        assert "a broken glass waits for its review of security" in "\n".join(
            company.world.service.reports.status_lines()
        )

    def test_only_a_review_is_reviewed(self, company):
        """
        A finding about an open approval would close it unapproved.
        """
        with pytest.raises(BadInput, match="no review but an approval"):
            company.world.service.people.review(company.ask().token, TARIQ, "fine")


class TestReminders:
    def test_each_is_posted_once_and_overdue_is_said(self, company_of):
        """
        Whatever is restarted in between.
        """
        manual = """
- id: fixed
  manual: {ask: "Fixed?", assignee: oncall, remind: 10m, due: 25m, timeout: 2h}
"""
        company = company_of(text_of(manual))
        company.start(IRIS)
        for _minute in range(30):
            company.clock.advance(minutes=1)
            company.resume()
            company.world.send()
        company.restart()
        company.resume()
        company.world.send()

        assert len(company.chat.titled("fixed still needs an answer")) == 2
        (overdue,) = company.chat.titled("fixed is overdue")
        assert overdue.paragraphs == ("Fixed?", "Asked of oncall 25 min ago.")
        company.world.service.people.answer(company.ask().token, SAM, {})
        assert company.state().status is RunStatus.DONE

    def test_only_the_assignee_and_the_owners_answer(self, company_of):
        """
        The others hear whom to ask.
        """
        manual = '\n- id: fixed\n  manual: {ask: "Fixed?", assignee: commanders}\n'
        company = company_of(text_of(manual))
        company.start(SAM)

        with pytest.raises(NotAllowed, match="assigned to commanders"):
            company.world.service.people.answer(company.ask().token, TARIQ, {})
        company.world.service.people.answer(company.ask().token, IRIS, {})
        assert company.state().status is RunStatus.DONE


class TestSharedCards:
    def test_one_message_and_one_yes_for_two_steps(self, company_of):
        """
        Both plans stand on it, and both steps are named by either.
        """
        approvals = "approvals:\n  both: {from: [security]}\n"
        shared = "  approval: both\n"
        company = company_of(
            text_of(step("a", more=shared) + step("b", more=shared), more=approvals)
        )
        company.start(IRIS)
        company.world.send()

        (card,) = company.chat.titled("approve a, b?")
        assert "# a" in card.code
        assert "# b" in card.code
        people = company.world.service.people
        assert people.ask_of_step(RUN, "b") == people.ask_of_step(RUN, "a")
        people.approve(people.ask_of_step(RUN, "b").token, SAM)
        company.world.send()

        assert company.outside.effects == ["a=new", "b=new"]
        assert company.state().status is RunStatus.DONE
        assert len(company.chat.titled("approve")) == 1
        lines = company.world.service.reports.timeline_lines("INC-1")
        assert any(line.endswith("It was approved with a.") for line in lines)


class TestParallel:
    STEPS = """
- parallel:
  - id: a
    uses: acme.set
    with: {key: a, value: new}
    approval: {from: [security]}
  - id: b
    uses: acme.set
    with: {key: b, value: new}
    approval: {from: [security]}
"""

    @pytest.mark.parametrize("order", ["ab", "ba"])
    def test_two_approvals_are_asked_at_once_and_given_in_any_order(self, company_of, order):
        """
        Neither branch waits for the other's yes; without a step's name, both are named.
        """
        company = company_of(text_of(self.STEPS))
        company.start(IRIS)
        people = company.world.service.people

        with pytest.raises(BadInput, match=r"asks at 2 steps: a \(approval\), b \(approval\)"):
            people.ask_of_step(RUN, None, "approval")
        for name in order:
            people.approve(people.ask_of_step(RUN, name).token, SAM)
        assert company.outside.effects == [f"{name}=new" for name in order]
        assert company.state().status is RunStatus.DONE

    def test_a_kind_of_word_finds_its_kind_of_question(self, company_of):
        """
        Where one approval and one answer are asked, `approve` and `answer` need no step.
        """
        steps = self.STEPS.rpartition("  - id: b")[0] + '  - id: b\n    manual: {ask: "Now?"}\n'
        company = company_of(text_of(steps))
        company.start(IRIS)
        people = company.world.service.people

        assert people.ask_of_step(RUN, None, "approval").step_id == "a"
        assert people.ask_of_step(RUN, None, "answer").step_id == "b"
        with pytest.raises(BadInput, match="Name one: --step"):
            people.ask_of_step(RUN, None, "decision")


class TestWhatIsShown:
    def test_slack_takes_every_message_whatever_people_write(self, company_of):
        """
        Reasons, findings and questions of the worst kind, on cards for many steps.
        """
        nasty = "<!channel> <https://evil.example|x> ``` \u202e\n✓ forged (approved)\n & é " * 60
        shared = "  approval: both\n"
        approvals = "approvals:\n  both: {from: [security], break_glass: oncall}\n"
        steps = "".join(step(f"step-{n}", more=shared) for n in range(14))
        manual = """
- id: fixed
  manual: {ask: "Is <!here> it & fixed?", assignee: oncall, remind: 10m, due: 15m}
"""
        company = company_of(text_of(steps + manual, more=approvals), announce_in="#incidents")
        company.start(IRIS)
        company.world.send()
        people = company.world.service.people
        people.pause(RUN, IRIS, nasty)
        people.resume(RUN, IRIS)
        people.override(company.ask().token, SAM, nasty)
        people.review(people.review_of_step(RUN, "step-0").token, TARIQ, nasty)
        company.world.send()
        company.clock.advance(minutes=20)
        company.resume()
        people.skip(RUN, "fixed", SAM, nasty)
        company.world.send()

        assert company.state().status is RunStatus.DONE
        assert len(company.chat.messages) >= 6
        assert company.chat.titled("fixed is overdue")
        for message in company.chat.messages.values():
            assert message_findings(blocks.message_blocks(message)) == [], message.title
            assert "\n✓ forged" not in message.context
            assert not [each for each in message.code.splitlines() if "✓ forged" in each[:12]]
        (card,) = company.chat.titled("approve step-0, step-1")
        assert card.paragraphs[-1] == "… and 4 more, see below."
        told = company.world.service.reports.timeline_lines("INC-1")
        assert not [line for line in told if "\n" in line or "\u202e" in line]

    def test_a_loop_is_shown_by_what_waits_in_it(self, company_of):
        """
        Two hundred lines that are done help nobody; the one that waits stands out.
        """
        items = ", ".join(f'"k{n}"' for n in range(60))
        steps = (
            f"\n- id: each\n  foreach: [{items}]\n  as: it\n  steps:\n"
            '    - id: put\n      uses: acme.set\n      with: {key: "{{ it }}", value: new}\n'
            "    - id: asked\n      if: \"{{ it == 'k7' }}\"\n"
            '      manual: {ask: "Right?"}\n'
        )
        company = company_of(text_of(steps))
        company.start(IRIS)
        company.world.send()

        (card,) = [m for m in company.chat.messages.values() if "each" in m.code]
        assert card.code.splitlines() == [
            "… each  for each it  (running)",
            "    ? each.7.asked  a person's answer  (awaiting answer)",
        ]
        assert ("Run", f"{RUN}: waiting: each.7.asked (awaiting answer)") in card.facts

    def test_a_paused_run_says_so_on_its_card(self, company_of):
        """
        And by whom.
        """
        company = company_of(text_of(step("a", more=APPROVED)))
        company.start(IRIS)
        company.world.service.people.pause(RUN, SAM)
        company.world.send()

        assert any(
            ("Run", f"{RUN}: paused by {SAM.actor}") in card.facts
            for card in company.chat.messages.values()
        )
