"""One process of fuzzing: ``python -m tests.fuzz.worker TARGET SECONDS FOLDER guided|plain``.

It goes on after a finding, and writes ``figures.json`` as it goes.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import random
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fuzz.mutate import bytes_of, mutated, text_of

LONGEST_S = 2.0
"""Of processor time, which does not depend on what else the machine does."""

MOST_GROWTH = 256 << 20
MOST_MEMORY = 3 << 30

_REACHED = (
    *("open", "exec", "compile", "import", "os.", "subprocess.", "socket.", "shutil."),
    *("object.__", "ctypes.", "code.", "function.", "marshal.", "pickle.", "sys._get"),
)
"""What Python tells its auditors when something reaches out of the language."""

_NUMBER = re.compile(r"b?'?[0-9][0-9.eE_+-]*'?")
"""Jinja has Python read the text of a number, which is compiled to a constant only."""


class TooSlow(Exception):
    """One input took too long."""


class Worker:
    """Runs inputs through one target, watches, and counts."""

    def __init__(self, name: str, folder: Path) -> None:
        from tests.fuzz.targets import TARGETS, scope_is_whole

        self.name, self._target, self._whole = name, TARGETS[name], scope_is_whole
        self._folder, self._inside = folder, False
        self._begun, self._told = time.monotonic(), 0.0
        self._runs = self._good = 0
        self._base = self._peak = 0
        self._slowest: tuple[float, str] = (0.0, "")
        self._findings: dict[str, dict[str, Any]] = {}
        self._reached = ""
        sys.addaudithook(self._audit)
        signal.signal(signal.SIGPROF, self._late)

    def takes(self, text: str) -> bool:
        """Tell whether the target finds a text good."""
        return self._target(text)

    def take(self, content: bytes) -> None:
        text = text_of(content)
        began = time.process_time()
        self._runs += 1
        try:
            with self._watched():
                self._good += self._target(text)
        except Exception as error:
            self._keep(text, error)
        if self._reached:
            self._keep(text, AssertionError(f"it reached {self._reached}"))
        took = time.process_time() - began
        if took > self._slowest[0]:
            self._slowest = (took, text)
        if time.monotonic() - self._told > 5:
            self.tell()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        self._reached, self._inside = "", self._runs > 50  # what is imported late is in by then
        signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            self._inside = False

    def _late(self, *_: Any) -> None:
        if self._inside or self._runs <= 50:
            raise TooSlow(f"over {LONGEST_S} s")

    def _audit(self, event: str, args: Any) -> None:
        if not self._inside or not event.startswith(_REACHED):
            return
        if event != "compile" or _NUMBER.fullmatch(str(args[0])) is None:
            self._reached = f"{event} {ascii(args)[:100]}"

    def _keep(self, text: str, error: BaseException) -> None:
        """Keep one input of each kind of finding: the shortest."""
        frames = traceback.extract_tb(error.__traceback__)
        ours = [each for each in frames if "/bot/" in each.filename] or list(frames)
        kind = type(error).__name__
        if ours:
            kind += f" at {Path(ours[-1].filename).name}:{ours[-1].lineno}"
        if isinstance(error, AssertionError):
            kind += f" {str(error)[:30]}"
        known = self._findings.get(kind)
        if known is not None and len(known["text"]) <= len(text):
            known["count"] += 1
            return
        self._findings[kind] = {
            "kind": kind,
            "text": text,
            "count": known["count"] + 1 if known else 1,
            "error": f"{type(error).__name__}: {str(error)[:500]}",
            "trace": [f"{each.filename}:{each.lineno}" for each in frames[-12:]],
        }
        self.tell()

    def tell(self) -> None:
        """Write the figures."""
        self._told = time.monotonic()
        resident = _resident()
        if self._base == 0 and self._runs > 500:
            self._base = resident
        self._peak = max(self._peak, resident)
        if self._base and self._peak - self._base > MOST_GROWTH:
            kind = "memory"
            self._findings[kind] = {"kind": kind, "text": "", "count": 1, "error": "it grows"}
        if not self._whole():
            kind = "scope"
            self._findings[kind] = {"kind": kind, "text": "", "count": 1, "error": "data changed"}
        seconds = self._told - self._begun
        figures = {
            "executions": self._runs,
            "seconds": round(seconds, 1),
            "executions_per_s": round(self._runs / seconds, 1),
            "good": self._good,
            "rss_begin_mb": self._base >> 20,
            "rss_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
            "slowest_cpu_s": round(self._slowest[0], 3),
            "slowest": self._slowest[1][:3_000],
            "findings": list(self._findings.values()),
        }
        text = json.dumps(figures, indent=1)
        (self._folder / "figures.json").write_text(text, encoding="utf-8")


def _resident() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


def main() -> None:
    name, seconds, folder, how = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    if how == "guided":
        _guided(name, seconds, folder)
    else:
        _plain(name, seconds, folder)


def _guided(name: str, seconds: float, folder: Path) -> None:
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["bot.language", "bot.engine"]):
        from tests.fuzz import targets  # noqa: F401
    from tests.fuzz.corpus import LONGEST, SEEDS, WORDS

    worker, seeds = Worker(name, folder), SEEDS[name]()
    good = [seed for seed in seeds if worker.takes(seed)]
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number:03}").write_bytes(bytes_of(seed))

    def mutate(content: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < 0.25:
            return bytes(atheris.Mutate(content, most))
        if chance.random() < 0.4:
            content = bytes_of(chance.choice(good))
        return bytes_of(mutated(text_of(content), chance, WORDS[name], seeds))[:most]

    words = [sys.argv[0], f"-max_total_time={int(seconds)}", f"-max_len={LONGEST[name]}"]
    words += [
        f"-artifact_prefix={folder}/",
        "-rss_limit_mb=0",
        "-timeout=120",
        "-len_control=0",
        "-print_final_stats=1",
    ]
    atheris.Setup([*words, str(corpus)], worker.take, custom_mutator=mutate)
    atheris.Fuzz()


def _plain(name: str, seconds: float, folder: Path) -> None:
    from tests.fuzz.corpus import LONGEST, SEEDS, WORDS

    worker, seeds = Worker(name, folder), SEEDS[name]()
    chance, end = random.Random(time.time_ns()), time.monotonic() + seconds
    good = [seed for seed in seeds if worker.takes(seed)]
    for seed in seeds:
        worker.take(bytes_of(seed))
    while time.monotonic() < end:
        faulthandler.dump_traceback_later(120, exit=True)
        text = mutated(chance.choice(chance.choice((seeds, good))), chance, WORDS[name], seeds)
        worker.take(bytes_of(text)[: LONGEST[name]])
    faulthandler.cancel_dump_traceback_later()
    worker.tell()


if __name__ == "__main__":
    main()
