"""The tables. Moments are ISO 8601 text with microseconds in UTC, so that they sort and hash."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()


class Words(sa.types.TypeDecorator[str]):
    """Text that only people read. What PostgreSQL cannot hold in it is shown as a sign."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        del dialect
        return None if value is None else value.replace("\x00", "\u2400")


journal = sa.Table(
    "journal",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("incident_id", sa.Text, index=True),
    sa.Column("run_id", sa.Text, index=True),
    sa.Column("step_id", sa.Text),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("previous_hash", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
)

incidents = sa.Table(
    "incidents",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("key", sa.Text, nullable=False, index=True),
    sa.Column("title", Words, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("opened_at", sa.Text, nullable=False),
    sa.Column("channel", sa.Text),
)

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("fingerprint", sa.Text, primary_key=True),
    sa.Column("starts_at", sa.Text, primary_key=True),
    sa.Column("incident_id", sa.Text, nullable=False),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("incident_id", sa.Text, nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("runbook_id", sa.Text, nullable=False),
    sa.Column("runbook_digest", sa.Text, nullable=False),
    sa.Column("runbook_text", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False, index=True),
    sa.Column("started_at", sa.Text, nullable=False),
    sa.Column("ended_at", sa.Text),
    sa.Column("state", sa.Text, nullable=False, server_default="{}"),
    sa.Column("events", sa.Integer, nullable=False, server_default="0"),
    sa.Column("commands", sa.Text, nullable=False, server_default="[]"),
    # Not read since 0.2; a worker of 0.1 beside this one still asks for it.
    sa.Column("cancel", sa.Text),
    sa.Column("called_texts", sa.Text, nullable=False, server_default="{}"),
    # Who drives it. `fence` counts the claims; `due_at` is when there is something to do next, and
    # null if nothing is until a message comes. `engine` is the version that last drove it.
    sa.Column("worker", sa.Text),
    sa.Column("fence", sa.Integer, nullable=False, server_default="0"),
    sa.Column("due_at", sa.Text),
    sa.Column("engine", sa.Integer, nullable=False, server_default="1"),
    sa.UniqueConstraint("incident_id", "number"),
)

# Both hold only the few runs that are going on, however many have ended.
sa.Index(
    "ix_runs_due",
    runs.c.due_at,
    sqlite_where=runs.c.due_at.is_not(None),
    postgresql_where=runs.c.due_at.is_not(None),
)
sa.Index(
    "ix_runs_worker",
    runs.c.worker,
    sqlite_where=runs.c.worker.is_not(None),
    postgresql_where=runs.c.worker.is_not(None),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("started_at", sa.Text, nullable=False),
    sa.Column("beat_at", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
)

duties = sa.Table(
    "duties",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("worker", sa.Text, nullable=False),
)

mailbox = sa.Table(
    "mailbox",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.Text, nullable=False, index=True),
    sa.Column("key", sa.Text, nullable=False, unique=True),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("taken", sa.Boolean, nullable=False, server_default=sa.false()),
)

containments = sa.Table(
    "containments",
    metadata,
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("incident_id", sa.Text, nullable=False, index=True),
    sa.Column("gateway", sa.Text, nullable=False, index=True),
    sa.Column("lifted_at", sa.Text),
    sa.Column("content", sa.Text, nullable=False),
)

asks = sa.Table(
    "asks",
    metadata,
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("token", sa.Text, nullable=False, unique=True),
    sa.Column("run_id", sa.Text, nullable=False, index=True),
    sa.Column("step_id", sa.Text, nullable=False),
    sa.Column("closed", Words, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", sa.Text, nullable=False, unique=True),
    sa.Column("incident_id", sa.Text, nullable=False, index=True),
    sa.Column("parcel", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("refusals", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_at", sa.Text, nullable=False),
    sa.Column("ref", sa.Text),
    sa.Column("error", Words, nullable=False, server_default=""),
)

heartbeat = sa.Table(
    "heartbeat",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Text, nullable=False),
)

evidence = sa.Table(
    "evidence",
    metadata,
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("incident_id", sa.Text, nullable=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.UniqueConstraint("incident_id", "id"),
)


def is_words(table: sa.FromClause, name: str) -> bool:
    """Tell whether a column is text that only people read."""
    return name in table.c and isinstance(table.c[name].type, Words)
