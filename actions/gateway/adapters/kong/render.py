"""Kong's routes and plugins for a set of controls, rendered in front of the operator's. Pure.

Kong takes the route that matches a request in most respects (methods, hosts, paths, headers,
SNIs), and of those the one with the highest ``regex_priority`` (kong/router/transform.lua). So each
route of the operator's that could serve an endpoint gets an overlay of Firedoor's own, with its
hosts, headers, SNIs and protocols and a path that matches the endpoint alone:

- of a closed endpoint: with a service that leads nowhere, and ``request-termination``;
- of any other: with the operator's service, copies of the plugins on the operator's route, so
  that whatever authenticates there does so here, and the plugins that hold callers back.

Kong runs one instance of a plugin for a request, that of the narrowest scope (lookup_cfg in
kong/runloop/plugins_iterator.lua). Firedoor's are on route and service, or on route, service and
consumer. An instance of the operator's that this would put out of force is merged (addresses) or
makes Firedoor refuse (limits), so that holding one caller back never lets another in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from actions.gateway.adapters.kong.names import TAG, gateway_tags, name_of, named_id, nowhere
from actions.gateway.adapters.kong.paths import ODD_PATHS, kong_paths
from actions.gateway.adapters.kong.plugins import (
    CALLERS,
    MARK_THROTTLED,
    NEVER,
    ending,
    limit_config,
    plugin_of,
    reference,
    refusing,
    scope,
)
from actions.gateway.adapters.matching import (
    addresses,
    common_networks,
    kept_out,
    key_names,
    may_meet,
)
from actions.gateway.rules import OVERRIDE_HEADERS, Rules
from bot.errors import ProviderRefused
from bot.model.answers import CLOSED, MARK_HEADER, REFUSED

METHODS = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")

_SHAPE = ("protocols", "hosts", "headers", "snis", "sources", "destinations")
_HANDLING = (
    "https_redirect_status_code",
    "path_handling",
    "preserve_host",
    "request_buffering",
    "response_buffering",
)
_COPIED = ("name", "config", "enabled", "protocols", "ordering", "service", *CALLERS)


@dataclass(frozen=True)
class Base:
    """What the operator has: routes and plugins, as the Admin API returns them. ``consumers`` are
    the identifiers of consumers by name."""

    routes: Sequence[Mapping[str, Any]]
    plugins: Sequence[Mapping[str, Any]] = ()
    consumers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Overlay:
    """One route with its plugins, all with their identifiers. ``passes`` tells whether requests
    go on to the operator's service."""

    route: Mapping[str, Any]
    plugins: tuple[Mapping[str, Any], ...]
    passes: bool

    @property
    def id(self) -> str:
        return str(self.route["id"])


def render(
    gateway: str, rules: Sequence[Rules], base: Base, *, marks_throttled: bool
) -> list[Overlay]:
    """
    Return the overlays for rules, those of closed endpoints first.

    Raises:
        ProviderRefused: Something of the operator's is of a form that cannot be put in front of.
    """
    http = [route for route in base.routes if _is_http(route)]
    top = max((int(route.get("regex_priority") or 0) for route in http), default=0)
    found: dict[str, Overlay] = {}
    for position, rule in enumerate(rules):
        if not rule.is_contained:
            continue
        maker = _Maker(gateway, rule, rules, base, top + len(rules) - position, marks_throttled)
        for overlay in maker.closed(http) if rule.closed else maker.passing(http):
            found.setdefault(overlay.id, overlay)
    return sorted(found.values(), key=lambda overlay: (overlay.passes, overlay.id))


def _is_http(route: Mapping[str, Any]) -> bool:
    return bool({"http", "https"} & set(route.get("protocols") or ("http", "https")))


