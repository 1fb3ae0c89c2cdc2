"""How an endpoint is used, and by whom, as a question to access logs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from actions.logs.connection import AccessLogs
from actions.logs.paths import PathPattern
from actions.logs.query import Question, ask, from_us, lines_of, to_us
from actions.logs.reads import ENTITLED_ROLES
from bot.model.containment import ANY_METHOD

TOP = 20
"""Suspects, addresses and callers that are named; the rest is counted."""

CLOCKS_DIFFER = timedelta(minutes=5)
"""By so much a file server's clock may be behind; only what was written longer than this before the
window is left out unread."""

_TABLE = """
CREATE TEMP TABLE seen (
    kind VARCHAR, principal VARCHAR, tenant VARCHAR, client_ip VARCHAR, requests BIGINT,
    successes BIGINT, reads BIGINT, entitled BIGINT, unknown_owner BIGINT, has_tenant BOOLEAN,
    last_us BIGINT)
"""

# As in ``reads.py``, a path is compared twice, decoded and as it was logged.
_FILL = """
INSERT INTO seen
WITH {lines}, timed AS (
    SELECT *, us IS NULL OR status IS NULL AS is_unreadable FROM line
    WHERE us IS NULL OR status IS NULL OR us BETWEEN $since_us AND $until_us
), pathed AS (
    SELECT *, concat_ws(' ', "method", tidy(decoded(raw))) AS plain,
        concat_ws(' ', "method", tidy(raw)) AS logged
    FROM timed
), sorted AS (
    SELECT *, CASE WHEN is_unreadable THEN 'unreadable'
        WHEN regexp_full_match(plain, $except_for) THEN 'other'
        WHEN regexp_full_match(plain, $requests) OR regexp_full_match(logged, $requests)
        THEN 'endpoint' ELSE 'other' END AS kind
    FROM pathed
), judged AS (
    SELECT *, kind = 'endpoint' AND status BETWEEN 200 AND 299 AS is_success,
        is_success AND owner IS NOT NULL AND principal IS DISTINCT FROM owner AS is_cross,
        coalesce(list_contains($entitled_roles, "role"), false) AS is_entitled
    FROM sorted
)
SELECT kind, CASE WHEN kind = 'endpoint' THEN principal END,
    CASE WHEN kind = 'endpoint' THEN tenant END, CASE WHEN kind = 'endpoint' THEN client_ip END,
    count(*), count_if(is_success), count_if(is_cross AND NOT is_entitled),
    count_if(is_cross AND is_entitled), count_if(is_success AND owner IS NULL),
    bool_or(tenant IS NOT NULL), max(us)
FROM judged GROUP BY 1, 2, 3, 4
"""

_TOTALS = """
SELECT coalesce(sum(requests) FILTER (WHERE kind <> 'unreadable'), 0)::BIGINT,
    coalesce(sum(requests) FILTER (WHERE kind = 'unreadable'), 0)::BIGINT,
    coalesce(bool_or(has_tenant) FILTER (WHERE kind <> 'unreadable'), false),
    max(last_us) FILTER (WHERE kind <> 'unreadable')
FROM seen
"""

_ENDPOINT = """
SELECT coalesce(sum(requests), 0)::BIGINT, coalesce(sum(successes), 0)::BIGINT,
    count(DISTINCT principal),
    coalesce(sum(requests) FILTER (WHERE principal IS NULL), 0)::BIGINT,
    count(DISTINCT tenant), coalesce(sum(reads), 0)::BIGINT,
    coalesce(sum(reads) FILTER (WHERE principal IS NULL), 0)::BIGINT,
    coalesce(sum(entitled), 0)::BIGINT, coalesce(sum(unknown_owner), 0)::BIGINT,
    count(DISTINCT principal) FILTER (WHERE reads > 0)
FROM seen WHERE kind = 'endpoint'
"""

_SUSPECTS = """
SELECT principal, sum(reads)::BIGINT, count(DISTINCT client_ip) FROM seen
WHERE reads > 0 AND principal IS NOT NULL
GROUP BY principal ORDER BY 2 DESC, 1 LIMIT $top
"""

_ADDRESSES = """
SELECT client_ip, sum(reads)::BIGINT FROM seen WHERE reads > 0
GROUP BY client_ip ORDER BY 2 DESC, 1 LIMIT $top
"""

_BYSTANDERS = """
SELECT count(DISTINCT principal) FROM seen
WHERE kind = 'endpoint' AND client_ip IN (SELECT client_ip FROM seen WHERE reads > 0)
    AND principal NOT IN (SELECT principal FROM seen WHERE reads > 0 AND principal IS NOT NULL)
