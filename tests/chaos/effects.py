"""Actions of every effect kind on the remote system, and its chat, mail and gateway.

Each is made as an action on a real system has to be: it looks before it repeats, and announces in
a note what it cannot look for. A note is also the last word of the store that the run is still
ours: what comes after it comes from whoever holds the lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from bot.action import (
    SILENT,
    Action,
    ChangeAction,
    Context,
    Effect,
    Facts,
    NotifyAction,
    Params,
    ReadAction,
    Writing,
)
from bot.errors import ProviderRefused
from bot.model.base import digest_of
from bot.model.containment import Containment, Control, ControlKind
from bot.model.message import Message, MessageRef
from bot.model.outcome import Check, Notice, Outcome, Proof
from bot.model.plan import Plan
from bot.testing import FakeChat, FakeGateway, FakeMail
from tests.chaos.remote import Remote


class KeyParams(Params):
    key: str


class ValueFacts(Facts):
    value: str | None


class Look(ReadAction[KeyParams]):
    """Reads a value, and keeps it as evidence."""

    name = "acme.look"
    params = KeyParams
    facts = ValueFacts

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def run(self, params: KeyParams, ctx: Context) -> Outcome:
        value = self._remote.ask("get", key=params.key)
        name = f"{ctx.run_id}-{ctx.step_id}.txt"
        evidence = ctx.evidence.keep(name, str(value).encode(), "text/plain", "A value.")
        return Outcome(facts={"value": value}, evidence=(evidence,))


class Tell(NotifyAction[KeyParams]):
    """Tells security by both ways."""

    name = "acme.tell"
    params = KeyParams

    def compose(self, params: KeyParams, ctx: Context) -> Outcome:
        notices = tuple(
            Notice(
                key=f"security:{way}",
                way=way,  # type: ignore[arg-type]
                to=to,
                audience="security",
                subject=f"{ctx.incident_id}: {params.key}",
                text="Something was seen.",
            )
            for way, to in (("slack", "#security"), ("email", "security@acme.example"))
        )
        return Outcome(notices=notices)


class Refuse(ReadAction[KeyParams]):
    """Fails for good."""

    name = "acme.refuse"
    params = KeyParams

    def run(self, params: KeyParams, ctx: Context) -> Outcome:
        raise ProviderRefused(f"{params.key} is not known there; nothing was read. Look for it.")


class Set(ChangeAction[KeyParams]):
    """Sets a value that was not there: whether it did can be seen."""

    name = "acme.set"
    params = KeyParams
    facts = ValueFacts
    timeout_s = 10.0

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def observe(self, params: KeyParams, ctx: Context) -> Any:
        del ctx
        return self._remote.ask("get", key=params.key)

    def plan(self, params: KeyParams, observed: Any) -> Plan:
        return Plan(
            action=self.name,
            params=params.model_dump(),
            summary=f"Sets {params.key}.",
            before=observed,
            after="shut",
        )

    def in_progress(self, plan: Plan, observed: Any, ctx: Context) -> bool:
        del ctx
        return bool(observed == plan.after)

    def apply(self, plan: Plan, ctx: Context) -> Outcome:
        self._bring(plan, plan.after, f"{ctx.run_id}:{ctx.step_id}", ctx)
        return Outcome(facts={"value": plan.after})

    def verify(self, plan: Plan, ctx: Context) -> Proof:
        del ctx
        seen = self._remote.ask("get", key=plan.params["key"])
        check = Check(name="value", ok=seen == plan.after, expected=plan.after, seen=str(seen))
        return Proof(checks=(check,))

    def undo(self, plan: Plan, ctx: Context) -> Outcome:
        self._bring(plan, plan.before, f"{ctx.run_id}:{ctx.step_id}:undo", ctx)
        return Outcome()

    def _bring(self, plan: Plan, value: Any, by: str, ctx: Context) -> None:
        key = plan.params["key"]
        if self._remote.ask("get", key=key) != value:
            ctx.notes.write({"sets": key})
            self._remote.ask("set", key=key, value=value, by=by)


class Trip(Set):
    """Sets a value, and falls over right after it, once."""

    name = "acme.trip"

    def apply(self, plan: Plan, ctx: Context) -> Outcome:
        outcome = super().apply(plan, ctx)
        if {"tripped": True} not in [dict(note) for note in ctx.notes.read()]:
            ctx.notes.write({"tripped": True})
            raise RuntimeError("tripped")
        return outcome


class MintFacts(Facts):
    key_id: str


class Mint(ChangeAction[KeyParams]):
    """
    Makes a new key at each call, like an access key: what came of a call whose answer was lost
    can only be told from what was there before, so that is noted first.
    """

    name = "acme.mint"
    params = KeyParams
    facts = MintFacts
    timeout_s = 10.0

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def observe(self, params: KeyParams, ctx: Context) -> Any:
        del ctx
        return self._remote.ask("keys", key=params.key)

    def plan(self, params: KeyParams, observed: Any) -> Plan:
        return Plan(
            action=self.name,
            params=params.model_dump(),
            summary=f"Makes a key of {params.key}.",
            before=observed,
            after=[*observed, "(new)"],
        )

    def apply(self, plan: Plan, ctx: Context) -> Outcome:
        owner, by = plan.params["key"], f"{ctx.run_id}:{ctx.step_id}"
        mine = self._mine(plan)
        if not mine:
            ctx.notes.write({"mints": owner})
            mine = [self._remote.ask("mint", key=owner, by=by)]
        for spare in mine[1:]:
            ctx.notes.write({"retires": spare})
            self._remote.ask("retire", key=owner, value=spare, by=f"{by}:spare")
        return Outcome(facts={"key_id": mine[0]})

    def verify(self, plan: Plan, ctx: Context) -> Proof:
        del ctx
        mine = self._mine(plan)
        check = Check(name="keys", ok=len(mine) == 1, expected="1", seen=str(len(mine)))
        return Proof(checks=(check,))

    def undo(self, plan: Plan, ctx: Context) -> Outcome:
        for key_id in self._mine(plan):
            ctx.notes.write({"retires": key_id})
            by = f"{ctx.run_id}:{ctx.step_id}:undo"
            self._remote.ask("retire", key=plan.params["key"], value=key_id, by=by)
        return Outcome()

    def _mine(self, plan: Plan) -> list[str]:
        """The keys that came since the plan, oldest first: nobody else makes keys of this owner."""
        there: list[str] = self._remote.ask("keys", key=plan.params["key"])
        return [key_id for key_id in there if key_id not in plan.before]


class Burn(ChangeAction[KeyParams]):
    """Burns something: once and never again."""

    name = "acme.burn"
    effect = Effect.IRREVERSIBLE
    params = KeyParams
    timeout_s = 10.0

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def observe(self, params: KeyParams, ctx: Context) -> Any:
        del ctx
        return self._remote.ask("is_burnt", key=params.key)

    def plan(self, params: KeyParams, observed: Any) -> Plan:
        return Plan(
            action=self.name,
            params=params.model_dump(),
            summary=f"Burns {params.key}.",
            before=observed,
            after=True,
        )

    def apply(self, plan: Plan, ctx: Context) -> Outcome:
        key = plan.params["key"]
        if not self._remote.ask("is_burnt", key=key):
            ctx.notes.write({"burns": key})
            self._remote.ask("burn", key=key, by=f"{ctx.run_id}:{ctx.step_id}")
        return Outcome()

    def verify(self, plan: Plan, ctx: Context) -> Proof:
        del ctx
        seen = self._remote.ask("is_burnt", key=plan.params["key"])
        return Proof(checks=(Check(name="burnt", ok=seen, expected="yes", seen=str(seen)),))

    def undo(self, plan: Plan, ctx: Context) -> Outcome:
        raise ProviderRefused("What is burnt stays burnt.")


class CloseParams(Params):
    key: str
    gateway: str


class CloseFacts(Facts):
    containment: str


class Close(ChangeAction[CloseParams]):
    """Closes an endpoint of its own at a gateway that others use as well."""

    name = "acme.close"
    params = CloseParams
    facts = CloseFacts
    contains = True

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def observe(self, params: CloseParams, ctx: Context) -> Any:
        held = ctx.containments.in_force(params.gateway, f"GET /{params.key}")
        return sorted(c.id for c in held)

    def plan(self, params: CloseParams, observed: Any) -> Plan:
        return Plan(
            action=self.name,
            params=params.model_dump(),
            summary=f"Closes {params.key}.",
            before=observed,
            after=[*observed, "closed"],
        )

    def in_progress(self, plan: Plan, observed: Any, ctx: Context) -> bool:
        del plan
        return _id(ctx) in observed

    def apply(self, plan: Plan, ctx: Context) -> Outcome:
        assert ctx.ttl_s is not None
        known = ctx.containments.get(_id(ctx))
        since = known.since if known else ctx.now()
        ctx.containments.hold(
            Containment(
                id=_id(ctx),
                incident_id=ctx.incident_id,
                run_id=ctx.run_id,
                step_id=ctx.step_id,
                gateway=plan.params["gateway"],
                control=_control(plan.params["key"]),
                owner=ctx.actor,
                reason=ctx.incident_title,
                since=since,
                expires_at=since + timedelta(seconds=ctx.ttl_s),
            )
        )
        return Outcome(facts={"containment": _id(ctx)})

    def verify(self, plan: Plan, ctx: Context) -> Proof:
        del ctx
        return _held(self._remote, plan, wanted=True)

    def undo(self, plan: Plan, ctx: Context) -> Outcome:
        del plan
        if ctx.containments.get(_id(ctx)) is not None:
            ctx.containments.lift([_id(ctx)], ctx.actor)
        return Outcome()


class LiftParams(CloseParams):
    containment: str


class Lift(ChangeAction[LiftParams]):
    """Lifts a containment. It is not held again."""

    name = "acme.lift"
    params = LiftParams

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def observe(self, params: LiftParams, ctx: Context) -> Any:
        found = ctx.containments.get(params.containment)
        return bool(found and found.lifted_at is None)

    def plan(self, params: LiftParams, observed: Any) -> Plan:
        return Plan(
            action=self.name,
            params=params.model_dump(),
            summary=f"Reopens {params.key}.",
            before=observed,
            after=False,
        )

    def in_progress(self, plan: Plan, observed: Any, ctx: Context) -> bool:
        del plan, ctx
        return observed is False

    def apply(self, plan: Plan, ctx: Context) -> Outcome:
        ctx.containments.lift([plan.params["containment"]], ctx.actor)
        return Outcome()

    def verify(self, plan: Plan, ctx: Context) -> Proof:
        del ctx
        return _held(self._remote, plan, wanted=False)

    def undo(self, plan: Plan, ctx: Context) -> Outcome:
        del plan, ctx
        return Outcome()


def _id(ctx: Context) -> str:
    return f"c-{digest_of([ctx.run_id, ctx.step_id])[:10]}"


def _control(key: str) -> Control:
    return Control(kind=ControlKind.CLOSE, method="GET", path=f"/{key}")


def _held(remote: Remote, plan: Plan, *, wanted: bool) -> Proof:
    controls = remote.ask("controls", key=plan.params["gateway"])
    is_held = _control(plan.params["key"]).model_dump(mode="json") in controls
    seen = "closed" if is_held else "open"
    expected = "closed" if wanted else "open"
    return Proof(
        checks=(Check(name="endpoint", ok=is_held is wanted, expected=expected, seen=seen),)
    )


def actions(remote: Remote) -> dict[str, Action[Any]]:
    on_remote = (Look, Set, Trip, Mint, Burn, Close, Lift)
    made: list[Action[Any]] = [kind(remote) for kind in on_remote]
    made += [Tell(), Refuse()]
    return {action.name: action for action in made}


GATEWAYS = ("edge-0", "edge-1")


class RemoteGateway(FakeGateway):
    """A gateway, at the remote system."""

    def __init__(self, remote: Remote, name: str) -> None:
        super().__init__(name)
        self._remote = remote

    def converge(self, controls: Sequence[Control], writing: Writing = SILENT) -> str:
        wanted = self.version_of(controls)
        if self.observe() == wanted:
            return wanted
        dumped = [control.model_dump(mode="json") for control in controls]
        writing.begin()
        return str(self._remote.ask("converge", key=self.name, controls=dumped, value=wanted))

    def observe(self) -> str:
        return str(self._remote.ask("version", key=self.name)) or self.version_of(())


class RemoteChat(FakeChat):
    """The chat, at the remote system, so that it outlives processes."""

    def __init__(self, remote: Remote) -> None:
        super().__init__()
        self._remote = remote

    def open_channel(self, name: str, topic: str, members: Sequence[str] = ()) -> str:
        del topic, members
        return str(self._remote.ask("open_channel", name=name))

    def post(self, channel: str, message: Message, key: str) -> MessageRef:
        content = message.model_dump(mode="json")
        ts = self._remote.ask("post", channel=channel, key=key, message=content)
        return MessageRef(channel=channel, ts=ts)

    def find(self, channel: str, key: str) -> MessageRef | None:
        ts = self._remote.ask("find", channel=channel, key=key)
        return None if ts is None else MessageRef(channel=channel, ts=ts)

    def update(self, ref: MessageRef, message: Message) -> None:
        content = message.model_dump(mode="json")
        self._remote.ask("update", channel=ref.channel, ts=ref.ts, key=ref.ts, message=content)


class RemoteMail(FakeMail):
    """The mail server, at the remote system."""

    def __init__(self, remote: Remote) -> None:
        super().__init__()
        self._remote = remote

    def send(self, to: str, message: Message, key: str) -> None:
        del message
        self._remote.ask("mail", to=to, key=key)
