"""Foreach: the same steps for each item, some at once, and what they leave as lists."""

from __future__ import annotations

import pytest

from bot.engine import StepStatus
from bot.engine.begin import MAX_ITEMS
from bot.model.commands import AskDecision, RunStep
from bot.model.incident import RunStatus
from tests.unit.engine.rehearsal import (
    Rehearsal,
    book,
    call,
    change,
    expression,
    foreach,
    manual,
    named,
    parallel,
    step,
)

LOOK = step("look", params={"of": named("item"), "at": named("index")}, on_failure="stop")


class TestOrder:
    def test_one_after_the_other_unless_told_otherwise(self):
        """
        An iteration begins when the one before it is over; its steps read the item and its number.
        """
        run = Rehearsal(book(foreach(LOOK, items=["x", "y"]), step("after")))
        assert run.doing == ["each.0.look"]
        assert run.of("each.0.look").params == {"of": "x", "at": 0}

        run.applied("each.0.look")
        assert run.doing == ["each.1.look"]
        assert run.of("each.1.look").params == {"of": "y", "at": 1}
        run.applied("each.1.look")

        assert run.doing == ["after"]

    def test_no_more_than_concurrency_go_on_at_once(self):
        """
        A new iteration begins for each that is over, in the order of the items.
        """
        run = Rehearsal(book(foreach(LOOK, items=[1, 2, 3, 4], concurrency=2)))
        assert run.doing == ["each.0.look", "each.1.look"]

        run.applied("each.1.look")
        assert run.doing == ["each.0.look", "each.2.look"]
        run.applied("each.2.look")

        assert run.doing == ["each.0.look", "each.3.look"]

    def test_one_that_waits_for_a_person_counts(self):
        """
        ``concurrency`` bounds what is open, so that people are not asked ten things at once.
        """
        run = Rehearsal(book(foreach(manual("sure"), items=[1, 2])))
        run.asked("each.0.sure")
        assert run.doing == []

        run.answered("each.0.sure")

        assert run.doing == ["each.1.sure"]

    def test_a_step_that_a_person_passed_over_before_its_turn_begins_no_iteration(self):
        """
        The bound holds whatever people skip.
        """
        run = Rehearsal(book(foreach(LOOK, step("then"), items=[1, 2, 3])))

        run.skipped("each.2.look")

        assert run.doing == ["each.0.look"]

    def test_an_empty_list_is_done_at_once(self):
        """
        Nothing to do is not a failure; its outputs are empty lists.
        """
        loop = foreach(LOOK, items=[], outputs={"n": expression("steps.look.n")})
        run = Rehearsal(book(loop, step("b", params={"n": expression("steps.each.n")})))

        assert run.of("b").params == {"n": []}
        assert run.at("each").facts == {"n": [], "statuses": [], "failed": 0}


class TestFailure:
    def run(self, **fields: object) -> Rehearsal:
        steps = (step("look", on_failure="stop"), step("then"))
        return Rehearsal(book(foreach(*steps, items=["x", "y", "z"], **fields), step("after")))

    def test_one_failure_does_not_hide_the_others(self):
        """
        Every item gets its turn; the group has failed, and names what did not work.
        """
        run = self.run()
        run.failed("each.0.look", error="refused")
        run.applied("each.1.look")
        run.applied("each.1.then")
        run.failed("each.2.look", error="refused")

        status, reason = run.ended
        assert status is RunStatus.FAILED
        assert reason == (
            "step each failed: 2 of 3 iterations did not work "
            "(each.0.look: It did not work.; each.2.look: It did not work.)"
        )
        assert run.at("each").facts == {"statuses": ["failed", "done", "failed"], "failed": 2}
        assert run.status("each.0.then") is StepStatus.PENDING

    def test_the_failure_of_a_passed_over_iteration_is_told_at_the_end(self):
        """
        ``continue`` on the loop: the rest runs, and nobody is told that all was well.
        """
        run = self.run(on_failure="continue")
        run.failed("each.0.look", error="refused")
        for key in ("each.1.look", "each.1.then", "each.2.look", "each.2.then", "after"):
            run.applied(key)

        assert run.ended == (RunStatus.FAILED, "went through all steps, but failed: each.0.look")

    def test_undo_in_an_iteration_takes_back_the_changes_of_all(self):
        """
        ``on_failure: undo`` of one step is the way back for the whole run.
        """
        loop = foreach(change("close"), step("look", on_failure="undo"), items=[1, 2])
        run = Rehearsal(book(loop, step("after")))
        run.changed("each.0.close")
        run.applied("each.0.look")
        run.changed("each.1.close")

        run.failed("each.1.look", error="refused")
        assert run.doing == ["each.1.close"]
        run.undone("each.1.close")
        run.undone("each.0.close")

        assert run.state.status is RunStatus.FAILED
        assert run.state.reason.endswith("taken back: each.1.close, each.0.close")


