"""The one function that decides. See the rules at the top of ``bot.engine``."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal, assert_never

from bot.action import Effect
from bot.engine.policy import approval_needed, counts, excluded
from bot.engine.scope import scope_of
from bot.engine.state import Failure, RunState, StepState, StepStatus
from bot.errors import ExpressionInvalid
from bot.language.expressions import evaluate
from bot.language.runbook import Runbook, Step
from bot.model import events
from bot.model.commands import (
    ApplyStep,
    AskApproval,
    AskDecision,
    AskPerson,
    Command,
    Finish,
    PlanStep,
    RunStep,
    UndoStep,
    VerifyStep,
    Wait,
)
from bot.model.events import Event
from bot.model.incident import RunStatus
from bot.model.plan import Plan

Next = tuple[RunState, tuple[Command, ...]]

RETRYABLE = frozenset({"unreachable", "timeout", "unverified"})
MAX_DRIFTS = 5
"""How often the world may change between plan and apply before a person is asked."""

LONGEST_DELAY_S = 300.0

_CHANGES = (Effect.CHANGE, Effect.IRREVERSIBLE)

Choice = Literal["retry", "skip", "stop", "done"]


def advance(runbook: Runbook, state: RunState | None, event: Event) -> Next:
    """
    Take one event into account and say what to do next.

    An event that does not fit where the run stands (a second click, a late approval) changes
    nothing and only repeats what the run waits for or is doing. A finished run stays finished.

    Args:
        state: None only with RunStarted, which makes the first state.

    Returns:
        The new state, and the commands to do in this order. The last one is a Wait, a Finish,
        or a command whose event comes back here.
    """
    if state is None:
        if not isinstance(event, events.RunStarted):
            raise TypeError(f"A run starts with run_started, not with {event.kind}.")
        return _start(runbook, event)
    if state.status.is_final:
        return state, ()
    if isinstance(event, events.Cancelled):
        reason = event.reason or f"cancelled by {event.by}"
        return _finish(runbook, state, RunStatus.CANCELLED, reason, event.at)
    if isinstance(event, events.RunStarted):
        return _still(runbook, state)
    if isinstance(event, events.TimerFired):
        return _on_timer(runbook, state, event.at)
    if event.step != _current(runbook, state).id:
        return _still(runbook, state)
    return _on_step_event(runbook, state, event)


def _start(runbook: Runbook, event: events.RunStarted) -> Next:
    state = RunState(
        incident_id=event.incident_id,
        run_id=event.run_id,
        steps={step.id: StepState() for step in runbook.steps},
        inputs=event.inputs,
        origin=event.origin,
        alert=event.alert,
        endpoints=event.endpoints,
        auto=event.auto,
        person_engaged=event.origin.kind == "person",
        engaged_by=event.origin.actor,
    )
    return _enter(runbook, state, event.at)


def _current(runbook: Runbook, state: RunState) -> Step:
    return runbook.steps[state.cursor]


def _phase(step: Step, status: StepStatus) -> events.Phase | None:
    """Return what is under way, so that it alone can fail."""
    match status:
        case StepStatus.PLANNING:
            return "plan"
        case StepStatus.RUNNING:
            return "apply" if step.effect in _CHANGES else "run"
        case StepStatus.VERIFYING:
            return "verify"
        case StepStatus.UNDOING:
            return "undo"
        case _:
            return None


def _still(runbook: Runbook, state: RunState) -> Next:
    """Change nothing, and say again what the run waits for or is doing."""
    step = _current(runbook, state)
    match state.steps[step.id].status:
        case StepStatus.PLANNING:
            return _plan(state, step)
        case StepStatus.RUNNING if step.effect is Effect.READ:
            return _run(state, step)
        case StepStatus.RUNNING:
            return _act(state, step)
        case StepStatus.VERIFYING:
            return _verify(state, step)
        case StepStatus.UNDOING:
            return _undo(state, step)
        case _:
            return state, (Wait(until=state.steps[step.id].deadline),)


# --- entering a step ---------------------------------------------------------------------------


def _enter(runbook: Runbook, state: RunState, at: datetime) -> Next:
    """Begin the step under the cursor, passing over those whose condition does not hold."""
    while state.cursor < len(runbook.steps):
        step = _current(runbook, state)
        state = state.with_step(step.id, started_at=at)
        scope = scope_of(runbook, state)
        try:
            if step.condition is not None and not evaluate(step.condition, scope, at):
                state = state.with_step(
                    step.id,
                    status=StepStatus.SKIPPED,
                    ended_at=at,
                    note="its condition does not hold",
                ).having(cursor=state.cursor + 1)
                continue
            params = evaluate(dict(step.params), scope, at)
        except ExpressionInvalid as error:
            message = f"{error} The step was not begun; mend the runbook and start a new run."
            return _fail(runbook, state, step, "plan", "refused", message, at)
        state = state.with_step(step.id, params=params, attempt=1)
        return _begin(runbook, state, step, at)
    return _finish_at_end(runbook, state, at)


def _begin(runbook: Runbook, state: RunState, step: Step, at: datetime) -> Next:
    if step.manual is not None:
        deadline = _after(at, step.manual.timeout_s)
        state = state.with_step(step.id, status=StepStatus.AWAITING_ANSWER, deadline=deadline)
        fields = {
            name: {
                "type": declared.type.value,
                "description": declared.description,
                "required": not declared.has_default,
                "enum": list(declared.enum),
            }
            for name, declared in step.manual.fields.items()
        }
        ask = AskPerson(step=step.id, ask=step.manual.ask, fields=fields, expires_at=deadline)
        return state, (ask,)
    if step.effect is Effect.READ:
        return _run(state, step)
    if step.effect is Effect.NOTIFY:
        current = state.steps[step.id]
        plan = Plan(
            action=step.uses or "",
            params=current.params,
            summary=f"{step.uses} sends its notices.",
            before=None,
            after=None,
        )
        return _on_plan(runbook, state.with_step(step.id, plan=plan), step, at)
    return _plan(state, step)


def _run(state: RunState, step: Step) -> Next:
    current = state.steps[step.id]
    command = RunStep(
        step=step.id,
        action=step.uses or "",
        params=current.params,
        attempt=current.attempt,
        timeout_s=step.timeout_s,
    )
    return state.with_step(step.id, status=StepStatus.RUNNING, deadline=None), (command,)


def _plan(state: RunState, step: Step) -> Next:
    current = state.steps[step.id]
    command = PlanStep(
        step=step.id, action=step.uses or "", params=current.params, timeout_s=step.timeout_s
    )
    return state.with_step(step.id, status=StepStatus.PLANNING, deadline=None), (command,)


def _on_plan(runbook: Runbook, state: RunState, step: Step, at: datetime) -> Next:
    """The step has a plan: ask for approval, or act."""
    approval = approval_needed(runbook, state, step)
    if approval is None:
        return _act(state, step)
    deadline = _after(at, approval.timeout_s)
    state = state.with_step(
        step.id, status=StepStatus.AWAITING_APPROVAL, approvals=(), deadline=deadline
    )
    plan = state.steps[step.id].plan
    assert plan is not None  # noqa: S101  # set by both callers
    ask = AskApproval(
        step=step.id,
        plan=plan,
        groups=approval.groups,
        required=approval.required,
        excluded=excluded(state),
        expires_at=deadline,
    )
    return state, (ask,)


def _act(state: RunState, step: Step) -> Next:
    """Do what the step is there for: apply the plan, or send the notices."""
    if step.effect is Effect.NOTIFY:
        return _run(state, step)
    current = state.steps[step.id]
    assert current.plan is not None  # noqa: S101  # a change is planned before it is applied
    command = ApplyStep(
        step=step.id,
        plan=current.plan,
        attempt=current.attempt,
        actor=current.approvals[-1] if current.approvals else state.engaged_by,
        ttl_s=step.ttl_s,
        timeout_s=step.timeout_s,
    )
    return state.with_step(step.id, status=StepStatus.RUNNING, deadline=None), (command,)


def _verify(state: RunState, step: Step) -> Next:
    current = state.steps[step.id]
    assert current.plan is not None  # noqa: S101  # only applied changes are verified
    command = VerifyStep(
        step=step.id, plan=current.plan, attempt=current.attempt, timeout_s=step.timeout_s
    )
    return state.with_step(step.id, status=StepStatus.VERIFYING, deadline=None), (command,)


def _undo(state: RunState, step: Step) -> Next:
    current = state.steps[step.id]
    assert current.plan is not None  # noqa: S101  # only planned changes are undone
    command = UndoStep(step=step.id, plan=current.plan, timeout_s=step.timeout_s)
    return state.with_step(step.id, status=StepStatus.UNDOING, deadline=None), (command,)


# --- events of a step --------------------------------------------------------------------------

StepEvent = (
    events.Planned
    | events.PlanDrifted
    | events.Asked
    | events.Approved
    | events.Rejected
    | events.Answered
    | events.Decided
    | events.Applied
    | events.Verified
    | events.Undone
    | events.StepFailed
)


def _on_step_event(runbook: Runbook, state: RunState, event: StepEvent) -> Next:
    step = _current(runbook, state)
    status = state.steps[step.id].status
    match event:
        case events.Planned() if status is StepStatus.PLANNING:
            return _on_plan(runbook, state.with_step(step.id, plan=event.plan), step, event.at)
        case events.PlanDrifted() if _phase(step, status) == "apply":
            return _on_drift(runbook, state, step, event)
        case events.Approved() if status is StepStatus.AWAITING_APPROVAL:
            return _on_approved(runbook, state, step, event)
        case events.Rejected() if status is StepStatus.AWAITING_APPROVAL:
            return _on_rejected(runbook, state, step, event)
        case events.Answered() if status is StepStatus.AWAITING_ANSWER:
            state = state.with_step(step.id, facts={**event.values, "answered_by": event.by})
            return _done(runbook, _heard(runbook, state, event), step, event.at)
        case events.Decided() if status is StepStatus.AWAITING_DECISION:
            return _on_decided(runbook, state, step, event)
        case events.Applied() if status is StepStatus.RUNNING:
            state = state.with_step(step.id, facts=event.outcome.facts, failure=None)
            if step.effect in _CHANGES:
                return _verify(state.with_step(step.id, attempt=1), step)
            return _done(runbook, state, step, event.at)
        case events.Verified() if status is StepStatus.VERIFYING:
            facts = {**state.steps[step.id].facts, **event.outcome.facts}
            return _done(runbook, state.with_step(step.id, facts=facts), step, event.at)
        case events.Undone() if status is StepStatus.UNDOING:
            state = state.with_step(step.id, status=StepStatus.UNDONE, ended_at=event.at)
            failure = state.steps[step.id].failure
            reason = f"step {step.id} failed and was undone"
            reason += f": {failure.message}" if failure else ""
            return _finish(runbook, state, RunStatus.FAILED, reason, event.at)
        case events.StepFailed() if event.phase == _phase(step, status):
            return _on_failed(runbook, state, step, event)
        case _:
            return _still(runbook, state)


def _on_drift(runbook: Runbook, state: RunState, step: Step, event: events.PlanDrifted) -> Next:
    drifts = state.steps[step.id].drifts + 1
    state = state.with_step(step.id, plan=event.plan, approvals=(), drifts=drifts)
    if drifts > MAX_DRIFTS:
        message = (
            f"What {step.uses} would change has itself changed {drifts} times between plan and "
            "apply; nothing was changed. Find out who else is changing it, then retry."
        )
        return _fail(runbook, state, step, "apply", "ambiguous", message, event.at)
    return _on_plan(runbook, state, step, event.at)


def _on_approved(runbook: Runbook, state: RunState, step: Step, event: events.Approved) -> Next:
    approval = approval_needed(runbook, state, step)
    current = state.steps[step.id]
    if approval is None or not counts(state, approval, event) or event.by in current.approvals:
        return _still(runbook, state)
    approvals = (*current.approvals, event.by)
    state = state.with_step(step.id, approvals=approvals)
    if len(approvals) < approval.required:
        return _still(runbook, state)
    return _act(_engaged(state, event.by), step)


def _on_rejected(runbook: Runbook, state: RunState, step: Step, event: events.Rejected) -> Next:
    approval = approval_needed(runbook, state, step)
    if approval is None or not counts(state, approval, event):
        return _still(runbook, state)
    note = f"rejected by {event.by}" + (f": {event.reason}" if event.reason else "")
    state = state.having(engaged_by=event.by)  # a no lets nothing else run
    return _give_up(runbook, state, step, approval.on_timeout, note, event.at)


def _on_timer(runbook: Runbook, state: RunState, at: datetime) -> Next:
    step = _current(runbook, state)
    current = state.steps[step.id]
    if current.deadline is None or at < current.deadline:
        return _still(runbook, state)
    if current.status is StepStatus.AWAITING_APPROVAL:
        approval = approval_needed(runbook, state, step)
        policy = approval.on_timeout if approval else "stop"
        return _give_up(runbook, state, step, policy, "nobody approved in time", at)
    if current.status is StepStatus.AWAITING_ANSWER and step.manual is not None:
        note = "nobody answered in time"
        return _give_up(runbook, state, step, step.manual.on_timeout, note, at)
    if current.status is StepStatus.AWAITING_RETRY and current.failure is not None:
        return _again(runbook, state, step, current.failure.phase, at)
    return _still(runbook, state)


def _give_up(
    runbook: Runbook,
    state: RunState,
    step: Step,
    policy: Literal["skip", "stop"],
    note: str,
    at: datetime,
) -> Next:
    if policy == "skip":
        state = state.with_step(step.id, status=StepStatus.SKIPPED, note=note, ended_at=at)
        return _enter(runbook, state.having(cursor=state.cursor + 1), at)
    reason = f"step {step.id}: {note}"
    return _finish(runbook, state.with_step(step.id, note=note), RunStatus.STOPPED, reason, at)


# --- failure -----------------------------------------------------------------------------------


def _on_failed(runbook: Runbook, state: RunState, step: Step, event: events.StepFailed) -> Next:
    current = state.steps[step.id]
    if event.error in RETRYABLE and current.attempt < step.retry.attempts:
        delay_s = min(step.retry.delay_s * 2 ** (current.attempt - 1), LONGEST_DELAY_S)
        delay_s = max(delay_s, event.retry_after_s or 0.0)
        failure = Failure(phase=event.phase, error=event.error, message=event.message)
        state = state.with_step(
            step.id,
            status=StepStatus.AWAITING_RETRY,
            attempt=current.attempt + 1,
            failure=failure,
            deadline=_after(event.at, delay_s),
        )
        return _still(runbook, state)
    return _fail(runbook, state, step, event.phase, event.error, event.message, event.at)


def _fail(
    runbook: Runbook,
    state: RunState,
    step: Step,
    phase: events.Phase,
    error: events.ErrorKind,
    message: str,
    at: datetime,
) -> Next:
    """The step's attempts are used up: follow its ``on_failure``."""
    failure = Failure(phase=phase, error=error, message=message)
    state = state.with_step(step.id, failure=failure, deadline=None)
    policy = step.on_failure
    if error == "ambiguous" or phase == "undo" or policy == "ask":
        choices = _choices(state.steps[step.id])
        state = state.with_step(step.id, status=StepStatus.AWAITING_DECISION)
        ask = AskDecision(step=step.id, phase=phase, error=error, message=message, choices=choices)
        return state, (ask,)
    if policy == "undo" and phase in ("apply", "verify"):
        return _undo(state, step)
    state = state.with_step(step.id, status=StepStatus.FAILED, ended_at=at)
    if policy == "continue":
        return _enter(runbook, state.having(cursor=state.cursor + 1), at)
    return _finish(runbook, state, RunStatus.FAILED, f"step {step.id} failed: {message}", at)


