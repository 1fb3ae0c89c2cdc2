"""What people say to a run as a whole, or to a step of it: cancel, pause, resume, skip, retry."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bot.engine import StepStatus
from bot.language.runbook import Approval, Retry
from bot.model.commands import (
    ApplyStep,
    AskApproval,
    AskDecision,
    Finish,
    PlanStep,
    RunStep,
    UndoStep,
    VerifyStep,
    Wait,
)
from bot.model.incident import RunStatus
from tests.unit.engine.rehearsal import (
    ALERT,
    Rehearsal,
    book,
    change,
    manual,
    parallel,
    shared,
    step,
)

APPROVAL = Approval(groups=("oncall",))


class TestCancel:
    def test_what_is_under_way_is_brought_to_its_end(self):
        """
        A change is made and proven; then the run is over, and its changes stay.
        """
        run = Rehearsal(book(change("a"), step("b")))
        run.planned("a")
        run.cancelled(reason="A false alarm.")
        assert isinstance(run.last, ApplyStep)

        run.applied("a")
        assert isinstance(run.last, VerifyStep)
        run.verified("a")

        assert run.ended == (RunStatus.CANCELLED, "A false alarm.")
        assert run.status("a") is StepStatus.DONE
        assert run.status("b") is StepStatus.PENDING

    @pytest.mark.parametrize(
        "reach",
        [
            pytest.param(lambda run: run.asked("sure"), id="an-answer"),
            pytest.param(lambda run: run.answered("sure"), id="a-plan"),
            pytest.param(
                lambda run: (run.answered("sure"), run.planned("b"), run.asked("b")), id="a-yes"
            ),
            pytest.param(
                lambda run: (run.answered("sure"), run.failed("b", "plan")), id="a-decision"
            ),
        ],
    )
    def test_what_waits_is_stopped_and_a_plan_is_not_applied(self, reach):
        """
        A run can be cancelled anywhere; the rest never begins.
        """
        run = Rehearsal(book(manual("sure"), change("b", approval=APPROVAL), step("c")))
        reach(run)

        run.cancelled()
        if run.doing:
            run.planned("b")

        assert run.ended == (RunStatus.CANCELLED, "cancelled by slack:U1")
        assert StepStatus.STOPPED in (run.status("sure"), run.status("b"))
        assert run.status("c") is StepStatus.PENDING

    def test_with_undo_its_changes_are_taken_back(self):
        """
        The last one first, and the reason says so.
        """
        run = Rehearsal(book(change("a"), manual("sure")))
        run.changed("a")
        run.cancelled(undo=True)
        assert isinstance(run.last, UndoStep)

        run.undone("a")

        assert run.ended == (RunStatus.CANCELLED, "cancelled by slack:U1; taken back: a")

    def test_undo_may_be_asked_with_a_second_one(self):
        """
        The first reason stays.
        """
        run = Rehearsal(book(change("a"), step("b"), always=(step("tidy"),)))
        run.changed("a")
        run.cancelled(reason="Enough.")
        run.applied("b")
        assert run.doing == ["tidy"]
        run.cancelled(reason="All of it.", undo=True)

        run.undone("a")
        run.applied("tidy")

        assert run.ended == (RunStatus.CANCELLED, "Enough.; taken back: a")


class TestPause:
    def test_what_is_under_way_is_finished_and_nothing_more_begins(self):
        """
        The next command of the step waits, and so does the next step.
        """
        run = Rehearsal(book(parallel(change("a"), (step("b"), step("c")))))
        run.planned("a")
        run.paused()
        assert run.doing == ["a", "b"]

        run.applied("b")
        assert run.doing == ["a"]
        assert run.status("c") is StepStatus.PENDING
        run.applied("a")

        assert run.commands == (Wait(),)
        run.resumed()
        assert [type(each) for each in run.commands] == [VerifyStep, RunStep]

    def test_a_run_whose_last_step_is_done_ends_when_it_is_resumed(self):
        """
        A held run does not end by itself.
        """
        run = Rehearsal(book(step("a")))
        run.paused()
        run.applied("a")
        assert run.commands == (Wait(),)

        assert isinstance(run.resumed(), Finish)

    def test_timers_are_held(self):
        """
        Nothing is given up, tried again or reminded of, and the deadline does not pass.
        """
        run = Rehearsal(book(manual("sure", timeout_s=60.0, remind_s=9.0), deadline_s=70.0))
        run.asked("sure")
        run.paused()
        before = run.state

        assert run.timer(hours=1) == Wait()
        assert run.state == before

    def test_what_people_say_counts_and_is_acted_on_when_it_is_resumed(self):
        """
        A yes is a yes.
        """
        run = Rehearsal(book(change("a", approval=APPROVAL)))
        run.planned("a")
        run.asked("a")
        run.paused()

        assert run.approved("a", "slack:U1") == Wait()
        assert isinstance(run.resumed(), ApplyStep)

    def test_a_second_one_and_a_resume_of_what_goes_on_change_nothing(self):
        """
        Two people may press the same button.
        """
        run = Rehearsal(book(step("a")))
        before = run.state
        run.resumed()
        assert run.state == before
        run.paused("slack:U1")
        before = run.state

        run.paused("slack:U2")

        assert run.state == before
        assert run.state.paused_by == "slack:U1"

    def test_questions_are_asked_after_it(self):
        """
        A decision that came to be needed meanwhile is not put before people yet.
        """
        run = Rehearsal(book(step("a")))
        run.paused()
        assert run.failed("a") == Wait()

        assert isinstance(run.resumed(), AskDecision)

    def test_a_yes_to_what_needs_none_any_more_changes_nothing(self):
        """
        Somebody else stood behind the run meanwhile.
        """
        run = Rehearsal(book(parallel(change("a"), change("b"))), origin=ALERT)
        run.planned("a")
        run.planned("b")
        run.paused()
        run.approved("a", "slack:U1")
        before = run.state

        run.approved("b", "slack:U2")

        assert run.state == before
        run.resumed()
        assert [type(each) for each in run.commands] == [ApplyStep, ApplyStep]

    @pytest.mark.parametrize(
        ("reach", "status"),
        [
            pytest.param(lambda run: run.approved("a", "slack:U1"), "stopped", id="a-yes"),
            pytest.param(
                lambda run: (
                    (run.resumed(), run.approved("a", "slack:U1"))
                    and (run.failed("a", "apply"), run.paused(), run.decided("a", "retry"))
                ),
                "failed",
                id="a-retry",
            ),
        ],
    )
    def test_a_cancel_lets_go_what_was_never_given_out(self, reach, status):
        """
        Nothing begins because a held run ends.
        """
        run = Rehearsal(book(change("a", approval=APPROVAL)))
        run.planned("a")
        run.paused()
        reach(run)
        assert run.commands == (Wait(),)

        command = run.cancelled()

        assert command == Finish(status=RunStatus.CANCELLED, reason="cancelled by slack:U1")
        assert run.status("a") is StepStatus(status)
        assert run.state.applied == (() if status == "stopped" else ("a",))

    def test_a_plan_that_came_while_it_was_held_is_not_applied_after_an_undo(self):
        """
        The way back leads past it.
        """
        run = Rehearsal(book(change("a"), change("b")))
        run.changed("a")
        run.paused()
        run.planned("b")

        run.undo_asked()

        assert run.doing == ["a"]
        assert run.state.applied == ("a",)

    def test_a_plan_that_was_never_asked_for_is_let_go_too(self):
        """
        Its step had failed, and a person had it tried again while the run was held.
        """
        run = Rehearsal(book(change("a")))
        run.failed("a", "plan")
        run.paused()
        run.decided("a", "retry")
        assert run.commands == (Wait(),)

        assert isinstance(run.cancelled(), Finish)
        assert run.status("a") is StepStatus.FAILED

    def test_a_step_that_was_begun_before_is_finished(self):
        """
        It is under way, held or not.
        """
        run = Rehearsal(book(change("a")))
        run.paused()
        run.cancelled()
        assert isinstance(run.last, PlanStep)

        assert isinstance(run.planned("a"), Finish)

    @pytest.mark.parametrize("where", ["steps", "always"])
    def test_a_branch_that_was_decided_meanwhile_begins_nothing(self, where):
        """
        A word that comes after the other branch won is late, though the run was held.
        """
        both = parallel(step("a"), change("b", approval=APPROVAL), join="any")
        run = Rehearsal(book(both) if where == "steps" else book(always=(both,)))
        run.planned("b")
        run.asked("b")
        run.paused()
        run.applied("a")

        run.approved("b", "slack:U1")

        assert run.status("b") is StepStatus.STOPPED
        assert isinstance(run.resumed(), Finish)

    def test_a_failure_that_ends_the_run_while_it_is_held_lets_all_others_go(self):
        """
        Also what had a yes already; then the way back waits for the resume.
        """
        done = change("done")
        both = parallel(step("a", on_failure="undo"), change("b", approval=APPROVAL), manual("c"))
        run = Rehearsal(book(done, both))
        run.changed("done")
        run.planned("b")
        run.paused()
        run.approved("b", "slack:U1")
        run.failed("a", error="refused")
        assert run.commands == (Wait(),)
        assert run.status("b") is StepStatus.STOPPED
        assert run.status("c") is StepStatus.STOPPED

        run.resumed()

        assert run.doing == ["done"]

    def test_a_group_that_fails_while_it_is_held_does_too(self):
        """
        Its policy is followed at once.
        """
        inner = parallel(step("a", on_failure="stop"), id_="inner", on_failure="undo")
        run = Rehearsal(book(parallel(inner, manual("sure"))))
        run.paused()
        run.failed("a", error="refused")
        assert run.status("sure") is StepStatus.STOPPED

        run.resumed()

        assert run.state.status is RunStatus.FAILED

    def test_a_group_whose_steps_are_all_let_go_is_over_at_once(self):
        """
        Not only when something else comes.
        """
        run = Rehearsal(book(parallel(step("a"), step("b"), id_="both")))
        run.failed("a", error="refused")
        run.failed("b", error="refused")
        run.paused()
        run.decided("a", "retry")

        run.decided("b", "stop")

        assert run.status("a") is StepStatus.FAILED
        assert run.status("both") is StepStatus.STOPPED

    def test_an_undo_under_way_is_finished_and_the_next_waits(self):
        """
        The way back can be held too.
        """
        run = Rehearsal(book(change("a"), change("b")))
        run.changed("a")
        run.changed("b")
        run.undo_asked()
        run.paused()
        run.undone("b")
        assert run.commands == (Wait(),)

        run.resumed()

        assert run.doing == ["a"]

    def test_plans_for_a_card_go_on_if_they_were_under_way(self):
        """
        But no new ones are asked for.
        """
        card = shared()
        run = Rehearsal(book(*(change(id_, approval=card) for id_ in ("a", "b"))))
        run.planned("a")
        run.paused()
        assert run.doing == ["b"]
        run.planned("b")
        assert run.commands == (Wait(),)

        assert isinstance(run.resumed(), AskApproval)


class TestSkip:
    @pytest.mark.parametrize(
        ("made", "reach"),
        [
            pytest.param(manual("b"), lambda run: run.applied("a"), id="asked"),
            pytest.param(step("b"), lambda run: None, id="not-begun"),
            pytest.param(
                change("b", approval=APPROVAL),
                lambda run: (run.applied("a"), run.planned("b")),
                id="waiting-for-a-yes",
            ),
        ],
    )
    def test_a_step_that_has_not_begun_or_waits_is_passed_over(self, made, reach):
        """
        The run goes on, and is not said to have failed.
        """
        run = Rehearsal(book(step("a"), made, step("c")))
        reach(run)

        run.skipped("b", reason="Done by hand.")

        if run.status("a") is not StepStatus.DONE:
            run.applied("a")
        assert run.doing == ["c"]
        assert run.at("b").note == "skipped by slack:U1: Done by hand."
        run.applied("c")
        assert run.ended == (RunStatus.DONE, "")

    @pytest.mark.parametrize("retry", [Retry(1), Retry(2)])
    def test_one_that_failed_stays_failed(self, retry):
        """
        The run goes on, but nobody is told that all was well.
        """
        run = Rehearsal(book(step("a", retry=retry), step("b")))
        run.failed("a")

        run.skipped("a")
        assert run.doing == ["b"]
        assert run.at("a").note == "skipped by slack:U1"
        run.applied("b")

        assert run.ended == (RunStatus.FAILED, "went through all steps, but failed: a")

    def test_one_that_is_under_way_or_over_is_not(self):
        """
        It is too late.
        """
        run = Rehearsal(book(step("a"), step("b")))
        run.applied("a")
        before = run.state

        run.skipped("a")
        run.skipped("b")

        assert run.state == before


class TestRetry:
    def test_one_that_waits_for_its_next_attempt_is_tried_now(self):
        """
        Its attempts begin anew.
        """
        run = Rehearsal(book(step("a", retry=Retry(3, delay_s=60.0))))
        run.failed("a")

        command = run.retried("a")

        assert command == RunStep(step="a", action="logs.look", params={}, attempt=1)

    def test_one_that_waits_for_a_decision_is_decided_by_it(self):
        """
        It is the same word.
        """
        run = Rehearsal(book(step("a")))
        run.failed("a")

        assert isinstance(run.retried("a"), RunStep)

    def test_one_that_was_passed_over_is_tried_beside_what_goes_on(self):
        """
        What follows does not begin before it is over.
        """
        run = Rehearsal(book(step("a", on_failure="continue"), step("b"), step("c")))
        run.failed("a", error="refused")

        run.retried("a")
        assert run.doing == ["a", "b"]
        run.applied("b")
        assert run.doing == ["a"]
        run.applied("a")
        run.applied("c")

        assert run.ended == (RunStatus.DONE, "")

    def test_an_owners_word_stands_behind_the_run(self):
        """
        As their decision does (policy, rule 3).
        """
        run = Rehearsal(book(step("a"), change("b")), origin=ALERT)
        run.failed("a")
        run.retried("a", "slack:U1", "oncall")
        run.applied("a")

        assert isinstance(run.planned("b"), ApplyStep)

    @pytest.mark.parametrize("key", ["a", "b", "both", "c", "sure"])
    def test_what_has_not_failed_is_not(self, key):
        """
        A step that is done, under way, not begun or asked about; and a group has no command.
        """
        both = parallel((step("b"), step("c")), manual("sure"))
        run = Rehearsal(book(step("a"), both))
        run.applied("a")
        before = run.state

        run.retried(key)

        assert run.state == before

    def test_once_the_run_comes_to_its_end_it_is_too_late(self):
        """
        Nothing more begins.
        """
        run = Rehearsal(book(step("a", on_failure="continue"), step("b")))
        run.failed("a", error="refused")
        run.cancelled()
        before = run.state

        run.retried("a")

        assert run.state == before

    def test_approvals_hold_over_it(self):
        """
        The plan is the same.
        """
        run = Rehearsal(book(change("a", approval=APPROVAL)))
        run.planned("a")
        run.approved("a", "slack:U1")
        run.failed("a", "apply", "refused")

        command = run.retried("a", "slack:U9")

        assert isinstance(command, ApplyStep)
        assert command.actor == "slack:U1"


def test_a_wait_tells_the_nearest_moment():
    """
    Of all that is waited for, beside what is under way.
    """
    both = parallel(manual("a", timeout_s=60.0), manual("b", timeout_s=30.0), step("c"))
    run = Rehearsal(book(both))
    run.asked("a")

    run.asked("b")

    assert isinstance(run.of("c"), RunStep)
    assert run.last == Wait(until=run.at("b").deadline)
    assert run.at("b").deadline < run.at("a").deadline - timedelta(seconds=29)
