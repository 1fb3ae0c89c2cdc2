"""``gateway.lift``: end containments, and prove that the gateway is exactly as without them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from actions.gateway import proof
from actions.gateway.desk import describe, fresh_id, own, refuse_if_drifted
from bot.action import ChangeAction, Context, Facts, Params
from bot.errors import NotAllowed, NotFound
from bot.model.containment import Containment
from bot.model.incident import IncidentStatus
from bot.model.outcome import Outcome, Proof
from bot.model.plan import Plan


def _without_nothing(value: Any) -> Any:
    """Drop what a skipped step has left: it has held nothing."""
    return [item for item in value if item not in (None, "")] if isinstance(value, list) else value


ContainmentIds = Annotated[list[str], BeforeValidator(_without_nothing)]
"""Ids, as the holding steps left them. Those of skipped steps may be null."""


class LiftParams(Params):
    """
    ``containments``: ids, as the holding steps left them. Those of skipped steps may be null.
    ``probe``: what to look from outside with; needed if several are configured.
    """

    containments: ContainmentIds
    probe: str | None = None


class LiftFacts(Facts):
    """``reopened_exactly``: every gateway reports the version that it has without them."""

    lifted: list[str]
    reopened_exactly: bool


class Lift(ChangeAction[LiftParams]):
    """
    End containments of this incident.

    An endpoint that another containment still holds stays as that one wants it. Undone, it holds
    them again until they would have expired anyway: the safe side of a mistake is closed.
    """

    name = "gateway.lift"
    reaches = IncidentStatus.RECOVERED
    params = LiftParams
    facts = LiftFacts

    def observe(self, params: LiftParams, ctx: Context) -> list[dict[str, Any]]:
        """
        Return the containments, and whether each is in force.

        Raises:
            NotFound: There is none of an id.

            NotAllowed: One belongs to another incident, whose people decide about it.
        """
        return [_as_json(containment) for containment in _all(params.containments, ctx)]

    def plan(self, params: LiftParams, observed: Any) -> Plan:
        open_again = sorted(
            {f"{c['endpoint']} at gateway {c['gateway']}" for c in observed if c["in_force"]}
        )
        ids = ", ".join(c["containment"] for c in observed) or "nothing"
        what = ", ".join(open_again) or "nothing, as none is in force any more"
        return Plan(
            action=self.name,
            params=params.model_dump(mode="json"),
            summary=f"Lift {ids}; what reopens: {what}.",
            before=observed,
            after=[{**c, "in_force": False} for c in observed],
        )

    def in_progress(self, plan: Plan, observed: Any, ctx: Context) -> bool:
        """Containments that ended meanwhile, by us or by their expiry, only leave less to do."""
        del ctx
        return bool(
            len(observed) == len(plan.before)
            and all(
                now == before or now == {**before, "in_force": False}
                for now, before in zip(observed, plan.before, strict=True)
            )
        )

    def apply(self, plan: Plan, ctx: Context) -> Outcome:
        containments = _all(plan.params["containments"], ctx)
        ids = [containment.id for containment in containments]
        if ids:
            ctx.containments.lift(ids, ctx.actor)
        facts = LiftFacts(
            lifted=ids,
            reopened_exactly=all(_is_exact(gateway, ids, ctx) for gateway in _gateways(plan)),
        )
        return Outcome(facts=facts.model_dump(mode="json"))

    def verify(self, plan: Plan, ctx: Context) -> Proof:
        return proof.lifted(
            {(c["gateway"], c["endpoint"]) for c in plan.before},
            probe=plan.params["probe"],
            ctx=ctx,
        )

    def undo(self, plan: Plan, ctx: Context) -> Outcome:
        now = ctx.now()
        again = []
        for state in plan.before:
            containment = ctx.containments.get(state["containment"])
            if containment is None or not state["in_force"] or containment.lifted_at is None:
                continue
            if containment.expires_at > now:
                again.append(containment)
        for gateway in _gateways(plan):
            refuse_if_drifted(ctx, gateway, own(ctx, gateway))
        for containment in again:
            _hold_again(containment, ctx)
        checks = [proof.version_check(gateway, ctx) for gateway in _gateways(plan)]
        return Outcome(proof=Proof(checks=tuple(checks)))


def _hold_again(lifted: Containment, ctx: Context) -> None:
    """Hold a containment's control until its old expiry, unless an earlier attempt does already."""
    for held in own(ctx, lifted.gateway):
        if (held.control, held.expires_at) == (lifted.control, lifted.expires_at):
            ctx.containments.hold(held)
            return
    fresh = {
        "id": fresh_id(ctx),
        "run_id": ctx.run_id,
        "step_id": ctx.step_id,
        "since": ctx.now(),
        "lifted_at": None,
        "lifted_by": None,
    }
    ctx.containments.hold(lifted.model_copy(update=fresh))


def _all(ids: list[str], ctx: Context) -> list[Containment]:
    found = []
    for containment_id in dict.fromkeys(ids):
        containment = ctx.containments.get(containment_id)
        if containment is None:
            raise NotFound(
                f"There is no containment {containment_id}; nothing was lifted. "
                "`firedoor containments list` shows them."
            )
        if containment.incident_id != ctx.incident_id:
            raise NotAllowed(
                f"Containment {containment_id} belongs to {containment.incident_id}, so a run of "
                f"{ctx.incident_id} may not lift it; nothing was lifted. A person can, with "
                "`firedoor containments lift`."
            )
        found.append(containment)
    return found


def _as_json(containment: Containment) -> dict[str, Any]:
    return {
        "containment": containment.id,
        "gateway": containment.gateway,
        "endpoint": containment.control.endpoint,
        "control": describe(containment.control),
        "in_force": containment.lifted_at is None,
    }


def _gateways(plan: Plan) -> list[str]:
    return sorted({state["gateway"] for state in plan.before})


def _is_exact(gateway: str, ids: list[str], ctx: Context) -> bool:
    left = [c.control for c in ctx.containments.in_force(gateway) if c.id not in ids]
    adapter = ctx.containments.gateway(gateway)
    return adapter.observe() == adapter.version_of(left)
