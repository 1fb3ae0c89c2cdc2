"""The ladder: ``gateway.shadow``, ``throttle``, ``block``, ``allow_only``, ``close``.

They differ in the control that they ask for. The desk of containments does the rest: it knows
what else is in force, and brings the gateway to all of it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar

from actions.gateway import blast_radius, proof
from actions.gateway.desk import (
    as_json,
    endpoint_of,
    listed,
    next_id,
    own,
    refuse_if_drifted,
    refuse_if_handed_over,
)
from actions.gateway.params import (
    AllowOnlyParams,
    BlockParams,
    BlockPrincipalParams,
    HoldFacts,
    HoldParams,
    ShadowParams,
    ThrottleParams,
    rate_per_s,
)
from actions.gateway.rules import Rules, rules_of
from actions.logs import AccessLogs
from actions.logs.paths import PathPattern, patterns_of
from actions.logs.traffic import traffic
from bot.action import ChangeAction, Context
from bot.errors import BadInput, FiredoorError
from bot.model.containment import ANY_METHOD, Containment, Control, ControlKind, subject
from bot.model.incident import IncidentStatus
from bot.model.outcome import Outcome, Proof
from bot.model.plan import Brief, Plan

HP = TypeVar("HP", bound=HoldParams)

LOOK_S = 10
"""How long an access log may be read before people are asked; they wait for it."""


class _Hold(ChangeAction[HP]):
    facts = HoldFacts
    contains = True

    @abstractmethod
    def control(self, params: HP, method: str, path: str) -> Control:
        """Return what the gateway is to do."""

    @abstractmethod
    def sentence(self, params: HP, where: str) -> str:
        """Say what would be done. ``where`` is the endpoint and its gateway."""

    def observe(self, params: HP, ctx: Context) -> dict[str, Any]:
        """Return what is in force on this endpoint at this gateway. What holds elsewhere is of
        other incidents, and must not void an approval of this one."""
        endpoint = endpoint_of(params.endpoint, ctx)
        name = params.gateway or ctx.containments.default_gateway(endpoint.key)
        control = self._control(params)
        support = ctx.containments.gateway(name).supports(control)
        if not support.ok:
            instead = f" The nearest that it can: gateway.{support.nearest}." * bool(
                support.nearest
            )
            raise BadInput(
                f"Gateway {name} cannot do {self.name} on {control.place}: {support.why}; "
                f"nothing was done.{instead}"
            )
        held = ctx.containments.in_force(name, control.endpoint)
        observed: dict[str, Any] = {
            "gateway": name,
            "controls": [as_json(c.control, c.id) for c in held],
        }
        if support.best_effort:
            observed["best_effort"] = True
        if support.own_status is not None:
            observed["own_status"] = support.own_status
        if support.wider:
            observed["wider"] = support.wider
        return observed

    def plan(self, params: HP, observed: Any) -> Plan:
        added = as_json(self._control(params), "(this step's)")
        before = observed["controls"]
        already = f" {len(before)} in force there already." if before else ""
        limit = (
            " The gateway's maker calls this limit approximate: it slows callers down and is no "
            "block."
            if observed.get("best_effort")
            else ""
        )
        if "own_status" in observed:
            limit += f" It answers {observed['own_status']} by itself, without Firedoor's body."
        if "wider" in observed:
            limit += f" {observed['wider']}"
        every = "every method of " if params.scope == "route" else ""
        _, _, path = params.endpoint.partition(" ")
        endpoint = f"{every}{path if every else params.endpoint}"
        sentence = self.sentence(params, f"{endpoint} at gateway {observed['gateway']}")
        return Plan(
            action=self.name,
            params=params.model_dump(mode="json"),
            summary=f"{sentence}{limit}{already}",
            before=observed,
            after={**observed, "controls": [*before, added]},
        )

    def holds(self, plan: Plan) -> Control:
        return self._control(self.read_params(plan.params))

    def brief(self, plan: Plan, ctx: Context) -> Brief:
        """Return who would be concerned: the traffic of the last hour, whose endpoint it is, what
        else is in force, and what less would do."""
        params = self.read_params(plan.params)
        control = self._control(params)
        seen = _seen(control, params.logs, ctx)
        ours = (ctx.run_id, ctx.step_id)
        others = [
            each
            for each in ctx.containments.in_force(str(plan.before["gateway"]))
            if (each.run_id, each.step_id) != ours
        ]
        endpoints = [each for key, each in ctx.endpoints.items() if control.concerns(key)]
        return Brief(
            facts=blast_radius.facts(seen, endpoints, control, others),
            share=blast_radius.share(seen),
        )

    def apply(self, plan: Plan, ctx: Context) -> Outcome:
        gateway = str(plan.before["gateway"])
        held = own(ctx, gateway)
        containment = held[0] if held else self._new(plan, gateway, ctx)
        # Also if it is held: an attempt that was cut off may not have reached the gateway.
        version = ctx.containments.hold(containment)
        facts = HoldFacts(containment=containment.id, gateway=gateway, version=version)
        return Outcome(facts=facts.model_dump(mode="json"))

    def in_progress(self, plan: Plan, observed: Any, ctx: Context) -> bool:
        """An earlier attempt of this step got as far as holding its containment."""
        del observed
        return bool(own(ctx, str(plan.before["gateway"])))

    def verify(self, plan: Plan, ctx: Context) -> Proof:
        params = self.read_params(plan.params)
        return proof.held(
            self._control_of(plan, ctx),
            params.endpoint,
            gateway=str(plan.before["gateway"]),
            probe=params.probe,
            ctx=ctx,
        )

    def undo(self, plan: Plan, ctx: Context) -> Outcome:
        gateway = str(plan.before["gateway"])
        held = own(ctx, gateway)
        refuse_if_handed_over(held)
        refuse_if_drifted(ctx, gateway, held)
        if held:
            ctx.containments.lift([containment.id for containment in held], ctx.actor)
        return Outcome(proof=Proof(checks=(proof.version_check(gateway, ctx),)))

    def _control_of(self, plan: Plan, ctx: Context) -> Control:
        params = self.read_params(plan.params)
        endpoint_of(params.endpoint, ctx)
        return self._control(params)

    def _control(self, params: HP) -> Control:
        method, _, path = params.endpoint.partition(" ")
        return self.control(params, ANY_METHOD if params.scope == "route" else method, path)

    def _new(self, plan: Plan, gateway: str, ctx: Context) -> Containment:
        if ctx.ttl_s is None:
            raise BadInput(
                f"Step {ctx.step_id} has no `ttl`, and a containment must end by itself some day; "
                "nothing was done. Give the step a `ttl`."
            )
        now = ctx.now()
        return Containment(
            id=next_id(ctx),
            incident_id=ctx.incident_id,
            run_id=ctx.run_id,
            step_id=ctx.step_id,
            gateway=gateway,
            control=self._control_of(plan, ctx),
            owner=ctx.actor,
            reason=ctx.incident_title,
            since=now,
            expires_at=now + timedelta(seconds=ctx.ttl_s),
        )


def _seen(control: Control, name: str | None, ctx: Context) -> blast_radius.Seen:
    """Count the requests that a control is about. Whatever keeps it from being counted is no error
    but an answer: people then decide without it."""
    try:
        logs = ctx.connection(AccessLogs, name)
    except BadInput:
        if name is not None:
            return f"firedoor.yaml has no access log {name!r}"
        return "no access log is configured, or there are several and `logs` names none"
    now = ctx.now()
    try:
        rules = rules_of([control], ctx.endpoints)
        return traffic(
            logs,
            _requests_of([rule for rule in rules if rule.is_contained]),
            except_for=_requests_of([rule for rule in rules if not rule.is_contained]),
            since=now - blast_radius.WINDOW,
            until=now,
            limit_s=LOOK_S,
        )
    except FiredoorError as error:
        return str(error)


def _requests_of(rules: Sequence[Rules]) -> list[PathPattern]:
    return [each for rule in rules for each in patterns_of(rule.path, rule.methods)]


class Shadow(_Hold[ShadowParams]):
    """Change nothing, and count the requests that a block, an allow-only or a close would refuse;
    ``gateway.shadow_hits`` reads the count."""

    name = "gateway.shadow"
    params = ShadowParams

    def control(self, params: ShadowParams, method: str, path: str) -> Control:
        return Control(
            kind=ControlKind.SHADOW,
            method=method,
            path=path,
            would=params.would,
            principals=tuple(each.principal() for each in params.principals),
        )

    def sentence(self, params: ShadowParams, where: str) -> str:
        whom = listed([each.principal() for each in params.principals])
        what = {
            ControlKind.CLOSE: "a close",
            ControlKind.BLOCK: f"a block of {whom}",
            ControlKind.ALLOW_ONLY: f"letting only {whom} through",
        }[params.would]
        return f"Count what {what} would refuse at {where}; every caller is served as before."


class Throttle(_Hold[ThrottleParams]):
    """Let so many requests to an endpoint through, over all callers; the rest get 429."""

    name = "gateway.throttle"
    params = ThrottleParams

    def control(self, params: ThrottleParams, method: str, path: str) -> Control:
        rate = rate_per_s(params.rate)
        return Control(kind=ControlKind.THROTTLE, method=method, path=path, rate_per_s=rate)

    def sentence(self, params: ThrottleParams, where: str) -> str:
        return f"Let {params.rate} through to {where}, over all callers; the rest get 429."


class Block(_Hold[BlockParams]):
    """Refuse one caller's requests to an endpoint with 403."""

    name = "gateway.block"
    reaches = IncidentStatus.CONTAINED
    params = BlockParams

    def control(self, params: BlockParams, method: str, path: str) -> Control:
        whom = (params.principal.principal(),)
        return Control(kind=ControlKind.BLOCK, method=method, path=path, principals=whom)

    def sentence(self, params: BlockParams, where: str) -> str:
        whom = params.principal.principal()
        return f"Refuse {where} to {whom} with 403; other callers are served."


