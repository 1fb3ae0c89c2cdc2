"""Committing together: writers that wait for their turn share one transaction, and so one wait for
the disk.

Rule 1: one writer at a time is in the transaction, in a savepoint of its own if it needs one. What
        one of them does wrong is rolled back alone.
Rule 2: who finds others waiting hands the open transaction on; the last one commits it.
Rule 3: after an error of the database there is a way back only to a savepoint. Without one, or if
        what others wrote cannot be made, the transaction is lost for all of them.
Rule 4: nobody returns before the commit. If it fails, it has failed for all of them, and nothing
        of any is there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from bot.errors import StoreUnavailable
from bot.store.executing import Pending
from bot.store.leases import ALONE
from bot.store.transaction import SqlTransaction

MOST = 32
"""Writers in one transaction: other processes wait for it."""

LOOK_S = 0.05
"""How often a writer that waits for the commit sees to it that somebody makes it."""

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
    as something is to be written at once, a savepoint is needed, unless nobody was there before, or
    it is all that this writer does.
    """

    is_writing = True

    def __init__(self, whole: Pending, *, is_first: bool) -> None:
        super().__init__(whole.connection)
        self._whole, self._is_first = whole, is_first
        self._savepoint: sa.NestedTransaction | None = None
        self._is_broken = False
        self.head = whole.head
        self.is_lost = False
        """Whether the whole transaction cannot be gone on with."""

    def before(self, statement: sa.Executable) -> None:
        if self.is_independent(statement):
            return
        self._write_whole()
        if not len(self) and (isinstance(statement, sa.Select) or statement in ALONE):
            return
        if self._savepoint is None and not self._is_first:
            self._savepoint = self.connection.begin_nested()
        self.write()

    def _write_whole(self) -> None:
        try:
            self._whole.write()
        except BaseException:
            self.is_lost = True
            raise

    def broke(self) -> None:
        self._is_broken = True

    def keep(self) -> None:
        if self._savepoint is not None:
            self._savepoint.commit()
        self._whole.take_in(self)

    def leave_out(self, error: BaseException) -> bool:
        """Take back what this writer did; False if that cannot be done alone."""
        if isinstance(error, SQLAlchemyError):
            self._is_broken = True
        if self._is_first or self.is_lost or (self._is_broken and self._savepoint is None):
            return False
        if self._savepoint is not None:
            try:
                self._savepoint.rollback()
            except SQLAlchemyError:
                return False
        return True


class GroupCommit:
    """Gives writers of one process their turns."""

    def __init__(
        self, opened: Open, patience_s: float, check: Callable[[sa.Connection], None]
    ) -> None:
        """
        Args:
            opened: Begins a transaction that holds the write lock; commits at its end, or rolls
                back on an error.

            check: Raises StoreUnavailable if a transaction would not be committed.

            patience_s: How long a writer waits for its turn.
        """
        self._opened, self._patience_s = opened, patience_s
        self._check = check
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

    @contextmanager
    def nobody(self) -> Iterator[None]:
        """Let nobody write, and no transaction be open, for a moment. Raises StoreUnavailable."""
        self._take_turn()
        try:
            if self._batch is not None:
                self._commit(self._batch)
            yield
        finally:
            self._turn.release()

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
        part = _Part(batch.pending, is_first=batch.writers == 0)
        try:
            yield SqlTransaction(part.connection, part)
            part.keep()
        except BaseException as error:
            if part.leave_out(error):
                self._commit_unless_awaited(batch)
            else:
                self._abort(batch, error)
            raise
        batch.writers += 1
        self._commit_unless_awaited(batch)

    def _commit_unless_awaited(self, batch: _Batch) -> None:
        if not self._waiting or batch.writers >= MOST:
            self._commit(batch)

    def _commit(self, batch: _Batch) -> None:
        self._batch = None
        try:
            self._write_pending(batch)
            batch.context.__exit__(None, None, None)
        except BaseException as error:
            batch.lost = _cause(error)
            raise
        finally:
            batch.over.set()

    def _write_pending(self, batch: _Batch) -> None:
        """Make what is left to be made; see that the database would not take the commit for a
        rollback, without a word."""
        try:
            batch.pending.write()
            self._check(batch.pending.connection)
        except BaseException as error:
            batch.context.__exit__(type(error), error, error.__traceback__)
            raise

    def _abort(self, batch: _Batch, error: BaseException) -> None:
        """Roll the whole transaction back: it cannot be gone on with."""
        self._batch = None
        batch.lost = _cause(error)
        try:
            batch.context.__exit__(type(error), error, error.__traceback__)
        finally:
            batch.over.set()


def _cause(error: BaseException) -> str:
    """Return why it was lost, for others: never their neighbour's statement and values."""
    return str(getattr(error, "orig", None) or type(error).__name__)
