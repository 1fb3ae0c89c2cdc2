"""What is outstanding, from the state alone: equal states, equal commands."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from bot.engine.calls import CHANGES
from bot.engine.cards import plans_on
from bot.engine.failing import choices
from bot.engine.places import Place, every
from bot.engine.policy import approval_needed, excluded
from bot.engine.state import StepState, StepStatus
from bot.engine.turn import Turn
from bot.language.runbook import Manual
from bot.model.commands import (
    ApplyStep,
    AskApproval,
    AskDecision,
    AskPerson,
    Command,
    Finish,
    PlanStep,
    Remind,
    RunStep,
    UndoStep,
    VerifyStep,
    Wait,
)
from bot.model.plan import Plan


def outstanding(turn: Turn) -> tuple[Command, ...]:
    """Return every command whose event has not come, in the order of the runbook; Wait is last."""
    state = turn.state
    if state.status.is_final:
        return (Finish(status=state.status, reason=state.reason),)
    gathered = _gathered(turn)
    if state.paused is not None:
        places = (turn.place(k) for k, n in state.paused.items() if turn.step(k).calls == n)
        calls = (_call(turn, place, gathered) for place in places)
        return (*(call for call in calls if call is not None), Wait())
    found: list[Command] = []
    for place in every(turn.book, state):
        command = _call(turn, place, gathered) or _ask(turn, place)
        if command is not None:
            found.append(command)
    until = _until(turn)
    if until is not None or not found:
        found.append(Wait(until=until))
    return tuple(found)


def under_way(turn: Turn) -> dict[str, int]:
    """Return the steps that have a command outstanding, with how many they have had."""
    gathered = _gathered(turn)
    return {
        place.key: turn.step(place.key).calls
        for place in every(turn.book, turn.state)
        if _call(turn, place, gathered) is not None
    }


def _gathered(turn: Turn) -> frozenset[str]:
    """Return the steps that are planned for a card, by key."""
    return frozenset(key for current in turn.state.steps.values() for key in current.gathering)


def _call(turn: Turn, place: Place, gathered: frozenset[str]) -> Command | None:
    """Return the command of a step that calls its action, if one is outstanding.

    Args:
        gathered: The steps that are planned for a card before their turn.
    """
    if place.step.uses is None:
        return None
    current = turn.step(place.key)
    match current.status:
        case StepStatus.PENDING if place.key in gathered:
            return _plan(turn, place, current)
        case StepStatus.PLANNING:
            return _plan(turn, place, current)
        case StepStatus.RUNNING if place.step.effect in CHANGES:
            return ApplyStep(
                step=place.key,
                plan=_planned(current),
                attempt=current.attempt,
                actor=current.approvals[-1] if current.approvals else turn.state.engaged_by,
                ttl_s=place.step.ttl_s,
                timeout_s=place.step.timeout_s,
            )
        case StepStatus.RUNNING:
            return RunStep(
                step=place.key,
                action=place.step.uses,
                params=current.params,
                attempt=current.attempt,
                timeout_s=place.step.timeout_s,
            )
        case StepStatus.VERIFYING:
            return VerifyStep(
                step=place.key,
                plan=_planned(current),
                attempt=current.attempt,
                timeout_s=place.step.timeout_s,
            )
        case StepStatus.UNDOING:
            return UndoStep(step=place.key, plan=_planned(current), timeout_s=place.step.timeout_s)
        case _:
            return None


def _plan(turn: Turn, place: Place, current: StepState) -> PlanStep:
    # Known from the beginning of the run, so that the command stays the same until it is done.
    is_asked = place.step.approval is not None or (
        turn.state.origin.kind == "alert" and place.static not in turn.state.auto
    )
    return PlanStep(
        step=place.key,
        action=place.step.uses or "",
        params=current.params,
        brief=is_asked,
        timeout_s=place.step.timeout_s,
    )


def _planned(current: StepState) -> Plan:
    assert current.plan is not None  # noqa: S101  # a change is planned before all else
    return current.plan


def _ask(turn: Turn, place: Place) -> Command | None:
    """Return the question of a step that is not before people yet, or a reminder that is due."""
    current = turn.step(place.key)
    if current.nudge:
        overdue = current.nudge == "overdue"
        return Remind(step=place.key, number=current.reminders + 1, overdue=overdue)
    if current.asked or not current.is_waiting:
        return None
    if current.status is StepStatus.AWAITING_APPROVAL:
        return _approval(turn, place, current)
    if place.step.manual is not None and current.status is StepStatus.AWAITING_ANSWER:
        return _question(place, current, place.step.manual)
    failure = current.failure
    assert failure is not None  # noqa: S101  # decisions are asked about failures only
    return AskDecision(
        step=place.key,
        phase=failure.phase,
        error=failure.error,
        message=failure.message,
        choices=choices(current),
    )


def _approval(turn: Turn, place: Place, current: StepState) -> AskApproval:
    approval = approval_needed(turn.book, turn.state, place)
    assert approval is not None  # noqa: S101  # see ``cards.tend``
    plans = plans_on(turn, place.key, current)
    return AskApproval(
        step=place.key,
        plan=plans.pop(place.key),
        digest=current.card,
        also=plans,
        groups=approval.groups,
        required=approval.required,
        excluded=excluded(turn.state),
        break_glass=approval.break_glass,
        expires_at=current.deadline,
    )


def _question(place: Place, current: StepState, manual: Manual) -> AskPerson:
    fields = {
        name: {
            "type": declared.type.value,
            "description": declared.description,
            "required": not declared.has_default,
            "enum": list(declared.enum),
        }
        for name, declared in manual.fields.items()
    }
    return AskPerson(
        step=place.key,
        ask=manual.ask,
        fields=fields,
        assignee=manual.assignee,
        due_at=current.due_at,
        expires_at=current.deadline,
    )


def _until(turn: Turn) -> datetime | None:
    """Return the next moment at which time itself is an event."""
    return min(_moments(turn), default=None)


def _moments(turn: Turn) -> Iterator[datetime]:
    if turn.state.deadline is not None and turn.state.ending is None:
        yield turn.state.deadline
    for current in turn.state.steps.values():
        if current.is_waiting and current.asked:
            if current.deadline is not None:
                yield current.deadline
            if current.remind_at is not None and not current.nudge:
                yield current.remind_at
