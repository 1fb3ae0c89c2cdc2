"""How a run ends: ``always``, outputs, the deadline, what is said of it."""

from __future__ import annotations

import pytest

from bot.action import Effect
from bot.engine import StepStatus
from bot.model.commands import AskDecision, Finish, RunStep, Wait
from bot.model.incident import RunStatus
from tests.unit.engine.rehearsal import (
    NOON,
    Rehearsal,
    book,
    change,
    expression,
    manual,
    parallel,
    step,
)

TIDY = (step("tidy", on_failure="stop"), step("tell", Effect.NOTIFY))


def to_always(how: str) -> Rehearsal:
    """Return a run that came to its ``always`` in one of the ways that there are."""
    steps = (change("close"), step("look", on_failure="stop"))
    run = Rehearsal(book(*steps, always=TIDY))
    if how == "stopped":
        run = Rehearsal(book(manual("sure", timeout_s=60.0), always=TIDY))
        run.asked("sure")
        run.timer(seconds=60)
        return run
    run.changed("close")
    match how:
        case "done":
            run.applied("look")
        case "failed":
            run.failed("look", error="refused")
        case "cancelled":
            run.cancelled()
            run.applied("look")
        case "undone":
            run.undo_asked()
            run.applied("look")
            run.undone("close")
    return run


class TestAlways:
    @pytest.mark.parametrize("how", ["done", "failed", "stopped", "cancelled", "undone"])
    def test_it_runs_however_the_steps_ended_and_changes_nothing_about_it(self, how):
        """
        The steps under ``always`` are the last ones of every run.
        """
        run = to_always(how)
        assert run.doing == ["tidy"]

        run.applied("tidy")
        run.applied("tell")

        assert run.state.status.value == how

    def test_each_of_its_steps_runs_whatever_became_of_the_others(self):
        """
        One that fails does not keep the next from beginning; the run did not go well then.
        """
        run = to_always("done")

        run.failed("tidy", error="refused")

        assert run.doing == ["tell"]
        run.applied("tell")
        assert run.ended == (RunStatus.FAILED, "went through all steps, but failed: tidy")

    def test_it_may_ask_people(self):
        """
        A step in it that fails is decided about as any other.
        """
        run = Rehearsal(book(step("a"), always=(step("tidy"),)))
        run.applied("a")
        assert isinstance(run.failed("tidy"), AskDecision)

        run.decided("tidy", "retry")

        assert isinstance(run.applied("tidy"), Finish)
        assert run.ended == (RunStatus.DONE, "")

    def test_stop_decided_in_it_leaves_the_rest_out(self):
        """
        A person who says stop means it.
        """
        run = Rehearsal(book(step("a"), always=(step("tidy"), step("tell"))))
        run.applied("a")
        run.failed("tidy")

        run.decided("tidy", "stop")

        assert run.ended == (RunStatus.STOPPED, "step tidy: stop decided by slack:U1")
        assert run.status("tell") is StepStatus.PENDING

    def test_undo_on_a_failure_in_it_is_only_a_failure(self):
        """
        What went well is not taken back because tidying up did not work.
        """
        run = Rehearsal(book(change("close"), always=(step("tidy", on_failure="undo"),)))
        run.changed("close")

        run.failed("tidy", error="refused")

        assert run.state.status is RunStatus.FAILED
        assert run.status("close") is StepStatus.DONE

    def test_a_second_cancel_cuts_it(self):
        """
        What is under way is brought to its end, what waits is stopped, nothing more begins.
        """
        both = parallel(step("tidy"), manual("sure"))
        run = Rehearsal(book(step("a"), always=(both, step("tell"))))
        run.cancelled()
        run.applied("a")
        run.asked("sure")

        run.cancelled()
        assert run.doing == ["tidy"]
        assert run.status("sure") is StepStatus.STOPPED
        run.applied("tidy")

        assert run.ended == (RunStatus.CANCELLED, "cancelled by slack:U1")
        assert run.status("tell") is StepStatus.PENDING

    def test_a_cancel_in_the_always_of_a_run_that_went_well_cuts_it(self):
        """
        There is nothing else left to end; the run was cancelled before it was over.
        """
        run = to_always("done")
        run.cancelled(reason="Enough.")

        run.applied("tidy")

        assert run.ended == (RunStatus.CANCELLED, "Enough.")

    def test_its_changes_are_planned_and_proven_like_others(self):
        """
        ``always`` may hold any step, and reads what the others left.
        """
        closing = change("close", params={"n": expression("steps.a.n")})
        run = Rehearsal(book(step("a"), always=(closing,)))

        run.applied("a", n=3)

        assert run.of("close").params == {"n": 3}
        run.changed("close")
        assert run.ended == (RunStatus.DONE, "")


