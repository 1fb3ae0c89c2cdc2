"""A process that converges a gateway and is killed right after a remote write.

Run as a module; a pickle of ``(adapter class, its arguments, controls, cut, after)`` is its input.
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bot.model.containment import Control
from tests.gateways.subject import Subject

ROOT = Path(__file__).resolve().parents[2]


def killed_after_write(subject: Subject, controls: Sequence[Control], after: int = 1) -> None:
    """Converge in another process, which ``SIGKILL`` ends right after its first remote write, or
    after a later one."""
    order = pickle.dumps(
        (subject.adapter_class, subject.arguments(), list(controls), subject.cut, after),
        protocol=4,
    )
    done = subprocess.run(
        [sys.executable, "-m", "tests.gateways.killed"],
        input=order,
        capture_output=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def main() -> None:
    adapter_class, arguments, controls, cut, after = pickle.loads(sys.stdin.buffer.read())
    module, _, name = cut.partition(":")
    owner: Any = importlib.import_module(module)
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    real = getattr(owner, last)
    left = after

    def killing(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        answer = real(*args, **kwargs)
        left -= _is_write(answer)
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, last, killing)
    adapter_class(**arguments).converge(controls)


def _is_write(answer: Any) -> bool:
    """Of an HTTP client's calls only those that change something are writes."""
    request = getattr(answer, "request", None)
    return request is None or request.method not in ("GET", "HEAD")


if __name__ == "__main__":
    main()
