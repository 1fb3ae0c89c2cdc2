"""Envoy's whole RouteConfiguration, rendered from the operator's own and a set of controls.

Pure. The operator's routes stay as they are; what controls ask for is put in front of them, in
every virtual host, because Envoy takes the first route that matches:

- a closed endpoint is one route that answers 503 itself;
- any other control makes a copy of every operator's route that could serve the endpoint, narrowed
  to it by its ``:method`` and ``:path``, with settings for Firedoor's two filters. Copying keeps
  clusters, rewrites and timeouts without having to understand them.

The listener must have the two filters (`BLOCK_FILTER`, `LIMIT_FILTER`), which do nothing until a
route configures them, and must normalise paths, as ``deploy/gateways/envoy.example.yaml`` does.
"""

from __future__ import annotations

import copy
import ipaddress
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any
from urllib.parse import unquote

from actions.gateway.rules import OVERRIDE_HEADERS, Rules, hold_back, rules_of
from actions.gateway.templates import ODD_SEGMENT, PARAMETER, literal, path_regexes, word_regex
from bot.errors import BadInput
from bot.model.answers import CLOSED, THROTTLED
from bot.model.base import digest_of
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind

BLOCK_FILTER = "firedoor.block"
LIMIT_FILTER = "firedoor.limit"

JWT_FILTER = "envoy.filters.http.jwt_authn"
JWT_PAYLOAD = "jwt_payload"
"""Where the listener's jwt_authn filter puts verified claims (``payload_in_metadata``)."""

POLICY = "firedoor"
"""The RBAC policy that refuses; the listener's ``local_reply_config`` may tell it by its name."""

MAX_SHADOWS = 4
"""On one endpoint: each combination of them is counted by a policy of its own."""

_TYPE = "type.googleapis.com/envoy.extensions.filters.http"

# Envoy refuses a regular expression whose RE2 program is larger than 100, unless its runtime key
# re2.max_program_size.error_level says otherwise.
SIZE_LIMIT = 95


def render(
    base: Mapping[str, Any],
    controls: Iterable[Control],
    known: Iterable[str] = (),
    api_key_header: str | None = None,
) -> dict[str, Any]:
    """
    Return the RouteConfiguration that does what a set of controls asks for; see `rules`.

    Args:
        base: The operator's RouteConfiguration, in proto3 JSON with the proto's own field names.
            With no controls it is the result. The two share parts, so neither may be changed.

        known: Keys of all endpoints there are.

        api_key_header: Where the listener's api_key_auth filter puts the name of a checked key.

    Raises:
        BadInput: The base routes are of a form that cannot be narrowed, or a control is.
    """
    rules = rules_of(controls, known)
    if not rules:
        return dict(base)
    hosts = [_fronted(host, rules, api_key_header) for host in base["virtual_hosts"]]
    return {**base, "virtual_hosts": hosts}


def _fronted(
    host: Mapping[str, Any], ordered: Sequence[Rules], api_key_header: str | None
) -> dict[str, Any]:
    """Return a virtual host with the routes of all rules in front of its own."""
    if "matcher" in host:
        raise BadInput(
            f"Virtual host {host.get('name')!r} of the base routes uses `matcher`, which "
            "controls cannot be put in front of; nothing was done. Write it as `routes`."
        )
    own: list[dict[str, Any]] = host.get("routes", [])
    front = [route for rule in ordered for route in _routes(rule, own, api_key_header)]
    # Behind all others: they are of other methods, which may be held themselves.
    front += [
        _narrowed(route, rule.without_counts, api_key_header, override)
        for rule in ordered
        if rule.refuses_some and rule.methods
        for override in OVERRIDE_HEADERS
        for route in own
        if _may_serve(route, rule.path)
    ]
    if hold_back(ordered):
        front.insert(0, odd_paths())
    return {**host, "routes": front + own}


def version_of(config: Mapping[str, Any]) -> str:
    """Return the version of a RouteConfiguration: 12 digits of a hash over all of it."""
    return digest_of(config)[:12]


def shadow_id(control: Control) -> str:
    """Return what a shadow is called in the names of the policies that count for it."""
    return digest_of(control.model_dump(mode="json"))[:8]


# --- routes ------------------------------------------------------------------------------------


