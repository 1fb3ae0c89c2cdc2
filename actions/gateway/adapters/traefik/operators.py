"""What operators route, read from what Traefik's API reports. Pure.

The API shows routers as they run, so those of every provider (files, Docker, Kubernetes) are
there, with names that say whose they are: ``orders@docker``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from actions.gateway.templates import PARAMETER
from bot.errors import BadInput

OWN = "firedoor-"
"""What all of Firedoor's objects are called, at the beginning."""

API = "api@internal"
"""The service that answers what is read here."""

_OWN_SERVICES = frozenset(
    f"{name}@internal" for name in ("api", "dashboard", "ping", "prometheus", "rest")
)

_LITERAL_PATH = re.compile(r"\b(?:Path|PathPrefix)\(`(/[^`]*)`\)")


@dataclass(frozen=True, order=True)
class Listener:
    """An entry point, with TLS or without: routers of one never see requests of the other."""

    entry_point: str
    tls: bool


@dataclass(frozen=True)
class Route:
    """
    One of the operators' routers that is in force.

    It has a ``service``, or others below it that have it as a parent. ``middlewares`` are its
    own, without those that its entry point puts in front of every router's.
    """

    name: str
    rule: str
    priority: int
    rule_syntax: str | None = None
    service: str | None = None
    middlewares: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    listeners: tuple[Listener, ...] = ()


@dataclass(frozen=True)
class Operators:
    """
    Args:
        routes: Those that customers come by.

        listeners: Where customers come in.

        api_listeners: Those by which Firedoor may be reading this.

        middlewares: The configuration of each, by its name.

        before: The middlewares of each entry point.
    """

    routes: tuple[Route, ...]
    listeners: tuple[Listener, ...]
    api_listeners: tuple[Listener, ...] = ()
    middlewares: Mapping[str, Any] | None = None
    before: Mapping[str, tuple[str, ...]] | None = None

    def passes(self, route: Route, middleware: str) -> bool:
        """Tell whether every request on a route goes through a middleware."""
        by_name = {each.name: each for each in self.routes}
        if self._holds(route.middlewares, middleware):
            return True
        above = [by_name[name] for name in route.parents if name in by_name]
        if above:
            return all(self.passes(parent, middleware) for parent in above)
        fronts = [(self.before or {}).get(each.entry_point, ()) for each in route.listeners]
        return bool(fronts) and all(self._holds(front, middleware) for front in fronts)

    def _holds(self, names: Iterable[str], wanted: str) -> bool:
        for name in names:
            chain = (self.middlewares or {}).get(name, {}).get("chain") or {}
            within = [qualified(each, name) for each in chain.get("middlewares") or ()]
            if name == wanted or self._holds(within, wanted):
                return True
        return False


def operators_of(
    rawdata: Mapping[str, Any], entry_points: Iterable[Mapping[str, Any]]
) -> Operators:
    """
    Return what operators route.

    Args:
        rawdata: What ``/api/rawdata`` answers.

        entry_points: What ``/api/entrypoints`` answers.

    Raises:
        KeyError, TypeError, AttributeError: They are not of Traefik's form.
    """
    http = {
        str(each["name"]): each["http"]
        for each in entry_points
        if not _is_udp(str(each["address"]))
    }
    before = {
        name: tuple(str(m) for m in options.get("middlewares") or ())
        for name, options in http.items()
    }
    routers = rawdata.get("routers") or {}
    running = {name: r for name, r in routers.items() if r["status"] != "disabled"}
    routes = [
        _route(name, router, before)
        for name, router in sorted(running.items())
        if not name.startswith(OWN) and provider_of(name) != "internal"
    ]
    listeners = _listeners(http, routes, running)
    seen = [replace(r, listeners=tuple(e for e in r.listeners if e in listeners)) for r in routes]
    return Operators(
        routes=tuple(route for route in seen if route.parents or route.listeners),
        listeners=tuple(sorted(listeners)),
        api_listeners=tuple(
            sorted({e for r in running.values() if r.get("service") == API for e in _of(r)})
        ),
        middlewares=rawdata.get("middlewares") or {},
        before=before,
    )


