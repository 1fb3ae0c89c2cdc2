"""A patch for Envoy: routes that close, and listener filters that refuse and limit. Pure.

The live adapter narrows copies of the operator's routes. A patch has to do without knowing them:
a closed endpoint is a route that answers by itself, and everything else is said by filters that
look at method and path on their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from actions.gateway.adapters.envoy.routes import (
    POLICY,
    SIZE_LIMIT,
    any_of,
    closed_route,
    limiting,
    negated,
    odd_paths,
    overriding,
    regex_header,
)
from actions.gateway.handoff.cases import (
    Case,
    Draft,
    Language,
    Rendered,
    Requests,
    by_kind,
    left_out,
)
from actions.gateway.handoff.texts import ODD_PATHS, yaml_text
from actions.gateway.rules import OVERRIDE_HEADERS, Rules
from actions.gateway.templates import literal, path_regexes
from bot.model.containment import PrincipalKind

MOST_MATCHES = 64
"""Of one endpoint. Envoy tries one after the other, for every request."""

_RBAC = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
_DESCRIPTOR = "firedoor"

Matcher = dict[str, Any]


def render(draft: Draft) -> Rendered:
    """Return YAML with ``routes`` and ``http_filters``, as far as each is needed."""
    routes: list[dict[str, Any]] = []
    refused: list[Matcher] = []
    limited: list[tuple[Case, list[list[Matcher]]]] = []
    unsupported = []
    for case in draft.contained():
        if (count := _count(case)) > MOST_MATCHES:
            why = f"to keep other endpoints out of it, it would need {count} matches"
            unsupported.append(left_out(case.rules, why))
            continue
        matches = _matches(case)
        if case.rules.closed:
            routes += [_closing(case, headers) for headers in matches]
        if case.rules.blocked or case.rules.allowed:
            refused.append(_all([_where(matches), _callers(case.rules)]))
        if case.rules.rate_per_s is not None:
            limited.append((case, matches))
    filters = [_refusing(draft, refused)] if refused else []
    filters += [_limiting(draft, limited)] if limited else []
    if routes or filters:
        routes.insert(0, odd_paths())
    document = {
        **({"routes": routes} if routes else {}),
        **({"http_filters": filters} if filters else {}),
    }
    if not document:
        return Rendered("", (), tuple(unsupported))
    return Rendered(yaml_text(document), _how(bool(filters)), tuple(unsupported))


def _how(has_filters: bool) -> tuple[str, ...]:
    lines = [
        "`routes`: put these in front of the routes of every virtual host; Envoy takes the",
        "first that matches.",
        *ODD_PATHS,
    ]
    if has_filters:
        lines += [
            "`http_filters`: put these into the listener's http_filters, after jwt_authn (which",
            "has payload_in_metadata: jwt_payload) and before the router. A limit needs Envoy 1.33",
            "or newer. The answers have Firedoor's bodies if the listener's local_reply_config has",
            "Firedoor's mappers.",
        ]
    return (
        *lines,
        "The listener must make every spelling of a path one before: normalize_path,",
        "merge_slashes, path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT; and drop headers",
        "with underscores (headers_with_underscores_action), or a method override gets by.",
    )


# --- which requests ------------------------------------------------------------------------------


def _count(case: Case) -> int:
    """Return how many lists `_matches` would return: each way past each of the kept out."""
    ways = [math.prod(len(_path(path)) for path in r.kept_out) for r in case.requests()]
    overrides = len(OVERRIDE_HEADERS) if case.rules.closed and case.rules.methods else 0
    return sum(ways) * (1 + overrides)


def _matches(case: Case) -> list[list[Matcher]]:
    """Return lists of header matchers. All of a list must match, and one list is enough: a route
    has no other way to say "but not". A close counts method overrides too."""
    found = []
    for each in case.requests():
        paths = _paths(each, case.rules.path)
        method = _words(":method", each.methods) if each.methods else None
        if method is None:
            found += paths
            continue
        found += [[_but(method) if each.any_but else method, *path] for path in paths]
        if case.rules.closed and not each.any_but:
            asked = [overriding(header, each.methods) for header in OVERRIDE_HEADERS]
            found += [[override, *path] for override in asked for path in paths]
    return found


def _paths(requests: Requests, path: str) -> list[list[Matcher]]:
    # A long path makes several matchers, and is missed if any one of them is.
    missed = product(*(map(_but, _path(each)) for each in requests.kept_out))
    return [[*_path(path), *each] for each in missed]


def _path(template: str) -> list[Matcher]:
    return [
        regex_header(":path", regex, fold=False) for regex in path_regexes(template, SIZE_LIMIT)
    ]


def _words(header: str, words: Sequence[str]) -> Matcher:
    return regex_header(header, "|".join(map(literal, words)), fold=False)


def _but(matcher: Matcher) -> Matcher:
    return {**matcher, "invert_match": True}


# --- routes and filters --------------------------------------------------------------------------


def _closing(case: Case, headers: list[Matcher]) -> dict[str, Any]:
    return closed_route(case.rules.name, {"prefix": "/", "headers": headers})


def _where(matches: Iterable[list[Matcher]]) -> Matcher:
    """Return a principal that stands for requests: a policy's permissions and principals are
    chosen apart, and one policy has to hold all endpoints to keep the name of Firedoor's."""
    return _either([_all([{"header": header} for header in headers]) for headers in matches])


def _callers(rules: Rules) -> Matcher:
    """Return a principal that stands for whom the rules refuse."""
    refused = [any_of(rules.blocked, None)] if rules.blocked else []
    return _either([*refused, *(negated(any_of(group, None)) for group in rules.allowed)])


def _refusing(draft: Draft, principals: list[Matcher]) -> dict[str, Any]:
    policy = {"permissions": [{"any": True}], "principals": principals}
    config = {"@type": _RBAC, "rules": {"action": "DENY", "policies": {POLICY: policy}}}
    return {"name": f"firedoor.handoff.{draft.tag}.block", "typed_config": config}


def _limiting(draft: Draft, limited: list[tuple[Case, list[list[Matcher]]]]) -> dict[str, Any]:
    """Return a filter that has a token bucket for each endpoint, and none for the rest."""
    limits, descriptors = [], []
    for case, matches in limited:
        assert case.rules.rate_per_s is not None  # noqa: S101  # that is why it is here
        shared = limiting(case.rules.rate_per_s)
        entry = {"key": _DESCRIPTOR, "value": str(case.number)}
        descriptors.append({"entries": [entry], "token_bucket": shared.pop("token_bucket")})
        for headers in matches:
            value = {
                "descriptor_key": _DESCRIPTOR,
                "descriptor_value": str(case.number),
                "headers": headers,
            }
            limits.append({"actions": [{"header_value_match": value}]})
    config = {
        **shared,
        "stat_prefix": "firedoor_handoff",
        "rate_limits": limits,
        "descriptors": descriptors,
    }
    return {"name": f"firedoor.handoff.{draft.tag}.limit", "typed_config": config}


def _all(matchers: list[Matcher]) -> Matcher:
    return matchers[0] if len(matchers) == 1 else {"and_ids": {"ids": matchers}}


def _either(matchers: list[Matcher]) -> Matcher:
    return matchers[0] if len(matchers) == 1 else {"or_ids": {"ids": matchers}}


LANGUAGE = Language(
    title="Envoy",
    suffix="envoy.yaml",
    media_type="application/yaml",
    render=render,
    cannot_tell=by_kind(
        {PrincipalKind.API_KEY: "where this listener keeps a checked key's name is not known here"}
    ),
)
