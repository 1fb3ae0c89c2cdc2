"""All that ``actions/`` needs from Firedoor: the contract of an action and its context.

An action is an object of one of three classes, chosen by its effect:

- ``ReadAction``: READ; repeated freely.
- ``NotifyAction``: NOTIFY; composes notices, which Firedoor sends through its outbox.
- ``ChangeAction``: CHANGE (reversible) or IRREVERSIBLE; observe, plan, apply, verify, undo.

Secrets never enter parameters, facts, plans, notes or messages: new material goes from issuer to
store inside one call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from bot.model.containment import Containment, Control, ControlKind
from bot.model.endpoint import Endpoint
from bot.model.incident import IncidentStatus
from bot.model.outcome import Evidence, Outcome, Proof
from bot.model.plan import Brief, Plan


class Effect(StrEnum):
    """What an action does to the world, from harmless to final."""

    READ = "read"
    NOTIFY = "notify"
    CHANGE = "change"
    IRREVERSIBLE = "irreversible"


class Params(BaseModel):
    """What ``with:`` may hold under a step. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Facts(BaseModel):
    """What a step leaves for later steps, as ``steps.<id>.<name>``. Declared, so that references
    are checked before a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")


P = TypeVar("P", bound=Params)
T = TypeVar("T")


class Containments(Protocol):
    """The desk that holds containments: the desired state of every gateway."""

    def hold(self, containment: Containment) -> str:
        """Put a containment in force, wait until its gateway reports it, and return the version
        that it reports. Safe to repeat.

        Raises:
            ProviderUnreachable: The gateway gives no answer; the containment stays wanted, and is
                converged to as soon as the gateway is back.

            ProviderRefused: The gateway refuses the configuration; the containment is withdrawn.
        """

    def lift(self, containment_ids: Sequence[str], by: str) -> None:
        """End containments and wait until their gateways report it. Safe to repeat."""

    def get(self, containment_id: str) -> Containment | None: ...

    def in_force(self, gateway: str, endpoint: str | None = None) -> tuple[Containment, ...]:
        """Return what is in force at a gateway (on one endpoint), oldest first."""

    def default_gateway(self, endpoint: str) -> str:
        """Return the name of the gateway that serves an endpoint.

        Raises:
            BadInput: None or several are configured and nothing says which one.
        """

    def gateway(self, name: str) -> Gateway: ...


@dataclass(frozen=True)
class Support:
    """
    Whether a gateway can do what a control asks for.

    ``why`` says what it cannot; ``nearest`` is the rung of the ladder that it can do instead.
    ``best_effort`` is true of a limit that its maker calls approximate: it slows callers down, and
    is never a block. ``own_status`` is the status that callers get if the gateway can only give an
    answer of its own, without Firedoor's body and mark. ``wider`` says, as a sentence, what else
    the control would do there, so that whoever approves it knows.
    """

    ok: bool
    why: str = ""
    nearest: ControlKind | None = None
    best_effort: bool = False
    own_status: int | None = None
    wider: str = ""


@dataclass(frozen=True)
class Writing:
    """
    What an adapter calls around a write, by the side that asked for it.

    ``begin`` is called right before the gateway is written, every time. It raises LeaseLost if
    the right to write is lost by now; then nothing may be written.

    ``displaced`` is called with a sentence when an edit by another hand, in the part of the
    gateway's configuration that is Firedoor's own, was replaced. The sentence says where that
    edit can be read.
    """

    begin: Callable[[], None] = lambda: None
    displaced: Callable[[str], None] = lambda _sentence: None


SILENT = Writing()
"""Writes, and nobody is asked or told."""


class Gateway(Protocol):
    """
    One gateway that can be brought to a given set of controls.

    Its configuration has a part of Firedoor's own (a file, a route, a rule set), and only that is
    written. What other hands do to the rest stays as it is, and survives every change of controls.
    """

    @property
    def name(self) -> str: ...

    def supports(self, control: Control) -> Support:
        """Tell whether it can do what a control asks for. Pure."""

    def version_of(self, controls: Sequence[Control]) -> str:
        """Return the version that stands for this set of controls. It changes nothing; order is
        irrelevant.

        Raises:
            BadInput: The operator's own part cannot be read, or cannot be worked with.

            ProviderUnreachable: Only the gateway knows the operator's part, and gives no answer.
        """

    def converge(self, controls: Sequence[Control], writing: Writing = SILENT) -> str:
        """Bring the gateway to exactly this set and return the version that it reports.

        Safe to repeat: what is right already is not written. Returns only once the gateway itself
        reports the version.

        Raises:
            Conflict: Another writer was faster; nothing was written. Calling again reads anew.

            ProviderUnreachable: No usable answer, or the version was not taken in time.

            ProviderRefused: The gateway refuses the configuration; the old one serves on.
        """

    def observe(self) -> str:
        """Return the version that the gateway itself reports now; of an edit by another hand in
        Firedoor's part, one that no set of controls has; empty if it has none yet.

        Raises:
            ProviderUnreachable: No answer, or none that can be understood.
        """

    def shadow_hits(self, control: Control) -> int:
        """Return how many requests a SHADOW has counted; a restart of the gateway starts anew.

        Raises:
            BadInput: The gateway supports none, or has no such control.
        """

    def prepare(self) -> None:
        """Make what the gateway needs to start, if it is not there yet."""


class EvidenceDesk(Protocol):
    """Keeps files by content."""

    def keep(self, name: str, content: bytes, media_type: str, summary: str) -> Evidence:
        """Keep bytes under the incident. The same name and bytes twice are one evidence."""

    def read(self, evidence: Evidence) -> bytes:
        """Return the bytes, after checking them against their SHA-256."""


class PostmortemDesk(Protocol):
    """Drafts the postmortem of an incident from the journal."""

    def draft(self) -> Sequence[Evidence]:
        """Write Markdown, HTML and PDF and keep them as evidence, in this order."""


class Notes(Protocol):
    """A step's own durable notes, for what has no idempotency token on the other side."""

    def write(self, body: Mapping[str, Any]) -> None:
        """Journal a note. It is durable when this returns: write it *before* the remote call."""

    def read(self) -> Sequence[Mapping[str, Any]]:
        """Return this step's notes of this and earlier attempts, oldest first."""


