"""Committing together: writers that wait for their turn share one transaction, and so one wait for
the disk.

Rule 1: one writer at a time is in the transaction, in a savepoint of its own if it needs one. What
        one of them does wrong is rolled back alone.
Rule 2: who finds others waiting hands the open transaction on; the last one commits it.
Rule 3: nobody returns before the commit. If it fails, it has failed for all of them, and nothing
        of any is there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InvalidRequestError, OperationalError

from bot.errors import StoreUnavailable
from bot.store.transaction import Pending, SqlTransaction

MOST = 32
"""Writers in one transaction: other processes wait for it."""

LOOK_S = 0.05
"""How often a writer that waits for the commit sees to it that somebody makes it."""

_BROKEN = (OperationalError, InvalidRequestError)
"""After these the transaction cannot be gone on with."""

Open = Callable[[], AbstractContextManager[sa.Connection]]


@dataclass
class _Batch:
    """One transaction, and who is in it."""

    context: AbstractContextManager[sa.Connection]
    pending: Pending
    writers: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    lost: str = ""
    """Why nothing of it is there; empty if it was committed."""


class _Part(Pending):
    """
    What one writer adds to a batch.

    While all that it writes is pending, it can be left out without a word to the database. As soon
    as something is to be written at once, a savepoint is needed, unless nobody was there before.
    """

    def __init__(self, whole: Pending, *, is_first: bool) -> None:
        super().__init__(whole.connection)
        self._whole, self._is_first = whole, is_first
        self._savepoint: sa.NestedTransaction | None = None
        self.head = whole.head

    @property
    def can_be_left_out(self) -> bool:
        return not self._is_first

    def before(self, statement: sa.Executable) -> None:
        if isinstance(statement, sa.Select) and not len(self):
            if not self.is_independent(statement):
                self._whole.write()
            return
        if self.is_independent(statement):
            return
        self._whole.write()
        if self._savepoint is None and not self._is_first:
            self._savepoint = self.connection.begin_nested()
        self.write()

    def keep(self) -> None:
        if self._savepoint is not None:
            self._savepoint.commit()
        self._whole.take_in(self)

    def leave_out(self) -> None:
        if self._savepoint is not None:
            self._savepoint.rollback()


class GroupCommit:
    """Gives writers of one process their turns."""

    def __init__(self, opened: Open, patience_s: float) -> None:
        """
        Args:
            opened: Begins a transaction that holds the write lock; commits at its end, or rolls
                back on an error.

            patience_s: How long a writer waits for its turn.
        """
        self._opened, self._patience_s = opened, patience_s
        self._turn = threading.Lock()
        self._counting = threading.Lock()
        self._waiting = 0
        self._batch: _Batch | None = None

    @contextmanager
    def transaction(self) -> Iterator[SqlTransaction]:
        """Write, alone as far as the writer can tell. Durable when the block has been left."""
        self._take_turn()
        try:
            batch = self._batch or self._begin()
            yield from self._write(batch)
        finally:
            self._turn.release()
        while not batch.over.wait(LOOK_S):
            # Whoever was to go on with it has given up.
            if self._turn.acquire(blocking=False):
                try:
                    if self._batch is batch:
                        self._commit(batch)
                finally:
                    self._turn.release()
        if batch.lost:
            raise StoreUnavailable(
                f"What was written together with this was lost ({batch.lost}); nothing was done. "
                "It is tried again."
            )

    def _take_turn(self) -> None:
        self._count(1)
        try:
            taken = self._turn.acquire(timeout=self._patience_s)
        finally:
            self._count(-1)
        if not taken:
            raise StoreUnavailable(
                f"Others have been writing for {self._patience_s:g} s; nothing was done. "
                "It is tried again."
            )

    def _count(self, change: int) -> None:
        with self._counting:
            self._waiting += change

    def _begin(self) -> _Batch:
        context = self._opened()
        connection = context.__enter__()
        self._batch = _Batch(context, Pending(connection))
        return self._batch

    def _write(self, batch: _Batch) -> Iterator[SqlTransaction]:
        pending = _Part(batch.pending, is_first=batch.writers == 0)
        try:
            yield SqlTransaction(pending.connection, pending)
        except BaseException as error:
            if not pending.can_be_left_out or isinstance(error, _BROKEN):
                self._abort(batch, error)
            else:
                self._leave_out(batch, pending, error)
            raise
        pending.keep()
        batch.writers += 1
        self._commit_unless_awaited(batch)

    def _commit_unless_awaited(self, batch: _Batch) -> None:
        if not self._waiting or batch.writers >= MOST:
            self._commit(batch)

    def _leave_out(self, batch: _Batch, part: _Part, error: BaseException) -> None:
        """Take back what one writer did; the others' writes stay."""
        try:
            part.leave_out()
        except DBAPIError:
            self._abort(batch, error)
        else:
            self._commit_unless_awaited(batch)

    def _commit(self, batch: _Batch) -> None:
        self._batch = None
        try:
            self._write_pending(batch)
            batch.context.__exit__(None, None, None)
        except BaseException as error:
            batch.lost = str(error) or type(error).__name__
            raise
        finally:
            batch.over.set()

    @staticmethod
    def _write_pending(batch: _Batch) -> None:
        try:
            batch.pending.write()
        except BaseException as error:
            batch.context.__exit__(type(error), error, error.__traceback__)
            raise

    def _abort(self, batch: _Batch, error: BaseException) -> None:
        """Roll the whole transaction back: it cannot be gone on with."""
        self._batch = None
        batch.lost = str(error) or type(error).__name__
        try:
            batch.context.__exit__(type(error), error, error.__traceback__)
        finally:
            batch.over.set()
