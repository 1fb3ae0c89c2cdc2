"""Reads access logs with DuckDB, in a process of its own that ends with the answer.

DuckDB keeps some 50 MB once it is loaded and more once it ran, which a server that mostly waits
should not hold; and a process can be ended, whatever the log makes the engine do. This file is
run by its path and imports only the standard library and DuckDB, so it starts in 0.2 s.

In: one JSON object on stdin (see ``query.py``). Out: on stdout one line of JSON, the summary, and
then the list as CSV; or status 1 and as stderr's last line ``{"error": …, "detail": …}``.

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
from typing import Any, BinaryIO, Protocol, TextIO

import duckdb

PIECE_BYTES = 32 << 20
LONGEST_LINE_BYTES = 16_000_000  # DuckDB's own limit for one JSON object is 16 MiB.
MEMORY_LIMIT = "512MB"
THREADS = 2
TOP = 20
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Connection = duckdb.DuckDBPyConnection

# A path is compared twice, decoded and as it was logged: `%31` is `1` to the application, but
# `a%2fb` is one segment and not two.
_MACROS = r"""
CREATE TEMP MACRO present(x) AS nullif(nullif(x, ''), '-');
CREATE TEMP MACRO without_query(p) AS regexp_extract(p, '^[^?#]*');
CREATE TEMP MACRO decoded(p) AS coalesce(try(url_decode(p)), p);
CREATE TEMP MACRO up_once(p) AS regexp_replace(p, '/[^/]+/\.\.(/|$)', '/');
CREATE TEMP MACRO without_dots(p) AS
    CASE WHEN contains(p, '/.')
    THEN up_once(up_once(up_once(regexp_replace(p, '(/\.)+(/|$)', '/', 'g')))) ELSE p END;
CREATE TEMP MACRO tidy(p) AS
    regexp_replace(without_dots(regexp_replace(p, '//+', '/', 'g')), '(.)/$', '\1');
"""

_TABLE = """
CREATE TEMP TABLE seen (
    kind VARCHAR, object VARCHAR, owner VARCHAR, principal VARCHAR, role VARCHAR,
    client_ip VARCHAR, reads BIGINT, first_us BIGINT, last_us BIGINT)
"""

_FILL = """
INSERT INTO seen
WITH line AS (
    SELECT epoch_us(try_cast("time" AS TIMESTAMPTZ)) AS us, "method",
        try_cast(status AS INTEGER) AS status, without_query("path") AS raw,
        present(principal) AS principal, present("role") AS "role",
        present(resource_owner) AS owner, present(client_ip) AS client_ip
    FROM (SELECT {columns} FROM read_json($piece, format = 'newline_delimited',
        compression = 'uncompressed', ignore_errors = true, columns = {types}))
), sieved AS (
    SELECT *, us IS NULL OR status IS NULL AS unreadable FROM line
    WHERE us IS NULL OR status IS NULL OR (
        "method" = $method AND status BETWEEN 200 AND 299
        AND us >= $since_us AND ($until_us IS NULL OR us <= $until_us)
        AND (owner IS NULL OR principal IS DISTINCT FROM owner))
), pathed AS (
    SELECT *, tidy(decoded(raw)) AS plain, tidy(raw) AS logged FROM sieved
), matched AS (
    SELECT *, regexp_full_match(plain, $regex) AS is_plain FROM pathed
    WHERE unreadable OR regexp_full_match(plain, $regex) OR regexp_full_match(logged, $regex)
), named AS (
    SELECT *, CASE WHEN is_plain THEN {plain_object} ELSE decoded({logged_object}) END AS object,
        CASE WHEN unreadable THEN 'unreadable' WHEN owner IS NULL THEN 'unknown_owner'
            WHEN list_contains($entitled_roles, "role") THEN 'entitled'
            ELSE 'cross_owner' END AS kind
    FROM matched
)
SELECT kind, object, owner, principal, "role", client_ip, count(*), min(us), max(us)
FROM named WHERE kind IN ('entitled', 'cross_owner') GROUP BY ALL
UNION ALL
SELECT kind, NULL, NULL, NULL, NULL, NULL, count(*), NULL, NULL
FROM named WHERE kind NOT IN ('entitled', 'cross_owner') GROUP BY kind
"""

_COUNTS = """
SELECT count(DISTINCT object), count(DISTINCT owner),
    count(DISTINCT principal) + max((principal IS NULL)::INTEGER),
    sum(reads)::BIGINT, min(first_us), max(last_us),
    coalesce(sum(reads) FILTER (WHERE principal IS NULL), 0)::BIGINT
FROM seen WHERE kind = 'cross_owner'
"""

_TOP = """
SELECT principal FROM seen WHERE kind = 'cross_owner' AND principal IS NOT NULL
GROUP BY principal ORDER BY count(DISTINCT object) DESC, sum(reads) DESC, principal LIMIT $top
"""

_SERVICES = """
SELECT DISTINCT principal FROM seen
WHERE "role" = 'service' AND principal IS NOT NULL ORDER BY principal LIMIT $top
"""

_LIST = """
SELECT object, owner, principal, string_agg(DISTINCT "role", ' ' ORDER BY "role"),
    sum(reads)::BIGINT, strftime(make_timestamp(min(first_us)), '%Y-%m-%dT%H:%M:%S.%fZ'),
    strftime(make_timestamp(max(last_us)), '%Y-%m-%dT%H:%M:%S.%fZ'),
    string_agg(DISTINCT client_ip, ' ' ORDER BY client_ip)
