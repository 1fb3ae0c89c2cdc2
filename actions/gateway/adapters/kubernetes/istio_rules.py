"""An Istio AuthorizationPolicy with action DENY, rendered from a set of controls. Pure.

Istio denies what any of the rules matches, in no order. So what a more specific endpoint is free to
do is taken out of each rule (``notPaths``), instead of coming first.

Every operation names ports: a rule of HTTP without one would, on a port that is not HTTP, deny
whatever comes.
https://istio.io/latest/docs/reference/config/security/authorization-policy/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actions.gateway.rules import OVERRIDE_HEADERS, Rules, rules_of
from actions.gateway.templates import PARAMETER, example_of, openness, path_regex, segments_of
from bot.model.containment import Control, Principal, PrincipalKind

METHODS = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")

ONE_SEGMENT = "{*}"
"""Any one segment, in a path of Istio's. Istio 1.22 and later; before, it is taken literally."""

LITERAL = re.compile(r"[A-Za-z0-9._~-]+")
"""A segment that has one spelling: of characters that need no encoding (RFC 3986, 2.3)."""


@dataclass(frozen=True)
class Target:
    """
    Which proxies the policy is for, and how they know a caller.

    Args:
        selector: Labels of the workload, mostly of an ingress gateway.

        ports: On which those proxies take HTTP, as they see it: the container's.

        issuer: Of the tokens that a RequestAuthentication of the same workload verifies; None if
            there is none.

        addresses: ``ipBlocks``, the address of the connection; or ``remoteIpBlocks``, the one that
            the trusted proxies in front say (``numTrustedProxies``).
    """

    selector: Mapping[str, str]
    ports: tuple[int, ...]
    issuer: str | None
    addresses: str


def why_no_path(template: str) -> str:
    """Say what of a path cannot be told to Istio; empty if all can."""
    for segment in segments_of(template):
        if not (PARAMETER.fullmatch(segment) or LITERAL.fullmatch(segment)):
            return (
                f"the segment {segment!r} of its path has several spellings, or is only in part a "
                "parameter, and a path of this gateway can say neither"
            )
    return ""


def why_no_caller(principals: Iterable[Principal], target: Target) -> str:
    """Say which caller Istio cannot tell from others; empty if it can tell all."""
    for principal in principals:
        if principal.kind is PrincipalKind.API_KEY:
            return "Istio checks no API keys"
        if principal.kind is PrincipalKind.CLAIM:
            if target.issuer is None:
                return "no issuer is set whose tokens it verifies (`issuer` in firedoor.yaml)"
            if "*" in (principal.value[0], principal.value[-1]):
                return "Istio takes a value that begins or ends with * for many"
    return ""


def render(
    controls: Iterable[Control], known: Iterable[str], target: Target
) -> dict[str, Any] | None:
    """
    Return the ``spec`` of the policy; None if there is nothing to deny.

    Args:
        known: Keys of all endpoints there are.

    Raises:
        BadInput: A control lacks what its kind needs.
    """
    ordered = rules_of(controls, known)
    rules = [
        rule
        for position, each in enumerate(ordered)
        for rule in _of_endpoint(each, ordered[:position], target)
    ]
    if not rules:
        return None
    return {
        "action": "DENY",
        "selector": {"matchLabels": dict(target.selector)},
        "rules": rules,
    }


def _of_endpoint(rules: Rules, before: Sequence[Rules], target: Target) -> Iterable[dict[str, Any]]:
    """Return the rules of one endpoint.

    Args:
        before: The more specific endpoints.
    """
    operations = _operations(rules, before, target)
    if rules.closed:
        yield {"to": operations}
        if rules.methods:
            yield from _overrides(rules, operations[:1])
        return
    if rules.blocked:
        yield from _blocked(rules.blocked, operations, target)
    for group in rules.allowed:
        yield from _all_but(group, operations, target)


# --- operations --------------------------------------------------------------------------------


def paths_of(template: str) -> list[str]:
    """Return how Istio's paths say a template: with and without a slash at the end."""
    segments = [
        ONE_SEGMENT if PARAMETER.fullmatch(segment) else segment
        for segment in segments_of(template)
    ]
    path = "/" + "/".join(segments)
    return ["/"] if path == "/" else [path, f"{path}/"]


