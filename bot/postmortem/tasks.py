"""Follow-up tasks, generated from what happened. Each has an owner's role and a hint when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from bot.model.endpoint import Endpoint
from bot.model.incident import Incident
from bot.postmortem.document import (
    ContainmentRow,
    CredentialRow,
    Entry,
    Figure,
    NoticeRow,
    Sources,
    Task,
)
from bot.postmortem.glass import review_tasks
from bot.postmortem.impact import affected_endpoints, first_bad_request
from bot.postmortem.ledger import Ledger
from bot.postmortem.text import (
    UNKNOWN,
    clip,
    counted,
    day,
    duration,
    full_moment,
    listed,
    plain,
    quoted,
)

REVIEW_BUSINESS_DAYS = 5
"""PagerDuty's practice: the review of a severe incident is held within five business days."""

KEEP_OLD_KEY_DAYS = 7
"""How long a deactivated key stays, so that a forgotten user of it can be found and moved."""

GDPR_HOURS = 72
"""GDPR, Article 33(1): from becoming aware of a breach of personal data. People decide whether
it applies and when it began; the alert is the earliest, so the safest, moment to count from."""

LATE_DETECTION_S = 300.0
"""Bad requests that went on for longer than this before the alert ask for a better detector."""

MOST_NAMED = 8
"""Endpoints named in one task; the rest is counted."""


def tasks(
    incident: Incident,
    ledger: Ledger,
    endpoints: Mapping[str, Endpoint],
    figures: Sequence[Figure],
    containments: Sequence[ContainmentRow],
    credentials: Sequence[CredentialRow],
    notices: Sequence[NoticeRow],
    entries: Sequence[Entry],
) -> tuple[Task, ...]:
    """Return the tasks, those with a clock first."""
    return (
        *_legal(incident, ledger, figures, notices),
        *review_tasks(ledger),
        *_still_in_force(ledger, containments),
        *_review(incident, ledger),
        *_regression_tests(ledger, endpoints),
        *_similar_endpoints(incident, ledger, endpoints),
        *_old_keys(incident, credentials),
        *_missed_notices(notices),
        *_nobody_to_tell(incident, ledger),
        *_unproven(ledger),
        *_detection(incident, ledger),
        *_drift(incident, entries),
    )


def _by(moment: datetime, days: int) -> str:
    return f"by {day(moment + timedelta(days=days))} ({counted(days, 'day')} after the opening)"


def _first_owner(ledger: Ledger) -> str:
    return ledger.owners[0] if ledger.owners else UNKNOWN


def _role(wanted: str, notices: Sequence[NoticeRow]) -> str:
    """Return an audience's name as the settings spell it, or the role as such."""
    return next((row.audience for row in notices if row.audience.lower() == wanted), wanted)


def _legal(
    incident: Incident,
    ledger: Ledger,
    figures: Sequence[Figure],
    notices: Sequence[NoticeRow],
) -> Iterator[Task]:
    data = next((f for f in figures if f.name == "data" and f.known), None)
    if data is None or "personal" not in data.value:
        return
    start = ledger.alert[1] if ledger.alert else ledger.first("incident_opened")
    begin = start.record.at if start else incident.opened_at
    due = full_moment(begin + timedelta(hours=GDPR_HOURS))
    yield Task(
        title="Decide whether authorities or the people affected must be told, and by when",
        owner=_role("legal", notices),
        due=f"by {due} if GDPR Article 33 applies ({GDPR_HOURS} h from the alert)",
        why="The endpoint shows personal data. Firedoor does not decide what the law asks for.",
        sources=tuple(sorted({*data.sources, *((start.seq,) if start else ())})),
    )


def _still_in_force(ledger: Ledger, rows: Sequence[ContainmentRow]) -> Iterator[Task]:
    for row in rows:
        if row.until is None:
            yield Task(
                title=f"Lift or extend the containment {row.id}: {row.what} at {row.gateway}",
                owner=_first_owner(ledger),
                due=row.ended.removeprefix("in force "),
                why="It ends at its expiry whether or not the fix is there.",
                sources=row.sources,
            )


def _review(incident: Incident, ledger: Ledger) -> Iterator[Task]:
    opened = ledger.first("incident_opened")
    due = incident.opened_at
    left = REVIEW_BUSINESS_DAYS
    while left:
        due += timedelta(days=1)
        left -= due.weekday() < 5
    yield Task(
        title="Hold the review of this postmortem and fill in what is UNKNOWN",
        owner=_first_owner(ledger),
        due=f"by {day(due)} ({counted(REVIEW_BUSINESS_DAYS, 'business day')} after the opening)",
        why="Root cause, prevention and lessons are for people to write.",
        sources=(opened.seq,) if opened else (),
    )


