"""A tiny company for scenarios: a world outside, actions on it, a runbook of each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from bot.action import Action, ChangeAction, Context, Facts, NotifyAction, Params, ReadAction
from bot.errors import UndoConflict
from bot.language.load import load
from bot.language.runbook import Runbook
from bot.model.alert import Alert
from bot.model.ask import Ask
from bot.model.base import digest_of
from bot.model.containment import Containment, Control, ControlKind
from bot.model.endpoint import Endpoint
from bot.model.incident import IncidentStatus, Origin, StartRun
from bot.model.outcome import Check, Notice, Outcome, Proof
from bot.model.plan import Plan
from bot.service.people import Person
from bot.testing import START, FakeChat, FakeClock, FakeGateway, FakeMail, World

ORDERS = Endpoint(method="GET", path="/api/orders/{order_id}")
LOGIN = Endpoint(method="POST", path="/api/login")
ENDPOINTS = {each.key: each for each in (ORDERS, LOGIN)}

SAM, IRIS, TARIQ = (Person(actor=f"slack:U0{name}") for name in ("SAM", "IRIS", "TARIQ"))
STRANGER = Person(actor="slack:U0EVE")
GROUPS = {
    "oncall": ["U0SAM"],
    "commanders": ["U0IRIS"],
    "security": ["U0SAM", "U0TARIQ"],
}


@dataclass
class Outside:
    """The other system: values by key. It outlives every restart of Firedoor.

    ``fail`` holds errors to raise, by ``action.phase``; ``on_call`` is called with each call, and
    ``then`` after each effect.
    """

    values: dict[str, Any] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    fail: dict[str, list[BaseException]] = field(default_factory=dict)
    then: Callable[[str], None] = lambda _what: None
    on_call: Callable[[str], None] = lambda _what: None

    def called(self, what: str) -> None:
        self.calls.append(what)
        self.on_call(what)
        waiting = self.fail.get(what)
        if waiting:
            raise waiting.pop(0)

    def put(self, key: str, value: Any) -> None:
        """Make one change; only a real one counts as an effect."""
        if self.values.get(key) != value:
            self.values[key] = value
            self.effects.append(f"{key}={value}")
        self.then(f"put {key}")


class LookParams(Params):
    key: str


class LookFacts(Facts):
    value: str | None
    affected: int


class Look(ReadAction[LookParams]):
    """Reads a value."""

    name = "acme.look"
    params = LookParams
    facts = LookFacts

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    def run(self, params: LookParams, ctx: Context) -> Outcome:
        self._outside.called("look.run")
        evidence = ctx.evidence.keep(
            "seen.txt", str(self._outside.values.get(params.key)).encode(), "text/plain", "A value."
        )
        facts = {"value": self._outside.values.get(params.key), "affected": 3}
        return Outcome(facts=facts, evidence=(evidence,))


class TellParams(Params):
    text: str


class Tell(NotifyAction[TellParams]):
    """Tells security by both ways."""

    name = "acme.tell"
    params = TellParams

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    def compose(self, params: TellParams, ctx: Context) -> Outcome:
        self._outside.called("tell.compose")
        ways: tuple[tuple[Literal["slack", "email"], str], ...] = (
            ("slack", "#security"),
            ("email", "security@acme.example"),
        )
        return Outcome(
            notices=tuple(
                Notice(
                    key=f"security:{way}",
                    way=way,
                    to=to,
                    audience="security",
                    subject=f"{ctx.incident_id}: data was read",
                    text=params.text,
                )
                for way, to in ways
            )
        )


class SetParams(Params):
    key: str
    value: str


class SetFacts(Facts):
    value: str


class Set(ChangeAction[SetParams]):
    """Sets a value; observes before it repeats."""

    name = "acme.set"
    params = SetParams
    facts = SetFacts

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    def observe(self, params: SetParams, ctx: Context) -> Any:
        self._outside.called("set.observe")
        return self._outside.values.get(params.key)

    def plan(self, params: SetParams, observed: Any) -> Plan:
        return Plan(
            action=self.name,
            params=params.model_dump(),
            summary=f"Sets {params.key} to {params.value}.",
            before=observed,
            after=params.value,
        )

    def in_progress(self, plan: Plan, observed: Any, ctx: Context) -> bool:
        return bool(observed == plan.after)

    def apply(self, plan: Plan, ctx: Context) -> Outcome:
        self._outside.called("set.apply")
        ctx.notes.write({"sets": plan.params["key"]})
        self._outside.put(plan.params["key"], plan.after)
        return Outcome(facts={"value": plan.after})

    def verify(self, plan: Plan, ctx: Context) -> Proof:
        self._outside.called("set.verify")
        seen = self._outside.values.get(plan.params["key"])
        check = Check(name="value", ok=seen == plan.after, expected=plan.after, seen=str(seen))
        return Proof(checks=(check,))

    def undo(self, plan: Plan, ctx: Context) -> Outcome:
        self._outside.called("set.undo")
        key = plan.params["key"]
        if self._outside.values.get(key) not in (plan.before, plan.after):
            raise UndoConflict(f"Someone else set {key}; nothing was restored. Look at it.")
        self._outside.put(key, plan.before)
        return Outcome()


class CloseParams(Params):
    endpoint: str


class CloseFacts(Facts):
    containment: str


class Close(ChangeAction[CloseParams]):
    """Closes an endpoint at the gateway."""

    name = "acme.close"
    params = CloseParams
    facts = CloseFacts
    contains = True
    reaches = IncidentStatus.CONTAINED

    def observe(self, params: CloseParams, ctx: Context) -> Any:
        held = ctx.containments.in_force("edge", params.endpoint)
        return sorted(c.id for c in held)

    def plan(self, params: CloseParams, observed: Any) -> Plan:
        return Plan(
            action=self.name,
            params=params.model_dump(),
            summary=f"Closes {params.endpoint}.",
            before=observed,
            after=[*observed, "closed"],
        )

    def in_progress(self, plan: Plan, observed: Any, ctx: Context) -> bool:
        return self._id(ctx) in observed

    def apply(self, plan: Plan, ctx: Context) -> Outcome:
        assert ctx.ttl_s is not None
        method, _, path = plan.params["endpoint"].partition(" ")
        known = ctx.containments.get(self._id(ctx))
        since = known.since if known else ctx.now()
        ctx.containments.hold(
            Containment(
                id=self._id(ctx),
                incident_id=ctx.incident_id,
                run_id=ctx.run_id,
                step_id=ctx.step_id,
                gateway="edge",
                control=Control(kind=ControlKind.CLOSE, method=method, path=path),
                owner=ctx.actor,
                reason=ctx.incident_title,
                since=since,
                expires_at=since + timedelta(seconds=ctx.ttl_s),
            )
        )
        return Outcome(facts={"containment": self._id(ctx)})

    def verify(self, plan: Plan, ctx: Context) -> Proof:
        gateway = ctx.containments.gateway("edge")
        controls = [c.control for c in ctx.containments.in_force("edge")]
        wanted, seen = gateway.version_of(controls), gateway.observe()
        return Proof(checks=(Check(name="version", ok=seen == wanted, expected=wanted, seen=seen),))

    def undo(self, plan: Plan, ctx: Context) -> Outcome:
        ctx.containments.lift([self._id(ctx)], ctx.actor)
        return Outcome()

    @staticmethod
    def _id(ctx: Context) -> str:
        return f"c-{digest_of([ctx.run_id, ctx.step_id])[:10]}"


class LiftParams(Params):
    containment: str


class Lift(ChangeAction[LiftParams]):
    """Lifts a containment; the incident is over then."""

    name = "acme.lift"
    params = LiftParams
    reaches = IncidentStatus.RECOVERED

    def observe(self, params: LiftParams, ctx: Context) -> Any:
        found = ctx.containments.get(params.containment)
        return bool(found and found.lifted_at is None)

    def plan(self, params: LiftParams, observed: Any) -> Plan:
        return Plan(
            action=self.name,
            params=params.model_dump(),
            summary="Reopens.",
            before=observed,
            after=False,
        )

    def in_progress(self, plan: Plan, observed: Any, ctx: Context) -> bool:
        return observed is False

    def apply(self, plan: Plan, ctx: Context) -> Outcome:
        ctx.containments.lift([plan.params["containment"]], ctx.actor)
        return Outcome()

    def verify(self, plan: Plan, ctx: Context) -> Proof:
        found = ctx.containments.get(plan.params["containment"])
        is_lifted = found is not None and found.lifted_at is not None
        return Proof(checks=(Check(name="lifted", ok=is_lifted, expected="yes", seen="-"),))

    def undo(self, plan: Plan, ctx: Context) -> Outcome:
        return Outcome()


HEAD = """\
id: {id}
name: {id}
summary: For a scenario.
severity: sev1
owners: [oncall]
"""

TRIGGER = """\
inputs:
  endpoint: {type: endpoint}