class TestOutputs:
    def test_they_are_lists_in_the_order_of_the_items_and_null_where_it_failed(self):
        """
        A later step finds the result of item 2 at place 2, whatever became of item 1.
        """
        loop = foreach(
            step("look", on_failure="stop"),
            items=["x", "y", "z"],
            concurrency=3,
            outputs={"n": expression("steps.look.n"), "of": named("item")},
            on_failure="continue",
        )
        reads = {"n": expression("steps.each.n"), "items": expression("steps.each.items")}
        run = Rehearsal(book(loop, step("after", params=reads)))
        run.applied("each.2.look", n=3)
        run.failed("each.1.look", error="refused")

        run.applied("each.0.look", n=1)

        assert run.of("after").params == {"n": [1, None, 3], "items": ["x", "y", "z"]}
        assert run.at("each").facts["of"] == ["x", None, "z"]

    def test_outputs_that_cannot_be_read_are_a_failure_of_the_loop(self):
        """
        The fact is said; the step's own steps did work.
        """
        loop = foreach(LOOK, items=[1], outputs={"n": expression("steps.look.n + 1")})
        run = Rehearsal(book(loop))

        run.applied("each.0.look", n="many")

        assert run.state.status is RunStatus.FAILED
        assert "its outputs cannot be read" in run.state.reason


class TestItems:
    def test_what_is_not_a_list_is_refused(self):
        """
        The loop fails before anything of it begins.
        """
        run = Rehearsal(book(foreach(LOOK, items=expression("inputs.n"))), inputs={"n": 3})

        assert run.state.status is RunStatus.FAILED
        assert "'foreach' needs a list, and this is int" in run.state.reason

    @pytest.mark.parametrize(("over", "begins"), [(0, True), (1, False)])
    def test_more_than_the_most_are_refused(self, over, begins):
        """
        A run's state is written whole, so a list has an end.
        """
        items = list(range(MAX_ITEMS + over))
        run = Rehearsal(book(foreach(LOOK, items=items)))

        assert bool(run.doing) is begins
        assert begins or f"{MAX_ITEMS} at most" in run.state.reason

    def test_asked_about_it_a_person_can_pass_over_it(self):
        """
        A loop with ``on_failure: ask`` that never began can be skipped, not repeated.
        """
        loop = foreach(LOOK, items=expression("inputs.n"), on_failure="ask")
        run = Rehearsal(book(loop, step("after")), inputs={"n": 3})
        assert isinstance(run.of("each"), AskDecision)
        assert run.of("each").choices == ("skip", "stop")

        assert run.decided("each", "skip").step == "after"


class TestScope:
    def test_steps_around_the_loop_are_read_in_it(self):
        """
        An iteration sees its own steps, and those around it.
        """
        reads = {"n": expression("steps.before.n"), "own": expression("steps.first.n")}
        run = Rehearsal(
            book(step("before"), foreach(step("first"), step("second", params=reads), items=[1]))
        )
        run.applied("before", n=5)

        run.applied("each.0.first", n=6)

        assert run.of("each.0.second").params == {"n": 5, "own": 6}

    def test_a_loop_in_a_loop_has_its_own_item_and_the_keys_of_both(self):
        """
        The inner name hides the outer one.
        """
        inner = foreach(LOOK, items=["x", "y"], id_="inner")
        run = Rehearsal(book(foreach(inner, items=[1])))
        assert run.of("each.0.inner.0.look").params == {"of": "x", "at": 0}

        run.applied("each.0.inner.0.look")

        assert isinstance(run.of("each.0.inner.1.look"), RunStep)
        assert run.of("each.0.inner.1.look").params == {"of": "y", "at": 1}

    def test_a_parallel_and_a_call_may_stand_in_it(self):
        """
        Groups hold groups.
        """
        other = book(step("look"), id="other")
        run = Rehearsal(book(foreach(parallel(step("a"), call(other)), items=[1])))
        assert run.doing == ["each.0.a", "each.0.contain.look"]

        run.applied("each.0.a")
        run.applied("each.0.contain.look")

        assert run.ended == (RunStatus.DONE, "")

    @pytest.mark.parametrize("key", ["each", "each.0", "each.9.look", "each.x", "nothing.0.look"])
    def test_a_word_about_no_step_changes_nothing(self, key):
        """
        Keys of iterations that do not exist are nobody's.
        """
        run = Rehearsal(book(foreach(LOOK, items=[1])))
        before = run.state

        run.applied(key)

        assert run.state == before


class TestAnEnd:
    def test_after_a_cancel_no_iteration_begins(self):
        """
        What goes on is brought to its end; items whose turn had not come are left.
        """
        run = Rehearsal(book(foreach(LOOK, items=[1, 2, 3])))
        run.cancelled()
        assert run.doing == ["each.0.look"]

        run.applied("each.0.look")

        assert run.state.status is RunStatus.CANCELLED
        assert run.status("each") is StepStatus.STOPPED
