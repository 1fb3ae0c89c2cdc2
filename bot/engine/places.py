"""Where steps stand in a run: keys, frames, and what encloses what.

A frame is one instance of a list of steps that see each other: the runbook itself, one iteration of
a foreach, one called runbook. A step's key is its frame's prefix and its id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bot.engine.state import RunState, StepStatus
from bot.language.runbook import Runbook, Step


@dataclass(frozen=True)
class Frame:
    """
    ``book`` is the runbook whose steps these are; ``outer`` the frame around an iteration, whose
    names are seen in it. ``final``: they run at an end, of the run or of a called runbook.
    ``closing``: they stand in a branch that another one has made needless, or in a group that is
    over.
    """

    book: Runbook
    steps: tuple[Step, ...]
    prefix: str = ""
    static: str = ""
    outer: Frame | None = None
    final: bool = False
    closing: bool = False
    inputs: dict[str, Any] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)
    """What the iteration adds to the names that an expression may read."""


@dataclass(frozen=True)
class Place:
    """A step in its frame. ``closing``: as in the frame, for the branch that it stands in."""

    step: Step
    frame: Frame
    closing: bool = False

    @cached_property
    def key(self) -> str:
        return self.frame.prefix + self.step.id

    @property
    def static(self) -> str:
        """Its key without the numbers of iterations, as ``auto`` names it."""
        return self.frame.static + self.step.id


def root(book: Runbook, state: RunState) -> Frame:
    """The frame of the run's own steps."""
    return Frame(book, book.steps, inputs=state.inputs)


def last(book: Runbook, state: RunState) -> Frame:
    """The frame of the run's ``always``."""
    return Frame(book, book.always, final=True, inputs=state.inputs)


def closes(place: Place, state: RunState) -> bool:
    """Tell whether a step ends with what is under way, and gets no further command."""
    if place.frame.final:
        return place.closing or (state.ending is not None and state.ending.cut)
    return place.closing or state.ending is not None


def why_closed(state: RunState) -> str:
    """Say why a step that closes was not gone on with."""
    return "the run goes on without it" if state.ending is None else "the run ended before"


def iteration(place: Place, state: RunState, index: int) -> Frame:
    """The frame of one iteration of the foreach at ``place``."""
    loop, frame = place.step.foreach, place.frame
    items, is_over = state.step(place.key).items, state.step(place.key).status.is_final
    assert loop is not None  # noqa: S101  # called for those only
    assert items is not None  # noqa: S101  # it has begun
    return Frame(
        frame.book,
        loop.steps,
        prefix=f"{place.key}.{index}.",
        static=f"{place.static}.",
        outer=frame,
        final=frame.final,
        closing=place.closing or is_over,
        inputs=frame.inputs,
        names={**frame.names, loop.name: items[index], "index": index},
    )


def called(place: Place, state: RunState) -> tuple[Frame, Frame]:
    """The frames of the runbook that the step at ``place`` calls: its steps, and its ``always``."""
    call = place.step.call
    assert call is not None  # noqa: S101  # called for those only
    assert call.book is not None  # noqa: S101  # linked before it runs
    book, is_over = call.book, state.step(place.key).status.is_final
    common: dict[str, Any] = {
        "prefix": f"{place.key}.",
        "static": f"{place.static}.",
        "inputs": state.step(place.key).inputs or {},
    }
    final = place.frame.final
    return (
        Frame(book, book.steps, final=final, closing=place.closing or is_over, **common),
        Frame(book, book.always, final=True, closing=is_over, **common),
    )


def find(book: Runbook, state: RunState, key: str) -> Place | None:
    """Return the place of a key, or None if there is no such step (yet)."""
    parts = key.split(".")
    found = (_find(frame, state, parts) for frame in (root(book, state), last(book, state)))
    return next((place for place in found if place is not None), None)


def _find(frame: Frame, state: RunState, parts: list[str]) -> Place | None:
    here = next((p for p in flat(frame, state) if p.step.id == parts[0]), None)
    if here is None or len(parts) == 1:
        return here
    return next(
        (
            found
            for prefix, inner in inside(here, state)
            if parts[1 : len(prefix) + 1] == prefix
            and (found := _find(inner, state, parts[len(prefix) + 1 :] or [""])) is not None
        ),
        None,
    )


def inside(place: Place, state: RunState) -> Iterator[tuple[list[str], Frame]]:
    """Yield the frames that a begun foreach or call opens, each with what its keys add."""
    current = state.step(place.key)
    if current.status is StepStatus.PENDING:
        return
    if place.step.foreach is not None:
        for index in range(len(current.items or ())):
            yield [str(index)], iteration(place, state, index)
    if place.step.call is not None and current.inputs is not None:
        for frame in called(place, state):
            yield [], frame


def flat(frame: Frame, state: RunState) -> Iterator[Place]:
    """Yield the places of a frame, those inside a parallel too; frames inside are not entered."""
    yield from _flat(frame.steps, frame, state, closing=frame.closing)


def _flat(
    steps: tuple[Step, ...], frame: Frame, state: RunState, *, closing: bool
) -> Iterator[Place]:
    for step in steps:
        place = Place(step, frame, closing)
        yield place
        if step.parallel is not None:
            current = state.step(place.key)
            needless = closing or current.closing or current.status.is_final
            for branch in step.parallel.branches:
                yield from _flat(branch, frame, state, closing=needless)


def every(book: Runbook, state: RunState) -> Iterator[Place]:
    """Yield every place that there is by now, in the order of the runbook, groups first."""
    for frame in (root(book, state), last(book, state)):
        yield from _every(frame, state)


def _every(frame: Frame, state: RunState) -> Iterator[Place]:
    for place in flat(frame, state):
        yield place
        for _, inner in inside(place, state):
            yield from _every(inner, state)