class BlockPrincipal(_Hold[BlockPrincipalParams]):
    """What ``gateway.block`` with ``{subject: …}`` was called in version 0.1: for runbooks, and
    runs under way, that say so."""

    name = "gateway.block_principal"
    reaches = IncidentStatus.CONTAINED
    params = BlockPrincipalParams

    def control(self, params: BlockPrincipalParams, method: str, path: str) -> Control:
        whom = (subject(params.principal),)
        return Control(kind=ControlKind.BLOCK, method=method, path=path, principals=whom)

    def sentence(self, params: BlockPrincipalParams, where: str) -> str:
        return f"Refuse {where} to {params.principal} with 403; other callers are served."


class AllowOnly(_Hold[AllowOnlyParams]):
    """Let only some callers through to an endpoint; all others get 403."""

    name = "gateway.allow_only"
    reaches = IncidentStatus.CONTAINED
    params = AllowOnlyParams

    def control(self, params: AllowOnlyParams, method: str, path: str) -> Control:
        whom = tuple(each.principal() for each in params.principals)
        return Control(kind=ControlKind.ALLOW_ONLY, method=method, path=path, principals=whom)

    def sentence(self, params: AllowOnlyParams, where: str) -> str:
        whom = listed([each.principal() for each in params.principals])
        return f"Let only {whom} through to {where}; everybody else gets 403."


class Close(_Hold[HoldParams]):
    """Answer every request to an endpoint with 503 at the gateway."""

    name = "gateway.close"
    reaches = IncidentStatus.CONTAINED
    params = HoldParams

    def control(self, params: HoldParams, method: str, path: str) -> Control:
        return Control(kind=ControlKind.CLOSE, method=method, path=path)

    def sentence(self, params: HoldParams, where: str) -> str:
        return f"Close {where}: every request gets 503."
