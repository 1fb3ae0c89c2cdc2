"""Who speaks, and in which groups they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bot.errors import NotAllowed
from bot.model.base import Frozen


class Person(Frozen):
    """Who speaks, as the door has verified it: ``slack:U0SAM`` or ``cli:sam``."""

    actor: str


class Groups:
    """Who is in which group. Entries without a prefix are Slack user ids."""

    def __init__(self, groups: Mapping[str, Sequence[str]]) -> None:
        self._members = {
            name: frozenset(m if ":" in m else f"slack:{m}" for m in members)
            for name, members in groups.items()
        }

    def members(self, groups: Iterable[str]) -> tuple[str, ...]:
        """Return everybody in any of these groups."""
        return tuple(sorted({m for name in groups for m in self._members.get(name, ())}))

    def of(self, actor: str) -> tuple[str, ...]:
        """Return the groups of a person; someone unknown is in none."""
        return tuple(sorted(n for n, members in self._members.items() if actor in members))

    def check_known(self, person: Person) -> None:
        """Raise NotAllowed unless the person is in a group: only responders act."""
        if not self.of(person.actor):
            raise NotAllowed(
                f"{person.actor} is in no group of firedoor.yaml; nothing was done. "
                "Ask a responder, or have yourself added under `groups`."
            )
