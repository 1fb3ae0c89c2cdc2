"""An HTTPRoute of the Gateway API that closes endpoints, rendered from a set of controls. Pure.

A rule without a backend answers 500. It is taken for a request only if none that matches it comes
before: the order is that of the Gateway API, whichever route is whose, and of two equal ones the
older is first.
https://gateway-api.sigs.k8s.io/reference/spec/#httprouterule
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from actions.gateway.adapters.kubernetes.istio_rules import METHODS
from actions.gateway.rules import OVERRIDE_HEADERS, Rules, rules_of
from actions.gateway.templates import segments_of
from bot.model.containment import Control

GROUP = "gateway.networking.k8s.io"

MAX_RULES = 16
MAX_MATCHES = 128
"""Of one HTTPRoute."""

Match = dict[str, Any]


def render(
    controls: Iterable[Control], parent: Mapping[str, Any], hostnames: Sequence[str]
) -> dict[str, Any] | None:
    """
    Return the ``spec`` of the route; None if nothing is closed. Everything is said that the API
    server would fill in, so that it is read back as it was written.

    Args:
        parent: The ``parentRef``: the operator's Gateway.

        hostnames: Of the operator's routes; a route with a more specific one would come first.

    Raises:
        BadInput: A control lacks what its kind needs.
    """
    closed = [rules for rules in rules_of(controls) if rules.closed]
    if not closed:
        return None
    spec: dict[str, Any] = {
        "parentRefs": [dict(parent)],
        "rules": [{"matches": _matches(rules)} for rules in closed],
    }
    return {**spec, "hostnames": list(hostnames)} if hostnames else spec


def problem_of(spec: Mapping[str, Any]) -> str:
    """Say what limit of an HTTPRoute a spec does not keep; empty if it keeps all."""
    rules = spec["rules"]
    matches = sum(len(rule["matches"]) for rule in rules)
    if len(rules) > MAX_RULES:
        return f"{len(rules)} rules, and an HTTPRoute takes {MAX_RULES}"
    if matches > MAX_MATCHES:
        return f"{matches} matches, and an HTTPRoute takes {MAX_MATCHES}"
    return ""


def what_comes_before(
    spec: Mapping[str, Any], other: Mapping[str, Any], namespace: str, other_namespace: str
) -> str:
    """
    Say why another route would get requests that this one is to close; empty if it gets none.

    Args:
        spec: Of Firedoor's route, ``other`` of the operator's, each with its namespace.
    """
    if not _has_same_parent(spec, other, namespace, other_namespace):
        return ""
    for hostname in other.get("hostnames") or [""]:
        if _is_more_specific(hostname, spec.get("hostnames") or [""]):
            return f"its hostname {hostname} is more specific than Firedoor's"
    # A match of the path alone is only for methods that HTTP does not know.
    ours = [m for rule in spec["rules"] for m in rule["matches"] if len(m) > 1]
    for rule in other.get("rules") or []:
        for theirs in rule.get("matches") or []:
            for match in ours:
                if _may_be_of_both(theirs, match) and _rank(theirs) >= _rank(match):
                    path = theirs["path"]["value"]
                    return f"its rule for {theirs.get('method', 'any method')} {path} is first"
    return ""


# --- matches -----------------------------------------------------------------------------------


def _matches(rules: Rules) -> list[Match]:
    path = "/" + "/".join(segments_of(rules.path))
    paths = [path] if path == "/" else [path, f"{path}/"]
    found: list[Match] = []
    for value in paths:
        exact: Match = {"path": {"type": "Exact", "value": value}}
        # With a method a match comes before the operator's own for the path alone.
        found += [{**exact, "method": method} for method in rules.methods or METHODS]
        if not rules.methods:
            found.append(exact)
            continue
        for header in OVERRIDE_HEADERS:
            for method in rules.methods:
                found += [
                    {**exact, "headers": [{"type": "Exact", "name": header, "value": spelled}]}
                    for spelled in (method, method.lower())
                ]
    return found


# --- order -------------------------------------------------------------------------------------


def _has_same_parent(
    spec: Mapping[str, Any], other: Mapping[str, Any], namespace: str, other_namespace: str
) -> bool:
    (own,) = spec["parentRefs"]
    wanted = own.get("namespace", namespace), own["name"]
    return any(
        (each.get("namespace", other_namespace), each["name"]) == wanted
        for each in other.get("parentRefs") or []
    )


def _is_more_specific(hostname: str, ours: Sequence[str]) -> bool:
    """Tell whether a hostname is inside one of ours, and is none of them."""
    return hostname not in ours and any(_covers(own, hostname) for own in ours)


def _covers(own: str, hostname: str) -> bool:
    if not own:
        return True
    return own.startswith("*.") and hostname.removeprefix("*").endswith(own[1:])


def _may_be_of_both(theirs: Mapping[str, Any], match: Match) -> bool:
    """Tell whether a request may be of both matches. A header can always be sent."""
    path = theirs.get("path") or {}
    if path.get("type") == "RegularExpression":
        return _may_match(str(path.get("value")), match["path"]["value"])
    if path.get("type") != "Exact" or path.get("value") != match["path"]["value"]:
        return False
    methods = {theirs.get("method"), match.get("method")} - {None}
    return len(methods) < 2


def _may_match(expression: str, path: str) -> bool:
    try:
        return re.search(expression, path) is not None
    except re.error:
        return True


def _rank(match: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Return how early a match is looked at: the higher, the earlier. Where a regular expression
    comes is each implementation's own decision, so it is taken to be first."""
    is_expression = (match.get("path") or {}).get("type") == "RegularExpression"
    return (
        int(is_expression),
        int("method" in match),
        len(match.get("headers") or ()),
        len(match.get("queryParams") or ()),
    )
