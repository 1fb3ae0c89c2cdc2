"""A Temporal development server that keeps its state in a file, and one worker of its Python SDK.

A step is an activity that does nothing; the worker and the client are in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

STEPS, SEQUENTIAL, PARALLEL = 10, 10, 100
QUEUE = "bench"
READY_S = 60.0


@activity.defn
async def nothing() -> None:
    """Do nothing, durably."""


@workflow.defn
class TenSteps:
    @workflow.run
    async def run(self) -> None:
        for _ in range(STEPS):
            await workflow.execute_activity(nothing, start_to_close_timeout=timedelta(seconds=60))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def server(folder: Path) -> AsyncIterator[Client]:
    port = free_port()
    command = [str(Path(sys.executable).with_name("temporal")), "server", "start-dev"]
    command += ["--headless", "--ip", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    command += ["--db-filename", str(folder / "temporal.sqlite")]
    quiet = {"TEMPORAL_VERSION_CHECK_DISABLED": "1", "HOME": str(folder)}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | quiet, stdout=log, stderr=log)
    try:
        yield await connected(port, process, folder / "server.log")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def connected(port: int, process: subprocess.Popen[bytes], log: Path) -> Client:
    until = time.monotonic() + READY_S
    while process.poll() is None:
        try:
            client = await Client.connect(f"127.0.0.1:{port}")
            await client.count_workflows()  # its namespace is there, too
        except RuntimeError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.2)
        else:
            return client
    raise RuntimeError(f"The server ended: {log.read_text()[-2000:]}")


async def one(client: Client) -> None:
    await client.execute_workflow(TenSteps.run, id=str(uuid.uuid4()), task_queue=QUEUE)


async def measure(folder: Path) -> dict[str, float]:
    async with (
        server(folder) as client,
        Worker(client, task_queue=QUEUE, workflows=[TenSteps], activities=[nothing]),
    ):
        await one(client)
        began = time.perf_counter()
        for _ in range(SEQUENTIAL):
            await one(client)
        sequential_s = time.perf_counter() - began
        began = time.perf_counter()
        await asyncio.gather(*(one(client) for _ in range(PARALLEL)))
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
    with tempfile.TemporaryDirectory(prefix="firedoor-bench-temporal-") as folder:
        found = asyncio.run(measure(Path(folder)))
    arguments.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
