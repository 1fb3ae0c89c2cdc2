"""What people do to containments in force: extend, lift, hand over. The same at every door."""

from __future__ import annotations

import re

from bot.errors import BadInput, NotAllowed
from bot.language.moments import parse_duration
from bot.model.containment import Containment
from bot.service.containments import ContainmentDesk
from bot.service.groups import Groups, Person, actor_of

LONGEST_TTL_S = 30 * 86_400.0
"""How far from now an expiry may be moved: what is to last longer belongs into the gateway's own
configuration (see ``gateway.hand_off``)."""

MOST_QUOTED = 60
"""Characters of a word that an answer repeats."""

_MENTION = re.compile(r"<@([A-Z0-9]+)(?:\|[^>]*)?>")


class Custody:
    """Only people in some group may; see `Groups.check_known`."""

    def __init__(self, desk: ContainmentDesk, groups: Groups) -> None:
        self._desk, self._groups = desk, groups

    def extend(self, containment_id: str, ttl: str, person: Person) -> Containment:
        """
        Let a containment expire ``ttl`` (such as ``2h``) from now.

        Raises:
            NotAllowed, NotFound.

            BadInput: It is no duration, or longer than `LONGEST_TTL_S`.
        """
        self._groups.check_known(person)
        return self._desk.extend(containment_id, _seconds_of(ttl), person.actor)

    def lift(self, containment_id: str, person: Person) -> list[str]:
        """
        End a containment in the store; return the gateways that whoever writes to them converges.

        Raises:
            NotAllowed, NotFound.
        """
        self._groups.check_known(person)
        return self._desk.release([containment_id], person.actor)

    def hand_over(self, containment_id: str, to: str, person: Person) -> Containment:
        """
        Make somebody else answerable for a containment.

        Args:
            to: An id as in the settings (``U0SAM``, ``cli:sam``), or a mention of Slack's.

        Raises:
            NotAllowed: One of the two is in no group.

            NotFound: None of this id is in force.
        """
        self._groups.check_known(person)
        mention = _MENTION.fullmatch(to)
        owner = self._groups.person(actor_of(mention[1] if mention else to))
        if not self._groups.of(owner.actor):
            raise NotAllowed(
                f"{_quoted(owner.actor)} is in no group of firedoor.yaml, and only responders can "
                "be answerable; nothing was handed over. Name one by their id there (U0SAM, "
                "cli:sam), or mention one in Slack."
            )
        return self._desk.hand_over(containment_id, owner.actor, person.actor)


def _seconds_of(ttl: str) -> float:
    try:
        ttl_s = parse_duration(ttl)
    except ValueError as error:
        raise BadInput(f"{_quoted(ttl)} cannot be used: {error}; nothing was extended.") from None
    if ttl_s == 0:
        raise BadInput(
            f"{_quoted(ttl)} would end it now; nothing was extended. To end it, lift it."
        )
    if ttl_s > LONGEST_TTL_S:
        raise BadInput(
            f"{_quoted(ttl)} is more than {LONGEST_TTL_S / 86_400:g} days; nothing was extended. "
            "What is to last longer belongs into the gateway's own configuration."
        )
    return ttl_s


def _quoted(text: str) -> str:
    return repr(text if len(text) <= MOST_QUOTED else f"{text[:MOST_QUOTED]}…")
