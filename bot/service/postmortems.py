"""Drafting an incident's postmortem: read everything, build the document, keep its three forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bot.action import PostmortemDesk
from bot.model.endpoint import Endpoint
from bot.model.journal import Record
from bot.model.outcome import Evidence
from bot.ports import Clock, EvidenceFiles, Store, Transaction
from bot.postmortem.build import build
from bot.postmortem.render import render_html, render_markdown, render_pdf
from bot.service.context import IncidentEvidence


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
            records = _with_gateways(tx.records(incident_id=incident_id), tx)
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


def _with_gateways(records: Sequence[Record], tx: Transaction) -> list[Record]:
    """Add what happened to gateways while the incident went on: drift belongs to no incident, but
    whoever reads about a containment must learn that it was not always in force."""
    if not records:
        return []
    first, last = records[0].seq, records[-1].seq
    drifts = [r for r in tx.records(kind="gateway_drifted") if first <= r.seq <= last]
    return sorted({r.seq: r for r in (*records, *drifts)}.values(), key=lambda r: r.seq)


class _Desk(PostmortemDesk):
    def __init__(self, postmortems: Postmortems, incident_id: str) -> None:
        self._postmortems, self._incident_id = postmortems, incident_id

    def draft(self) -> Sequence[Evidence]:
        return self._postmortems.draft(self._incident_id)
