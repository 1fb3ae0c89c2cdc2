"""How a run comes to its end: what is under way, the way back, ``always``, the last word."""

from __future__ import annotations

from bot.action import Effect
from bot.engine import calls, cards, flow
from bot.engine.flow import Verdict
from bot.engine.places import last, root
from bot.engine.scope import scope_of
from bot.engine.state import Ending, StepStatus
from bot.engine.turn import Turn
from bot.errors import ExpressionInvalid
from bot.language.expressions import evaluate
from bot.model.incident import RunStatus


def settle(turn: Turn) -> None:
    """After an event: begin what may begin, and end what is over."""
    _go_on(turn)
    cards.tend(turn)  # last, as steps on a card may just have been passed over or ended


def _go_on(turn: Turn) -> None:
    if turn.state.paused is not None:
        _hold(turn)
        return
    if turn.state.ending is None:
        verdict = flow.sequence(turn, turn.book.steps, root(turn.book, turn.state))
        if turn.state.ending is None:
            if verdict is Verdict.OPEN:
                return
            turn.end(*_how_it_went(turn, verdict))
    _come_to_an_end(turn)


def _hold(turn: Turn) -> None:
    """A held run begins nothing and does not end; but who waits in vain is let go at once, so that
    no late word begins what is not wanted any more."""
    was_ending = turn.state.ending is not None
    if not was_ending or _ending(turn).phase == "closing":
        flow.sequence(turn, turn.book.steps, root(turn.book, turn.state))
    elif _ending(turn).phase == "always":
        flow.all_of(turn, last(turn.book, turn.state))
    ends_now = turn.state.ending is not None and not was_ending
    if flow.let_go(turn) or ends_now:
        _hold(turn)  # the groups around them may be over as well


def _how_it_went(turn: Turn, verdict: Verdict) -> tuple[RunStatus, str]:
    """Return status and reason of a run that went through its steps, or was ended by one."""
    if verdict is Verdict.DONE:
        return RunStatus.DONE, ""
    step = next(s for s in turn.book.steps if turn.step(s.id).ends_sequence)
    current = turn.step(step.id)
    if current.status is not StepStatus.STOPPED:
        assert current.failure is not None  # noqa: S101  # else it would not end the run
        return RunStatus.FAILED, f"step {step.id} failed: {current.failure.message}"
    return RunStatus.STOPPED, f"step {step.id}: {current.note}"


def _come_to_an_end(turn: Turn) -> None:
    if _ending(turn).phase == "closing":
        verdict = flow.sequence(turn, turn.book.steps, root(turn.book, turn.state))
        if verdict is Verdict.OPEN:
            return
        _phase(turn, "undoing")
    if _ending(turn).phase == "undoing":
        if _ending(turn).undo and _take_back(turn):
            return
        _phase(turn, "always")
    if flow.all_of(turn, last(turn.book, turn.state)) is Verdict.DONE:
        _finish(turn)


def _ending(turn: Turn) -> Ending:
    assert turn.state.ending is not None  # noqa: S101  # called only while the run ends
    return turn.state.ending


def _phase(turn: Turn, phase: str) -> None:
    turn.having(ending=_ending(turn).model_copy(update={"phase": phase}))


def _take_back(turn: Turn) -> bool:
    """Take the run's changes back, the last one first; True while one is under way."""
    for key in reversed(turn.state.applied):
        place, current = turn.place(key), turn.step(key)
        if current.status is StepStatus.UNDONE or current.left:
            continue
        if not current.status.is_final:
            if not (current.is_waiting and _ending(turn).cut):
                return True
            turn.close(place, StepStatus.FAILED, left=True)
        elif place.step.effect is Effect.CHANGE:
            # Taken back, it ends its sequence no more and no less than before.
            turn.set(place, attempt=1, passed=not current.ends_sequence)
            calls.undo(turn, place)
            return True
        else:
            turn.set(place, left=True)
    return False


def _finish(turn: Turn) -> None:
    ending = _ending(turn)
    status, reason = ending.status, ending.reason
    if status is RunStatus.DONE:
        status, reason = _end_well(turn)
    back = [key for key in reversed(turn.state.applied) if _is_undone(turn, key)]
    kept = [key for key in reversed(turn.state.applied) if not _is_undone(turn, key)]
    if back or (ending.undo and kept):
        told = f"taken back: {', '.join(back) or 'nothing'}"
        told += f"; not taken back: {', '.join(kept)}" if kept else ""
        reason = f"{reason}; {told}" if reason else told
    if status is RunStatus.UNDONE and kept:
        status = RunStatus.FAILED
    turn.having(status=status, reason=reason)


def _is_undone(turn: Turn, key: str) -> bool:
    return turn.step(key).status is StepStatus.UNDONE


def _end_well(turn: Turn) -> tuple[RunStatus, str]:
    """A run that went through all its steps is done, unless one of them failed on the way."""
    frames = (root(turn.book, turn.state), last(turn.book, turn.state))
    failed = [key for frame in frames for key in flow.failures(turn, frame, frame.steps)]
    if failed:
        return RunStatus.FAILED, f"went through all steps, but failed: {', '.join(failed)}"
    try:
        scope = scope_of(frames[0], turn.state)
        turn.having(outputs=evaluate(dict(turn.book.outputs), scope, turn.at))
    except ExpressionInvalid as error:
        return RunStatus.FAILED, f"its outputs cannot be read: {error}"
    return RunStatus.DONE, ""
