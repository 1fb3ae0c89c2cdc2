"""Caddy's one route of Firedoor's own, rendered from a set of controls. Pure.

It is the first route of a server, matches every request, and holds a subroute: for each endpoint
what is refused there, then what is let past the rules of less specific endpoints. Whatever it does
not refuse goes on to the operator's routes as if it were not there. The operator's routes are
neither read nor copied.

Stock Caddy has no limit of rates, counts nothing by route, and verifies no token. Claims and API
keys come from a verifier, if there is one: a service of the operator's that is asked about a
request before it goes on, as Caddy's ``forward_auth`` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from actions.gateway.adapters.caddy.paths import URI, AnyOf, all_of, is_surely, may_be, none_of
from actions.gateway.rules import OVERRIDE_HEADERS, Rules, rules_of
from actions.gateway.templates import word_regex
from bot.errors import BadInput
from bot.model.answers import CLOSED, REFUSED, ControlAnswer
from bot.model.base import digest_of
from bot.model.containment import Control, Principal, PrincipalKind

Route = dict[str, Any]

VERSION = "firedoor_version"
"""The variable of a request that holds the version; by it a route without its id is known too."""

PASSED = "firedoor_passed"
"""Set for a request of an endpoint whose rules let it go: no other endpoint's are asked."""

METHOD = "{http.request.method}"
VERIFIED = "{http.reverse_proxy.header."

VERIFIER_CONNECT_S = 2
VERIFIER_ANSWER_S = 5

UNVERIFIED = [401, 403]
"""What a verifier says of a request that nobody can be held to have sent."""


@dataclass(frozen=True)
class Verifier:
    """
    Who says whose request it is.

    Args:
        url: Asked with GET, and all headers of the request.

        claim_headers: In which header of its answer each claim is.

        api_key_header: In which one the name of a checked API key is; None: it checks none.
    """

    url: str
    claim_headers: Mapping[str, str] = field(default_factory=dict)
    api_key_header: str | None = None

    def header_of(self, principal: Principal) -> str | None:
        """Return where its answer holds what a principal is known by; None if nowhere."""
        if principal.kind is PrincipalKind.API_KEY:
            return self.api_key_header
        return self.claim_headers.get(principal.claim or "")


def render(
    controls: Iterable[Control],
    known: Iterable[str] = (),
    verifier: Verifier | None = None,
    route_id: str = "firedoor",
) -> Route | None:
    """
    Return the route that does what a set of controls asks for; None if they ask for nothing.

    Args:
        known: Keys of all endpoints there are; see `rules`.

    Raises:
        BadInput: A control is one that Caddy cannot do, or lacks what its kind needs.
    """
    rules = rules_of(controls, known)
    routes = [route for rule in rules for route in _routes(rule, verifier)]
    return _assembled(route_id, routes) if routes else None


def version_of(route: Route | None) -> str:
    """Return the version of a route as it was rendered, or that of no route at all."""
    return str(route["handle"][0][VERSION]) if route is not None else _digest("", [])


def version_in(route: Any) -> str | None:
    """Return the version in a route that a gateway has; None if it was not rendered so."""
    try:
        whole = _assembled(route["@id"], route["handle"][1]["routes"])
    except (TypeError, KeyError, IndexError):
        return None
    return version_of(whole) if route == whole else None


def is_own(route: Any, route_id: str) -> bool:
    """Tell whether a route is Firedoor's, whatever another hand has made of it."""
    if not isinstance(route, dict):
        return False
    handlers = route.get("handle")
    return route.get("@id") == route_id or (
        isinstance(handlers, list) and any(isinstance(h, dict) and VERSION in h for h in handlers)
    )


def _assembled(route_id: Any, routes: Any) -> Route:
    variables = {"handler": "vars", VERSION: _digest(route_id, routes)}
    return {"@id": route_id, "handle": [variables, {"handler": "subroute", "routes": routes}]}


def _digest(route_id: Any, routes: Any) -> str:
    return digest_of([route_id, routes])[:12]


# --- routes ------------------------------------------------------------------------------------


def _routes(rules: Rules, verifier: Verifier | None) -> list[Route]:
    """
    Return what is refused on an endpoint, and what ends the rules for the rest.

    Refused is any request that a service may take for one of the endpoint; the rules end for
    those only that are surely of it.
    """
    passed: AnyOf = [{"vars": {PASSED: ["yes"]}}]
    here = [may_be(rules.path), _may_be_method(rules.methods), [none_of(passed)]]
    if rules.closed:
        return [_route([all_of(*here)], [_answer(CLOSED)])]
    if rules.rate_per_s is not None or rules.shadows:
        raise BadInput(
            f"{rules.method} {rules.path} is at a Caddy, which limits no rates and counts no "
            "shadows; nothing was done. Use block, allow_only or close."
        )
    conditions = _conditions(rules)
    by_address = [each for each in conditions if not each.needs_verifier]
    by_name = [each for each in conditions if each.needs_verifier]
    routes = []
    if by_address:
        refused = _refused(by_address, None)
        routes.append(_route([all_of(*here, refused)], [_answer(REFUSED)]))
    if by_name:
        routes.append(_route([all_of(*here)], [_asking(verifier, by_name)]))
    surely = [is_surely(rules.path), _is_surely_method(rules.methods)]
    return [*routes, _route([all_of(*surely)], [{"handler": "vars", PASSED: "yes"}])]


