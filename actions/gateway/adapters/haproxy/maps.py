"""Firedoor's three maps as they are in HAProxy and on disk, and the way from one state of them to
another. Pure.

- ``routes``: expressions over method and path, in the order in which they are tried. The first that
  matches says what holds.
- ``networks``: the networks that any control names. An address is of the smallest that holds it.
- ``members``: which lists of callers a caller is on. A key begins with a name of the lists, which
  is a hash of what is on them, so what it says of a caller never changes.

HAProxy changes one map at a time, and a request may see one before and the next after its change.
So what is read later is there before what leads to it, and is taken away after it (`steps`). What a
request does not find all the same, it takes for a refusal: the configuration says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from actions.gateway.adapters.haproxy.networks import Networks
from bot.errors import BadInput
from bot.model.base import digest_of

Entries = tuple[tuple[str, str], ...]
"""Keys and values. Neither holds white space."""

NAMES = ("routes", "networks", "members")

VERSION_KEY = "$.version"
"""An expression that matches nothing: no character is behind the end of a text."""

BETWEEN_KEY = "between"
"""Is in ``members`` while there is more in the maps than one version needs."""

NOWHERE = "none"
"""In place of a network: the address is in none of them."""

BY_ADDRESS = "net-"
"""Begins the name of lists that an address can be on."""


MAX_LINE_BYTES = 15_000
"""HAProxy reads 16 kB at once, of a command and of a file; what is longer it drops or breaks."""


class Step(NamedTuple):
    """``entries`` are all that a map holds afterwards."""

    name: str
    entries: Entries


@dataclass(frozen=True)
class Maps:
    """What the three maps hold. Only of ``routes`` the order counts; the others are sorted."""

    routes: Entries = ()
    networks: Entries = ()
    members: Entries = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "networks", tuple(sorted(self.networks)))
        object.__setattr__(self, "members", tuple(sorted(self.members)))

    @property
    def version(self) -> str:
        """The version that they say they are; empty if they say none."""
        return next((value for key, value in self.routes if key == VERSION_KEY), "")

    @property
    def is_whole(self) -> bool:
        """Whether they are to the letter what their version stands for."""
        return self.version == _hash(self)

    @property
    def is_ours(self) -> bool:
        """Whether they are as Firedoor leaves them, be it on the way between two versions."""
        return self.is_whole or any(key == BETWEEN_KEY for key, _ in self.members)

    def of(self, name: str) -> Entries:
        """Return what the map of a name holds."""
        return {"routes": self.routes, "networks": self.networks, "members": self.members}[name]


def versioned(maps: Maps) -> Maps:
    """
    Return maps with their version in front: 12 hexadecimal digits of a hash over all they hold.

    Raises:
        BadInput: HAProxy would not read the same: there is white space in a key or a value, or a
            line is too long.
    """
    for line in (line for name in NAMES for line in lines(maps.of(name))):
        if len(line.split()) != 2 or not (line.isascii() and line.isprintable()):
            raise _unreadable(line, "would be read as another")
        if len(line) > MAX_LINE_BYTES:
            raise _unreadable(line[:200], f"has more than {MAX_LINE_BYTES} bytes")
    return replace(maps, routes=((VERSION_KEY, _hash(maps)), *maps.routes))


def _unreadable(line: str, why: str) -> BadInput:
    return BadInput(
        f"HAProxy's maps would have the line {line!r}, which {why}; nothing was done. Look at the "
        "paths in the inventory."
    )


def _hash(maps: Maps) -> str:
    routes = [entry for entry in maps.routes if entry[0] != VERSION_KEY]
    return digest_of({"routes": routes, "networks": maps.networks, "members": maps.members})[:12]


def lines(entries: Entries) -> list[str]:
    """Return the lines of a map file, or of a command."""
    return [f"{key} {value}" for key, value in entries]


def parsed(texts: Iterable[str]) -> Entries:
    """Return what the lines of a map say. One of another hand may lack a value."""
    parts = [text.split(None, 1) for text in texts if text.strip() and not text.startswith("#")]
    return tuple((part[0], part[1].strip() if len(part) > 1 else "") for part in parts)


# --- from one state to another -----------------------------------------------------------------


def steps(current: Maps, wanted: Maps) -> list[Step]:
    """
    Return the changes that lead from one state to another, in their order.

    Before the change of ``routes`` each request meets all that ``current`` says of it, afterwards
    all that ``wanted`` says. Of what another hand has made there is nothing in between.
    """
    before = current if current.is_ours else Maps()
    networks = {**dict(before.networks), **dict(wanted.networks)}
    networks.update((cell, cell) for _, cell in before.networks if cell != NOWHERE)
    members = _of_both(before, wanted, [cell for cell in networks.values() if cell != NOWHERE])
    together = Maps(wanted.routes, tuple(networks.items()), tuple(members.items()))
    if (current.networks, current.members) != (wanted.networks, wanted.members):
        marked = (*together.members, (BETWEEN_KEY, f"{current.version}+{wanted.version}"))
        together = replace(together, members=marked)
    way = [Step(name, together.of(name)) for name in ("members", "networks", "routes")]
    way += [Step(name, wanted.of(name)) for name in ("networks", "members")]
    return _without_idle(current, way)


def _of_both(before: Maps, wanted: Maps, networks: Iterable[str]) -> dict[str, str]:
    """Return what both say of their lists, and what each says of the other's networks."""
    found = {key: value for key, value in before.members if key != BETWEEN_KEY}
    found.update(wanted.members)
    for maps in (before, wanted):
        known = {cell for _, cell in maps.networks if cell != NOWHERE}
        nested = Networks(known)
        around = {n: nested.smallest_around(n) or NOWHERE for n in networks if n not in known}
        for lists in _by_address(maps.members):
            for network, cell in around.items():
                key = member_key(lists, "ip", network)
                found.setdefault(key, found.get(member_key(lists, "ip", cell), "0"))
    return found


def _by_address(members: Entries) -> list[str]:
    end = member_key("", "ip", NOWHERE)
    keys = (key for key, _ in members if key.startswith(BY_ADDRESS) and key.endswith(end))
    return [key.removesuffix(end) for key in keys]


def member_key(lists: str, kind: str, who: str) -> str:
    """Return the key under which ``members`` says which of some lists a caller is on, as a mask."""
    return f"{lists}/{kind}/{who}"


def _without_idle(current: Maps, way: Iterable[Step]) -> list[Step]:
    """Leave out what changes nothing."""
    now = {name: current.of(name) for name in NAMES}
    left = []
    for step in way:
        if step.entries != now[step.name]:
            left.append(step)
            now[step.name] = step.entries
    return left
