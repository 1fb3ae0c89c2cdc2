"""Parallel: branches go on side by side; ``join`` says when the group is done."""

from __future__ import annotations

import pytest

from bot.engine import StepStatus
from bot.language.runbook import Approval
from bot.model.commands import ApplyStep, Finish, PlanStep, RunStep, VerifyStep, Wait
from bot.model.incident import RunStatus
from tests.unit.engine.rehearsal import (
    Rehearsal,
    book,
    change,
    expression,
    manual,
    parallel,
    step,
)

NEVER = expression("1 > 2")


class TestJoinAll:
    def test_branches_go_on_side_by_side_and_each_in_order(self):
        """
        Every branch has its own command outstanding; what follows waits for the last one.
        """
        run = Rehearsal(book(parallel((step("a1"), step("a2")), step("b")), step("after")))
        assert run.doing == ["a1", "b"]

        run.applied("a1")
        assert run.doing == ["a2", "b"]
        run.applied("b")
        assert run.doing == ["a2"]
        run.applied("a2")

        assert run.doing == ["after"]
        assert run.status("both") is StepStatus.DONE

    def test_one_that_ends_does_not_end_the_others(self):
        """
        A failed branch is told of once all are over; nothing after the group begins.
        """
        run = Rehearsal(
            book(
                parallel((step("a", on_failure="stop"), step("never")), (step("b"), step("c"))),
                step("after"),
            )
        )

        run.failed("a", error="refused")
        assert run.doing == ["b"]
        run.applied("b")
        run.applied("c")

        status, reason = run.ended
        assert status is RunStatus.FAILED
        assert reason == ("step both failed: 1 of 2 branches did not work (a: It did not work.)")
        assert run.status("never") is StepStatus.PENDING
        assert run.status("after") is StepStatus.PENDING

    def test_continue_goes_on_after_a_broken_group(self):
        """
        ``on_failure: continue`` on the group: the next step begins, and the run ends as failed.
        """
        broken = parallel(step("a", on_failure="stop"), step("b"), on_failure="continue")
        run = Rehearsal(book(broken, step("after")))
        run.failed("a", error="refused")
        run.applied("b")
        assert run.doing == ["after"]

        run.applied("after")

        assert run.ended == (RunStatus.FAILED, "went through all steps, but failed: a")

    def test_a_question_in_one_branch_holds_no_other(self):
        """
        People take their time; machines need not.
        """
        run = Rehearsal(book(parallel(manual("sure"), (step("a"), step("b")))))
        assert run.doing == ["sure", "a"]
        run.asked("sure")
        run.applied("a")
        run.applied("b")
        assert run.commands == (Wait(),)

        assert isinstance(run.answered("sure"), Finish)

    def test_steps_of_branches_read_what_another_left(self):
        """
        Branches see each other; what has not come yet is null.
        """
        reads = step("a", params={"n": expression("steps.b.n | default(0)")})
        run = Rehearsal(book(parallel(reads, step("b", fact_names=("n",))), step("c", **_reads())))
        assert run.of("a").params == {"n": 0}
        run.applied("a")

        run.applied("b", n=7)

        assert run.of("c").params == {"n": 7}

    def test_a_group_whose_condition_does_not_hold_is_passed_over_whole(self):
        """
        None of its steps begins.
        """
        run = Rehearsal(book(parallel(step("a"), step("b"), condition=NEVER), step("after")))

        assert run.doing == ["after"]
        assert run.status("both") is StepStatus.SKIPPED


def _reads() -> dict[str, object]:
    return {"params": {"n": expression("steps.b.n")}}


