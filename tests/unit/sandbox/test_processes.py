"""Children end with their command, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid

import pytest

from bot.errors import BadInput, Failed, TimedOut
from bot.sandbox.processes import Ports, Processes, http_ready, tcp_ready
from bot.sandbox.reaper import groups_left

SLEEPER = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(300)"]
# It ignores the polite signal, and starts a child of its own, in the same process group.
STUBBORN = [
    "/bin/sh",
    "-c",
    "trap '' TERM; sleep 300 & echo $!; wait; sleep 300",
]

PARENT = """
import sys, time
from pathlib import Path
from bot.sandbox.processes import Processes

processes = Processes(Path(sys.argv[1]))
pids = [processes.start(f"child-{n}", ["/bin/sleep", "300"]).pid for n in range(3)]
stubborn = processes.start("stubborn", sys.argv[2:])
while not stubborn.log_path.read_text().strip():
    time.sleep(0.01)
print(*pids, stubborn.pid, stubborn.log_path.read_text().strip(), processes._reaper.pid, flush=True)
time.sleep(300)
"""

# It goes on starting children until it is killed; each has the mark among its arguments.
BUSY_PARENT = """
import itertools, sys
from pathlib import Path
from bot.sandbox.processes import Processes

processes = Processes(Path(sys.argv[1]))
for number in itertools.count():
    sleep = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(300)", sys.argv[2]]
    processes.start(f"child-{number}", sleep)
    print(number, flush=True)
"""


def is_gone(pid: int) -> bool:
    """Whether no process has this id, or only a dead one that its parent has not asked for."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return state == "" or state.startswith("Z")


def all_arguments() -> str:
    """The command lines of all processes."""
    return subprocess.run(
        ["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True
    ).stdout


def all_gone(pids: list[int], timeout_s: float = 20.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not all(is_gone(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def processes(tmp_path):
    with Processes(tmp_path / "logs") as started:
        yield started


class TestNothingOutlivesTheCommand:
    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    def test_children_are_gone_when_the_parent_is_killed(self, tmp_path, how):
        """
        Whatever ends the command, even `kill -9`, its children, theirs and the reaper end too.
        """
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(tmp_path), *STUBBORN],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with parent:
            pids = [int(word) for word in parent.stdout.readline().split()]
            assert len(pids) == 6
            assert not any(is_gone(pid) for pid in pids)
            parent.send_signal(how)

        assert all_gone(pids)

    def test_a_kill_in_the_middle_of_a_start_leaves_nothing(self, tmp_path):
        """
        There is no moment between the birth of a child and the reaper's knowing of it.
        """
        mark = f"mark-{uuid.uuid4()}"
        parent = subprocess.Popen(
            [sys.executable, "-c", BUSY_PARENT, str(tmp_path), mark],
            stdout=subprocess.PIPE,
            text=True,
        )
        with parent:
            for _ in range(5):
                parent.stdout.readline()
            parent.kill()

        deadline = time.monotonic() + 20
        while mark in (listed := all_arguments()):
            assert time.monotonic() < deadline, listed
            time.sleep(0.02)

    def test_leaving_the_context_stops_children_and_their_children(self, tmp_path, monkeypatch):
        """
        After the context no child runs, not even one that ignores SIGTERM, nor what it started.
        """
        monkeypatch.setattr("bot.sandbox.processes.STOP_TIMEOUT_S", 0.1)
        with Processes(tmp_path) as processes:
            polite = processes.start("polite", SLEEPER)
            stubborn = processes.start("stubborn", STUBBORN)
            processes.wait_ready("stubborn", lambda: stubborn.log_path.read_text() != "")
            grandchild = int(stubborn.log_path.read_text())
            assert list(processes.running()) == ["polite", "stubborn"]

        assert all_gone([polite.pid, stubborn.pid, grandchild])

    def test_the_reaper_forgets_what_was_stopped(self):
        """
        A stopped child's number may belong to a stranger later; the reaper must not kill it.
        """
        assert groups_left([b"+5\n", b"+6\n", b"garbage\n", b"-6\n", b"+7\n"]) == [7, 5]


class TestStart:
    def test_a_child_that_dies_shows_its_last_words(self, processes):
        """
        A server that ends before it is ready is an error that shows the end of its log.
        """
        processes.start("server", ["/bin/sh", "-c", "echo no port for me >&2; exit 7"])

        with pytest.raises(Failed, match=r"exit code 7(?s:.*)no port for me"):
            processes.wait_ready("server", lambda: False)

    def test_a_child_that_is_never_ready_shows_its_last_words(self, processes):
        """
        A server that is not ready in time is an error that shows the end of its log.
        """
        child = processes.start("server", ["/bin/sh", "-c", "echo thinking; exec sleep 300"])
        processes.wait_ready("server", lambda: child.log_path.read_text() != "")

        with pytest.raises(TimedOut, match="thinking"):
            processes.wait_ready("server", lambda: False, timeout_s=0.05)

    def test_a_missing_program_is_a_clear_error(self, processes):
        """
        A program that does not exist is named in the error.
        """
        processes.start("server", ["/nonexistent/server"])

        with pytest.raises(Failed, match="/nonexistent/server"):
            processes.wait_ready("server", lambda: False)

    def test_one_name_runs_once(self, processes):
        """
        A second start under a name is refused while the first child runs, and fine afterwards.
        """
        processes.start("server", SLEEPER)

        with pytest.raises(BadInput, match="already running"):
            processes.start("server", SLEEPER)
        processes.stop("server", kill=True)
        assert processes.start("server", SLEEPER).is_running

    def test_children_do_not_see_the_persons_credentials(self, processes, monkeypatch):
        """
        Credentials, proxies and dot files of the person who runs the command stay theirs.
        """
        for name in ("AWS_SECRET_ACCESS_KEY", "VAULT_TOKEN", "HTTPS_PROXY"):
            monkeypatch.setenv(name, "theirs")
        child = processes.start("server", ["/bin/sh", "-c", "env; exec sleep 300"])
        processes.wait_ready("server", lambda: "PATH=" in child.log_path.read_text())

        seen = child.log_path.read_text()
        assert "theirs" not in seen
        assert f"HOME={child.log_path.parent}" in seen

    def test_children_have_no_standard_input(self, processes):
        """
        A child's input is empty: were it the reaper's pipe, the reaper would never see its end.
        """
        child = processes.start("server", ["/bin/sh", "-c", "cat; echo end; exec sleep 300"])

        processes.wait_ready("server", lambda: child.log_path.read_text() == "end\n")


class TestReadiness:
    def test_a_closed_port_is_not_ready(self):
        """
        Nobody listening is "not yet", not an error.
        """
        ports = Ports()
        try:
            port = ports.take()
            assert not tcp_ready(port)()
            assert not http_ready(port, "/health")()
        finally:
            ports.close()


class TestPorts:
    def test_two_commands_never_share_a_port(self):
        """
        Ports of two companies differ, even before any server has bound them.
        """
        first, second = Ports(), Ports()
        try:
            mine = {first.take() for _ in range(15)}
            theirs = {second.take() for _ in range(15)}
        finally:
            first.close()
            second.close()

        assert len(mine | theirs) == 30