class Context(Protocol):
    """What an action may use besides its parameters. Made anew for every call."""

    @property
    def incident_id(self) -> str: ...
    @property
    def incident_title(self) -> str: ...
    @property
    def run_id(self) -> str: ...
    @property
    def step_id(self) -> str: ...
    @property
    def actor(self) -> str:
        """Who is answerable: the approver, or who started the run."""

    @property
    def ttl_s(self) -> float | None:
        """The step's ``ttl``, for actions with ``contains``."""

    @property
    def endpoints(self) -> Mapping[str, Endpoint]:
        """The whole inventory, by endpoint key."""

    @property
    def containments(self) -> Containments: ...
    @property
    def evidence(self) -> EvidenceDesk: ...
    @property
    def notes(self) -> Notes: ...
    @property
    def postmortem(self) -> PostmortemDesk: ...

    def now(self) -> datetime:
        """The time, in UTC."""

    def connection(self, type_: type[T], name: str | None = None) -> T:
        """Return the configured connection of a class, by name, or the only one.

        Raises:
            BadInput: There is none of that name, or several and no name.
        """


class Action(ABC, Generic[P]):
    """
    Base of the three kinds. Subclasses set the class variables.

    Attributes:
        name: ``family.verb``, as runbooks say it under ``uses``.

        params: Model of ``with``.

        facts: Model of what later steps may refer to.

        timeout_s: For each call, unless the step says otherwise.

        reaches: The incident's status once a step of this action is done, if it is a step on
            the way (a closed endpoint: contained).

        contains: True if it puts a containment in force; its steps must have a ``ttl``.
    """

    name: ClassVar[str]
    effect: ClassVar[Effect]
    params: type[P]
    facts: ClassVar[type[Facts]] = Facts
    timeout_s: ClassVar[float] = 30.0
    contains: ClassVar[bool] = False
    reaches: ClassVar[IncidentStatus | None] = None

    def read_params(self, values: Mapping[str, Any]) -> P:
        return self.params.model_validate(values)


class ReadAction(Action[P]):
    """Looks and changes nothing."""

    effect = Effect.READ

    @abstractmethod
    def run(self, params: P, ctx: Context) -> Outcome:
        """Look. Raises ProviderUnreachable, ProviderRefused."""


class NotifyAction(Action[P]):
    """Tells people. It only composes: Firedoor sends, once per notice key."""

    effect = Effect.NOTIFY

    @abstractmethod
    def compose(self, params: P, ctx: Context) -> Outcome:
        """Return the notices to send. Reads only."""


class ChangeAction(Action[P]):
    """Changes another system, in five parts."""

    effect = Effect.CHANGE

    @abstractmethod
    def observe(self, params: P, ctx: Context) -> Any:
        """Return, as JSON, what is there now and would be changed. Read-only."""

    @abstractmethod
    def plan(self, params: P, observed: Any) -> Plan:
        """Return the exact before and after. Pure: equal arguments, equal digest."""

    @abstractmethod
    def apply(self, plan: Plan, ctx: Context) -> Outcome:
        """Make the change. Called again after a crash at any line, so it observes before it
        repeats.

        Raises:
            Ambiguous: Whether it happened cannot be decided; a person will.
        """

    def holds(self, plan: Plan) -> Control | None:
        """Return the control that a plan puts in force, of an action with ``contains``."""
        del plan
        return None

    def brief(self, plan: Plan, ctx: Context) -> Brief | None:
        """Return what people should know before they approve, beside the plan itself. Reads only;
        what cannot be found out is said in the brief, and keeps nothing from being planned."""
        del plan, ctx
        return None

    def in_progress(self, plan: Plan, observed: Any, ctx: Context) -> bool:
        """Tell whether what is observed now is the plan half or wholly done *by this step*.

        Asked before ``apply``. True means that an earlier, interrupted attempt of this step has
        begun, so apply goes on whatever is there now; False means that the world must still match
        ``plan.before``, else the plan is void.
        """
        del plan, observed
        return bool(ctx.notes.read())

    @abstractmethod
    def verify(self, plan: Plan, ctx: Context) -> Proof:
        """Prove the effect from outside, including that the neighbours still work."""

    @abstractmethod
    def undo(self, plan: Plan, ctx: Context) -> Outcome:
        """Restore exactly ``plan.before``.

        Raises:
            UndoConflict: Someone else changed it; the message holds the difference.
        """
