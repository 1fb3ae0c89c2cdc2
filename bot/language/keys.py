"""Steps by their keys: ``close``, ``contain.close``, ``each.2.rotate``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from bot.errors import BadInput
from bot.language.hints import shortened, which
from bot.language.runbook import Runbook, Step

_ID = r"[a-z][a-z0-9_-]{0,63}(?:@[0-9]{1,6})?"
KEY = re.compile(rf"{_ID}(?:\.(?:[0-9]{{1,6}}|{_ID}))*")


def without_numbers(key: str) -> str:
    """Return the way to a step for every iteration: ``each.rotate`` of ``each.2.rotate``."""
    return ".".join(part for part in key.split(".") if not part.isdecimal())


def step_at(runbook: Runbook, key: str, *, any_round: bool = False) -> Step:
    """Return the step that a key leads to, in the runbook or in one that it calls.

    Args:
        any_round: Also take a key that leaves out which iteration it means.

    Raises:
        BadInput: There is none; says what there is.
    """
    scope = _level((*runbook.steps, *runbook.always))
    parts, way = key.split("."), ""
    while True:
        name = parts.pop(0)
        step = scope.get(name)
        if step is None:
            inside = f" in '{way}'" if way else ""
            raise BadInput(f"No step is called '{shortened(name)}'{inside}.{which(name, scope)}")
        if not parts:
            return step
        way = f"{way}.{name}" if way else name
        if step.foreach is not None:
            if parts[0].isdecimal():
                way += f".{parts.pop(0)}"
            elif not any_round:
                raise BadInput(f"'{way}' has rounds. Say which one: {way}.0.{parts[0]}.")
            if not parts:
                raise BadInput(f"'{way}' is a round, not a step. Name a step of it.")
            scope = _level(step.foreach.steps)
        elif step.call is not None and step.call.book is not None:
            scope = _level((*step.call.book.steps, *step.call.book.always))
        else:
            raise BadInput(f"Step '{way}' holds no steps that are named after it.")


def _level(steps: Iterable[Step]) -> dict[str, Step]:
    """Return the steps that see each other, by id; those inside a parallel too."""
    return {step.id: step for step in _flat(steps)}


def _flat(steps: Iterable[Step]) -> Iterator[Step]:
    for step in steps:
        yield step
        if step.parallel is not None:
            for branch in step.parallel.branches:
                yield from _flat(branch)
