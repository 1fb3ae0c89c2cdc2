"""Chaos in short: some of the boundaries of a run that does everything, and one batch of seeds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.live.harness import ROOT

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(600)]

STORES = ("sqlite", "postgres")


def chaos(folder: Path, *words: str) -> Any:
    """Run it in processes of its own; return its figures."""
    figures = folder / "figures.json"
    # One job: other tests run beside it, and wait for processes that are to come up.
    argv = [sys.executable, "-m", "tests.chaos", *words, "--jobs", "1"]
    argv += ["--json", str(figures), "--out", str(folder / "left")]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=580, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(figures.read_text())


@pytest.mark.parametrize("store", STORES)
def test_killed_or_stopped_at_a_boundary(tmp_path, store):
    """
    Each effect is made once and taken back once, wherever the worker ends.
    """
    figures = chaos(tmp_path, "enumerate", "--store", store, "--story", "undo", "--every", "10")

    tried = figures["enumerate"]
    assert [each["how"] for each in tried] == ["kill", "stop"][: 1 + (store == "postgres")]
    for each in tried:
        assert each["boundaries"] > 10
        assert each["missed"] <= each["boundaries"] / 2


def test_a_batch_of_random_runs(tmp_path):
    """
    Workers are killed and stopped, the database fails, answers are lost.
    """
    figures = chaos(tmp_path, "random", "--store", "postgres", "--seeds", "8", "--seed", "7")

    (figures,) = figures["random"]
    assert figures["seeds"] == 8
    assert figures["kills"] > 0
    assert (figures["lost"], figures["doubled"], figures["stuck"]) == (0, 0, 0)
