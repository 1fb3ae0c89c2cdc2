"""A rerun: steps that are kept from an earlier run are not run again."""

from __future__ import annotations

from bot.engine import StepState, StepStatus
from bot.model.commands import PlanStep
from bot.model.incident import RunStatus
from tests.unit.engine.rehearsal import (
    NOON,
    Rehearsal,
    book,
    call,
    change,
    expression,
    foreach,
    parallel,
    plan_of,
    step,
)


def done(**facts: object) -> StepState:
    return StepState(status=StepStatus.DONE, attempt=1, facts=facts, started_at=NOON)


class TestKept:
    def test_the_run_begins_with_the_first_step_that_is_not_kept(self):
        """
        Later steps read what the kept ones left.
        """
        reads = step("b", params={"n": expression("steps.a.n")})
        run = Rehearsal(book(step("a"), reads), kept={"a": done(n=4)})

        assert run.doing == ["b"]
        assert run.of("b").params == {"n": 4}
        run.applied("b")
        assert run.ended == (RunStatus.DONE, "")

    def test_a_run_of_kept_steps_alone_is_over_at_once(self):
        """
        There is nothing left to do.
        """
        assert Rehearsal(book(step("a")), kept={"a": done()}).ended == (RunStatus.DONE, "")

    def test_kept_branches_and_calls_are_not_run_again(self):
        """
        A kept step may stand anywhere; a kept group whole.
        """
        other = book(step("look"), step("more"), id="other")
        both = parallel((step("a"), step("b")), call(other))
        kept = {"a": done(), "contain.look": done()}

        run = Rehearsal(book(both), kept=kept)

        assert run.doing == ["b", "contain.more"]

    def test_kept_iterations_count_as_begun(self):
        """
        Only the items that are left are gone through.
        """
        loop = foreach(step("look"), items=[1, 2], outputs={"n": expression("steps.look.n")})
        run = Rehearsal(book(loop), kept={"each.0.look": done(n=1)})
        assert run.doing == ["each.1.look"]

        run.applied("each.1.look", n=2)

        assert run.at("each").facts["n"] == [1, 2]

    def test_a_kept_change_is_the_other_runs(self):
        """
        This run takes back only what it made itself.
        """
        kept = StepState(status=StepStatus.DONE, attempt=1, plan=plan_of("a"), started_at=NOON)
        run = Rehearsal(book(change("a"), change("b")), kept={"a": kept})
        assert isinstance(run.last, PlanStep)
        run.changed("b")

        run.undo_asked()

        assert run.doing == ["b"]
        run.undone("b")
        assert run.ended == (RunStatus.UNDONE, "taken back by slack:U1; taken back: b")
