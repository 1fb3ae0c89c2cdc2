"""Chaos, from the command line: ``python -m tests.chaos --help``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.chaos import databases, remote, storm, worker
from tests.chaos.enumerating import KILL, STOP, Enumerator, Tried
from tests.chaos.nursery import Nursery
from tests.chaos.stories import enumerated
from tests.postgres import running

TARGETS = {"worker": worker.work, "remote": remote.serve, "lock": databases.hold_lock}

DURABLE = "synchronous_commit = on\n"

SLOTS = {"sqlite": 4, "postgres": 8}
"""Boundaries that one job tries at a time: most of it is waiting, on PostgreSQL for a lease."""


def main() -> int:
    args = _arguments()
    nursery = Nursery(TARGETS)  # before anything is opened
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers and workers end with it
    kept = Path(args.out or tempfile.mkdtemp(prefix="firedoor-chaos-"))
    kept.mkdir(parents=True, exist_ok=True)
    stores = ("sqlite", "postgres") if args.store == "both" else (args.store,)
    result: dict[str, Any] = {}
    bad = False
    try:
        if args.what in ("enumerate", "all"):
            tried = [t for store in stores for t in _enumerate(nursery, store, kept, args)]
            result["enumerate"] = [asdict(t) for t in tried]
            bad = bad or any(t.faults for t in tried)
        if args.what in ("random", "all"):
            sums = [_random(nursery, store, kept, args) for store in stores]
            result["random"] = sums
            bad = bad or any(each["faults"] for each in sums)
    finally:
        nursery.close()
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    if bad:
        print(f"What went wrong is in {kept}")
    return 4 if bad else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("what", nargs="?", default="all", choices=("enumerate", "random", "all"))
    parser.add_argument("--store", default="both", choices=("sqlite", "postgres", "both"))
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--story", help="enumerate only this one")
    parser.add_argument("--how", choices=("kill", "stop"), help="enumerate only so")
    parser.add_argument("--every", type=int, default=1, help="try only each so-many-th boundary")
    parser.add_argument("--json", help="write the results there")
    parser.add_argument("--out", help="the folder for what went wrong")
    return parser.parse_args()


def _enumerate(
    nursery: Nursery, store: str, kept: Path, args: argparse.Namespace
) -> Iterator[Tried]:
    with contextlib.ExitStack() as stack:
        made: databases.Databases
        if store == "sqlite":
            made = databases.Files(kept)
        else:
            made = databases.Servers(stack.enter_context(running(DURABLE)))
        enumerator = Enumerator(
            nursery, made, kept, slots=args.jobs * SLOTS[store], every=args.every
        )
        _row("story", "store", "how", "boundaries", "missed", "faults", "late", "seconds")
        for number in (KILL, STOP):
            how = "kill" if number == KILL else "stop"
            if (number == STOP and store == "sqlite") or args.how not in (None, how):
                continue  # a file has one worker: nobody takes over from one that is stopped
            for story in enumerated():
                if args.story in (None, story.id):
                    tried = enumerator.run(story, number)
                    _say(tried)
                    yield tried


def _random(nursery: Nursery, store: str, kept: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Play batches in so many companies at a time; each has a server of its own to crash."""
    began = time.monotonic()
    firsts: queue.SimpleQueue[int] = queue.SimpleQueue()
    for first in range(args.seed, args.seed + args.seeds, storm.BATCH):
        firsts.put(first)
    batches: list[storm.Batch] = []
    lock = threading.Lock()

    def play(made: databases.Databases) -> None:
        while True:
            try:
                first = firsts.get_nowait()
            except queue.Empty:
                return
            size = min(storm.BATCH, args.seed + args.seeds - first)
            batch = storm.Storm(nursery, made, kept).run(first, size)
            with lock:
                batches.append(batch)
                _say_batch(batch)

    jobs = min(args.jobs, firsts.qsize())
    with contextlib.ExitStack() as stack:
        # One after the other: only this thread may start servers.
        made: list[databases.Databases] = [
            databases.Files(kept)
            if store == "sqlite"
            else databases.Servers(stack.enter_context(running(DURABLE)))
            for _ in range(jobs)
        ]
        _row("first seed", "seeds", "kills", "stalls", "restarts", "effects", "faults", "seconds")
        pool = stack.enter_context(ThreadPoolExecutor(jobs))
        try:
            for done in [pool.submit(play, each) for each in made]:
                done.result()
        finally:
            while not firsts.empty():  # interrupted: no batch begins any more
                firsts.get()
    return _sum(store, batches, time.monotonic() - began)


def _say_batch(batch: storm.Batch) -> None:
    down = batch.restarts + batch.locks
    counts = (batch.kills, batch.stalls, down, batch.effects, len(batch.faults))
    _row(batch.first, batch.size, *counts, f"{batch.seconds:.1f}")
    for fault in [*batch.faults, *batch.late]:
        seed = batch.seeds.get(fault.run, "?")
        print(f"  seed={seed} batch={batch.first} store={batch.store} {fault}")
    if batch.faults:
        print(f"  again: {batch.command()}", flush=True)


def _sum(store: str, batches: list[storm.Batch], seconds: float) -> dict[str, Any]:
    counts = Counter(fault.kind for batch in batches for fault in batch.faults)
    added = ("size", "kills", "stalls", "long_stalls", "restarts", "locks", "effects", "words")
    total: dict[str, Any] = {"store": store}
    total |= {name: sum(getattr(b, name) for b in batches) for name in (*added, "repeated_mails")}
    total["seeds"] = total.pop("size")
    total |= {kind: counts.pop(kind, 0) for kind in ("lost", "doubled", "stuck")}
    total["late"] = sum(len(batch.late) for batch in batches)
    total |= {"other": dict(counts), "faults": sum(len(b.faults) for b in batches)}
    total["seconds"] = round(seconds, 1)
    print(", ".join(f"{name} {value}" for name, value in total.items()), flush=True)
    return total


def _say(tried: Tried) -> None:
    counts = (tried.boundaries, tried.missed, len(tried.faults), len(tried.late))
    _row(tried.story, tried.store, tried.how, *counts, f"{tried.seconds:.1f}")
    for fault in [*tried.faults, *tried.late]:
        print(f"  {fault}", flush=True)


def _row(*cells: Any) -> None:
    print("".join(f"{cell!s:<12}" for cell in cells), flush=True)


if __name__ == "__main__":
    sys.exit(main())
