"""What was done, row by row: containments, credentials, notices, approvals, evidence, runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from bot.model import events
from bot.model.commands import AskApproval
from bot.model.containment import Containment
from bot.model.outcome import Evidence, Notice
from bot.model.plan import Plan
from bot.postmortem.document import (
    ApprovalRow,
    ContainmentRow,
    CredentialRow,
    Entry,
    EvidenceRow,
    Level,
    Line,
    NoticeRow,
    RunRow,
    Sources,
)
from bot.postmortem.ledger import Ledger, Step
from bot.postmortem.questions import Word, follow
from bot.postmortem.reading import Read
from bot.postmortem.sentences import control_text, notice_problem, proof_text
from bot.postmortem.text import UNKNOWN, counted, facts_text, full_moment, plain, size

MOST_FAILURES = 20
"""Failures that the lessons name one by one."""

NOT_PROVEN = "Not proven."

_CREDENTIAL_NAMES = ("credential", "credential_id", "name")
_OLD_NAMES = ("old", "old_id", "old_key", "old_key_id", "old_version")
_NEW_NAMES = ("new", "new_id", "new_key", "new_key_id", "new_version")
_KINDS_OF_CONTAINMENT = (
    "containment_held",
    "containment_lifted",
    "containment_expired",
    "containment_extended",
    "containment_handed_over",
    "containment_withdrawn",
)


def proof_of(step: Step | None) -> tuple[str, bool]:
    """Return the sentence of a step's proof, and whether it holds."""
    proof = step.proof if step else None
    return (proof_text(proof), proof.ok) if proof else (NOT_PROVEN, False)


# --- containments ------------------------------------------------------------------------------


def containment_rows(
    ledger: Ledger, containments: Sequence[Containment], drafted_at: datetime
) -> tuple[ContainmentRow, ...]:
    """Return every containment that the journal or the store knows, oldest first."""
    newest: dict[str, Containment] = {}
    sources: dict[str, list[int]] = {}
    for read in ledger.of_kind(*_KINDS_OF_CONTAINMENT):
        if read.containment is not None:
            newest[read.containment.id] = read.containment
            sources.setdefault(read.containment.id, []).append(read.seq)
    for containment in containments:
        newest[containment.id] = containment
    withdrawn = {r.containment.id for r in ledger.of_kind("containment_withdrawn") if r.containment}
    return tuple(
        _containment_row(
            ledger, held, tuple(sources.get(held.id, ())), held.id in withdrawn, drafted_at
        )
        for held in sorted(newest.values(), key=lambda c: (c.since, c.id))
    )


def _containment_row(
    ledger: Ledger,
    held: Containment,
    sources: Sources,
    withdrawn: bool,
    drafted_at: datetime,
) -> ContainmentRow:
    step = ledger.steps.get((held.run_id, held.step_id))
    proof, proven = proof_of(step)
    until, ended = _ending(ledger, held, withdrawn, drafted_at)
    verified = (step.verified.seq,) if step and step.verified else ()
    return ContainmentRow(
        id=held.id,
        what=control_text(held.control),
        gateway=held.gateway,
        since=held.since,
        until=until,
        ended=ended,
        by=ledger.who(held.owner),
        reason=plain(held.reason, 200),
        proof=proof,
        proven=proven,
        sources=tuple(sorted({*sources, *verified})),
    )


def _ending(
    ledger: Ledger, held: Containment, withdrawn: bool, drafted_at: datetime
) -> tuple[datetime | None, str]:
    if withdrawn:
        return held.since, "refused by the gateway, never in force"
    if held.lifted_at is not None and held.lifted_by != "expiry":
        return held.lifted_at, f"lifted by {ledger.who(held.lifted_by or 'firedoor')}"
    if held.lifted_at is not None or held.expires_at <= drafted_at:
        return held.lifted_at or held.expires_at, "ended at its expiry"
    return None, f"in force until {full_moment(held.expires_at)}"


# --- credentials and other changes -------------------------------------------------------------


def credential_rows(ledger: Ledger) -> tuple[CredentialRow, ...]:
    return tuple(
        _credential_row(step) for step in ledger.families("credentials") if step.applied is not None
    )


