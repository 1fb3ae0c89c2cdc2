"""What the engine wants done next. The service does it and answers with an event."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from bot.model.base import Frozen, Utc
from bot.model.events import ErrorKind, Phase
from bot.model.incident import RunStatus
from bot.model.plan import Plan


class PlanStep(Frozen):
    """Observe and plan a change. Answers: Planned, StepFailed."""

    kind: Literal["plan_step"] = "plan_step"
    step: str
    action: str
    params: dict[str, Any]
    timeout_s: float | None = None


class RunStep(Frozen):
    """Do a READ, or compose a NOTIFY. Answers: Applied, StepFailed."""

    kind: Literal["run_step"] = "run_step"
    step: str
    action: str
    params: dict[str, Any]
    attempt: int
    timeout_s: float | None = None


class ApplyStep(Frozen):
    """Make a planned change, if its plan still holds. Answers: Applied, PlanDrifted, StepFailed."""

    kind: Literal["apply_step"] = "apply_step"
    step: str
    plan: Plan
    attempt: int
    actor: str
    ttl_s: float | None = None
    timeout_s: float | None = None


class VerifyStep(Frozen):
    """Prove a change from outside. Answers: Verified, StepFailed."""

    kind: Literal["verify_step"] = "verify_step"
    step: str
    plan: Plan
    attempt: int
    timeout_s: float | None = None


class UndoStep(Frozen):
    """Take a change back. Answers: Undone, StepFailed."""

    kind: Literal["undo_step"] = "undo_step"
    step: str
    plan: Plan
    timeout_s: float | None = None


class AskApproval(Frozen):
    """Put a plan before people. ``excluded`` (who started the run) may not approve.

    Answers: Asked.
    """

    kind: Literal["ask_approval"] = "ask_approval"
    step: str
    plan: Plan
    groups: tuple[str, ...]
    required: int
    excluded: tuple[str, ...] = ()
    expires_at: Utc | None = None


class AskPerson(Frozen):
    """Ask a manual step's question. ``fields`` is name to declaration. Answers: Asked."""

    kind: Literal["ask_person"] = "ask_person"
    step: str
    ask: str
    fields: dict[str, Any] = {}
    expires_at: Utc | None = None


class AskDecision(Frozen):
    """Ask what to do about a failure. Answers: Asked."""

    kind: Literal["ask_decision"] = "ask_decision"
    step: str
    phase: Phase
    error: ErrorKind
    message: str
    choices: tuple[Literal["retry", "skip", "stop", "done"], ...]


class Wait(Frozen):
    """Wait for a message, or until a moment. Answers: what came, or TimerFired."""

    kind: Literal["wait"] = "wait"
    until: Utc | None = None


class Finish(Frozen):
    """The run is over. Always the last command."""

    kind: Literal["finish"] = "finish"
    status: RunStatus
    reason: str = ""


Command = Annotated[
    PlanStep
    | RunStep
    | ApplyStep
    | VerifyStep
    | UndoStep
    | AskApproval
    | AskPerson
    | AskDecision
    | Wait
    | Finish,
    Field(discriminator="kind"),
]

COMMAND: TypeAdapter[Command] = TypeAdapter(Command)
"""Reads a command back from its JSON."""
