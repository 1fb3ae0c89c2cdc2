"""Who read whose objects, as a question to access logs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from actions.logs.connection import AccessLogs
from actions.logs.paths import PathPattern
from actions.logs.query import Question, ask, from_us, lines_of, to_us

TOP = 20

ENTITLED_ROLES = ("support", "service")
"""Roles whose work is to read others' objects, where nothing else is said."""

_TABLE = """
CREATE TEMP TABLE seen (
    kind VARCHAR, object VARCHAR, owner VARCHAR, principal VARCHAR, role VARCHAR,
    client_ip VARCHAR, reads BIGINT, first_us BIGINT, last_us BIGINT)
"""

# A path is compared twice, decoded and as it was logged: `%31` is `1` to the application, but
# `a%2fb` is one segment and not two.
_FILL = """
INSERT INTO seen
WITH {lines}, sieved AS (
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

_KINDS = "SELECT kind, sum(reads)::BIGINT FROM seen GROUP BY kind"

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
SELECT object, owner, principal, string_agg(DISTINCT "role", ' ' ORDER BY "role") AS roles,
    sum(reads)::BIGINT AS reads,
    strftime(make_timestamp(min(first_us)), '%Y-%m-%dT%H:%M:%S.%fZ') AS first_seen,
    strftime(make_timestamp(max(last_us)), '%Y-%m-%dT%H:%M:%S.%fZ') AS last_seen,
    string_agg(DISTINCT client_ip, ' ' ORDER BY client_ip) AS client_ips
FROM seen WHERE kind = 'cross_owner' GROUP BY object, owner, principal
ORDER BY object, owner, principal NULLS FIRST
"""


class CrossOwnerAnswer(NamedTuple):
    """The counts, under the names that the facts have; the times of the first and last of these
    reads, and of the log's oldest line; and the list as CSV."""

    counts: dict[str, Any]
    first_seen: datetime | None
    last_seen: datetime | None
    begins: datetime | None
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
        ProviderUnreachable, ProviderRefused, TimedOut, Failed: As ``query.ask`` says.
    """
    question = Question(
        table=_TABLE,
        fill=_fill(logs, pattern.parameters),
        values={
            "method": pattern.method,
            "regex": pattern.regex,
            "since_us": to_us(since),
            "until_us": None if until is None else to_us(until),
            "entitled_roles": list(entitled_roles),
        },
        reports={
            "kinds": (_KINDS, {}),
            "counts": (_COUNTS, {}),
            "top": (_TOP, {"top": TOP}),
            "services": (_SERVICES, {"top": TOP}),
        },
        listing=_LIST,
    )
    answer = ask(logs, question, limit_s=limit_s)
    rows = answer.rows
    by_kind = dict(rows["kinds"])
    (found,) = rows["counts"]
    records, people, principals, reads, first_us, last_us, anonymous = found
    counts = {
        "lines": answer.lines,
        "unreadable_lines": answer.unreadable + by_kind.get("unreadable", 0),
        "unknown_owner_reads": by_kind.get("unknown_owner", 0),
        "entitled_reads": by_kind.get("entitled", 0),
        "anonymous_reads": anonymous,
        "records": records,
        "people": people,
        "principals": principals or 0,
        "reads": reads or 0,
        "principal_ids": [row[0] for row in rows["top"]],
        "service_accounts": [row[0] for row in rows["services"]],
    }
    return CrossOwnerAnswer(counts, from_us(first_us), from_us(last_us), answer.begins, answer.csv)


def _fill(logs: AccessLogs, parameters: int) -> str:
    def object_of(path: str) -> str:
        groups = ", ".join(f"regexp_extract({path}, $regex, {n + 1})" for n in range(parameters))
        return f"concat_ws('/', {groups})" if groups else path

    return _FILL.format(
        lines=lines_of(logs), plain_object=object_of("plain"), logged_object=object_of("logged")
    )