"""

_BUSIEST = """
SELECT principal, sum(requests)::BIGINT FROM seen
WHERE kind = 'endpoint' AND principal IS NOT NULL
GROUP BY principal ORDER BY 2 DESC, 1 LIMIT $top
"""


class Suspect(NamedTuple):
    """A caller who read objects of others, how often, and from how many addresses."""

    principal: str
    reads: int
    addresses: int


class Address(NamedTuple):
    """An address from which objects of others were read. None: the lines name none."""

    address: str | None
    reads: int


class Caller(NamedTuple):
    principal: str
    requests: int


@dataclass(frozen=True)
class Traffic:
    """
    The use of one endpoint in a window of time.

    Attributes:
        total: Requests to anything in the log.

        requests: Those to the endpoint, whatever was answered; ``successes`` with 2xx.

        callers: Distinct principals. ``anonymous`` are requests without one.

        tenants: Distinct tenants; None if no line in the window, of any endpoint, names one.

        reads: Successful requests to an object whose owner is known and not the caller, by callers
            without an entitled role. ``anonymous_reads`` is the part without a principal.

        entitled_reads: The same by callers with an entitled role.

        unknown_owner: Successful requests whose line names no owner; some may be such reads.

        suspects: The principals who made most ``reads``, ``TOP`` at most; ``suspects_count``
            counts all.

        addresses: Where most ``reads`` came from, ``TOP`` at most.

        bystanders: Principals who used one of all those addresses and are no suspects.

        busiest: The principals with most requests, ``TOP`` at most.

        lines: All lines that were read; ``unreadable`` the part without a usable time or status.

        covers_window: False if the log begins within the window: what was before, it cannot tell.
            ``begins`` is then when, or None if no line says so.

        last_at: The last request in the window; None if there is none.
    """

    since: datetime
    until: datetime
    total: int
    requests: int
    successes: int
    callers: int
    anonymous: int
    tenants: int | None
    reads: int
    anonymous_reads: int
    entitled_reads: int
    unknown_owner: int
    suspects: tuple[Suspect, ...]
    suspects_count: int
    addresses: tuple[Address, ...]
    bystanders: int
    busiest: tuple[Caller, ...]
    lines: int
    unreadable: int
    covers_window: bool
    begins: datetime | None
    last_at: datetime | None


def traffic(
    logs: AccessLogs,
    patterns: Sequence[PathPattern],
    *,
    since: datetime,
    until: datetime,
    limit_s: int,
    except_for: Sequence[PathPattern] = (),
) -> Traffic:
    """Count how an endpoint is used.

    Args:
        patterns: The endpoint's requests are those that match any of them.

        limit_s: It is given up after that many seconds.

        except_for: What matches any of these is another endpoint's, though it matches
            ``patterns`` too.

    Raises:
        ProviderUnreachable, ProviderRefused, TimedOut, Failed: As ``query.ask`` says.
    """
    top = {"top": TOP}
    question = Question(
        table=_TABLE,
        fill=_FILL.format(lines=lines_of(logs)),
        values={
            "requests": _regex_of(patterns),
            "except_for": _regex_of(except_for),
            "since_us": to_us(since),
            "until_us": to_us(until),
            "entitled_roles": list(ENTITLED_ROLES),
        },
        reports={
            "totals": (_TOTALS, {}),
            "endpoint": (_ENDPOINT, {}),
            "suspects": (_SUSPECTS, top),
            "addresses": (_ADDRESSES, top),
            "bystanders": (_BYSTANDERS, {}),
            "busiest": (_BUSIEST, top),
        },
    )
    answer = ask(logs, question, limit_s=limit_s, written_since=since - CLOCKS_DIFFER)
    rows = answer.rows
    ((total, unreadable, has_tenant, last_us),) = rows["totals"]
    ((requests, successes, callers, anonymous, tenants, *more),) = rows["endpoint"]
    reads, anonymous_reads, entitled_reads, unknown_owner, suspects_count = more
    ((bystanders,),) = rows["bystanders"]
    begins = answer.begins
    return Traffic(
        since=since,
        until=until,
        total=total,
        requests=requests,
        successes=successes,
        callers=callers,
        anonymous=anonymous,
        tenants=tenants if has_tenant else None,
        reads=reads,
        anonymous_reads=anonymous_reads,
        entitled_reads=entitled_reads,
        unknown_owner=unknown_owner,
        suspects=tuple(Suspect(*row) for row in rows["suspects"]),
        suspects_count=suspects_count,
        addresses=tuple(Address(*row) for row in rows["addresses"]),
        bystanders=bystanders,
        busiest=tuple(Caller(*row) for row in rows["busiest"]),
        lines=answer.lines,
        unreadable=answer.unreadable + unreadable,
        # What was left out is from before the window.
        covers_window=answer.is_older_left_out or (begins is not None and begins <= since),
        begins=begins,
        last_at=from_us(last_us),
    )


def _regex_of(patterns: Sequence[PathPattern]) -> str:
    """Return what matches the method, a space and the path of any of the patterns' requests."""
    alternatives = [
        f"{'[^ ]*' if each.method == ANY_METHOD else re.escape(each.method)} "
        f"{each.regex.removeprefix('^').removesuffix('$')}"
        for each in patterns
    ]
    # Nothing is within no pattern, and no request is empty.
    return "|".join(alternatives)
