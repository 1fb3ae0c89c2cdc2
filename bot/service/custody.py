"""What people do to containments in force: extend, lift, hand over. The same at every door."""

from __future__ import annotations

import re

from bot.errors import BadInput
from bot.language.moments import parse_duration
from bot.model.containment import Containment
from bot.service.containments import ContainmentDesk
from bot.service.groups import Groups, Person, actor_of

LONGEST_TTL_S = 30 * 86_400.0
"""How far from now an expiry may be moved: what is to last longer belongs into the gateway's own
configuration (see ``gateway.hand_off``)."""

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
        try:
            ttl_s = parse_duration(ttl)
        except ValueError as error:
            raise BadInput(f"{ttl!r} is no duration ({error}); nothing was extended.") from None
        if not 0 < ttl_s <= LONGEST_TTL_S:
            raise BadInput(
                f"{ttl} is not within {LONGEST_TTL_S / 86_400:g} days; nothing was extended. What "
                "is to last longer belongs into the gateway's own configuration."
            )
        return self._desk.extend(containment_id, ttl_s, person.actor)

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
        self._groups.check_known(owner)
        return self._desk.hand_over(containment_id, owner.actor, person.actor)
