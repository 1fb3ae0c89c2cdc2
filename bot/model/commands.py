"""What the engine wants done. The service does it and answers with an event.

What ``advance`` returns is everything that is outstanding: commands of different steps may be done
side by side, and one that is under way already is listed again until its event has come. At most
one command of a step is outstanding at any time.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from bot.model.base import Frozen, Utc
from bot.model.events import ErrorKind, Phase
from bot.model.incident import RunStatus
from bot.model.plan import Plan


class PlanStep(Frozen):
    """
    Observe and plan a change. Answers: Planned, StepFailed.

    ``brief`` is true if people are going to be asked: then they are told more than the plan.
    """

    kind: Literal["plan_step"] = "plan_step"
    step: str
    action: str
    params: dict[str, Any]
    brief: bool = False
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

    ``digest`` is what a yes binds to: the runbook's version and the plans of all steps on the card.
    ``also`` holds the plans of the other steps that share the card, by key. ``break_glass`` is the
    group that may override. Answers: Asked.
    """

    kind: Literal["ask_approval"] = "ask_approval"
    step: str
    plan: Plan
    digest: str = ""
    also: dict[str, Plan] = {}
    groups: tuple[str, ...]
    required: int
    excluded: tuple[str, ...] = ()
    break_glass: str | None = None
    expires_at: Utc | None = None


class AskPerson(Frozen):
    """Ask a manual step's question. ``fields`` is name to declaration. Answers: Asked."""

    kind: Literal["ask_person"] = "ask_person"
    step: str
    ask: str
    fields: dict[str, Any] = {}
    assignee: str | None = None
    due_at: Utc | None = None
    expires_at: Utc | None = None


class Remind(Frozen):
    """Remind of a manual step's question, or say that its answer is overdue. Answers: Reminded.

    ``number`` counts the reminders of this question from 1.
    """

    kind: Literal["remind"] = "remind"
    step: str
    number: int
    overdue: bool = False


class AskDecision(Frozen):
    """Ask what to do about a failure. Answers: Asked."""

    kind: Literal["ask_decision"] = "ask_decision"
    step: str
    phase: Phase
    error: ErrorKind
    message: str
    choices: tuple[Literal["retry", "skip", "stop", "done"], ...]


class Wait(Frozen):
    """Wait for a message, or until a moment. Answers: what came, or TimerFired.

    Always the last one, if something may come or become due; beside other commands it says until
    when they are waited for before time itself is an event.
    """

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
    | Remind
    | AskDecision
    | Wait
    | Finish,
    Field(discriminator="kind"),
]

COMMAND: TypeAdapter[Command] = TypeAdapter(Command)
"""Reads a command back from its JSON."""
