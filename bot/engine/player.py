"""Plays the outside world of one rehearsal case: systems, people and the clock.

Rule 1: calls are answered in the order in which the engine lists them. One that takes time is
        answered when that time has passed.
Rule 2: time does not pass by itself. Each event comes a second after the one before; where nothing
        can happen, the clock goes on to the next moment at which something does.
Rule 3: a person acts once the step that the act names waits for one, or nothing is under way any
        more. An act with ``at`` happens at that moment, whatever is under way.
Rule 4: equal cases give equal journals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from bot.engine.advance import advance
from bot.engine.state import RunState, StepState, StepStatus
from bot.errors import BadInput
from bot.language.inputs import bind, match
from bot.language.keys import step_at, without_numbers
from bot.language.rehearsal import Act, Case, Fails, Gives, Rehearsal
from bot.language.runbook import Runbook
from bot.model import commands, events
from bot.model.commands import Command
from bot.model.events import Event, Phase
from bot.model.incident import Origin
from bot.model.outcome import Outcome
from bot.model.plan import Plan

MAX_EVENTS = 5_000
"""A case that goes on for longer goes round in circles."""

TICK = timedelta(seconds=1)

Take = Callable[[RunState | None, Event], tuple[RunState, tuple[Command, ...]]]

Call = (
    commands.PlanStep
    | commands.RunStep
    | commands.ApplyStep
    | commands.VerifyStep
    | commands.UndoStep
)
Ask = commands.AskApproval | commands.AskPerson | commands.AskDecision


@dataclass(frozen=True)
class _UnderWay:
    """A call that was begun: when it ends, and what comes of it."""

    text: str
    ends_at: datetime
    takes_time: bool
    event: Event


class Player:
    """
    One case, played once.

    ``journal`` holds every event, ``commands`` what the engine wanted, each time that it came up
    anew. ``ended`` and ``undone`` are steps in the order in which that happened to them; ``left``
    are acts that the run never came to.
    """

    def __init__(
        self, runbook: Runbook, rehearsal: Rehearsal, case: Case, take: Take | None = None
    ) -> None:
        """
        Args:
            take: What takes an event into account; the engine alone, unless a test has the whole
                service do it.
        """
        self._take = take or (lambda state, event: advance(runbook, state, event))
        self._runbook, self._rehearsal, self._case = runbook, rehearsal, case
        self._now = case.now
        self._acts = [act for act in case.people if act.at_s is None]
        timed = [act for act in case.people if act.at_s is not None]
        self._timed = sorted(timed, key=lambda act: act.at_s or 0.0)
        self._outcomes = {key: list(given) for key, given in case.outcomes.items()}
        self._state: RunState | None = None
        self._todo: tuple[Command, ...] = ()
        self._listed: set[str] = set()
        self._calls: dict[str, _UnderWay] = {}
        self._digests: dict[str, str] = {}
        self._waiting: tuple[StepStatus, int] | None = None
        """How the step stood when the ``wait`` at the head of the acts began."""
        self.journal: list[Event] = []
        self.commands: list[str] = []
        self.ended: list[str] = []
        self.undone: list[str] = []

    @property
    def state(self) -> RunState:
        assert self._state is not None  # noqa: S101  # play() makes it
        return self._state

    @property
    def left(self) -> list[Act]:
        return [*self._acts, *self._timed]

    def play(self) -> None:
        """Go on until the run is over, or waits and nobody does anything.

        Raises:
            BadInput: The case cannot be played.
        """
        event: Event | None = self._start()
        while event is not None:
            self._give(event)
            if len(self.journal) > MAX_EVENTS:
                raise BadInput(
                    f"The case is not over after {MAX_EVENTS} events; it goes in circles."
                )
            event = self._next()

    def _start(self) -> events.RunStarted:
        case, endpoints = self._case, self._rehearsal.endpoints
        auto: tuple[str, ...] = ()
        given = case.inputs
        if case.alert is not None:
            matched = match(self._runbook, case.alert, case.now)
            if matched is None:
                raise BadInput("No trigger of the runbook takes this alert; nothing was started.")
            trigger, given = matched
            auto = trigger.auto
        kind = "alert" if case.alert else "person"
        actor = f"alert:{case.alert.source}" if case.alert else _actor(case.start_by)
        return events.RunStarted(
            at=self._now,
            incident_id="INC-1",
            run_id="INC-1-R1",
            inputs=bind(self._runbook, given, endpoints, case.now),
            origin=Origin(kind=kind, actor=actor),
            alert=case.alert,
            endpoints=dict(endpoints),
            auto=auto,
        )

    def _give(self, event: Event) -> None:
        """Take one event into account, and note what comes of it."""
        before = self._state.steps if self._state else {}
        self._state, self._todo = self._take(self._state, event)
        self.journal.append(event)
        self.ended += self._in_order(
            key
            for key, step in self._state.steps.items()
            if step.status.is_final and key not in self.ended
        )
        for key, step in self._state.steps.items():
            old = before.get(key, StepState()).status
            if step.status is StepStatus.UNDONE and old is not StepStatus.UNDONE:
                self.undone.append(key)
        texts = [_text(command) for command in self._todo if _text(command)]
        self.commands += [text for text in texts if text not in self._listed]
        self._listed = set(texts)
        for command in self._todo:
            if isinstance(command, commands.AskApproval):
                digest = command.digest or command.plan.digest
                self._digests |= dict.fromkeys((command.step, *command.also), digest)
        self._calls = {key: call for key, call in self._calls.items() if call.text in texts}

    def _in_order(self, keys: Iterable[str]) -> list[str]:
        """Put what ended with one event in order: a group ends after all that it holds."""
        alone: list[str] = []
        groups: list[str] = []
        for key in keys:
            (groups if step_at(self._runbook, key).is_group else alone).append(key)
        return [*alone, *reversed(groups)]

    # --- what happens next ---------------------------------------------------------------------

    def _next(self) -> Event | None:
        """Return the next event, or None if there will be none."""
        if not self._todo or isinstance(self._todo[-1], commands.Finish):
            return self._after_the_end()
        self._end_waiting()
        if self._timed and self._at(self._timed[0]) <= self._now:
            return self._do(self._timed.pop(0), self._now + TICK)
        answered = self._answer()
        if answered is not None:
            return answered
        if self._acts and self._acts[0].kind != "wait" and self._is_awaited(self._acts[0]):
            return self._do(self._acts.pop(0), self._now + TICK)
        return self._later()

    def _after_the_end(self) -> Event | None:
        """Only taking everything back still changes something."""
        for acts in (self._acts, self._timed):
            if acts and acts[0].kind == "undo":
                act = acts.pop(0)
                return self._do(act, max(self._now + TICK, self._at(act)))
        return None

    def _answer(self) -> Event | None:
        """Return the answer to the first command that needs no time; begin calls that do."""
        for command in self._todo:
            if isinstance(command, commands.Wait | commands.Finish):
                continue
            if isinstance(command, Ask):
                return self._answered(command, events.Asked(at=self._tick(), step=command.step))
            if isinstance(command, commands.Remind):
                return self._answered(command, events.Reminded(at=self._tick(), step=command.step))
            if command.step not in self._calls:
                self._calls[command.step] = self._begin(command)
            call = self._calls[command.step]
            if not call.takes_time:
                return self._answered(command, call.event.model_copy(update={"at": self._tick()}))
        return None

    def _answered(self, command: Command, event: Event) -> Event:
        """Note that a command is done: where it is listed once more, it is wanted once more."""
        self._listed.discard(_text(command))
        if isinstance(command, Call):
            del self._calls[command.step]
        return event

    def _is_awaited(self, act: Act) -> bool:
        step = self.state.steps.get(act.step)
        return not self._calls or (step is not None and step.is_waiting)

    def _later(self) -> Event | None:
        """Let time pass until the next thing that happens by itself, if there is one."""
        last = self._todo[-1]
        until = last.until if isinstance(last, commands.Wait) else None
        head = self._acts[0] if self._acts else None
        waits = head is not None and head.kind == "wait" and self._is_awaited(head)
        if waits and head and self._waiting is None:
            self._waiting = self._standing(head.step)
        ends = min(self._calls.values(), key=lambda call: call.ends_at, default=None)
        act = self._timed[0] if self._timed else None
        moments = [
            *([ends.ends_at] if ends else []),
            *([self._at(act)] if act else []),
            *([until] if until and (waits or ends or act) else []),
        ]
        if not moments:
            return None
        first = min(moments)
        at = max(self._now + TICK, first)
        if ends and ends.ends_at == first:
            command = next(c for c in self._todo if _text(c) == ends.text)
            self._now = at
            return self._answered(command, ends.event.model_copy(update={"at": at}))
        if act and self._at(act) == first:
            self._timed.pop(0)
            return self._do(act, at)
        self._now = at
        self._pass_deadline(first)
        return events.TimerFired(at=at)

    # --- waiting -------------------------------------------------------------------------------

    def _standing(self, key: str) -> tuple[StepStatus, int]:
        step = self.state.steps.get(key, StepState())
        return step.status, step.attempt

    def _end_waiting(self) -> None:
        """Take the ``wait`` away whose step does not wait for the same any more."""
        if self._waiting is None:
            return
        if self._standing(self._acts[0].step) != self._waiting:
            self._acts.pop(0)
            self._waiting = None

    def _pass_deadline(self, moment: datetime) -> None:
        """A ``wait`` is over with its step's own deadline, or with any if it has none."""
        if self._waiting is None:
            return
        step = self.state.steps.get(self._acts[0].step, StepState())
        if not step.is_waiting or step.deadline is None or step.deadline <= moment:
            self._acts.pop(0)
            self._waiting = None

    # --- systems -------------------------------------------------------------------------------

    def _begin(self, command: Call) -> _UnderWay:
        event, takes_s = self._comes_of(command)
        return _UnderWay(
            text=_text(command),
            ends_at=self._now + timedelta(seconds=takes_s),
            takes_time=takes_s > 0,
            event=event,
        )

    def _comes_of(self, command: Call) -> tuple[Event, float]:
        """Return what a call gives, and how long it takes; its moment is set when it ends."""
        at, step = self._now, command.step
        phase = _PHASES[type(command)]
        given = self._given(step)
        fails = given[0] if given else None
        if isinstance(fails, Fails) and _is_in(fails, phase):
            if len(given) > 1:
                given.pop(0)
            failed = events.StepFailed(
                at=at,
                step=step,
                phase=phase,
                error=fails.error,
                message=fails.message,
                retry_after_s=fails.retry_after_s,
            )
            return failed, fails.takes_s
        match command:
            case commands.PlanStep():
                plan = Plan(
                    action=command.action,
                    params=command.params,
                    summary="A rehearsed plan.",
                    before=None,
                    after=None,
                )
                return events.Planned(at=at, step=step, plan=plan), 0.0
            case commands.VerifyStep():
                return events.Verified(at=at, step=step, outcome=Outcome()), 0.0
            case commands.UndoStep():
                return events.Undone(at=at, step=step, outcome=Outcome()), 0.0
            case _:
                gives = next((each for each in given if isinstance(each, Gives)), Gives())
                if len(given) > 1 and gives in given:
                    given.remove(gives)
                names = step_at(self._runbook, step).fact_names
                outcome = Outcome(facts={**dict.fromkeys(names), **gives.facts})
                return events.Applied(at=at, step=step, outcome=outcome), gives.takes_s

    def _given(self, key: str) -> list[Gives | Fails]:
        """Return what is left of a step's outcomes; each iteration uses up its own."""
        if key not in self._outcomes:
            self._outcomes[key] = list(self._case.outcomes.get(without_numbers(key), ()))
        return self._outcomes[key]

    # --- people --------------------------------------------------------------------------------

    def _at(self, act: Act) -> datetime:
        return self._case.now + timedelta(seconds=act.at_s or 0.0)

    def _tick(self) -> datetime:
        self._now += TICK
        return self._now

    def _do(self, act: Act, at: datetime) -> Event:
        self._now = at
        by, step = _actor(act.by), act.step
        match act.kind:
            case "approve":
                digest = self._digest(step)
                return events.Approved(at=at, step=step, digest=digest, by=by, groups=act.groups)
            case "reject":
                return events.Rejected(
                    at=at,
                    step=step,
                    digest=self._digest(step),
                    by=by,
                    groups=act.groups,
                    reason=act.reason,
                )
            case "override":
                return events.Overridden(
                    at=at,
                    step=step,
                    digest=self._digest(step),
                    by=by,
                    groups=act.groups,
                    reason=act.reason,
                )
            case "answer":
                values = dict(act.values)
                return events.Answered(at=at, step=step, by=by, groups=act.groups, values=values)
            case "decide":
                choice = act.choice or "stop"
                return events.Decided(at=at, step=step, by=by, groups=act.groups, choice=choice)
            case "skip":
                return events.Skipped(at=at, step=step, by=by, reason=act.reason)
            case "retry":
                return events.Retried(at=at, step=step, by=by, groups=act.groups)
            case "pause":
                return events.Paused(at=at, by=by, reason=act.reason)
            case "resume":
                return events.Resumed(at=at, by=by)
            case "undo":
                return events.UndoAsked(at=at, by=by, reason=act.reason)
            case _:  # cancel; a wait is not done, it passes
                return events.Cancelled(at=at, by=by, reason=act.reason, undo=act.undo)

    def _digest(self, key: str) -> str:
        """Return what a yes binds to: what the newest question about the step showed."""
        step = self.state.steps.get(key)
        plan = step.plan.digest if step and step.plan else ""
        return self._digests.get(key, plan)


_PHASES: dict[type[Call], Phase] = {
    commands.PlanStep: "plan",
    commands.RunStep: "run",
    commands.ApplyStep: "apply",
    commands.VerifyStep: "verify",
    commands.UndoStep: "undo",
}


def _is_in(fails: Fails, phase: Phase) -> bool:
    return fails.phase == phase or (fails.phase is None and phase in ("run", "apply"))


def _text(command: Command) -> str:
    """Return a command in a few words; nothing for a wait."""
    match command:
        case commands.Wait():
            return ""
        case commands.Finish():
            return f"finish {command.status.value}"
        case _:
            return f"{command.kind.removesuffix('_step').replace('_', ' ')} {command.step}"


def _actor(name: str) -> str:
    return name if ":" in name else f"slack:{name}"
