"""A runbook, once read and checked. Plain frozen data; made only by ``bot.language.load``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from bot.action import Effect
from bot.language.expressions import Expression
from bot.model.base import digest_of
from bot.model.events import ErrorKind
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
    """Who must say yes. ``required`` distinct people, each of one of ``groups``.

    ``card`` is the name under ``approvals`` if several steps share this approval, else empty: the
    plans of all of them stand on one card, and one yes is for all. ``break_glass`` is the group
    whose members may let the step go on alone, with a reason.
    """

    groups: tuple[str, ...]
    required: int = 1
    timeout_s: float | None = None
    on_timeout: Literal["skip", "stop"] = "stop"
    break_glass: str | None = None
    card: str = ""


RETRYABLE: tuple[ErrorKind, ...] = ("unreachable", "timeout", "unverified")
"""What is tried again unless a step says otherwise."""


@dataclass(frozen=True)
class Retry:
    """``attempts`` counts the first one; ``delay_s`` is before the second.

    Each later delay is ``backoff`` times the one before, up to ``LONGEST_DELAY_S``. ``jitter`` is
    the part of a delay (0 to 1) that is varied, so that many runs do not repeat in step. ``on``
    names the classes of error that are tried again; never by the text of a message.
    """

    attempts: int = 1
    delay_s: float = 5.0
    backoff: float = 2.0
    jitter: float = 0.0
    on: tuple[ErrorKind, ...] = RETRYABLE


@dataclass(frozen=True)
class Manual:
    """A question for a person, with typed fields for the answer.

    ``assignee`` is the group that is asked, and whose members (besides the owners) may answer; None
    is anybody who may act. ``due_s`` is when it is overdue, which is said and changes nothing;
    ``remind_s`` is how often it is asked again; ``timeout_s`` is when it is given up.
    """

    ask: str
    fields: Mapping[str, Input] = field(default_factory=dict)
    assignee: str | None = None
    due_s: float | None = None
    remind_s: float | None = None
    timeout_s: float | None = None
    on_timeout: Literal["skip", "stop"] = "stop"


@dataclass(frozen=True)
class Parallel:
    """Branches that go on side by side; each is one or more steps in order.

    ``join`` says when it is done: with ``all`` branches, or with ``any`` one, which ends the
    others.
    """

    branches: tuple[tuple[Step, ...], ...]
    join: Literal["all", "any"] = "all"


@dataclass(frozen=True)
class Foreach:
    """The same steps for each item of a list.

    ``items`` gives the list, ``name`` is what an item is called in expressions. At most
    ``concurrency`` iterations go on at once. ``outputs`` is evaluated in each iteration that
    worked; a later step reads each output as a list, in the order of the items.
    """

    items: Value
    name: str
    steps: tuple[Step, ...]
    concurrency: int = 1
    outputs: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """Another runbook as one step. ``book`` is None until it is linked."""

    runbook: str
    inputs: Mapping[str, Value] = field(default_factory=dict)
    book: Runbook | None = None


OnFailure = Literal["ask", "stop", "continue", "undo"]
"""After the last attempt failed: ask a person (the default of a single step), end the sequence that
the step stands in (the default of a group), go on with the next step, or take back every change of
this run, in reverse order, and end it."""


@dataclass(frozen=True)
class Step:
    """One step: exactly one of ``uses``, ``manual``, ``parallel``, ``foreach`` and ``call``.

    ``line`` is where it stands. A ``parallel`` without an id has one that no person can write,
    ``parallel@1`` and so on in the order of the file.
    """

    id: str
    line: int
    uses: str | None = None
    params: Mapping[str, Value] = field(default_factory=dict)
    manual: Manual | None = None
    parallel: Parallel | None = None
    foreach: Foreach | None = None
    call: Call | None = None
    condition: Expression | None = None
    approval: Approval | None = None
    ttl_s: float | None = None
    retry: Retry = field(default_factory=Retry)
    timeout_s: float | None = None
    on_failure: OnFailure = "ask"
    effect: Effect | None = None
    """The effect of the action under ``uses``; None for all others."""
    fact_names: tuple[str, ...] = ()
    """What later steps may read of this one; all are null when it was skipped."""

    @property
    def is_group(self) -> bool:
        """Whether it only holds other steps."""
        return self.parallel is not None or self.foreach is not None or self.call is not None


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
    always: tuple[Step, ...] = ()
    """Steps that run at the end, however the others ended."""
    outputs: Mapping[str, Value] = field(default_factory=dict)
    """What a runbook that calls this one may read of it."""
    approvals: Mapping[str, Approval] = field(default_factory=dict)
    """Approvals that several steps share, by name."""
    deadline_s: float | None = None
    """How long a run may take; then it is ended, after ``always``."""

    def step(self, step_id: str) -> Step:
        """Return a step of this runbook, wherever it stands, by its own id."""
        return next(step for step in self.every_step() if step.id == step_id)

    def every_step(self) -> Iterator[Step]:
        """Every step of this runbook, groups before what they hold; not those of called ones."""
        yield from within((*self.steps, *self.always))

    def called(self) -> dict[str, Runbook]:
        """Return the runbooks that this one calls, directly or through others, by id."""
        found: dict[str, Runbook] = {}
        for step in self.every_step():
            if step.call is not None and step.call.book is not None:
                found[step.call.runbook] = step.call.book
                found |= step.call.book.called()
        return found

    @property
    def version(self) -> str:
        """The digest of all that a run of this runbook follows: its text and those it calls."""
        called = self.called()
        if not called:
            return self.digest
        return digest_of({"own": self.digest, **{name: b.digest for name, b in called.items()}})


def within(steps: Iterable[Step], *, into_loops: bool = True) -> Iterator[Step]:
    """Yield steps and all that they hold, groups first; called runbooks are not entered.

    Args:
        into_loops: Whether the steps of a foreach are yielded, which are many in a run.
    """
    for step in steps:
        yield step
        if step.parallel is not None:
            for branch in step.parallel.branches:
                yield from within(branch, into_loops=into_loops)
        if step.foreach is not None and into_loops:
            yield from within(step.foreach.steps)
