"""``gateway.throttle``, ``gateway.close``, ``gateway.block_principal``: put a containment in force.

They differ in the control that they ask for. The desk of containments does the rest: it knows
what else is in force, and brings the gateway to all of it.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from datetime import timedelta
from typing import Annotated, Any, TypeVar

from pydantic import Field, field_validator

from actions.gateway import verify
from actions.gateway.desk import (
    as_json,
    endpoint_of,
    fresh_id,
    own,
    refuse_if_drifted,
)
from actions.gateway.routes import MAX_RATE_PER_S
from bot.action import ChangeAction, Context, Facts, Params
from bot.errors import BadInput
from bot.model.containment import Containment, Control, ControlKind
from bot.model.incident import IncidentStatus
from bot.model.outcome import Outcome, Proof
from bot.model.plan import Plan

_RATE = re.compile(r"(\d{1,7}(?:\.\d{1,3})?)/([smh])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600}


class HoldParams(Params):
    """
    What ``with:`` may hold under each of the three.

    ``endpoint``: its key in the inventory, ``GET /api/orders/{order_id}``.
    ``gateway``: needed if several are configured.
    ``probe``: what to look from outside with; needed if several are configured.
    """

    endpoint: str
    gateway: str | None = None
    probe: str | None = None


class ThrottleParams(HoldParams):
    """``rate``: requests let through over all callers: ``1/s``, ``30/m``, ``100/h``."""

    rate: Annotated[str, Field(examples=["1/s", "30/m"])]

    @field_validator("rate")
    @classmethod
    def _readable(cls, value: str) -> str:
        rate_per_s(value)
        return value


class BlockPrincipalParams(HoldParams):
    """``principal``: the ``sub`` claim of the verified tokens to refuse."""

    principal: Annotated[str, Field(min_length=1, max_length=512)]


class HoldFacts(Facts):
    """``containment``: its id, for ``gateway.lift``. ``version``: of the gateway's routes."""

    containment: str
    gateway: str
    version: str


HP = TypeVar("HP", bound=HoldParams)


def rate_per_s(text: str) -> float:
    """Return requests a second of ``1/s``, ``30/m`` or ``100/h``. Raises ValueError."""
    match = _RATE.fullmatch(text.strip())
    rate = float(match[1]) / _UNITS_S[match[2]] if match else 0.0
    if not 0 < rate <= MAX_RATE_PER_S:
        raise ValueError("a rate is a positive number a second, minute or hour: 1/s, 30/m, 100/h")
    return rate


