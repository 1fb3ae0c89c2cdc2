"""What happens to a run. The engine turns these into commands; the journal keeps them.

Every event has ``at``, set from the injected clock by whoever makes it. Events never hold a
secret: they are redacted before they are journaled.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from bot.model.alert import Alert
from bot.model.base import Frozen, Utc
from bot.model.endpoint import Endpoint
from bot.model.incident import Origin
from bot.model.outcome import Outcome
from bot.model.plan import Plan

ErrorKind = Literal["refused", "unreachable", "failed", "ambiguous", "unverified", "timeout"]
"""Why a step failed. ``unreachable`` and ``timeout`` may be retried; ``ambiguous`` never is."""

Phase = Literal["plan", "apply", "verify", "undo", "run"]


class _Event(Frozen):
    at: Utc


class RunStarted(_Event):
    """The first event. ``endpoints`` pins the inventory's entries for the endpoint inputs."""

    kind: Literal["run_started"] = "run_started"
    incident_id: str
    run_id: str
    inputs: dict[str, Any]
    origin: Origin
    alert: Alert | None = None
    endpoints: dict[str, Endpoint] = {}
    auto: tuple[str, ...] = ()


class Planned(_Event):
    """A change was observed and planned; nothing was changed."""

    kind: Literal["planned"] = "planned"
    step: str
    plan: Plan


class PlanDrifted(_Event):
    """At the moment of applying, the plan differed from the approved one; nothing was changed."""

    kind: Literal["plan_drifted"] = "plan_drifted"
    step: str
    plan: Plan


class Asked(_Event):
    """A question is before people (approval, answer or decision)."""

    kind: Literal["asked"] = "asked"
    step: str


class Approved(_Event):
    """A person approves the plan with this digest. ``groups`` are theirs at this moment."""

    kind: Literal["approved"] = "approved"
    step: str
    digest: str
    by: str
    groups: tuple[str, ...] = ()


class Rejected(_Event):
    """A person rejects the plan with this digest."""

    kind: Literal["rejected"] = "rejected"
    step: str
    digest: str
    by: str
    groups: tuple[str, ...] = ()
    reason: str = ""


class Answered(_Event):
    """A person answers a manual step. ``values`` were checked against the step's fields."""

    kind: Literal["answered"] = "answered"
    step: str
    by: str
    groups: tuple[str, ...] = ()
    values: dict[str, Any] = {}


class Decided(_Event):
    """A person decides what to do about a failed step. ``done`` says: it did happen, go on."""

    kind: Literal["decided"] = "decided"
    step: str
    by: str
    groups: tuple[str, ...] = ()
    choice: Literal["retry", "skip", "stop", "done"]


class Applied(_Event):
    """A change was made, a read was done, notices were queued."""

    kind: Literal["applied"] = "applied"
    step: str
    outcome: Outcome


class Verified(_Event):
    """The change was proven from outside."""

    kind: Literal["verified"] = "verified"
    step: str
    outcome: Outcome


class Undone(_Event):
    """The change was taken back."""

    kind: Literal["undone"] = "undone"
    step: str
    outcome: Outcome


class StepFailed(_Event):
    """A command did not work. ``message`` says fact, consequence, remedy."""

    kind: Literal["step_failed"] = "step_failed"
    step: str
    phase: Phase
    error: ErrorKind
    message: str
    retry_after_s: float | None = None


class TimerFired(_Event):
    """The moment waited for has come."""

    kind: Literal["timer_fired"] = "timer_fired"


class Cancelled(_Event):
    """A person stops the run. Containments stay in force until lifted or expired."""

    kind: Literal["cancelled"] = "cancelled"
    by: str
    reason: str = ""


Event = Annotated[
    RunStarted
    | Planned
    | PlanDrifted
    | Asked
    | Approved
    | Rejected
    | Answered
    | Decided
    | Applied
    | Verified
    | Undone
    | StepFailed
    | TimerFired
    | Cancelled,
    Field(discriminator="kind"),
]

EVENT: TypeAdapter[Event] = TypeAdapter(Event)
"""Reads an event back from its JSON."""