def _routes(
    rules: Rules, base: Sequence[Mapping[str, Any]], api_key_header: str | None
) -> list[dict[str, Any]]:
    serving = [route for route in base if _may_serve(route, rules.path)]
    if not rules.closed:
        return [_narrowed(route, rules, api_key_header) for route in serving]
    folds = any(route.get("match", {}).get("case_sensitive") is False for route in serving)
    path = _path_headers(rules.path, fold=folds)
    wanted: list[list[dict[str, Any]]] = [[]]
    if rules.methods:
        wanted = [[_matches(":method", rules.methods)]]
        wanted += [[overriding(header, rules.methods)] for header in OVERRIDE_HEADERS]
    return [
        closed_route(rules.name, {"prefix": "/", "headers": [*method, *path]}) for method in wanted
    ]


def odd_paths() -> dict[str, Any]:
    """Return the route for `ODD_SEGMENT`."""
    odd = regex_header(":path", f"[^?]*{ODD_SEGMENT}.*", fold=False)
    return closed_route("odd paths", {"prefix": "/", "headers": [odd]})


def closed_route(name: str, match: dict[str, Any]) -> dict[str, Any]:
    """Return a route that answers as a closed endpoint does."""
    return {
        "name": f"firedoor {name}",
        "match": match,
        "direct_response": {"status": CLOSED.status, "body": {"inline_string": CLOSED.body}},
        "response_headers_to_add": [header_to_add(*each) for each in CLOSED.headers.items()],
    }


def _narrowed(
    route: Mapping[str, Any],
    rules: Rules,
    api_key_header: str | None,
    override: str | None = None,
) -> dict[str, Any]:
    """Return a copy of an operator's route for this endpoint only, with the controls on it.

    Args:
        override: The header by which a request says that it is of the endpoint's method.
    """
    narrowed = copy.deepcopy(dict(route))
    match = narrowed.setdefault("match", {})
    method = [_matches(":method", rules.methods)] if rules.methods else []
    match["headers"] = [
        *match.get("headers", []),
        *(method if override is None else [overriding(override, rules.methods)]),
        *_path_headers(rules.path, fold=match.get("case_sensitive") is False),
    ]
    name = f"firedoor {rules.name}"
    narrowed["name"] = f"{name} ({route['name']})" if "name" in route else name
    if rules.is_contained:
        filters = narrowed.setdefault("typed_per_filter_config", {})
        if rules.rate_per_s is not None:
            filters[LIMIT_FILTER] = limiting(rules.rate_per_s)
        if rules.blocked or rules.allowed or rules.shadows:
            filters[BLOCK_FILTER] = _block(rules, api_key_header)
    return narrowed


def _may_serve(route: Mapping[str, Any], template: str) -> bool:
    """Tell whether a route could match a path of the template; in doubt, that it could."""
    match = route.get("match", {})
    start = match.get("prefix") or match.get("path") or match.get("path_separated_prefix")
    if start is None:
        return True
    begin = unquote(PARAMETER.split("/" + template.strip("/"))[0])
    start = unquote(start)
    if match.get("case_sensitive") is False:
        start, begin = start.lower(), begin.lower()
    return bool(begin.startswith(start.rstrip("/")) or start.startswith(begin))


def _path_headers(template: str, *, fold: bool) -> list[dict[str, Any]]:
    return [regex_header(":path", regex, fold) for regex in path_regexes(template, SIZE_LIMIT)]


def _matches(header: str, words: Sequence[str]) -> dict[str, Any]:
    return regex_header(header, "|".join(map(literal, words)), fold=False)


def overriding(header: str, methods: Sequence[str]) -> dict[str, Any]:
    """Match a header that names one of the methods anywhere. Envoy looks at several headers of one
    name as at one with commas."""
    words = "|".join(map(literal, methods))
    return regex_header(header, f".*{word_regex(words)}.*", fold=True)


def regex_header(name: str, regex: str, fold: bool) -> dict[str, Any]:
    whole = f"(?i){regex}" if fold else regex
    return {"name": name, "string_match": {"safe_regex": {"regex": whole}}}