def _credential_row(step: Step) -> CredentialRow:
    said = {**step.params, **step.facts}
    proof, proven = proof_of(step)
    shown = {*_CREDENTIAL_NAMES, *_OLD_NAMES, *_NEW_NAMES}
    details = {k: v for k, v in said.items() if k not in shown and isinstance(v, str | int | bool)}
    undone = "Taken back." if step.undone is not None else ""
    return CredentialRow(
        credential=_named(said, _CREDENTIAL_NAMES),
        old=_named(step.facts, _OLD_NAMES),
        new=_named(step.facts, _NEW_NAMES),
        details=" ".join(part for part in (facts_text(details), undone) if part),
        proof=proof,
        proven=proven and step.undone is None,
        sources=step.sources,
    )


def _named(values: dict[str, Any], names: Sequence[str]) -> str:
    for name in names:
        value = values.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return plain(str(value), 200)
    return UNKNOWN


def other_changes(ledger: Ledger) -> tuple[Line, ...]:
    """Return the changes that no other table shows: all but containments and credentials."""
    shown = {read.key for _, read in ledger.held()}
    return tuple(
        Line(text=_change_text(step), sources=step.sources)
        for key, step in ledger.steps.items()
        if step.plan is not None
        and step.planned is not None
        and step.applied is not None
        and key not in shown
        and step.action.partition(".")[0] != "credentials"
    )


def _change_text(step: Step) -> str:
    summary = plain(step.plan.summary, 400) if step.plan else step.action
    proof, _proven = proof_of(step)
    undone = " It was taken back." if step.undone is not None else ""
    return (
        f"{plain(step.id, 80)} ({plain(step.action, 80)}): {summary.rstrip('.')}. {proof}{undone}"
    )


# --- notices -----------------------------------------------------------------------------------


def notice_rows(ledger: Ledger) -> tuple[NoticeRow, ...]:
    """Return what was delivered, what was not, and what was written but not yet sent."""
    rows, ended = [], set()
    written = _written(ledger)
    for read in ledger.of_kind("notice_sent", "notice_failed"):
        rows.append(_notice_row(read, written.get(read.text("key", 400))))
        ended.add(read.text("key", 400))
    for key, (notice, source) in written.items():
        if key in ended or plain(notice.key, 400) in ended:
            continue
        rows.append(
            NoticeRow(
                audience=notice.audience,
                way=notice.way,
                to=notice.to,
                subject=notice.subject,
                sent_at=None,
                problem="no record says that it was sent",
                sources=(source,),
            )
        )
    return tuple(sorted((row for row in rows if row.audience), key=lambda row: row.audience))


def _written(ledger: Ledger) -> dict[str, tuple[Notice, int]]:
    """Return the notices that steps wrote, by their key in the outbox, with the record of each."""
    found: dict[str, tuple[Notice, int]] = {}
    for read in ledger.events(events.Applied):
        assert isinstance(read.event, events.Applied)  # noqa: S101  # what was asked for
        run, step = read.key
        for notice in read.event.outcome.notices:
            found[plain(f"{run}:{step}:notice:{notice.key}", 400)] = (notice, read.seq)
    return found


def _notice_row(read: Read, written: tuple[Notice, int] | None) -> NoticeRow:
    sent = read.record.kind == "notice_sent"
    notice, source = written or (None, None)
    return NoticeRow(
        audience=read.text("audience"),
        way=read.text("way") or (notice.way if notice else UNKNOWN),
        to=read.text("to"),
        subject=read.text("subject", 300) or (notice.subject if notice else ""),
        sent_at=read.record.at if sent else None,
        problem="" if sent else notice_problem(read) or "it could not be delivered",
        sources=(read.seq,) if source is None else tuple(sorted((source, read.seq))),
    )


# --- approvals ---------------------------------------------------------------------------------


def approval_rows(ledger: Ledger) -> tuple[ApprovalRow, ...]:
    """Return every word on a plan, and the changes that needed none, in order."""
    questions = follow(ledger.reads)
    words = [
        row
        for read in ledger.reads
        for row in _word_rows(ledger, read, questions.words.get(read.seq))
    ]
    return tuple(sorted((*words, *_without_approval(ledger)), key=lambda row: row.at))


def _word_rows(ledger: Ledger, read: Read, word: Word | None) -> Iterator[ApprovalRow]:
    """Yield one row for each step on the card that the word is about."""
    event = read.event
    judging = events.Approved | events.Rejected | events.Overridden
    if word is None or not isinstance(event, judging):
        return
    run, named = read.key
    for key in _steps_of_card(ledger, read.key, event.digest) or (named,):
        step = ledger.steps.get((run, key), Step(run, key))
        plan = _plan_on_card(step, named, event.digest)
        yield ApprovalRow(
            step=key,
            plan=plan.summary if plan else UNKNOWN,
            digest=event.digest,
            decision=_DECISION[event.kind],
            actor=event.by,
            groups=event.groups,
            at=event.at,
            effect=f"does not count: {word.flaw}" if word.flaw else _effect(step, event, word),
            sources=(read.seq,),
        )


