"""A patch for Kong, as a decK file: terminating routes, and plugins for routes that exist. Pure.

A closed endpoint is a route without a service, which answers by itself. Everything else has to
leave requests to the service that serves them and to the plugins that check them (authentication
first of all), so it is a plugin on the operator's own route, whose name decK takes from an
environment variable. https://developer.konghq.com/deck/reference/env-variables

Fields are those of Kong 3's schemas (``kong/db/schema/entities/routes.lua``, ``kong/plugins/*``).
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

from actions.gateway.adapters.kong import paths as kong_paths
from actions.gateway.handoff.cases import (
    Case,
    Draft,
    Language,
    Rendered,
    Requests,
    by_kind,
    left_out,
    place,
)
from actions.gateway.handoff.kong_paths import CannotKeepOut, path_regex
from actions.gateway.handoff.texts import ODD_PATHS, one_line, yaml_text
from actions.gateway.rules import OVERRIDE_HEADERS, Rules
from bot.model.answers import CLOSED, REFUSED, THROTTLED
from bot.model.containment import Principal, PrincipalKind

REGEX_PRIORITY = 2000
"""Among routes that match by as many kinds of attributes, the highest is taken."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")

TAG = "firedoor-handoff"

_VARIABLE = "${{"
"""What decK puts a variable's value in place of, wherever it stands."""

_OWN_ANSWERS = ("ip-restriction", "rate-limiting")
_OWN_ANSWER = (
    "Who is refused by address or limited gets Kong's own answer, without Firedoor's mark."
)

_PERIODS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def render(draft: Draft) -> Rendered:
    """Return a decK file with ``routes`` and ``plugins``, as far as each is needed."""
    routes: list[dict[str, Any]] = []
    plugins: list[dict[str, Any]] = []
    unsupported: list[str] = []
    variables: list[tuple[str, Case]] = []
    for case in draft.contained():
        if case.rules.closed:
            try:
                routes += _closing(draft, case)
            except CannotKeepOut as error:
                unsupported.append(left_out(case.rules, str(error)))
            continue
        found, told = _plugins(case)
        unsupported += told
        if found:
            name = f"DECK_FIREDOOR_{draft.tag.upper()}_ROUTE_{case.number}"
            variables.append((name, case))
            # decK puts the value in before it reads the YAML.
            route = f'${{{{ env "{name}" }}}}'
            plugins += [{"name": p.pop("name"), "route": route, **p, "tags": [TAG]} for p in found]
    if routes:
        odd = {"paths": [kong_paths.ODD_PATHS]}
        routes.append(_terminating(f"firedoor-{draft.tag}-odd-paths", odd))
    document: dict[str, Any] = {
        **({"routes": routes} if routes else {}),
        **({"plugins": plugins} if plugins else {}),
    }
    if not document:
        return Rendered("", (), tuple(unsupported))
    if any(plugin["name"] in _OWN_ANSWERS for plugin in plugins):
        unsupported.append(_OWN_ANSWER)
    body = yaml_text({"_format_version": "3.0", **document})
    return Rendered(body, _how(bool(routes), variables), tuple(unsupported))


def _how(has_routes: bool, variables: Sequence[tuple[str, Case]]) -> tuple[str, ...]:
    lines = [
        "Put this file beside your own and sync them together (deck gateway sync kong.yaml THIS):",
        "synced alone, it would delete everything that is not in it.",
    ]
    if has_routes:
        lines += [
            "Kong takes the route that matches by the most kinds of attributes. If yours for these",
            "paths have hosts, headers or snis, add the same to the routes here; else yours are",
            "taken, and nothing is closed. Try a request after the deploy.",
            *ODD_PATHS,
        ]
    if variables:
        lines += ["Set before the sync, or write in its place:"]
        lines += [
            f"  {name}: your route that serves {one_line(place(case.rules))} and nothing else"
            for name, case in variables
        ]
    return tuple(lines)


# --- a close -------------------------------------------------------------------------------------


def _closing(draft: Draft, case: Case) -> list[dict[str, Any]]:
    """
    Raises:
        CannotKeepOut: Another endpoint's paths cannot be kept out of its own.
    """
    matches = [match for each in case.requests() for match in _matches(each, case)]
    if case.rules.methods:
        matches += [
            {"headers": {header: match["methods"]}, "paths": match["paths"]}
            for header in OVERRIDE_HEADERS
            for match in tuple(matches)
        ]
    return [
        _terminating(f"firedoor-{draft.tag}-{case.number}-{number}", match)
        for number, match in enumerate(matches, start=1)
    ]


