"""What people say to a run as a whole: cancel, pause, resume, skip, retry, undo."""

from __future__ import annotations

from bot.engine import failing, flow
from bot.engine.places import Place, closes, flat, last
from bot.engine.state import Ending, StepStatus
from bot.engine.todo import under_way
from bot.engine.turn import Turn
from bot.model import events
from bot.model.incident import RunStatus


def cancelled(turn: Turn, event: events.Cancelled) -> None:
    """End the run. Asked again, nobody is waited for any more."""
    ending = turn.state.ending
    if ending is not None:
        turn.having(ending=ending.model_copy(update={"cut": True}))
    reason = event.reason or f"cancelled by {event.by}"
    turn.end(RunStatus.CANCELLED, reason, undo=event.undo)
    _release(turn)
    if event.undo:
        _way_back(turn)


def paused(turn: Turn, event: events.Paused) -> None:
    if turn.state.paused is None:
        turn.having(paused=under_way(turn), paused_by=event.by)


def resumed(turn: Turn) -> None:
    turn.having(paused=None, paused_by="")


def _release(turn: Turn) -> None:
    """A held run that is ended goes on to its end; what was not given out yet never is."""
    if turn.state.paused is not None:
        flow.let_go(turn)
    resumed(turn)


def skipped(turn: Turn, place: Place, event: events.Skipped) -> None:
    """Pass over a step that has not begun, or that waits. One that failed before stays failed."""
    current = turn.step(place.key)
    note = f"skipped by {event.by}" + (f": {event.reason}" if event.reason else "")
    if current.status in (StepStatus.AWAITING_DECISION, StepStatus.AWAITING_RETRY):
        failing.pass_over(turn, place, note)
    elif current.status is StepStatus.PENDING or current.is_waiting:
        turn.close(place, StepStatus.SKIPPED, note=note)


def retried(turn: Turn, place: Place, event: events.Retried) -> None:
    """Try a failed step again now."""
    current = turn.step(place.key)
    has_failed = current.status in (
        StepStatus.AWAITING_DECISION,
        StepStatus.AWAITING_RETRY,
        StepStatus.FAILED,
    )
    is_over = current.status is StepStatus.FAILED and closes(place, turn.state)
    if not has_failed or is_over or place.step.is_group or current.attempt == 0:
        return
    failing.heard(turn, event)
    turn.set(place, attempt=1, drifts=0)
    failing.again(turn, place)


def undo_asked(turn: Turn, event: events.UndoAsked) -> None:
    """Take every change back, also after the end."""
    reason = event.reason or f"taken back by {event.by}"
    if turn.state.status.is_final:
        turn.having(status=RunStatus.RUNNING, reason="")
        ending = Ending(status=RunStatus.UNDONE, reason=reason, undo=True, phase="undoing")
        turn.having(ending=ending)
        for place in flat(last(turn.book, turn.state), turn.state):
            if turn.step(place.key).status is StepStatus.PENDING:
                turn.close(place, StepStatus.STOPPED, note="the run had ended before it")
    turn.end(RunStatus.UNDONE, reason, undo=True)
    _release(turn)
    _way_back(turn)


def _way_back(turn: Turn) -> None:
    """What could not be taken back before is tried again."""
    ending = turn.state.ending
    assert ending is not None  # noqa: S101  # set by both callers
    if ending.phase == "always":
        turn.having(ending=ending.model_copy(update={"phase": "undoing"}))
    for key in turn.state.applied:
        turn.set(key, left=False)