_DECISION = {"approved": "approved", "rejected": "rejected", "overridden": "glass broken"}


def _steps_of_card(ledger: Ledger, key: tuple[str, str], digest: str) -> tuple[str, ...]:
    """Return the steps on the card with this digest that was asked about at a step."""
    asks = ledger.steps[key].asks if key in ledger.steps else []
    for ask in asks:
        if ask.step == key[1] and digest_of_card(ask) == digest:
            return (ask.step, *ask.also)
    return ()


def _plan_on_card(step: Step, leader: str, digest: str) -> Plan | None:
    for ask in step.asks:
        if ask.step == leader and digest_of_card(ask) == digest:
            return ask.plan if step.id == ask.step else ask.also.get(step.id)
    return None


def digest_of_card(ask: AskApproval) -> str:
    """Return what a yes binds to. Version 0.1 asked for a yes to the plan alone."""
    return ask.digest or ask.plan.digest


def _effect(
    step: Step, event: events.Approved | events.Rejected | events.Overridden, word: Word
) -> str:
    if isinstance(event, events.Rejected):
        return "the plan was not applied"
    if word.count < word.required:
        return f"{word.count} of {word.required}"
    return _applied(step, word.plans.get(step.id))


def _applied(step: Step, plan: Plan | None) -> str:
    if plan is not None and step.plan is not None and step.plan.digest != plan.digest:
        return "void: the plan changed"
    if step.undone is not None:
        return "applied, then taken back"
    return "applied" if step.applied is not None else "not applied"


def _without_approval(ledger: Ledger) -> Iterator[ApprovalRow]:
    for step in ledger.steps.values():
        if step.plan is None or step.applied is None or step.planned is None or step.asks:
            continue
        yield ApprovalRow(
            step=step.id,
            plan=step.plan.summary,
            digest=step.plan.digest,
            decision="not needed",
            actor="policy of the runbook",
            groups=(),
            at=step.applied.record.at,
            effect=_applied(step, step.plan),
            sources=step.sources,
        )


# --- evidence and runs -------------------------------------------------------------------------


def evidence_rows(ledger: Ledger, evidence: Sequence[Evidence]) -> tuple[EvidenceRow, ...]:
    """Return every kept file that the store or the journal knows, oldest first."""
    sources: dict[str, set[int]] = {}
    found: dict[str, Evidence] = {}
    for read in ledger.reads:
        outcome = getattr(read.event, "outcome", None)
        named = [
            *(outcome.evidence if outcome else ()),
            *([read.evidence] if read.evidence else []),
        ]
        for item in named:
            found[item.id] = item
            sources.setdefault(item.id, set()).add(read.seq)
    found.update({item.id: item for item in evidence})
    return tuple(
        EvidenceRow(
            id=item.id,
            sha256=plain(item.sha256, 64),
            size_bytes=item.size_bytes,
            size=size(item.size_bytes),
            media_type=item.media_type,
            summary=item.summary,
            kept_at=item.kept_at,
            sources=tuple(sorted(sources.get(item.id, ()))),
        )
        for item in sorted(found.values(), key=lambda item: (item.kept_at, item.id))
    )


def run_rows(ledger: Ledger) -> tuple[RunRow, ...]:
    started = {read.record.run_id: read.seq for read in ledger.events(events.RunStarted)}
    return tuple(
        RunRow(
            id=run.id,
            runbook=run.runbook_id,
            digest=plain(run.runbook_digest, 64),
            status=run.status.value,
            started_by=ledger.who(run.origin.actor),
            started_at=run.started_at,
            ended_at=run.ended_at,
            sources=(started[run.id],) if run.id in started else (),
        )
        for run in ledger.runs
    )


def failure_lines(entries: Sequence[Entry]) -> tuple[Line, ...]:
    """Return what the timeline tells as a failure; of very many the rest is counted."""
    failures = [Line(text=e.text, sources=(e.seq,)) for e in entries if e.level is Level.FAILURE]
    if len(failures) <= MOST_FAILURES:
        return tuple(failures)
    left = failures[MOST_FAILURES:]
    text = f"{counted(len(left), 'further failure')} in the journal."
    rest = Line(text=text, sources=tuple(seq for line in left for seq in line.sources))
    return (*failures[:MOST_FAILURES], rest)
