"""The way back: every change of the run, the last one first."""

from __future__ import annotations

import pytest

from bot.action import Effect
from bot.engine import StepStatus
from bot.language.runbook import Approval, Retry
from bot.model.commands import AskDecision, Finish, UndoStep, VerifyStep, Wait
from bot.model.incident import RunStatus
from tests.unit.engine.rehearsal import (
    Rehearsal,
    book,
    change,
    manual,
    parallel,
    plan_of,
    step,
)


def changed(*ids: str, **fields: object) -> Rehearsal:
    """Return a run that made these changes, one after the other, and now looks."""
    steps = [change(id_) for id_ in ids]
    run = Rehearsal(book(*steps, step("look", on_failure="undo"), **fields))
    for id_ in ids:
        run.changed(id_)
    return run


class TestOrder:
    def test_the_last_change_is_taken_back_first_and_one_at_a_time(self):
        """
        ``undo`` means every change of the run, in reverse order; the reason says what was done.
        """
        run = changed("a", "b")

        run.failed("look", error="refused")
        assert run.commands == (UndoStep(step="b", plan=plan_of("b")),)
        run.undone("b")
        assert run.commands == (UndoStep(step="a", plan=plan_of("a")),)
        run.undone("a")

        assert run.ended == (
            RunStatus.FAILED,
            "step look failed: It did not work.; taken back: b, a",
        )
        assert run.status("a") is StepStatus.UNDONE

    def test_across_branches_it_is_the_order_in_which_applying_began(self):
        """
        Not the order of the text, and not that in which they were done.
        """
        run = Rehearsal(
            book(parallel(change("a"), change("b"), change("c")), step("look", on_failure="undo"))
        )
        run.planned("b")
        run.planned("c")
        run.planned("a")
        for id_ in ("a", "c", "b"):
            run.changed(id_)
        run.failed("look", error="refused")

        order = []
        while isinstance(run.last, UndoStep):
            order.append(run.last.step)
            run.undone(run.last.step)

        assert order == ["a", "c", "b"]

    def test_a_branch_is_waited_for_before_anything_is_taken_back(self):
        """
        What another branch is changing is finished first, not proven, and then taken back too.
        """
        run = Rehearsal(book(parallel((change("a"), step("look", on_failure="undo")), change("b"))))
        run.changed("a")
        run.planned("b")
        run.failed("look", error="refused")
        assert run.doing == ["b"]

        run.applied("b")

        assert run.doing == ["b"]
        assert isinstance(run.last, UndoStep)
        run.undone("b")
        assert run.doing == ["a"]

    @pytest.mark.parametrize("error", ["refused", "timeout", "unreachable"])
    def test_a_change_whose_apply_failed_is_taken_back_too(self, error):
        """
        It may have happened in part; undo finds out.
        """
        run = Rehearsal(book(change("a", on_failure="undo")))
        run.planned("a")

        run.failed("a", "apply", error)

        assert isinstance(run.last, UndoStep)
        run.undone("a")
        assert run.state.reason.endswith("taken back: a")

    def test_one_that_drifted_before_it_was_made_is_not(self):
        """
        Nothing was changed.
        """
        approval = Approval(groups=("oncall",))
        run = Rehearsal(book(change("a", approval=approval)))
        run.planned("a")
        run.approved("a", "slack:U1")
        run.drifted("a", plan_of("a", before="ajar"))

        run.cancelled(undo=True)

        assert run.ended == (RunStatus.CANCELLED, "cancelled by slack:U1")
        assert run.state.applied == ()

    def test_one_that_drifted_after_an_attempt_that_failed_is(self):
        """
        The attempt before may have changed something.
        """
        approval = Approval(groups=("oncall",))
        run = Rehearsal(book(change("a", approval=approval, retry=Retry(2, delay_s=5.0))))
        run.planned("a")
        run.approved("a", "slack:U1")
        run.failed("a", "apply", "timeout")
        run.timer(seconds=5)
        run.drifted("a", plan_of("a", before="ajar"))

        run.cancelled(undo=True)

        assert isinstance(run.last, UndoStep)

    def test_one_that_drifts_while_the_run_ends_is_let_be(self):
        """
        It is neither asked about anew nor made.
        """
        run = Rehearsal(book(change("a")))
        run.planned("a")
        run.cancelled(undo=True)

        run.drifted("a", plan_of("a", before="ajar"))

        assert run.ended == (RunStatus.CANCELLED, "cancelled by slack:U1")
        assert run.status("a") is StepStatus.STOPPED
        assert run.at("a").note == (
            "not applied: what it would change had changed, and the run ends"
        )


