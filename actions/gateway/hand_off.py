"""``gateway.hand_off``: render containments as a patch for the gateway's own configuration."""

from __future__ import annotations

from actions.gateway.handoff import Format, chosen, patch
from actions.gateway.lift import ContainmentIds
from bot.action import Context, Facts, Params, ReadAction
from bot.errors import NotAllowed
from bot.model.outcome import Outcome


class HandOffParams(Params):
    """
    ``containments``: ids, as the holding steps left them. Those of skipped steps may be null.
    ``format``: what the gateway's configuration is written in.
    """

    containments: ContainmentIds
    format: Format


class HandOffFacts(Facts):
    """
    ``evidence``: id of the file that holds the patch; null if nothing was held.
    ``left_out``: how many things the format cannot express; the file says which.
    """

    evidence: str | None
    format: str
    left_out: int


class HandOff(ReadAction[HandOffParams]):
    """Keep containments of this incident as a patch, ready for a pull request: the next deploy of
    the gateway then neither forgets nor undoes them. Nothing is changed."""

    name = "gateway.hand_off"
    params = HandOffParams
    facts = HandOffFacts

    def run(self, params: HandOffParams, ctx: Context) -> Outcome:
        """
        Raises:
            NotFound: There is no containment of an id.

            NotAllowed: One belongs to another incident, and so do its owner and reason.

            BadInput: One is over, they are of several gateways, or the format can say nothing of
                them.
        """
        containments = chosen(params.containments, ctx.containments.get, ctx.now())
        for containment in containments:
            if containment.incident_id != ctx.incident_id:
                raise NotAllowed(
                    f"Containment {containment.id} belongs to {containment.incident_id}, so a run "
                    f"of {ctx.incident_id} may not hand it off; nothing was rendered. A person "
                    "can, with `firedoor containments patch`."
                )
        if not containments:
            nothing = HandOffFacts(evidence=None, format=params.format, left_out=0)
            return Outcome(facts=nothing.model_dump(mode="json"))
        rendered = patch(
            params.format,
            [containment.control for containment in containments],
            containments=containments,
            known=ctx.endpoints,
        )
        kept = ctx.evidence.keep(
            rendered.file_name,
            rendered.text.encode(),
            rendered.media_type,
            f"{len(containments)} of gateway {containments[0].gateway} as a patch for its own "
            f"configuration ({params.format}); left out: {len(rendered.unsupported)}.",
        )
        facts = HandOffFacts(
            evidence=kept.id, format=params.format, left_out=len(rendered.unsupported)
        )
        return Outcome(facts=facts.model_dump(mode="json"), evidence=(kept,))
