"""Prefect with a server of its own that keeps its state in SQLite.

A step is a task that does nothing; the flows run in this process. They are few, because each waits
for its server's one writer for a second or more, and few at once: above a dozen the server refuses
them (503).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS, SEQUENTIAL, PARALLEL, AT_ONCE = 10, 5, 16, 4
READY_S = 90.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings(folder: Path, port: int) -> dict[str, str]:
    """Return what Prefect reads from the environment; it must stand there before its import."""
    return {
        "HOME": str(folder),
        "PREFECT_HOME": str(folder),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder}/prefect.db",
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_UI_ENABLED": "false",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
        "NO_PROXY": "127.0.0.1",
    }


def start_server(port: int, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "prefect", "server", "start"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_healthy(port, process, log)
    except BaseException:
        end(process)
        raise
    return process


def wait_healthy(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + READY_S
    while not healthy(port):
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"The server does not answer: {log.read_text()[-2000:]}")
        time.sleep(0.2)


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)  # it ends its own children then
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def flow_of_ten() -> Callable[[], Any]:
    from prefect import flow, task

    @task
    async def nothing() -> None:
        """Do nothing."""

    @flow
    async def ten_steps() -> None:
        for _ in range(STEPS):
            await nothing()

    return ten_steps


async def measure() -> dict[str, float]:
    ten_steps = flow_of_ten()
    await ten_steps()
    began = time.perf_counter()
    for _ in range(SEQUENTIAL):
        await ten_steps()
    sequential_s = time.perf_counter() - began
    turn = asyncio.Semaphore(AT_ONCE)

    async def in_turn() -> None:
        async with turn:
            await ten_steps()

    began = time.perf_counter()
    await asyncio.gather(*(in_turn() for _ in range(PARALLEL)))
    parallel_s = time.perf_counter() - began
    return {
        "sequential_steps_per_s": STEPS * SEQUENTIAL / sequential_s,
        "parallel_steps_per_s": STEPS * PARALLEL / parallel_s,
    }


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server is ended as well
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path, required=True)
    arguments: Any = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="firedoor-bench-prefect-") as folder:
        port = free_port()
        os.environ |= settings(Path(folder), port)
        process = start_server(port, Path(folder) / "server.log")
        try:
            found = asyncio.run(measure())
        finally:
            end(process)
    arguments.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
