"""Fuzz what reads runbooks: no hang, no crash, no escape, and memory that is bounded.

    python -m tests.fuzz [--minutes N] [--target loader|expressions|rehearsal] [--out FOLDER]

Guided by coverage where atheris can be imported (``pip install atheris``; it is no dependency of
ours), else by mutation alone. Findings are kept as files, each kind once. Exit 1 if there are any.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

NAMES = ("loader", "expressions", "rehearsal")
_STATUS = re.compile(r"#(\d+)\s+(\w+)\s+cov: (\d+) ft: (\d+) corp: (\d+)/(\S+)")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target")
    parser.add_argument("--target", choices=NAMES, action="append", help="all if not given")
    parser.add_argument("--out", type=Path, help="where findings and corpora are kept")
    parser.add_argument("--plain", action="store_true", help="by mutation alone")
    asked = parser.parse_args()
    folder = asked.out or Path(tempfile.mkdtemp(prefix="firedoor-fuzz-"))
    guided = not asked.plain and find_spec("atheris") is not None
    found = 0
    for name in asked.target or NAMES:
        figures = _fuzz(name, asked.minutes * 60, folder / name, guided)
        print(json.dumps(figures, indent=2), flush=True)
        found += len(figures["findings"]) + (figures["exit"] != 0)
    return 1 if found else 0


def _fuzz(name: str, seconds: float, folder: Path, guided: bool) -> dict[str, Any]:
    """Fuzz in a process of its own, which may die of what it finds."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    words = [name, str(seconds), str(folder), "guided" if guided else "plain"]
    with log.open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.worker", *words],
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
    told = _STATUS.findall(log.read_text(encoding="utf-8", errors="replace"))
    figures: dict[str, Any] = {"target": name, "guided": guided, "exit": done.returncode}
    figures |= json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    if told:
        begun = next((line for line in told if line[1] == "INITED"), told[0])
        figures["coverage"] = {"begin": int(begun[2]), "end": int(told[-1][2])}
        figures["features"] = {"begin": int(begun[3]), "end": int(told[-1][3])}
        figures["corpus"] = {"begin": int(begun[4]), "end": int(told[-1][4])}
    return figures


if __name__ == "__main__":
    sys.exit(main())