class TestIrreversible:
    def test_it_stays_and_is_said(self):
        """
        What cannot be taken back is not tried, and nobody may believe that it was.
        """
        run = Rehearsal(
            book(change("a"), step("wipe", Effect.IRREVERSIBLE), step("look", on_failure="undo"))
        )
        run.changed("a")
        run.changed("wipe")

        run.failed("look", error="refused")
        assert run.doing == ["a"]
        run.undone("a")

        assert run.state.reason.endswith("; taken back: a; not taken back: wipe")
        assert run.status("wipe") is StepStatus.DONE

    def test_a_run_that_kept_one_is_not_undone(self):
        """
        ``undone`` means all of it.
        """
        run = Rehearsal(book(step("wipe", Effect.IRREVERSIBLE)))
        run.changed("wipe")

        run.undo_asked(reason="Wrong tenant.")

        assert run.ended == (
            RunStatus.FAILED,
            "Wrong tenant.; taken back: nothing; not taken back: wipe",
        )


class TestAnUndoThatFails:
    def failing(self, **fields: object) -> Rehearsal:
        run = changed("a", "b", **fields)
        run.failed("look", error="refused")
        run.failed("b", "undo", "refused")
        return run

    def test_it_asks_a_person_and_waits(self):
        """
        Half restored is for a person to look at.
        """
        run = self.failing()
        assert isinstance(run.last, AskDecision)
        assert run.last.choices == ("retry", "skip", "stop")

        run.asked("b")

        assert run.commands == (Wait(),)

    def test_retry_tries_it_again(self):
        """
        A person has mended what was in its way.
        """
        run = self.failing()
        run.decided("b", "retry")
        assert isinstance(run.of("b"), UndoStep)

        run.undone("b")

        assert run.doing == ["a"]

    def test_skip_goes_on_with_the_next_and_says_what_stays(self):
        """
        The rest is still worth taking back.
        """
        run = self.failing()
        run.decided("b", "skip")
        assert run.doing == ["a"]

        run.undone("a")

        assert run.state.reason.endswith("taken back: a; not taken back: b")
        assert run.status("b") is StepStatus.FAILED

    def test_stop_takes_nothing_more_back(self):
        """
        The run ends as it stands.
        """
        run = self.failing()

        run.decided("b", "stop")

        assert isinstance(run.last, Finish)
        assert run.state.reason == "step look failed: It did not work."
        assert run.status("a") is StepStatus.DONE

    def test_a_skip_and_a_retry_of_a_person_work_as_their_decision(self):
        """
        Whichever way they say it.
        """
        run = self.failing()
        run.retried("b")
        assert isinstance(run.of("b"), UndoStep)
        run.failed("b", "undo", "refused")

        run.skipped("b")

        assert run.doing == ["a"]

    def test_it_is_retried_by_itself_as_the_step_says(self):
        """
        Its attempts are its own.
        """
        run = Rehearsal(book(change("a", retry=Retry(2, delay_s=5.0), on_failure="undo")))
        run.planned("a")
        run.failed("a", "apply", "refused")

        run.failed("a", "undo", "unreachable")
        assert isinstance(run.last, Wait)

        assert isinstance(run.timer(seconds=5), UndoStep)

    @pytest.mark.parametrize("waits", ["for a decision", "for its next attempt"])
    def test_a_second_cancel_waits_for_nobody(self, waits):
        """
        What could not be taken back stays, and is said; the rest is still taken back.
        """
        retry = Retry(3 if "attempt" in waits else 1, delay_s=5.0)
        run = Rehearsal(book(change("a"), change("b", retry=retry), step("look")))
        run.changed("a")
        run.changed("b")
        run.cancelled(undo=True)
        run.applied("look")
        run.failed("b", "undo", "unreachable")

        run.cancelled()
        assert run.doing == ["a"]
        run.undone("a")

        assert run.ended == (
            RunStatus.CANCELLED,
            "cancelled by slack:U1; taken back: a; not taken back: b",
        )

    def test_after_a_second_cancel_a_failure_asks_nobody(self):
        """
        It stays, and is said.
        """
        run = changed("a")
        run.cancelled(undo=True)
        run.applied("look")
        run.cancelled()

        run.failed("a", "undo", "refused")

        assert run.state.reason == ("cancelled by slack:U1; taken back: nothing; not taken back: a")


