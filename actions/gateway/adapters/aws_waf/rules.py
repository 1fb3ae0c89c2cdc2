"""The rules of a WAFv2 rule group, rendered from a set of controls. Pure.

For each endpoint one rule finds its requests, with action Count, and labels them; the rules of its
controls look at the label. A request is labelled by the first endpoint that matches it only, so a
more specific one is kept out of the others'. Nothing here has the action Allow: it would end the
web ACL, and so switch the operator's own rules off.

Addresses are in IP sets, whose names hold a hash of their content. A set is never changed: another
content is another set, and the rule group changes over in one step.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actions.gateway.rules import OVERRIDE_HEADERS, Rules, hold_back, rules_of
from actions.gateway.templates import ODD_SEGMENT, decoded_regex, openness, path_regex, word_regex
from bot.model.answers import CLOSED, REFUSED, THROTTLED, ControlAnswer
from bot.model.base import digest_of
from bot.model.containment import Control, ControlKind, Principal

Statement = dict[str, Any]

MAX_REGEX = 512
"""Characters; of ``RegexString`` in WAFv2's API."""

MAX_RATE_RULES = 4
MAX_SETS = 50
MAX_ADDRESSES = 10_000
"""Fixed quotas of a rule group, and of an IP set.
https://docs.aws.amazon.com/waf/latest/developerguide/limits.html"""

MIN_LIMIT = 10
WINDOWS_S = (60, 120, 300, 600)
"""Of a rate-based statement: the least limit, and the times over which it can be counted."""

MARK = "firedoor:endpoint"
"""The label of a request that an endpoint was found for."""

SHADOW = "firedoor-shadow"

# What a statement costs in WCU, in words of the documentation: a regular expression 3, and 10 for
# each text transformation; a label or an IP set 1; a rate-based statement 2.
# https://docs.aws.amazon.com/waf/latest/developerguide/waf-rule-statements.html
_REGEX_WCU, _TRANSFORMATION_WCU, _REFERENCE_WCU, _RATE_WCU = 3, 10, 1, 2


@dataclass(frozen=True)
class Rendered:
    """``rules`` name an IP set where WAFv2 has its ARN. ``sets`` are addresses by name."""

    rules: tuple[dict[str, Any], ...] = ()
    bodies: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def version(self) -> str:
        return version_of(self.rules, self.bodies)


def version_of(rules: Sequence[Mapping[str, Any]], bodies: Mapping[str, Any]) -> str:
    """Return the version of rules that name IP sets: 12 digits of a hash over all of it."""
    return digest_of({"rules": list(rules), "bodies": bodies})[:12]


def render(controls: Iterable[Control], known: Iterable[str], prefix: str) -> Rendered:
    """
    Return what a set of controls asks for; see `actions.gateway.rules`.

    Args:
        known: Keys of all endpoints there are.

        prefix: Of the names of IP sets.

    Raises:
        BadInput: A control lacks what its kind needs.
    """
    found = rules_of(controls, known)
    if not found:
        return Rendered()
    # Of one path, what is closed comes first: a method override is seen whatever the method is.
    ordered = sorted(found, key=lambda each: (openness(each.path), each.path, not each.closed))
    sets: dict[str, tuple[str, ...]] = {}
    rules: list[dict[str, Any]] = []
    if hold_back(found):
        odd = _regex(ODD_SEGMENT, {"UriPath": {}}, "URL_DECODE")
        rules.append(_rule(0, "odd-paths", odd, _block(CLOSED)))
    for position, each in enumerate(ordered):
        for name, statement, action, more in _of_endpoint(position, each, prefix, sets):
            rules.append(_rule(len(rules), name, statement, action, **more))
    bodies = {
        answer.mark: {"ContentType": "APPLICATION_JSON", "Content": answer.body}
        for answer in (CLOSED, THROTTLED, REFUSED)
    }
    return Rendered(tuple(rules), bodies, sets)


def shadow_id(control: Control) -> str:
    """Return what a shadow is called in the names of the metrics that count for it."""
    return digest_of(control.model_dump(mode="json"))[:8]


def set_name(prefix: str, addresses: Iterable[str]) -> str:
    """Return the name of the IP set that holds these addresses, all of one IP version."""
    ordered = sorted(str(ipaddress.ip_network(each)) for each in addresses)
    version = ipaddress.ip_network(ordered[0]).version if ordered else 4
    return f"{prefix}-v{version}-{digest_of(ordered)[:12]}"


