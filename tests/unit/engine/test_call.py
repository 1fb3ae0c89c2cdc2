"""A called runbook is one step: it takes inputs, leaves outputs, and has its own end."""

from __future__ import annotations

import pytest

from bot.engine import StepStatus
from bot.language.runbook import InputType, Runbook
from bot.model.incident import RunStatus
from tests.unit.engine.rehearsal import (
    ALERT,
    Rehearsal,
    book,
    call,
    change,
    expression,
    foreach,
    parallel,
    step,
    takes,
)


def other(*steps: object, **fields: object) -> Runbook:
    return book(*(steps or (step("look", on_failure="stop"),)), id="other", **fields)


class TestInputs:
    def test_they_are_bound_as_for_a_run(self):
        """
        Types are checked and texts are read, as at any door.
        """
        looking = step("look", params={"n": expression("inputs.n + 1")})
        called = call(other(looking, inputs=takes("n", InputType.INTEGER)), inputs={"n": "4"})
        run = Rehearsal(book(called))

        assert run.doing == ["contain.look"]
        assert run.of("contain.look").params == {"n": 5}

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            pytest.param({}, "a value is needed", id="missing"),
            pytest.param({"n": "many"}, "not a whole number", id="of-another-type"),
            pytest.param({"n": expression("steps.a.n + 1")}, "steps.a.n", id="unreadable"),
        ],
    )
    def test_what_cannot_be_bound_is_a_failure_of_the_step(self, inputs, message):
        """
        Nothing of the other runbook begins.
        """
        called = call(other(inputs=takes("n", InputType.INTEGER)), inputs=inputs)
        run = Rehearsal(book(step("a"), called))

        run.applied("a", n="x")

        assert run.state.status is RunStatus.FAILED
        assert message in run.state.reason
        assert run.status("contain.look") is StepStatus.PENDING

    def test_it_reads_nothing_of_its_caller(self):
        """
        A runbook means the same wherever it is called from.
        """
        reads = step("look", params={"n": expression("steps.a.n | default('none')")})
        run = Rehearsal(book(step("a"), call(other(reads))))

        run.applied("a", n=1)

        assert run.of("contain.look").params == {"n": "none"}


class TestOutputs:
    def test_later_steps_read_them_under_its_id(self):
        """
        ``outputs`` is all that a caller sees.
        """
        called = call(other(step("look"), outputs={"n": expression("steps.look.n + 1")}))
        run = Rehearsal(book(called, step("b", params={"n": expression("steps.contain.n")})))

        run.applied("contain.look", n=1)

        assert run.of("b").params == {"n": 2}

    def test_outputs_that_cannot_be_read_are_a_failure_of_the_step(self):
        """
        Its steps did work, but what was promised is not there.
        """
        run = Rehearsal(
            book(call(other(step("look"), outputs={"n": expression("steps.look.n + 1")})))
        )

        run.applied("contain.look", n="x")

        assert run.state.status is RunStatus.FAILED
        assert "step contain failed: its outputs cannot be read" in run.state.reason


class TestItsAlways:
    def test_it_runs_after_its_steps_and_before_the_caller_goes_on(self):
        """
        Each runbook cleans up after itself.
        """
        run = Rehearsal(book(call(other(always=(step("tidy"),))), step("after")))
        run.applied("contain.look")
        assert run.doing == ["contain.tidy"]

        run.applied("contain.tidy")

        assert run.doing == ["after"]

    @pytest.mark.parametrize("how", ["failed", "cancelled"])
    def test_it_runs_also_when_its_steps_did_not_end_well(self, how):
        """
        However they ended.
        """
        run = Rehearsal(book(call(other(always=(step("tidy"),)))))
        if how == "failed":
            run.failed("contain.look", error="refused")
        else:
            run.cancelled()
            run.applied("contain.look")
        assert run.doing == ["contain.tidy"]

        run.applied("contain.tidy")

        assert run.state.status in (RunStatus.FAILED, RunStatus.CANCELLED)

    def test_it_runs_also_when_the_call_is_not_needed_any_more(self):
        """
        A branch that lost still tidies up.
        """
        run = Rehearsal(book(parallel(step("a"), call(other(always=(step("tidy"),))), join="any")))
        run.applied("a")
        run.applied("contain.look")
        assert run.doing == ["contain.tidy"]

        run.applied("contain.tidy")

        assert run.ended == (RunStatus.DONE, "")

    def test_what_failed_in_it_is_told_at_the_end(self):
        """
        The caller goes on, but the run did not go well.
        """
        run = Rehearsal(book(call(other(always=(step("tidy", on_failure="stop"),))), step("after")))
        run.applied("contain.look")
        run.failed("contain.tidy", error="refused")
        assert run.doing == ["after"]

        run.applied("after")

        assert run.ended == (RunStatus.FAILED, "went through all steps, but failed: contain.tidy")

    def test_once_it_is_over_its_steps_are_not_retried(self):
        """
        Also those of its ``always``.
        """
        run = Rehearsal(book(call(other(always=(step("tidy", on_failure="stop"),))), step("after")))
        run.applied("contain.look")
        run.failed("contain.tidy", error="refused")
        before = run.state

        run.retried("contain.tidy")

        assert run.state == before


class TestFailure:
    def test_the_step_has_failed_and_says_of_what(self):
        """
        The reason leads to the step that did not work.
        """
        run = Rehearsal(book(call(other()), step("after")))

        run.failed("contain.look", error="refused")

        assert run.ended == (
            RunStatus.FAILED,
            "step contain failed: the runbook other did not end well "
            "(contain.look: It did not work.)",
        )

    def test_the_calling_step_says_what_follows(self):
        """
        ``on_failure: continue`` on the call.
        """
        run = Rehearsal(book(call(other(), on_failure="continue"), step("after")))

        run.failed("contain.look", error="refused")

        assert run.doing == ["after"]

    def test_undo_in_it_takes_back_what_its_caller_changed_too(self):
        """
        The way back is the run's.
        """
        run = Rehearsal(book(change("close"), call(other(step("look", on_failure="undo")))))
        run.changed("close")

        run.failed("contain.look", error="refused")

        assert run.doing == ["close"]
        run.undone("close")
        assert run.state.reason == "step contain.look failed: It did not work.; taken back: close"


class TestTwoOfThem:
    def test_one_runbook_called_twice_has_two_lives(self):
        """
        Keys are paths, so equal ids do not meet.
        """
        run = Rehearsal(book(parallel(call(other(), "one"), call(other(), "two"))))
        assert run.doing == ["one.look", "two.look"]

        run.applied("two.look")

        assert run.status("two") is StepStatus.DONE
        assert run.status("one.look") is StepStatus.RUNNING

    def test_auto_names_a_step_in_it_by_its_path_without_numbers(self):
        """
        What a trigger lists is one step of the text, in every iteration.
        """
        loop = foreach(call(other(change("close"), change("more"))), items=[1, 2], concurrency=2)
        run = Rehearsal(book(loop), origin=ALERT, auto=("each.contain.close",))

        run.planned("each.0.contain.close")
        run.planned("each.1.contain.close")
        assert [each.kind for each in run.commands] == ["apply_step", "apply_step"]
        run.applied("each.0.contain.close")
        run.verified("each.0.contain.close")
        run.planned("each.0.contain.more")

        assert run.of("each.0.contain.more").kind == "ask_approval"