class TestJoinAny:
    def test_the_first_one_ends_the_others(self):
        """
        What another branch is doing is brought to its end, and then nothing more of it begins.
        """
        run = Rehearsal(
            book(parallel(step("a"), (step("b"), step("c")), join="any"), step("after"))
        )
        run.applied("a")
        assert run.doing == ["b"]
        assert run.status("both") is StepStatus.RUNNING

        run.applied("b")

        assert run.doing == ["after"]
        assert run.status("c") is StepStatus.PENDING
        run.applied("after")
        assert run.ended == (RunStatus.DONE, "")

    @pytest.mark.parametrize(
        ("loser", "reach"),
        [
            pytest.param(manual("b"), lambda run: run.asked("b"), id="for-an-answer"),
            pytest.param(
                change("b", approval=Approval(groups=("oncall",))),
                lambda run: (run.planned("b"), run.asked("b")),
                id="for-a-yes",
            ),
            pytest.param(step("b"), lambda run: run.failed("b"), id="for-a-decision"),
        ],
    )
    def test_what_waits_is_stopped(self, loser, reach):
        """
        A question of a branch that nobody needs any more is closed.
        """
        run = Rehearsal(book(parallel(step("a"), loser, join="any")))
        reach(run)

        run.applied("a")

        assert run.ended == (RunStatus.DONE, "")
        assert run.status("b") is StepStatus.STOPPED
        assert run.at("b").note == "the run goes on without it"

    def test_a_change_under_way_is_proven_and_one_that_is_only_planned_is_not_made(self):
        """
        Half a change helps nobody; a plan harms nobody.
        """
        run = Rehearsal(book(parallel(step("a"), change("b"), change("c"), join="any")))
        run.planned("b")
        run.applied("a")
        assert isinstance(run.of("b"), ApplyStep)
        assert isinstance(run.of("c"), PlanStep)

        run.planned("c")
        run.applied("b")
        assert isinstance(run.of("b"), VerifyStep)
        run.verified("b")

        assert run.state.status is RunStatus.DONE
        assert run.status("b") is StepStatus.DONE
        assert run.status("c") is StepStatus.STOPPED

    def test_a_loser_that_fails_is_not_tried_again_and_does_not_count(self):
        """
        The group is done; what a needless branch did not reach is no failure of the run.
        """
        run = Rehearsal(book(parallel(step("a"), step("b", on_failure="undo"), join="any")))
        run.applied("a")

        run.failed("b", error="unreachable")

        assert run.ended == (RunStatus.DONE, "")
        assert run.status("b") is StepStatus.FAILED

    def test_a_branch_that_fails_leaves_the_others_to_win(self):
        """
        Only when no branch works has the group failed.
        """
        run = Rehearsal(
            book(parallel(step("a", on_failure="stop"), step("b", on_failure="stop"), join="any"))
        )
        run.failed("a", error="refused")
        assert run.doing == ["b"]

        run.failed("b", error="refused")

        assert run.state.status is RunStatus.FAILED
        assert "2 of 2 branches did not work" in run.state.reason

    def test_branches_after_one_that_is_done_at_once_do_not_begin(self):
        """
        A branch whose steps are all passed over is done.
        """
        run = Rehearsal(book(parallel(step("a", condition=NEVER), step("b"), join="any")))

        assert run.ended == (RunStatus.DONE, "")
        assert run.status("b") is StepStatus.PENDING

    def test_groups_inside_a_needless_branch_end_too(self):
        """
        The end reaches through every group.
        """
        inner = parallel((step("b1"), step("b2")), manual("b3"), id_="inner")
        run = Rehearsal(book(parallel(step("a"), inner, join="any")))
        run.asked("b3")
        run.applied("a")
        assert run.doing == ["b1"]

        run.applied("b1")

        assert run.ended == (RunStatus.DONE, "")
        assert run.status("inner") is StepStatus.STOPPED
        assert run.status("b2") is StepStatus.PENDING


class TestOverStaysOver:
    def test_a_step_of_a_group_that_is_over_is_not_retried(self):
        """
        Nothing waits for it any more, so it must not go on beside the end of the run.
        """
        passing = step("a", on_failure="continue")
        run = Rehearsal(book(parallel(passing, step("b")), step("after")))
        run.failed("a", error="refused")
        run.applied("b")
        before = run.state

        run.retried("a", "slack:U1", "oncall")

        assert run.state == before

    def test_a_step_that_was_passed_over_in_a_group_that_goes_on_is(self):
        """
        Its branch waits for it again.
        """
        passing = step("a", on_failure="continue")
        run = Rehearsal(book(parallel((passing, step("a2")), step("b"))))
        run.failed("a", error="refused")
        run.applied("a2")

        run.retried("a")

        assert isinstance(run.of("a"), RunStep)
        run.applied("b")
        assert run.doing == ["a"]
        run.applied("a")
        assert run.ended == (RunStatus.DONE, "")