def may_serve(route: Route, template: str) -> bool:
    """
    Tell whether a router could match a path of a template; in doubt, that it could.

    Only what must hold for the whole rule is looked at: paths of a rule without ``||`` and ``!``.
    """
    if route.rule_syntax == "v2" or "|" in route.rule or "!" in route.rule:
        return True
    begin = PARAMETER.split("/" + template.strip("/"))[0]
    return all(_meet(unquote(path), unquote(begin)) for path in _LITERAL_PATH.findall(route.rule))


def provider_of(name: str) -> str:
    return name.rpartition("@")[2]


def qualified(name: str, beside: str) -> str:
    """Return the whole name of what an object of another name refers to."""
    return name if "@" in name else f"{name}@{provider_of(beside)}"


def check_hands_over(operators: Operators, middleware: str, headers: Iterable[str]) -> None:
    """
    Check that a middleware sets headers whatever a caller has sent.

    Raises:
        BadInput: It is not there, or it is one that says which headers it sets, and one is missing.
    """
    found = (operators.middlewares or {}).get(middleware)
    if found is None:
        raise BadInput(
            f"Traefik has no middleware {middleware!r}, which is to say who a caller is; nothing "
            "was done. Mend `identity` of the gateway in firedoor.yaml."
        )
    if "forwardAuth" not in found:
        return
    handed = {h.lower() for h in (found["forwardAuth"] or {}).get("authResponseHeaders") or ()}
    for header in headers:
        if header.lower() not in handed:
            raise BadInput(
                f"Middleware {middleware} does not hand over {header}, so callers could write it "
                "themselves; nothing was done. Add it to its `authResponseHeaders`."
            )


# --- inside ------------------------------------------------------------------------------------


def _route(name: str, router: Mapping[str, Any], before: Mapping[str, tuple[str, ...]]) -> Route:
    listeners = tuple(_of(router))
    own = [qualified(each, name) for each in router.get("middlewares") or ()]
    front = before.get(listeners[0].entry_point, ()) if len(listeners) == 1 else ()
    if front and tuple(own[: len(front)]) == front:
        own = own[len(front) :]
    service = router.get("service")
    return Route(
        name=name,
        rule=str(router["rule"]),
        priority=int(router["priority"]),
        rule_syntax=router.get("ruleSyntax"),
        service=qualified(service, name) if service else None,
        middlewares=tuple(own),
        parents=tuple(qualified(each, name) for each in router.get("parentRefs") or ()),
        listeners=listeners,
    )


def _of(router: Mapping[str, Any]) -> list[Listener]:
    tls = router.get("tls") is not None
    return [Listener(str(name), tls) for name in router.get("entryPoints") or ()]


def _listeners(
    http: Mapping[str, Any], routes: Iterable[Route], running: Mapping[str, Any]
) -> set[Listener]:
    """
    Return the listeners of every entry point that is not Traefik's own.

    Right after its start Traefik does not report all routers yet. So an entry point counts before
    any router uses it.
    """
    used = {each for route in routes for each in route.listeners}
    public = {
        listener.entry_point
        for route in routes
        for listener in route.listeners
        if route.service not in _OWN_SERVICES
    }
    own = {
        listener.entry_point
        for router in running.values()
        if router.get("service") in _OWN_SERVICES
        for listener in _of(router)
    }
    found = set()
    for name, options in http.items():
        if name in own and name not in public:
            continue
        has_tls = options.get("tls") is not None
        found.add(Listener(name, has_tls))
        if Listener(name, tls=True) in used:
            found.add(Listener(name, tls=True))
    return found


def _is_udp(address: str) -> bool:
    return address.endswith("/udp")


def _meet(path: str, begin: str) -> bool:
    return begin.startswith(path.rstrip("/")) or path.startswith(begin)
