"""What adapters of gateways share that have routes of the operator's own. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any
from urllib.parse import unquote

from actions.gateway.rules import Rules
from actions.gateway.templates import PARAMETER, example_of, openness, path_regex
from bot.model.containment import Principal, PrincipalKind


def kept_out(rule: Rules, rules: Sequence[Rules]) -> list[Rules]:
    """Return the endpoints without any control that a rule's template would catch too."""
    return [other for other in more_specific(rule, rules) if not other.is_contained]


def more_specific(rule: Rules, rules: Sequence[Rules]) -> list[Rules]:
    """Return the endpoints that a rule's template would catch too, with controls or without."""
    return [
        other
        for other in rules
        if openness(other.path) < openness(rule.path)
        and (not rule.methods or not other.methods or set(rule.methods) & set(other.methods))
        and re.fullmatch(path_regex(rule.path), example_of(other.path))
    ]


def may_meet(prefix: str, template: str) -> bool:
    """Tell whether paths that start with a literal prefix may be of a template; in doubt, that
    they may."""
    start = unquote(prefix).rstrip("/")
    begin = unquote(PARAMETER.split("/" + template.strip("/"))[0])
    return begin.startswith(start) or start.startswith(begin)


def addresses(principals: Iterable[Principal]) -> list[str]:
    """Return the networks among principals."""
    return [p.value for p in principals if p.kind is PrincipalKind.IP]


def key_names(principals: Iterable[Principal]) -> list[str]:
    """Return the names of API keys among principals."""
    return [p.value for p in principals if p.kind is PrincipalKind.API_KEY]


def common_networks(groups: Sequence[Sequence[str]]) -> list[str]:
    """Return the networks whose addresses are in every group; none if there is no such address.

    At least one group must be given.

    Raises:
        ValueError: Something is no network.
    """
    return reduce(_common_to_two, [list(group) for group in groups])


def _common_to_two(ours: list[str], theirs: list[str]) -> list[str]:
    found = set()
    for one in map(_network, ours):
        for other in map(_network, theirs):
            if one.version == other.version and one.overlaps(other):
                found.add(str(max(one, other, key=lambda network: network.prefixlen)))
    return sorted(found)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


def holds(stored: Any, wanted: Any) -> bool:
    """Tell whether a stored JSON value says all that is wanted; a server may have added members
    with their defaults, and may leave out those that are null."""
    if isinstance(wanted, Mapping):
        return isinstance(stored, Mapping) and all(
            holds(stored.get(key), value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(stored, list)
            and len(stored) == len(wanted)
            and all(map(holds, stored, wanted))
        )
    return bool(stored == wanted)
