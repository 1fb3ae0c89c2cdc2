"""Where a run stands. Frozen; every change makes a new one."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import model_validator

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


_WAITING = frozenset(
    {
        StepStatus.AWAITING_APPROVAL,
        StepStatus.AWAITING_ANSWER,
        StepStatus.AWAITING_DECISION,
        StepStatus.AWAITING_RETRY,
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
    ``approvals`` are distinct people who approved what ``plan`` holds.

    A group (parallel, foreach, called runbook) is ``running`` from when it began until all that it
    holds is over.
    """

    status: StepStatus = StepStatus.PENDING
    attempt: int = 0
    drifts: int = 0
    calls: int = 0
    """How many commands it was given; tells whether one is from before a pause."""
    params: dict[str, Any] = {}
    plan: Plan | None = None
    asked: bool = True
    """Whether the question that it waits for is before people already."""
    card: str = ""
    """What a yes must be bound to: the digest of its approval card."""
    members: tuple[str, ...] = ()
    """The other steps on its card, if the step leads one."""
    gathering: tuple[str, ...] = ()
    """Those of ``members`` whose plans are still to come."""
    leader: str = ""
    """The step whose card this one waits on, if it is another's."""
    approvals: tuple[str, ...] = ()
    approved: str = ""
    """The digest of a plan that was approved on a shared card before the step's turn came."""
    overridden: bool = False
    """Whether somebody broke the glass for it."""
    facts: dict[str, Any] = {}
    failure: Failure | None = None
    passed: bool = False
    """Whether the run goes on though the step failed."""
    left: bool = False
    """Whether its change stays although the run's changes are taken back."""
    closing: bool = False
    """A parallel that is decided (``join: any``): its other branches end."""
    items: tuple[Any, ...] | None = None
    """What a foreach goes through."""
    inputs: dict[str, Any] | None = None
    """What a called runbook was given."""
    note: str = ""
    deadline: Utc | None = None
    due_at: Utc | None = None
    remind_at: Utc | None = None
    nudge: Literal["", "remind", "overdue"] = ""
    """What is to be said about an answer that has not come."""
    reminders: int = 0
    started_at: Utc | None = None
    ended_at: Utc | None = None

    @property
    def is_waiting(self) -> bool:
        return self.status in _WAITING

    @property
    def is_under_way(self) -> bool:
        """Whether a command of it is outstanding (a group has none of its own)."""
        return self.status in _UNDER_WAY

    @property
    def ends_sequence(self) -> bool:
        """Whether nothing after it in its sequence begins."""
        return self.status in _BROKEN and not self.passed


_UNDER_WAY = frozenset(
    {StepStatus.PLANNING, StepStatus.RUNNING, StepStatus.VERIFYING, StepStatus.UNDOING}
)
_BROKEN = frozenset({StepStatus.FAILED, StepStatus.STOPPED, StepStatus.UNDONE})


class Ending(Frozen):
    """
    The run is coming to its end: nothing more of its ``steps`` begins.

    Three phases: what is under way is brought to its end, then changes are taken back if ``undo``,
    then ``always`` runs. ``cut``: asked twice, so no person is waited for any more.
    """

    status: RunStatus
    reason: str = ""
    undo: bool = False
    cut: bool = False
    phase: Literal["closing", "undoing", "always"] = "closing"


class RunState(Frozen):
    """
    ``steps`` holds a state by key for every step that there is: its id; inside a foreach
    ``each.2.rotate``; inside a called runbook ``contain.close``. ``person_engaged`` is true once a
    person has started, approved, answered or decided anything in this run.
    """

    incident_id: str
    run_id: str
    status: RunStatus = RunStatus.RUNNING
    reason: str = ""
    steps: dict[str, StepState] = {}
    inputs: dict[str, Any] = {}
    origin: Origin
    alert: Alert | None = None
    endpoints: dict[str, Endpoint] = {}
    auto: tuple[str, ...] = ()
    person_engaged: bool = False
    engaged_by: str = ""
    """Who started, approved, answered or decided last."""
    applied: tuple[str, ...] = ()
    """Changes of this run, by key, in the order in which they were begun."""
    ending: Ending | None = None
    paused: dict[str, int] | None = None
    """Set while the run is held: the commands that were under way then, by key and count."""
    paused_by: str = ""
    deadline: Utc | None = None
    outputs: dict[str, Any] = {}
    rerun_of: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_before_groups(cls, data: Any) -> Any:
        """Read a state of version 0.1, which had one cursor and no groups.

        Steps before the cursor that failed were passed over; all others follow from their status.
        """
        if not isinstance(data, dict) or "cursor" not in data:
            return data
        data = {**data, "steps": {key: dict(step) for key, step in data["steps"].items()}}
        cursor = data.pop("cursor")
        for index, step in enumerate(data["steps"].values()):
            if index < cursor and step.get("status") == StepStatus.FAILED.value:
                step["passed"] = True
        data["applied"] = [key for key, step in data["steps"].items() if _may_be_applied(step)]
        for key, step in data["steps"].items():
            if _is_being_undone(step):
                # Then an undo took back this one step, and ended the run.
                data["applied"] = [key]
                message = (step.get("failure") or {}).get("message", "")
                reason = f"step {key} failed: {message}"
                ending = Ending(status=RunStatus.FAILED, reason=reason, undo=True, phase="undoing")
                data["ending"] = ending.model_dump(mode="json")
        return data

    def step(self, key: str) -> StepState:
        """Return a step's state; one that has not begun has the first one."""
        return self.steps.get(key, _PENDING)

    def having(self, **changes: Any) -> RunState:
        """Return a state with other fields."""
        return self.model_copy(update=changes)


_PENDING = StepState()


def _may_be_applied(step: dict[str, Any]) -> bool:
    """Tell whether a step of version 0.1 may have made its change. Too many are better than too
    few: to take back what was not done changes nothing."""
    plan, failure = step.get("plan"), step.get("failure") or {}
    if plan is None or (plan["before"] is None and plan["after"] is None):
        return False  # a notice has a plan too, and nothing in it
    if step["status"] in ("running", "verifying", "undoing", "done", "stopped"):
        return True
    return failure.get("phase") in ("apply", "verify", "undo")


def _is_being_undone(step: dict[str, Any]) -> bool:
    """Tell whether a step of version 0.1 is on its way back, or waits for a decision about it."""
    failure = step.get("failure") or {}
    waits = step["status"] in ("awaiting_retry", "awaiting_decision")
    return step["status"] == "undoing" or (waits and failure.get("phase") == "undo")
