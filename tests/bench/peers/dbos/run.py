"""Raw DBOS: ten no-op steps a workflow, and a message to a workflow that waits for it.

On SQLite in WAL mode, which is the quicker of its journal modes, looking for messages every 50 ms;
on PostgreSQL it is told by LISTEN/NOTIFY.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig

STEPS, SEQUENTIAL, PARALLEL, MESSAGES = 10, 30, 100, 30
POLL_S = 0.05
TOPIC = "wake"


@DBOS.step()
def nothing() -> None:
    """Do nothing, durably."""


@DBOS.step()
def moment() -> float:
    return time.perf_counter()


@DBOS.workflow()
def ten_steps() -> None:
    for _ in range(STEPS):
        nothing()


@DBOS.workflow()
def wait_for_message() -> float:
    nothing()
    DBOS.recv(TOPIC, timeout_seconds=30)
    return moment()


def sequential() -> float:
    began = time.perf_counter()
    for _ in range(SEQUENTIAL):
        DBOS.start_workflow(ten_steps).get_result()
    return STEPS * SEQUENTIAL / (time.perf_counter() - began)


def parallel() -> float:
    began = time.perf_counter()
    handles = [DBOS.start_workflow(ten_steps) for _ in range(PARALLEL)]
    for handle in handles:
        handle.get_result()
    return STEPS * PARALLEL / (time.perf_counter() - began)


def message_ms() -> float:
    """Return the median from a send until the step after the wait has begun."""
    found = []
    for _ in range(MESSAGES):
        handle = DBOS.start_workflow(wait_for_message)
        time.sleep(0.2 + random.random() * POLL_S)  # it waits; at any moment between two looks
        began = time.perf_counter()
        DBOS.send(handle.workflow_id, "go", TOPIC)
        found.append((handle.get_result() - began) * 1000)
    return statistics.median(found)


def measure(url: str) -> dict[str, float]:
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": url,
        "notification_listener_polling_interval_sec": POLL_S,
        "max_executor_threads": 2 * PARALLEL,
        "enable_otlp": False,
        "log_level": "ERROR",
    }
    DBOS(config=config)
    DBOS.launch()
    try:
        for _ in range(2):
            ten_steps()  # so that nothing is imported or compiled for the first time below
        return {
            "sequential_steps_per_s": sequential(),
            "parallel_steps_per_s": parallel(),
            "message_p50_ms": message_ms(),
        }
    finally:
        DBOS.destroy()


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the folder is removed as well
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--url", help="of an empty database, for postgres")
    arguments: Any = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="firedoor-bench-dbos-") as folder:
        url = arguments.url
        if arguments.store == "sqlite":
            file = Path(folder) / "dbos.sqlite"
            connection = sqlite3.connect(file)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.close()
            url = f"sqlite:///{file}"
        found = measure(url)
    arguments.json.write_text(json.dumps(found))


main()
