"""Every boundary of every story: the process is killed there, or stopped, and another goes on."""

from __future__ import annotations

import json
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.checker import Fault, check
from tests.chaos.collect import collect, dump
from tests.chaos.databases import Databases
from tests.chaos.nursery import Nursery
from tests.chaos.remote import Remote
from tests.chaos.site import Site
from tests.chaos.stories import Story

LEASE_S, BEAT_S = 1.0, 0.25

END_S = 60.0
"""Longer than any of these runs takes on a busy machine."""

KILL, STOP = int(signal.SIGKILL), int(signal.SIGSTOP)

Boundary = dict[str, Any]


@dataclass
class Tried:
    """One story on one database. ``missed`` are boundaries that did not come up again."""

    story: str
    store: str
    how: str
    boundaries: int = 0
    missed: int = 0
    faults: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Enumerator:
    def __init__(
        self,
        nursery: Nursery,
        databases: Databases,
        folder: Path,
        *,
        slots: int,
        every: int = 1,
    ) -> None:
        """
        Args:
            slots: How many boundaries are tried at a time.

            every: Only each so-many-th boundary is tried.
        """
        self._nursery, self._databases, self._folder = nursery, databases, folder
        self._slots, self._every = slots, every

    def run(self, story: Story, number: int) -> Tried:
        """Try every boundary of a story with one signal."""
        began = time.monotonic()
        how = "kill" if number == KILL else "stop"
        tried = Tried(story.id, self._databases.kind, how)
        boundaries, faults = self._find(story)
        tried.faults += [f"undisturbed: {fault}" for fault in faults]
        if number == STOP:
            # Between the last look at the lease and the effect nobody can know: the other
            # system would have to.
            boundaries = [b for b in boundaries if not _is_before_an_effect(b)]
        boundaries = boundaries[:: self._every]
        tried.boundaries = len(boundaries)
        with ThreadPoolExecutor(self._slots) as pool:
            for boundary, found in zip(
                boundaries, pool.map(lambda b: self._try(story, b, number), boundaries), strict=True
            ):
                if found is None:
                    tried.missed += 1
                    continue
                for fault in found:
                    kept = tried.late if fault.kind == "late" else tried.faults
                    kept.append(f"{_name(boundary)}: {fault}")
        tried.seconds = time.monotonic() - began
        return tried

    def _find(self, story: Story) -> tuple[list[Boundary], Sequence[Fault]]:
        """Run a story undisturbed, and return its boundaries in order."""
        company = _Company(self._nursery, self._databases, self._folder, story)
        report = company.folder / "boundaries.jsonl"
        try:
            pid = company.start(report=str(report))
            faults = company.end(pid)
            lines = report.read_text().splitlines() if report.exists() else []
        finally:
            company.close()
        return [json.loads(line) for line in lines], faults

    def _try(self, story: Story, boundary: Boundary, number: int) -> Sequence[Fault] | None:
        """Return what went wrong, or None if the boundary did not come up in two runs."""
        for _ in range(2):
            company = _Company(self._nursery, self._databases, self._folder, story)
            try:
                first = company.start(trip={**boundary, "signal": number})
                if not company.has_tripped(first, number):
                    continue
                faults = list(company.end(company.start()))
                if number == STOP and not faults:
                    self._nursery.signal(first, signal.SIGCONT)
                    faults += company.end(first)
                return faults
            finally:
                company.close()
        return None


def _is_before_an_effect(boundary: Boundary) -> bool:
    return boundary["side"] == "before" and boundary["what"].startswith("effect: ")


def _name(boundary: Boundary) -> str:
    return f"{boundary['side']} {boundary['what']} ({boundary['nth']})"


class _Company:
    """A fresh company for one run."""

    def __init__(self, nursery: Nursery, databases: Databases, folder: Path, story: Story) -> None:
        self._nursery, self._databases, self._story = nursery, databases, story
        self._kept = folder
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self.url = databases.make(self.folder)
        self._path = str(self.folder / "remote")
        self._pids = [nursery.spawn("remote", {"path": self._path}, self.folder / "remote.log")]
        wait_until(Path(self._path).exists, 30)
        self._bad = False

    def start(self, **more: Any) -> int:
        spec = {
            "folder": str(self.folder),
            "store": self.url,
            "remote": self._path,
            "name": "w",
            "lease_s": LEASE_S,
            "beat_s": BEAT_S,
            "tick_s": 0.1,
            "story": self._story.as_json(),
            **more,
        }
        pid = self._nursery.spawn("worker", spec, self.folder / "worker.log")
        self._pids.append(pid)
        return pid

    def has_tripped(self, pid: int, number: int) -> bool:
        if number == KILL:
            return self._nursery.wait(pid, END_S) == -KILL
        ends = time.monotonic() + END_S
        while time.monotonic() < ends:
            if self._nursery.is_stopped(pid):
                return True
            if self._nursery.code(pid) is not None:
                return False
            time.sleep(0.01)
        return False

    def end(self, pid: int) -> Sequence[Fault]:
        """Let a process come to its end, and check what it leaves."""
        code = self._nursery.wait(pid, END_S)
        site = Site(self.folder, self.url, Remote(self._path), [self._story])
        try:
            history = collect(site)
            faults = check(history)
            if code != 0:
                faults.append(Fault("stuck", "", f"the process ended with {code}"))
            if faults:
                self._bad = True
                dump(history, faults, site, self.folder)
        finally:
            site.close()
        return faults

    def close(self) -> None:
        for pid in self._pids:
            self._nursery.kill(pid)
        self._databases.drop(self.url)
        if not self._bad:
            remove(self.folder)


def remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def wait_until(there: Callable[[], bool], timeout_s: float) -> bool:
    ends = time.monotonic() + timeout_s
    while not there():
        if time.monotonic() > ends:
            return False
        time.sleep(0.005)
    return True