@dataclass(frozen=True)
class _Maker:
    """Makes the overlays of one rule."""

    gateway: str
    rule: Rules
    rules: Sequence[Rules]
    base: Base
    priority: int
    marks_throttled: bool

    # --- closed ------------------------------------------------------------------------------

    def closed(self, routes: Sequence[Mapping[str, Any]]) -> Iterable[Overlay]:
        rule, free = self.rule, kept_out(self.rule, self.rules)
        paths = [*kong_paths(rule.path, [other.path for other in free]), ODD_PATHS]
        for route in [route for route in routes if self._serves(route)] or [{}]:
            methods = _both(rule.methods, route.get("methods"))
            if methods != []:
                yield self._closed(route, methods, paths)
            if rule.methods:
                for header in OVERRIDE_HEADERS:
                    yield self._closed(route, route.get("methods"), paths, header)
            else:
                yield from self._free_for_some_methods(route, free)

    def _free_for_some_methods(
        self, route: Mapping[str, Any], free: Sequence[Rules]
    ) -> Iterable[Overlay]:
        """A free endpoint within a closed route is free for its own methods only."""
        for other in free:
            rest = [method for method in METHODS if method not in other.methods]
            methods = _both(rest, route.get("methods"))
            if other.methods and methods:
                yield self._closed(route, methods, kong_paths(other.path))

    def _closed(
        self,
        route: Mapping[str, Any],
        methods: Sequence[str] | None,
        paths: list[str],
        override: str | None = None,
    ) -> Overlay:
        matched = self._matched(route, methods, paths)
        if override is not None:
            words = sorted(method.lower() for method in self.rule.methods)
            matched["headers"] = {**(route.get("headers") or {}), override: words}
        service = {"id": nowhere(self.gateway)["id"]}
        headers = [
            f"{name}:{value}" for name, value in CLOSED.headers.items() if name != "content-type"
        ]
        plugins = [
            plugin_of("request-termination", ending(CLOSED.status, CLOSED.body), service),
            plugin_of("response-transformer", {"add": {"headers": headers}}, service),
        ]
        return self._named({**matched, "service": service}, plugins, passes=False)

    # --- passing -----------------------------------------------------------------------------

    def passing(self, routes: Sequence[Mapping[str, Any]]) -> Iterable[Overlay]:
        rule = self.rule
        paths = kong_paths(rule.path, [other.path for other in kept_out(rule, self.rules)])
        for route in routes:
            methods = _both(rule.methods, route.get("methods"))
            if methods == [] or not self._serves(route):
                continue
            self._check(route)
            handled = {key: route[key] for key in _HANDLING if route.get(key) is not None}
            matched = self._matched(route, methods, paths)
            own = self._holding(route)
            taken = {scope(plugin) for plugin in own}
            copies = [p for p in self._copies(route) if scope(p) not in taken]
            body = {**handled, **matched, "service": route.get("service")}
            yield self._named(body, [*copies, *own], passes=True)

    def _check(self, route: Mapping[str, Any]) -> None:
        paths = [path for path in route.get("paths") or [] if path != "/"]
        if route.get("strip_path", True) and paths:
            raise self._refusal(
                route,
                "takes its path off before the service gets the request, which Kong cannot do for "
                "a part of it",
                "Close the endpoint, or set `strip_path` of the route to false",
            )

    def _copies(self, route: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the plugins on an operator's route, without what is bound to that one."""
        return [
            {key: plugin[key] for key in _COPIED if plugin.get(key)}
            for plugin in self.base.plugins
            if reference(plugin, "route") == route["id"] and plugin.get("enabled", True)
        ]

    def _holding(self, route: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the plugins that hold callers back."""
        rule, service = self.rule, route.get("service")
        limit = [] if rule.rate_per_s is None else self._limit(route, rule.rate_per_s)
        ips = [nets for group in rule.allowed if (nets := addresses(group))]
        keys = [names for group in rule.allowed if (names := key_names(group))]
        allowed_keys = set[str]().union(*keys).intersection(*keys)
        if keys and not allowed_keys:
            return [*limit, refusing(service)]  # nobody is on every list
        restriction = self._addresses(route, ips, addresses(rule.blocked))
        if restriction and restriction["name"] == "request-termination":
            return [*limit, restriction]
        found = [*limit, *([restriction] if restriction else [])]
        if keys:
            self._check_rivals(route, "request-termination")
            found.append(refusing(service))
        blocked_keys = set(key_names(rule.blocked))
        refused = ending(REFUSED.status, REFUSED.body)
        for name in sorted(allowed_keys - blocked_keys):
            let_through = {**refused, "trigger": NEVER}
            found.append(self._for(name, "request-termination", let_through, service))
        for name in sorted(blocked_keys):
            found.append(self._for(name, "request-termination", refused, service))
            mark = {"add": {"headers": [f"{MARK_HEADER}:{REFUSED.mark}"]}}
            found.append(self._for(name, "response-transformer", mark, service))
        return found

    def _for(
        self, name: str, plugin: str, config: Mapping[str, Any], service: Any
    ) -> dict[str, Any]:
        return {
            **plugin_of(plugin, config, service),
            "consumer": {"id": self.base.consumers[name]},
        }

    def _limit(self, route: Mapping[str, Any], rate_per_s: float) -> list[dict[str, Any]]:
        service = route.get("service")
        if service is None:
            raise self._refusal(
                route, "has no service, and Kong counts all callers of a service", "Close it"
            )
        if self._rivals(route, "rate-limiting"):
            raise self._refusal(
                route,
                "is limited already, and Kong runs one `rate-limiting` for a request",
                "Lower the limit that is there, or block or close",
            )
        plugins = [plugin_of("rate-limiting", limit_config(rate_per_s), service)]
        if self.marks_throttled and not self._rivals(route, "post-function"):
            code = {"header_filter": [MARK_THROTTLED]}
            plugins.append(plugin_of("post-function", code, service))
        return plugins

    def _addresses(
        self, route: Mapping[str, Any], groups: list[list[str]], denied: list[str]
    ) -> dict[str, Any] | None:
        """Return our restriction and that of the operator's which it puts out of force, as one;
        a refusal of everybody if no address is left."""
        if not groups and not denied:
            return None
        theirs = self._check_rivals(route, "ip-restriction")
        config = (theirs[0].get("config") or {}) if theirs else {}
        groups = [group for group in (*groups, config.get("allow")) if group]
        try:
            allowed = common_networks(groups) if groups else []
        except (ValueError, TypeError):
            raise self._refusal(
                route, "has an `ip-restriction` that Firedoor cannot read", "Close the endpoint"
            ) from None
        if groups and not allowed:
            return refusing(route.get("service"))
        denied = sorted({*denied, *(config.get("deny") or [])})
        merged = {
            "allow": allowed or None,
            "deny": denied or None,
            "status": REFUSED.status,
            "message": REFUSED.detail,
        }
        return plugin_of("ip-restriction", merged, route.get("service"))

    # --- rivals ------------------------------------------------------------------------------

    def _rivals(self, route: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
        """Return the operator's instances of a plugin that may run on a route, the one with the
        narrowest scope first."""
        service = (route.get("service") or {}).get("id")
        found = [
            plugin
            for plugin in self.base.plugins
            if plugin.get("name") == name
            and plugin.get("enabled", True)
            and reference(plugin, "route") in (None, route["id"])
            and reference(plugin, "service") in (None, service)
        ]
        return sorted(
            found, key=lambda p: (reference(p, "route") is None, reference(p, "service") is None)
        )

    def _check_rivals(self, route: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
        """Return the rivals, none of which is for some callers only: what such a one would do
        beside ours cannot be kept."""
        rivals = self._rivals(route, name)
        if any(reference(plugin, caller) for plugin in rivals for caller in CALLERS):
            raise self._refusal(
                route,
                f"has a `{name}` for single consumers, and Kong runs one for a request",
                "Close the endpoint, or take that plugin away",
            )
        return rivals

    def _refusal(self, route: Mapping[str, Any], why: str, remedy: str) -> ProviderRefused:
        return ProviderRefused(
            f"Route {route.get('name') or route['id']} of gateway {self.gateway}, which serves "
            f"{self.rule.method} {self.rule.path}, {why}; nothing was done. {remedy}."
        )

    # --- both --------------------------------------------------------------------------------

    def _serves(self, route: Mapping[str, Any]) -> bool:
        if route.get("expression"):
            raise self._refusal(
                route,
                "is written as an expression, which Firedoor cannot read",
                "Contain it elsewhere, or run Kong with another `router_flavor`",
            )
        starts = route.get("paths") or ["/"]
        return any(start.startswith("~") or may_meet(start, self.rule.path) for start in starts)

    def _matched(
        self, route: Mapping[str, Any], methods: Sequence[str] | None, paths: list[str]
    ) -> dict[str, Any]:
        shape = {key: route[key] for key in _SHAPE if route.get(key)}
        return {
            **shape,
            **({"methods": sorted(methods)} if methods else {}),
            "paths": paths,
            "regex_priority": self.priority,
            "strip_path": False,
        }

    def _named(
        self, route: Mapping[str, Any], plugins: Sequence[Mapping[str, Any]], *, passes: bool
    ) -> Overlay:
        """Name objects by what they are, so that repeating it makes the same ones."""
        name = name_of(self.gateway, [route, plugins])
        tags = [*gateway_tags(self.gateway), f"{TAG}-for:{quote(self.rule.name, safe='')}"]
        common = {"tags": tags}
        bound = tuple(
            {
                **plugin,
                **common,
                "id": named_id(f"{name} {json.dumps(scope(plugin))}"),
                "route": {"id": named_id(name)},
            }
            for plugin in plugins
        )
        return Overlay({**route, **common, "id": named_id(name), "name": name}, bound, passes)


def _both(ours: Sequence[str], theirs: Sequence[str] | None) -> list[str] | None:
    """Return the methods on both lists, of which an empty or missing one has all; None for all."""
    if ours and theirs:
        return [method for method in ours if method in theirs]
    return list(ours or theirs or []) or None
