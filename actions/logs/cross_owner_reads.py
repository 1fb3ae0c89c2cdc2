"""Who read objects that belong to someone else. Changes nothing."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, model_validator

from actions.logs.connection import AccessLogs
from actions.logs.paths import pattern_of
from actions.logs.reads import ENTITLED_ROLES, cross_owner_reads
from bot.action import Context, Facts, Params, ReadAction
from bot.errors import BadInput
from bot.model.base import Utc
from bot.model.outcome import Outcome


class CrossOwnerReadsParams(Params):
    """What ``with:`` may hold under a ``logs.cross_owner_reads`` step."""

    endpoint: Annotated[str, Field(examples=["GET /api/orders/{order_id}"])]
    since: Utc
    until: Utc | None = None
    entitled_roles: tuple[str, ...] = ENTITLED_ROLES
    logs: str | None = None

    @model_validator(mode="after")
    def _is_forward(self) -> CrossOwnerReadsParams:
        if self.until is not None and self.until <= self.since:
            message = "until is not after since, so no read can lie between; swap them"
            raise ValueError(message)
        return self


class CrossOwnerReadsFacts(Facts):
    """
    Counts and identifiers of callers; never the people affected, who are only in the evidence.

    Attributes:
        records: Distinct objects read. people: Distinct owners of them. principals: Distinct
            callers, with all unauthenticated ones as one. reads: Requests.

        principal_ids: The callers who read most objects, 20 at most.

        service_accounts: Callers with the role ``service`` who read others' objects, 20 at most,
            *entitled or not*: their work looks the same as that of a thief with their key.

        anonymous_reads: The part of ``reads`` that had no principal.

        entitled_reads: Requests left out because of ``entitled_roles``.

        unknown_owner_reads: Successful requests in the window whose line names no owner; some of
            them may be cross-owner reads.

        unreadable_lines: Lines of any endpoint without a usable time or status.

        covers_window: False if the oldest line is younger than ``since``: what was before, the
            log cannot tell.
    """

    records: int
    people: int
    principals: int
    reads: int
    principal_ids: tuple[str, ...]
    service_accounts: tuple[str, ...]
    anonymous_reads: int
    entitled_reads: int
    unknown_owner_reads: int
    unreadable_lines: int
    lines: int
    first_seen: Utc | None
    last_seen: Utc | None
    since: Utc
    until: Utc
    window: str
    covers_window: bool
    evidence: str
    sha256: str


class CrossOwnerReads(ReadAction[CrossOwnerReadsParams]):
    """
    Find successful requests to objects whose owner is not the caller.

    A request counts if its line matches the endpoint (percent-encoded forms too), was answered
    with 2xx within the window, names an owner that is not the principal, and has a role that is
    not in ``entitled_roles``: support staff read others' objects all day.

    The full list (object, owner, principal, times, reads, addresses) becomes evidence as CSV,
    byte for byte the same for the same log.

    Raises:
        BadInput: ``endpoint`` is not an endpoint's key.

        ProviderUnreachable, ProviderRefused, TimedOut: As ``query.ask`` says.
    """

    name = "logs.cross_owner_reads"
    params = CrossOwnerReadsParams
    facts = CrossOwnerReadsFacts
    timeout_s = 300.0

    def run(self, params: CrossOwnerReadsParams, ctx: Context) -> Outcome:
        logs = ctx.connection(AccessLogs, params.logs)
        until = params.until or ctx.now()
        if params.since >= until:
            # A mistyped year must not become an all-clear.
            raise BadInput(
                f"since ({params.since:%Y-%m-%d %H:%M:%S} UTC) is in the future, so no read can be "
                "counted; nothing was asked. Give a moment in the past."
            )
        answer = cross_owner_reads(
            logs,
            pattern_of(params.endpoint),
            since=params.since,
            until=params.until,
            entitled_roles=params.entitled_roles,
            limit_s=int(self.timeout_s) - 10,
        )
        counts, begins = answer.counts, answer.begins
        window = f"{params.since:%Y-%m-%d %H:%M:%S} to {until:%Y-%m-%d %H:%M:%S} UTC"
        evidence = ctx.evidence.keep(
            f"cross-owner-reads-{_slug(params.endpoint)}.csv",
            answer.csv,
            "text/csv",
            f"{params.endpoint}, {window}: {counts['records']} records of {counts['people']} "
            f"people read by {counts['principals']} other callers",
        )
        facts = CrossOwnerReadsFacts(
            **counts,
            first_seen=answer.first_seen,
            last_seen=answer.last_seen,
            since=params.since,
            until=until,
            window=window,
            covers_window=begins is not None and begins <= params.since,
            evidence=evidence.id,
            sha256=evidence.sha256,
        )
        return Outcome(facts=facts.model_dump(mode="json"), evidence=(evidence,))


def _slug(endpoint: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", endpoint.lower()).strip("-")[:60]
