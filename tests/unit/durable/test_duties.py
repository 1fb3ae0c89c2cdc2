"""Duties of which one worker at a time has each."""

from __future__ import annotations

import pytest

from bot.durable import Worker
from bot.errors import LeaseLost
from bot.store import SqlStore
from bot.testing import FakeClock


@pytest.fixture
def store(tmp_path):
    store = SqlStore(f"sqlite:///{tmp_path / 'firedoor.sqlite'}")
    store.migrate()
    yield store
    store.close()


class TestADuty:
    def test_is_kept_by_whoever_took_it(self, store):
        worker = Worker(store, FakeClock())
        worker._register()

        for _ in range(2):
            check = worker.duty("sender 0")
            assert check is not None
            check()

    def test_of_a_life_that_is_over_is_not_of_the_next_one(self, store):
        """
        A round that began before the worker was taken for dead must not go on as if it were the
        new one's.
        """
        worker = Worker(store, FakeClock())
        worker._register()
        check = worker.duty("sender 0")
        assert check is not None

        worker._identity.lose()
        assert worker.duty("sender 0") is None
        worker._begin_anew()

        with pytest.raises(LeaseLost):
            check()
        again = worker.duty("sender 0")
        assert again is not None
        again()
