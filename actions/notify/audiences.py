"""Who is told, by the classification of the data that was exposed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from actions.notify import rendering

ANY = "any"
"""An audience with this classification is always told."""


@dataclass(frozen=True)
class Stakeholder:
    """
    One audience and the ways to reach it.

    ``data`` are the classifications it is told about. ``channels`` are names (``#legal``),
    ``emails`` addresses.
    """

    name: str
    data: Sequence[str]
    channels: Sequence[str] = ()
    emails: Sequence[str] = ()

    def is_told_about(self, data: Collection[str]) -> bool:
        mine = {normal(classification) for classification in self.data}
        return ANY in mine or not mine.isdisjoint(data)


@dataclass(frozen=True)
class Stakeholders:
    """All audiences."""

    groups: Sequence[Stakeholder]

    def told_about(self, data: Collection[str]) -> tuple[Stakeholder, ...]:
        """Return who is told, in the order of the settings. ``data`` is ``normal``."""
        return tuple(group for group in self.groups if group.is_told_about(data))

    def unknown(self, data: Sequence[str]) -> tuple[str, ...]:
        """Return the classifications that no audience names; ``any`` names none."""
        named = {normal(known) for group in self.groups for known in group.data} - {ANY}
        return tuple(classification for classification in data if classification not in named)

    def check(self) -> str:
        """Say how many audiences and ways there are, after rendering a notice for each.

        Raises:
            BadInput: A template does not render.
        """
        for group in self.groups:
            rendering.render(group.name, rendering.SAMPLE)
        channels = sum(len(group.channels) for group in self.groups)
        emails = sum(len(group.emails) for group in self.groups)
        return f"{len(self.groups)} audiences, {channels} channels, {emails} addresses"


def normal(classification: str) -> str:
    """Return a classification as it is compared."""
    return classification.strip().casefold()
