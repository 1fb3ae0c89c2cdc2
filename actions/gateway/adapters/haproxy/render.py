"""The maps that make HAProxy do what a set of controls asks for. Pure.

``deploy/gateways/haproxy.example.cfg`` holds the other half: it looks a request up in ``routes``
and does what the word says that it finds there.

- ``closed``: it answers 503.
- ``free``: nothing; the endpoint is only kept out of a less specific one's rules.
- ``held:LISTS:OTHERS:REFUSING:COUNTING:LIMIT:MOST:WINDOW_MS``: each list of callers is a bit.
  ``members`` says which lists the caller is on; OTHERS are the lists that hold against whom they do
  not name, REFUSING those that refuse and COUNTING those of shadows. Of LIMIT, MOST requests are
  let through in each window. LISTS or LIMIT is empty if there is none.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from actions.gateway.adapters.haproxy.maps import (
    BY_ADDRESS,
    NOWHERE,
    Entries,
    Maps,
    member_key,
    versioned,
)
from actions.gateway.adapters.haproxy.networks import Networks
from actions.gateway.rules import Rules, hold_back, rules_of
from actions.gateway.templates import ODD_SEGMENT, decoded_regex, literal, path_regex
from bot.errors import BadInput
from bot.model.base import digest_of
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind

CLOSED = "closed"
FREE = "free"
HELD = "held"

MAX_SHADOWS = 4
"""On one endpoint: each combination of them is counted by itself."""

MAX_LISTS = 60
"""On one endpoint: they are bits of a signed number of 64 bits."""

MAX_WINDOW_S = 3600.0
"""So long the configuration's table keeps what was counted."""

_EVERY_IPV4 = "0.0.0.0/0"


def render(controls: Iterable[Control], known: Iterable[str] = (), fold_case: bool = False) -> Maps:
    """
    Return the maps for a set of controls; see `rules`.

    Args:
        known: Keys of all endpoints there are.

        fold_case: Whether a path is the same in upper and in lower case.

    Raises:
        BadInput: HAProxy cannot be told a control.
    """
    rules = rules_of(controls, known)
    lists = [_lists_of(rule) for rule in rules]
    routes = tuple(
        (_expression(rule, fold_case), _word(rule, its))
        for rule, its in zip(rules, lists, strict=True)
    )
    if hold_back(rules):
        routes = ((ODD_SEGMENT, CLOSED), *routes)
    # Two endpoints with the same lists share them.
    held = {each.name: each for each in lists if each is not None}.values()
    networks = sorted({network for each in held for network in each.networks})
    members = tuple(entry for each in held for entry in each.members(networks))
    return versioned(Maps(routes, _cells(networks), members))


def shadow_id(control: Control) -> str:
    """Return what a shadow is called in the table that counts for it."""
    return digest_of(control.model_dump(mode="json"))[:8]


def shadows_in(maps: Maps) -> list[str]:
    """Return the names under which shadows are counted: their ids, joined by ``+``."""
    return [value for key, value in maps.members if key.partition("/")[2].startswith("shadow/")]


def window_of(rate_per_s: float) -> tuple[int, int]:
    """Return how many requests to let through in how many ms: at least one, and a window of at
    least a second, so that the average is the rate, or less by up to 0.1 %."""
    most = max(1, math.ceil(rate_per_s))
    return most, math.ceil(most * 1000 / rate_per_s)


# --- routes ------------------------------------------------------------------------------------


def _expression(rules: Rules, fold_case: bool) -> str:
    """Return what matches method and path, and the path in any spelling. Both are written without
    a space between them, as a key ends at the first one."""
    methods = "|".join(map(literal, rules.methods)) or "[^/]+"
    regexes = (path_regex(rules.path), _printable(decoded_regex(rules.path)))
    paths = "|".join(_unambiguous(regex) for regex in regexes)
    return f"{'(?i)' if fold_case else ''}^(?:{methods})(?:{paths})$"


def _unambiguous(regex: str) -> str:
    """Leave out path parameters (``;v=1``) after a template's parameter, which holds them already:
    PCRE would try each way to part them, and a caller could keep it busy with that."""
    return re.sub(r"(\[\^/\??\]\+)\(\?:;\[\^/\?\]\*\)\?", r"\1", regex)


def _printable(regex: str) -> str:
    """Return an expression with all that would end a key, or is not ASCII, written as bytes."""
    tokens = re.findall(r"\\?.", regex, re.DOTALL)
    return "".join(_token(token) for token in tokens)


def _token(token: str) -> str:
    char = token[-1]
    if " " < char <= "~":
        return token
    return "".join(f"\\x{byte:02x}" for byte in char.encode())


def _word(rules: Rules, lists: _Lists | None) -> str:
    if rules.closed:
        return CLOSED
    if not rules.is_contained:
        return FREE
    parts: list[object] = [HELD, "", 0, 0, 0, "", 0, 1]
    if lists is not None:
        parts[1:5] = [lists.name, lists.others, lists.refusing, lists.counting]
    if rules.rate_per_s is not None:
        endpoint = digest_of([rules.method, rules.path, rules.rate_per_s])[:12]
        parts[5:8] = [endpoint, *window_of(rules.rate_per_s)]
    return ":".join(map(str, parts))


