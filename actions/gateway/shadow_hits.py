"""``gateway.shadow_hits``: read what a shadow has counted."""

from __future__ import annotations

from bot.action import Context, Facts, Params, ReadAction
from bot.errors import NotFound
from bot.model.outcome import Outcome


class ShadowHitsParams(Params):
    """``containment``: the id that the shadow's step left."""

    containment: str


class ShadowHitsFacts(Facts):
    """``hits``: requests that would have been refused since the shadow was put in force, or since
    the gateway started, if that was later."""

    hits: int


class ShadowHits(ReadAction[ShadowHitsParams]):
    """Tell how many requests a shadow would have refused so far."""

    name = "gateway.shadow_hits"
    params = ShadowHitsParams
    facts = ShadowHitsFacts

    def run(self, params: ShadowHitsParams, ctx: Context) -> Outcome:
        containment = ctx.containments.get(params.containment)
        if containment is None or containment.lifted_at is not None:
            raise NotFound(
                f"No containment {params.containment} is in force, so nothing is counted. "
                "`firedoor containments list` shows them."
            )
        gateway = ctx.containments.gateway(containment.gateway)
        facts = ShadowHitsFacts(hits=gateway.shadow_hits(containment.control))
        return Outcome(facts=facts.model_dump(mode="json"))
