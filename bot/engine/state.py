"""Where a run stands. Frozen; every change makes a new one."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from bot.model.alert import Alert
from bot.model.base import Frozen, Utc
from bot.model.endpoint import Endpoint
from bot.model.events import ErrorKind, Phase
from bot.model.incident import Origin, RunStatus
from bot.model.plan import Plan


class StepStatus(StrEnum):
    """The life of a step."""

    PENDING = "pending"
    PLANNING = "planning"
    AWAITING_APPROVAL = "awaiting_approval"
    AWAITING_ANSWER = "awaiting_answer"
    AWAITING_DECISION = "awaiting_decision"
    AWAITING_RETRY = "awaiting_retry"
    RUNNING = "running"
    VERIFYING = "verifying"
    UNDOING = "undoing"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    UNDONE = "undone"
    STOPPED = "stopped"

    @property
    def is_final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset(
    {
        StepStatus.DONE,
        StepStatus.SKIPPED,
        StepStatus.FAILED,
        StepStatus.UNDONE,
        StepStatus.STOPPED,
    }
)


class Failure(Frozen):
    """The last thing that went wrong in a step."""

    phase: Phase
    error: ErrorKind
    message: str


class StepState(Frozen):
    """
    ``deadline`` is when the thing waited for is given up (approval, answer) or tried again.
    ``approvals`` are distinct people who approved the plan that ``plan`` holds.
    """

    status: StepStatus = StepStatus.PENDING
    attempt: int = 0
    drifts: int = 0
    params: dict[str, Any] = {}
    plan: Plan | None = None
    approvals: tuple[str, ...] = ()
    facts: dict[str, Any] = {}
    failure: Failure | None = None
    note: str = ""
    deadline: Utc | None = None
    started_at: Utc | None = None
    ended_at: Utc | None = None


class RunState(Frozen):
    """
    ``cursor`` is the index of the current step. ``person_engaged`` is true once a person has
    started, approved, answered or decided anything in this run.
    """

    incident_id: str
    run_id: str
    status: RunStatus = RunStatus.RUNNING
    reason: str = ""
    cursor: int = 0
    steps: dict[str, StepState] = {}
    inputs: dict[str, Any] = {}
    origin: Origin
    alert: Alert | None = None
    endpoints: dict[str, Endpoint] = {}
    auto: tuple[str, ...] = ()
    person_engaged: bool = False
    engaged_by: str = ""
    """Who started, approved, answered or decided last."""

    def with_step(self, step_id: str, **changes: Any) -> RunState:
        """Return a state in which one step has other fields."""
        step = self.steps.get(step_id, StepState()).model_copy(update=changes)
        return self.model_copy(update={"steps": {**self.steps, step_id: step}})

    def having(self, **changes: Any) -> RunState:
        """Return a state with other fields."""
        return self.model_copy(update=changes)