def _regression_tests(ledger: Ledger, endpoints: Mapping[str, Endpoint]) -> Iterator[Task]:
    ownership = any(ledger.families("probe")) or any(
        head.owasp.startswith("API1:") for head in ledger.heads.values()
    )
    what = "a stranger gets 403 on {}, its owner 200"
    other = "it fails while the hole on {} is open"
    for key, (endpoint, sources) in affected_endpoints(ledger, endpoints).items():
        yield Task(
            title=f"Add a regression test: {(what if ownership else other).replace('{}', key)}",
            owner=endpoint.owner or UNKNOWN,
            due="before the next release of the service",
            why="So that the hole cannot come back unnoticed.",
            sources=_unique(sources),
        )


def _unique(sources: Sources) -> Sources:
    return tuple(sorted(set(sources)))


def _similar_endpoints(
    incident: Incident, ledger: Ledger, endpoints: Mapping[str, Endpoint]
) -> Iterator[Task]:
    """Others of the same owner, or that show the same data, may lack the same check."""
    affected = affected_endpoints(ledger, endpoints)
    owners = {found.owner for found, _ in affected.values() if found.owner}
    classes = {c for found, _ in affected.values() for c in found.data_classification}
    similar = sorted(
        key
        for key, endpoint in endpoints.items()
        if plain(key) not in affected
        and (endpoint.owner in owners or not classes.isdisjoint(endpoint.data_classification))
    )
    if not similar:
        return
    named = [plain(key, 120) for key in similar[:MOST_NAMED]]
    more = len(similar) - len(named)
    text = listed([*named, *([f"{more} more"] if more else [])])
    yield Task(
        title=clip(f"Review the ownership check of {text}", 1_500),
        owner=listed(sorted(owners)) or UNKNOWN,
        due=_by(incident.opened_at, 14),
        why="They have the same owner or show the same class of data.",
        sources=_unique(tuple(seq for _, seqs in affected.values() for seq in seqs)),
    )


def _old_keys(incident: Incident, credentials: Sequence[CredentialRow]) -> Iterator[Task]:
    for row in credentials:
        if row.old == UNKNOWN or not row.proven:
            continue
        yield Task(
            title=f"Delete the deactivated key {row.old} of {row.credential}",
            owner="security",
            due=_by(incident.opened_at, KEEP_OLD_KEY_DAYS),
            why="It is kept only until nothing is seen using it. Sessions that were issued for it "
            "may live on until they expire.",
            sources=row.sources,
        )


def _missed_notices(notices: Sequence[NoticeRow]) -> Iterator[Task]:
    for row in notices:
        if row.sent_at is None:
            place = f" ({row.way} {row.to})" if row.to else ""
            yield Task(
                title=f"Tell {row.audience} by another way, and mend this one{place}",
                owner="incident-commander",
                due="now",
                why=f"The notice did not arrive: {row.problem}",
                sources=row.sources,
            )


def _nobody_to_tell(incident: Incident, ledger: Ledger) -> Iterator[Task]:
    """A classification of data that no stakeholder is configured for, as the step reports it."""
    for step in ledger.families("notify"):
        names = step.facts.get("unknown_classifications")
        if step.applied is None or not isinstance(names, list) or not names:
            continue
        yield Task(
            title=f"Say who is told about {listed(quoted(name, 60) for name in names)} data",
            owner="security",
            due=_by(incident.opened_at, 7),
            why="No stakeholder in firedoor.yaml is for it: only those were told who always are.",
            sources=(step.applied.seq,),
        )


def _unproven(ledger: Ledger) -> Iterator[Task]:
    """What failed last, or was changed without a proof, needs a look by hand."""
    for step in ledger.steps.values():
        if step.undone is not None:
            continue
        applied = step.planned is not None and step.applied is not None
        failed = step.failed is not None and (
            step.applied is None or step.failed.seq > step.applied.seq
        )
        if applied and step.verified is not None and not failed:
            continue
        if not applied and not failed:
            continue
        reads = (step.applied, step.failed)
        yield Task(
            title=f"Finish or prove by hand what step {plain(step.id, 80)} ({step.action}) left",
            owner=_first_owner(ledger),
            due="now",
            why="It failed." if failed else "It was applied, and no record proves it.",
            sources=tuple(sorted(read.seq for read in reads if read is not None)),
        )


def _detection(incident: Incident, ledger: Ledger) -> Iterator[Task]:
    first = first_bad_request(ledger)
    if first is None or ledger.alert is None:
        return
    late = (ledger.alert[1].record.at - first[0]).total_seconds()
    if late < LATE_DETECTION_S:
        return
    yield Task(
        title="Make the detector see this sooner",
        owner=_first_owner(ledger),
        due=_by(incident.opened_at, 30),
        why=f"Bad requests went on for {duration(late)} before the alert arrived.",
        sources=_unique((*first[1], ledger.alert[1].seq)),
    )


def _drift(incident: Incident, entries: Sequence[Entry]) -> Iterator[Task]:
    drifts = tuple(e.seq for e in entries if e.kind in ("gateway_drifted", "plan_drifted"))
    if drifts:
        yield Task(
            title="Find out who else changed the gateway or the credential during the incident",
            owner="security",
            due=_by(incident.opened_at, 7),
            why="The world changed while Firedoor was working on it.",
            sources=drifts,
        )
