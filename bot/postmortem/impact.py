"""The impact in exact numbers, each with the records it was taken from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from bot.model import events
from bot.model.containment import Containment, ControlKind
from bot.model.endpoint import Endpoint
from bot.postmortem.document import Figure, Sources
from bot.postmortem.ledger import Ledger, Step
from bot.postmortem.reading import Read
from bot.postmortem.text import (
    UNKNOWN,
    counted,
    duration,
    full_moment,
    listed,
    moment_of,
    plain,
)

COUNTS: tuple[tuple[tuple[str, ...], str, tuple[str, str], bool], ...] = (
    (("records",), "Records read", ("record", "records"), True),
    (("people",), "People affected", ("person", "people"), True),
    (("principals",), "Principals that read them", ("principal", "principals"), True),
    (("reads", "requests"), "Bad requests answered", ("request", "requests"), False),
)
"""Facts of a step that say the same, label, noun, and whether it is UNKNOWN (not left out) when
no step says it. A list or an object under such a fact counts its items."""

FIRST_FACTS = ("first_seen", "first_at", "first_bad_at")
LAST_FACTS = ("last_seen", "last_at", "last_bad_at")


def impact(
    ledger: Ledger, endpoints: Mapping[str, Endpoint], drafted_at: datetime
) -> tuple[Figure, ...]:
    """Return every figure, known or not, in the order it is read."""
    return (
        *_endpoint_figures(ledger, endpoints),
        *_count_figures(ledger),
        _window(ledger),
        _first_bad_figure(ledger),
        _exposure(ledger),
        *_reaction(ledger),
        _closed_time(ledger, drafted_at),
    )


# --- what facts say ----------------------------------------------------------------------------


def count_of(value: Any) -> int | None:
    """Return how many a fact speaks of: a number, or the items of a list or of an object's."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if value >= 0 else None
    if isinstance(value, list | tuple):
        return len(value)
    if isinstance(value, dict) and value:
        inner = [count_of(item) for item in value.values()]
        return None if None in inner else sum(count for count in inner if count is not None)
    return None


def scoping_steps(ledger: Ledger) -> list[Step]:
    """Return the steps that counted who and what was affected."""
    names = [name for names, _, _, required in COUNTS for name in names if required]
    return [
        step
        for step in ledger.steps.values()
        if step.applied is not None
        and any(count_of(step.facts.get(name)) is not None for name in names)
    ]


def _fact_count(step: Step, names: Iterable[str]) -> int | None:
    return next((n for name in names if (n := count_of(step.facts.get(name))) is not None), None)


def nothing_found(ledger: Ledger) -> Sources:
    """Return the records by which every step that counted found nothing; else nothing."""
    steps = scoping_steps(ledger)
    if any(_fact_count(step, COUNTS[0][0]) != 0 for step in steps):
        return ()
    return tuple(step.applied.seq for step in steps if step.applied is not None)


def first_bad_request(ledger: Ledger) -> tuple[datetime, Sources] | None:
    """Return the earliest bad request that any step found."""
    return min(_moments(ledger, FIRST_FACTS), default=None)


def _moments(ledger: Ledger, names: Iterable[str]) -> Iterator[tuple[datetime, Sources]]:
    for step in scoping_steps(ledger):
        for name in names:
            moment = moment_of(step.facts.get(name))
            if moment is not None and step.applied is not None:
                yield moment, (step.applied.seq,)


# --- figures -----------------------------------------------------------------------------------


def _unknown(name: str, label: str, note: str) -> Figure:
    return Figure(name=name, label=label, value=UNKNOWN, note=note, known=False)


def _count_figures(ledger: Ledger) -> Iterator[Figure]:
    steps = scoping_steps(ledger)
    for names, label, nouns, required in COUNTS:
        found = [(step, n) for step in steps if (n := _fact_count(step, names)) is not None]
        for step, number in found:
            of_run = f" of {step.run}" if len({one.run for one, _ in found}) > 1 else ""
            notes = [f"Counted by step {step.id}{of_run}."] if len(found) > 1 else []
            yield Figure(
                name=names[0],
                label=label,
                value=counted(number, *nouns),
                amount=number,
                note=" ".join([*notes, *(_doubts(step) if names == ("records",) else ())]),
                sources=(step.applied.seq,) if step.applied else (),
            )
        if not found and required:
            yield _unknown(names[0], label, "No step counted it.")


