"""The right to drive a run: a lease that is checked before each effect and with each write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bot.errors import LeaseLost
from bot.ports import Claimed, Store, Transaction


class Lease:
    """One claim of one run. Another claim has another fence, and makes this one void."""

    def __init__(
        self, store: Store, claimed: Claimed, check: Callable[[], None] = lambda: None
    ) -> None:
        """
        Args:
            check: Raises LeaseLost once the worker may not act any more. Asks nobody.
        """
        self.run_id, self.fence = claimed.stored.run.id, claimed.fence
        self.store: Store = FencedStore(store, self)
        self.check = check

    def hold(self, tx: Transaction) -> None:
        """Raise LeaseLost if another worker has taken the run since."""
        if tx.fence_of(self.run_id) != self.fence:
            raise LeaseLost(f"Another worker drives {self.run_id} now; this one leaves it alone.")

    def confirm(self) -> None:
        """Make sure, right before an effect, that the run is still ours.

        Raises:
            LeaseLost: It is not; nothing more may be done.
        """
        with self.store.read() as tx:
            self.hold(tx)
        self.check()


class FencedStore:
    """The store for one drive: it writes only while the lease holds, in the same transaction."""

    def __init__(self, store: Store, lease: Lease) -> None:
        self._store, self._lease = store, lease

    @contextmanager
    def begin(self) -> Iterator[Transaction]:
        """Raises LeaseLost also after the commit: what was announced by it is not done then."""
        self._lease.check()
        with self._store.begin() as tx:
            self._lease.hold(tx)
            yield tx
        self._lease.check()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        with self._store.read() as tx:
            yield tx
