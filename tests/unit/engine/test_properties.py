"""What holds for every runbook and every sequence of events, found by trying.

``pytest tests/unit/engine/test_properties.py --hypothesis-profile=thorough`` tries much more.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.action import Effect
from bot.engine import RunState, StepStatus, advance
from bot.engine.ending import settle
from bot.engine.places import closes, find
from bot.engine.todo import outstanding
from bot.engine.turn import Turn
from bot.language.runbook import within
from bot.model import events
from bot.model.commands import (
    COMMAND,
    ApplyStep,
    AskApproval,
    Command,
    Finish,
    PlanStep,
    RunStep,
    UndoStep,
    VerifyStep,
    Wait,
)
from bot.model.events import EVENT, Event
from tests.unit.engine.generated import comes, loops, runs, to_the_end
from tests.unit.engine.rehearsal import NOON, Rehearsal

CALLS = (PlanStep, RunStep, ApplyStep, VerifyStep, UndoStep)


class Watch:
    """Looks at every step that a run makes."""

    def __init__(self, run: Rehearsal) -> None:
        self.run = run
        self.states = [(run.state, run.commands)]
        self.begun = set(run.doing)
        self.cards: dict[str, dict[str, str]] = {}
        """What stood on each card that was put before people: plans by step."""
        self.yes: dict[str, set[str]] = {}
        """Who counts for each card, by its digest; all that is needed if one broke the glass."""
        self.retried = False

    def give(self, event: Event) -> None:
        run, before, old = self.run, self.run.state, self.run.commands
        written = before.model_dump_json()
        self._hear(event)
        run.now = max(run.now, event.at)

        run.give(event)

        self.states.append((run.state, run.commands))
        assert before.model_dump_json() == written, "the state before was changed"
        self._is_written(written, event)
        self._is_in_order(before, event)
        if run.state.status.is_final:
            return
        self._is_told_by_the_state_alone()
        self._is_held(old)
        self._begins_nothing_at_an_end(before, event)
        self._goes_back_in_order(before, event)
        self._has_its_yes(old)
        self._keeps_the_bound(event)
        self.begun |= set(run.doing)

    def _hear(self, event: Event) -> None:
        """Note who said yes to what, by the rules of the policy and not by its code."""
        state = self.run.state
        for command in self.run.commands:
            if isinstance(command, AskApproval):
                plans = {command.step: command.plan, **command.also}
                self.cards[command.digest] = {key: plan.digest for key, plan in plans.items()}
        if (
            state.paused is not None
        ):  # its cards are put before people later; it is one all the same
            for key, current in state.steps.items():
                on_it = {each: state.step(each).plan for each in (key, *current.members)}
                plans = {each: plan.digest for each, plan in on_it.items() if plan is not None}
                self.cards.setdefault(current.card, plans)
        if not isinstance(event, events.Approved | events.Overridden):
            return
        place = find(self.run.runbook, state, event.step)
        approval = place.step.approval if place else None
        if approval is None:
            return
        counted = self.yes.setdefault(event.digest, set())
        if isinstance(event, events.Overridden):
            if approval.break_glass in event.groups and event.reason.strip():
                counted |= {"glass", "broken"}
        elif event.by != state.origin.actor and set(event.groups) & set(approval.groups):
            counted.add(event.by)

    def _is_written(self, written: str, event: Event) -> None:
        """State, event and commands survive their JSON, and equal ones give equal ones."""
        run = self.run
        state = RunState.model_validate_json(written)
        again = advance(run.runbook, state, EVENT.validate_json(event.model_dump_json()))
        assert again == (run.state, run.commands)
        for command in run.commands:
            assert COMMAND.validate_json(command.model_dump_json()) == command

    def _is_in_order(self, before: RunState, event: Event) -> None:
        """At most one command of a step; Wait is last; Finish stands alone, and once."""
        run, commands = self.run, self.run.commands
        if before.status.is_final and not isinstance(event, events.UndoAsked):
            assert (run.state, commands) == (before, ())
            return
        assert len(run.doing) == len(set(run.doing))
        assert commands
        assert all(not isinstance(each, Wait) for each in commands[:-1])
        over = [each for each in commands if isinstance(each, Finish)]
        assert bool(over) == run.state.status.is_final
        if over:
            assert commands == (Finish(status=run.state.status, reason=run.state.reason),)
            open_ = [k for k, v in run.state.steps.items() if v.is_under_way or v.is_waiting]
            assert not open_

    def _is_told_by_the_state_alone(self) -> None:
        """Also nothing is left that could be done without another event."""
        run = self.run
        turn = Turn(run.runbook, run.state, NOON)
        settle(turn)
        assert turn.state == run.state
        assert outstanding(turn) == run.commands

    def _is_held(self, old: tuple[Command, ...]) -> None:
        """A paused run has no command that was not under way."""
        if self.run.state.paused is not None:
            assert _calls(self.run.commands) <= _calls(old)
            assert all(isinstance(each, (*CALLS, Wait)) for each in self.run.commands)

    def _begins_nothing_at_an_end(self, before: RunState, event: Event) -> None:
        """Once a run comes to its end, only ``always`` begins steps; also in a needless branch."""
        run = self.run
        # A step may begin just before another of the same moment ends the run.
        is_asked = isinstance(event, events.Cancelled | events.UndoAsked)
        for key in set(run.doing) - self.begun:
            place = find(run.runbook, run.state, key)
            assert place is not None
            if before.ending is not None or is_asked:
                assert place.frame.final, key
            stood = find(run.runbook, before, key)
            assert stood is None or not closes(stood, before), key

    def _goes_back_in_order(self, before: RunState, event: Event) -> None:
        """What was applied last is taken back first, one change at a time."""
        run = self.run
        applied, was = run.state.applied, before.applied
        # A change that was never given out, because the run was held, is none.
        may_lose = isinstance(event, events.PlanDrifted) or before.paused is not None
        assert applied[: len(was)] == was or may_lose
        for command in run.commands:
            if isinstance(command, ApplyStep):
                assert command.step in applied
        back = [each.step for each in run.commands if isinstance(each, UndoStep)]
        assert len(back) <= 1
        for key in back:
            for later in applied[applied.index(key) + 1 :]:
                place = find(run.runbook, run.state, later)
                is_back = run.status(later) is StepStatus.UNDONE or run.at(later).left
                # What ``always`` changes while the way back goes on is the next to be taken back.
                assert is_back or (place and place.frame.final), (key, later)

    def _has_its_yes(self, old: tuple[Command, ...]) -> None:
        """Nothing acts without the yes that it needs, of the right people, to what it does."""
        run, state = self.run, self.run.state
        for command in run.commands:
            if not isinstance(command, ApplyStep | RunStep) or command in old:
                continue
            place, plan = find(run.runbook, state, command.step), run.at(command.step).plan
            assert place is not None
            if place.step.effect is Effect.READ:
                continue
            assert plan is not None
            approval = place.step.approval
            if approval is None:
                listed = place.static in state.auto
                assert state.person_engaged or listed
                continue
            assert any(
                plans.get(command.step) == plan.digest
                and len(self.yes.get(digest, ())) >= approval.required
                for digest, plans in self.cards.items()
            ), command.step

    def _keeps_the_bound(self, event: Event) -> None:
        """Of a foreach, no more iterations go on than it allows, unless a person repeats one."""
        self.retried |= isinstance(event, events.Retried)
        for key, loop in loops(self.run):
            steps = list(within(loop.steps))
            going = {
                other[len(key) + 1 :].split(".")[0]
                for other, current in self.run.state.steps.items()
                if other.startswith(f"{key}.")
                and other.split(".")[-1] in {each.id for each in steps}
                and (current.is_waiting or current.is_under_way)
            }
            assert len(going) <= loop.concurrency or self.retried


def _calls(commands: tuple[Command, ...]) -> set[tuple[str, str]]:
    return {(each.kind, each.step) for each in commands if not isinstance(each, Wait | Finish)}


class TestEveryRun:
    @settings(deadline=None)
    @given(runs(), st.data())
    def test_keeps_the_rules_and_ends(self, run, data):
        """
        Whatever happens, every rule above holds after each event; and from wherever the run came
        to, it ends once all that is asked is answered. Its journal gives the same run again.
        """
        watch = Watch(run)
        for _ in range(data.draw(st.integers(0, 40))):
            watch.give(comes(run, data.draw))
        for event in to_the_end(run):
            watch.give(event)

        assert replayed(run) == watch.states

    @settings(deadline=None)
    @given(runs(), st.data())
    def test_takes_everything_back_also_after_its_end(self, run, data):
        """
        Asked after the end, every change that can be taken back is, and the run ends again.
        """
        watch = Watch(run)
        for _ in range(data.draw(st.integers(0, 15))):
            watch.give(comes(run, data.draw))
        for event in to_the_end(run):
            watch.give(event)

        watch.give(events.UndoAsked(at=run.now, by="slack:U2"))
        for event in to_the_end(run):
            watch.give(event)

        for key in run.state.applied:
            place = find(run.runbook, run.state, key)
            assert place is not None
            is_back = run.status(key) is StepStatus.UNDONE
            assert is_back or place.step.effect is Effect.IRREVERSIBLE


def replayed(run: Rehearsal) -> list[tuple[RunState, tuple[Command, ...]]]:
    state: RunState | None = None
    states = []
    for event in run.given:
        state, commands = advance(run.runbook, state, EVENT.validate_json(event.model_dump_json()))
        states.append((state, commands))
    return states
