"""Envoy's whole RouteConfiguration, rendered from the operator's own and a set of controls.

Pure. The operator's routes stay as they are; what controls ask for is put in front of them, in
every virtual host, because Envoy takes the first route that matches:

- a closed endpoint is one route that answers 503 itself;
- a throttled or blocked endpoint is a copy of every operator's route that could serve it, narrowed
  to the endpoint by its ``:method`` and ``:path``, with settings for Firedoor's two filters.
  Copying keeps clusters, rewrites and timeouts without having to understand them.

The listener must have the two filters (`BLOCK_FILTER`, `LIMIT_FILTER`), which do nothing until a
route configures them, and must normalise paths, as ``deploy/envoy.example.yaml`` does.
"""

from __future__ import annotations

import copy
import json
import math
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from bot.errors import BadInput
from bot.model.base import digest_of
from bot.model.containment import Control, ControlKind

BLOCK_FILTER = "firedoor.block"
LIMIT_FILTER = "firedoor.limit"

JWT_FILTER = "envoy.filters.http.jwt_authn"
JWT_PAYLOAD = "jwt_payload"
"""Where the listener's jwt_authn filter puts verified claims (``payload_in_metadata``)."""

MARK_HEADER = "x-firedoor"
"""On answers that Firedoor's controls make: ``closed`` or ``throttled``."""

RETRY_AFTER_S = 120
"""What a closed endpoint tells its callers; a pause for polite clients, not a promise."""

MAX_RATE_PER_S = 1_000_000.0

OVERRIDE_HEADERS = ("x-http-method-override", "x-http-method", "x-method-override")
"""By these an upstream's framework may take a POST for another method."""

_TYPE = "type.googleapis.com/envoy.extensions.filters.http"
_PARAMETER = re.compile(r"\{[^{}/]*\}")

_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~")  # RFC 3986, 2.3

# A path parameter (RFC 3986, 3.3) after a segment: some frameworks drop it before they route.
_MATRIX = "(?:;[^/?]*)?"
_QUERY = "(?:\\?.*)?"

# Envoy refuses a regular expression whose RE2 program is larger than 100, unless its runtime key
# re2.max_program_size.error_level says otherwise.
_SIZE_LIMIT = 95


@dataclass(frozen=True)
class _Rules:
    """What holds on one endpoint, all of its controls taken together."""

    method: str
    path: str
    closed: bool = False
    rate_per_s: float | None = None
    principals: tuple[str, ...] = ()

    @property
    def is_contained(self) -> bool:
        return self.closed or self.rate_per_s is not None or bool(self.principals)

    @property
    def name(self) -> str:
        throttled = self.rate_per_s is not None
        words = [
            *(["close"] if self.closed else []),
            *(["throttle"] if throttled and not self.closed else []),
            *(["block"] if self.principals and not self.closed else []),
        ]
        return f"firedoor {'+'.join(words) or 'pass'} {self.method} {self.path}"


def render(
    base: Mapping[str, Any], controls: Iterable[Control], known: Iterable[str] = ()
) -> dict[str, Any]:
    """
    Return the RouteConfiguration that does what a set of controls asks for.

    On one endpoint closing beats everything, the lowest rate wins, and all blocked principals
    are blocked. The order of ``controls`` and repetitions are irrelevant.

    Args:
        base: The operator's RouteConfiguration, in proto3 JSON with the proto's own field names.
            With no controls it is the result. The two share parts, so neither may be changed.

        known: Keys of all endpoints there are. Those that a contained template would match too,
            and that are more specific (``GET /orders/export`` beside ``GET /orders/{id}``), are
            kept out of its containment.

    Raises:
        BadInput: The base routes are of a form that cannot be narrowed, or a control is.
    """
    rules = _rules_of(controls)
    if not rules:
        return dict(base)
    ordered = sorted(rules + _exempt(rules, known), key=_specific_first)
    return {**base, "virtual_hosts": [_fronted(host, ordered) for host in base["virtual_hosts"]]}


def _fronted(host: Mapping[str, Any], ordered: Sequence[_Rules]) -> dict[str, Any]:
    """Return a virtual host with the routes of all rules in front of its own."""
    if "matcher" in host:
        raise BadInput(
            f"Virtual host {host.get('name')!r} of the base routes uses `matcher`, which "
            "controls cannot be put in front of; nothing was done. Write it as `routes`."
        )
    own: list[dict[str, Any]] = host.get("routes", [])
    return {**host, "routes": [route for rule in ordered for route in _routes(rule, own)] + own}


def version_of(config: Mapping[str, Any]) -> str:
    """Return the version of a RouteConfiguration: 12 digits of a hash over all of it."""
    return digest_of(config)[:12]


