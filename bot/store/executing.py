"""Executing statements in one transaction, and writes that are put off to be made together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bot.errors import BadInput
from bot.model.journal import moment_text
from bot.store import tables as t
from bot.store.rows import Row

CHANNEL = "firedoor"
"""Where PostgreSQL tells all workers that something came for a run."""

LAST = sa.select(t.journal.c.seq, t.journal.c.hash).order_by(t.journal.c.seq.desc()).limit(1)
FENCE = sa.select(t.runs.c.fence).where(t.runs.c.id == sa.bindparam("run_id"))
FENCE_AND_HEAD = FENCE.add_columns(
    *(
        sa.select(column).order_by(t.journal.c.seq.desc()).limit(1).scalar_subquery().label(name)
        for column, name in ((t.journal.c.seq, "seq"), (t.journal.c.hash, "hash"))
    )
)
"""Both are read by every write of a drive: together, they cost one question."""
TELL = sa.select(sa.func.pg_notify(CHANNEL, sa.bindparam("run_id")))
_INDEPENDENT = frozenset({FENCE, FENCE_AND_HEAD, TELL})
"""Statements that read nothing which a pending write may change."""


def check_text(value: str) -> None:
    if value.isascii() and "\0" not in value:
        return
    problem = "a NUL character" if "\0" in value else ""
    try:
        value.encode()
    except UnicodeEncodeError:
        problem = "half a character (a lone surrogate)"
    if problem:
        raise BadInput(
            f"A text holds {problem}, which the database cannot keep; nothing was done. "
            "Take it out."
        )


def moment_of(value: datetime | None) -> str | None:
    return None if value is None else moment_text(value)


class Pending:
    """
    Writes whose result nobody asks for: made together, right before they could be seen.

    ``head`` is the end of the journal's chain, as number and hash, once it is known. Nothing of the
    journal is pending before it is.
    """

    is_writing = False
    """Whether records are about to be added."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self._rows: list[tuple[sa.Insert | sa.Update, dict[str, Any]]] = []
        self.head: tuple[int, str] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, statement: sa.Insert | sa.Update, values: dict[str, Any]) -> None:
        """Take one more. What the database would refuse is refused here: later it could not be
        told whose it was."""
        for name, value in values.items():
            if isinstance(value, str):
                # Words are shown without it, so they may hold it.
                holds_nul = "\0" in value and t.is_words(statement.table, name)
                check_text(value.replace("\0", "") if holds_nul else value)
        self._rows.append((statement, values))

    def take_in(self, other: Pending) -> None:
        """Go on with another's, after one's own."""
        self._rows += other._rows
        self.head = other.head

    def write(self) -> None:
        """Make them all. If one cannot be made, the transaction is lost."""
        # Of one kind together, and new rows first: an update is of a row that was there, or has
        # just been added. Two updates of one kind keep their order.
        kinds = dict.fromkeys(statement for statement, _ in self._rows)
        for statement in sorted(kinds, key=lambda each: not isinstance(each, sa.Insert)):
            values = [values for each, values in self._rows if each is statement]
            self.connection.execute(statement, values)
        self._rows = []

    def broke(self) -> None:
        """A statement was refused. PostgreSQL takes no other until there is a way back."""

    def before(self, statement: sa.Executable) -> None:
        """Make room for a statement that is executed at once."""
        if not self.is_independent(statement):
            self.write()

    @staticmethod
    def is_independent(statement: sa.Executable) -> bool:
        """Tell whether nothing that may be pending changes what the statement reads."""
        return statement in _INDEPENDENT


class Executing:
    """Executes statements within one transaction; base of its mapping."""

    def __init__(self, connection: sa.Connection, pending: Pending | None = None) -> None:
        self._connection = connection
        self._pending = Pending(connection) if pending is None else pending

    def _execute(
        self, statement: sa.Executable, values: dict[str, Any] | None = None
    ) -> sa.CursorResult[Any]:
        self._pending.before(statement)
        try:
            result = self._connection.execute(statement, values)
        except sa.exc.SQLAlchemyError as error:
            self._pending.broke()
            if "NUL" in str(getattr(error, "orig", "")):
                raise BadInput(
                    "A text holds a NUL character, which the database cannot keep; nothing was "
                    "done. Take it out."
                ) from None
            raise
        assert isinstance(result, sa.CursorResult)  # noqa: S101  # what Core returns
        return result

    def _one(self, statement: sa.Executable, **values: Any) -> Row | None:
        return self._execute(statement, values).first()

    def _all(self, statement: sa.Executable, **values: Any) -> Sequence[Row]:
        return self._execute(statement, values).all()

    def _tell(self, run_id: str) -> None:
        """Tell the other processes once this is committed. SQLite's see that the file changed."""
        if self._connection.dialect.name == "postgresql":
            self._execute(TELL, {"run_id": run_id})
