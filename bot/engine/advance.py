"""The one function that decides. See the rules at the top of ``bot.engine``."""

from __future__ import annotations

from bot.engine import calls, cards, failing, words
from bot.engine.ending import settle
from bot.engine.places import Place, closes, every, find, why_closed
from bot.engine.state import RunState, StepState, StepStatus
from bot.engine.todo import outstanding
from bot.engine.turn import Turn
from bot.language.runbook import Runbook
from bot.model import events
from bot.model.commands import Command
from bot.model.events import Event
from bot.model.incident import RunStatus

Next = tuple[RunState, tuple[Command, ...]]

Word = (
    events.Approved
    | events.Rejected
    | events.Overridden
    | events.Answered
    | events.Decided
    | events.Asked
    | events.Reminded
)
"""What a person says about a step's question, and that it was asked."""

Result = (
    events.Planned
    | events.PlanDrifted
    | events.Applied
    | events.Verified
    | events.Undone
    | events.StepFailed
)
"""What comes of a command that calls an action."""


def advance(runbook: Runbook, state: RunState | None, event: Event) -> Next:
    """
    Take one event into account and say what is to be done.

    An event that does not fit where the run stands (a second click, a late approval) changes
    nothing. A finished run stays finished, unless somebody asks that its changes are taken back.

    Args:
        state: None only with RunStarted, which makes the first state.

    Returns:
        The new state, and every command that is outstanding in it: what is under way already is
        listed again. A Wait is last, if something may come or become due; a Finish stands alone.
    """
    if state is None:
        if not isinstance(event, events.RunStarted):
            raise TypeError(f"A run starts with run_started, not with {event.kind}.")
        turn = Turn(runbook, _first(runbook, event), event.at)
        turn.having(deadline=turn.after(runbook.deadline_s))
    elif state.status.is_final and not isinstance(event, events.UndoAsked):
        return state, ()
    else:
        turn = Turn(runbook, state, event.at)
        _take(turn, event)
    settle(turn)
    return turn.state, outstanding(turn)


def _first(book: Runbook, event: events.RunStarted) -> RunState:
    state = RunState(
        incident_id=event.incident_id,
        run_id=event.run_id,
        inputs=event.inputs,
        origin=event.origin,
        alert=event.alert,
        endpoints=event.endpoints,
        auto=event.auto,
        person_engaged=event.origin.kind == "person",
        engaged_by=event.origin.actor,
        rerun_of=event.rerun_of,
    )
    steps = {place.key: StepState() for place in every(book, state)}
    kept = {key: StepState.model_validate(old) for key, old in event.kept.items()}
    return state.having(steps=steps | kept)


def _take(turn: Turn, event: Event) -> None:
    match event:
        case events.RunStarted():
            pass  # it has begun already
        case events.Cancelled():
            words.cancelled(turn, event)
        case events.Paused():
            words.paused(turn, event)
        case events.Resumed():
            words.resumed(turn)
        case events.UndoAsked():
            words.undo_asked(turn, event)
        case events.TimerFired():
            if turn.state.paused is None:
                _on_time(turn)
        case _:
            place = find(turn.book, turn.state, event.step)
            if place is not None:
                _on_step(turn, place, event)


def _phase(place: Place, status: StepStatus) -> events.Phase | None:
    """Return what is under way, so that it alone can fail."""
    match status:
        case StepStatus.PLANNING:
            return "plan"
        case StepStatus.RUNNING:
            return "apply" if place.step.effect in calls.CHANGES else "run"
        case StepStatus.VERIFYING:
            return "verify"
        case StepStatus.UNDOING:
            return "undo"
        case _:
            return None


def _on_step(
    turn: Turn, place: Place, event: Word | Result | events.Skipped | events.Retried
) -> None:
    if isinstance(event, events.Skipped):
        words.skipped(turn, place, event)
    elif isinstance(event, events.Retried):
        words.retried(turn, place, event)
    elif isinstance(event, Word):
        _on_word(turn, place, event)
    elif not place.step.is_group:
        _on_result(turn, place, event)