def _matches(requests: Requests, case: Case) -> list[dict[str, Any]]:
    path = case.rules.path
    here = path_regex(path, requests.kept_out)
    if not requests.any_but:
        return [{"methods": list(requests.methods), "paths": [f"~{here}"]}] if here else []
    # A route cannot say "but not": the usual methods are named, and any other is looked at on the
    # paths that no other endpoint has.
    others = [method for method in METHODS if method not in requests.methods]
    found: list[dict[str, Any]] = []
    if others and here:
        found.append({"methods": others, "paths": [f"~{here}"]})
    rest = path_regex(path, [rules.path for rules in case.before])
    if rest:
        found.append({"paths": [f"~{rest}"]})
    return found


def _terminating(name: str, match: dict[str, Any]) -> dict[str, Any]:
    headers = dict(CLOSED.headers)
    answer = {
        "status_code": CLOSED.status,
        "content_type": headers.pop("content-type"),
        "body": CLOSED.body,
    }
    added = {"add": {"headers": [f"{key}:{value}" for key, value in headers.items()]}}
    return {
        "name": name,
        **match,
        "protocols": ["http", "https"],
        "regex_priority": REGEX_PRIORITY,
        "tags": [TAG],
        "plugins": [
            {"name": "request-termination", "config": answer},
            {"name": "response-transformer", "config": added},
        ],
    }


# --- plugins on the operator's route -------------------------------------------------------------


def _plugins(case: Case) -> tuple[list[dict[str, Any]], list[str]]:
    rules, told = case.rules, []
    found: list[dict[str, Any]] = []
    blocked = [p.value for p in rules.blocked if p.kind is PrincipalKind.IP]
    restriction = _restriction(blocked, rules.allowed)
    if restriction:
        config = {**restriction, "status": REFUSED.status}
        found.append({"name": "ip-restriction", "config": config})
    for principal in rules.blocked:
        if principal.kind is PrincipalKind.API_KEY:
            found.append(_refusing(principal))
    if rules.rate_per_s is not None:
        limit, sentence = _limiting(rules)
        found.append(limit)
        told += sentence
    return found, told


def _restriction(blocked: list[str], allowed: Sequence[Sequence[Principal]]) -> dict[str, Any]:
    """Return who may come by address. Kong has one list of the allowed, so it holds whom all lists
    have in common; an empty one would let everybody through."""
    if not allowed:
        return {"deny": blocked} if blocked else {}
    groups = [[ipaddress.ip_network(p.value) for p in group] for group in allowed]
    common = reduce(_common, groups)
    if not common:
        return {"deny": ["0.0.0.0/0", "::/0"]}
    names = sorted({str(network) for network in common})
    return {"allow": names, **({"deny": blocked} if blocked else {})}


def _common(one: Sequence[Network], other: Sequence[Network]) -> list[Network]:
    """Return the networks that are in both: of two that overlap, one is in the other."""
    return [
        min(a, b, key=lambda network: network.num_addresses)
        for a in one
        for b in other
        if a.version == b.version and a.overlaps(b)
    ]


def _refusing(principal: Principal) -> dict[str, Any]:
    answer = {
        "status_code": REFUSED.status,
        "content_type": REFUSED.headers["content-type"],
        "body": REFUSED.body,
    }
    return {"name": "request-termination", "consumer": principal.value, "config": answer}


def _limiting(rules: Rules) -> tuple[dict[str, Any], list[str]]:
    rate_per_s = rules.rate_per_s or 0.0
    fitting = {name: rate_per_s * seconds for name, seconds in _PERIODS_S.items()}
    whole = [n for n, count in fitting.items() if round(count) >= 1 and _is_whole(count)]
    period = whole[0] if whole else next((n for n, c in fitting.items() if c >= 1), "day")
    count = max(1, math.ceil(round(fitting[period], 6)))
    told = [
        f"The limit of {rate_per_s:g} a second on {place(rules)} is {count} a {period} here: Kong "
        "counts in whole requests."
    ]
    config = {
        period: count,
        # Over all callers: the counter is of the route and its service.
        "limit_by": "service",
        "policy": "local",
        "hide_client_headers": True,
        "error_code": THROTTLED.status,
        "error_message": THROTTLED.detail,
    }
    return {"name": "rate-limiting", "config": config}, [] if whole else told


def _is_whole(count: float) -> bool:
    return math.isclose(count, round(count), rel_tol=1e-9)


def _cannot_tell(principal: Principal) -> str:
    if principal.kind is PrincipalKind.CLAIM:
        return "no plugin of Kong's tells callers by a claim of their token"
    return "decK would read its name as a variable" if _VARIABLE in principal.value else ""


LANGUAGE = Language(
    title="Kong (decK)",
    suffix="kong.yaml",
    media_type="application/yaml",
    render=render,
    cannot_tell=_cannot_tell,
    cannot_list=by_kind(
        {PrincipalKind.API_KEY: "Kong lets through by groups of consumers, which are yours to make"}
    ),
    # In comments too.
    reads=(_VARIABLE,),
)
