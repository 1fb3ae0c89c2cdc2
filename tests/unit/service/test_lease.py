"""The right to drive a run, around each write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bot.errors import LeaseLost
from bot.service.lease import Lease


class Watch:
    """Whether the worker was away for too long."""

    is_over = False

    def check(self) -> None:
        if self.is_over:
            raise LeaseLost("gone")


class OneRun:
    """A store of one run, whose commit may take long."""

    fence = 1

    def __init__(self, watch: Watch) -> None:
        self.watch, self.committed, self.is_slow = watch, 0, False

    def fence_of(self, _run_id: str) -> int:
        return self.fence

    @contextmanager
    def begin(self) -> Iterator[Any]:
        yield self
        self.committed += 1
        self.watch.is_over = self.is_slow

    read = begin


@pytest.fixture
def store() -> OneRun:
    return OneRun(Watch())


@pytest.fixture
def lease(store) -> Lease:
    class Claimed:
        class stored:
            class run:
                id = "INC-1-R1"

        fence = 1

    return Lease(store, Claimed(), store.watch.check)  # type: ignore[arg-type]


class TestWriting:
    def test_while_the_lease_holds(self, store, lease):
        with lease.store.begin():
            pass
        assert store.committed == 1

    def test_under_another_s_fence_nothing_is_written(self, store, lease):
        store.fence = 2
        with pytest.raises(LeaseLost), lease.store.begin():
            pass
        assert store.committed == 0

    def test_a_commit_that_outlasts_the_lease_is_no_leave_to_act(self, store, lease):
        """
        A note is written and the process stopped before the commit returns: when it goes on,
        another worker has long made the effect that the note announced.
        """
        store.is_slow = True
        with pytest.raises(LeaseLost), lease.store.begin():
            pass
        assert store.committed == 1
