"""The timeline: one journal record, one calm and exact sentence or two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from bot.model import events
from bot.model.commands import (
    ApplyStep,
    AskApproval,
    AskDecision,
    AskPerson,
    Finish,
    Remind,
    RunStep,
    UndoStep,
    Wait,
)
from bot.model.incident import RunStatus
from bot.model.journal import Record
from bot.postmortem import sentences
from bot.postmortem.document import Entry, Level
from bot.postmortem.questions import Judging, follow
from bot.postmortem.reading import Read, read_all
from bot.postmortem.text import (
    counted,
    json_text,
    listed,
    moment_near,
    plain,
    sentence,
    short,
    starting,
)

_VERB = {"approved": "approved", "rejected": "rejected", "overridden": "broke the glass at"}

Said = tuple[str, Level, bool]
"""Sentence, level, and whether it is minor."""


def timeline(
    records: Iterable[Record], *, full: bool = False, names: Mapping[str, str] | None = None
) -> tuple[Entry, ...]:
    """
    Tell what happened, in the order of the journal.

    Args:
        records: Of one incident, or of one run. Any part of a journal will do: what an earlier
            record would have told is left unsaid.

        full: Also the minor lines: timers, questions put, messages sent, steps' own notes, and
            what a neighbouring line tells better.

        names: How to show an actor; one that is not in it is shown as the journal has it.

    Returns:
        One entry a record. A record of an unknown kind is shown as its kind and body.
    """
    reads = read_all(records)
    scribe = _Scribe(reads, names or {})
    entries = tuple(scribe.with_repeats(entry) for entry in [scribe.entry(r) for r in reads])
    return entries if full else tuple(entry for entry in entries if not entry.minor)


class _Scribe:
    """Writes entries, in order."""

    def __init__(self, reads: tuple[Read, ...], names: Mapping[str, str]) -> None:
        self._names = names
        self._questions = follow(reads)
        self._last_words: dict[tuple[str, ...], tuple[str, str, int]] = {}
        self._repeats: dict[int, list[datetime]] = {}
        held = ("containment_held", "containment_lifted")
        self._shown_as_containment = {r.key for r in reads if r.record.kind in held}
        self._cited = {
            evidence.id
            for r in reads
            if isinstance(r.event, events.Applied)
            for evidence in r.event.outcome.evidence
        }

    def entry(self, read: Read) -> Entry:
        text, level, minor = self._event(read) if read.event else self._fact(read)
        record = read.record
        return Entry(
            at=record.at,
            text=starting(text),
            actor=record.actor,
            seq=record.seq,
            hash_prefix=record.hash[:12],
            run=record.run_id or "",
            step=read.key[1],
            kind=record.kind,
            level=level,
            minor=minor,
            evidence=_evidence_ids(read),
        )

    def _is_repeat(self, read: Read, text: str, about: tuple[str, ...]) -> bool:
        """Tell whether the last record about the same thing said the same; count it if so."""
        kind = read.record.kind
        last = self._last_words.get(about)
        if last is not None and last[:2] == (kind, text):
            self._repeats.setdefault(last[2], []).append(read.record.at)
            return True
        self._last_words[about] = (kind, text, read.seq)
        return False

    def with_repeats(self, entry: Entry) -> Entry:
        """Add to the first of equal lines how often it came again; the others are minor."""
        again = self._repeats.get(entry.seq)
        if not again:
            return entry
        last = moment_near(again[-1], entry.at)
        text = f"{entry.text} It came {counted(len(again), 'more time')}, the last at {last}."
        return entry.model_copy(update={"text": plain(text)})

    def _who(self, actor: str) -> str:
        return plain(self._names.get(actor, actor), 80)

    # --- events of a run -----------------------------------------------------------------------

    def _event(self, read: Read) -> Said:
        text, level, minor = self._event_sentence(read)
        if read.key[1]:
            repeat = self._is_repeat(read, text, ("step", *read.key))
            minor |= repeat and all(isinstance(command, Wait) for command in read.commands)
        follow_up = self._follow_up(read)
        finish = read.command(Finish)
        if finish is not None:
            minor = False
            if finish.status in (RunStatus.FAILED, RunStatus.STOPPED):
                level = Level.FAILURE
        return " ".join(part for part in (text, follow_up) if part), level, minor

    def _event_sentence(self, read: Read) -> Said:
        match read.event:
            case events.Approved() | events.Rejected() | events.Overridden() as event:
                return self._word_on_a_plan(read, event)
            case events.TimerFired():
                return self._timer(read)
            case events.Applied():
                minor = read.key in self._shown_as_containment
                text, level = sentences.applied(read)
                return text, level, minor and not read.event.outcome.evidence
            case events.Asked():
                return sentences.asked(read), Level.INFO, True
            case events.Reminded():
                return *sentences.run_event(read, self._who), True
            case _:
                text, level = sentences.run_event(read, self._who)
                return text, level, False

    def _word_on_a_plan(self, read: Read, event: Judging) -> Said:
        word = self._questions.words[read.seq]
        named = [plain(step, 80) for step in word.plans] or [plain(event.step, 80)]
        steps, verb = listed(named), _VERB[event.kind]
        if word.flaw and isinstance(event, events.Overridden):
            verb = "wanted to break the glass at"
        text = f"{self._who(event.by)} {verb} {steps} (plan {short(event.digest)}…)"
        if word.flaw:
            return f"{text}; it does not count: {word.flaw}.", Level.DECISION, False
        if isinstance(event, events.Overridden):
            text += " and let it go on without its approval"
        elif word.required > 1:
            text += f", {word.count} of {word.required}"
        if not isinstance(event, events.Approved) and event.reason:
            text += f": {plain(event.reason, 300)}"
        return sentence(text), Level.DECISION, False

    def _timer(self, read: Read) -> Said:
        missed = self._questions.missed.get(read.seq)
        if missed is not None:
            return missed, Level.FAILURE, False
        overdue = [c.step for c in read.commands if isinstance(c, Remind) and c.overdue]
        if overdue:
            steps = listed(plain(step, 80) for step in overdue)
            return f"The answer to {steps} is overdue.", Level.INFO, False
        return "A timer fired.", Level.INFO, True

    def _follow_up(self, read: Read) -> str:
        """Say what the event led to, where the next record does not say it."""
        at = read.record.at
        parts = [self._command_sentence(command, read, at) for command in read.commands]
        return " ".join(part for part in parts if part)

    def _command_sentence(self, command: object, read: Read, at: datetime) -> str:
        event = read.event
        match command:
            case AskApproval():
                return sentences.ask_approval(command, at, read.key[1])
            case AskPerson():
                of = f" of {plain(command.assignee, 80)}" if command.assignee else ""
                by = f" until {moment_near(command.expires_at, at)}" if command.expires_at else ""
                return f"People{of} are asked{by}: “{plain(command.ask, 300)}”"
            case AskDecision():
                step = read.key[1]
                about = "" if step in ("", command.step) else f" about {plain(command.step, 80)}"
                return f"People are asked what to do{about}: {listed(command.choices, 'or')}."
            case ApplyStep() if isinstance(event, events.Planned) and event.step == command.step:
                key = (read.record.run_id or "", command.step, command.plan.digest)
                card = self._questions.granted.get(key)
                if card is None:
                    return "It needs no approval."
                return f"It was approved with {plain(card, 80)}."
            case RunStep() if command.attempt > 1 and isinstance(
                event, events.StepFailed | events.TimerFired
            ):
                return f"{plain(command.step, 80)} is tried again, attempt {command.attempt}."
            case UndoStep():
                return f"{plain(command.step, 80)} is taken back."
            case Wait() if isinstance(event, events.StepFailed) and command.until is not None:
                return f"It is tried again at {moment_near(command.until, at)}."
            case Finish():
                run = plain(read.record.run_id or "", 80)
                reason = f": {plain(command.reason, 300)}" if command.reason else ""
                return sentence(f"Run {run} ended, {command.status.value}{reason}")
            case _:
                return ""

    # --- facts of an incident ------------------------------------------------------------------

    def _fact(self, read: Read) -> Said:
        kind = read.record.kind
        if kind in ("gateway_converged", "gateway_drifted"):
            return self._gateway(read)
        if kind == "evidence_kept" and read.evidence is not None:
            minor = read.evidence.id in self._cited
            return sentences.evidence_kept(read.evidence), Level.INFO, minor
        known: Callable[[Read, sentences.Who], sentences.Told | None] | None
        known = sentences.FACTS.get(kind)
        told = known(read, self._who) if known else None
        if told is None:
            body = json_text(read.record.body)
            return f"{plain(kind, 80)}: {body}", Level.INFO, False
        repeat = kind == "alert_joined" and self._is_repeat(read, told[0], (kind,))
        return (*told, repeat or kind in sentences.MINOR_FACTS)

    def _gateway(self, read: Read) -> Said:
        gateway = read.text("gateway") or "The gateway"
        text, level = sentences.gateway(read, gateway)
        repeat = self._is_repeat(read, text, ("gateway", gateway))
        return text, level, repeat or level is Level.INFO


def _evidence_ids(read: Read) -> tuple[str, ...]:
    if read.evidence is not None:
        return (read.evidence.id,)
    outcome = getattr(read.event, "outcome", None)
    return tuple(evidence.id for evidence in outcome.evidence) if outcome else ()


__all__ = ["Entry", "Level", "timeline"]