def path_regexes(template: str) -> list[str]:
    """
    Return RE2 expressions that all match a request's ``:path`` if it is of a path template.

    A parameter (``{order_id}``) is any text without a slash. Everything else is taken literally,
    whatever characters it has, and in both spellings of those that Envoy leaves encoded. One
    slash may follow, path parameters (``;v=1``) after any segment, and a query.

    Mostly it is one expression. A long template makes several, each for some of the segments, to
    stay below the size that Envoy takes.
    """
    segments = [segment for segment in template.split("/") if segment]
    if not segments:
        return ["/" + _QUERY]
    parts = [f"/{_segment_regex(segment)}{_MATRIX}" for segment in segments]
    regexes, first = [], 0
    for position, part in enumerate(parts):
        if position > first and _size(first, [*parts[first:position], part]) > _SIZE_LIMIT:
            regexes.append(_skip(first) + "".join(parts[first:position]) + "/.*")
            first = position
    return [*regexes, _skip(first) + "".join(parts[first:]) + "/?" + _QUERY]


def _skip(count: int) -> str:
    return f"(?:/[^/?]+){{{count}}}" if count else ""


def _size(skipped: int, parts: Sequence[str]) -> int:
    """Return, rather too high, the size of the program that RE2 makes; see `_SIZE_LIMIT`."""
    return 12 + 4 * skipped + sum(len(part) - len(_MATRIX) + 6 for part in parts)


def _segment_regex(segment: str) -> str:
    return "[^/?]+".join(_literal(text) for text in _PARAMETER.split(segment))


def _literal(text: str) -> str:
    return "".join(_byte_regex(byte) for byte in unquote_to_bytes(text))


def _byte_regex(byte: int) -> str:
    """Envoy decodes ``%6f`` when it normalises a path, but leaves ``%3A`` (a colon) as it is."""
    char = chr(byte)
    if char in _UNRESERVED:
        return "\\." if char == "." else char
    high, low = (f"[{digit}{digit.lower()}]" if digit > "9" else digit for digit in f"{byte:02X}")
    encoded = f"%{high}{low}"
    return f"(?:\\{char}|{encoded})" if 0x20 < byte < 0x7F else encoded


# --- what holds where --------------------------------------------------------------------------


def _rules_of(controls: Iterable[Control]) -> list[_Rules]:
    grouped: dict[tuple[str, str], list[Control]] = {}
    for control in controls:
        grouped.setdefault((control.method.upper(), control.path), []).append(control)
    return [
        _Rules(
            method=method,
            path=path,
            closed=any(c.kind is ControlKind.CLOSE for c in group),
            rate_per_s=min(
                (_rate(c) for c in group if c.kind is ControlKind.THROTTLE), default=None
            ),
            principals=tuple(
                sorted({_principal(c) for c in group if c.kind is ControlKind.BLOCK_PRINCIPAL})
            ),
        )
        for (method, path), group in grouped.items()
    ]


def _rate(control: Control) -> float:
    if control.rate_per_s is None or control.rate_per_s > MAX_RATE_PER_S:
        raise BadInput(
            f"A throttle of {control.endpoint} needs a rate of at most {MAX_RATE_PER_S:g} requests "
            f"a second, not {control.rate_per_s}; nothing was done."
        )
    return control.rate_per_s


def _principal(control: Control) -> str:
    if not control.principal:
        raise BadInput(
            f"A block on {control.endpoint} names no principal, so it would block nobody; nothing "
            "was done. Give the `sub` of the tokens to refuse."
        )
    return control.principal


def _exempt(rules: Sequence[_Rules], known: Iterable[str]) -> list[_Rules]:
    """Return the known endpoints that must not be caught by a less specific template."""
    held = {(rule.method, rule.path) for rule in rules}
    found = []
    for key in sorted(set(known)):
        method, _, path = key.partition(" ")
        candidate = _Rules(method=method.upper(), path=path)
        example = _PARAMETER.sub("x", path)
        caught = any(
            rule.method == candidate.method
            and _shape(path) < _shape(rule.path)
            and all(re.fullmatch(regex, example) for regex in path_regexes(rule.path))
            for rule in rules
        )
        if caught and (candidate.method, path) not in held:
            found.append(candidate)
    return found


def _shape(path: str) -> tuple[int, ...]:
    """Return for each segment how open it is: 0 literal, 1 partly a parameter, 2 a parameter."""
    return tuple(
        0 if not _PARAMETER.search(segment) else 2 if _PARAMETER.fullmatch(segment) else 1
        for segment in path.strip("/").split("/")
    )


