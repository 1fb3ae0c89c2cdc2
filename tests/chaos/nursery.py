"""Processes by fork from a warm parent, so that a real one costs some milliseconds.

The nursery has imported everything and opened nothing: no thread, no connection, no file. What it
forks is as good as freshly started, and can be killed for real.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Target = Callable[[dict[str, Any]], None]

PR_SET_PDEATHSIG = 1


class Nursery:
    """
    Makes processes and ends them. It ends with whoever made it, and all of its children too.

    Made by fork: make it before you open anything.
    """

    def __init__(self, targets: Mapping[str, Target]) -> None:
        mine, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            mine.close()
            _serve(theirs, targets)
            os._exit(0)
        theirs.close()
        self.pid = pid
        self._socket = mine
        self._answers = mine.makefile("r")
        self._lock = threading.Lock()

    def spawn(self, target: str, spec: Mapping[str, Any], log: Path) -> int:
        """Start a process that runs a target; return its pid."""
        return int(self._ask(do="spawn", target=target, spec=dict(spec), log=str(log)))

    def signal(self, pid: int, number: int) -> None:
        """Send a signal, if the process is still there. Its pid is never another's."""
        self._ask(do="signal", pid=pid, number=int(number))

    def code(self, pid: int) -> int | None:
        """Return the exit code of a process (minus the signal that ended it), None if it lives."""
        code = self._ask(do="code", pid=pid)
        return None if code is None else int(code)

    def is_stopped(self, pid: int) -> bool:
        """Tell whether a process has ever been stopped."""
        return bool(self._ask(do="stopped", pid=pid))

    def wait(self, pid: int, timeout_s: float) -> int | None:
        """Return the exit code; None if it still lives after so long."""
        ends = time.monotonic() + timeout_s
        while (code := self.code(pid)) is None and time.monotonic() < ends:
            time.sleep(0.005)
        return code

    def kill(self, pid: int) -> None:
        self.signal(pid, signal.SIGKILL)
        self.wait(pid, 10)

    def close(self) -> None:
        self._answers.close()
        self._socket.close()
        os.waitpid(self.pid, 0)

    def _ask(self, **question: Any) -> Any:
        with self._lock:
            self._socket.sendall(json.dumps(question).encode() + b"\n")
            return json.loads(self._answers.readline())


def _serve(channel: socket.socket, targets: Mapping[str, Target]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    gc.collect()
    gc.freeze()
    codes: dict[int, int | None] = {}
    stopped: set[int] = set()
    for line in channel.makefile("r"):
        question = json.loads(line)
        answer: Any = None
        if question["do"] == "spawn":
            answer = os.fork()
            if answer == 0:
                channel.close()
                _be(targets[question["target"]], question["spec"], question["log"])
            codes[answer] = None
        else:
            pid = question["pid"]
            if _reap(codes, pid):
                stopped.add(pid)  # this is told once, whatever was asked
            if question["do"] == "code":
                answer = codes[pid]
            elif question["do"] == "stopped":
                answer = pid in stopped
            elif codes[pid] is None:
                os.kill(pid, question["number"])
        channel.sendall(json.dumps(answer).encode() + b"\n")
    for pid in codes:
        _reap(codes, pid)
        if codes[pid] is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _reap(codes: dict[int, int | None], pid: int) -> bool:
    """Look at a child; tell whether it has just stopped."""
    if codes[pid] is not None:
        return False
    done, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
    if done and os.WIFSTOPPED(status):
        return True
    if done:
        codes[pid] = os.waitstatus_to_exitcode(status)
    return False


def _be(target: Target, spec: dict[str, Any], log: str) -> None:
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _end_with_parent()
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
        form = "%(asctime)s %(process)d %(threadName)s %(levelname)s %(message)s"
        logging.basicConfig(level=logging.INFO, format=form, stream=sys.stderr, force=True)
        target(spec)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _end_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
