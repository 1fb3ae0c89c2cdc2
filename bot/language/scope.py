"""What the reader of steps carries along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bot.language.outline import Place
from bot.language.runbook import Step
from bot.language.yaml_source import Map, Mark

Facts = Mapping[str, Any]
"""What a step leaves, name to type."""

Read = tuple[Step | None, Facts | None]
"""A step and its facts; None is what could not be read, or is not known yet."""


@dataclass
class Scope:
    """What may be read where a step stands. ``facts`` grows as the steps of a sequence are read."""

    place: Place
    facts: dict[str, Facts | None] = field(default_factory=dict)

    def inner(self, place: Place) -> Scope:
        return Scope(place, dict(self.facts))


@dataclass(frozen=True)
class Called:
    """A call that is to be checked once the other runbook is known.

    ``mark`` and ``where`` are those of the name of the runbook.
    """

    step_id: str
    runbook: str
    mark: Mark
    where: str
    given: Map
    given_where: str
