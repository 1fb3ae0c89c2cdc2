"""Cloudflare's rules for a set of controls. Pure.

Each is one rule of a zone's phase (https://developers.cloudflare.com/ruleset-engine/): blocking
rules in ``http_request_firewall_custom``, limits in ``http_ratelimit``. An expression selects the
requests that are held back; whatever else there is is the operator's.

What goes into an expression from outside is always a raw string with more ``#`` than it could
close, an address in canonical notation, or a method (.../rules-language/values/).

A blocking rule answers with a status from 400 to 499, one of four media types, and no header of
its own (https://developers.cloudflare.com/waf/custom-rules/create-dashboard/): so a closed
endpoint answers 403 here, not 503, with the problem document that says that it is closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from actions.gateway.adapters.expressions import path_expression
from actions.gateway.adapters.matching import addresses, more_specific
from actions.gateway.rules import OVERRIDE_HEADERS, Rules
from actions.gateway.templates import ODD_SEGMENT
from bot.errors import ProviderRefused
from bot.model.answers import CLOSED, REFUSED, THROTTLED, ControlAnswer
from bot.model.base import digest_of
from bot.model.containment import Principal, PrincipalKind

BLOCKING = "http_request_firewall_custom"
LIMITING = "http_ratelimit"
PHASES = (BLOCKING, LIMITING)

MAX_EXPRESSION_CHARS = 4096
"""https://developers.cloudflare.com/ruleset-engine/rules-language/expressions/"""

Plan = Literal["business", "enterprise"]
LimitsBy = Literal["none", "address", "data_centre"]

CLOSED_HERE = ControlAnswer(status=403, mark=CLOSED.mark, code=CLOSED.code, detail=CLOSED.detail)
"""What a closed endpoint answers: 503 is not to be had."""

PERIODS_S: Mapping[Plan, tuple[int, ...]] = {
    "business": (10, 15, 20, 30, 40, 45, 60, 90, 120, 180, 240, 300, 480, 600),
    "enterprise": (10, 15, 20, 30, 40, 45, 60, 90, 120, 180, 240, 300, 480, 600, 900, 1200, 1800,
                   2400, 3600, 65535),
}  # fmt: skip
"""https://developers.cloudflare.com/waf/rate-limiting-rules/#availability"""

_MITIGATION_S: Mapping[Plan, int] = {"business": 10, "enterprise": 0}
"""How long all that match are refused once the rate is exceeded. 0: only those above the rate."""

_COUNTED_BY: Mapping[LimitsBy, tuple[str, ...]] = {
    "address": ("cf.colo.id", "ip.src"),
    "data_centre": ("cf.colo.id",),
}


@dataclass(frozen=True)
class Zone:
    """What the operator says of the zone; see `CloudflareGateway`."""

    hosts: tuple[str, ...] = ()
    plan: Plan = "business"
    limits_by: LimitsBy = "address"
    token_configuration: str | None = None


@dataclass(frozen=True)
class Rule:
    """One rule without its labels. ``name`` says in words what it does."""

    phase: str
    name: str
    body: Mapping[str, Any]

    @property
    def digest(self) -> str:
        return digest_of([self.phase, self.body])[:16]


def render(rules: Sequence[Rules], zone: Zone) -> list[Rule]:
    """
    Return the rules of all phases, those of closed endpoints first.

    Raises:
        ProviderRefused: An expression is longer than Cloudflare takes.
    """
    found = [
        _blocking(rule, _endpoint(rule, rules, zone, overrides=True), CLOSED_HERE)
        for rule in rules
        if rule.closed
    ]
    for rule in [rule for rule in rules if not rule.closed]:
        where = _endpoint(rule, rules, zone, overrides=False)
        if refused := _refused(rule, zone):
            # Whom a method refuses it refuses also if they mean it by a header.
            meant = _endpoint(rule, rules, zone, overrides=True)
            found.append(_blocking(rule, f"{meant} and ({' or '.join(refused)})", REFUSED))
        if rule.rate_per_s is not None:
            found.append(_limiting(rule, where, rule.rate_per_s, zone))
    for each in found:
        if len(each.body["expression"]) > MAX_EXPRESSION_CHARS:
            raise ProviderRefused(
                f"The rule {each.name} has an expression of {len(each.body['expression'])} "
                f"characters, and Cloudflare takes {MAX_EXPRESSION_CHARS}; nothing was done. Name "
                "fewer principals, or larger networks."
            )
    return found


