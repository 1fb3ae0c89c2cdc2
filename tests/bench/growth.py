"""A store with a past: many runs that ended, so that it shows whether steps get slower by them.

One real run is driven to its end on fakes: an alert closes an endpoint, something is looked up, a
change is approved, people are told, the endpoint reopens. Its rows, whatever tables and columns
there are, are then copied under new names, and the journal is chained anew. So the rows have the
sizes of real ones and the journal can be verified; digests inside of them stay the first run's.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bot.model.incident import IncidentStatus
from bot.model.journal import GENESIS, hash_of
from bot.store import SqlStore
from bot.store import tables as t
from tests.scenario.company import CLOSE, SAM, TRIGGER, Company, alert, text_of

BATCH = 1_000
FINGERPRINT = "growth-fingerprint"

MARK = "\ue000"
"""Stands in a text for a copy's number. JSON leaves it as it is."""

STEPS = (
    CLOSE
    + """
- id: look
  uses: acme.look
  with: {key: door}
- id: set
  uses: acme.set
  with: {key: door, value: shut}
  approval: {from: [security], required: 1, timeout: 15m}
- id: tell
  uses: acme.tell
  with: {text: "The data of some people was read."}
- id: lift
  uses: acme.lift
  with: {containment: "{{ steps.close.containment }}"}
"""
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Past:
    """The rows of one run that ended, with ``MARK`` where another copy has another number."""

    rows: dict[sa.Table, list[Row]]
    journal: list[Row]


def fill(store: SqlStore, runs: int) -> None:
    """Add ``runs`` incidents of one run each, all over. The store must be migrated and idle."""
    past = one_past()
    with store.engine.connect() as connection:
        last = connection.execute(
            sa.select(t.journal.c.seq, t.journal.c.hash).order_by(t.journal.c.seq.desc()).limit(1)
        ).first()
        first = (connection.scalar(sa.select(sa.func.max(t.incidents.c.number))) or 0) + 1
    seq, previous = (0, GENESIS) if last is None else (last.seq, last.hash)
    for start in range(first, first + runs, BATCH):
        numbers = range(start, min(start + BATCH, first + runs))
        records, seq, previous = _chained(past.journal, numbers, seq, previous)
        with store.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            for table, rows in past.rows.items():
                copies = [_copy(row, number) for number in numbers for row in rows]
                if table is t.incidents:
                    for row, number in zip(copies, numbers, strict=True):
                        row["number"] = number
                if copies:
                    connection.execute(table.insert(), copies)
            connection.execute(t.journal.insert(), records)
    _settle(store.engine, first + runs - 1)


def one_past() -> Past:
    """Drive one run to its end and return its rows."""
    with tempfile.TemporaryDirectory(prefix="firedoor-bench-past-") as folder:
        company = Company(Path(folder), [text_of(STEPS, more=TRIGGER)])
        try:
            service = company.world.service
            service.incidents.take_alert(alert(FINGERPRINT))
            service.people.approve(company.ask().token, SAM)
            company.world.send()
            with company.world.store.begin() as tx:
                incident = tx.incident("INC-1")
                tx.save_incident(incident.model_copy(update={"status": IncidentStatus.CLOSED}))
            with company.world.store.engine.connect() as connection:
                return _past(connection)
        finally:
            company.restart()


def _past(connection: sa.Connection) -> Past:
    names = [FINGERPRINT, *connection.scalars(sa.select(t.incidents.c.key))]
    names += connection.scalars(sa.select(t.asks.c.token))
    names += connection.scalars(sa.select(t.containments.c.id))
    # All of them end in a copy's number: INC-7, and tok-7 for what was tok.
    own = re.compile("(INC-)1|(" + "|".join(map(re.escape, names)) + ")")

    def marked(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return own.sub(lambda found: f"{found[1] or found[2] + '-'}{MARK}", value)

    rows: dict[sa.Table, list[Row]] = {}
    for table in t.metadata.sorted_tables:
        counted = table.autoincrement_column
        found = [
            {
                column.name: marked(value)
                for column, value in zip(table.columns, row, strict=True)
                if column is not counted
            }
            for row in connection.execute(sa.select(table).order_by(*table.primary_key))
        ]
        # What belongs to no incident is of the process, not of the past.
        rows[table] = [row for row in found if any(MARK in str(value) for value in row.values())]
    return Past(rows=rows, journal=rows.pop(t.journal))


def _copy(row: Row, number: int) -> Row:
    text = str(number)
    return {
        name: value.replace(MARK, text) if isinstance(value, str) else value
        for name, value in row.items()
    }


def _chained(
    records: Sequence[Row], numbers: Sequence[int], seq: int, previous: str
) -> tuple[list[Row], int, str]:
    made = []
    for number in numbers:
        for record in records:
            row = _copy(record, number)
            seq += 1
            row |= {"seq": seq, "previous_hash": previous}
            fields = {name: value for name, value in row.items() if name not in ("hash", "body")}
            row["hash"] = previous = hash_of(**fields, body=json.loads(row["body"]))
            made.append(row)
    return made, seq, previous


def _settle(engine: sa.Engine, highest: int) -> None:
    """Do now what the database would do soon by itself, so that it is not measured later."""
    if engine.dialect.name == "sqlite":
        connection = engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
        finally:
            connection.close()
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        sequence = "pg_get_serial_sequence('incidents', 'number')"
        connection.execute(sa.text(f"SELECT setval({sequence}, :highest)"), {"highest": highest})
        connection.exec_driver_sql("VACUUM ANALYZE")
        connection.exec_driver_sql("CHECKPOINT")
