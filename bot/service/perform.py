"""Doing a command: calling an action and turning what comes of it into an event."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import ValidationError

from bot.action import Action, ChangeAction, NotifyAction, PostmortemDesk, ReadAction
from bot.errors import (
    Ambiguous,
    BadInput,
    FiredoorError,
    LeaseLost,
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
    PlanStep,
    RunStep,
    UndoStep,
    VerifyStep,
)
from bot.model.endpoint import Endpoint
from bot.model.events import ErrorKind, Event, Phase
from bot.model.incident import Incident, Run
from bot.model.outcome import Outcome, Proof
from bot.model.plan import Plan
from bot.ports import Clock, EvidenceFiles, Redactor, Store
from bot.service.calls import CallThreads
from bot.service.containments import ContainmentDesk
from bot.service.context import ActionContext, Connections, IncidentEvidence, StepNotes
from bot.service.guards import GuardRails, alerts_of_last_hour, briefed
from bot.service.lease import Lease
from bot.service.people import Groups
from bot.service.preview import Foreseen, Preview

log = logging.getLogger(__name__)

Step = PlanStep | RunStep | ApplyStep | VerifyStep | UndoStep

BY_ALERT = "alert:"
"""What the actor begins with of what no person stands behind."""

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
        clock: Clock,
        redactor: Redactor,
        files: EvidenceFiles,
        actions: Mapping[str, Action[Any]],
        connections: Connections,
        endpoints: Mapping[str, Endpoint],
        desk: ContainmentDesk,
        postmortem: Callable[[str], PostmortemDesk],
        guards: GuardRails | None = None,
    ) -> None:
        self._store, self._clock = store, clock
        self._redactor, self._files, self._actions = redactor, files, actions
        self._connections, self._endpoints, self._desk = connections, endpoints, desk
        self._postmortem = postmortem
        self._guards = guards or GuardRails()
        self._threads = CallThreads()
        self._one_by_alert = threading.Lock()
        """Held while an alert's containment is counted and made, so that none slips past."""
        self._under_way: dict[tuple[str, str], Call] = {}
        """The calls that have not ended, whoever may still wait for them."""

    def session(self, run: Run, lease: Lease) -> Session:
        """Return what does the commands of one run while the lease holds."""
        return Session(self, run, lease)

    def foresee(
        self, runbook: Runbook, inputs: Mapping[str, Any], groups: Groups, actor: str
    ) -> list[Foreseen]:
        """Plan every step of a runbook that can be planned before a run. Reads only."""
        context = self._context_of("(none)", runbook.name, "(none)", "(none)", self._store)
        preview = Preview(actions=self._actions, context=context, groups=groups, clock=self._clock)
        return preview.foresee(runbook, inputs, self._endpoints, actor)

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no call is under way; False if one still is."""
        return self._threads.wait_idle(timeout_s)

    def begin(
        self,
        incident: Callable[[], Incident],
        command: Step,
        lease: Lease,
        done: Callable[[], None],
    ) -> Call:
        """Begin a call; never a second one of the same step while an earlier one still runs."""
        action = self._actions[
            command.action if isinstance(command, PlanStep | RunStep) else command.plan.action
        ]
        phase = _PHASE[type(command)]
        what = f"{action.name} ({phase})"
        timeout_s = command.timeout_s or action.timeout_s
        key = (lease.run_id, command.step)

        def too_long(_call: Call) -> Event:
            error = TimedOut(
                f"{what} took longer than {timeout_s:g} s; whether it took effect is not known "
                "yet. A retry looks before it repeats."
            )
            return self._failed(command.step, phase, error)

        call = Call(command.step, timeout_s, done, too_long)
        earlier = self._under_way.get(key)
        if earlier is not None and not earlier.has_ended:
            # Given up after its time, or left behind by a drive that is no more.
            error = ProviderUnreachable(
                f"An earlier call of {what} still runs; a second one was not started. Wait for it."
            )
            call.run(lambda: self._failed(command.step, phase, error))
            return call
        self._under_way = {k: c for k, c in self._under_way.items() if not c.has_ended}
        self._under_way[key] = call
        self._threads.begin(
            lambda: call.run(lambda: self._do(action, incident, command, phase, lease))
        )
        return call

    def _do(
        self,
        action: Action[Any],
        incident: Callable[[], Incident],
        command: Step,
        phase: Phase,
        lease: Lease,
    ) -> Event:
        try:
            context = self._context(incident(), command, lease)
            return _journalable(self._call(action, command, context, lease))
        except (StoreUnavailable, LeaseLost):
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

    def _context(self, incident: Incident, command: Step, lease: Lease) -> ActionContext:
        context = self._context_of(
            incident.id, incident.title, lease.run_id, command.step, lease.store, lease
        )
        if isinstance(command, ApplyStep):
            context = replace(context, actor=command.actor, ttl_s=command.ttl_s)
        return context

    def _context_of(
        self,
        incident_id: str,
        title: str,
        run_id: str,
        step_id: str,
        store: Store,
        lease: Lease | None = None,
    ) -> ActionContext:
        ids = (incident_id, run_id, step_id)
        return ActionContext(
            incident_id=incident_id,
            incident_title=title,
            run_id=run_id,
            step_id=step_id,
            actor="firedoor",
            ttl_s=None,
            endpoints=self._endpoints,
            containments=self._desk.bound(store, lease.confirm) if lease else self._desk,
            evidence=IncidentEvidence(store, self._files, self._clock, *ids),
            notes=StepNotes(store, self._clock, self._redactor, ids),
            postmortem=self._postmortem(incident_id),
            clock=self._clock,
            connections=self._connections,
        )

    def _call(self, action: Action[Any], command: Step, ctx: ActionContext, lease: Lease) -> Event:
        match command, action:
            case RunStep(), ReadAction():
                params = _read(action, command.params)
                lease.check()
                outcome = action.run(params, ctx)
                return self._applied(command.step, outcome)
            case RunStep(), NotifyAction():
                outcome = action.compose(_read(action, command.params), ctx)
                return self._applied(command.step, outcome)
            case PlanStep(), ChangeAction():
                plan = self._planned(action, command, ctx, lease)
                return events.Planned(at=self._clock.now(), step=command.step, plan=plan)
            case ApplyStep(), ChangeAction():
                return self._apply(action, command, ctx, lease)
            case VerifyStep(), ChangeAction():
                proof = action.verify(command.plan, ctx)
                if not proof.ok:
                    raise VerificationFailed(_unproven(action, proof))
                outcome = Outcome(proof=proof)
                return events.Verified(at=self._clock.now(), step=command.step, outcome=outcome)
            case UndoStep(), ChangeAction():
                lease.confirm()
                outcome = action.undo(command.plan, ctx)
                return events.Undone(at=self._clock.now(), step=command.step, outcome=outcome)
            case _:
                raise BadInput(
                    f"{action.name} has effect {action.effect.value} and cannot be asked to "
                    f"{command.kind}; nothing was done. The runbook was checked against another "
                    "version of the action; start a new run."
                )

    def _planned(
        self, action: ChangeAction[Any], command: PlanStep, ctx: ActionContext, lease: Lease
    ) -> Plan:
        params = _read(action, command.params)
        plan = action.plan(params, action.observe(params, ctx))
        return self._briefed(plan, action, ctx, lease, is_asked=command.brief)

    def _briefed(
        self,
        plan: Plan,
        action: ChangeAction[Any],
        ctx: ActionContext,
        lease: Lease,
        *,
        is_asked: bool,
    ) -> Plan:
        by_alerts = partial(self._by_alerts, lease.run_id)
        return briefed(plan, action, ctx, self._guards, by_alerts, is_asked=is_asked)

    def _by_alerts(self, run_id: str) -> int:
        """Count the containments of the last hour that alerts have started; 0 if a person started
        this run."""
        with self._store.read() as tx:
            is_by_alert = tx.run(run_id).run.origin.kind == "alert"
            return alerts_of_last_hour(tx, self._clock.now()) if is_by_alert else 0

    def _apply(
        self, action: ChangeAction[Any], command: ApplyStep, ctx: ActionContext, lease: Lease
    ) -> Event:
        """Apply, if the world is as planned or differs only by this step's own earlier attempt."""
        control = action.holds(command.plan)
        if control is not None:
            self._guards.check(control)
        params = _read(action, command.plan.params)
        observed = action.observe(params, ctx)
        if not action.in_progress(command.plan, observed, ctx):
            now = action.plan(params, observed)
            if now.digest != command.plan.digest:
                return self._ask_anew(now, action, command, ctx, lease)
            if control is not None and command.actor.startswith(BY_ALERT):
                # Others may have been planned beside it, when there was room for each of them.
                with self._one_by_alert:
                    if self._guards.is_used_up(partial(self._by_alerts, lease.run_id)):
                        return self._ask_anew(now, action, command, ctx, lease)
                    lease.confirm()
                    return self._applied(command.step, action.apply(command.plan, ctx))
        lease.confirm()
        return self._applied(command.step, action.apply(command.plan, ctx))

    def _ask_anew(
        self,
        plan: Plan,
        action: ChangeAction[Any],
        command: ApplyStep,
        ctx: ActionContext,
        lease: Lease,
    ) -> Event:
        plan = self._briefed(plan, action, ctx, lease, is_asked=True)
        return events.PlanDrifted(at=self._clock.now(), step=command.step, plan=plan)

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