FROM seen WHERE kind = 'cross_owner' GROUP BY object, owner, principal
ORDER BY object, owner, principal NULLS FIRST
"""

_HEADER = "object,owner,principal,roles,reads,first_seen,last_seen,client_ips\n"


class Source(Protocol):
    """What a log is read from; returns ``b""`` at its end."""

    def read(self, size: int, /) -> bytes: ...


def opened(paths: list[str]) -> list[Source]:
    """Open every file at once, so that a rotation from now on neither hides nor doubles one."""
    files: list[Source] = []
    identities = set()
    for path in paths:
        file = open(path, "rb")  # noqa: SIM115 - lives as long as this process
        stat = os.fstat(file.fileno())
        if (stat.st_dev, stat.st_ino) in identities:
            file.close()
            continue
        identities.add((stat.st_dev, stat.st_ino))
        is_packed = path.endswith(".gz")
        files.append(gzip.GzipFile(fileobj=file) if is_packed else _Bounded(file, stat.st_size))
    return files


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
    connection.execute(_TABLE)
    connection.execute("SET lock_configuration = true")
    return connection


def fill_statement(columns: Mapping[str, str], parameters: int) -> str:
    """Return the statement that adds one piece. ``columns`` comes from our own table of kinds,
    ``parameters`` is a number; all that comes from outside is bound."""

    def name(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    def object_of(path: str) -> str:
        groups = ", ".join(f"regexp_extract({path}, $regex, {n + 1})" for n in range(parameters))
        return f"concat_ws('/', {groups})" if groups else path

    keys = ", ".join(f"{name(key)}: 'VARCHAR'" for key in columns.values())
    return _FILL.format(
        columns=", ".join(f"{name(key)} AS {name(column)}" for column, key in columns.items()),
        types="{" + keys + "}",
        plain_object=object_of("plain"),
        logged_object=object_of("logged"),
    )


def write(target: int, content: bytes) -> None:
    os.lseek(target, 0, os.SEEK_SET)
    view = memoryview(content)
    while view:
        view = view[os.write(target, view) :]
    os.ftruncate(target, len(content))


def answer(request: Mapping[str, Any], out: TextIO) -> None:
    """Read all files once and write the summary and the list."""
    files = opened(request["files"])
    descriptor, path = scratch_file()
    connection = locked_down(path)
    statement = fill_statement(request["columns"], request["parameters"])
    values = {
        "piece": path,
        **{
            key: request[key]
            for key in ("method", "regex", "since_us", "until_us", "entitled_roles")
        },
    }
    counts = {"lines": 0, "unreadable": 0}
    begins: list[str] = []
    for file in files:
        is_first = True
        for piece in pieces(file, counts):
            if os.getppid() != request["parent"]:
                sys.exit(1)  # nobody waits for the answer any more
            if is_first and (begin := first_time(piece, request["columns"]["time"])):
                begins.append(begin)
            is_first = False
            counts["lines"] += piece.count(b"\n")
            write(descriptor, piece)
            connection.execute(statement, values)
    out.write(json.dumps(summary(connection, counts, begins)) + "\n")
    write_list(connection, out)


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


def summary(connection: Connection, counts: dict[str, int], begins: list[str]) -> dict[str, Any]:
    by_kind = dict(
        connection.execute("SELECT kind, sum(reads)::BIGINT FROM seen GROUP BY kind").fetchall()
    )
    begins_us = connection.execute(
        "SELECT min(epoch_us(try_cast(x AS TIMESTAMPTZ))) FROM (SELECT unnest($begins) AS x)",
        {"begins": begins},
    ).fetchall()[0][0]
    (found,) = connection.execute(_COUNTS).fetchall()
    records, people, principals, reads, first_us, last_us, anonymous = found
    top = connection.execute(_TOP, {"top": TOP}).fetchall()
    services = connection.execute(_SERVICES, {"top": TOP}).fetchall()
    return {
        "lines": counts["lines"],
        "unreadable_lines": counts["unreadable"] + by_kind.get("unreadable", 0),
        "unknown_owner_reads": by_kind.get("unknown_owner", 0),
        "entitled_reads": by_kind.get("entitled", 0),
        "anonymous_reads": anonymous,
        "records": records,
        "people": people,
        "principals": principals or 0,
        "reads": reads or 0,
        "first_us": first_us,
        "last_us": last_us,
        "begins_us": begins_us,
        "principal_ids": [row[0] for row in top],
        "service_accounts": [row[0] for row in services],
    }


def write_list(connection: Connection, out: TextIO) -> None:
    """Write who read what. A cell that a spreadsheet would run as a formula gets a ``'``."""
    out.write(_HEADER)
    writer = csv.writer(out, lineterminator="\n")
    rows = connection.execute(_LIST)
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
