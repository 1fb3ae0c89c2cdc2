"""Reads access logs with DuckDB, in a process of its own that ends with the answer.

DuckDB keeps some 50 MB once it is loaded and more once it ran, which a server that mostly waits
should not hold; and a process can be ended, whatever the log makes the engine do. This file is
run by its path and imports only the standard library and DuckDB, so it starts in 0.2 s.

In: one JSON object on stdin: the files, and a question as statements of Firedoor's own (see
``query.py``) with the values that they bind. Out: on stdout one line of JSON, and then a list as
CSV, if one is asked for; or status 1 and as stderr's last line ``{"error": …, "detail": …}``.

What DuckDB may touch is one anonymous file in memory, into which the log is copied piece by piece.
So it can open no other file, every piece ends at a line's end, and a line that the gateway is
writing at this moment is left for the next time.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, NamedTuple, Protocol, TextIO

import duckdb

PIECE_BYTES = 32 << 20
PROBE_BYTES = 256 << 10
LONGEST_LINE_BYTES = 16_000_000  # DuckDB's own limit for one JSON object is 16 MiB.
MEMORY_LIMIT = "512MB"
THREADS = 2
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Connection = duckdb.DuckDBPyConnection

_MACROS = r"""
CREATE TEMP MACRO present(x) AS nullif(nullif(x, ''), '-');
CREATE TEMP MACRO without_query(p) AS regexp_extract(p, '^[^?#]*');
CREATE TEMP MACRO decoded(p) AS coalesce(try(url_decode(p)), p);
CREATE TEMP MACRO up_once(p) AS regexp_replace(p, '/[^/]+/\.\.(/|$)', '/');
CREATE TEMP MACRO without_dots(p) AS
    CASE WHEN contains(p, '/.')
    THEN up_once(up_once(up_once(regexp_replace(p, '(/\.)+(/|$)', '/', 'g')))) ELSE p END;
CREATE TEMP MACRO tidy(p) AS
    CASE WHEN contains(p, '//') OR contains(p, '/.') OR suffix(p, '/')
    THEN regexp_replace(without_dots(regexp_replace(p, '//+', '/', 'g')), '(.)/$', '\1')
    ELSE p END;
"""


class Source(Protocol):
    """What a log is read from; returns ``b""`` at its end."""

    def read(self, size: int, /) -> bytes: ...


class Since(NamedTuple):
    """
    What of a log is wanted: what was written from a moment on, in microseconds since 1970.

    A line is written when its request has ended, which its two keys tell: when the request began,
    and how many milliseconds it took.
    """

    moment_us: int
    time_key: str
    duration_key: str

    def is_later_than(self, line: bytes) -> bool:
        """Tell whether a line was certainly written before the moment."""
        try:
            found = json.loads(line)
            began = datetime.fromisoformat(found[self.time_key])
            took = timedelta(milliseconds=float(found[self.duration_key]))
            return began + took < _EPOCH + timedelta(microseconds=self.moment_us)
        except (ValueError, TypeError, KeyError, OverflowError):
            return False


def opened(paths: list[str], since: Since | None) -> tuple[list[Source], bool]:
    """
    Open every file at once, so that a rotation from now on neither hides nor doubles one.

    Returns:
        The files, each from where it is wanted, and whether anything older was left out.
    """
    files: list[Source] = []
    identities = set()
    is_older_left_out = False
    for path in paths:
        file = open(path, "rb")  # noqa: SIM115 - lives as long as this process
        stat = os.fstat(file.fileno())
        if (stat.st_dev, stat.st_ino) in identities:
            file.close()
            continue
        identities.add((stat.st_dev, stat.st_ino))
        if since is not None and stat.st_mtime_ns < since.moment_us * 1_000:
            is_older_left_out |= stat.st_size > 0
            file.close()
        elif path.endswith(".gz"):
            files.append(gzip.GzipFile(fileobj=file))
        else:
            start = 0 if since is None else wanted_from(file, stat.st_size, since)
            is_older_left_out |= start > 0
            files.append(_Bounded(file, stat.st_size - start))
    return files, is_older_left_out


def wanted_from(file: BinaryIO, size_bytes: int, since: Since) -> int:
    """
    Move to a line's begin before which everything is too old, and return where that is.

    Halves the file again and again: lines are in the order in which they were written. What a
    line does not tell counts as wanted, so nothing is left out on doubt.
    """
    low, high = 0, size_bytes
    while high - low > PIECE_BYTES:
        middle = (low + high) // 2
        file.seek(middle)
        broken, _, rest = file.read(PROBE_BYTES).partition(b"\n")
        if since.is_later_than(rest.partition(b"\n")[0]):
            low = middle + len(broken) + 1
        else:
            high = middle
    file.seek(low)
    return low


class _Bounded:
    """A file as long as it was when it was opened."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file, self._left = file, size_bytes

    def read(self, size: int, /) -> bytes:
        block = self._file.read(min(size, self._left))
        self._left -= len(block)
        return block


