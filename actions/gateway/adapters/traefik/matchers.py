"""Traefik's rule language: matchers for methods, paths and callers. Pure.

Traefik matches a path as it was sent, after three changes: dot segments and repeated slashes are
gone, what RFC 3986 (2.3) calls unreserved is decoded, and so is everything else that is not
reserved (2.2). ``%2F``, ``%3B`` and ``%25`` stay as they are, in upper case. A service behind it
may decode them, so a matcher takes both spellings.
https://doc.traefik.io/traefik/security/request-path/
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

from actions.gateway.rules import OVERRIDE_HEADERS, Rules
from actions.gateway.templates import ODD_SEGMENT, PARAMETER, literal, segments_of, word_regex
from bot.model.containment import Principal, PrincipalKind

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

EVERYTHING = "PathPrefix(`/`)"

NOBODY = "255.255.255.255/32"
"""No request comes from there. Traefik refuses an empty list of networks."""

# A service may take any of these for a slash, and several for one.
_SLASHES = r"(?:/|\\|%2[Ff]|%5[Cc])+"
# A path parameter (RFC 3986, 3.3) after a segment: some frameworks drop it before they route.
_MATRIX = "(?:(?:;|%3[Bb])[^/]*)?"
# Where a service that decodes first may see the end of the path.
_CUT = r"(?:(?:\x00|%3[Ff]|%23)(?:.|\n)*)?"


def path_regex(template: str) -> str:
    """Return an RE2 expression for the paths of a template, in all spellings that a service may
    take for one."""
    return _regex(template, _SLASHES, _CUT)


def odd_rule() -> str:
    """Return the rule for paths that some services read as other ones than Traefik does."""
    return _path_rule(ODD_SEGMENT)


def request_rule(rules: Rules, but: Iterable[Rules] = (), *, is_meant: bool = False) -> str:
    """
    Return the rule for requests to an endpoint.

    On a closed one, a method that another stands for counts as well (`OVERRIDE_HEADERS`).

    Args:
        but: Endpoints that its template would match, too, and that are others all the same; those
            in their plain spelling only.

        is_meant: For requests of other methods alone that one of its own stands for.
    """
    parts = [_path_rule(path_regex(rules.path))]
    if rules.methods:
        either = [] if is_meant else [f"Method({quoted(method)})" for method in rules.methods]
        if rules.closed or is_meant:
            words = "|".join(map(re.escape, rules.methods))
            value = quoted(f"(?i){word_regex(words)}")
            either += [f"HeaderRegexp({quoted(name)}, {value})" for name in OVERRIDE_HEADERS]
        parts.insert(0, any_of(either))
    return " && ".join([*parts, *(f"!({_plain_rule(other)})" for other in but)])


def _plain_rule(rules: Rules) -> str:
    path = _path_rule(_regex(rules.path, "/", ""))
    methods = [f"Method({quoted(method)})" for method in rules.methods]
    return f"{any_of(methods)} && {path}" if methods else path


def _path_rule(regex: str) -> str:
    return f"PathRegexp({quoted(regex)})"


def _regex(template: str, slash: str, end: str) -> str:
    segments = segments_of(template)
    parts = "".join(slash + _segment(segment) + _MATRIX for segment in segments)
    return f"^{parts}(?:{slash})?{end}$" if segments else f"^{slash}{end}$"


def any_of(rules: Sequence[str]) -> str:
    """Return a rule that holds if one of them does. It may be put into any other."""
    return rules[0] if len(rules) == 1 else f"({' || '.join(rules)})"


def quoted(text: str) -> str:
    """Return a literal of Go, in which rules are written."""
    if "`" in text or "\r" in text or not text.isprintable():
        return json.dumps(text, ensure_ascii=False)
    return f"`{text}`"


def networks(principals: Iterable[Principal]) -> list[str]:
    """Return the networks of those that are addresses, as Traefik compares them: an IPv4 address
    in the form of IPv6 is an IPv4 address to it."""
    return [str(_plain(ipaddress.ip_network(p.value))) for p in principals if is_address(p)]


def others_than(given: Iterable[str]) -> list[str]:
    """Return the networks of all addresses that are in none of the given ones."""
    left: list[Network] = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    for out in map(ipaddress.ip_network, given):
        left = [rest for network in left for rest in _without(network, out)]
    return [str(network) for network in sorted(left, key=lambda n: (n.version, n))] or [NOBODY]


def is_address(principal: Principal) -> bool:
    return principal.kind is PrincipalKind.IP


def _plain(network: Network) -> Network:
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < 96:
        return network
    return ipaddress.ip_network((mapped, network.prefixlen - 96))


def _without(network: Network, out: Network) -> list[Network]:
    if network.version != out.version or not network.overlaps(out):
        return [network]
    if network.prefixlen >= out.prefixlen:  # all of it is out
        return []
    return list(network.address_exclude(out))  # type: ignore[arg-type]  # of one version


def _segment(segment: str) -> str:
    return "[^/]+".join("".join(map(_char, unquote(text))) for text in PARAMETER.split(segment))


def _char(char: str) -> str:
    """Reserved characters stay encoded if they were; all others arrive decoded."""
    spelled = literal(char)
    return spelled if spelled in (char, "\\.") else f"(?:{re.escape(char)}|{spelled})"