class Call:
    """One call of an action, under way or ended."""

    def __init__(
        self,
        step: str,
        timeout_s: float,
        done: Callable[[], None],
        too_long: Callable[[Call], Event],
    ) -> None:
        self.step = step
        self.deadline_s = time.monotonic() + timeout_s
        self._done, self._too_long = done, too_long
        self._ended = threading.Event()
        self._event: Event | None = None
        self._error: BaseException | None = None

    def run(self, call: Callable[[], Event]) -> None:
        """Do the work, in whatever thread; what comes of it is kept for the drive."""
        try:
            self._event = call()
        except BaseException as error:  # noqa: BLE001  # it is raised again in the drive
            self._error = error
        self._ended.set()
        self._done()

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    def is_over(self) -> bool:
        """Tell whether it has ended, or has taken all of its time."""
        return self.has_ended or time.monotonic() >= self.deadline_s

    def event(self) -> Event:
        """Return what came of a call that is over.

        Raises:
            StoreUnavailable: It could not be done; it is to be begun again.

            LeaseLost: It may not be done any more.
        """
        if not self.has_ended:
            return self._too_long(self)
        if self._error is not None:
            raise self._error
        assert self._event is not None  # noqa: S101  # set before it ended
        return self._event


class Session:
    """Begins the calls of one drive."""

    def __init__(self, performer: Performer, run: Run, lease: Lease) -> None:
        self._performer, self._run, self._lease = performer, run, lease
        self._incident: Incident | None = None

    def begin(self, command: Step, done: Callable[[], None]) -> Call:
        """Begin a call. Safe to repeat after a crash: actions observe before they repeat."""
        return self._performer.begin(self._read_incident, command, self._lease, done)

    def _read_incident(self) -> Incident:
        if self._incident is None:
            with self._lease.store.read() as tx:
                self._incident = tx.incident(self._run.incident_id)
        return self._incident


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
