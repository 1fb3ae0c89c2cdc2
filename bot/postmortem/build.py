"""Make the document of an incident. Pure: equal arguments, equal document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from bot.model.containment import Containment
from bot.model.endpoint import Endpoint
from bot.model.incident import Incident, Run
from bot.model.journal import Record
from bot.model.outcome import Evidence
from bot.postmortem import narrative, rows
from bot.postmortem.document import Document, Entry, Header, Supporting
from bot.postmortem.impact import impact
from bot.postmortem.ledger import Ledger, collect
from bot.postmortem.tasks import tasks
from bot.postmortem.text import MAX_QUOTE, plain
from bot.postmortem.timeline import timeline

MOST_ENTRIES = 400
"""Lines of the timeline: the beginning and the end of an incident that has more. A PDF with ten
times as many takes over a gigabyte to make."""


def build(
    incident: Incident,
    runs: Sequence[Run],
    records: Sequence[Record],
    evidence: Sequence[Evidence],
    containments: Sequence[Containment],
    endpoints: Mapping[str, Endpoint],
    *,
    drafted_at: datetime,
) -> Document:
    """
    Write the postmortem of an incident from the journal.

    Args:
        incident: As it stands now.

        runs: Of the incident, oldest first. Their pinned texts give the runbooks' names and
            owners.

        records: The incident's records. Any part of them gives a document: what is missing is
            UNKNOWN.

        evidence: As the store keeps it.

        containments: Of the incident, ended ones too.

        endpoints: The whole inventory, by endpoint key.

        drafted_at: In UTC. It decides what is still in force.
    """
    ledger = collect(records, runs)
    entries = timeline(records, full=True, names=ledger.roles)
    told = tuple(entry for entry in entries if not entry.minor)
    shown = _ends(told)
    figures = impact(ledger, endpoints, drafted_at)
    contained = rows.containment_rows(ledger, containments, drafted_at)
    credentials = rows.credential_rows(ledger)
    notices = rows.notice_rows(ledger)
    return Document(
        header=_header(incident, ledger, drafted_at),
        summary=narrative.summary(incident, ledger, figures, credentials, notices),
        impact=figures,
        root_cause=narrative.root_cause(ledger),
        trigger=narrative.trigger(ledger),
        detection=narrative.detection(ledger),
        resolution=narrative.resolution(incident, ledger, entries),
        containments=contained,
        credentials=credentials,
        notices=notices,
        other_changes=rows.other_changes(ledger),
        timeline=shown,
        went_well=narrative.went_well(ledger, figures, notices),
        went_wrong=narrative.went_wrong(ledger, told),
        lucky=narrative.lucky(ledger),
        prevention=narrative.prevention(ledger),
        tasks=tasks(incident, ledger, endpoints, figures, contained, credentials, notices, entries),
        approvals=rows.approval_rows(ledger),
        evidence=rows.evidence_rows(ledger, evidence),
        supporting=_supporting(ledger, len(entries) - len(shown)),
    )


def _ends(told: tuple[Entry, ...]) -> tuple[Entry, ...]:
    if len(told) <= MOST_ENTRIES:
        return told
    half = MOST_ENTRIES // 2
    return (*told[:half], *told[-half:])


def _header(incident: Incident, ledger: Ledger, drafted_at: datetime) -> Header:
    opened = ledger.first("incident_opened")
    return Header(
        incident_id=incident.id,
        title=plain(incident.title, MAX_QUOTE),
        severity=incident.severity.value,
        status=incident.status.value,
        opened_at=incident.opened_at,
        drafted_at=drafted_at,
        authors=("Firedoor (draft)", *ledger.owners),
        sources=(opened.seq,) if opened else (),
    )


def _supporting(ledger: Ledger, left_out: int) -> Supporting:
    records = [read.record for read in ledger.reads]
    return Supporting(
        first_seq=records[0].seq if records else None,
        last_seq=records[-1].seq if records else None,
        records=len(records),
        head_hash=records[-1].hash if records else "",
        left_out=left_out,
        runs=rows.run_rows(ledger),
    )
