"""A runbook, once read and checked. Plain frozen data; made only by ``bot.language.load``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from bot.action import Effect
from bot.language.expressions import Expression
from bot.model.incident import Severity

Value = Any
"""A JSON value whose leaves may be ``Expression`` objects."""


class InputType(StrEnum):
    """What an input or a manual field may hold.

    ``datetime`` is an ISO 8601 moment with an offset; ``duration`` is ``90s``, ``15m``, ``4h``,
    ``2d``; ``endpoint`` is a key of the inventory such as ``GET /api/orders/{order_id}``.
    """

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    DURATION = "duration"
    ENDPOINT = "endpoint"


@dataclass(frozen=True)
class Input:
    """A typed input. ``default`` may be an expression over ``now()`` only; no default: required."""

    name: str
    type: InputType
    description: str = ""
    default: Value = None
    has_default: bool = False
    enum: tuple[Any, ...] = ()
    examples: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Trigger:
    """Starts the runbook when an alert of ``source`` comes and ``condition`` holds.

    ``auto`` names the steps that may run before a person has answered anything.
    """

    source: str
    condition: Expression | None = None
    inputs: Mapping[str, Value] = field(default_factory=dict)
    auto: tuple[str, ...] = ()


@dataclass(frozen=True)
class Approval:
    """Who must say yes. ``required`` distinct people, each of one of ``groups``."""

    groups: tuple[str, ...]
    required: int = 1
    timeout_s: float | None = None
    on_timeout: Literal["skip", "stop"] = "stop"


@dataclass(frozen=True)
class Retry:
    """``attempts`` counts the first one; ``delay_s`` is before the second and doubles each time."""

    attempts: int = 1
    delay_s: float = 5.0


@dataclass(frozen=True)
class Manual:
    """A question for a person, with typed fields for the answer."""

    ask: str
    fields: Mapping[str, Input] = field(default_factory=dict)
    timeout_s: float | None = None
    on_timeout: Literal["skip", "stop"] = "stop"


OnFailure = Literal["ask", "stop", "continue", "undo"]
"""After the last attempt failed: ask a person (the default), stop the run, go on with the next
step, or undo this step's change and stop."""


@dataclass(frozen=True)
class Step:
    """One step: either ``uses`` an action, or ``manual``. ``line`` is where it stands."""

    id: str
    line: int
    uses: str | None = None
    params: Mapping[str, Value] = field(default_factory=dict)
    manual: Manual | None = None
    condition: Expression | None = None
    approval: Approval | None = None
    ttl_s: float | None = None
    retry: Retry = field(default_factory=Retry)
    timeout_s: float | None = None
    on_failure: OnFailure = "ask"
    effect: Effect | None = None
    """The effect of the action under ``uses``; None for a manual step."""
    fact_names: tuple[str, ...] = ()
    """What later steps may read of this one; all are null when it was skipped."""


@dataclass(frozen=True)
class Runbook:
    """A checked runbook. ``digest`` is the SHA-256 of its exact text."""

    id: str
    name: str
    summary: str
    severity: Severity
    owners: tuple[str, ...]
    inputs: Mapping[str, Input]
    triggers: tuple[Trigger, ...]
    steps: tuple[Step, ...]
    text: str
    digest: str
    owasp: str | None = None

    def step(self, step_id: str) -> Step:
        return next(step for step in self.steps if step.id == step_id)
