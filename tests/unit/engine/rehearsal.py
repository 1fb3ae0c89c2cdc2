"""Runbooks made from their dataclasses, and a run of one that is driven by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bot.action import Effect
from bot.engine import RunState, StepState, StepStatus, advance
from bot.language import tree
from bot.language.expressions import Expression, parse
from bot.language.runbook import (
    Approval,
    Call,
    Foreach,
    Input,
    InputType,
    Manual,
    Parallel,
    Runbook,
    Step,
)
from bot.model import events
from bot.model.alert import Alert
from bot.model.commands import Command, Finish, Wait
from bot.model.events import Event
from bot.model.incident import Origin, RunStatus, Severity
from bot.model.outcome import Check, Outcome, Proof
from bot.model.plan import Plan

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
ALERT = Origin(kind="alert", actor="alert:alertmanager")
SAM = Origin(kind="person", actor="slack:U0SAM")

USES = {
    Effect.READ: "logs.look",
    Effect.NOTIFY: "notify.tell",
    Effect.CHANGE: "gateway.close",
    Effect.IRREVERSIBLE: "data.wipe",
}


def expression(source: str) -> Any:
    """Return an expression as ``bot.language.load`` makes it."""
    return parse(source)


def named(name: str) -> Expression:
    """Return the expression that reads a name which is there in an iteration only."""
    return Expression(name, tree.Name(0, name))


def step(id_: str, effect: Effect | None = Effect.READ, **fields: Any) -> Step:
    """Return a step of one of the four effects."""
    uses = USES[effect] if effect else None
    return Step(id=id_, line=1, uses=uses, effect=effect, **fields)


def change(id_: str, **fields: Any) -> Step:
    return step(id_, Effect.CHANGE, **fields)


def manual(id_: str, **fields: Any) -> Step:
    return Step(id=id_, line=1, manual=Manual(ask="Is it deployed?", **fields))


def parallel(
    *branches: Step | tuple[Step, ...], id_: str = "both", join: Any = "all", **fields: Any
) -> Step:
    """Return a parallel; a branch of one step may be given as the step."""
    made = tuple(branch if isinstance(branch, tuple) else (branch,) for branch in branches)
    return _group(id_, fields, parallel=Parallel(branches=made, join=join))


def foreach(
    *steps: Step,
    items: Any,
    id_: str = "each",
    concurrency: int = 1,
    outputs: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Step:
    """Return a foreach whose items are called ``item``."""
    loop = Foreach(items, "item", steps, concurrency, dict(outputs or {}))
    return _group(id_, fields, foreach=loop)


def call(other: Runbook, id_: str = "contain", /, **fields: Any) -> Step:
    """Return a step that calls another runbook; ``inputs`` are given to it."""
    made = Call(other.id, fields.pop("inputs", {}), other)
    return _group(id_, fields, call=made)


def _group(id_: str, fields: dict[str, Any], **kind: Any) -> Step:
    return Step(id=id_, line=1, **{"on_failure": "stop"} | fields | kind)


def shared(*groups: str, **fields: Any) -> Approval:
    """Return an approval that several steps share."""
    return Approval(groups=groups or ("security",), card="all-of-it", **fields)


def takes(name: str, type_: InputType = InputType.STRING) -> dict[str, Input]:
    """Return the declaration of one input."""
    return {name: Input(name=name, type=type_)}


def book(*steps: Step, owners: tuple[str, ...] = ("oncall",), **fields: Any) -> Runbook:
    given = {"id": "book", "inputs": {}, "text": "", "digest": "0" * 64} | fields
    return Runbook(
        name="A book",
        summary="For a test.",
        severity=Severity.SEV2,
        owners=owners,
        triggers=(),
        steps=steps,
        **given,
    )


def plan_of(step_id: str, after: Any = "closed", before: Any = "open") -> Plan:
    return Plan(
        action=USES[Effect.CHANGE],
        params={},
        summary=f"Does {step_id}.",
        before=before,
        after=after,
    )


class Rehearsal:
    """One run. Events are given by the methods; each takes place a second after the one before."""

    def __init__(
        self,
        runbook: Runbook,
        *,
        origin: Origin = SAM,
        auto: tuple[str, ...] = (),
        inputs: Mapping[str, Any] | None = None,
        kept: Mapping[str, StepState] | None = None,
        run_id: str = "INC-1-R1",
    ) -> None:
        self.runbook = runbook
        self.now = NOON
        self.state: RunState
        self.commands: tuple[Command, ...] = ()
        self.given: list[Event] = []
        self.give(
            events.RunStarted(
                at=self.now,
                incident_id="INC-1",
                run_id=run_id,
                inputs=dict(inputs or {}),
                origin=origin,
                alert=_ALERT if origin is ALERT else None,
                auto=auto,
                kept={key: old.model_dump(mode="json") for key, old in (kept or {}).items()},
            )
        )

    @classmethod
    def going_on(cls, runbook: Runbook, state: RunState) -> Rehearsal:
        """Return a run that stands where ``state`` says; nothing is outstanding yet."""
        run = cls.__new__(cls)
        run.runbook, run.state, run.now = runbook, state, NOON + timedelta(minutes=1)
        run.commands, run.given = (), []
        return run

    def give(self, event: Event) -> Command | None:
        """Give one event; return the last command that came of it."""
        state = getattr(self, "state", None)
        self.given.append(event)
        self.state, self.commands = advance(self.runbook, state, event)
        self.now += timedelta(seconds=1)
        return self.last

    @property
    def last(self) -> Command | None:
        return self.commands[-1] if self.commands else None

    @property
    def doing(self) -> list[str]:
        """The steps that have a command outstanding, in order."""
        return [each.step for each in self.commands if not isinstance(each, Wait | Finish)]

    def of(self, step_id: str) -> Command | None:
        """Return the command of a step that is outstanding."""
        mine = [each for each in self.commands if getattr(each, "step", "") == step_id]
        assert len(mine) <= 1
        return mine[0] if mine else None

    @property
    def ended(self) -> tuple[RunStatus, str]:
        return self.state.status, self.state.reason

    def at(self, step_id: str) -> StepState:
        return self.state.step(step_id)

    def status(self, step_id: str) -> StepStatus:
        return self.at(step_id).status

    # --- what happens --------------------------------------------------------------------------

    def planned(self, step_id: str, plan: Plan | None = None) -> Command | None:
        plan = plan or plan_of(step_id)
        return self.give(events.Planned(at=self.now, step=step_id, plan=plan))

    def drifted(self, step_id: str, plan: Plan) -> Command | None:
        return self.give(events.PlanDrifted(at=self.now, step=step_id, plan=plan))

    def asked(self, step_id: str) -> Command | None:
        return self.give(events.Asked(at=self.now, step=step_id))

    def approved(self, step_id: str, by: str, *groups: str, digest: str = "") -> Command | None:
        return self.give(
            events.Approved(
                at=self.now,
                step=step_id,
                digest=digest or self._digest(step_id),
                by=by,
                groups=groups or ("oncall",),
            )
        )

    def rejected(self, step_id: str, by: str, *groups: str, reason: str = "") -> Command | None:
        return self.give(
            events.Rejected(
                at=self.now,
                step=step_id,
                digest=self._digest(step_id),
                by=by,
                groups=groups or ("oncall",),
                reason=reason,
            )
        )

    def overridden(
        self, step_id: str, by: str, *groups: str, reason: str = "It burns.", digest: str = ""
    ) -> Command | None:
        return self.give(
            events.Overridden(
                at=self.now,
                step=step_id,
                digest=digest or self._digest(step_id),
                by=by,
                groups=groups,
                reason=reason,
            )
        )

    def answered(
        self, step_id: str, by: str = "slack:U1", groups: tuple[str, ...] = (), **values: Any
    ) -> Command | None:
        answer = events.Answered(at=self.now, step=step_id, by=by, groups=groups, values=values)
        return self.give(answer)

    def reminded(self, step_id: str) -> Command | None:
        return self.give(events.Reminded(at=self.now, step=step_id))

    def decided(
        self, step_id: str, choice: Any, by: str = "slack:U1", groups: tuple[str, ...] = ()
    ) -> Command | None:
        return self.give(
            events.Decided(at=self.now, step=step_id, by=by, groups=groups, choice=choice)
        )

    def applied(self, step_id: str, **facts: Any) -> Command | None:
        outcome = Outcome(facts=facts)
        return self.give(events.Applied(at=self.now, step=step_id, outcome=outcome))

    def verified(self, step_id: str) -> Command | None:
        proof = Proof(checks=(Check(name="seen", ok=True, expected="403", seen="403"),))
        outcome = Outcome(proof=proof)
        return self.give(events.Verified(at=self.now, step=step_id, outcome=outcome))

    def undone(self, step_id: str) -> Command | None:
        return self.give(events.Undone(at=self.now, step=step_id, outcome=Outcome()))

    def failed(
        self,
        step_id: str,
        phase: Any = "run",
        error: Any = "unreachable",
        retry_after_s: float | None = None,
    ) -> Command | None:
        return self.give(
            events.StepFailed(
                at=self.now,
                step=step_id,
                phase=phase,
                error=error,
                message="It did not work.",
                retry_after_s=retry_after_s,
            )
        )

    def timer(self, **later: float) -> Command | None:
        """Let time pass and the timer fire."""
        self.now += timedelta(**later)
        return self.give(events.TimerFired(at=self.now))

    def changed(self, step_id: str, plan: Plan | None = None) -> Command | None:
        """Take a change that needs no yes from its plan to its end."""
        if self.status(step_id) is not StepStatus.RUNNING:
            self.planned(step_id, plan)
        self.applied(step_id)
        return self.verified(step_id)

    def cancelled(
        self, by: str = "slack:U1", reason: str = "", *, undo: bool = False
    ) -> Command | None:
        return self.give(events.Cancelled(at=self.now, by=by, reason=reason, undo=undo))

    def paused(self, by: str = "slack:U1") -> Command | None:
        return self.give(events.Paused(at=self.now, by=by))

    def resumed(self, by: str = "slack:U1") -> Command | None:
        return self.give(events.Resumed(at=self.now, by=by))

    def skipped(self, step_id: str, by: str = "slack:U1", reason: str = "") -> Command | None:
        return self.give(events.Skipped(at=self.now, step=step_id, by=by, reason=reason))

    def retried(self, step_id: str, by: str = "slack:U1", *groups: str) -> Command | None:
        return self.give(events.Retried(at=self.now, step=step_id, by=by, groups=groups))

    def undo_asked(self, by: str = "slack:U1", reason: str = "") -> Command | None:
        return self.give(events.UndoAsked(at=self.now, by=by, reason=reason))

    def _digest(self, step_id: str) -> str:
        return self.at(step_id).card or "none"


_ALERT = Alert(source="alertmanager", fingerprint="f1", starts_at=NOON)