def limit_of(rate_per_s: float) -> tuple[int, int] | None:
    """Return the limit and the time in seconds over which it is counted; None if no limit is as
    low as that."""
    for window_s in WINDOWS_S:
        limit = math.floor(rate_per_s * window_s)
        if limit >= MIN_LIMIT:
            return limit, window_s
    return None


def is_too_long(path: str) -> bool:
    """Tell whether an endpoint's expression is longer than WAFv2 takes."""
    return max(map(len, _expressions(path))) > MAX_REGEX


def capacity_of(rules: Sequence[Mapping[str, Any]]) -> int:
    """Return the WCU that rules take, as documented; what AWS calculates may be less."""
    return sum(_wcu(rule["Statement"]) for rule in rules)


def problem_of(rendered: Rendered) -> str:
    """Say what fixed quota rules do not keep; empty if they keep them all."""
    rates = sum("RateBasedStatement" in rule["Statement"] for rule in rendered.rules)
    if rates > MAX_RATE_RULES:
        return f"{rates} rate limits, and a rule group takes {MAX_RATE_RULES}"
    if len(rendered.sets) > MAX_SETS:
        return f"{len(rendered.sets)} IP sets, and a rule group takes {MAX_SETS}"
    for addresses in rendered.sets.values():
        if len(addresses) > MAX_ADDRESSES:
            return f"{len(addresses)} addresses in one IP set, which takes {MAX_ADDRESSES}"
    return ""


# --- rules -------------------------------------------------------------------------------------

_Made = tuple[str, Statement, dict[str, Any], dict[str, Any]]


def _of_endpoint(
    position: int, rules: Rules, prefix: str, sets: dict[str, tuple[str, ...]]
) -> Iterable[_Made]:
    """Return name, statement, action and the rest of each rule of one endpoint."""
    is_of_it = [_path(rules.path)]
    if rules.methods:
        is_of_it.append(_method(rules.methods, with_overrides=rules.closed))
    if position:
        is_of_it.append(_not(_label(MARK)))
    if rules.closed:
        yield _name(rules.name, position), _and(is_of_it), _block(CLOSED), {}
        return
    own = f"{MARK}:{position}"
    labels = [{"Name": MARK}, {"Name": own}]
    yield _name(f"find {rules.name}", position), _and(is_of_it), {"Count": {}}, {"labels": labels}
    for number, shadow in enumerate(rules.shadows):
        name = f"{SHADOW}-{shadow_id(shadow)}-{position}-{number}"
        matched = [_label(own), *_shadowed(shadow, prefix, sets)]
        yield name, _and(matched), {"Count": {}}, {}
    refused = [_any_of(rules.blocked, prefix, sets)] if rules.blocked else []
    refused += [_not(_any_of(group, prefix, sets)) for group in rules.allowed]
    for number, statement in enumerate(refused):
        name = _name(f"refuse {number} {rules.path}", position)
        yield name, _and([_label(own), statement]), _block(REFUSED), {}
    if rules.rate_per_s is not None:
        name = _name(f"throttle {rules.path}", position)
        yield name, _rate(rules.rate_per_s, _label(own)), _block(THROTTLED), {}