# --- lists of callers --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Lists:
    """The lists of one endpoint. The first is bit 0, and so on; those of ``shadows`` come last."""

    callers: tuple[tuple[Principal, ...], ...]
    others: int
    shadows: tuple[str, ...]

    @property
    def counting(self) -> int:
        return self._all - self.refusing

    @property
    def refusing(self) -> int:
        return (1 << len(self.callers) - len(self.shadows)) - 1

    @property
    def _all(self) -> int:
        return (1 << len(self.callers)) - 1

    @cached_property
    def name(self) -> str:
        callers = [[p.model_dump(mode="json") for p in each] for each in self.callers]
        digest = digest_of([callers, self.others, self.shadows])[:16]
        return f"{BY_ADDRESS if self.networks else 'id-'}{digest}"

    @cached_property
    def networks(self) -> set[str]:
        return {p.value for each in self.callers for p in each if p.kind is PrincipalKind.IP}

    def members(self, networks: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield the entries that say who is on which list.

        Args:
            networks: All that there are, of other lists too: an address is of the smallest one.
        """
        yield member_key(self.name, "ip", NOWHERE), "0"
        if self.networks:
            nested = [Networks(_addresses(each)) for each in self.callers]
            for network in networks:
                mask = sum(1 << bit for bit, n in enumerate(nested) if n.hold(network))
                yield member_key(self.name, "ip", network), str(mask)
        masks: dict[str, int] = {}
        for bit, each in enumerate(self.callers):
            for principal in each:
                if principal.kind is not PrincipalKind.IP:
                    key = _who(self.name, principal)
                    masks[key] = masks.get(key, 0) | 1 << bit
        yield from ((key, str(mask)) for key, mask in masks.items())
        yield from self._combined()

    def _combined(self) -> Iterator[tuple[str, str]]:
        """Yield under which name each combination of shadows is counted."""
        first = len(self.callers) - len(self.shadows)
        bits = range(len(self.shadows))
        for chosen in (c for size in bits for c in combinations(bits, size + 1)):
            mask = sum(1 << first + bit for bit in chosen)
            yield (
                member_key(self.name, "shadow", str(mask)),
                "+".join(self.shadows[bit] for bit in chosen),
            )


def _lists_of(rules: Rules) -> _Lists | None:
    """Return the lists of an endpoint; None if it needs none."""
    if rules.closed or not (rules.blocked or rules.allowed or rules.shadows):
        return None
    if len(rules.shadows) > MAX_SHADOWS:
        raise _too_many(rules, f"{len(rules.shadows)} shadows", f"at most {MAX_SHADOWS}")
    lists = [(rules.blocked, False)] if rules.blocked else []
    lists += [(group, True) for group in rules.allowed]
    lists += [(_named_by(shadow), _is_of_others(shadow)) for shadow in rules.shadows]
    if len(lists) > MAX_LISTS:
        raise _too_many(rules, f"{len(lists)} lists of callers", f"at most {MAX_LISTS}")
    return _Lists(
        callers=tuple(callers for callers, _ in lists),
        others=sum(1 << bit for bit, (_, others) in enumerate(lists) if others),
        shadows=tuple(map(shadow_id, rules.shadows)),
    )


def _named_by(shadow: Control) -> tuple[Principal, ...]:
    return () if shadow.would is ControlKind.CLOSE else shadow.principals


def _is_of_others(shadow: Control) -> bool:
    """A close refuses all who are not on a list that nobody is on."""
    return shadow.would in (ControlKind.ALLOW_ONLY, ControlKind.CLOSE)


def _too_many(rules: Rules, found: str, most: str) -> BadInput:
    return BadInput(
        f"{rules.method} {rules.path} would have {found}, and this gateway can do {most} on one "
        "endpoint; nothing was done. Lift one of the others first."
    )


def _addresses(principals: Iterable[Principal]) -> list[str]:
    return [p.value for p in principals if p.kind is PrincipalKind.IP]


def _who(lists: str, principal: Principal) -> str:
    """Return the key of a caller. Hashed, whatever a name holds is harmless in a command."""
    kind = "api_key" if principal.kind is PrincipalKind.API_KEY else f"claim.{principal.claim}"
    return member_key(lists, kind, hashlib.sha256(principal.value.encode()).hexdigest().upper())


def _cells(networks: Sequence[str]) -> Entries:
    """Return which network an address is of. HAProxy looks for an IPv4 address that it does not
    find among the IPv6 ones too (``::/0``), so it must find it."""
    cells = {network: network for network in networks}
    if any(":" in network for network in networks):
        cells.setdefault(_EVERY_IPV4, NOWHERE)
    return tuple(cells.items())