def _choices(current: StepState) -> tuple[Choice, ...]:
    """What people may decide about a failed step."""
    if current.attempt == 0:
        # It was never begun: its parameters do not exist, so there is nothing to do again.
        return ("skip", "stop")
    failure = current.failure
    if failure is not None and failure.error == "ambiguous" and failure.phase == "apply":
        return ("done", "retry", "skip", "stop")
    return ("retry", "skip", "stop")


def _on_decided(runbook: Runbook, state: RunState, step: Step, event: events.Decided) -> Next:
    current = state.steps[step.id]
    if event.choice not in _choices(current):
        return _still(runbook, state)
    state = state.having(engaged_by=event.by)  # a no lets nothing else run
    phase = current.failure.phase if current.failure else "plan"
    if event.choice == "retry":
        state = state.with_step(step.id, attempt=1, drifts=0)
        return _again(runbook, state, step, phase, event.at)
    if event.choice == "done":
        return _verify(state.with_step(step.id, attempt=1), step)
    note = f"{event.choice} decided by {event.by}"
    state = state.with_step(step.id, status=StepStatus.FAILED, note=note, ended_at=event.at)
    if event.choice == "skip":
        return _enter(runbook, state.having(cursor=state.cursor + 1), event.at)
    return _finish(runbook, state, RunStatus.STOPPED, f"step {step.id}: {note}", event.at)