def _operations(rules: Rules, before: Sequence[Rules], target: Target) -> list[dict[str, Any]]:
    """Return operations that together are the requests of this endpoint, and of none before."""
    inside = [each for each in before if _catches(rules.path, each.path)]
    paths = sorted({each.path for each in inside}, key=openness)
    operations = [_operation(rules.path, paths, rules.methods, (), target)]
    for position, path in enumerate(paths):
        there = [each for each in inside if each.path == path]
        if any(not each.methods for each in there):
            continue
        taken = tuple(sorted({method for each in there for method in each.methods}))
        if rules.methods and set(rules.methods) <= set(taken):
            continue
        more = [other for other in paths[:position] if _catches(path, other)]
        operations.append(_operation(path, more, rules.methods, taken, target))
    return operations


def _operation(
    path: str,
    but_paths: Iterable[str],
    methods: Sequence[str],
    but_methods: Sequence[str],
    target: Target,
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "ports": [str(port) for port in target.ports],
        "paths": paths_of(path),
    }
    if excluded := [spelled for other in but_paths for spelled in paths_of(other)]:
        operation["notPaths"] = excluded
    if methods:
        operation["methods"] = list(methods)
    if but_methods:
        operation["notMethods"] = list(but_methods)
    return {"operation": operation}


def _catches(template: str, other: str) -> bool:
    """Tell whether a template matches all paths of a more specific one."""
    return (
        template != other
        and openness(other) < openness(template)
        and re.fullmatch(path_regex(template), example_of(other)) is not None
    )


def _overrides(rules: Rules, operations: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Deny a request that says it is of a closed method. A value is compared as it is written, so
    all are denied but those that are known to be other methods."""
    (operation,) = operations
    of_any = {key: value for key, value in operation["operation"].items() if key != "methods"}
    others = [method for method in METHODS if method not in rules.methods]
    for header in OVERRIDE_HEADERS:
        key = f"request.headers[{header}]"
        yield {
            "to": [{"operation": of_any}],
            "when": [{"key": key, "values": ["*"], "notValues": others}],
        }


# --- callers -----------------------------------------------------------------------------------


def _blocked(
    principals: Sequence[Principal], operations: list[dict[str, Any]], target: Target
) -> Iterable[dict[str, Any]]:
    addresses, claims = _sorted_out(principals)
    if addresses:
        yield {"from": [{"source": {target.addresses: addresses}}], "to": operations}
    for claim, values in claims.items():
        when = [_when("iss", [str(target.issuer)]), _when(claim, values)]
        yield {"to": operations, "when": when}


def _all_but(
    principals: Sequence[Principal], operations: list[dict[str, Any]], target: Target
) -> Iterable[dict[str, Any]]:
    """Deny who is at none of the addresses, and has no token of the issuer with one of the claims.
    A request without a token has none: a missing attribute is none of the values."""
    addresses, claims = _sorted_out(principals)
    rule: dict[str, Any] = {"to": operations}
    if addresses:
        name = f"not{target.addresses[0].upper()}{target.addresses[1:]}"
        rule["from"] = [{"source": {name: addresses}}]
    if not claims:
        yield rule
        return
    yield {**rule, "when": [_when("iss", but=[str(target.issuer)])]}
    yield {**rule, "when": [_when(claim, but=values) for claim, values in claims.items()]}


def _sorted_out(principals: Sequence[Principal]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the addresses, and the values of each claim."""
    addresses = [p.value for p in principals if p.kind is PrincipalKind.IP]
    claims: dict[str, list[str]] = {}
    for principal in principals:
        if principal.kind is PrincipalKind.CLAIM:
            claims.setdefault(str(principal.claim), []).append(principal.value)
    return addresses, claims


def _when(claim: str, values: Sequence[str] = (), but: Sequence[str] = ()) -> dict[str, Any]:
    condition: dict[str, Any] = {"key": f"request.auth.claims[{claim}]"}
    if values:
        condition["values"] = list(values)
    if but:
        condition["notValues"] = list(but)
    return condition
