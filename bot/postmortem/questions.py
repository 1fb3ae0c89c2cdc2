"""Which questions were open when a person spoke or a timer fired, by the engine's own rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from bot.model import events
from bot.model.commands import AskApproval, AskPerson
from bot.postmortem.reading import Read
from bot.postmortem.text import listed, plain

StepKey = tuple[str, str]


@dataclass(frozen=True)
class Word:
    """A yes or a no to a plan. ``flaw`` says why it does not count; empty if it does.

    ``count`` is how many had said yes after it, of ``required``; 0 if the question is not known.
    """

    flaw: str = ""
    count: int = 0
    required: int = 0


@dataclass
class _Open:
    ask: AskApproval
    yes: list[str] = field(default_factory=list)


@dataclass
class Questions:
    """``words`` and ``missed`` are by record number; ``missed`` says whom a timer found silent."""

    words: dict[int, Word] = field(default_factory=dict)
    missed: dict[int, str] = field(default_factory=dict)
    _plans: dict[StepKey, _Open] = field(default_factory=dict)
    _manual: dict[StepKey, AskPerson] = field(default_factory=dict)
    _decided: set[StepKey] = field(default_factory=set)

    def take(self, read: Read) -> None:
        """Follow one record."""
        match read.event:
            case events.Approved() | events.Rejected() as event:
                self.words[read.seq] = self._word(read.key, event)
            case events.Answered():
                self._manual.pop(read.key, None)
            case events.TimerFired():
                self._timer(read)
            case _:
                pass
        run = read.record.run_id or ""
        for command in read.commands:
            if isinstance(command, AskApproval):
                self._plans[(run, command.step)] = _Open(command)
                self._decided.discard((run, command.step))
            if isinstance(command, AskPerson):
                self._manual[(run, command.step)] = command

    def _word(self, key: StepKey, event: events.Approved | events.Rejected) -> Word:
        question = self._plans.get(key)
        if question is None:
            return Word("it was decided before" if key in self._decided else "")
        flaw = _flaw(question, event)
        if flaw:
            return Word(flaw, len(question.yes), question.ask.required)
        if isinstance(event, events.Rejected):
            self._close(key)
            return Word()
        question.yes.append(event.by)
        if len(question.yes) >= question.ask.required:
            self._close(key)
        return Word("", len(question.yes), question.ask.required)

    def _close(self, key: StepKey) -> None:
        del self._plans[key]
        self._decided.add(key)

    def _timer(self, read: Read) -> None:
        run, at = read.record.run_id or "", read.record.at
        for key, question in list(self._plans.items()):
            until = question.ask.expires_at
            if key[0] == run and until is not None and at >= until:
                whom = listed((plain(group, 80) for group in question.ask.groups), "or")
                needed = question.ask.required - len(question.yes)
                nobody = f"Nobody of {whom}" if not question.yes else f"Nobody more of {whom}"
                self.missed[read.seq] = f"{nobody} approved {key[1]} in time ({needed} missing)."
                self._close(key)
        for key, manual in list(self._manual.items()):
            until = manual.expires_at
            if key[0] == run and until is not None and at >= until:
                self.missed[read.seq] = f"Nobody answered {key[1]} in time."
                del self._manual[key]


def follow(reads: Iterable[Read]) -> Questions:
    """Follow all records in order."""
    questions = Questions()
    for read in reads:
        questions.take(read)
    return questions


def _flaw(question: _Open, event: events.Approved | events.Rejected) -> str:
    ask = question.ask
    if event.digest != ask.plan.digest:
        return "it is about another plan"
    if event.by in ask.excluded:
        return "who started a run does not approve its steps"
    if set(event.groups).isdisjoint(ask.groups):
        return f"it takes someone of {listed((plain(g, 80) for g in ask.groups), 'or')}"
    if isinstance(event, events.Approved) and event.by in question.yes:
        return "it was counted before"
    return ""