def _on_word(turn: Turn, place: Place, event: Word) -> None:
    """Take a person's word, or that a person was asked, into account."""
    match event, turn.step(place.key).status:
        case events.Asked(), _:
            turn.set(place, asked=True)
        case events.Reminded(), _:
            _reminded(turn, place)
        case events.Approved(), StepStatus.AWAITING_APPROVAL:
            cards.approved(turn, place, event)
        case events.Rejected(), StepStatus.AWAITING_APPROVAL:
            cards.rejected(turn, place, event)
        case events.Overridden(), StepStatus.AWAITING_APPROVAL:
            cards.overridden(turn, place, event)
        case events.Answered(), StepStatus.AWAITING_ANSWER:
            _answered(turn, place, event)
        case events.Decided(), StepStatus.AWAITING_DECISION:
            failing.decided(turn, place, event)
        case _:
            pass  # a late or a second word


def _answered(turn: Turn, place: Place, event: events.Answered) -> None:
    assignee = place.step.manual.assignee if place.step.manual else None
    if assignee is not None and {assignee, *turn.book.owners}.isdisjoint(event.groups):
        return
    turn.set(place, facts={**event.values, "answered_by": event.by})
    failing.heard(turn, event)
    calls.done(turn, place)


def _reminded(turn: Turn, place: Place) -> None:
    """Say when to remind next: after the same time again, and when the answer is overdue."""
    current = turn.step(place.key)
    if not current.nudge:
        return
    every_s = place.step.manual.remind_s if place.step.manual else None
    due_at = current.due_at if current.nudge != "overdue" else None
    moments = [m for m in (turn.after(every_s), due_at) if m is not None]
    turn.set(
        place,
        nudge="",
        reminders=current.reminders + 1,
        remind_at=min(moments, default=None),
    )


def _on_result(turn: Turn, place: Place, event: Result) -> None:
    """Take into account what came of a command."""
    current = turn.step(place.key)
    status, ends = current.status, closes(place, turn.state)
    match event:
        case events.Planned() if status is StepStatus.PENDING:
            cards.gathered(turn, place, event.plan)
        case events.StepFailed() if status is StepStatus.PENDING and event.phase == "plan":
            cards.gathered(turn, place, None)
        case events.Planned() if status is StepStatus.PLANNING and ends:
            note = f"not applied: {why_closed(turn.state)}"
            turn.close(place, StepStatus.STOPPED, plan=event.plan, note=note)
        case events.Planned() if status is StepStatus.PLANNING:
            cards.planned(turn, place, event.plan)
        case events.PlanDrifted() if _phase(place, status) == "apply":
            failing.drifted(turn, place, event)
        case events.Applied() if status is StepStatus.RUNNING:
            turn.set(place, facts=event.outcome.facts, failure=None)
            calls.applied(turn, place)
        case events.Verified() if status is StepStatus.VERIFYING:
            turn.set(place, facts={**current.facts, **event.outcome.facts})
            calls.done(turn, place)
        case events.Undone() if status is StepStatus.UNDOING:
            turn.close(place, StepStatus.UNDONE)
        case events.StepFailed() if event.phase == _phase(place, status):
            failing.failed(turn, place, event)
        case _:
            pass  # late: the step has gone on since


# --- time ----------------------------------------------------------------------------------------


def _on_time(turn: Turn) -> None:
    """Do what has become due: the run's deadline, and the deadlines of steps that wait."""
    deadline = turn.state.deadline
    if deadline is not None and turn.at >= deadline and turn.state.ending is None:
        turn.end(RunStatus.STOPPED, "the run's deadline has passed")
        return
    for place in list(every(turn.book, turn.state)):
        current = turn.step(place.key)
        if current.is_waiting and current.deadline is not None and turn.at >= current.deadline:
            _time_is_up(turn, place, current)
        elif current.is_waiting and current.remind_at and turn.at >= current.remind_at:
            is_overdue = current.due_at is not None and turn.at >= current.due_at
            turn.set(place, nudge="overdue" if is_overdue else "remind", remind_at=None)


def _time_is_up(turn: Turn, place: Place, current: StepState) -> None:
    match current.status:
        case StepStatus.AWAITING_APPROVAL:
            cards.timed_out(turn, place)
        case StepStatus.AWAITING_ANSWER:
            policy = place.step.manual.on_timeout if place.step.manual else "stop"
            calls.give_up(turn, place, policy, "nobody answered in time")
        case _:
            failing.again(turn, place)
