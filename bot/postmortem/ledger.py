"""One pass over the records: what each step did, who is who, how it began."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bot.model import events
from bot.model.alert import Alert
from bot.model.commands import ApplyStep, AskApproval, PlanStep, RunStep
from bot.model.containment import Containment, ControlKind
from bot.model.incident import Run
from bot.model.journal import Record
from bot.model.outcome import Outcome, Proof
from bot.model.plan import Plan
from bot.postmortem.document import Sources
from bot.postmortem.reading import Read, RunbookHead, read_all, runbook_head

StepKey = tuple[str, str]


@dataclass
class Step:
    """A step of a run, as far as the records tell. Reads are the newest of their kind."""

    run: str
    id: str
    action: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    plan: Plan | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    asks: list[AskApproval] = field(default_factory=list)
    planned: Read | None = None
    applied: Read | None = None
    verified: Read | None = None
    undone: Read | None = None
    failed: Read | None = None

    @property
    def proof(self) -> Proof | None:
        """The proof of its last verification, or of its last application (a probe)."""
        for read in (self.verified, self.applied):
            outcome = getattr(read.event, "outcome", None) if read else None
            if isinstance(outcome, Outcome) and outcome.proof is not None:
                return outcome.proof
        return None

    @property
    def sources(self) -> Sources:
        reads = (self.planned, self.applied, self.verified, self.undone)
        return tuple(sorted({read.seq for read in reads if read is not None}))


@dataclass(frozen=True)
class Ledger:
    """What the sections are written from."""

    reads: tuple[Read, ...]
    steps: dict[StepKey, Step]
    runs: tuple[Run, ...]
    heads: dict[str, RunbookHead]
    """By run id."""
    roles: dict[str, str]
    """By actor: how the narrative speaks of them."""

    def of_kind(self, *kinds: str) -> Iterator[Read]:
        return (read for read in self.reads if read.record.kind in kinds)

    def first(self, *kinds: str) -> Read | None:
        return next(self.of_kind(*kinds), None)

    def events(self, kind: type[Any]) -> Iterator[Read]:
        return (read for read in self.reads if isinstance(read.event, kind))

    def families(self, *families: str) -> Iterator[Step]:
        """Return the steps whose action is of a family, in the order they began."""
        return (step for step in self.steps.values() if step.action.partition(".")[0] in families)

    def who(self, actor: str) -> str:
        return self.roles.get(actor, actor)

    @property
    def alert(self) -> tuple[Alert, Read] | None:
        """The first alert, with the record of its arrival."""
        for read in self.reads:
            if read.alert is not None:
                return read.alert, read
            if isinstance(read.event, events.RunStarted) and read.event.alert is not None:
                return read.event.alert, read
        return None

    @property
    def owners(self) -> tuple[str, ...]:
        """The roles that own the runbooks, without repeats."""
        return tuple(dict.fromkeys(o for head in self.heads.values() for o in head.owners))

    def held(self) -> Iterator[tuple[Containment, Read]]:
        """Return what was put in force, with the record of it, in order. What its gateway
        refused never was."""
        refused = {r.containment.id for r in self.of_kind("containment_withdrawn") if r.containment}
        for read in self.of_kind("containment_held"):
            if read.containment is not None and read.containment.id not in refused:
                yield read.containment, read

    def stops(self) -> Iterator[tuple[Containment, Read]]:
        """Return the containments that stop requests; a throttle only slows them."""
        return (pair for pair in self.held() if pair[0].control.kind is not ControlKind.THROTTLE)

    def proven(self, key: StepKey) -> Read | None:
        """Return the record that proves a step's effect, if one does."""
        step = self.steps.get(key)
        if step is None or step.verified is None or step.proof is None or not step.proof.ok:
            return None
        return step.verified


def collect(records: Iterable[Record], runs: Sequence[Run]) -> Ledger:
    """Read the records of an incident."""
    reads = read_all(records)
    steps: dict[StepKey, Step] = {}
    for read in reads:
        if read.event is not None:
            _note_event(steps, read)
    heads = {run.id: runbook_head(run.runbook_text) for run in runs}
    return Ledger(
        reads=reads, steps=steps, runs=tuple(runs), heads=heads, roles=_roles(reads, runs)
    )


def _step(steps: dict[StepKey, Step], run: str, step_id: str) -> Step:
    return steps.setdefault((run, step_id), Step(run=run, id=step_id))


def _note_event(steps: dict[StepKey, Step], read: Read) -> None:
    run = read.record.run_id or ""
    step_id = getattr(read.event, "step", None)
    if step_id is not None:
        _note_on_step(_step(steps, run, step_id), read)
    for command in read.commands:
        match command:
            case PlanStep() | RunStep():
                step = _step(steps, run, command.step)
                step.action, step.params = command.action, command.params
            case ApplyStep():
                step = _step(steps, run, command.step)
                step.action, step.params = command.plan.action, command.plan.params
                step.plan = command.plan
            case AskApproval():
                for key, plan in {command.step: command.plan, **command.also}.items():
                    step = _step(steps, run, key)
                    step.action, step.plan = plan.action, plan
                    step.asks.append(command)
            case _:
                pass


def _note_on_step(step: Step, read: Read) -> None:
    match read.event:
        case events.Planned() | events.PlanDrifted() as event:
            step.planned, step.plan = read, event.plan
            step.action, step.params = event.plan.action, event.plan.params
        case events.Applied() as event:
            step.applied, step.undone = read, None
            step.facts = dict(event.outcome.facts)
        case events.Verified() as event:
            step.verified = read
            step.facts = {**step.facts, **event.outcome.facts}
        case events.Undone():
            step.undone = read
        case events.StepFailed():
            step.failed = read
        case _:
            pass


def _roles(reads: tuple[Read, ...], runs: Sequence[Run]) -> dict[str, str]:
    """Map every actor to a role: the group by which they judged, or the door they came by."""
    roles: dict[str, str] = {}
    asked: dict[StepKey, AskApproval] = {}
    actors: set[str] = {run.origin.actor for run in runs}
    for read in reads:
        run = read.record.run_id or ""
        event = read.event
        if isinstance(event, events.Approved | events.Rejected | events.Overridden):
            ask = asked.get(read.key)
            wanted: tuple[str | None, ...] = ask.groups if ask else ()
            if ask is not None and isinstance(event, events.Overridden):
                wanted = (ask.break_glass,)
            matching = [group for group in event.groups if group in wanted]
            groups = matching or list(event.groups)
            if groups:
                roles.setdefault(event.by, groups[0])
        for command in read.commands:
            if isinstance(command, AskApproval):
                asked[(run, command.step)] = command
        actors |= _actors(read)
    for actor in actors:
        roles.setdefault(actor, _door(actor))
    return roles


def _actors(read: Read) -> set[str]:
    named = {read.record.actor, str(getattr(read.event, "by", "firedoor"))}
    if isinstance(read.event, events.RunStarted):
        named.add(read.event.origin.actor)
    if read.containment is not None:
        named |= {read.containment.owner, read.containment.lifted_by or "firedoor"}
    return named


def _door(actor: str) -> str:
    kind, _, name = actor.partition(":")
    match kind:
        case "firedoor" | "expiry":
            return "Firedoor"
        case "alert":
            return f"an alert of {name}" if name else "an alert"
        case "slack":
            return "a person in Slack"
        case "cli":
            return "a person at the command line"
        case _:
            return "a person"
