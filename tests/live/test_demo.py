"""The main job, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(300)]


def test_two_demos_in_a_row_prove_every_step(tmp_path: Path):
    """
    `firedoor demo --json` prints one object whose `ok` is true, the second time as well.
    """
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "bot.cli", "demo", "--json", "--out", str(tmp_path / "out")],
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )

        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["ok"] is True
        assert result["took_s"] < 90
        assert result["affected"]["records"] > 0
        assert result["rotated"]["old"] != result["rotated"]["new"]
        assert all(Path(path).stat().st_size > 1_000 for path in result["postmortem"].values())