def _again(
    runbook: Runbook, state: RunState, step: Step, phase: events.Phase, at: datetime
) -> Next:
    match phase:
        case "plan":
            return _plan(state, step)
        case "run":
            return _run(state, step)
        case "apply":
            approval = approval_needed(runbook, state, step)
            if approval and len(state.steps[step.id].approvals) < approval.required:
                # The plan drifted since it was approved, and that approval is void.
                return _on_plan(runbook, state, step, at)
            return _act(state, step)
        case "verify":
            return _verify(state, step)
        case "undo":
            return _undo(state, step)
        case _:
            assert_never(phase)


# --- endings -----------------------------------------------------------------------------------


def _done(runbook: Runbook, state: RunState, step: Step, at: datetime) -> Next:
    state = state.with_step(
        step.id, status=StepStatus.DONE, failure=None, deadline=None, ended_at=at
    )
    return _enter(runbook, state.having(cursor=state.cursor + 1), at)


def _finish_at_end(runbook: Runbook, state: RunState, at: datetime) -> Next:
    failed = [
        step.id
        for step in runbook.steps
        if state.steps[step.id].status in (StepStatus.FAILED, StepStatus.UNDONE)
    ]
    if failed:
        reason = f"went through all steps, but failed: {', '.join(failed)}"
        return _finish(runbook, state, RunStatus.FAILED, reason, at)
    return _finish(runbook, state, RunStatus.DONE, "", at)


def _finish(
    runbook: Runbook, state: RunState, status: RunStatus, reason: str, at: datetime
) -> Next:
    if state.cursor < len(runbook.steps):
        step = _current(runbook, state)
        if not state.steps[step.id].status.is_final:
            state = state.with_step(step.id, status=StepStatus.STOPPED, deadline=None, ended_at=at)
    state = state.having(status=status, reason=reason)
    return state, (Finish(status=status, reason=reason),)


def _engaged(state: RunState, by: str) -> RunState:
    return state.having(person_engaged=True, engaged_by=by)


def _heard(runbook: Runbook, state: RunState, event: events.Answered | events.Decided) -> RunState:
    """Note who spoke. Only an owner's word lets steps without an approval run (policy, rule 3)."""
    if set(event.groups).isdisjoint(runbook.owners):
        return state.having(engaged_by=event.by)
    return _engaged(state, event.by)


def _after(at: datetime, seconds: float | None) -> datetime | None:
    return None if seconds is None else at + timedelta(seconds=seconds)
