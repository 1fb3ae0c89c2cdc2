"""Drafting an incident's postmortem: read everything, build the document, keep its three forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bot.action import PostmortemDesk
from bot.model.endpoint import Endpoint
from bot.model.outcome import Evidence
from bot.ports import Clock, EvidenceFiles, Store
from bot.postmortem.build import build
from bot.postmortem.render import render_html, render_markdown, render_pdf
from bot.service.context import IncidentEvidence
from bot.service.reports import story_of


class Postmortems:
    """The use case behind ``postmortem.draft`` and ``firedoor postmortem``."""

    def __init__(
        self,
        *,
        store: Store,
        files: EvidenceFiles,
        clock: Clock,
        endpoints: Mapping[str, Endpoint],
        templates: Path,
    ) -> None:
        self._store, self._files, self._clock = store, files, clock
        self._endpoints, self._templates = endpoints, templates

    def draft(self, incident_id: str) -> Sequence[Evidence]:
        """Keep Markdown, HTML and PDF as evidence, in this order.

        Raises:
            NotFound: There is no such incident.
        """
        with self._store.read() as tx:
            incident = tx.incident(incident_id)
            runs = tx.runs(incident_id=incident_id)
            records = story_of(tx, incident_id)
            evidence = tx.evidence(incident_id)
            containments = tx.containments(incident_id=incident_id)
        document = build(
            incident,
            runs,
            records,
            evidence,
            containments,
            self._endpoints,
            drafted_at=self._clock.now(),
        )
        templates = self._templates
        desk = IncidentEvidence(self._store, self._files, self._clock, incident_id)
        forms = (
            ("postmortem.md", render_markdown(document, templates), "text/markdown", "Markdown"),
            ("postmortem.html", render_html(document, templates), "text/html", "HTML"),
            ("postmortem.pdf", render_pdf(document, templates), "application/pdf", "PDF"),
        )
        return [
            desk.keep(name, content, media_type, f"Draft of the postmortem, as {form}.")
            for name, content, media_type, form in forms
        ]

    def read(self, evidence: Evidence) -> bytes:
        """Return a kept form, after checking it against its SHA-256."""
        return self._files.get(evidence.sha256)

    def desk(self, incident_id: str) -> PostmortemDesk:
        return _Desk(self, incident_id)


class _Desk(PostmortemDesk):
    def __init__(self, postmortems: Postmortems, incident_id: str) -> None:
        self._postmortems, self._incident_id = postmortems, incident_id

    def draft(self) -> Sequence[Evidence]:
        return self._postmortems.draft(self._incident_id)
