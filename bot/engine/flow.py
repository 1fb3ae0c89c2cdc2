"""Going through the steps: sequences, parallels, loops, called runbooks.

Nothing here knows where the run stood before: every walk looks at the statuses of the steps alone,
begins what may begin, and ends what is over.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

from bot.engine.begin import begin
from bot.engine.failing import by_policy
from bot.engine.places import Frame, Place, called, closes, every, inside, iteration, why_closed
from bot.engine.scope import scope_of
from bot.engine.state import Failure, StepState, StepStatus
from bot.engine.turn import Turn
from bot.errors import ExpressionInvalid
from bot.language.expressions import evaluate
from bot.language.runbook import Call, Foreach, Parallel, Step


class Verdict(Enum):
    """How far a sequence is: not over, gone through, or ended before its last step."""

    OPEN = "open"
    DONE = "done"
    BROKEN = "broken"


def sequence(turn: Turn, steps: Iterable[Step], frame: Frame, *, closing: bool = False) -> Verdict:
    """Go through steps in order, as far as it goes now."""
    for step in steps:
        verdict = _one(turn, Place(step, frame, closing or frame.closing))
        if verdict is not Verdict.DONE:
            return verdict
    return Verdict.DONE


def all_of(turn: Turn, frame: Frame) -> Verdict:
    """Go through the steps of an ``always``: one after the other, whatever becomes of each."""
    for step in frame.steps:
        if _one(turn, Place(step, frame)) is Verdict.OPEN:
            return Verdict.OPEN
    return Verdict.DONE


def _one(turn: Turn, place: Place) -> Verdict:
    current = turn.step(place.key)
    if current.status is StepStatus.PENDING:
        if closes(place, turn.state):
            return Verdict.BROKEN
        if turn.state.paused is not None:
            return Verdict.OPEN
        begin(turn, place)
    elif current.is_waiting and closes(place, turn.state):
        turn.close(place, StepStatus.STOPPED, note=current.note or why_closed(turn.state))
    current = turn.step(place.key)
    if place.step.is_group and current.status is StepStatus.RUNNING:
        _group(turn, place)
        current = turn.step(place.key)
    if not current.status.is_final:
        return Verdict.OPEN
    return Verdict.BROKEN if current.ends_sequence else Verdict.DONE


def let_go(turn: Turn) -> bool:
    """End what closes though its command was never given out, because the run was held then; tell
    whether there was any."""
    given_out, has_ended = turn.state.paused or {}, False
    for place in list(every(turn.book, turn.state)):
        current = turn.step(place.key)
        if place.step.is_group or current.status not in (StepStatus.PLANNING, StepStatus.RUNNING):
            continue
        if closes(place, turn.state) and given_out.get(place.key) != current.calls:
            if current.status is StepStatus.RUNNING:
                turn.not_applied(place)
            has_failed = current.failure is not None
            status = StepStatus.FAILED if has_failed else StepStatus.STOPPED
            turn.close(place, status, note="the run was held, and goes on without it")
            has_ended = True
    return has_ended


def _group(turn: Turn, place: Place) -> None:
    step = place.step
    if step.parallel is not None:
        _parallel(turn, place, step.parallel)
    elif step.foreach is not None:
        _loop(turn, place, step.foreach)
    else:
        assert step.call is not None  # noqa: S101  # a group is one of the three
        _called(turn, place, step.call)


def _parallel(turn: Turn, place: Place, parallel: Parallel) -> None:
    was_closing = turn.step(place.key).closing
    verdicts = _branches(turn, place, parallel)
    if turn.step(place.key).closing and not was_closing:
        verdicts = _branches(turn, place, parallel)
    any_will_do = parallel.join == "any"
    if Verdict.OPEN in verdicts:
        return
    if Verdict.BROKEN not in verdicts or (any_will_do and Verdict.DONE in verdicts):
        turn.close(place, StepStatus.DONE)
        return
    steps = (step for branch in parallel.branches for step in branch)
    count = verdicts.count(Verdict.BROKEN)
    fact = f"{count} of {len(verdicts)} branches did not work"
    _broken(turn, place, fact, _why(turn, place.frame, steps))


def _branches(turn: Turn, place: Place, parallel: Parallel) -> list[Verdict]:
    """Go through the branches. Where one is to do, it has to work: none that was passed over."""
    verdicts: list[Verdict] = []
    for branch in parallel.branches:
        closing = place.closing or turn.step(place.key).closing
        verdict = sequence(turn, branch, place.frame, closing=closing)
        if parallel.join == "any" and verdict is Verdict.DONE:
            if failures(turn, place.frame, branch):
                verdict = Verdict.BROKEN
            else:
                turn.set(place, closing=True)  # the branches after it do not begin in vain
        verdicts.append(verdict)
    return verdicts


def _loop(turn: Turn, place: Place, loop: Foreach) -> None:
    items = turn.step(place.key).items or ()
    frames = [iteration(place, turn.state, index) for index in range(len(items))]
    verdicts: list[Verdict] = []
    for frame in frames:
        if _has_begun(turn, frame) or verdicts.count(Verdict.OPEN) < loop.concurrency:
            verdicts.append(sequence(turn, frame.steps, frame))
        else:
            verdicts.append(Verdict.BROKEN if closes(place, turn.state) else Verdict.OPEN)
    if Verdict.OPEN in verdicts:
        return
    outputs: dict[str, list[Any]] = {name: [] for name in loop.outputs}
    try:
        for frame, verdict in zip(frames, verdicts, strict=True):
            scope = scope_of(frame, turn.state) if verdict is Verdict.DONE else None
            for name, value in loop.outputs.items():
                outputs[name].append(None if scope is None else evaluate(value, scope, turn.at))
    except ExpressionInvalid as error:
        _broken(turn, place, f"its outputs cannot be read: {error}", "")
        return
    failed = verdicts.count(Verdict.BROKEN)
    statuses = ["done" if verdict is Verdict.DONE else "failed" for verdict in verdicts]
    turn.set(place, facts={**outputs, "statuses": statuses, "failed": failed})
    if not failed:
        turn.close(place, StepStatus.DONE)
        return
    fact = f"{failed} of {len(frames)} iterations did not work"
    whys = [why for each in frames if (why := _why(turn, each, each.steps))]
    _broken(turn, place, fact, "; ".join(whys[:20]))


def _has_begun(turn: Turn, frame: Frame) -> bool:
    # A person may have passed over some of its steps before its turn: those do not begin it.
    return any(turn.step(frame.prefix + step.id).started_at for step in frame.steps)


def _called(turn: Turn, place: Place, call: Call) -> None:
    own, last = called(place, turn.state)
    verdict = sequence(turn, own.steps, own)
    if verdict is Verdict.OPEN or all_of(turn, last) is Verdict.OPEN:
        return
    if verdict is Verdict.BROKEN:
        fact = f"the runbook {call.runbook} did not end well"
        _broken(turn, place, fact, _why(turn, own, own.steps))
        return
    try:
        facts = evaluate(dict(own.book.outputs), scope_of(own, turn.state), turn.at)
    except ExpressionInvalid as error:
        _broken(turn, place, f"its outputs cannot be read: {error}", "")
        return
    turn.set(place, facts=facts)
    turn.close(place, StepStatus.DONE)


def _broken(turn: Turn, place: Place, fact: str, why: str) -> None:
    """End a group whose steps did not all work, as its ``on_failure`` says."""
    if closes(place, turn.state):
        turn.close(place, StepStatus.STOPPED, note=why_closed(turn.state))
        return
    message = f"{fact} ({why})" if why else fact
    turn.set(place, failure=Failure(phase="run", error="failed", message=message))
    by_policy(turn, place, f"step {place.key} failed: {message}")


def _why(turn: Turn, frame: Frame, steps: Iterable[Step]) -> str:
    """Name the steps that ended their sequences, with the reason."""
    broken = [(frame.prefix + step.id, turn.step(frame.prefix + step.id)) for step in steps]
    return "; ".join(
        f"{key}: {current.failure.message if current.failure else current.note}"
        for key, current in broken
        if current.ends_sequence or current.status is StepStatus.FAILED
    )


def failures(turn: Turn, frame: Frame, steps: Iterable[Step]) -> list[str]:
    """Return the keys of steps that failed, in order. A branch that was not needed may fail."""
    found: list[str] = []
    for step in steps:
        place = Place(step, frame)
        current = turn.step(place.key)
        within: list[str] = []
        for branch in _needed(step, current):
            within += failures(turn, frame, branch)
        for _, inner in inside(place, turn.state):
            within += failures(turn, inner, inner.steps)
        has_failed = current.status in (StepStatus.FAILED, StepStatus.UNDONE)
        found += within or ([place.key] if has_failed else [])
    return found


def _needed(step: Step, current: StepState) -> tuple[tuple[Step, ...], ...]:
    """Return the branches of a parallel whose failures count."""
    if step.parallel is None:
        return ()
    is_decided = step.parallel.join == "any" and current.status is StepStatus.DONE
    return () if is_decided else step.parallel.branches