def _doubts(step: Step) -> Iterator[str]:
    """Say what the log could not tell, as the step itself reports it."""
    if step.facts.get("covers_window") is False:
        yield "The log does not reach back to the window's beginning: there may be more."
    judged_not = count_of(step.facts.get("unknown_owner_reads"))
    if judged_not:
        yield f"{counted(judged_not, 'further request')} could not be judged: no owner is logged."
    unreadable = count_of(step.facts.get("unreadable_lines"))
    if unreadable:
        yield f"{counted(unreadable, 'line')} of the log could not be read."


def _endpoint_figures(ledger: Ledger, endpoints: Mapping[str, Endpoint]) -> tuple[Figure, Figure]:
    touched = affected_endpoints(ledger, endpoints)
    name, label = "endpoints", "Endpoint" if len(touched) < 2 else "Endpoints"
    if not touched:
        where = _unknown(name, label, "No run named an endpoint.")
        return where, _unknown("data", "Data it shows", "No endpoint is known.")
    sources = tuple(sorted({seq for _, seqs in touched.values() for seq in seqs}))
    where = Figure(name=name, label=label, value=listed(touched), sources=sources)
    classes = sorted({c for found, _ in touched.values() for c in found.data_classification})
    if not classes:
        return where, _unknown("data", "Data it shows", "The inventory does not classify it.")
    data = Figure(name="data", label="Data it shows", value=listed(classes), sources=sources)
    return where, data


def affected_endpoints(
    ledger: Ledger, endpoints: Mapping[str, Endpoint]
) -> dict[str, tuple[Endpoint, Sources]]:
    """Return the endpoints that runs were started for or that were contained, by key.

    An entry that a run pinned comes before the inventory's own of now.
    """
    found: dict[str, tuple[Endpoint, Sources]] = {}
    for read in ledger.events(events.RunStarted):
        assert isinstance(read.event, events.RunStarted)  # noqa: S101  # what was asked for
        for key, endpoint in read.event.endpoints.items():
            found[plain(key)] = (endpoint, (*found.get(plain(key), (None, ()))[1], read.seq))
    for containment, read in ledger.held():
        key = plain(containment.control.endpoint)
        bare = Endpoint(method=containment.control.method, path=containment.control.path)
        known = found.get(key, (endpoints.get(containment.control.endpoint, bare), ()))
        found[key] = (known[0], (*known[1], read.seq))
    return found


def _window(ledger: Ledger) -> Figure:
    label = "Window searched"
    for step in scoping_steps(ledger):
        since = moment_of(step.facts.get("since")) or moment_of(step.params.get("since"))
        until = moment_of(step.facts.get("until")) or moment_of(step.params.get("until"))
        if since is not None and step.applied is not None:
            end = until or step.applied.record.at
            value = f"{full_moment(since)} to {full_moment(end)}"
            note = "" if until else "It ends when the logs were read."
            return Figure(
                name="window", label=label, value=value, note=note, sources=(step.applied.seq,)
            )
    return _unknown("window", label, "No step says over which time it counted.")


def _first_bad_figure(ledger: Ledger) -> Figure:
    label = "First bad request"
    first = first_bad_request(ledger)
    nothing = nothing_found(ledger)
    if first is None and nothing:
        return Figure(name="first_bad_request", label=label, value="None found", sources=nothing)
    if first is None:
        return _unknown("first_bad_request", label, "No step says when it came.")
    last = max(_moments(ledger, LAST_FACTS), default=None)
    note = f"The last one known: {full_moment(last[0])}." if last else ""
    sources = tuple(sorted({*first[1], *(last[1] if last else ())}))
    value = full_moment(first[0])
    return Figure(name="first_bad_request", label=label, value=value, note=note, sources=sources)


def _between(
    name: str, label: str, start: datetime, end: datetime, note: str, sources: Iterable[int]
) -> Figure:
    seconds = (end - start).total_seconds()
    if seconds < 0:
        return _unknown(
            name, label, f"The end is {duration(-seconds)} before the start: two clocks disagree."
        )
    return Figure(
        name=name,
        label=label,
        value=duration(seconds),
        amount=seconds,
        unit="s",
        note=note,
        sources=tuple(sorted(set(sources))),
    )


