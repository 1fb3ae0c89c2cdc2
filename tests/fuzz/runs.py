"""Drives a run of any runbook: every command is answered, mostly as it would be."""

from __future__ import annotations

import random
from typing import Any

from bot.engine.places import every
from bot.engine.state import StepStatus
from bot.errors import BadInput
from bot.language.inputs import bind
from bot.language.keys import step_at
from bot.language.runbook import Input, Runbook
from bot.model import events
from bot.model.commands import ApplyStep, RunStep, UndoStep, Wait
from bot.model.endpoint import Endpoint
from bot.model.events import Event
from bot.model.outcome import Outcome
from tests.unit.engine.generated import ERRORS, PHASES, works
from tests.unit.engine.rehearsal import ALERT, NOON, SAM, Rehearsal

MOST_EVENTS = 200
ENDPOINTS = {
    each.key: each
    for each in (
        Endpoint(method="GET", path="/api/orders/{order_id}"),
        Endpoint(method="POST", path="/api/login"),
    )
}
_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -3, 2.5, "", "x", "15m", "2026-01-01T00:00:00Z", "{{ 7 * 7 }}"),
    *([], [1, 2, 3], ["a", {"b": [1]}], {}, {"a": 1}, {"services": ["s1", "s2"], "people": 2}),
    "GET /api/orders/{order_id}",
]
_GIVEN = ["GET /api/orders/{order_id}", "15m", "2026-01-01T00:00:00Z", "3", "true", "orders", "x"]
_ERRORS = ERRORS.elements  # type: ignore[attr-defined]
_PEOPLE = [f"slack:U{number}" for number in range(1, 6)]


def drive(book: Runbook, chance: random.Random) -> Rehearsal:
    """Run it until it is over, nothing can come any more, or ``MOST_EVENTS`` were given."""
    origin = chance.choice((SAM, SAM, ALERT))
    auto = tuple(place.id for place in book.every_step()) if chance.random() < 0.5 else ()
    run = Rehearsal(book, origin=origin, auto=auto, inputs=_inputs(book, chance))
    for _ in range(MOST_EVENTS):
        if run.state.status.is_final:
            break
        run.give(_next(run, chance))
    return run


def _inputs(book: Runbook, chance: random.Random) -> dict[str, Any]:
    given = {name: _input(each, chance) for name, each in book.inputs.items()}
    try:
        return bind(book, given, ENDPOINTS, NOON)
    except BadInput:
        return given


def _input(each: Input, chance: random.Random) -> Any:
    return chance.choice((*each.enum, *each.examples, *_GIVEN))


def _next(run: Rehearsal, chance: random.Random) -> Event:
    doing = [each for each in run.commands if not isinstance(each, Wait)]
    dice = chance.random()
    if dice < 0.06:
        return _verb(run, chance)
    if not doing:
        return _word(run, chance)
    command = chance.choice(doing)
    if isinstance(command, (UndoStep, *PHASES)) and dice < 0.2:
        return events.StepFailed(
            at=run.now,
            step=command.step,
            phase=PHASES.get(type(command), "undo"),
            error=chance.choice(_ERRORS),
            message="No.",
        )
    if isinstance(command, RunStep | ApplyStep):
        names = step_at(run.runbook, command.step).fact_names
        facts = {name: chance.choice(_VALUES) for name in names}
        return events.Applied(at=run.now, step=command.step, outcome=Outcome(facts=facts))
    return works(run, command)


def _word(run: Rehearsal, chance: random.Random) -> Event:
    """Say what is waited for, or let time pass."""
    waiting = [key for key, each in run.state.steps.items() if each.is_waiting]
    if run.state.paused is not None:
        return events.Resumed(at=run.now, by="slack:U2")
    if waiting and chance.random() < 0.8:
        key = chance.choice(waiting)
        step, current = step_at(run.runbook, key), run.at(key)
        groups = (*(step.approval.groups if step.approval else ()), *run.runbook.owners)
        if step.manual is not None and step.manual.assignee:
            groups = (*groups, step.manual.assignee)
        said: dict[str, Any] = {"at": run.now, "step": key, "groups": groups}
        said["by"] = chance.choice(_PEOPLE)
        match current.status:
            case StepStatus.AWAITING_APPROVAL if chance.random() < 0.1:
                return events.Rejected(digest=current.card or "", **said)
            case StepStatus.AWAITING_APPROVAL:
                return events.Approved(digest=current.card or "", **said)
            case StepStatus.AWAITING_ANSWER:
                fields = step.manual.fields if step.manual else {}
                values = {name: chance.choice(_VALUES) for name in fields}
                return events.Answered(values=values, **said)
            case StepStatus.AWAITING_DECISION:
                choice: Any = chance.choice(("retry", "skip", "stop", "done"))
                return events.Decided(choice=choice, **said)
    wait = run.last
    until = wait.until if isinstance(wait, Wait) else None
    run.now = max(run.now, until) if until is not None else run.now
    return events.TimerFired(at=run.now)


def _verb(run: Rehearsal, chance: random.Random) -> Event:
    at, by = run.now, chance.choice(_PEOPLE)
    keys = [place.key for place in every(run.runbook, run.state)]
    key = chance.choice([*keys, "nowhere"])
    match chance.randint(0, 9):
        case 0 | 1 | 2:
            return events.Skipped(at=at, step=key, by=by)
        case 3 | 4 | 5:
            return events.Retried(at=at, step=key, by=by, groups=run.runbook.owners)
        case 6 | 7:
            return events.Paused(at=at, by=by)
        case 8:
            return events.Cancelled(at=at, by=by, undo=chance.random() < 0.5)
        case _:
            return events.UndoAsked(at=at, by=by)
