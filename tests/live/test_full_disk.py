"""A disk that takes no more bytes: nothing is done that could not be journaled, nothing is lost."""

from __future__ import annotations

import resource
import sys
import time

import pytest
import requests

from bot.model.journal import verify_chain
from bot.sandbox.main_job import alert_body, post_alert
from bot.sandbox.orders_data import PROBE_OWNER
from bot.sandbox.responders import until
from bot.sandbox.slack_standin.client import Person
from tests.live.harness import Site

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform != "linux", reason="limits another process's file sizes"),
]


class FullDisk:
    """While it is entered, every write of the process to a file fails."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __enter__(self) -> None:
        self._before = resource.prlimit(self._pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (0, self._before[1]))

    def __exit__(self, *_: object) -> None:
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, self._before)


def test_everything_waits_and_goes_on_when_there_is_room_again(site: Site):
    """
    While nothing can be journaled an alert gets 503 (its sender tries again), a person is told,
    the containment in force stays, and health says why. With room again the run goes on by itself.
    """
    site.serve()
    run_id = site.alert()["run_id"]
    card = site.people.wait_for_card("U0IRIS", "approve close?")
    iris = Person(site.company.places.url("slack"), "U0IRIS")
    pid = site.company.processes.child("firedoor").pid

    with FullDisk(pid):
        other = alert_body(site.state(run_id).steps["throttle"].started_at, "another")
        refused = post_alert(site.company, site.url, other)
        iris.click(card, "firedoor.approve")
        told = iris.wait_for_message(lambda m: m.is_ephemeral and "cannot be used" in m.all_text)
        ready = requests.get(f"{site.url}/ready", timeout=10)
        time.sleep(1.0)
        still_throttled = {site.ask(PROBE_OWNER, site.example_path()) for _ in range(4)}
    assert refused.status_code == 503
    assert "Free disk space" in told.all_text
    assert ready.status_code == 503
    assert 429 in still_throttled

    until(lambda: requests.get(f"{site.url}/ready", timeout=10).status_code == 200, "health")
    assert post_alert(site.company, site.url, other).json()["taken"][0]["opened"] is False
    site.people.approve("U0IRIS", "close")
    site.wait_for_step(run_id, "close", "done")
    assert set(site.keys_told().values()) == {1}
    with site.store() as tx:
        assert verify_chain(tx.records()) > 10