class TestOutputs:
    def test_they_are_evaluated_when_all_went_well(self):
        """
        What the run leaves stands in its state.
        """
        run = Rehearsal(book(step("a"), outputs={"n": expression("steps.a.n + 1")}))

        run.applied("a", n=1)

        assert run.state.outputs == {"n": 2}

    def test_outputs_that_cannot_be_read_are_a_failure(self):
        """
        A promise that was not kept is told.
        """
        run = Rehearsal(book(step("a"), outputs={"n": expression("steps.a.n + 1")}))

        run.applied("a", n="x")

        status, reason = run.ended
        assert status is RunStatus.FAILED
        assert reason.startswith("its outputs cannot be read")

    def test_a_run_that_did_not_go_well_has_none(self):
        """
        Nobody builds on half a result.
        """
        run = Rehearsal(book(step("a", on_failure="continue"), outputs={"n": 1}))

        run.failed("a", error="refused")

        assert run.state.outputs == {}


class TestDeadline:
    def test_it_is_waited_for_beside_what_is_under_way(self):
        """
        The last command says until when.
        """
        run = Rehearsal(book(step("a"), deadline_s=60.0))

        assert isinstance(run.commands[0], RunStep)
        assert isinstance(run.last, Wait)
        assert (run.last.until - NOON).total_seconds() == 60

    def test_when_it_passes_the_run_comes_to_its_end(self):
        """
        What is under way is finished, then ``always`` runs, and the run was stopped.
        """
        run = Rehearsal(book(step("a"), step("b"), always=(step("tidy"),), deadline_s=60.0))
        run.timer(seconds=60)
        assert run.doing == ["a"]
        assert not isinstance(run.last, Wait)

        run.applied("a")
        assert run.doing == ["tidy"]
        run.applied("tidy")

        assert run.ended == (RunStatus.STOPPED, "the run's deadline has passed")

    def test_questions_are_closed_by_it(self):
        """
        Nobody is waited for any more.
        """
        run = Rehearsal(book(manual("sure"), deadline_s=60.0))
        run.asked("sure")

        run.timer(seconds=60)

        assert isinstance(run.last, Finish)
        assert run.status("sure") is StepStatus.STOPPED

    def test_before_it_a_timer_changes_nothing(self):
        """
        A wake-up that is too early is only a wake-up.
        """
        run = Rehearsal(book(step("a"), deadline_s=60.0))
        before = run.state

        run.timer(seconds=30)

        assert run.state == before

    def test_a_run_that_ends_anyway_ends_once(self):
        """
        The deadline of a run in its ``always`` has no say any more.
        """
        run = Rehearsal(book(step("a"), always=(step("tidy"),), deadline_s=60.0))
        run.applied("a")

        run.timer(seconds=90)

        assert run.doing == ["tidy"]
        run.applied("tidy")
        assert run.ended == (RunStatus.DONE, "")


class TestStop:
    def test_stop_decided_in_a_branch_ends_the_run(self):
        """
        Other branches finish what they do; nothing more begins.
        """
        run = Rehearsal(book(parallel(step("a"), (step("b"), step("c"))), step("after")))
        run.failed("a")
        run.decided("a", "stop")
        assert run.doing == ["b"]

        run.applied("b")

        assert run.ended == (RunStatus.STOPPED, "step a: stop decided by slack:U1")
        assert run.status("c") is StepStatus.PENDING

    def test_a_step_that_fails_at_an_end_is_not_tried_again_and_nobody_is_asked(self):
        """
        Its policy does not matter any more: the run ends.
        """
        run = Rehearsal(book(parallel(step("a", on_failure="stop"), step("b")), deadline_s=9.0))
        run.timer(seconds=9)
        run.applied("a")

        run.failed("b")

        assert run.state.status is RunStatus.STOPPED
        assert run.status("b") is StepStatus.FAILED
