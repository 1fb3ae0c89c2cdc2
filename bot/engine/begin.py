"""Beginning a step: its condition, its parameters, its first command."""

from __future__ import annotations

from typing import Any

from bot.action import Effect
from bot.engine import calls, cards, failing
from bot.engine.places import Place
from bot.engine.scope import scope_of
from bot.engine.state import StepStatus
from bot.engine.turn import Turn
from bot.errors import BadInput, ExpressionInvalid
from bot.language.expressions import evaluate
from bot.language.inputs import bind
from bot.language.runbook import Call, Foreach, Manual

MAX_ITEMS = 200
"""Of a foreach: a run's state is written whole with every event."""


def begin(turn: Turn, place: Place) -> None:
    """Begin a step whose turn has come, or pass over it if its condition does not hold."""
    step = place.step
    turn.set(place, started_at=turn.at)
    scope = scope_of(place.frame, turn.state)
    try:
        if step.condition is not None and not evaluate(step.condition, scope, turn.at):
            turn.close(place, StepStatus.SKIPPED, note="its condition does not hold")
        elif step.parallel is not None:
            turn.set(place, status=StepStatus.RUNNING)
        elif step.foreach is not None:
            _loop(turn, place, step.foreach, scope)
        elif step.call is not None:
            _call(turn, place, step.call, scope)
        elif step.manual is not None:
            _question(turn, place, step.manual)
        else:
            turn.set(place, params=evaluate(dict(step.params), scope, turn.at), attempt=1)
            _action(turn, place)
    except (ExpressionInvalid, BadInput) as error:
        message = f"{error} The step was not begun; mend the runbook and start a new run."
        failing.used_up(turn, place, "plan", "refused", message)


def _action(turn: Turn, place: Place) -> None:
    match place.step.effect:
        case Effect.READ:
            calls.act(turn, place)
        case Effect.NOTIFY:
            params = turn.step(place.key).params
            cards.planned(turn, place, cards.notice_plan(place, params))
        case _:
            calls.plan(turn, place)


def _question(turn: Turn, place: Place, manual: Manual) -> None:
    remind_at = [turn.after(s) for s in (manual.remind_s, manual.due_s) if s is not None]
    turn.set(
        place,
        status=StepStatus.AWAITING_ANSWER,
        asked=False,
        deadline=turn.after(manual.timeout_s),
        due_at=turn.after(manual.due_s),
        remind_at=min((m for m in remind_at if m is not None), default=None),
    )


def _loop(turn: Turn, place: Place, loop: Foreach, scope: dict[str, Any]) -> None:
    items = evaluate(loop.items, scope, turn.at)
    if not isinstance(items, list):
        raise BadInput(f"'foreach' needs a list, and this is {type(items).__name__}.")
    if len(items) > MAX_ITEMS:
        raise BadInput(
            f"'foreach' was given {len(items)} items, and goes through {MAX_ITEMS} at most."
        )
    turn.set(place, status=StepStatus.RUNNING, items=tuple(items))


def _call(turn: Turn, place: Place, call: Call, scope: dict[str, Any]) -> None:
    assert call.book is not None  # noqa: S101  # linked before it runs
    given = evaluate(dict(call.inputs), scope, turn.at)
    inputs = bind(call.book, given, turn.state.endpoints, turn.at)
    turn.set(place, status=StepStatus.RUNNING, inputs=inputs)
