"""How HAProxy looks a request up in Firedoor's maps, as the example configuration says it.

The rigs try the real one; here it can be asked with maps of different moments.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from actions.gateway.adapters.haproxy.maps import Entries, Maps

CLOSED, REFUSED, PASSED = "closed", "refused", "passed"


@dataclass(frozen=True)
class Caller:
    """``names`` are of its API key and its claims, by the part of the key in ``members``."""

    address: str = "203.0.113.9"
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What is done with a request; ``counted`` are the shadows that would have refused it."""

    answer: str
    counted: frozenset[str] = frozenset()
    limit: tuple[int, int] | None = None


def word_of(routes: Entries, request: str) -> str:
    """Return what the first expression says that matches method and path; empty if none does."""
    return next((word for regex, word in routes if re.search(regex, request)), "")


def looked_up(
    maps: Maps, request: str, caller: Caller, *, later: Sequence[Maps] | None = None
) -> Found:
    """
    Return what is done with a request.

    Args:
        later: In place of ``maps``, what the three later lookups meet: that of names, that of the
            address, and that of its network.
    """
    by_name, networks, by_network = later or (maps, maps, maps)
    word = word_of(maps.routes, request)
    if word in ("closed", "free", ""):
        return Found(CLOSED if word == "closed" else PASSED)
    _, lists, others, refusing, counting, limit, most, window_ms = word.split(":")
    limited = (int(most), int(window_ms)) if limit else None
    if not lists:
        return Found(PASSED, limit=limited)
    on = 0
    for kind, name in caller.names.items():
        digest = hashlib.sha256(name.encode()).hexdigest().upper()
        on |= int(dict(by_name.members).get(f"{lists}/{kind}/{digest}", 0))
    network = _network(networks, caller.address) if lists.startswith("net-") else "none"
    mask = dict(by_network.members).get(f"{lists}/ip/{network}")
    if mask is None:
        return Found(REFUSED)
    hits = (on | int(mask)) ^ int(others)
    counted = dict(by_network.members).get(f"{lists}/shadow/{hits & int(counting)}", "")
    shadows = frozenset(counted.split("+")) if counted else frozenset()
    return Found(REFUSED if hits & int(refusing) else PASSED, shadows, limited)


def _network(maps: Maps, address: str) -> str:
    """HAProxy looks for an IPv4 address that it does not find among the IPv6 networks too."""
    asked = ipaddress.ip_address(address)
    both = [asked]
    if isinstance(asked, ipaddress.IPv4Address):
        both.append(ipaddress.IPv6Address(f"::ffff:{asked}"))
    networks = [(ipaddress.ip_network(key), cell) for key, cell in maps.networks]
    for each in both:
        found = [(n.prefixlen, cell) for n, cell in networks if each in n]
        if found:
            return max(found)[1]
    return "none"
