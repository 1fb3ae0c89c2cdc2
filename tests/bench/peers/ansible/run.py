"""ansible-playbook: a play of ten tasks that do nothing, on this machine.

A task is ``ansible.builtin.assert``, which needs no module to be carried to the host: the cheapest
that there is. It remembers nothing, so this is the price of steps without durability. Plays share
nothing, so a few tell as much of many at once as a hundred would.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

STEPS, SEQUENTIAL, PARALLEL, AT_ONCE = 10, 3, 16, 4

PLAY = "- hosts: localhost\n  connection: local\n  gather_facts: false\n  tasks:\n" + "".join(
    f"    - {{name: Step {number}, ansible.builtin.assert: {{that: true, quiet: true}}}}\n"
    for number in range(STEPS)
)


def play(folder: Path) -> None:
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "play.yaml"]
    own = {
        "HOME": str(folder),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "local"),
        "ANSIBLE_REMOTE_TEMP": str(folder / "remote"),
        "ANSIBLE_NOCOWS": "1",
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        command, cwd=folder, env=os.environ | own, capture_output=True, text=True, timeout=120
    )
    if done.returncode or f"ok={STEPS} " not in done.stdout:
        raise RuntimeError(f"The play failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")


def measure(folder: Path) -> dict[str, float]:
    (folder / "play.yaml").write_text(PLAY)
    play(folder)
    began = time.perf_counter()
    for _ in range(SEQUENTIAL):
        play(folder)
    sequential_s = time.perf_counter() - began
    began = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(play, [folder] * PARALLEL))
    parallel_s = time.perf_counter() - began
    return {
        "sequential_steps_per_s": STEPS * SEQUENTIAL / sequential_s,
        "parallel_steps_per_s": STEPS * PARALLEL / parallel_s,
    }


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the folder is removed as well
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path, required=True)
    arguments: Any = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="firedoor-bench-ansible-") as folder:
        found = measure(Path(folder))
    arguments.json.write_text(json.dumps(found))


main()
