"""Doing a command: calling an action and turning what comes of it into an event."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from bot.action import Action, ChangeAction, NotifyAction, PostmortemDesk, ReadAction
from bot.errors import (
    Ambiguous,
    BadInput,
    FiredoorError,
    ProviderRefused,
    ProviderUnreachable,
    Refused,
    StoreUnavailable,
    TimedOut,
    VerificationFailed,
)
from bot.language.runbook import Runbook
from bot.model import events
from bot.model.base import digest_of
from bot.model.commands import (
    ApplyStep,
    AskApproval,
    AskDecision,
    AskPerson,
    Command,
    PlanStep,
    Remind,
    RunStep,
    UndoStep,
    VerifyStep,
)
from bot.model.endpoint import Endpoint
from bot.model.events import ErrorKind, Event, Phase
from bot.model.incident import Incident
from bot.model.outcome import Outcome, Proof
from bot.model.plan import Plan
from bot.ports import Clock, EvidenceFiles, Redactor, Store
from bot.service.containments import ContainmentDesk
from bot.service.context import ActionContext, Connections, IncidentEvidence, StepNotes
from bot.service.people import Groups
from bot.service.preview import Foreseen, Preview
from bot.service.record import Position, Recorder, position_of

log = logging.getLogger(__name__)

Step = PlanStep | RunStep | ApplyStep | VerifyStep | UndoStep

_PHASE: dict[type, Phase] = {
    PlanStep: "plan",
    RunStep: "run",
    ApplyStep: "apply",
    VerifyStep: "verify",
    UndoStep: "undo",
}


class Performer:
    """Does the commands of runs."""

    def __init__(
        self,
        *,
        store: Store,
        recorder: Recorder,
        clock: Clock,
        redactor: Redactor,
        files: EvidenceFiles,
        actions: Mapping[str, Action[Any]],
        connections: Connections,
        endpoints: Mapping[str, Endpoint],
        desk: ContainmentDesk,
        postmortem: Callable[[str], PostmortemDesk],
    ) -> None:
        self._store, self._recorder, self._clock = store, recorder, clock
        self._redactor, self._files, self._actions = redactor, files, actions
        self._connections, self._endpoints, self._desk = connections, endpoints, desk
        self._postmortem = postmortem
        self._calls = ThreadPoolExecutor(max_workers=32, thread_name_prefix="action")
        self._overdue: dict[tuple[str, str], Future[Event]] = {}

    def perform(self, run_id: str, position: int) -> Position:
        """Do the run's next command and record what came of it.

        Safe to repeat after a crash: at a position that has passed it does nothing, and actions
        observe before they repeat.

        Raises:
            StoreUnavailable: The journal cannot be written; nothing was recorded.
        """
        with self._store.read() as tx:
            stored = tx.run(run_id)
            incident = tx.incident(stored.run.incident_id)
        current = position_of(stored)
        if current.events != position:
            return current
        command = next_of(current.commands)
        if isinstance(command, AskApproval | AskPerson | AskDecision | Remind):
            return self._recorder.ask(run_id, position, command)
        return self._recorder.record(run_id, position, self._do(incident, run_id, command))

    def foresee(
        self, runbook: Runbook, inputs: Mapping[str, Any], groups: Groups, actor: str
    ) -> list[Foreseen]:
        """Plan every step of a runbook that can be planned before a run. Reads only."""
        context = self._context_of("(none)", runbook.name, "(none)", "(none)")
        preview = Preview(actions=self._actions, context=context, groups=groups, clock=self._clock)
        return preview.foresee(runbook, inputs, self._endpoints, actor)

    def _do(self, incident: Incident, run_id: str, command: Command) -> Event:
        assert isinstance(command, Step)  # noqa: S101  # the driver handles Wait and Finish
        action = self._actions[
            command.action if isinstance(command, PlanStep | RunStep) else command.plan.action
        ]
        phase = _PHASE[type(command)]
        context = self._context(incident, run_id, command)
        try:
            return self._within_time(
                lambda: _journalable(self._call(action, command, context)),
                command.timeout_s or action.timeout_s,
                (run_id, command.step),
                f"{action.name} ({phase})",
            )
        except StoreUnavailable:
            raise
        except FiredoorError as error:
            return self._failed(command.step, phase, error)
        except Exception as error:  # the edge of foreign code: see below
            # An unforeseen error in an action says nothing about what it did before it. The run
            # must neither go on as if all were well nor hang: a person decides.
            log.exception("%s raised %s", action.name, type(error).__name__)
            message = (
                f"{action.name} stopped with an unforeseen {type(error).__name__}; whether it "
                "took effect is not known. Look at the system itself, then decide."
            )
            return self._failed(command.step, phase, Ambiguous(message))

    def _context(self, incident: Incident, run_id: str, command: Step) -> ActionContext:
        context = self._context_of(incident.id, incident.title, run_id, command.step)
        if isinstance(command, ApplyStep):
            context = replace(context, actor=command.actor, ttl_s=command.ttl_s)
        return context

    def _context_of(self, incident_id: str, title: str, run_id: str, step_id: str) -> ActionContext:
        ids = (incident_id, run_id, step_id)
        return ActionContext(
            incident_id=incident_id,
            incident_title=title,
            run_id=run_id,
            step_id=step_id,
            actor="firedoor",
            ttl_s=None,
            endpoints=self._endpoints,
            containments=self._desk,
            evidence=IncidentEvidence(self._store, self._files, self._clock, *ids),
            notes=StepNotes(self._store, self._clock, self._redactor, ids),
            postmortem=self._postmortem(incident_id),
            clock=self._clock,
            connections=self._connections,
        )

    def _call(self, action: Action[Any], command: Step, ctx: ActionContext) -> Event:
        match command, action:
            case RunStep(), ReadAction():
                outcome = action.run(_read(action, command.params), ctx)
                return self._applied(command.step, outcome)
            case RunStep(), NotifyAction():
                outcome = action.compose(_read(action, command.params), ctx)
                return self._applied(command.step, outcome)
            case PlanStep(), ChangeAction():
                plan = _plan(action, command.params, ctx)
                return events.Planned(at=self._clock.now(), step=command.step, plan=plan)
            case ApplyStep(), ChangeAction():
                return self._apply(action, command, ctx)
            case VerifyStep(), ChangeAction():
                proof = action.verify(command.plan, ctx)
                if not proof.ok:
                    raise VerificationFailed(_unproven(action, proof))
                outcome = Outcome(proof=proof)
                return events.Verified(at=self._clock.now(), step=command.step, outcome=outcome)
            case UndoStep(), ChangeAction():
                outcome = action.undo(command.plan, ctx)
                return events.Undone(at=self._clock.now(), step=command.step, outcome=outcome)
            case _:
                raise BadInput(
                    f"{action.name} has effect {action.effect.value} and cannot be asked to "
                    f"{command.kind}; nothing was done. The runbook was checked against another "
                    "version of the action; start a new run."
                )

    def _apply(self, action: ChangeAction[Any], command: ApplyStep, ctx: ActionContext) -> Event:
        """Apply, if the world is as planned or differs only by this step's own earlier attempt."""
        params = _read(action, command.plan.params)
        observed = action.observe(params, ctx)
        if not action.in_progress(command.plan, observed, ctx):
            now = action.plan(params, observed)
            if now.digest != command.plan.digest:
                return events.PlanDrifted(at=self._clock.now(), step=command.step, plan=now)
        return self._applied(command.step, action.apply(command.plan, ctx))

    def _applied(self, step: str, outcome: Outcome) -> Event:
        return events.Applied(at=self._clock.now(), step=step, outcome=outcome)

    def _failed(self, step: str, phase: Phase, error: FiredoorError) -> Event:
        return events.StepFailed(
            at=self._clock.now(),
            step=step,
            phase=phase,
            error=_kind(error),
            message=self._redactor.text(str(error)),
            retry_after_s=getattr(error, "retry_after_s", None),
        )

    def _within_time(
        self, call: Callable[[], Event], timeout_s: float, key: tuple[str, str], what: str
    ) -> Event:
        """Call in a thread and give up after ``timeout_s``; never start a second call of the same
        step while a given-up one still runs."""
        overdue = self._overdue.get(key)
        if overdue is not None and not overdue.done():
            raise ProviderUnreachable(
                f"An earlier call of {what} still runs; a second one was not started. Wait for it."
            )
        self._overdue.pop(key, None)
        future = self._calls.submit(call)
        try:
            return future.result(timeout_s)
        except FutureTimeoutError:
            if future.cancel():
                raise ProviderUnreachable(
                    f"{what} was not begun: all workers are busy. It is tried again."
                ) from None
            if future.done():
                return future.result()
            self._overdue[key] = future
            raise TimedOut(
                f"{what} took longer than {timeout_s:g} s; whether it took effect is not known "
                "yet. A retry looks before it repeats."
            ) from None