def _rule(
    priority: int,
    name: str,
    statement: Statement,
    action: dict[str, Any],
    labels: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    rule = {
        "Name": name,
        "Priority": priority,
        "Statement": statement,
        "Action": action,
        "VisibilityConfig": {
            "SampledRequestsEnabled": True,
            "CloudWatchMetricsEnabled": True,
            "MetricName": name,
        },
    }
    return rule if labels is None else {**rule, "RuleLabels": labels}


def _name(words: str, position: int) -> str:
    """Return a name that WAFv2 takes, and a person can read."""
    return f"{position:02d}-{re.sub('[^A-Za-z0-9_]+', '-', words).strip('-')}"[:100]


def _block(answer: ControlAnswer) -> dict[str, Any]:
    """Return the action that gives an answer. The type of content is the body's own: WAFv2 takes
    no header of that name, and knows no problem documents."""
    headers = [
        {"Name": name, "Value": value}
        for name, value in answer.headers.items()
        if name != "content-type"
    ]
    response = {
        "ResponseCode": answer.status,
        "CustomResponseBodyKey": answer.mark,
        "ResponseHeaders": headers,
    }
    return {"Block": {"CustomResponse": response}}


# --- statements --------------------------------------------------------------------------------


def _expressions(path: str) -> tuple[str, str]:
    return f"^(?:{path_regex(path)})$", f"^(?:{decoded_regex(path)})$"


def _path(path: str) -> Statement:
    """Match a path as it was sent, and as a service that decodes it takes it."""
    as_sent, decoded = _expressions(path)
    where: dict[str, Any] = {"UriPath": {}}
    return _or(
        [
            _regex(as_sent, where, "NORMALIZE_PATH"),
            _regex(decoded, where, "URL_DECODE", "NORMALIZE_PATH_WIN"),
        ]
    )


def _method(methods: Sequence[str], *, with_overrides: bool) -> Statement:
    words = "|".join(re.escape(method) for method in methods)
    # Services there are that take a method in any case.
    folded = re.sub("[A-Z]", lambda letter: f"[{letter[0]}{letter[0].lower()}]", words)
    statements = [_regex(f"^(?:{folded})$", {"Method": {}}, "NONE")]
    if with_overrides:
        lower = word_regex(words.lower(), letters="a-z")
        statements += [
            _regex(lower, {"SingleHeader": {"Name": header}}, "LOWERCASE")
            for header in OVERRIDE_HEADERS
        ]
    return _or(statements)


def _shadowed(shadow: Control, prefix: str, sets: dict[str, tuple[str, ...]]) -> list[Statement]:
    """Return statements that together match the callers whom a shadow would refuse."""
    match shadow.would:
        case ControlKind.BLOCK:
            return [_any_of(shadow.principals, prefix, sets)]
        case ControlKind.ALLOW_ONLY:
            return [_not(_any_of(shadow.principals, prefix, sets))]
        case _:
            return []


def _any_of(
    principals: Sequence[Principal], prefix: str, sets: dict[str, tuple[str, ...]]
) -> Statement:
    """Match the addresses of principals, by IP sets that are added to ``sets``."""
    found = []
    for version in (4, 6):
        networks = [ipaddress.ip_network(each.value) for each in principals]
        addresses = tuple(sorted(str(each) for each in networks if each.version == version))
        if addresses:
            name = set_name(prefix, addresses)
            sets[name] = addresses
            found.append({"IPSetReferenceStatement": {"ARN": name}})
    return _or(found)


def _rate(rate_per_s: float, scope: Statement) -> Statement:
    limit, window_s = limit_of(rate_per_s) or (MIN_LIMIT, WINDOWS_S[-1])
    return {
        "RateBasedStatement": {
            "Limit": limit,
            "EvaluationWindowSec": window_s,
            "AggregateKeyType": "CONSTANT",
            "ScopeDownStatement": scope,
        }
    }


def _regex(expression: str, where: dict[str, Any], *transformations: str) -> Statement:
    return {
        "RegexMatchStatement": {
            "RegexString": expression,
            "FieldToMatch": where,
            "TextTransformations": [
                {"Priority": priority, "Type": kind}
                for priority, kind in enumerate(transformations)
            ],
        }
    }


def _label(name: str) -> Statement:
    return {"LabelMatchStatement": {"Scope": "LABEL", "Key": name}}


def _not(statement: Statement) -> Statement:
    return {"NotStatement": {"Statement": statement}}


def _and(statements: list[Statement]) -> Statement:
    return statements[0] if len(statements) == 1 else {"AndStatement": {"Statements": statements}}


def _or(statements: list[Statement]) -> Statement:
    return statements[0] if len(statements) == 1 else {"OrStatement": {"Statements": statements}}


def _wcu(statement: Mapping[str, Any]) -> int:
    ((kind, body),) = statement.items()
    match kind:
        case "AndStatement" | "OrStatement":
            return sum(map(_wcu, body["Statements"]))
        case "NotStatement":
            return _wcu(body["Statement"])
        case "RegexMatchStatement":
            kinds = [each["Type"] for each in body["TextTransformations"]]
            return _REGEX_WCU + _TRANSFORMATION_WCU * len([k for k in kinds if k != "NONE"])
        case "RateBasedStatement":
            return _RATE_WCU + _wcu(body["ScopeDownStatement"])
        case _:
            return _REFERENCE_WCU
