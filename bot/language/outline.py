"""Where every step of a file stands, found out before any of them is read.

So a step that reads another one that is not over yet can be told why, and a step that is broken
does not make its id unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bot.language.fields import Section
from bot.language.yaml_source import List, Map, Mark, Node, Scalar

KINDS = ("uses", "manual", "parallel", "foreach", "runbook")
"""The keys that say what a step is; each step has one."""


@dataclass(frozen=True)
class Around:
    """Something that a step stands in. ``name`` is that of a group; ``branch`` counts from 0."""

    kind: Literal["steps", "always", "parallel", "foreach"]
    name: str = ""
    branch: int = 0


Place = tuple[Around, ...]
"""All that a step stands in, from the outside in."""


def depth_of(place: Place) -> int:
    """Return how many groups are around."""
    return len(place) - 1


def frame_of(place: Place) -> Place:
    """Return the sequence that a step belongs to, branches of a parallel being part of theirs."""
    return tuple(around for around in place if around.kind != "parallel")


def is_branch(node: Node) -> bool:
    """Tell whether a branch is a list of steps, not one step."""
    return isinstance(node, Map) and node.get("steps") is not None and not any(map(node.get, KINDS))


@dataclass
class Outline:
    """
    What stands where.

    Args:
        places: Of each id, the first place where it is used.

        unnamed: Ids for the steps that are ``parallel`` and have none, by their place in the file.

        inside: The ids within a step that holds others, by its place in the file.

        count: Of all steps.
    """

    places: dict[str, Place] = field(default_factory=dict)
    unnamed: dict[Mark, str] = field(default_factory=dict)
    inside: dict[Mark, tuple[str, ...]] = field(default_factory=dict)
    count: int = 0

    def add(self, section: Section, *keys: Literal["steps", "always"]) -> None:
        """Look through lists of steps, in the order of the file."""
        entries = [(entry, key) for key in keys if (entry := section.entry(key))]
        for entry, key in sorted(
            entries, key=lambda each: (each[0].mark.line, each[0].mark.column)
        ):
            self._list(entry.value, (Around(key),))

    def _list(self, node: Node, place: Place) -> list[str]:
        items = node.items if isinstance(node, List) else ()
        return [each for item in items for each in self._step(item, place)]

    def _step(self, node: Node, place: Place) -> list[str]:
        """Look through a step, and return the ids in it, its own first."""
        if not isinstance(node, Map):
            return []
        self.count += 1
        entry = node.get("id")
        own = entry.value.raw if entry and isinstance(entry.value, Scalar) else ""
        if own:
            self.places.setdefault(own, place)
        inside: list[str] = []
        if parallel := node.get("parallel"):
            if entry is None:
                own = self.unnamed[node.mark] = f"parallel@{len(self.unnamed) + 1}"
            branches = parallel.value.items if isinstance(parallel.value, List) else ()
            for number, branch in enumerate(branches):
                inside += self._branch(branch, (*place, Around("parallel", own, number)))
        if node.get("foreach") and (steps := node.get("steps")):
            inside += self._list(steps.value, (*place, Around("foreach", own)))
        self.inside[node.mark] = tuple(inside)
        return [own, *inside]

    def _branch(self, node: Node, place: Place) -> list[str]:
        if isinstance(node, Map) and is_branch(node) and (steps := node.get("steps")):
            return self._list(steps.value, place)
        return self._step(node, place)
