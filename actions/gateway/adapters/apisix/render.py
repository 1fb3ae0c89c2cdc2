"""APISIX routes for a set of controls, rendered in front of the operator's. Pure.

APISIX looks for the host first, then for the longest ``uri``, and only among the routes of one
``uri`` at their ``priority`` (lib/resty/radixtree.lua, apisix/http/router/radixtree_host_uri.lua):
a route of Firedoor's own with ``/*`` would lose to the operator's. So each route of the operator's
that could serve an endpoint gets an overlay with the same hosts and uris, a higher priority, and
as conditions (``vars``) the operator's and the endpoint:

- of a closed endpoint it ends requests by ``fault-injection``;
- of any other it is a copy of the operator's route, with the plugins that hold callers back.

It is one object and one write each, so it is never there without its plugins. Global rules would
not need the copies, but two of them with one plugin put each other out of force
(merge_global_rules in apisix/plugin.lua), the operator's too.

A path is looked at as nginx has decoded it (``uri``) and as it was sent (``request_uri``).
Addresses are looked at by the plugin, after ``real-ip`` has found the caller's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from actions.gateway.adapters.matching import (
    addresses,
    common_networks,
    kept_out,
    key_names,
    may_meet,
)
from actions.gateway.rules import OVERRIDE_HEADERS, Rules
from actions.gateway.templates import ODD_SEGMENT, decoded_regex, path_regex
from bot.errors import ProviderRefused
from bot.model.answers import CLOSED, REFUSED, THROTTLED, ControlAnswer
from bot.model.base import digest_of

MAX_WINDOW_S = 3600
_DESCRIPTION_CHARS = 256
REVISION = "modifiedIndex"
"""etcd's number of an object's last change."""

CHANGING = ("create_time", "update_time", REVISION)
_MANAGED = ("id", "name", "desc", "labels", "priority", "status", *CHANGING)
"""What an overlay has of its own, or APISIX writes."""

_ROUTING = ("uri", "uris", "host", "hosts", "methods", "remote_addr", "remote_addrs", "filter_func")


@dataclass(frozen=True)
class Base:
    """What the operator has, as the Admin API returns the values; services and plugin configs by
    identifier."""

    routes: Sequence[Mapping[str, Any]]
    services: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    plugin_configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def id_start(gateway: str) -> str:
    """Return what the identifiers of a gateway's objects start with: nobody else's do."""
    return f"firedoor-{digest_of(gateway)[:8]}-"


def marker_id(gateway: str) -> str:
    return f"{id_start(gateway)}version"


def marker_body(labels: Mapping[str, str]) -> dict[str, Any]:
    """Return a route that is switched off: it only carries labels."""
    return {
        "name": "firedoor",
        "desc": "What Firedoor holds at this gateway. Changed by Firedoor only.",
        "uri": "/firedoor",
        "host": "firedoor.invalid",
        "status": 0,
        "labels": {"firedoor": "version", **labels},
        "plugins": {"fault-injection": {"abort": _abort(CLOSED)}},
    }


def render(gateway: str, rules: Sequence[Rules], base: Base) -> dict[str, dict[str, Any]]:
    """
    Return the overlays for rules by their identifiers, those of closed endpoints first.

    Raises:
        ProviderRefused: Something of the operator's is of a form that cannot be put in front of.
    """
    closed: dict[str, dict[str, Any]] = {}
    passing: dict[str, dict[str, Any]] = {}
    priorities = [int(route.get("priority") or 0) for route in base.routes] or [0]
    span = max(priorities) - min(priorities) + 1
    for position, rule in enumerate(rules):
        if not rule.is_contained:
            continue
        floor = max(priorities) + 1 + (len(rules) - position) * span
        for route in base.routes:
            if not _may_serve(route, rule):
                continue
            body = _closed(route, rule, rules) if rule.closed else _held(route, rule, rules, base)
            body["priority"] = floor + int(route.get("priority") or 0) - min(priorities)
            body["desc"] = f"Firedoor: {rule.name}"[:_DESCRIPTION_CHARS]
            body["labels"] = {"firedoor": "control"}
            name = f"{id_start(gateway)}{digest_of(body)[:16]}"
            (closed if rule.closed else passing)[name] = {**body, "name": name}
    return {**closed, **passing}


def _may_serve(route: Mapping[str, Any], rule: Rules) -> bool:
    if route.get("status") == 0:
        return False
    methods = route.get("methods")
    if methods and rule.methods and not rule.closed and not set(methods) & set(rule.methods):
        return False
    uris = route.get("uris") or [route.get("uri") or "/*"]
    # A parameter of APISIX (``/:id``) or a wildcard ends what is literal.
    return any(may_meet(re.split("[:*]", uri)[0], rule.path) for uri in uris)


def _closed(route: Mapping[str, Any], rule: Rules, rules: Sequence[Rules]) -> dict[str, Any]:
    body = {key: route[key] for key in _ROUTING if route.get(key)}
    if not {"host", "hosts"} & body.keys() and route.get("service_id"):
        body["service_id"] = route["service_id"]  # whose hosts are the route's then
    body["vars"] = _conditions(route, rule, rules)
    body["plugins"] = {"fault-injection": {"abort": _abort(CLOSED)}}
    return body


def _held(
    route: Mapping[str, Any], rule: Rules, rules: Sequence[Rules], base: Base
) -> dict[str, Any]:
    if route.get("script"):
        raise _refusal(route, rule, "runs a script, beside which APISIX takes no plugins")
    there = _plugin_names(route, base)
    own = _holding(rule)
    for name in own:
        if name in there and name != "response-rewrite":
            raise _refusal(route, rule, f"has a `{name}` of its own, and APISIX runs one")
    if "response-rewrite" in there:
        own.pop("response-rewrite", None)
    body = {key: value for key, value in route.items() if key not in _MANAGED}
    body["vars"] = _conditions(route, rule, rules)
    body["plugins"] = {**(route.get("plugins") or {}), **own}
    return json.loads(json.dumps(body))  # type: ignore[no-any-return]  # shares nothing


def _plugin_names(route: Mapping[str, Any], base: Base) -> set[str]:
    """Return the plugins that run for a route: its own, its plugin config's and its service's."""
    service = base.services.get(str(route.get("service_id")), {})
    config = base.plugin_configs.get(str(route.get("plugin_config_id")), {})
    found: dict[str, Any] = {}
    for part in (service, config, route):
        found |= part.get("plugins") or {}
    return {name for name, conf in found.items() if not (conf.get("_meta") or {}).get("disable")}


def _refusal(route: Mapping[str, Any], rule: Rules, why: str) -> ProviderRefused:
    return ProviderRefused(
        f"Route {route.get('name') or route.get('id')}, which serves {rule.method} {rule.path}, "
        f"{why}; nothing was done. Close the endpoint, or change the route."
    )


# --- plugins -----------------------------------------------------------------------------------


def _holding(rule: Rules) -> dict[str, Any]:
    """Return the plugins that hold callers back."""
    plugins: dict[str, Any] = {}
    refused = []
    if nets := addresses(rule.blocked):
        refused.append(["remote_addr", "ipmatch", nets])
    ips = [nets for group in rule.allowed if (nets := addresses(group))]
    keys = [names for group in rule.allowed if (names := key_names(group))]
    allowed_keys = sorted(set[str]().union(*keys).intersection(*keys) - {*key_names(rule.blocked)})
    if (ips and not common_networks(ips)) or (keys and not allowed_keys):
        plugins["fault-injection"] = {"abort": _abort(REFUSED)}
    else:
        refused += [["remote_addr", "!", "ipmatch", nets] for nets in ips]
        if refused:
            # One expression in a list: read alike by the versions that join a list's members by
            # AND and by those that join them by OR.
            joined = ["OR", *refused] if len(refused) > 1 else refused
            plugins["fault-injection"] = {"abort": {**_abort(REFUSED), "vars": [joined]}}
        if keys:
            plugins["consumer-restriction"] = _restriction("whitelist", allowed_keys)
        elif blocked := key_names(rule.blocked):
            plugins["consumer-restriction"] = _restriction("blacklist", blocked)
    if rule.rate_per_s is not None:
        plugins |= _limit(rule.rate_per_s, rule.name)
    return plugins


def _abort(answer: ControlAnswer) -> dict[str, Any]:
    """``fault-injection`` reads ``$name`` in them as variables; the answers have none."""
    return {"http_status": answer.status, "body": answer.body, "headers": dict(answer.headers)}


def _restriction(kind: str, names: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "consumer_name",
        kind: list(names),
        "rejected_code": REFUSED.status,
        "_meta": {"error_response": json.loads(REFUSED.body)},
    }


def _limit(rate_per_s: float, name: str) -> dict[str, Any]:
    """Return a limit over all callers of a node, and what marks its answers: a 429 that did not
    come from a service."""
    marks = {k: v for k, v in THROTTLED.headers.items() if k != "content-type"}
    return {
        "limit-count": {
            **window(rate_per_s),
            "key_type": "constant",
            "key": f"firedoor {name}",
            "policy": "local",
            "rejected_code": THROTTLED.status,
            "show_limit_quota_header": False,
            "_meta": {"error_response": json.loads(THROTTLED.body)},
        },
        "response-rewrite": {
            "headers": {"set": marks},
            "vars": [["status", "==", THROTTLED.status], ["upstream_status", "!", "~~", "."]],
        },
    }


def window(rate_per_s: float) -> dict[str, int]:
    """Return the shortest window of whole seconds, up to an hour, with a whole number of requests
    that comes closest to a rate; at least one request in a window."""
    share = Fraction(rate_per_s).limit_denominator(MAX_WINDOW_S)
    if share <= 0:
        return {"count": 1, "time_window": min(round(1 / rate_per_s), 30 * 24 * 3600)}
    return {"count": share.numerator, "time_window": share.denominator}


# --- conditions --------------------------------------------------------------------------------


def _conditions(route: Mapping[str, Any], rule: Rules, rules: Sequence[Rules]) -> list[Any]:
    """Return the operator's conditions and the endpoint, all of which must hold
    (lua-resty-expr)."""
    path = _path(rule.path)
    if rule.closed:
        path.append(["uri", "~~", ODD_SEGMENT])
    ours: list[Any] = [path]
    if rule.methods:
        ours.append(_method(rule.methods, overrides=rule.closed))
    for other in kept_out(rule, rules):
        if other.methods:
            ours.append(["!AND", _path(other.path), _method(other.methods, overrides=rule.closed)])
        else:
            ours.append(["!OR", *_path(other.path)[1:]])
    theirs = route.get("vars") or []
    if theirs and isinstance(theirs[0], str):
        return ["AND", theirs, *ours]
    return [*theirs, *ours]


def _path(template: str) -> list[Any]:
    decoded, sent = decoded_regex(template), path_regex(template)
    return ["OR", ["uri", "~~", f"^(?:{decoded})\\z"], ["request_uri", "~~", f"^(?:{sent})\\z"]]


def _method(methods: Sequence[str], *, overrides: bool) -> list[Any]:
    plain = ["request_method", "in", list(methods)]
    if not overrides:
        return plain
    words = "|".join(map(re.escape, methods))
    said = f"(?:^|,)\\s*(?:{words})\\s*(?:,|$)"
    names = [f"http_{header.replace('-', '_')}" for header in OVERRIDE_HEADERS]
    return ["OR", plain, *([name, "~*", said] for name in names)]
