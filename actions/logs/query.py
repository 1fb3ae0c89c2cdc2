"""Asks the worker process who read whose objects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from actions.logs.connection import AccessLogs
from actions.logs.paths import PathPattern
from bot.errors import Failed, ProviderRefused, ProviderUnreachable, TimedOut

_WORKER = Path(__file__).with_name("worker.py")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GRACE_S = 5


class CrossOwnerAnswer(NamedTuple):
    """The counts, under the names that ``worker.summary`` gives them, and the list as CSV."""

    counts: dict[str, Any]
    csv: bytes


def cross_owner_reads(
    logs: AccessLogs,
    pattern: PathPattern,
    *,
    since: datetime,
    until: datetime | None,
    entitled_roles: Sequence[str],
    limit_s: int,
) -> CrossOwnerAnswer:
    """Count and list successful requests to objects that belong to someone else.

    Args:
        until: None searches to the end of the log, however its clock runs.

        limit_s: The worker is ended after that many seconds.

    Raises:
        ProviderUnreachable: No file matches, or one went away while it was being opened.

        ProviderRefused: A file may not be read or is damaged, or the answer needs more memory
            than the worker may use.

        TimedOut: It took longer than ``limit_s``.
    """
    request = {
        "files": logs.paths(),
        "columns": dict(logs.columns),
        "method": pattern.method,
        "regex": pattern.regex,
        "parameters": pattern.parameters,
        "since_us": to_us(since),
        "until_us": None if until is None else to_us(until),
        "entitled_roles": list(entitled_roles),
        "limit_s": limit_s,
        "parent": os.getpid(),
    }
    # Isolated, and with an environment of our own: settings may lie in ours as secrets.
    command = [sys.executable, "-I", str(_WORKER)]
    try:
        ended = subprocess.run(
            command,
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=limit_s + _GRACE_S,
            env={"LC_ALL": "C.UTF-8", "TZ": "UTC"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _too_slow(logs, limit_s) from None
    if ended.returncode != 0:
        raise _error_of(logs, ended.returncode, ended.stderr, limit_s)
    head, _, rows = ended.stdout.partition(b"\n")
    return CrossOwnerAnswer(json.loads(head), rows)


def to_us(moment: datetime) -> int:
    """Return microseconds since 1970, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(moment_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=moment_us)


def _too_slow(logs: AccessLogs, limit_s: int) -> TimedOut:
    return TimedOut(
        f"Reading log {logs.name!r} took longer than {limit_s} s and was stopped; nothing was "
        "counted. Name fewer files under logs in firedoor.yaml, or search them in parts."
    )


def _error_of(logs: AccessLogs, returncode: int, stderr: bytes, limit_s: int) -> Exception:
    if returncode == -14:  # SIGALRM, the worker's own limit
        return _too_slow(logs, limit_s)
    kind, detail = _reported(stderr)
    if kind == "gone":
        return ProviderUnreachable(
            f"A file of log {logs.name!r} went away while it was being opened ({detail}), so "
            "nothing was counted; it was probably rotated, try again."
        )
    if kind == "file":
        return ProviderRefused(
            f"Log {logs.name!r} cannot be read ({detail}), so nothing was counted; let the user "
            "that runs Firedoor read the file, or take a damaged one out of the globs."
        )
    if kind == "memory":
        return ProviderRefused(
            f"The answer from log {logs.name!r} needs more than {detail} of memory, so nothing "
            "was counted; search a shorter time with since and until."
        )
    return Failed(
        f"The log engine ended with status {returncode} ({detail}), so nothing was counted; "
        "please report this with the kind of log."
    )


def _reported(stderr: bytes) -> tuple[str, str]:
    """Return the kind and detail of the error that the worker wrote as its last line."""
    last = stderr.decode(errors="replace").strip().rpartition("\n")[2]
    try:
        report = json.loads(last)
        return str(report["error"]), str(report["detail"])
    except (ValueError, KeyError, TypeError):
        return "unknown", last[-300:] or "no message"
