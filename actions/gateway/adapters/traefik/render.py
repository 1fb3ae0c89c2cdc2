"""Traefik's dynamic configuration for a set of controls. Pure.

Firedoor's routers stand before all others, by their priority:

- A closed endpoint is a router that answers by itself, in front of another one that does so
  without a body: Traefik drops a router that it cannot build, and then the next one serves.
- Any other control makes a router for the endpoint and puts a copy of every operator's router
  that could serve it below. Traefik calls that multi-layer routing. So rules, middlewares and
  services go on without having to be understood, and all callers meet at one place.

What is below a copy: whom a control refuses, then the limit, then who is counted, then the
service.
https://doc.traefik.io/traefik/reference/routing-configuration/http/routing/multi-layer-routing/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from actions.gateway.adapters.traefik import parts
from actions.gateway.adapters.traefik.callers import Callers, Settings
from actions.gateway.adapters.traefik.matchers import (
    EVERYTHING,
    is_address,
    networks,
    odd_rule,
    others_than,
    path_regex,
    request_rule,
)
from actions.gateway.adapters.traefik.operators import (
    Listener,
    Operators,
    Route,
    check_hands_over,
    may_serve,
)
from actions.gateway.rules import ODD_PATHS, Rules, hold_back, rules_of
from actions.gateway.templates import example_of
from bot.errors import BadInput
from bot.model.containment import Control, Principal

FIRST_PRIORITY = 2_000_000_000
"""Of the most specific endpoint. Traefik takes no more than 2,147,482,647 on 32 bits."""


def render(
    controls: Iterable[Control],
    known: Iterable[str],
    operators: Operators,
    settings: Settings,
) -> dict[str, Any]:
    """
    Return the HTTP part of a dynamic configuration that does what a set of controls asks for.

    Args:
        known: Keys of all endpoints there are.

    Raises:
        BadInput: A control, or what operators route, is of a kind that cannot be worked with.
    """
    rules = rules_of(controls, known)
    if not rules:
        return {}
    contained = [rule for rule in rules if rule.is_contained]
    _check(contained, operators, settings)
    made = _Objects()
    if hold_back(contained):
        front = {"rule": odd_rule(), "priority": FIRST_PRIORITY + 2}
        _close(made, ODD_PATHS, front, operators.listeners)
    for position, rule in enumerate(contained):
        others = [each for each in rules if not each.is_contained and _is_within(each, rule)]
        front = {
            "rule": request_rule(rule, others),
            "priority": FIRST_PRIORITY - 2 * position,
        }
        if rule.closed:
            _close(made, rule, front, operators.listeners)
            continue
        fronts = {"at": front}
        if rule.refuses_some and rule.methods:
            # Behind all others: they are of other methods, which may be held themselves.
            fronts["meant"] = {
                "rule": request_rule(rule, others, is_meant=True),
                "priority": _lowest(contained) + position,
            }
        _hold(made, rule, fronts, operators, settings)
    return {
        "routers": made.routers,
        "middlewares": made.middlewares | parts.common_middlewares(),
        "services": parts.services(settings.responder_url),
        "serversTransports": parts.transports(),
    }


@dataclass
class _Objects:
    """What is being made."""

    routers: dict[str, Any] = field(default_factory=dict)
    middlewares: dict[str, Any] = field(default_factory=dict)


def _check(contained: Sequence[Rules], operators: Operators, settings: Settings) -> None:
    lowest = _lowest(contained)
    for route in operators.routes:
        if not route.parents and route.priority >= lowest:
            raise BadInput(
                f"Router {route.name} has priority {route.priority}, and Firedoor's must stand "
                f"before it; nothing was done. Give it one below {lowest}."
            )
    is_shared = bool(set(operators.api_listeners) & set(operators.listeners))
    for rule in contained:
        if is_shared and any(re.match(path_regex(rule.path), path) for path in settings.own_paths):
            raise BadInput(
                f"A control on {rule.method} {rule.path} would hold back Traefik's own API, and so "
                "Firedoor's way to lift it; nothing was done. Give the API an entry point of its "
                "own."
            )
    named = {p for rule in contained for p in _principals(rule) if not is_address(p)}
    headers = {settings.header_of(each) for each in named} - {None}
    if settings.identity is not None and headers:
        check_hands_over(operators, settings.identity, sorted(map(str, headers)))


def _lowest(contained: Sequence[Rules]) -> int:
    """Return the lowest priority of Firedoor's routers."""
    return FIRST_PRIORITY - 3 * len(contained)


def _principals(rules: Rules) -> list[Principal]:
    groups = [rules.blocked, *rules.allowed, *(shadow.principals for shadow in rules.shadows)]
    return [principal for group in groups for principal in group]


def _is_within(inner: Rules, outer: Rules) -> bool:
    """Tell whether another endpoint's paths match a contained one's template."""
    matches = re.match(path_regex(outer.path), example_of(inner.path))
    return inner.path != outer.path and matches is not None


