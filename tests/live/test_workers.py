"""Several workers on one PostgreSQL: killed, stopped and woken again, and cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bot.model.incident import RunStatus
from bot.model.journal import verify_chain
from bot.testing import World
from tests.live.harness import ROOT
from tests.scenario.company import IRIS, SAM, text_of
from tests.scenario.worker_process import actions, make_world, read_runbooks

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(120)]

STEPS = """
- id: first
  uses: acme.set
  with: {key: first, value: shut}
- id: second
  uses: acme.set
  with: {key: second, value: shut}
"""
ASKING = """
- id: first
  uses: acme.set
  with: {key: first, value: shut}
  approval: {from: [security]}
"""


class Remote:
    """The other system: it keeps each effect with who made it, and can hold back its answers."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.effects: list[tuple[str, str]] = []
        self.held = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        remote = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer({"value": remote.values.get(self.path.rpartition("/")[2])})

            def do_PUT(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                key = self.path.rpartition("/")[2]
                remote.values[key] = body["value"]
                remote.effects.append((key, body["by"]))
                if not remote.may_answer.is_set():
                    remote.held.set()
                    remote.may_answer.wait(60)
                self._answer({})

            def _answer(self, body: Any) -> None:
                content = json.dumps(body).encode()
                try:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    self.close_connection = True  # who asked is gone

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.may_answer.set()
        self._server.shutdown()
        self._server.server_close()


class Fleet:
    """Workers as processes, and a door beside them."""

    def __init__(self, folder: Path, store: str, remote: Remote) -> None:
        self.folder, self.store, self.remote = folder, store, remote
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.ids: dict[str, list[str]] = {}
        self._runbook = folder / "book.yaml"
        self.world: World | None = None

    def open(self, steps: str) -> World:
        self._runbook.write_text(text_of(steps))
        known = actions(self.remote.url)
        (self.folder / "door").mkdir()
        self.world = make_world(
            self.folder / "door", self.store, known, read_runbooks([str(self._runbook)], known)
        )
        return self.world

    def start(self, name: str) -> None:
        argv = [sys.executable, "-m", "tests.scenario.worker_process", "--store", self.store]
        argv += ["--remote", self.remote.url, "--folder", str(self.folder / name)]
        argv += ["--worker-id", name, "--runbook", str(self._runbook)]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.processes[name] = process
        ids = self.ids[name] = []

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                ids.append(json.loads(line)["worker"])

        threading.Thread(target=read, daemon=True).start()
        wait(lambda: bool(ids), f"{name} to be there", 30)

    def signal(self, name: str, number: int) -> None:
        os.kill(self.processes[name].pid, number)

    def begin(self) -> str:
        from bot.model.incident import Origin, StartRun

        assert self.world is not None
        wish = StartRun(runbook_id="book", origin=Origin(kind="person", actor=IRIS.actor))
        return self.world.service.incidents.start(wish).run.id

    def status(self, run_id: str) -> RunStatus:
        assert self.world is not None
        return self.world.service.reports.state(run_id).status

    def driver_of(self, run_id: str) -> str:
        """Return the name of the process that drives a run; empty if none does."""
        assert self.world is not None
        with self.world.store.engine.connect() as connection:
            row = connection.exec_driver_sql(f"SELECT worker FROM runs WHERE id = '{run_id}'").one()
        return next((name for name, ids in self.ids.items() if row[0] in ids), "")

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        if self.world is not None:
            self.world.close()


def wait(until: Callable[[], bool], what: str, timeout_s: float) -> float:
    """Return how long it took."""
    began = time.monotonic()
    while not until():
        assert time.monotonic() - began < timeout_s, f"waited {timeout_s} s in vain for {what}"
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.fixture
def remote() -> Iterator[Remote]:
    remote = Remote()
    yield remote
    remote.close()


@pytest.fixture
def fleet(tmp_path: Path, postgres_url: str, remote: Remote) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, postgres_url, remote)
    yield fleet
    fleet.close()


def begin_and_hold(fleet: Fleet, remote: Remote) -> tuple[str, str, str]:
    """Let one of two workers make an effect whose answer never comes; return the run, who drives
    it, and the other one."""
    fleet.open(STEPS)
    for name in ("one", "two"):
        fleet.start(name)
    remote.may_answer.clear()
    run_id = fleet.begin()
    assert remote.held.wait(20)
    mine = fleet.driver_of(run_id)
    (other,) = {"one", "two"} - {mine}
    return run_id, mine, other


def check_journal(fleet: Fleet) -> None:
    assert fleet.world is not None
    with fleet.world.store.read() as tx:
        assert verify_chain(tx.records()) > 5


class TestAWorkerThatIsGone:
    def test_killed_in_the_middle_of_an_effect(self, fleet, remote):
        """
        Another one ends the run within 15 seconds; each effect is made once.
        """
        run_id, mine, _ = begin_and_hold(fleet, remote)

        fleet.signal(mine, signal.SIGKILL)
        remote.may_answer.set()
        took_s = wait(lambda: fleet.status(run_id) is RunStatus.DONE, "the run to end", 30)

        assert took_s < 15
        assert remote.effects == [("first", f"{run_id}:first"), ("second", f"{run_id}:second")]
        check_journal(fleet)

    def test_stopped_past_its_lease_and_woken_again(self, fleet, remote):
        """
        The other one takes over; the first, once it goes on, makes no second effect and serves on
        under a new id.
        """
        run_id, mine, other = begin_and_hold(fleet, remote)

        fleet.signal(mine, signal.SIGSTOP)
        wait(lambda: fleet.driver_of(run_id) == other, "the other one to take over", 15)
        remote.may_answer.set()
        wait(lambda: fleet.status(run_id) is RunStatus.DONE, "the run to end", 15)
        fleet.signal(mine, signal.SIGCONT)
        wait(lambda: len(fleet.ids[mine]) == 2, "the first one to begin anew", 15)
        fleet.signal(other, signal.SIGKILL)
        again = fleet.begin()
        wait(lambda: fleet.status(again) is RunStatus.DONE, "the next run to end", 20)

        assert remote.effects == [("first", f"{run_id}:first"), ("second", f"{run_id}:second")]
        check_journal(fleet)


class TestPeopleAndWorkers:
    def test_a_word_from_another_process_is_heard_at_once(self, fleet, remote):
        """
        While a run waits nobody has it; whoever is free goes on, within a moment.
        """
        world = fleet.open(ASKING)
        for name in ("one", "two"):
            fleet.start(name)
        run_id = fleet.begin()

        def asked() -> bool:
            with world.store.read() as tx:
                return bool(tx.open_asks(run_id)) and fleet.driver_of(run_id) == ""

        wait(asked, "the question", 15)
        token = world.service.people.ask_of_step(run_id, None).token
        world.service.people.approve(token, SAM)
        took_s = wait(lambda: bool(remote.effects), "the effect", 15)
        wait(lambda: fleet.status(run_id) is RunStatus.DONE, "the run to end", 15)

        assert took_s < 0.7

    def test_one_that_ends_by_itself_leaves_its_runs_at_once(self, fleet, remote):
        """
        A restart for an upgrade keeps nobody waiting for a lease.
        """
        fleet.open(STEPS)
        fleet.start("one")
        fleet.signal("one", signal.SIGTERM)
        assert fleet.processes["one"].wait(15) == 0
        fleet.start("two")
        run_id = fleet.begin()

        took_s = wait(lambda: fleet.status(run_id) is RunStatus.DONE, "the run to end", 15)

        assert took_s < 5
        assert len(remote.effects) == 2
