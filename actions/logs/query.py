"""Asks questions to access logs of the worker process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from actions.logs.connection import AccessLogs
from bot.errors import Failed, ProviderRefused, ProviderUnreachable, TimedOut

_WORKER = Path(__file__).with_name("worker.py")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GRACE_S = 5

_LINE = """line AS (
    SELECT epoch_us(try_cast("time" AS TIMESTAMPTZ)) AS us, "method",
        try_cast(status AS INTEGER) AS status, without_query("path") AS raw,
        present(principal) AS principal, present("role") AS "role", present(tenant) AS tenant,
        present(resource_owner) AS owner, present(client_ip) AS client_ip
    FROM (SELECT {columns} FROM read_json($piece, format = 'newline_delimited',
        compression = 'uncompressed', ignore_errors = true, columns = {types}))
)"""


class Question(NamedTuple):
    """
    What is asked, as statements for DuckDB with the macros of ``worker.py``.

    They are written by us; all that comes from outside is bound.

    Attributes:
        table: Makes the table that is filled.

        fill: Adds one piece of the log, and binds ``values`` (and ``$piece``). It begins with the
            lines, as `lines_of` gives them.

        reports: Under each name a statement over the filled table, and what it binds.

        listing: A statement whose rows become the CSV; None: there is none.
    """

    table: str
    fill: str
    values: Mapping[str, Any]
    reports: Mapping[str, tuple[str, Mapping[str, Any]]]
    listing: str | None = None


class Answer(NamedTuple):
    """
    Attributes:
        rows: What each of the question's reports found, under its name.

        lines: Lines that were read, of any endpoint and time.

        unreadable: Lines too long to be one, which no report has seen.

        begins: The earliest time at which the part of a file that was read begins; None if no line
            tells.

        is_older_left_out: Whether lines were left out because they were written too early.

        csv: The rows of ``listing``, under the names of its columns.
    """

    rows: dict[str, list[list[Any]]]
    lines: int
    unreadable: int
    begins: datetime | None
    is_older_left_out: bool
    csv: bytes


def lines_of(logs: AccessLogs) -> str:
    """Return the common table expression ``line``: one row for each line of a piece, with ``us``
    (its time in microseconds since 1970; null if unreadable), ``method``, ``status`` (null if
    unreadable), ``raw`` (the path without its query), ``principal``, ``role``, ``tenant``,
    ``owner`` and ``client_ip``.

    The names of keys come from our own table of kinds, and from nowhere else.
    """

    def name(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    keys = ", ".join(f"{name(key)}: 'VARCHAR'" for key in logs.columns.values())
    return _LINE.format(
        columns=", ".join(f"{name(key)} AS {name(column)}" for column, key in logs.columns.items()),
        types="{" + keys + "}",
    )


def ask(
    logs: AccessLogs, question: Question, *, limit_s: int, written_since: datetime | None = None
) -> Answer:
    """Have a question answered from all files of a log.

    Args:
        limit_s: The worker is ended after that many seconds.

        written_since: What was written before that may be left out, files and parts of files.

    Raises:
        ProviderUnreachable: No file matches, or one went away while it was being opened.

        ProviderRefused: A file may not be read or is damaged, or the answer needs more memory
            than the worker may use.

        TimedOut: It took longer than ``limit_s``.

        Failed: The worker could not be started, or ended for another reason.
    """
    request = request_of(logs, question, limit_s=limit_s, written_since=written_since)
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
    except OSError as problem:
        raise Failed(
            f"The log engine could not be started ({problem}), so nothing was counted; look at "
            "what the machine lacks, memory or processes."
        ) from problem
    if ended.returncode != 0:
        raise _error_of(logs, ended.returncode, ended.stderr, limit_s)
    first, _, csv = ended.stdout.partition(b"\n")
    head = json.loads(first)
    return Answer(
        rows=head["rows"],
        lines=head["lines"],
        unreadable=head["unreadable"],
        begins=from_us(head["begins_us"]),
        is_older_left_out=head["is_older_left_out"],
        csv=csv,
    )


def request_of(
    logs: AccessLogs, question: Question, *, limit_s: int, written_since: datetime | None = None
) -> dict[str, Any]:
    """Return what the worker reads. Raises ProviderUnreachable if no file matches."""
    return {
        "files": logs.paths(),
        "time_key": logs.columns["time"],
        "since": written_since
        and (to_us(written_since), logs.columns["time"], logs.columns["duration_ms"]),
        "table": question.table,
        "fill": question.fill,
        "values": dict(question.values),
        "reports": dict(question.reports),
        "list": question.listing,
        "limit_s": limit_s,
        "parent": os.getpid(),
    }


def to_us(moment: datetime) -> int:
    """Return microseconds since 1970, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(moment_us: int | None) -> datetime | None:
    return None if moment_us is None else _EPOCH + timedelta(microseconds=moment_us)


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
