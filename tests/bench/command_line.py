"""How long ``firedoor --version`` takes, beside an interpreter that does nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 15


def _took_s(argv: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def measure_command_line() -> dict[str, float]:
    """Time both in turn, so that both meet the same moments of a shared machine."""
    firedoor = str(Path(sys.executable).with_name("firedoor"))
    nothing = [sys.executable, "-c", "pass"]
    version = [firedoor, "--version"]
    _took_s(version)
    pairs = [(_took_s(version), _took_s(nothing)) for _ in range(ROUNDS)]
    version_s = statistics.median(pair[0] for pair in pairs)
    nothing_s = statistics.median(pair[1] for pair in pairs)
    return {"cli_version_s": version_s, "cli_version_vs_python_ratio": version_s / nothing_s}