def pieces(file: Source, counts: dict[str, int]) -> Iterator[bytes]:
    """Yield whole lines, in pieces of about ``PIECE_BYTES``.

    A last line without an end is taken if it is whole JSON, and otherwise left out: its writer
    is not done with it. A line too long to be a log line is counted as unreadable.
    """
    rest, is_skipping = b"", False
    while block := file.read(PIECE_BYTES):
        if is_skipping:
            _, found, block = block.partition(b"\n")
            if not found:
                continue
            is_skipping = False
        cut = block.rfind(b"\n") + 1
        if cut:
            yield rest + block[:cut]
            rest = block[cut:]
        else:
            rest += block
        if len(rest) > LONGEST_LINE_BYTES:
            rest, is_skipping = b"", True
            counts["lines"] += 1
            counts["unreadable"] += 1
    if rest and is_json(rest):
        yield rest + b"\n"


def is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:  # also when it is not UTF-8
        return False
    return True


def scratch_file() -> tuple[int, str]:
    """Return an anonymous file: its descriptor, and the one path that DuckDB may open."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("firedoor-log")
        return descriptor, f"/proc/self/fd/{descriptor}"
    return tempfile.mkstemp(prefix="firedoor-log-")  # where there is no memfd (macOS)


def locked_down(allowed_path: str) -> Connection:
    """Return DuckDB with one readable path, no extensions, no spill files, and no way back."""
    connection = duckdb.connect(":memory:")
    quoted = allowed_path.replace("'", "''")
    for setting in (
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "enable_external_file_cache = false",
        "enable_progress_bar = false",
        "TimeZone = 'UTC'",
        f"threads = {THREADS}",
        f"memory_limit = '{MEMORY_LIMIT}'",
        "temp_directory = ''",
        f"allowed_paths = ['{quoted}']",
        "enable_external_access = false",
    ):
        connection.execute(f"SET {setting}")
    connection.execute(_MACROS)
    connection.execute("SET lock_configuration = true")
    return connection


def write(target: int, content: bytes) -> None:
    os.lseek(target, 0, os.SEEK_SET)
    view = memoryview(content)
    while view:
        view = view[os.write(target, view) :]
    os.ftruncate(target, len(content))


def answer(request: Mapping[str, Any], out: TextIO) -> None:
    """Read all files once and write what the question's statements find."""
    since = request["since"]
    files, is_older_left_out = opened(request["files"], since and Since(*since))
    descriptor, path = scratch_file()
    connection = locked_down(path)
    connection.execute(request["table"])
    values = {"piece": path, **request["values"]}
    counts = {"lines": 0, "unreadable": 0}
    begins: list[str] = []
    for file in files:
        is_first = True
        for piece in pieces(file, counts):
            if os.getppid() != request["parent"]:
                sys.exit(1)  # nobody waits for the answer any more
            if is_first and (begin := first_time(piece, request["time_key"])):
                begins.append(begin)
            is_first = False
            counts["lines"] += piece.count(b"\n")
            write(descriptor, piece)
            connection.execute(request["fill"], values)
    head = {
        **counts,
        "begins_us": earliest_us(connection, begins),
        "is_older_left_out": is_older_left_out,
        "rows": {
            name: connection.execute(statement, bound).fetchall()
            for name, (statement, bound) in request["reports"].items()
        },
    }
    out.write(json.dumps(head) + "\n")
    if request["list"] is not None:
        write_list(connection, request["list"], out)


def first_time(piece: bytes, key: str) -> str | None:
    """Return the time of the first readable line within a piece's first thousand."""
    for line in piece.split(b"\n", 1000)[:1000]:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and isinstance(found.get(key), str):
            return str(found[key])
    return None


def earliest_us(connection: Connection, times: list[str]) -> int | None:
    (row,) = connection.execute(
        "SELECT min(epoch_us(try_cast(x AS TIMESTAMPTZ))) FROM (SELECT unnest($times) AS x)",
        {"times": times},
    ).fetchall()
    found: int | None = row[0]
    return found


def write_list(connection: Connection, statement: str, out: TextIO) -> None:
    """Write rows under their columns' names. A cell that a spreadsheet would run as a formula
    gets a ``'``."""
    rows = connection.execute(statement)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column[0] for column in rows.description or ()])
    while batch := rows.fetchmany(10_000):
        for row in batch:
            writer.writerow([_cell(value) for value in row])


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def main() -> None:
    request = json.load(sys.stdin)
    signal.alarm(request["limit_s"])  # ends this process even inside the engine
    out = open(  # noqa: SIM115 - closed by the end of the process
        sys.stdout.fileno(), "w", encoding="utf-8", errors="surrogateescape", newline="\n"
    )
    error, detail = "", ""
    try:
        answer(request, out)
    except FileNotFoundError as problem:
        error, detail = "gone", str(problem)
    except (OSError, EOFError, zlib.error) as problem:
        error, detail = "file", str(problem)
    except duckdb.OutOfMemoryException:
        error, detail = "memory", MEMORY_LIMIT
    except duckdb.Error as problem:
        error, detail = "engine", f"{type(problem).__name__}: {problem}"[:300]
    out.flush()
    if error:
        sys.exit(json.dumps({"error": error, "detail": detail}))


if __name__ == "__main__":
    main()
