"""The runner of the peers: what it says when one cannot be had, and that nothing stays behind."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from tests.bench import peers
from tests.unit.test_packaging import pins


@pytest.fixture
def no_install(monkeypatch):
    """As on a machine without a package index."""

    def refuse(name: str) -> Path:
        raise peers.PeerMissing(f"{name} cannot be installed")

    monkeypatch.setattr(peers, "environment", refuse)


class TestMeasurePeers:
    def test_a_peer_that_cannot_be_installed_is_null_and_stderr_says_why(self, no_install, capsys):
        """
        The bench goes on without it, under the names that it would have had.
        """
        found = peers.measure_peers()

        assert set(found.values()) == {None}
        assert "dbos_postgres_message_p50_ms" in found
        assert "temporal_parallel_steps_per_s" in found
        assert "temporal is not measured: temporal cannot be installed" in capsys.readouterr().err


class TestRun:
    def test_what_fails_says_its_last_lines(self):
        """
        So that one sees why without running it by hand.
        """
        with pytest.raises(peers.PeerMissing, match="exit status 3: no such thing"):
            peers._run(
                [sys.executable, "-c", "import sys; print('no such thing'); sys.exit(3)"], 30
            )

    def test_what_does_not_end_is_ended_with_all_that_it_started(self, tmp_path):
        """
        A peer's server does not stay behind.
        """
        note = tmp_path / "pid"
        script = (
            "import subprocess, sys, time, pathlib\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            f"pathlib.Path({str(note)!r}).write_text(str(child.pid))\n"
            "time.sleep(60)\n"
        )
        with pytest.raises(peers.PeerMissing, match="did not end within 2 s"):
            peers._run([sys.executable, "-c", script], 2)

        assert _gone(int(note.read_text()))


def _gone(pid: int) -> bool:
    for _ in range(50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("name", [*peers.SCRIPTS, "postgres"])
def test_every_peer_is_pinned_with_hashes(name):
    """
    What is measured is the same everywhere, and no index is named.
    """
    lock = f"tests/bench/peers/{name}/requirements.txt"
    text = (peers.HERE / name / "requirements.txt").read_text()

    assert pins(lock)
    assert text.count("==") <= text.count("--hash=sha256:")
    assert "://" not in text
