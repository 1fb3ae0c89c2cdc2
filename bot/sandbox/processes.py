"""Child processes with logs and readiness, none of which outlives the command.

Every child leads its own process group and names itself to the reaper (`reaper.py`) before its
program starts. So there is no moment at which a ``kill -9`` of the command leaves a child behind.
Secrets never go into arguments, which every user of the machine can read; pass files.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import bot
from bot.errors import BadInput, Failed, TimedOut, Unreachable
from bot.sandbox import reaper

HOST = "127.0.0.1"
TAIL_LINES = 20
POLL_S = 0.01
STOP_TIMEOUT_S = 5.0

# Tells the reaper the process group, then becomes the program: its id does not change. Its
# standard input is the reaper's pipe up to here, and must not be afterwards: a child that held
# the pipe open would keep the reaper waiting for ever.
_ANNOUNCE = 'echo "+$$" >&0; exec "$@" </dev/null'

# What a child may see of our environment. Credentials and proxies of the person who runs the
# command are none of a stand-in's business, and a proxy would break loopback calls. Nor may it
# read the person's own settings (as ~/.aws/config): its home is the log directory.
_ENVIRONMENT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "PYTHONDONTWRITEBYTECODE",
)


@dataclass(frozen=True)
class Child:
    """A started process. ``pid`` is also its process group."""

    name: str
    argv: tuple[str, ...]
    log_path: Path
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def log_tail(self, lines: int = TAIL_LINES) -> str:
        """Return the last lines of its output, or a sentence if there are none."""
        with contextlib.suppress(FileNotFoundError):
            text = self.log_path.read_text(encoding="utf-8", errors="replace").strip()
            if text:
                return "\n".join(text.splitlines()[-lines:])
        return "(it wrote nothing)"


class Processes:
    """
    The children of one command. A context manager: leaving it stops them, last one first.

    May be used from several threads, so that slow starters start side by side.
    """

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._lock = threading.Lock()
        self._children: dict[str, Child] = {}
        log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        # -I and -S: no user's settings, no site packages; it starts in some 10 ms.
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", reaper.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_all()

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Child:
        """
        Start a program; its output is appended to ``<log_dir>/<name>.log``.

        Args:
            argv: The program and its arguments. No secrets: arguments are public.

            env: Added to the few variables that a child gets to see of ours.

        Raises:
            BadInput: A child of this name is already running.
        """
        with self._lock:
            if name in self._children and self._children[name].is_running:
                raise BadInput(f"{name} is already running; nothing was started. Stop it first.")
        pipe = self._reaper.stdin
        if pipe is None or pipe.closed:
            raise BadInput(f"{name} cannot be started any more: everything was stopped.")
        log_path = self._log_dir / f"{name}.log"
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _ANNOUNCE, "sh", *argv],
                stdin=pipe,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**child_environment(), "HOME": str(self._log_dir), **(env or {})},
                start_new_session=True,
            )
        child = Child(name, tuple(argv), log_path, process)
        with self._lock:
            self._children[name] = child
        return child

    def start_python(self, name: str, module: str, *arguments: str) -> Child:
        """Start ``python -m module arguments…`` with this interpreter."""
        return self.start(name, [sys.executable, "-m", module, *arguments])

    def wait_ready(self, name: str, is_ready: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """
        Wait until a child is ready.

        Raises:
            Failed: It ended first; the message shows the last lines of its log.

            TimedOut: It runs but is not ready after ``timeout_s``; likewise.
        """
        child = self.child(name)
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if not child.is_running:
                raise Failed(
                    f"{name} ended with exit code {child.process.returncode} before it was ready, "
                    f"so nothing can use it. The last lines of {child.log_path}:\n"
                    f"{child.log_tail()}"
                )
            if time.monotonic() > deadline:
                raise TimedOut(
                    f"{name} is not ready after {timeout_s:g} s, so nothing can use it. "
                    f"The last lines of {child.log_path}:\n{child.log_tail()}"
                )
            time.sleep(POLL_S)

    def child(self, name: str) -> Child:
        """Return the child last started under a name. Raises BadInput if there was none."""
        with self._lock:
            child = self._children.get(name)
        if child is None:
            raise BadInput(f"No process named {name} was started.")
        return child

    def running(self) -> dict[str, int]:
        """Return the running children's process ids by name, in the order of their start."""
        with self._lock:
            return {name: c.pid for name, c in self._children.items() if c.is_running}

    def stop(self, name: str, *, kill: bool = False) -> None:
        """
        Stop a child: terminate, wait, then kill. Stopping a stopped one does nothing.

        Args:
            kill: Kill at once, as a crash would look.
        """
        child = self.child(name)
        if not kill:
            reaper.kill_group(child.pid, signal.SIGTERM)
        self._end(name, child, STOP_TIMEOUT_S if not kill else 0.0)

    def _end(self, name: str, child: Child, patience_s: float) -> None:
        """Wait for a child that was told to end, then kill what is left of it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(patience_s)
        # Also after a polite end: the group may hold processes that the child started.
        reaper.kill_group(child.pid, signal.SIGKILL)
        child.process.wait()
        with self._lock:
            if self._children.pop(name, None) is not None:
                self._tell_reaper(f"-{child.pid}\n")

    def stop_all(self) -> None:
        """Stop every child and the reaper: the last one first, as it needs the others, and those
        all at once. Nothing can be started afterwards."""
        with self._lock:
            children = list(self._children.items())
        for name, _ in children[-1:]:
            self.stop(name)
        for _, child in children[:-1]:
            reaper.kill_group(child.pid, signal.SIGTERM)
        for name, child in reversed(children[:-1]):
            self._end(name, child, STOP_TIMEOUT_S)
        if self._reaper.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._reaper.stdin.close()
        self._reaper.wait()

    def _tell_reaper(self, line: str) -> None:
        pipe = self._reaper.stdin
        if pipe is not None and not pipe.closed:
            # Without a reaper there is nothing to tell; the child itself is gone by now.
            with contextlib.suppress(BrokenPipeError):
                pipe.write(line.encode())
                pipe.flush()


def child_environment() -> dict[str, str]:
    """Return the environment of a child: little of ours, and unbuffered output."""
    ours = os.environ  # noqa: TID251 - handed on to children, no setting is read from it
    chosen = {name: ours[name] for name in _ENVIRONMENT if name in ours}
    root = str(Path(bot.__file__).resolve().parent.parent)
    return {**chosen, "PYTHONUNBUFFERED": "1", "PYTHONPATH": root}


class Ports:
    """
    Free ports on the loopback address, kept apart from other commands' ports.

    A port that was found free by binding port 0 can be lost again before its server binds it: to
    another search, or to any outgoing connection, which takes its local port from the same range
    (Linux 32768-60999, macOS 49152-65535). So we take blocks below those ranges, and hold the
    first port of our block open for as long as the company lives.
    """

    FIRST, LAST, SIZE = 20_000, 32_000, 16

    def __init__(self) -> None:
        blocks = list(range(self.FIRST, self.LAST, self.SIZE))
        random.shuffle(blocks)
        for first in blocks:
            guard = _bound(first)
            if guard is not None:
                self._guard = guard
                self._left = list(range(first + 1, first + self.SIZE))
                return
        raise Unreachable(
            f"No port from {self.FIRST} to {self.LAST} is free, so nothing was started. "
            "Stop other servers on this machine."
        )

    def take(self) -> int:
        """Return a free port of our block. Raises Unreachable once the block is used up."""
        while self._left:
            port = self._left.pop(0)
            probe = _bound(port)
            if probe is not None:
                probe.close()
                return port
        raise Unreachable("All ports of this company are taken. Stop other servers and start anew.")

    def close(self) -> None:
        """Give the block back."""
        self._guard.close()


def _bound(port: int) -> socket.socket | None:
    """Return a socket that listens on a port, or None if somebody else has it."""
    candidate = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        candidate.bind((HOST, port))
        # On Linux two sockets with SO_REUSEADDR may be bound to one port; only one may listen.
        candidate.listen(1)
    except OSError:
        candidate.close()
        return None
    return candidate


def http_ready(port: int, path: str, statuses: Sequence[int] = (200,)) -> Callable[[], bool]:
    """Return a check: a GET on loopback answers with one of these status codes."""

    def check() -> bool:
        connection = http.client.HTTPConnection(HOST, port, timeout=2.0)
        try:
            connection.request("GET", path)
            return connection.getresponse().status in statuses
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return check


def tcp_ready(port: int) -> Callable[[], bool]:
    """Return a check: a connection on loopback is accepted."""

    def check() -> bool:
        try:
            socket.create_connection((HOST, port), timeout=2.0).close()
        except OSError:
            return False
        return True

    return check