class _Hold(ChangeAction[HP]):
    facts = HoldFacts
    contains = True

    @abstractmethod
    def control(self, params: HP, method: str, path: str) -> Control:
        """Return what the gateway is to do."""

    @abstractmethod
    def sentence(self, params: HP, gateway: str) -> str:
        """Say what would be done."""

    def observe(self, params: HP, ctx: Context) -> dict[str, Any]:
        """Return what is in force on this endpoint at this gateway. What holds elsewhere is of
        other incidents, and must not void an approval of this one."""
        endpoint = endpoint_of(params.endpoint, ctx)
        name = params.gateway or ctx.containments.default_gateway(endpoint.key)
        control = self.control(params, endpoint.method, endpoint.path)
        if not ctx.containments.gateway(name).supports(control):
            raise BadInput(
                f"Gateway {name} cannot do {control.kind.value}; nothing was done. Use another "
                "step of the ladder: gateway.throttle, gateway.block_principal, gateway.close."
            )
        held = ctx.containments.in_force(name, endpoint.key)
        return {"gateway": name, "controls": [as_json(c.control, c.id) for c in held]}

    def plan(self, params: HP, observed: Any) -> Plan:
        method, _, path = params.endpoint.partition(" ")
        added = as_json(self.control(params, method, path), "(this step's)")
        before = observed["controls"]
        already = f" {len(before)} in force there already." if before else ""
        return Plan(
            action=self.name,
            params=params.model_dump(mode="json"),
            summary=f"{self.sentence(params, observed['gateway'])}{already}",
            before=observed,
            after={**observed, "controls": [*before, added]},
        )

    def apply(self, plan: Plan, ctx: Context) -> Outcome:
        gateway = str(plan.before["gateway"])
        held = own(ctx, gateway)
        containment = held[0] if held else self._new(plan, gateway, ctx)
        # Also if it is held: an attempt that was cut off may not have reached the gateway.
        ctx.containments.hold(containment)
        version = ctx.containments.gateway(gateway).observe()
        facts = HoldFacts(containment=containment.id, gateway=gateway, version=version)
        return Outcome(facts=facts.model_dump(mode="json"))

    def in_progress(self, plan: Plan, observed: Any, ctx: Context) -> bool:
        """An earlier attempt of this step got as far as holding its containment."""
        del observed
        return bool(own(ctx, str(plan.before["gateway"])))

    def verify(self, plan: Plan, ctx: Context) -> Proof:
        params = self.read_params(plan.params)
        return verify.held(
            self._control_of(plan, ctx),
            gateway=str(plan.before["gateway"]),
            probe=params.probe,
            ctx=ctx,
        )

    def undo(self, plan: Plan, ctx: Context) -> Outcome:
        gateway = str(plan.before["gateway"])
        held = own(ctx, gateway)
        refuse_if_drifted(ctx, gateway, held)
        if held:
            ctx.containments.lift([containment.id for containment in held], ctx.actor)
        return Outcome(proof=Proof(checks=(verify.version_check(gateway, ctx),)))

    def _control_of(self, plan: Plan, ctx: Context) -> Control:
        params = self.read_params(plan.params)
        endpoint = endpoint_of(params.endpoint, ctx)
        return self.control(params, endpoint.method, endpoint.path)

    def _new(self, plan: Plan, gateway: str, ctx: Context) -> Containment:
        if ctx.ttl_s is None:
            raise BadInput(
                f"Step {ctx.step_id} has no `ttl`, and a containment must end by itself some day; "
                "nothing was done. Give the step a `ttl`."
            )
        now = ctx.now()
        return Containment(
            id=fresh_id(ctx),
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


class Throttle(_Hold[ThrottleParams]):
    """Let so many requests to an endpoint through, over all callers; the rest get 429."""

    name = "gateway.throttle"
    params = ThrottleParams

    def control(self, params: ThrottleParams, method: str, path: str) -> Control:
        rate = rate_per_s(params.rate)
        return Control(kind=ControlKind.THROTTLE, method=method, path=path, rate_per_s=rate)

    def sentence(self, params: ThrottleParams, gateway: str) -> str:
        return (
            f"Let {params.rate} through to {params.endpoint} at gateway {gateway}, over all "
            "callers; the rest get 429."
        )


class Close(_Hold[HoldParams]):
    """Answer every request to an endpoint with 503 at the gateway."""

    name = "gateway.close"
    reaches = IncidentStatus.CONTAINED
    params = HoldParams

    def control(self, params: HoldParams, method: str, path: str) -> Control:
        return Control(kind=ControlKind.CLOSE, method=method, path=path)

    def sentence(self, params: HoldParams, gateway: str) -> str:
        return f"Close {params.endpoint} at gateway {gateway}: every request gets 503."


class BlockPrincipal(_Hold[BlockPrincipalParams]):
    """Refuse one caller's requests to an endpoint with 403, by the subject of its token."""

    name = "gateway.block_principal"
    reaches = IncidentStatus.CONTAINED
    params = BlockPrincipalParams

    def control(self, params: BlockPrincipalParams, method: str, path: str) -> Control:
        return Control(
            kind=ControlKind.BLOCK_PRINCIPAL, method=method, path=path, principal=params.principal
        )

    def sentence(self, params: BlockPrincipalParams, gateway: str) -> str:
        return (
            f"Refuse {params.endpoint} to {params.principal} at gateway {gateway} with 403; other "
            "callers are served."
        )