def _blocking(rule: Rules, expression: str, answer: ControlAnswer) -> Rule:
    body = {
        "action": "block",
        "action_parameters": {"response": _response(answer)},
        "expression": expression,
        "enabled": True,
    }
    return Rule(BLOCKING, rule.name, body)


def _limiting(rule: Rules, expression: str, rate_per_s: float, zone: Zone) -> Rule:
    count, period_s = window(rate_per_s, zone.plan)
    limit = {
        "characteristics": list(_COUNTED_BY[zone.limits_by]),
        "period": period_s,
        "requests_per_period": count,
        "mitigation_timeout": _MITIGATION_S[zone.plan],
        "requests_to_origin": False,
    }
    body = {
        "action": "block",
        "action_parameters": {"response": _response(THROTTLED)},
        "expression": expression,
        "enabled": True,
        "ratelimit": limit,
    }
    return Rule(LIMITING, rule.name, body)


def _response(answer: ControlAnswer) -> dict[str, Any]:
    return {
        "status_code": answer.status,
        "content": answer.body,
        "content_type": "application/json",
    }


def window(rate_per_s: float, plan: Plan) -> tuple[int, int]:
    """Return how many requests in how many seconds hold a rate: in the shortest period in which
    rounding down to whole requests takes at most a tenth off, else in the longest."""
    periods = PERIODS_S[plan]
    for period in periods:
        count = rate_per_s * period + 1e-9
        if count >= 1 and int(count) >= 0.9 * count:
            return int(count), period
    return max(1, int(rate_per_s * periods[-1])), periods[-1]


def slowest_rate_per_s(plan: Plan) -> float:
    return 1 / PERIODS_S[plan][-1]


# --- expressions -------------------------------------------------------------------------------


def quoted(text: str) -> str:
    """Return a raw string: it has no escapes, and ends at a quote with as many ``#``."""
    longest = max((len(found) for found in re.findall('"(#*)', text)), default=-1)
    marks = "#" * (longest + 1)
    return f'r{marks}"{text}"{marks}'


def _endpoint(rule: Rules, rules: Sequence[Rules], zone: Zone, *, overrides: bool) -> str:
    """Return the condition for requests to an endpoint and to no more specific one."""
    parts = []
    if zone.hosts:
        parts.append(f"http.host in {{{' '.join(map(quoted, zone.hosts))}}}")
    parts.append(_path(rule.path, or_odd=True))
    if rule.methods:
        parts.append(_method(rule.methods, overrides=overrides))
    for other in more_specific(rule, rules):  # which has its own rules, if any
        theirs = [_path(other.path)]
        if other.methods:
            theirs.append(_method(other.methods, overrides=overrides))
        parts.append(f"not ({' and '.join(theirs)})")
    return " and ".join(parts)


def _path(template: str, *, or_odd: bool = False) -> str:
    expression = f"^{path_expression(template)}$" + f"|{ODD_SEGMENT}" * or_odd
    return f"http.request.uri.path matches {quoted(expression)}"


def _method(methods: Iterable[str], *, overrides: bool) -> str:
    plain = f"http.request.method in {{{' '.join(map(quoted, methods))}}}"
    if not overrides:
        return plain
    said = [
        f'any(lower(http.request.headers["{header}"][*])[*] == {quoted(method.lower())})'
        for header in OVERRIDE_HEADERS
        for method in methods
    ]
    return f"({' or '.join([plain, *said])})"


def _refused(rule: Rules, zone: Zone) -> list[str]:
    """Return the conditions of which each refuses a caller."""
    refused = _callers(rule.blocked, zone)
    return refused + [f"not ({' or '.join(_callers(group, zone))})" for group in rule.allowed]


def _callers(principals: Sequence[Principal], zone: Zone) -> list[str]:
    nets = addresses(principals)
    found = [f"ip.src in {{{' '.join(nets)}}}"] if nets else []
    claims = [p for p in principals if p.kind is PrincipalKind.CLAIM]
    return found + [_claim(p, zone.token_configuration or "") for p in claims]


def _claim(principal: Principal, configuration: str) -> str:
    """Claims are there of tokens that Cloudflare has verified by this configuration of API Shield
    (https://developers.cloudflare.com/api-shield/security/jwt-validation/transform-rules/)."""
    claims = f"http.request.jwt.claims[{quoted(configuration)}][0]"
    claim = quoted(principal.claim or "")
    return f"lookup_json_string({claims}, {claim}) == {quoted(principal.value)}"
