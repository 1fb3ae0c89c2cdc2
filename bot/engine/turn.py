"""One call of ``advance``: the state as it becomes, and what all parts of the engine do to it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from bot.engine.places import Place, find
from bot.engine.state import Ending, RunState, StepState, StepStatus
from bot.language.runbook import Runbook
from bot.model.incident import RunStatus


class Turn:
    """
    Holds the state while one event is taken into account. Local to one call: nothing outside sees
    it change.

    ``at`` is the event's moment.
    """

    def __init__(self, book: Runbook, state: RunState, at: datetime) -> None:
        self.book, self.at = book, at
        self.state = state.model_copy(update={"steps": dict(state.steps)})

    def step(self, key: str) -> StepState:
        return self.state.step(key)

    def place(self, key: str) -> Place:
        """Return the place of a key that the state holds."""
        place = find(self.book, self.state, key)
        assert place is not None, key  # noqa: S101  # keys in a state come from places
        return place

    def set(self, place: Place | str, **changes: Any) -> StepState:
        """Change fields of a step's state and return it."""
        key = place if isinstance(place, str) else place.key
        changed = self.step(key).model_copy(update=changes)
        self.state.steps[key] = changed
        return changed

    def having(self, **changes: Any) -> None:
        """Change fields of the run's state."""
        self.state = self.state.model_copy(update=changes)

    def call(self, place: Place, status: StepStatus) -> None:
        """Give a step its next command, which ``status`` stands for."""
        current = self.step(place.key)
        self.set(place, status=status, calls=current.calls + 1, deadline=None, asked=True)

    def not_applied(self, place: Place) -> None:
        """Take a change from those to be taken back, unless an earlier attempt may have made it."""
        failure = self.step(place.key).failure
        if failure is None or failure.phase != "apply":
            self.having(applied=tuple(key for key in self.state.applied if key != place.key))

    def close(self, place: Place, status: StepStatus, **changes: Any) -> None:
        """End a step. A card that it led is gone: the others on it are asked anew."""
        cleared: dict[str, Any] = {"deadline": None, "nudge": "", "asked": True}
        cleared |= {"leader": "", "members": (), "gathering": ()}
        self.set(place, status=status, ended_at=self.at, **cleared | changes)

    def end(self, status: RunStatus, reason: str, *, undo: bool = False) -> None:
        """Let the run come to its end. The first reason stays, unless all had gone well until now;
        ``undo`` may be added to it."""
        ending = self.state.ending
        if ending is None:
            ending = Ending(status=status, reason=reason, undo=undo)
        else:
            why = {"status": status, "reason": reason} if ending.status is RunStatus.DONE else {}
            ending = ending.model_copy(update={"undo": ending.undo or undo, **why})
        self.having(ending=ending)

    def after(self, seconds: float | None) -> datetime | None:
        """Return the moment so many seconds from now."""
        return None if seconds is None else self.at + timedelta(seconds=seconds)
