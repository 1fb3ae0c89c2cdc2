"""What a runbook would do, step by step, without doing it: for ``firedoor plan``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bot.action import Action, ChangeAction, Effect
from bot.engine.scope import scope_of
from bot.engine.state import RunState, StepState
from bot.errors import ExpressionInvalid, FiredoorError
from bot.language.expressions import evaluate
from bot.language.runbook import Runbook, Step
from bot.model.base import Frozen
from bot.model.endpoint import Endpoint
from bot.model.incident import Origin
from bot.model.plan import Plan
from bot.ports import Clock
from bot.service.context import ActionContext


class Foreseen(Frozen):
    """One step of a plan. ``plan`` is there where it can be known before the run; else ``later``
    says why not."""

    step: str
    does: str
    effect: str
    approval: str = ""
    ttl_s: float | None = None
    plan: Plan | None = None
    later: str = ""


def foresee(
    runbook: Runbook,
    inputs: Mapping[str, Any],
    endpoints: Mapping[str, Endpoint],
    *,
    actions: Mapping[str, Action[Any]],
    context: ActionContext,
    clock: Clock,
) -> list[Foreseen]:
    """Observe and plan every step whose parameters are known already. Reads only."""
    state = RunState(
        incident_id="(none)",
        run_id="(none)",
        origin=Origin(kind="person", actor="plan"),
        steps={step.id: StepState() for step in runbook.steps},
        inputs=dict(inputs),
        endpoints={key: endpoints[key] for key in inputs.values() if key in endpoints},
    )
    scope = scope_of(runbook, state)
    return [_foresee(step, scope, actions, context, clock) for step in runbook.steps]


def _foresee(
    step: Step,
    scope: Mapping[str, Any],
    actions: Mapping[str, Action[Any]],
    context: ActionContext,
    clock: Clock,
) -> Foreseen:
    common: dict[str, Any] = {"step": step.id, "ttl_s": step.ttl_s, "approval": _approval(step)}
    if step.manual is not None or step.uses is None:
        ask = step.manual.ask if step.manual else ""
        return Foreseen(**common, does=f"asks: {ask}", effect="a person's answer")
    action = actions[step.uses]
    common |= {"does": step.uses, "effect": action.effect.value}
    if action.effect not in (Effect.CHANGE, Effect.IRREVERSIBLE):
        return Foreseen(**common)
    try:
        params = evaluate(dict(step.params), scope, clock.now())
    except ExpressionInvalid:
        return Foreseen(**common, later="depends on what earlier steps find")
    assert isinstance(action, ChangeAction)  # noqa: S101  # by its effect
    try:
        read = action.read_params(params)
        return Foreseen(**common, plan=action.plan(read, action.observe(read, context)))
    except FiredoorError as error:
        return Foreseen(**common, later=f"cannot be planned now: {error}")


def _approval(step: Step) -> str:
    if step.approval is None:
        return ""
    return f"{step.approval.required} of {', '.join(step.approval.groups)}"