def _close(
    made: _Objects, rules: Rules, front: dict[str, Any], listeners: Iterable[Listener]
) -> None:
    for listener in listeners:
        name = _name(rules, "closed", _slug(listener))
        closed = {**front, **_at(listener)}
        made.routers[name] = {
            **closed,
            "middlewares": list(parts.CLOSED_BY),
            "service": parts.NOOP,
        }
        made.routers[f"{name}-bare"] = {
            **closed,
            "priority": front["priority"] - 1,
            "service": parts.NO_SERVERS,
        }


def _hold(
    made: _Objects,
    rules: Rules,
    fronts: dict[str, dict[str, Any]],
    operators: Operators,
    settings: Settings,
) -> None:
    """
    Make the routers of an endpoint that is not closed.

    Args:
        fronts: Rule and priority of each way into it, by a word for the router's name.
    """
    copied = _copied(rules, operators)
    roots = [route for route in copied.values() if not route.parents]
    outside = _only_from(made, rules, settings)
    for listener in sorted({each for route in roots for each in route.listeners}):
        for word, front in fronts.items():
            made.routers[_name(rules, word, _slug(listener))] = {
                **front,
                **_at(listener),
                **({"middlewares": outside} if outside else {}),
            }
    leaves: dict[tuple[str, bool], list[str]] = {}
    for name, route in copied.items():
        made.routers[name] = _copy(rules, route, copied, fronts)
        if route.service is not None:
            knows = settings.identity is not None and operators.passes(route, settings.identity)
            leaves.setdefault((route.service, knows), []).append(name)
    for (service, knows), above in leaves.items():
        _serve(made, rules, service, above, Callers(settings, knows))


def _copied(rules: Rules, operators: Operators) -> dict[str, Route]:
    """Return the operators' routers that could serve an endpoint, and all below them, by the name
    of their copy."""
    found = {
        route.name: route
        for route in operators.routes
        if not route.parents and may_serve(route, rules.path)
    }
    while below := [
        route
        for route in operators.routes
        if route.name not in found and any(parent in found for parent in route.parents)
    ]:
        found |= {route.name: route for route in below}
    return {_copy_name(rules, name): route for name, route in sorted(found.items())}


def _copy(
    rules: Rules, route: Route, copied: dict[str, Route], fronts: Iterable[str]
) -> dict[str, Any]:
    above = [_copy_name(rules, parent) for parent in route.parents]
    above = [each for each in above if each in copied]
    return {
        "parentRefs": above
        or [_name(rules, word, _slug(each)) for word in fronts for each in route.listeners],
        "rule": route.rule,
        "priority": route.priority,
        **({"ruleSyntax": route.rule_syntax} if route.rule_syntax else {}),
        **({"middlewares": list(route.middlewares)} if route.middlewares else {}),
    }


def _only_from(made: _Objects, rules: Rules, settings: Settings) -> list[str]:
    """Return the middlewares that refuse whom an address alone tells."""
    blocked = networks(rules.blocked)
    lists = [others_than(blocked)] if blocked else []
    lists += [networks(group) for group in rules.allowed if all(map(is_address, group))]
    names = [_name(rules, "from", str(position)) for position in range(len(lists))]
    for name, ranges in zip(names, lists, strict=True):
        made.middlewares[name] = parts.only_from(ranges, settings.forwarded_depth)
    return [parts.OUTSIDE_BY, *names] if names else []


def _serve(
    made: _Objects, rules: Rules, service: str, above: Sequence[str], callers: Callers
) -> None:
    """Make what is between copies of operators' routers and the service of theirs."""
    refused = callers.refused(rules)
    if refused is None and rules.rate_per_s is None and not rules.shadows:
        for name in above:
            made.routers[name]["service"] = service
        return
    to = _name(rules, "to", parts.slug(service), *(["known"] if callers.are_known else []))
    rest: dict[str, Any] = {"parentRefs": list(above), "rule": EVERYTHING, "priority": 1}
    if refused is not None:
        made.routers[f"{to}-refused"] = {
            **rest,
            "rule": refused,
            "priority": 3,
            "middlewares": list(parts.REFUSED_BY),
            "service": parts.NOOP,
        }
    if rules.rate_per_s is not None:
        bucket = _name(rules, "limit")
        made.middlewares[bucket] = parts.limit(rules.rate_per_s)
        chain = [parts.THROTTLED_BY, parts.ONE_BUCKET, bucket, parts.BUCKET_AWAY]
        made.routers[f"{to}-limit"] = {**rest, "middlewares": chain}
        rest["parentRefs"] = [f"{to}-limit"]
    made.routers[to] = {**rest, "service": service}
    for ids, rule in callers.counted(rules.shadows).items():
        counting = {**rest, "rule": rule, "priority": 2, "service": service}
        made.routers[f"{to}-shadow-{ids}"] = counting


def _at(listener: Listener) -> dict[str, Any]:
    return {"entryPoints": [listener.entry_point], **({"tls": {}} if listener.tls else {})}


def _slug(listener: Listener) -> str:
    return parts.slug(f"{listener.entry_point} tls" if listener.tls else listener.entry_point)


def _copy_name(rules: Rules, name: str) -> str:
    return _name(rules, "of", parts.slug(name))


def _name(rules: Rules, *words: str) -> str:
    return parts.name_of(f"{rules.method} {rules.path}", *words)
