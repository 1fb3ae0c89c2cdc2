"""Traffic and watchers say what is wrong when nothing answers."""

from __future__ import annotations

import pytest

from bot.errors import BadInput, Failed, TimedOut
from bot.sandbox.orders_data import make_accounts
from bot.sandbox.processes import Ports
from bot.sandbox.traffic import Traffic, Watcher


@pytest.fixture
def nowhere():
    """An address at which nobody listens."""
    ports = Ports()
    yield f"http://127.0.0.1:{ports.take()}"
    ports.close()


class TestTraffic:
    def test_an_unknown_attacker_is_refused_before_any_request(self, nowhere):
        """
        A name that cannot log in is a mistake of the caller's.
        """
        with pytest.raises(BadInput, match=r"nobody\.known"):
            Traffic(nowhere, make_accounts(), attackers=["nobody.known"])

    def test_a_gateway_that_does_not_answer_is_an_error(self, nowhere):
        """
        Traffic that cannot begin says so, instead of counting nothing.
        """
        traffic = Traffic(nowhere, make_accounts())

        with pytest.raises(Failed, match="cannot log in"):
            traffic.start()
        traffic.stop()


class TestWatcher:
    def test_a_watcher_that_sees_nothing_is_an_error(self, nowhere):
        """
        No answer is neither allowed nor blocked: nothing can be timed.
        """
        watcher = Watcher(nowhere, "/api/orders/1001")

        with pytest.raises(TimedOut, match="did not answer 200"):
            watcher.start(timeout_s=0.1)
        seen = watcher.stop()
        assert seen.first_blocked_ns is None
        assert seen.errors == seen.asked > 0
        assert not seen.neighbours_ok