class TestAsked:
    def test_in_a_live_run_what_is_under_way_is_finished_first(self):
        """
        A change that is being made is not proven any more; it is about to go.
        """
        run = Rehearsal(book(change("a"), change("b"), step("after")))
        run.changed("a")
        run.planned("b")
        run.undo_asked(by="slack:U2")
        assert run.doing == ["b"]

        run.applied("b")
        run.undone("b")
        run.undone("a")

        assert run.ended == (RunStatus.UNDONE, "taken back by slack:U2; taken back: b, a")

    def test_what_is_being_proven_is_proven(self):
        """
        A proof harms nobody, and is under way.
        """
        run = Rehearsal(book(change("a")))
        run.planned("a")
        run.applied("a")
        run.undo_asked()
        assert isinstance(run.last, VerifyStep)

        run.failed("a", "verify", "unverified")

        assert isinstance(run.last, UndoStep)

    def test_after_the_end_the_run_goes_on_only_to_take_its_changes_back(self):
        """
        A finished run stays finished for all other words. ``always`` is not run twice.
        """
        run = Rehearsal(book(change("a"), always=(step("tidy"),)))
        run.changed("a")
        run.applied("tidy")
        assert run.state.status is RunStatus.DONE

        run.undo_asked(reason="A false alarm.")
        assert run.state.status is RunStatus.RUNNING
        assert run.doing == ["a"]
        run.undone("a")

        assert run.ended == (RunStatus.UNDONE, "A false alarm.; taken back: a")

    def test_after_the_end_nothing_of_always_begins_that_was_cut(self):
        """
        A second cancel had said that nobody waits for it.
        """
        run = Rehearsal(book(change("a"), step("b"), always=(step("tidy"),)))
        run.changed("a")
        run.cancelled()
        run.cancelled()
        run.applied("b")
        assert run.state.status is RunStatus.CANCELLED

        run.undo_asked()
        run.undone("a")

        assert run.ended == (RunStatus.UNDONE, "taken back by slack:U1; taken back: a")
        assert run.status("tidy") is StepStatus.STOPPED

    def test_asked_again_what_stayed_is_tried_again(self):
        """
        The way back may be gone until its end another day.
        """
        run = changed("a", "b")
        run.cancelled(undo=True)
        run.applied("look")
        run.failed("b", "undo", "refused")
        run.decided("b", "skip")
        run.undone("a")
        assert run.state.reason.endswith("not taken back: b")

        run.undo_asked()
        assert run.doing == ["b"]
        run.undone("b")

        assert run.ended == (RunStatus.UNDONE, "taken back by slack:U1; taken back: b, a")

    def test_of_a_run_that_changed_nothing_it_is_the_end(self):
        """
        All of nothing is taken back.
        """
        run = Rehearsal(book(step("a")))
        run.applied("a")

        run.undo_asked()

        assert run.ended == (RunStatus.UNDONE, "taken back by slack:U1")

    def test_added_to_a_cancel_it_changes_what_happens_and_not_the_reason(self):
        """
        The first reason stays.
        """
        run = changed("a")
        run.cancelled(reason="Enough.")
        run.undo_asked()
        run.applied("look")

        assert run.doing == ["a"]
        run.undone("a")
        assert run.ended == (RunStatus.CANCELLED, "Enough.; taken back: a")

    def test_in_always_the_way_back_comes_first(self):
        """
        What ``always`` does is finished; then changes are taken back, its own too; then it goes on.
        """
        run = Rehearsal(
            book(change("a"), always=(change("tidy"), step("tell"))),
        )
        run.changed("a")
        run.planned("tidy")
        run.undo_asked()
        assert run.doing == ["tidy"]

        run.changed("tidy")
        assert isinstance(run.of("tidy"), UndoStep)
        run.undone("tidy")
        run.undone("a")
        assert run.doing == ["tell"]
        run.applied("tell")

        assert run.ended == (RunStatus.UNDONE, "taken back by slack:U1; taken back: tidy, a")

    def test_questions_of_the_run_are_closed_by_it(self):
        """
        Nothing more begins.
        """
        run = Rehearsal(book(change("a"), manual("sure")))
        run.changed("a")
        run.asked("sure")

        run.undo_asked()

        assert run.doing == ["a"]
        assert run.status("sure") is StepStatus.STOPPED
