"""The sections in sentences: summary, cause, trigger, detection, resolution, lessons.

Sentences are made from facts only. What a person has to think about is asked for, visibly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bot.model import events
from bot.model.commands import AskPerson
from bot.model.containment import Containment
from bot.model.incident import Incident, IncidentStatus
from bot.postmortem.document import (
    CredentialRow,
    Entry,
    Figure,
    Line,
    NoticeRow,
    Sources,
)
from bot.postmortem.glass import broken_glass_lines
from bot.postmortem.impact import first_bad_request
from bot.postmortem.ledger import Ledger
from bot.postmortem.reading import Read
from bot.postmortem.rows import failure_lines, proof_of
from bot.postmortem.sentences import control_text, proof_text
from bot.postmortem.text import (
    UNKNOWN,
    counted,
    duration,
    facts_text,
    full_moment,
    listed,
    plain,
    quoted,
    sentence,
    starting,
)

_ENDINGS = ("containment_lifted", "containment_expired")


def unknown(what: str) -> Line:
    """Ask for what no record says."""
    return Line(text=f"{UNKNOWN}. {what}", known=False)


def _fill_in(what: str, ledger: Ledger) -> Line:
    owners = listed(ledger.owners)
    return unknown(f"To fill in{f' by {owners}' if owners else ''}: {what}")


# --- summary -----------------------------------------------------------------------------------


def summary(
    incident: Incident,
    ledger: Ledger,
    figures: Sequence[Figure],
    credentials: Sequence[CredentialRow],
    notices: Sequence[NoticeRow],
) -> tuple[Line, ...]:
    """Return the story in a few sentences, for someone who reads nothing else."""
    lines = (
        _opening(incident, ledger),
        _what_kind(ledger),
        _how_much({figure.name: figure for figure in figures}),
        *_stops(ledger),
        *(_rotation(row) for row in credentials if row.proven),
        _told(notices),
        _last_word(incident, ledger),
    )
    return tuple(line for line in lines if line is not None)


def _opening(incident: Incident, ledger: Ledger) -> Line:
    opened = ledger.first("incident_opened")
    began = f"{incident.id} ({incident.severity.value}) was opened on "
    began += f"{full_moment(incident.opened_at)}"
    if ledger.alert is not None:
        began += f" by an alert of {plain(ledger.alert[0].source, 80)}"
    elif opened is not None:
        began += f" by {ledger.who(opened.record.actor)}"
    return Line(text=f"{began}.", sources=(opened.seq,) if opened else ())


def _what_kind(ledger: Ledger) -> Line | None:
    for read in ledger.events(events.RunStarted):
        head = ledger.heads.get(read.record.run_id or "")
        if head is not None and head.summary:
            owasp = f" ({head.owasp})" if head.owasp else ""
            return Line(text=f"{head.name}{owasp}: {sentence(head.summary)}", sources=(read.seq,))
    return None


def _how_much(figures: dict[str, Figure]) -> Line:
    records, people, principals = (figures[name] for name in ("records", "people", "principals"))
    if not records.known:
        return unknown("How many records and people are affected was not counted.")
    text = f"{records.value} were read"
    text += f" by {principals.value}" if principals.known else ""
    text += f"; {people.value} are affected." if people.known else f"; people: {UNKNOWN}."
    text = text.replace("1 record were", "1 record was") if records.amount == 1 else text
    text = text.replace("1 person are", "1 person is") if people.amount == 1 else text
    sources = sorted({*records.sources, *people.sources, *principals.sources})
    return Line(text=text, sources=tuple(sources))


def _stops(ledger: Ledger) -> Iterator[Line]:
    """One sentence for each proven containment: what, when, how long after the beginning."""
    start = ledger.alert[1] if ledger.alert else ledger.first("incident_opened")
    for containment, read in ledger.held():
        proof = ledger.proven(read.key)
        if proof is None:
            continue
        after = ""
        if start is not None and proof.record.at >= start.record.at:
            took = duration((proof.record.at - start.record.at).total_seconds())
            after = f", {took} after the {'alert' if ledger.alert else 'opening'}"
        yield Line(text=f"{_was(containment)}{after}.", sources=(read.seq, proof.seq))


def _was(containment: Containment) -> str:
    text = control_text(containment.control)
    for now, then in ((" is closed", " was closed"), (" is held", " was held")):
        text = text.replace(now, then)
    text = text.replace(" is refused", " was refused")
    return f"{text} at {plain(containment.gateway, 80)} and proven so from outside"


def _rotation(row: CredentialRow) -> Line:
    text = f"Credential {row.credential} was rotated from {row.old} to {row.new}."
    return Line(text=text, sources=row.sources)


def _told(notices: Sequence[NoticeRow]) -> Line | None:
    told = list(dict.fromkeys(row.audience for row in notices if row.sent_at is not None))
    if not told:
        return None
    sent = [row for row in notices if row.sent_at is not None]
    missing = len(notices) - len(sent)
    text = f"{counted(len(sent), 'notice')} reached {listed(told)}"
    text += f"; {missing} did not arrive." if missing else "."
    return Line(text=text, sources=tuple(sorted(seq for row in notices for seq in row.sources)))


def _last_word(incident: Incident, ledger: Ledger) -> Line:
    changes = [read.seq for read in ledger.of_kind("status_changed")]
    running = [plain(run.id, 80) for run in ledger.runs if not run.status.is_final]
    still = f"; {listed(running)} has not ended" if running else ""
    text = f"At the time of this draft the incident is {incident.status.value}{still}."
    return Line(text=text, sources=_newest(changes))


def _newest(seqs: Iterable[int]) -> Sources:
    newest = max(seqs, default=None)
    return () if newest is None else (newest,)


# --- cause, trigger, detection -----------------------------------------------------------------


def root_cause(ledger: Ledger) -> tuple[Line, ...]:
    asked = "which check was missing, where, since which release, and why no test found it."
    return (_fill_in(asked, ledger),)


def trigger(ledger: Ledger) -> tuple[Line, ...]:
    """What is known of the first bad moment, and what set it off (to fill in)."""
    lines = []
    first = first_bad_request(ledger)
    if first is not None:
        text = f"The first bad request that is known came at {full_moment(first[0])}."
        lines.append(Line(text=text, sources=first[1]))
    if ledger.alert is not None:
        alert, read = ledger.alert
        said = alert.annotations.get("summary") or alert.annotations.get("description")
        if said:
            lines.append(
                Line(text=sentence(f"The alert says: {quoted(said)}"), sources=(read.seq,))
            )
    asked = "what set it off (a release, a setting, a new caller)."
    return (*lines, _fill_in(asked, ledger))


def detection(ledger: Ledger) -> tuple[Line, ...]:
    """How it was noticed, and how late."""
    opened = ledger.first("incident_opened", "run_started")
    if ledger.alert is None:
        if opened is None:
            return (unknown("No record says how it was noticed."),)
        by = ledger.who(opened.record.actor)
        text = f"No alert: {by} began the response at {full_moment(opened.record.at)}."
        return (Line(text=text, sources=(opened.seq,)),)
    alert, read = ledger.alert
    name = alert.labels.get("alertname")
    called = f" {quoted(name, 120)}" if name else ""
    arrived = read.record.at
    delay = (arrived - alert.starts_at).total_seconds()
    text = f"The alert{called} of {plain(alert.source, 80)} arrived at {full_moment(arrived)}"
    if delay >= 0:
        text += f", {duration(delay)} after its condition began by its source's clock"
    lines = [Line(text=f"{text}.", sources=(read.seq,))]
    joined = [other.seq for other in ledger.of_kind("alert_joined")]
    if joined:
        text = f"{counted(len(joined), 'further alert')} joined the incident."
        lines.append(Line(text=text, sources=tuple(joined)))
    first = first_bad_request(ledger)
    if first is not None and first[0] <= arrived:
        text = f"Bad requests went on for {duration((arrived - first[0]).total_seconds())} "
        lines.append(Line(text=f"{text}before the alert arrived.", sources=(*first[1], read.seq)))
    return tuple(lines)


# --- resolution --------------------------------------------------------------------------------


def resolution(incident: Incident, ledger: Ledger, entries: Sequence[Entry]) -> tuple[Line, ...]:
    """The answers of people, the proof of the fix, the end of the containments."""
    lines: list[tuple[int, Line]] = []
    asks = {
        (read.record.run_id or "", command.step): command.ask
        for read in ledger.reads
        for command in read.commands
        if isinstance(command, AskPerson)
    }
    for read in ledger.events(events.Answered):
        lines.append((read.seq, _answer(ledger, read, asks.get(read.key, ""))))
    for step in ledger.families("probe"):
        text, proven = proof_of(step)
        done = step.verified or step.applied
        if proven and done is not None:
            line = Line(text=f"The fix, by step {plain(step.id, 80)}: {text}", sources=(done.seq,))
            lines.append((done.seq, line))
    for entry in entries:
        if entry.kind in _ENDINGS:
            lines.append((entry.seq, Line(text=entry.text, sources=(entry.seq,))))
    ordered = [line for _, line in sorted(lines, key=lambda pair: pair[0])]
    if incident.status in (IncidentStatus.RECOVERED, IncidentStatus.CLOSED):
        return (
            (*ordered, _last_word(incident, ledger)) if ordered else (_last_word(incident, ledger),)
        )
    asked = f"The incident is {incident.status.value}; how it was resolved is to fill in."
    return (*ordered, unknown(asked))


def _answer(ledger: Ledger, read: Read, ask: str) -> Line:
    event = read.event
    assert isinstance(event, events.Answered)  # noqa: S101  # what was asked for
    question = f"{quoted(ask)} " if ask else ""
    values = f": {facts_text(event.values)}" if event.values else ""
    who, when = starting(ledger.who(event.by)), full_moment(read.record.at)
    text = f"{question}{who} answered at {when}{values}"
    return Line(text=sentence(text), sources=(read.seq,))


# --- lessons -----------------------------------------------------------------------------------


def went_well(
    ledger: Ledger, figures: Sequence[Figure], notices: Sequence[NoticeRow]
) -> tuple[Line, ...]:
    lines = [
        Line(text=f"{figure.label}: {figure.value}.", sources=figure.sources)
        for figure in figures
        if figure.name in ("to_containment", "to_proof") and figure.known
    ]
    for step in ledger.steps.values():
        if step.verified is not None and step.proof is not None and step.proof.ok:
            text = f"{plain(step.id, 80)}: {proof_text(step.proof)}"
            lines.append(Line(text=text, sources=(step.verified.seq,)))
    if notices and all(row.sent_at is not None for row in notices):
        every = tuple(sorted(seq for row in notices for seq in row.sources))
        text = f"Every notice arrived ({len(notices)} of {len(notices)})."
        lines.append(Line(text=text, sources=every))
    return (*lines, _fill_in("what else went well.", ledger))


def went_wrong(ledger: Ledger, entries: Sequence[Entry]) -> tuple[Line, ...]:
    asked = _fill_in("what else went wrong.", ledger)
    return (*failure_lines(entries), *broken_glass_lines(ledger), asked)


def lucky(ledger: Ledger) -> tuple[Line, ...]:
    return (_fill_in("what kept it from being worse, and will not next time.", ledger),)


def prevention(ledger: Ledger) -> tuple[Line, ...]:
    asked = "what makes this class of mistake impossible, or found before release."
    return (_fill_in(asked, ledger),)
