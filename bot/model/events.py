"""What happens to a run. The engine turns these into commands; the journal keeps them.

``step`` is a step's key: its id, or, inside a ``foreach`` or a called runbook, the path to it
(``each.2.rotate``, ``contain.close``). Every event has ``at``, set from the injected clock by
whoever makes it. Events never hold a secret: they are redacted before they are journaled.
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
    rerun_of: str = ""
    """The run whose outcomes ``kept`` holds; empty for a run from the beginning."""
    kept: dict[str, dict[str, Any]] = {}
    """Steps that are not run again, by key: their state as it was, as JSON."""


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


class Overridden(_Event):
    """A person breaks the glass: the step goes on without the approval that it waits for.

    ``reason`` is theirs and never empty. It is announced, and leaves a review that is mandatory.
    """

    kind: Literal["overridden"] = "overridden"
    step: str
    digest: str
    by: str
    groups: tuple[str, ...] = ()
    reason: str


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


class Reminded(_Event):
    """The person who is asked was reminded, or it was said that the answer is overdue."""

    kind: Literal["reminded"] = "reminded"
    step: str


class Cancelled(_Event):
    """A person ends the run: what is under way is brought to its end, then nothing more begins.

    Its changes stay as they are (containments until lifted or expired), unless ``undo`` asks that
    they are taken back.
    """

    kind: Literal["cancelled"] = "cancelled"
    by: str
    reason: str = ""
    undo: bool = False


class Paused(_Event):
    """A person holds the run: what is under way is brought to its end, nothing more begins."""

    kind: Literal["paused"] = "paused"
    by: str
    reason: str = ""


class Resumed(_Event):
    """A person lets a paused run go on."""

    kind: Literal["resumed"] = "resumed"
    by: str


class Skipped(_Event):
    """A person passes over a step that has not begun, or that waits."""

    kind: Literal["skipped"] = "skipped"
    step: str
    by: str
    reason: str = ""


class Retried(_Event):
    """A person has a failed step tried again now: one that waits for its next attempt or for a
    decision, or one that was passed over by ``on_failure: continue``."""

    kind: Literal["retried"] = "retried"
    step: str
    by: str
    groups: tuple[str, ...] = ()


class UndoAsked(_Event):
    """A person has every change of the run taken back, also after its end."""

    kind: Literal["undo_asked"] = "undo_asked"
    by: str
    reason: str = ""


Event = Annotated[
    RunStarted
    | Planned
    | PlanDrifted
    | Asked
    | Approved
    | Rejected
    | Overridden
    | Answered
    | Reminded
    | Decided
    | Applied
    | Verified
    | Undone
    | StepFailed
    | TimerFired
    | Cancelled
    | Paused
    | Resumed
    | Skipped
    | Retried
    | UndoAsked,
    Field(discriminator="kind"),
]

EVENT: TypeAdapter[Event] = TypeAdapter(Event)
"""Reads an event back from its JSON."""
