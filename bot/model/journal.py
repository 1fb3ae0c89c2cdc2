"""The journal: what happened, in order, each record chained to the one before by its hash."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bot.errors import JournalBroken
from bot.model.base import Frozen, Utc, digest_of

GENESIS = "0" * 64
"""What the first record is chained to."""


class Record(Frozen):
    """
    One journaled fact. ``seq`` counts from 1 over the whole store, without gaps.

    ``kind`` is the event's name. For a run's events ``body`` is
    ``{"event": …, "commands": […]}``; for an incident's facts it is the fact itself.
    ``actor`` is a person (``slack:U1``), ``alert:<source>`` or ``firedoor``.
    """

    seq: int
    at: Utc
    incident_id: str | None
    run_id: str | None
    step_id: str | None
    actor: str
    kind: str
    body: dict[str, Any]
    previous_hash: str
    hash: str


def hash_of(
    *,
    seq: int,
    at: str,
    incident_id: str | None,
    run_id: str | None,
    step_id: str | None,
    actor: str,
    kind: str,
    body: dict[str, Any],
    previous_hash: str,
) -> str:
    """Return a record's hash: SHA-256 over the canonical JSON of all its other fields.

    ``at`` is the moment in ISO 8601 with microseconds and ``+00:00``.
    """
    content = {
        "seq": seq,
        "at": at,
        "incident_id": incident_id,
        "run_id": run_id,
        "step_id": step_id,
        "actor": actor,
        "kind": kind,
        "body": body,
        "previous_hash": previous_hash,
    }
    return digest_of(content)


def moment_text(record_at: Utc) -> str:
    """Return the text of a moment that goes into a record's hash."""
    return record_at.isoformat(timespec="microseconds")


def verify_chain(records: Iterable[Record]) -> int:
    """Check a whole journal in order and return how many records it has.

    Raises:
        JournalBroken: Names the first record that was altered, lost, added or moved.
    """
    expected_seq, previous = 1, GENESIS
    for record in records:
        if record.seq != expected_seq:
            raise JournalBroken(
                f"Record {expected_seq} is missing (the next one is {record.seq}); the journal "
                "from there on cannot be trusted. Compare with a backup.",
                expected_seq,
            )
        actual = hash_of(
            seq=record.seq,
            at=moment_text(record.at),
            incident_id=record.incident_id,
            run_id=record.run_id,
            step_id=record.step_id,
            actor=record.actor,
            kind=record.kind,
            body=record.body,
            previous_hash=record.previous_hash,
        )
        if record.previous_hash != previous or record.hash != actual:
            raise JournalBroken(
                f"Record {record.seq} ({record.kind}) does not match its hash; the journal from "
                "there on cannot be trusted. Compare with a backup.",
                record.seq,
            )
        expected_seq, previous = record.seq + 1, record.hash
    return expected_seq - 1
