"""What people say to a run as a whole: cancel, pause, resume, skip, retry, undo.

Rule 1: a word that cannot count where the run stands is refused, and never reaches its mailbox: a
        person who hears no must not be obeyed later.
Rule 2: any other word is durable in the mailbox when the call returns; the engine decides.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from bot.action import Effect
from bot.engine import RunState, StepState, StepStatus
from bot.engine.places import Place, closes, find
from bot.errors import NotFound, Refused
from bot.model import events
from bot.model.events import Event
from bot.ports import Clock, Runner, Store, StoredRun
from bot.service.groups import Groups, Person
from bot.service.record import Recorder

MOST_NAMED = 20
"""Steps that an answer names; the rest is counted."""

_FAILED = (StepStatus.AWAITING_DECISION, StepStatus.AWAITING_RETRY, StepStatus.FAILED)

Check = Callable[[StoredRun, RunState, bool], None]
"""Raises why a word cannot count; it is also told whether the run has not heard all words yet."""


def one_line(text: str) -> str:
    """Return someone's words on one line, or nothing if there is nothing to read in them."""
    line = " ".join(text.split())
    return line if any(unicodedata.category(c)[0] in "LNPS" for c in line) else ""


class Verbs:
    """The use cases of those who steer a run."""

    def __init__(
        self, *, store: Store, clock: Clock, recorder: Recorder, runner: Runner, groups: Groups
    ) -> None:
        self._store, self._clock, self._recorder = store, clock, recorder
        self._runner, self._groups = runner, groups

    def cancel(self, run_id: str, person: Person, reason: str = "", *, undo: bool = False) -> str:
        """End a run: its current effect is brought to its end, then nothing more begins.

        Args:
            undo: Whether its changes are taken back; else they stay as they are.

        Raises:
            Refused: It is over.
        """
        event = events.Cancelled(
            at=self._clock.now(), by=person.actor, reason=one_line(reason), undo=undo
        )
        state = self._say(run_id, person, event)
        back = "Its changes are taken back, the last one first."
        if state.ending is not None:
            text = f"{run_id} comes to its end already; nobody is waited for any more."
            return f"{text} {back}" if undo else text
        rest = back if undo else "Containments stay in force until lifted or expired."
        return f"{run_id} is being cancelled. {rest}"

    def pause(self, run_id: str, person: Person, reason: str = "") -> str:
        """Hold a run: what is under way is brought to its end, nothing more begins.

        Raises:
            Refused: It is over, or paused already.
        """

        def check(stored: StoredRun, state: RunState, has_mail: bool) -> None:
            if state.paused is not None and not has_mail:
                raise Refused(f"{run_id} is paused already, by {state.paused_by}.")

        event = events.Paused(at=self._clock.now(), by=person.actor, reason=one_line(reason))
        self._say(run_id, person, event, check)
        return f"{run_id} is being paused. Containments still expire; `resume` lets it go on."

    def resume(self, run_id: str, person: Person) -> str:
        """Let a paused run go on.

        Raises:
            Refused: It is over, or not paused.
        """

        def check(stored: StoredRun, state: RunState, has_mail: bool) -> None:
            if state.paused is None and not has_mail:
                raise Refused(f"{run_id} is not paused; nothing was done.")

        self._say(run_id, person, events.Resumed(at=self._clock.now(), by=person.actor), check)
        return f"{run_id} goes on."

    def skip(self, run_id: str, step_id: str, person: Person, reason: str = "") -> str:
        """Pass over a step that has not begun, or that waits.

        Raises:
            NotFound: There is no such step.

            Refused: The step is over, or its effect is under way, or the run begins no more steps.
        """

        def check(stored: StoredRun, state: RunState, has_mail: bool) -> None:
            place, current = self._at(stored, state, step_id)
            if not (current.status is StepStatus.PENDING or current.is_waiting):
                raise Refused(
                    f"{step_id} of {run_id} is {_shown(current)}, so it cannot be skipped; nothing "
                    "was done. Only a step that has not begun, or that waits, can be."
                )
            if current.status is StepStatus.PENDING and closes(place, state):
                raise Refused(
                    f"{run_id} comes to its end and does not begin {step_id} any more; nothing was "
                    "done."
                )

        event = events.Skipped(
            at=self._clock.now(), step=step_id, by=person.actor, reason=one_line(reason)
        )
        self._say(run_id, person, event, check)
        return f"{step_id} of {run_id} is being skipped."

    def retry(self, run_id: str, step_id: str, person: Person) -> str:
        """Have a failed step tried again now.

        Raises:
            NotFound: There is no such step.

            Refused: The step has not failed, or it cannot be tried again in this run.
        """

        def check(stored: StoredRun, state: RunState, has_mail: bool) -> None:
            place, current = self._at(stored, state, step_id)
            again = f"`firedoor rerun {run_id} STEP` begins a new run from a step."
            if current.failure is None or current.status not in _FAILED:
                raise Refused(
                    f"{step_id} of {run_id} is {_shown(current)} and has not failed, so there is "
                    f"nothing to try again. {again}"
                )
            if place.step.is_group:
                raise Refused(
                    f"{step_id} of {run_id} only holds other steps; nothing was done. Name the one "
                    f"that failed. {again}"
                )
            if current.attempt == 0:
                raise Refused(f"{step_id} of {run_id} was never begun: {current.failure.message}")
            if current.status is StepStatus.FAILED and closes(place, state):
                raise Refused(
                    f"{run_id} comes to its end and tries nothing again; nothing was done. {again}"
                )

        event = events.Retried(
            at=self._clock.now(),
            step=step_id,
            by=person.actor,
            groups=self._groups.of(person.actor),
        )
        self._say(run_id, person, event, check)
        return f"{step_id} of {run_id} is being tried again."

    def undo(self, run_id: str, person: Person, reason: str = "") -> str:
        """Have every change of a run taken back, the last one first; also after its end.

        Raises:
            Refused: It is over, and has changed nothing that can be taken back.
        """
        self._groups.check_known(person)
        event: Event = events.UndoAsked(
            at=self._clock.now(), by=person.actor, reason=one_line(reason)
        )
        event = self._recorder.redacted_event(event)
        with self._store.begin() as tx:
            stored = tx.run(run_id)
            state = RunState.model_validate(stored.state)
            left = self._left(stored, state)
            if stored.run.status.is_final:
                if not left:
                    raise Refused(f"{run_id} has no change that could be taken back.")
                self._recorder.take(tx, stored, event, state)
            else:
                tx.put_message(run_id, event, _key_of(event, stored))
        self._runner.start(run_id)
        self._runner.wake(run_id)
        named = left[::-1][:MOST_NAMED]
        more = [f"{len(left) - len(named)} more"] if len(left) > len(named) else []
        what = ", ".join(named + more) or "none yet"
        return f"The changes of {run_id} are being taken back: {what}."

    def _left(self, stored: StoredRun, state: RunState) -> list[str]:
        """Return the changes of a run that are in effect and can be taken back, oldest first."""
        book = self._recorder.runbook_of(stored.run)
        places = [(key, find(book, state, key)) for key in state.applied]
        return [
            key
            for key, place in places
            if place is not None
            and place.step.effect is Effect.CHANGE
            and state.step(key).status is not StepStatus.UNDONE
        ]

    def _say(
        self, run_id: str, person: Person, event: Event, check: Check = lambda *_: None
    ) -> RunState:
        """Put a verb into a live run's mailbox if it can count; return where the run stands.

        Said again before the run has heard it, it is one word, unless another word came between.

        Raises:
            Refused: It is over.
        """
        self._groups.check_known(person)
        event = self._recorder.redacted_event(event)
        with self._store.begin() as tx:
            stored = tx.run(run_id)
            if stored.run.status.is_final:
                raise Refused(_is_over(stored, event))
            state = RunState.model_validate(stored.state)
            newest = tx.newest_message(run_id)
            check(stored, state, newest is not None)
            if newest is None or _word(newest[1]) != _word(event):
                number = 0 if newest is None else newest[0]
                tx.put_message(run_id, event, _key_of(event, stored, number))
        self._runner.wake(run_id)
        return state

    def _at(self, stored: StoredRun, state: RunState, step_id: str) -> tuple[Place, StepState]:
        place = find(self._recorder.runbook_of(stored.run), state, step_id)
        if place is None:
            named = list(state.steps)[:MOST_NAMED]
            more = (
                f" and {len(state.steps) - len(named)} more"
                if len(state.steps) > MOST_NAMED
                else ""
            )
            raise NotFound(
                f"{stored.run.id} has no step {step_id!r}; it has {', '.join(named)}{more}."
            )
        return place, state.step(step_id)


def _shown(current: StepState) -> str:
    return current.status.value.replace("_", " ")


def _is_over(stored: StoredRun, event: Event) -> str:
    text = f"{stored.run.id} is over ({stored.run.status.value}); nothing was done."
    if getattr(event, "undo", False):
        text += f" `firedoor undo {stored.run.id}` takes its changes back."
    return text


def _word(event: Event) -> tuple[str, str, str]:
    """Return what makes two events the same word of the same person."""
    kind = f"{event.kind}+undo" if getattr(event, "undo", False) else event.kind
    return kind, getattr(event, "step", ""), getattr(event, "by", "")


def _key_of(event: Event, stored: StoredRun, after: int = 0) -> str:
    """Return the mailbox key of a verb: the same one, said again before the run has moved, is one
    word; a person who says it again later, or ``after`` another message, means it again."""
    key = f"{':'.join(_word(event))}:{stored.events}"
    return f"{key}:{after}" if after else key
