"""Who speaks, and in which groups they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bot.errors import NotAllowed
from bot.model.base import Frozen


class Person(Frozen):
    """Who speaks, as the door has verified it: ``slack:U0SAM`` or ``cli:sam``."""

    actor: str


def actor_of(member: str) -> str:
    """Return an id of the settings as the doors give it: without a prefix, it is Slack's."""
    return member if ":" in member else f"slack:{member}"


class Groups:
    """Who is in which group. Ids without a prefix are Slack user ids."""

    def __init__(
        self,
        groups: Mapping[str, Sequence[str]],
        people: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """
        Args:
            people: All ids of one human, so that they count once wherever they speak: a name, which
                says nothing here, to ids as the doors give them.
        """
        self._same = {
            actor_of(each): _known_as(ids) for ids in (people or {}).values() for each in ids
        }
        self._members = {
            name: frozenset(self.person(actor_of(member)).actor for member in members)
            for name, members in groups.items()
        }

    def person(self, actor: str) -> Person:
        """Return who speaks: one and the same person at whichever door."""
        return Person(actor=self._same.get(actor, actor))

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


def _known_as(ids: Sequence[str]) -> str:
    """Return the id that stands for all: the Slack one, if any, since it can be mentioned."""
    actors = [actor_of(each) for each in ids]
    return next((each for each in actors if each.startswith("slack:")), actors[0])
