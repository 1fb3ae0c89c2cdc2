"""A store with a past: many runs that ended, so that it shows whether steps get slower by them.

One real run is driven to its end on fakes: an alert closes an endpoint, something is looked up, a
change is approved, people are told, the endpoint reopens. Its rows, whatever tables and columns
there are, are then copied under new names, and the journal is chained anew. So the rows have the
sizes of real ones and the journal can be verified; digests inside of them stay the first run's.
Of what a run has many of (records, parcels), only a few are kept, so that it does not take long.
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
RECORDS, OTHERS = 6, 3
"""How many rows of the journal, and of another table, a copy has at most."""

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


class Pattern:
    """A row whose copies differ in the texts that hold ``MARK``."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self._marked = [(name, value) for name, value in row.items() if _has_mark(value)]

    def __bool__(self) -> bool:
        return bool(self._marked)

    def copy(self, number: int) -> Row:
        text, row = str(number), self._row.copy()
        for name, value in self._marked:
            row[name] = value.replace(MARK, text)
        return row


@dataclass(frozen=True)
class Past:
    """The rows of one run that ended."""

    rows: dict[sa.Table, list[Pattern]]
    journal: list[Pattern]


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
                copies = [row.copy(number) for number in numbers for row in rows]
                if table is t.incidents:
                    for row, number in zip(copies, numbers, strict=True):
                        row["number"] = number
                _insert(connection, table, copies)
            _insert(connection, t.journal, records)
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
    numbered = re.compile("(INC-)1|(" + "|".join(map(re.escape, names)) + ")")

    def marked(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return numbered.sub(lambda found: f"{found[1] or found[2] + '-'}{MARK}", value)

    rows: dict[sa.Table, list[Pattern]] = {}
    for table in t.metadata.sorted_tables:
        counted = table.autoincrement_column
        found = [
            Pattern(
                {
                    column.name: marked(value)
                    for column, value in zip(table.columns, row, strict=True)
                    if column is not counted
                }
            )
            for row in connection.execute(sa.select(table).order_by(*table.primary_key))
        ]
        # What belongs to no incident is of the process, not of the past.
        own_rows = [pattern for pattern in found if pattern]
        rows[table] = _few(own_rows, RECORDS if table is t.journal else OTHERS)
    return Past(rows=rows, journal=rows.pop(t.journal))


def _has_mark(value: Any) -> bool:
    return isinstance(value, str) and MARK in value


def _few(rows: list[Pattern], at_most: int) -> list[Pattern]:
    """Return rows from all over the list, the first and the last among them."""
    if len(rows) <= at_most:
        return rows
    return [rows[round(place * (len(rows) - 1) / (at_most - 1))] for place in range(at_most)]


def _chained(
    records: Sequence[Pattern], numbers: Sequence[int], seq: int, previous: str
) -> tuple[list[Row], int, str]:
    made = []
    for number in numbers:
        for record in records:
            row = record.copy(number)
            seq += 1
            row |= {"seq": seq, "previous_hash": previous}
            fields = {name: value for name, value in row.items() if name not in ("hash", "body")}
            row["hash"] = previous = hash_of(**fields, body=json.loads(row["body"]))
            made.append(row)
    return made, seq, previous


def _insert(connection: sa.Connection, table: sa.Table, rows: list[Row]) -> None:
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        connection.execute(table.insert(), rows)
        return
    names = ", ".join(rows[0])
    cursor: Any = connection.connection.cursor()
    with cursor, cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(list(row.values()))


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