def _specific_first(rules: _Rules) -> tuple[tuple[int, ...], str, str]:
    return _shape(rules.path), rules.path, rules.method


# --- routes ------------------------------------------------------------------------------------


def _routes(rules: _Rules, base: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    serving = [route for route in base if _may_serve(route, rules.path)]
    if not rules.closed:
        return [_narrowed(route, rules) for route in serving]
    folds = any(route.get("match", {}).get("case_sensitive") is False for route in serving)
    methods = _methods(rules.method)
    wanted = [_matches(":method", methods)]
    wanted += [_matches(header, methods, fold=True) for header in OVERRIDE_HEADERS]
    path = _path_headers(rules.path, fold=folds)
    return [_closed(rules, {"prefix": "/", "headers": [header, *path]}) for header in wanted]


def _closed(rules: _Rules, match: dict[str, Any]) -> dict[str, Any]:
    body = {
        "error": "endpoint_closed",
        "message": "This endpoint is closed for now. Try again later.",
        "retry_after_s": RETRY_AFTER_S,
    }
    return {
        "name": rules.name,
        "match": match,
        "direct_response": {"status": 503, "body": {"inline_string": json.dumps(body)}},
        "response_headers_to_add": [
            _header("content-type", "application/json"),
            _header("retry-after", str(RETRY_AFTER_S)),
            _header("cache-control", "no-store"),
            _header(MARK_HEADER, "closed"),
        ],
    }


def _narrowed(route: Mapping[str, Any], rules: _Rules) -> dict[str, Any]:
    """Return a copy of an operator's route for this endpoint only, with the controls on it."""
    narrowed = copy.deepcopy(dict(route))
    match = narrowed.setdefault("match", {})
    match["headers"] = [
        *match.get("headers", []),
        _matches(":method", _methods(rules.method)),
        *_path_headers(rules.path, fold=match.get("case_sensitive") is False),
    ]
    narrowed["name"] = f"{rules.name} ({route['name']})" if "name" in route else rules.name
    if rules.is_contained:
        filters = narrowed.setdefault("typed_per_filter_config", {})
        if rules.rate_per_s is not None:
            filters[LIMIT_FILTER] = _limit(rules.rate_per_s)
        if rules.principals:
            filters[BLOCK_FILTER] = _block(rules.principals)
    return narrowed


def _may_serve(route: Mapping[str, Any], template: str) -> bool:
    """Tell whether a route could match a path of the template; in doubt, that it could."""
    match = route.get("match", {})
    start = match.get("prefix") or match.get("path") or match.get("path_separated_prefix")
    if start is None:
        return True
    literal = unquote(_PARAMETER.split("/" + template.strip("/"))[0])
    start = unquote(start)
    if match.get("case_sensitive") is False:
        start, literal = start.lower(), literal.lower()
    return bool(literal.startswith(start.rstrip("/")) or start.startswith(literal))


def _methods(method: str) -> tuple[str, ...]:
    """HEAD goes with GET: it tells whether an object exists, and how long it is."""
    return (method, "HEAD") if method == "GET" else (method,)


def _path_headers(template: str, *, fold: bool) -> list[dict[str, Any]]:
    return [_regex_header(":path", regex, fold) for regex in path_regexes(template)]


def _matches(header: str, words: Sequence[str], *, fold: bool = False) -> dict[str, Any]:
    return _regex_header(header, "|".join(map(_literal, words)), fold)


def _regex_header(name: str, regex: str, fold: bool) -> dict[str, Any]:
    whole = f"(?i){regex}" if fold else regex
    return {"name": name, "string_match": {"safe_regex": {"regex": whole}}}


def _header(key: str, value: str) -> dict[str, Any]:
    return {
        "header": {"key": key, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def _limit(rate_per_s: float) -> dict[str, Any]:
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
        "response_headers_to_add": [_header(MARK_HEADER, "throttled")],
    }


def _block(principals: Sequence[str]) -> dict[str, Any]:
    """Return the settings that refuse verified tokens of these subjects with 403."""
    return {
        "@type": f"{_TYPE}.rbac.v3.RBACPerRoute",
        "rbac": {
            "rules": {
                "action": "DENY",
                "policies": {
                    "firedoor": {
                        "permissions": [{"any": True}],
                        "principals": [_subject(principal) for principal in principals],
                    }
                },
            }
        },
    }


def _subject(principal: str) -> dict[str, Any]:
    matcher = {
        "filter": JWT_FILTER,
        "path": [{"key": JWT_PAYLOAD}, {"key": "sub"}],
        "value": {"string_match": {"exact": principal}},
    }
    return {"sourced_metadata": {"metadata_matcher": matcher, "metadata_source": "DYNAMIC"}}
