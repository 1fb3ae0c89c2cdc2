"""Kills what is left when the command that started it is gone, however it went.

Run as a file by `processes.py`, with nothing of ours imported, so that it is up in milliseconds.
It reads lines from its standard input: ``+123`` watches the process group 123, ``-123`` forgets
it. The other end of that pipe is held by the command alone, so end of file means: the command has
ended, by itself or by a kill that no handler can catch. Then every group still watched is killed.

A pipe works alike on Linux and macOS, which a death signal (Linux) or a kernel queue (macOS) does
not.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable


def kill_group(group: int, signal_number: int) -> None:
    """Send a signal to a process group; one that is already gone is fine."""
    try:
        os.killpg(group, signal_number)
    except ProcessLookupError:
        pass
    except PermissionError:
        # macOS answers so for a group whose members have all ended and wait to be reaped.
        pass


def groups_left(lines: Iterable[bytes]) -> list[int]:
    """Read the pipe to its end and return the groups still watched, newest first."""
    watched: dict[int, None] = {}
    for line in lines:
        sign, number = line[:1], line[1:].strip()
        if not number.isdigit():
            continue
        if sign == b"+":
            watched[int(number)] = None
        elif sign == b"-":
            watched.pop(int(number), None)
    return list(reversed(watched))


def main() -> None:
    """Watch until the pipe ends, then kill."""
    for group in groups_left(sys.stdin.buffer):
        kill_group(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