def _exposure(ledger: Ledger) -> Figure:
    """From the first bad request to the first proof that a containment stops such requests."""
    name, label = "exposure", "Exposure"
    first, nothing = first_bad_request(ledger), nothing_found(ledger)
    if first is None and nothing:
        note = "No bad request was found in the window."
        return Figure(name=name, label=label, value="None found", note=note, sources=nothing)
    proofs = [proof for _, read in ledger.stops() if (proof := ledger.proven(read.key))]
    if not proofs:
        note = "No containment that stops requests was proven; a throttle only slows them."
        return _unknown(name, label, note)
    proof = min(proofs, key=lambda read: read.record.at)
    if first is not None:
        note = "First bad request to the first proven containment that stops such requests."
        return _between(name, label, first[0], proof.record.at, note, (*first[1], proof.seq))
    if ledger.alert is None:
        return _unknown(name, label, "The first bad request is not known.")
    alert, _read = ledger.alert
    least = math.floor((proof.record.at - alert.starts_at).total_seconds())
    note = "The first bad request is not known."
    if least >= 0:
        note += f" At least {duration(least)}, counted from the alert's start."
    return _unknown(name, label, note)


def _reaction(ledger: Ledger) -> Iterator[Figure]:
    """From the alert's arrival (or the incident's opening) to the first containment."""
    alert = ledger.alert
    start = alert[1] if alert else ledger.first("incident_opened")
    begin = "Alert" if alert else "Opening"
    in_force = f"{begin} to first containment in force"
    proven = f"{begin} to first containment proven"
    held = next(ledger.held(), None)
    if start is None or held is None:
        why = "No containment was put in force." if start else "The beginning is not known."
        yield _unknown("to_containment", in_force, why)
        yield _unknown("to_proof", proven, why)
        return
    containment, read = held
    note = f"Its kind: {containment.control.kind.value.replace('_', ' ')}."
    sources = (start.seq, read.seq)
    yield _between("to_containment", in_force, start.record.at, read.record.at, note, sources)
    proofs = [proof for _, other in ledger.held() if (proof := ledger.proven(other.key))]
    if not proofs:
        yield _unknown("to_proof", proven, "No containment was proven from outside.")
        return
    proof = min(proofs, key=lambda one: one.record.at)
    note = f"Proven by step {proof.key[1]}."
    sources = (start.seq, proof.seq)
    yield _between("to_proof", proven, start.record.at, proof.record.at, note, sources)


def _closed_time(ledger: Ledger, drafted_at: datetime) -> Figure:
    """The outage that the containment itself was: how long an endpoint was closed to everyone."""
    name, label = "closed", "Endpoint closed to everyone"
    spans: list[tuple[datetime, datetime]] = []
    sources: set[int] = set()
    open_ended = False
    for containment, read in ledger.held():
        if containment.control.kind is not ControlKind.CLOSE:
            continue
        ended = end_of(ledger, containment)
        end = ended[0] if ended else min(_expiry(ledger, containment), drafted_at)
        open_ended |= ended is None and end == drafted_at
        spans.append((read.record.at, max(end, read.record.at)))
        sources |= {read.seq, *((ended[1].seq,) if ended else ())}
    if not spans:
        held = tuple(read.seq for _, read in ledger.held())
        if not held:
            return _unknown(name, label, "No record says that an endpoint was closed.")
        note = "Other containments were used."
        return Figure(name=name, label=label, value="Never", note=note, sources=held)
    seconds = _union_s(spans)
    note = "It was still closed when this was drafted." if open_ended else ""
    return Figure(
        name=name,
        label=label,
        value=duration(seconds),
        amount=seconds,
        unit="s",
        note=note,
        sources=tuple(sorted(sources)),
    )


def end_of(ledger: Ledger, containment: Containment) -> tuple[datetime, Read] | None:
    """Return when a containment ended, by which record; None if no record says so."""
    kinds = ("containment_lifted", "containment_expired", "containment_withdrawn")
    for read in ledger.of_kind(*kinds):
        if read.containment is not None and read.containment.id == containment.id:
            return read.record.at, read
    return None


def _expiry(ledger: Ledger, containment: Containment) -> datetime:
    expiry = containment.expires_at
    for read in ledger.of_kind("containment_extended"):
        if read.containment is not None and read.containment.id == containment.id:
            expiry = read.containment.expires_at
    return expiry


def _union_s(spans: list[tuple[datetime, datetime]]) -> float:
    total, reached = 0.0, datetime.min.replace(tzinfo=UTC)
    for start, end in sorted(spans):
        total += max((end - max(start, reached)).total_seconds(), 0.0)
        reached = max(reached, end)
    return total
