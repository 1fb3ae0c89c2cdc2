"""nginx's processes, as Linux shows them under ``/proc``.

After a reload the old workers end by themselves, some 100 ms later than the new ones begin. Until
one has ended it answers by the old configuration whatever comes in on connections that it has: not
on those that are idle between two requests, which it closes, but on those that have not sent their
first request yet.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MASTER = "nginx: master process"
WORKER = "nginx: worker process"
LEAVING = "nginx: worker process is shutting down"

_PROC = Path("/proc")


@dataclass(frozen=True)
class Worker:
    """``started`` is in clock ticks since the machine's start; a process id is used again."""

    pid: int
    started: int
    is_leaving: bool


def is_master(pid: int) -> bool:
    """Tell whether a process is a master of nginx, and can be seen."""
    return _title(pid).startswith(MASTER)


def workers_of(master: int) -> list[Worker]:
    """Return the workers of a master, old and new."""
    found = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        fields = _stat(pid)
        if fields and int(fields[1]) == master:
            title = _title(pid)
            if title.startswith(WORKER):
                found.append(Worker(pid, int(fields[19]), title.startswith(LEAVING)))
    return found


def still_there(workers: Iterable[Worker]) -> list[Worker]:
    """Return those that have not ended."""
    found = []
    for worker in workers:
        fields = _stat(worker.pid)
        if fields and fields[0] != "Z" and int(fields[19]) == worker.started:
            found.append(worker)
    return found


def seconds_since_start(worker: Worker) -> float:
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - worker.started / ticks_per_s


def _stat(pid: int) -> list[str]:
    """Return the fields of a process from the third, its state, on (proc(5)); none if it has gone
    or is hidden. The second, its name, may hold spaces and brackets."""
    try:
        return (_PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []


def _title(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "cmdline").read_text("utf-8", "replace").rstrip("\0 ")
    except OSError:
        return ""
