"""Where a run stands at each place of its runbook."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from bot.engine.graph.words import value_text
from bot.engine.state import RunState, StepState, StepStatus

EACH = "*"
"""Stands in a place for any iteration."""

Place = tuple[str, ...]
"""A step's key, split at its dots, with ``EACH`` for the number of an iteration."""

_FIRST_SEEN = (
    StepStatus.FAILED,
    StepStatus.STOPPED,
    StepStatus.AWAITING_DECISION,
    StepStatus.AWAITING_APPROVAL,
    StepStatus.AWAITING_ANSWER,
    StepStatus.AWAITING_RETRY,
    StepStatus.UNDOING,
    StepStatus.RUNNING,
    StepStatus.VERIFYING,
    StepStatus.PLANNING,
    StepStatus.UNDONE,
    StepStatus.DONE,
    StepStatus.SKIPPED,
    StepStatus.PENDING,
)
"""Of several iterations, the one that a person should see first decides."""


@dataclass(frozen=True)
class Seen:
    """How it went at one place: one state, or those of every iteration."""

    states: tuple[StepState, ...]

    @property
    def status(self) -> StepStatus:
        found = {state.status for state in self.states}
        return next((each for each in _FIRST_SEEN if each in found), StepStatus.PENDING)

    @property
    def taken(self) -> bool:
        """Whether the run has been here: it began the step and did not pass it over."""
        return any(_was_here(state) for state in self.states)

    @property
    def passed(self) -> bool:
        """Whether the run went past here without doing it."""
        return not self.taken and any(s.status is StepStatus.SKIPPED for s in self.states)

    @property
    def problem(self) -> str:
        """What went wrong, or is to be noted; of several iterations the first."""
        for state in self.states:
            if state.failure is not None:
                return f"{state.failure.error} in {state.failure.phase}: {state.failure.message}"
        return next((state.note for state in self.states if state.note), "")

    @property
    def approvals(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for state in self.states for name in state.approvals))

    @property
    def attempts(self) -> int:
        return max((state.attempt for state in self.states), default=0)

    @property
    def took_s(self) -> float | None:
        """How long it took, from the first beginning to the last end."""
        return _span(self.states)

    @property
    def counts(self) -> str:
        """How many iterations stand where."""
        number = Counter(state.status for state in self.states)
        return ", ".join(
            f"{number[each]} {status_text(each)}" for each in _FIRST_SEEN if number[each]
        )


@dataclass(frozen=True)
class Iteration:
    """One round of a ``foreach``: its key, its item as text, and its steps, by the rest of their
    keys."""

    key: str
    item: str
    own: StepState | None
    steps: Mapping[str, StepState]

    @property
    def seen(self) -> Seen:
        return Seen((self.own,) if self.own is not None else tuple(self.steps.values()))

    @property
    def status(self) -> StepStatus:
        seen = self.seen
        begun = any(state.status is not StepStatus.PENDING for state in self.steps.values())
        waits = any(state.status is StepStatus.PENDING for state in self.steps.values())
        if self.own is None and begun and waits and seen.status is StepStatus.DONE:
            return StepStatus.RUNNING
        return seen.status

    @property
    def took_s(self) -> float | None:
        return _span(tuple(self.steps.values()))

    @property
    def problem(self) -> str:
        for name, state in self.steps.items():
            if state.failure is not None and state.status is not StepStatus.DONE:
                return f"{name}: {state.failure.message}"
        return ""


class Way:
    """Looks up the states of a run by place."""

    def __init__(self, state: RunState) -> None:
        self.state = state
        self._by_place: dict[Place, list[StepState]] = {}
        for key, step in state.steps.items():
            self._by_place.setdefault(place_of(key), []).append(step)

    def at(self, place: Place) -> Seen:
        return Seen(tuple(self._by_place.get(place, ())))

    def iterations(self, place: Place) -> list[Iteration]:
        """Return the rounds of the ``foreach`` at this place, in order."""
        begin = ".".join(place) + "."
        own: dict[int, StepState] = {}
        steps: dict[int, dict[str, StepState]] = {}
        for key, step in self.state.steps.items():
            number, _, rest = key.removeprefix(begin).partition(".")
            if not key.startswith(begin) or not number.isdecimal():
                continue
            steps.setdefault(int(number), {})
            if rest:
                steps[int(number)][rest] = step
            else:
                own[int(number)] = step
        group = self.state.steps.get(".".join(place))
        items = dict(enumerate(map(value_text, group.items or ()))) if group else {}
        return [
            Iteration(f"{begin}{n}", items.get(n, ""), own.get(n), steps[n]) for n in sorted(steps)
        ]

    @property
    def began_at(self) -> datetime | None:
        return min((s.started_at for s in self.state.steps.values() if s.started_at), default=None)

    @property
    def took_s(self) -> float | None:
        return _span(tuple(self.state.steps.values())) if self.state.status.is_final else None


def place_of(key: str) -> Place:
    """Return the place in the runbook that a step's key leads to."""
    return tuple(EACH if part.isdecimal() else part for part in key.split("."))


def status_text(status: StepStatus) -> str:
    return status.value.replace("_", " ")


def _was_here(state: StepState) -> bool:
    if state.status is StepStatus.SKIPPED:
        return False
    return state.started_at is not None or state.status is not StepStatus.PENDING


def _span(states: tuple[StepState, ...]) -> float | None:
    began = [state.started_at for state in states if state.started_at is not None]
    ended = [state.ended_at for state in states if state.ended_at is not None]
    return (max(ended) - min(began)).total_seconds() if began and ended else None
