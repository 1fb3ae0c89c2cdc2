"""Which questions were open when a person spoke or a timer fired, by the engine's own rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from bot.model import events
from bot.model.commands import ApplyStep, AskApproval, AskPerson, Finish, RunStep
from bot.model.plan import Plan
from bot.postmortem.reading import Read
from bot.postmortem.text import listed, plain

StepKey = tuple[str, str]
Judging = events.Approved | events.Rejected | events.Overridden


@dataclass(frozen=True)
class Word:
    """A yes or a no to a card, or that the glass was broken for it. ``flaw`` says why it does not
    count; empty if it does.

    ``count`` is how many had said yes after it, of ``required``; 0 if the question is not known.
    ``plans`` are those on the card, by step, as far as they are known.
    """

    flaw: str = ""
    count: int = 0
    required: int = 0
    plans: dict[str, Plan] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    """Who was asked."""


@dataclass
class _Open:
    ask: AskApproval
    yes: list[str] = field(default_factory=list)


@dataclass
class Questions:
    """
    ``words`` and ``missed`` are by record number; ``missed`` says whom a timer found silent.
    ``granted`` names, by run, step and plan, the step whose card gave it its yes.
    """

    words: dict[int, Word] = field(default_factory=dict)
    missed: dict[int, str] = field(default_factory=dict)
    granted: dict[tuple[str, str, str], str] = field(default_factory=dict)
    _plans: dict[StepKey, _Open] = field(default_factory=dict)
    _manual: dict[StepKey, AskPerson] = field(default_factory=dict)
    _decided: set[StepKey] = field(default_factory=set)

    def take(self, read: Read) -> None:
        """Follow one record."""
        run = read.record.run_id or ""
        match read.event:
            case events.Approved() | events.Rejected() | events.Overridden() as event:
                self.words[read.seq] = self._word(read.key, event)
            case events.Answered():
                self._manual.pop(read.key, None)
            case events.Skipped():
                self._manual.pop(read.key, None)
                if read.key in self._plans:
                    self._close(read.key)
            case events.Cancelled() | events.UndoAsked():
                self._end(run)
            case events.TimerFired():
                self._timer(read)
            case _:
                pass
        if read.command(Finish) is not None:
            self._end(run)
        for command in read.commands:
            if isinstance(command, AskApproval):
                self._plans[(run, command.step)] = _Open(command)
                self._decided.discard((run, command.step))
            if isinstance(command, AskPerson):
                self._manual[(run, command.step)] = command
            if isinstance(command, ApplyStep | RunStep) and (run, command.step) in self._plans:
                self._close((run, command.step))  # it needs none any more

    def _word(self, key: StepKey, event: Judging) -> Word:
        question = self._plans.get(key)
        if question is None:
            return Word("it was decided before" if key in self._decided else "")
        ask = question.ask
        plans = {ask.step: ask.plan, **ask.also}
        flaw = _flaw(question, event)
        if flaw:
            return Word(flaw, len(question.yes), ask.required, plans, ask.groups)
        if isinstance(event, events.Rejected):
            self._close(key)
            return Word(plans=plans, groups=ask.groups)
        question.yes.append(event.by)
        count = len(question.yes)
        if isinstance(event, events.Overridden):
            count = ask.required
        if count >= ask.required:
            self._close(key)
            self.granted |= {(key[0], step, plan.digest): key[1] for step, plan in plans.items()}
        return Word("", count, ask.required, plans, ask.groups)

    def _close(self, key: StepKey) -> None:
        del self._plans[key]
        self._decided.add(key)

    def _end(self, run: str) -> None:
        """Nobody is waited for in a run any more, unless somebody is asked anew."""
        for key in [key for key in self._plans if key[0] == run]:
            self._close(key)
        for key in [key for key in self._manual if key[0] == run]:
            del self._manual[key]

    def _timer(self, read: Read) -> None:
        run, at = read.record.run_id or "", read.record.at
        said: list[str] = []
        for key, question in list(self._plans.items()):
            until = question.ask.expires_at
            if key[0] == run and until is not None and at >= until:
                whom = listed((plain(group, 80) for group in question.ask.groups), "or")
                needed = question.ask.required - len(question.yes)
                nobody = f"Nobody of {whom}" if not question.yes else f"Nobody more of {whom}"
                steps = listed(plain(step, 80) for step in (key[1], *question.ask.also))
                said.append(f"{nobody} approved {steps} in time ({needed} missing).")
                self._close(key)
        for key, manual in list(self._manual.items()):
            until = manual.expires_at
            if key[0] == run and until is not None and at >= until:
                said.append(f"Nobody answered {plain(key[1], 80)} in time.")
                del self._manual[key]
        if said:
            self.missed[read.seq] = " ".join(said)


def follow(reads: Iterable[Read]) -> Questions:
    """Follow all records in order."""
    questions = Questions()
    for read in reads:
        questions.take(read)
    return questions


def _flaw(question: _Open, event: Judging) -> str:
    ask = question.ask
    # Version 0.1 asked for a yes to the plan alone.
    if event.digest != (ask.digest or ask.plan.digest):
        return "it is about another plan"
    if isinstance(event, events.Overridden):
        if ask.break_glass in event.groups:
            return "" if event.reason.strip() else "it has no reason"
        whom = f"it takes someone of {plain(ask.break_glass, 80)}" if ask.break_glass else ""
        return whom or "nobody may break the glass here"
    if event.by in ask.excluded:
        return "who started a run does not approve its steps"
    if set(event.groups).isdisjoint(ask.groups):
        return f"it takes someone of {listed((plain(g, 80) for g in ask.groups), 'or')}"
    if isinstance(event, events.Approved) and event.by in question.yes:
        return "it was counted before"
    return ""