triggers:
  - source: alertmanager
    if: "{{ alert.labels.alertname == 'CrossOwnerReads' }}"
    inputs: {endpoint: "{{ alert.labels.endpoint }}"}
    auto: [close]
"""


def text_of(steps: str, id_: str = "book", more: str = "") -> str:
    """Return a runbook's text from that of its steps."""
    indented = "\n".join(f"  {line}" for line in steps.strip("\n").splitlines())
    return HEAD.format(id=id_) + more + "steps:\n" + indented + "\n"


CLOSE = """
- id: close
  uses: acme.close
  with: {endpoint: "{{ inputs.endpoint }}"}
  ttl: 4h
"""


@dataclass
class Company:
    """What stays over a restart of Firedoor, and the Firedoor that runs now."""

    folder: Path
    texts: Sequence[str]
    outside: Outside = field(default_factory=Outside)
    clock: FakeClock = field(default_factory=FakeClock)
    gateway: FakeGateway = field(default_factory=FakeGateway)
    chat: FakeChat = field(default_factory=FakeChat)
    mail: FakeMail = field(default_factory=FakeMail)
    sleep: Callable[[float], None] = lambda _s: None
    prepare: Callable[[World], None] = lambda _world: None
    more_actions: Sequence[Action[Any]] = ()
    secrets: Sequence[str] = ()
    announce_in: str | None = None
    store_url: str | None = None
    people: Mapping[str, Sequence[str]] | None = None
    _world: World | None = None

    @property
    def actions(self) -> Mapping[str, Action[Any]]:
        kinds = (Look, Tell, Set, Close, Lift)
        made = [*(kind(self.outside) if kind in (Look, Tell, Set) else kind() for kind in kinds)]
        return {action.name: action for action in [*made, *self.more_actions]}

    @property
    def runbooks(self) -> list[Runbook]:
        ids = [text.partition("id: ")[2].partition("\n")[0] for text in self.texts]
        known = dict(zip(ids, self.texts, strict=True))
        return [
            load(text, "book.yaml", self.actions, {n: t for n, t in known.items() if n != id_})
            for id_, text in known.items()
        ]

    @property
    def world(self) -> World:
        if self._world is None:
            self._world = World(
                self.folder,
                actions=list(self.actions.values()),
                runbooks=self.runbooks,
                endpoints=ENDPOINTS,
                groups=GROUPS,
                people=self.people,
                clock=self.clock,
                gateway=self.gateway,
                chat=self.chat,
                mail=self.mail,
                sleep=lambda seconds: self.sleep(seconds),
                secrets=self.secrets,
                announce_in=self.announce_in,
                store_url=self.store_url,
            )
            self.prepare(self._world)
        return self._world

    def restart(self) -> None:
        """End the process that runs now, however it stands; the next use starts another."""
        if self._world is not None:
            self._world.close()
        self._world = None

    # --- what people and alerts do --------------------------------------------------------------

    def start(self, person: Person = SAM, runbook: str = "book", **inputs: Any) -> str:
        """Start a run for a person; return its id."""
        origin = Origin(kind="person", actor=person.actor)
        wish = StartRun(runbook_id=runbook, inputs=inputs, origin=origin)
        return self.world.service.incidents.start(wish).run.id

    def ask(self, run_id: str = "INC-1-R1") -> Ask:
        """Return the one open question of a run."""
        return self.world.service.people.ask_of_step(run_id, None)

    def open_asks(self, run_id: str = "INC-1-R1") -> list[Ask]:
        with self.world.store.read() as tx:
            return list(tx.open_asks(run_id))

    def resume(self) -> None:
        """Do what the serving process does: drive every unfinished run."""
        for run in self.world.service.reports.runs(unfinished=True):
            self.world.runner.wake(run.id)

    def state(self, run_id: str = "INC-1-R1") -> Any:
        return self.world.service.recorder.state(run_id)

    def kinds(self, incident_id: str | None = "INC-1") -> list[str]:
        """Return the journal's records of an incident, by kind."""
        return [record.kind for record in self.world.service.reports.records(incident_id)]


def alert(fingerprint: str = "f1", endpoint: str = ORDERS.key, **changes: Any) -> Alert:
    labels = {"alertname": "CrossOwnerReads", "endpoint": endpoint}
    fields = {
        "source": "alertmanager",
        "fingerprint": fingerprint,
        "labels": labels,
        "starts_at": START,
    }
    return Alert.model_validate(fields | changes)
