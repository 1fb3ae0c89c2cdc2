"""What a runbook would do, step by step, without doing it: for ``firedoor plan``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from bot.action import Action, ChangeAction, Effect
from bot.engine.places import Frame, Place, called, iteration, last, root
from bot.engine.scope import scope_of
from bot.engine.state import RunState, StepState, StepStatus
from bot.errors import BadInput, ExpressionInvalid, FiredoorError, Unreachable
from bot.language.expressions import Expression, evaluate
from bot.language.inputs import bind
from bot.language.runbook import Approval, Runbook, Step
from bot.model.base import Frozen
from bot.model.endpoint import Endpoint
from bot.model.incident import Origin
from bot.model.plan import Plan
from bot.ports import Clock
from bot.service.cards import what_it_does
from bot.service.context import ActionContext
from bot.service.people import Groups

MAX_ITERATIONS = 20
"""Of a foreach that are planned one by one; the rest is counted."""


class Foreseen(Frozen):
    """
    One step of a plan. ``step`` is its key; ``each.*.rotate`` where the list is not known yet.

    ``plan`` is there where it can be known before the run; else ``later`` says why not. ``when``
    says whether it would run at all: ``yes``, ``no``, or what that depends on. ``refused`` is why
    it would be refused as things stand; ``unreachable`` why that cannot be told.
    """

    step: str
    does: str
    effect: str
    when: str = "yes"
    approval: str = ""
    ttl_s: float | None = None
    plan: Plan | None = None
    later: str = ""
    refused: str = ""
    unreachable: str = ""


class Preview:
    """Observes and plans every step whose parameters are known already. Reads only."""

    def __init__(
        self,
        *,
        actions: Mapping[str, Action[Any]],
        context: ActionContext,
        groups: Groups,
        clock: Clock,
    ) -> None:
        self._actions, self._context, self._clock = actions, context, clock
        self._groups = groups

    def foresee(
        self,
        runbook: Runbook,
        inputs: Mapping[str, Any],
        endpoints: Mapping[str, Endpoint],
        actor: str,
    ) -> list[Foreseen]:
        """Return every step, in the order of the runbook, as it would be for this person."""
        state = RunState(
            incident_id="(none)",
            run_id="(none)",
            origin=Origin(kind="person", actor=actor),
            inputs=dict(inputs),
            endpoints={key: endpoints[key] for key in inputs.values() if key in endpoints},
        )
        frames = (root(runbook, state), last(runbook, state))
        return [each for f in frames for each in self._steps(f.steps, f, state)]

    def _steps(self, steps: tuple[Step, ...], frame: Frame, state: RunState) -> Iterator[Foreseen]:
        for step in steps:
            place = Place(step, frame)
            foreseen = self._step(place, state)
            yield foreseen
            if foreseen.when == "no":
                continue
            if step.parallel is not None:
                for branch in step.parallel.branches:
                    yield from self._steps(branch, frame, state)
            if step.foreach is not None or step.call is not None:
                yield from self._inside(place, state, known=not foreseen.later)

    def _inside(self, place: Place, state: RunState, *, known: bool) -> Iterator[Foreseen]:
        """Foresee what a loop or a called runbook holds."""
        if place.step.foreach is not None:
            items = state.step(place.key).items
            if not known or items is None:
                unknown = Frame(
                    place.frame.book,
                    place.step.foreach.steps,
                    prefix=f"{place.key}.*.",
                    outer=place.frame,
                    inputs=place.frame.inputs,
                )
                yield from self._steps(unknown.steps, unknown, state)
                return
            for index in range(min(len(items), MAX_ITERATIONS)):
                frame = iteration(place, state, index)
                yield from self._steps(frame.steps, frame, state)
            return
        for frame in called(place, state):
            yield from self._steps(frame.steps, frame, state)

    def _step(self, place: Place, state: RunState) -> Foreseen:
        step, now = place.step, self._clock.now()
        scope = scope_of(place.frame, state)
        common: dict[str, Any] = {
            "step": place.key,
            "ttl_s": step.ttl_s,
            "does": what_it_does(step),
            "effect": step.effect.value if step.effect else "",
            "approval": _approval(step),
            "when": _when(place, scope, now),
        }
        if common["when"] == "no":
            return Foreseen(**common)
        if step.approval is not None:
            common["refused"] = self._nobody(step.approval, state.origin.actor)
        try:
            common |= self._work(place, state, scope, now)
        except Unreachable as error:
            common["unreachable"] = str(error)
        except ExpressionInvalid as error:
            common["later"] = str(error)
        except FiredoorError as error:
            common["refused"] = str(error)
        return Foreseen(**common)

    def _work(
        self, place: Place, state: RunState, scope: Mapping[str, Any], now: datetime
    ) -> dict[str, Any]:
        """Return what can be known of a step; of a group, note in ``state`` what it holds."""
        step = place.step
        if step.manual is not None:
            who = f" of {step.manual.assignee}" if step.manual.assignee else ""
            return {"does": f"asks{who}: {step.manual.ask}", "effect": "a person's answer"}
        if step.parallel is not None:
            return {}
        values: Any = dict(step.params)
        if step.foreach is not None:
            values = step.foreach.items
        elif step.call is not None:
            values = dict(step.call.inputs)
        unknown = _depends(values, place)
        if unknown:
            return {"later": f"depends on what {unknown} leaves"}
        known = evaluate(values, scope, now)
        if step.foreach is not None:
            if not isinstance(known, list):
                raise BadInput(f"'foreach' needs a list, and this is {type(known).__name__}.")
            self._begun(state, place, items=tuple(known))
            return {"does": f"{what_it_does(step)}: {len(known)} items"}
        if step.call is not None:
            assert step.call.book is not None  # noqa: S101  # linked when it was loaded
            inputs = bind(step.call.book, known, state.endpoints, now)
            self._begun(state, place, inputs=inputs)
            return {}
        return self._plan(self._actions[step.uses or ""], known)

    def _plan(self, action: Action[Any], values: Mapping[str, Any]) -> dict[str, Any]:
        try:
            params = action.read_params(values)
        except ValueError as error:
            raise BadInput(f"{action.name} cannot take these parameters: {error}") from None
        if action.effect not in (Effect.CHANGE, Effect.IRREVERSIBLE):
            return {}
        assert isinstance(action, ChangeAction)  # noqa: S101  # by its effect
        return {"plan": action.plan(params, action.observe(params, self._context))}

    def _begun(self, state: RunState, place: Place, **changes: Any) -> None:
        begun = StepState(status=StepStatus.RUNNING).model_copy(update=changes)
        state.steps[place.key] = begun

    def _nobody(self, approval: Approval, actor: str) -> str:
        """Say so if too few people could give an approval, were this person to start the run."""
        able = [m for m in self._groups.members(approval.groups) if m != actor]
        if len(able) >= approval.required:
            return ""
        return (
            f"It needs {approval.required} of {', '.join(approval.groups)}, and besides {actor} "
            f"there are only {len(able)}. Add members under `groups` in firedoor.yaml."
        )


def _when(place: Place, scope: Mapping[str, Any], now: datetime) -> str:
    condition = place.step.condition
    if condition is None:
        return "yes"
    unknown = _depends(condition, place)
    if unknown:
        return f"depends on what {unknown} leaves"
    try:
        return "yes" if evaluate(condition, scope, now) else "no"
    except ExpressionInvalid as error:
        return f"cannot be told: {error}"


def _depends(value: Any, place: Place) -> str:
    """Name the steps, and the item, that a value is read from and that are not known before."""
    names: dict[str, None] = {}
    for expression in _expressions(value):
        for path in sorted(expression.references):
            if path[0] == "steps" and len(path) > 1:
                names[path[1]] = None
    frame: Frame | None = place.frame
    while frame is not None:
        if ".*." in frame.prefix:
            loop = frame.prefix.rpartition(".*.")[0].rpartition(".")[2]
            for expression in _expressions(value):
                if any(path[0] not in _ROOTS for path in expression.references):
                    names[loop] = None
        frame = frame.outer
    return ", ".join(names)


_ROOTS = frozenset({"inputs", "steps", "alert", "inventory", "incident", "run"})


def _expressions(value: Any) -> Iterator[Expression]:
    if isinstance(value, Expression):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _expressions(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _expressions(each)


def _approval(step: Step) -> str:
    if step.approval is None:
        return ""
    text = f"{step.approval.required} of {', '.join(step.approval.groups)}"
    if step.approval.card:
        text += f" (on the card {step.approval.card!r})"
    if step.approval.break_glass:
        text += f"; {step.approval.break_glass} may break the glass"
    return text