def _may_be_method(methods: Sequence[str]) -> AnyOf:
    """Return what matches a method in any case, and what a service may take for it."""
    if not methods:
        return [{}]
    words = "|".join(map(re.escape, methods))
    found: AnyOf = [{"vars_regexp": {METHOD: {"pattern": f"(?i)^(?:{words})$"}}}]
    said = {"pattern": f"(?i){word_regex(words)}"}
    return found + [{"header_regexp": {name: said}} for name in OVERRIDE_HEADERS]


def _is_surely_method(methods: Sequence[str]) -> AnyOf:
    if not methods:
        return [{}]
    overridden: AnyOf = [{"header": {name: ["*"]}} for name in OVERRIDE_HEADERS]
    return [{"method": list(methods), "not": overridden}]


def _asking(verifier: Verifier | None, conditions: Sequence[_Condition]) -> dict[str, Any]:
    """
    Return a handler that asks who sent a request, and refuses whom it must.

    Of nobody's request only what holds without the verifier is refused; the service has the say.
    If the verifier gives no answer, or an odd one, the request gets an error: a block that a
    broken verifier opens is none.
    """
    if verifier is None:
        raise BadInput(
            "This gateway has no verifier, so it knows nobody by a claim or an API key; nothing "
            "was done. Set its `verifier` in firedoor.yaml."
        )
    forwarded = {"X-Forwarded-Method": [METHOD], "X-Forwarded-Uri": [URI]}
    somebody = _route(_refused(conditions, verifier), [_answer(REFUSED)])
    unnamed = _refused(conditions, None)
    nobody = _route(unnamed, [_answer(REFUSED)]) if unnamed else {"handle": [{"handler": "vars"}]}
    odd = {"handle": [{"handler": "error", "status_code": 502}]}
    return {
        "handler": "reverse_proxy",
        **_upstream(verifier.url),
        "headers": {"request": {"set": forwarded}},
        "handle_response": [
            {"match": {"status_code": [2]}, "routes": [somebody]},
            {"match": {"status_code": UNVERIFIED}, "routes": [nobody]},
            {"routes": [odd]},
        ],
    }


def _upstream(url: str) -> dict[str, Any]:
    """Return how a URL is asked. Its query replaces the caller's, even if it is empty."""
    parts = urlsplit(url)
    is_secure = parts.scheme == "https"
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    transport: dict[str, Any] = {
        "protocol": "http",
        "dial_timeout": f"{VERIFIER_CONNECT_S}s",
        "response_header_timeout": f"{VERIFIER_ANSWER_S}s",
    }
    return {
        "upstreams": [{"dial": f"{host}:{parts.port or (443 if is_secure else 80)}"}],
        "transport": {**transport, "tls": {}} if is_secure else transport,
        "rewrite": {"method": "GET", "uri": _plain(f"{parts.path or '/'}?{parts.query}")},
    }


def _route(match: AnyOf, handle: list[dict[str, Any]]) -> Route:
    return {"match": match, "handle": handle}


def _answer(answer: ControlAnswer) -> dict[str, Any]:
    return {
        "handler": "static_response",
        "status_code": answer.status,
        "headers": {name: [value] for name, value in answer.headers.items()},
        "body": _plain(answer.body),
    }


def _plain(text: str) -> str:
    """Return a text in which Caddy finds no placeholder."""
    return text.replace("{", "\\{")


# --- conditions --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Condition:
    """Callers who are refused: these; or, if they are the ``allowed``, all others."""

    principals: tuple[Principal, ...]
    are_allowed: bool

    @property
    def needs_verifier(self) -> bool:
        return any(each.kind is not PrincipalKind.IP for each in self.principals)


def _refused(conditions: Sequence[_Condition], verifier: Verifier | None) -> AnyOf:
    """Return what matches whom the conditions refuse. Without a verifier nobody is known by a
    claim or a key: who is refused as one is not found, and who is allowed as one is not either."""
    return [
        refused
        for condition in conditions
        for callers in [_callers(condition.principals, verifier)]
        for refused in ([none_of(callers)] if condition.are_allowed else callers)
    ]


def _conditions(rules: Rules) -> list[_Condition]:
    addresses = tuple(p for p in rules.blocked if p.kind is PrincipalKind.IP)
    others = tuple(p for p in rules.blocked if p.kind is not PrincipalKind.IP)
    found = [_Condition(each, are_allowed=False) for each in (addresses, others) if each]
    return found + [_Condition(group, are_allowed=True) for group in rules.allowed]


def _callers(principals: Sequence[Principal], verifier: Verifier | None) -> AnyOf:
    networks = [each.value for each in principals if each.kind is PrincipalKind.IP]
    found: AnyOf = [{"client_ip": {"ranges": networks}}] if networks else []
    for each in principals:
        if each.kind is PrincipalKind.IP or verifier is None:
            continue
        header = verifier.header_of(each)
        if header is None:
            raise BadInput(
                f"The verifier of this gateway is not said to tell {each}; nothing was done. Set "
                "`claim_headers` or `api_key_header` of the gateway in firedoor.yaml."
            )
        # An expression: Caddy would look for placeholders in a plain value.
        pattern = {"pattern": f"^{re.escape(each.value)}$"}
        found.append({"vars_regexp": {f"{VERIFIED}{_canonical(header)}}}": pattern}})
    return found


def _canonical(header: str) -> str:
    """Return a header's name as Go, and so Caddy, spells it."""
    return "-".join(part.capitalize() for part in header.split("-"))
