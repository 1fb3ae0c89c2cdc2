"""Rows as models."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bot.errors import JournalBroken, NotFound
from bot.model.ask import StoredParcel
from bot.model.incident import Incident, IncidentStatus, Origin, Run, RunStatus, Severity
from bot.model.journal import Record
from bot.ports import StoredRun

Row = sa.Row[Any]


def number_of(incident_id: str) -> int:
    text = incident_id.upper().removeprefix("INC-")
    return int(text) if text.isdecimal() and len(text) < 18 else -1


def record_of(row: Row) -> Record:
    try:
        return Record(**{**row._mapping, "body": json.loads(row.body)})
    except (TypeError, ValueError):
        raise JournalBroken(
            f"Record {row.seq} can no longer be read; the journal from there on cannot be trusted. "
            "Compare with a backup.",
            row.seq,
        ) from None


def incident_of(row: Row) -> Incident:
    return Incident(
        id=f"INC-{row.number}",
        key=row.key,
        title=row.title,
        severity=Severity(row.severity),
        status=IncidentStatus(row.status),
        opened_at=datetime.fromisoformat(row.opened_at),
        channel=row.channel,
    )


def no_run(run_id: str) -> NotFound:
    return NotFound(f"There is no run {run_id}. `firedoor status` lists the current ones.")


def stored_of(row: Row) -> StoredRun:
    return StoredRun(
        run=run_of(row),
        state=json.loads(row.state),
        events=row.events,
        commands=tuple(json.loads(row.commands)),
    )


def run_of(row: Row) -> Run:
    return Run(
        id=row.id,
        incident_id=row.incident_id,
        runbook_id=row.runbook_id,
        runbook_digest=row.runbook_digest,
        runbook_text=row.runbook_text,
        called_texts=json.loads(row.called_texts),
        origin=Origin.model_validate_json(row.origin),
        status=RunStatus(row.status),
        started_at=datetime.fromisoformat(row.started_at),
        ended_at=datetime.fromisoformat(row.ended_at) if row.ended_at else None,
    )


def parcel_of(row: Row) -> StoredParcel:
    return StoredParcel.model_validate(
        {
            "id": row.id,
            "parcel": json.loads(row.parcel),
            "status": row.status,
            "attempts": row.attempts,
            "refusals": row.refusals,
            "next_at": row.next_at,
            "ref": json.loads(row.ref) if row.ref else None,
            "error": row.error,
        }
    )
