"""Giving a step its next command, and ending it. What the command says is in ``todo``."""

from __future__ import annotations

from bot.action import Effect
from bot.engine.places import Place, closes
from bot.engine.state import StepStatus
from bot.engine.turn import Turn

CHANGES = (Effect.CHANGE, Effect.IRREVERSIBLE)


def plan(turn: Turn, place: Place) -> None:
    """Have a change observed and planned."""
    turn.call(place, StepStatus.PLANNING)


def act(turn: Turn, place: Place) -> None:
    """Do what the step is there for: look, send the notices, or apply the plan."""
    applied = turn.state.applied
    if place.step.effect in CHANGES and place.key not in applied:
        turn.having(applied=(*applied, place.key))
    turn.set(place, leader="", members=(), gathering=())
    turn.call(place, StepStatus.RUNNING)


def verify(turn: Turn, place: Place) -> None:
    """Have a change proven from outside."""
    turn.call(place, StepStatus.VERIFYING)


def undo(turn: Turn, place: Place) -> None:
    """Have a change taken back."""
    turn.call(place, StepStatus.UNDOING)


def applied(turn: Turn, place: Place) -> None:
    """The step has acted. A change is proven next, unless it is about to be taken back."""
    ending = turn.state.ending
    needless = ending is not None and ending.undo and closes(place, turn.state)
    if place.step.effect in CHANGES and not needless:
        turn.set(place, attempt=1)
        verify(turn, place)
    else:
        done(turn, place)


def done(turn: Turn, place: Place) -> None:
    turn.close(place, StepStatus.DONE, failure=None)


def give_up(turn: Turn, place: Place, policy: str, note: str) -> None:
    """End a step that did not get what it waited for: pass it over, or end its sequence."""
    status = StepStatus.SKIPPED if policy == "skip" else StepStatus.STOPPED
    turn.close(place, status, note=note)