def next_of(commands: Sequence[Command]) -> Command:
    """Return which of the outstanding commands is done next: questions come before calls, so that
    people think while systems work; to wait is last."""
    asks = (AskApproval, AskPerson, AskDecision, Remind)
    return next((c for c in commands if isinstance(c, asks)), commands[0])


def _plan(action: ChangeAction[Any], params: Mapping[str, Any], ctx: ActionContext) -> Plan:
    read = _read(action, params)
    return action.plan(read, action.observe(read, ctx))


def _journalable(event: Event) -> Event:
    """Raise where the journal would: what it cannot hold fails as the action's own fault."""
    digest_of(event.model_dump(mode="json"))
    return event


def _read(action: Action[Any], params: Mapping[str, Any]) -> Any:
    try:
        return action.read_params(params)
    except ValidationError as error:
        problem = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BadInput(
            f"{action.name} was given parameters that it cannot take ({problem}); it was not "
            "called. Mend the runbook or its inputs."
        ) from None


def _unproven(action: Action[Any], proof: Proof) -> str:
    if not proof.checks:
        return f"{action.name} made its change but looked at nothing; the effect is not proven."
    failed = [check for check in proof.checks if not check.ok]
    shown = "; ".join(f"{c.name}: expected {c.expected}, saw {c.seen}" for c in failed[:5])
    more = f" (and {len(failed) - 5} more)" if len(failed) > 5 else ""
    return (
        f"{action.name} made its change, but {len(failed)} of {len(proof.checks)} checks from "
        f"outside do not hold: {shown}{more}. Look at the system, then retry or decide."
    )


def _kind(error: FiredoorError) -> ErrorKind:
    match error:
        case ProviderUnreachable():
            return "unreachable"
        case TimedOut():
            return "timeout"
        case VerificationFailed():
            return "unverified"
        case Ambiguous():
            return "ambiguous"
        case BadInput() | Refused() | ProviderRefused():
            return "refused"
        case _:
            return "failed"