def header_to_add(key: str, value: str) -> dict[str, Any]:
    return {
        "header": {"key": key, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


# --- filters -----------------------------------------------------------------------------------


def limiting(rate_per_s: float) -> dict[str, Any]:
    """Return the settings of a token bucket that lets ``rate_per_s`` through on average.

    Envoy takes whole tokens only: so that many at once as the rate is, rounded up, and as often
    as the average allows. https://www.envoyproxy.io/docs/envoy/latest/api-v3/type/v3/token_bucket.proto
    """
    tokens = max(1, math.ceil(rate_per_s))
    always = {"numerator": 100, "denominator": "HUNDRED"}
    return {
        "@type": f"{_TYPE}.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "firedoor_limit",
        "token_bucket": {
            "max_tokens": tokens,
            "tokens_per_fill": tokens,
            "fill_interval": f"{tokens / rate_per_s:.6f}s",
        },
        "filter_enabled": {"default_value": always},
        "filter_enforced": {"default_value": always},
        "status": {"code": "TooManyRequests"},
        # The type of content is the body's own, which the listener's local_reply_config makes.
        "response_headers_to_add": [
            header_to_add(*each) for each in THROTTLED.headers.items() if each[0] != "content-type"
        ],
    }


def _block(rules: Rules, api_key_header: str | None) -> dict[str, Any]:
    """Return the settings that refuse callers with 403, and count those of shadows."""
    rbac: dict[str, Any] = {}
    refused = [_identifier(each, api_key_header) for each in rules.blocked]
    refused += [negated(any_of(group, api_key_header)) for group in rules.allowed]
    if refused:
        rbac["rules"] = {"action": "DENY", "policies": {POLICY: _policy(refused)}}
    if rules.shadows:
        policies = _counting(rules.shadows, api_key_header)
        rbac["shadow_rules"] = {"action": "DENY", "policies": policies}
        rbac["track_per_rule_stats"] = True
    return {"@type": f"{_TYPE}.rbac.v3.RBACPerRoute", "rbac": rbac}


def _policy(principals: list[dict[str, Any]]) -> dict[str, Any]:
    return {"permissions": [{"any": True}], "principals": principals}


def _counting(shadows: Sequence[Control], api_key_header: str | None) -> dict[str, Any]:
    """Return policies of which exactly one matches a request that any shadow would refuse.

    Envoy counts a request for one policy only. So there is one for each combination of shadows,
    with all of their ids in its name.
    """
    if len(shadows) > MAX_SHADOWS:
        raise BadInput(
            f"{shadows[0].endpoint} would have {len(shadows)} shadows, and this gateway counts at "
            f"most {MAX_SHADOWS} on one endpoint; nothing was done. Lift one of the others first."
        )
    matchers = [_shadowed(each, api_key_header) for each in shadows]
    policies = {}
    for chosen in product((True, False), repeat=len(shadows)):
        if any(chosen):
            ids = [shadow_id(s) for s, is_in in zip(shadows, chosen, strict=True) if is_in]
            parts = [m if is_in else negated(m) for m, is_in in zip(matchers, chosen, strict=True)]
            matcher = parts[0] if len(parts) == 1 else {"and_ids": {"ids": parts}}
            policies[f"{POLICY}-{'+'.join(ids)}"] = _policy([matcher])
    return policies


def _shadowed(control: Control, api_key_header: str | None) -> dict[str, Any]:
    """Return a matcher of the callers that a shadow would refuse."""
    match control.would:
        case ControlKind.BLOCK:
            return any_of(control.principals, api_key_header)
        case ControlKind.ALLOW_ONLY:
            return negated(any_of(control.principals, api_key_header))
        case _:
            return {"any": True}


def negated(matcher: dict[str, Any]) -> dict[str, Any]:
    return {"not_id": matcher}


def any_of(principals: Sequence[Principal], api_key_header: str | None) -> dict[str, Any]:
    ids = [_identifier(each, api_key_header) for each in principals]
    return ids[0] if len(ids) == 1 else {"or_ids": {"ids": ids}}


def _identifier(principal: Principal, api_key_header: str | None) -> dict[str, Any]:
    match principal.kind:
        case PrincipalKind.IP:
            network = ipaddress.ip_network(principal.value)
            prefix = {
                "address_prefix": str(network.network_address),
                "prefix_len": network.prefixlen,
            }
            return {"remote_ip": prefix}
        case PrincipalKind.API_KEY:
            if api_key_header is None:
                raise BadInput(
                    "This gateway is not said to check API keys, so it cannot tell them apart; "
                    "nothing was done. Set `api_key_header` of the gateway in firedoor.yaml."
                )
            return {"header": {"name": api_key_header, "string_match": {"exact": principal.value}}}
        case PrincipalKind.CLAIM:
            exact = {"string_match": {"exact": principal.value}}
            if principal.claim == "sub":
                return _claim("sub", exact)
            # A claim such as `groups` may be a list: then one of it is enough.
            either = [_claim(str(principal.claim), exact)]
            either.append(_claim(str(principal.claim), {"list_match": {"one_of": exact}}))
            return {"or_ids": {"ids": either}}


def _claim(name: str, value: dict[str, Any]) -> dict[str, Any]:
    matcher = {"filter": JWT_FILTER, "path": [{"key": JWT_PAYLOAD}, {"key": name}], "value": value}
    return {"sourced_metadata": {"metadata_matcher": matcher, "metadata_source": "DYNAMIC"}}
