"""The postmortem, drafted from the journal. Changes nothing outside Firedoor."""

from __future__ import annotations

from bot.action import Context, Facts, Params, ReadAction
from bot.errors import Failed
from bot.model.outcome import Outcome


class DraftParams(Params):
    """``with:`` holds nothing: the draft is of the step's own incident."""


class DraftFacts(Facts):
    """The ids of the drafts' evidence."""

    markdown: str
    html: str
    pdf: str


class Draft(ReadAction[DraftParams]):
    """
    Draft the postmortem as Markdown, HTML and PDF, and keep the three as evidence.

    It is written from what the journal holds at this moment; a later draft is kept beside it.
    People fill in what is UNKNOWN.

    Raises:
        Failed: The drafts could not be written, or are not the three that were promised.
    """

    name = "postmortem.draft"
    params = DraftParams
    facts = DraftFacts
    timeout_s = 60.0

    def run(self, params: DraftParams, ctx: Context) -> Outcome:
        del params
        kept = tuple(ctx.postmortem.draft())
        if len(kept) != 3:
            raise Failed(
                f"The postmortem was kept in {len(kept)} forms and not in 3; the incident is not "
                "written up. Read the log of firedoor serve, then retry the step."
            )
        markdown, html, pdf = kept
        facts = DraftFacts(markdown=markdown.id, html=html.id, pdf=pdf.id)
        return Outcome(facts=facts.model_dump(), evidence=kept)
