"""A patch for AWS WAF, as Terraform: one rule group, and the address sets that it looks at. Pure.

WAF has no "first that matches", but labels: a counting rule gives a request the label of its
endpoint, unless it has that of a more specific one, and the rules after it look at labels.

Names and limits are those of the provider's schema (``internal/service/wafv2/schemas.go``), costs
those of the AWS WAF Developer Guide.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterable, Iterator, Sequence

from actions.gateway.handoff.cases import Case, Draft, Language, Rendered, by_kind, place
from actions.gateway.handoff.hcl import Block, Item, Reference
from actions.gateway.handoff.texts import ODD_PATHS, decoded_regex, literal_bytes, raw_regex
from actions.gateway.rules import OVERRIDE_HEADERS
from actions.gateway.templates import ODD_SEGMENT, word_regex
from bot.model.answers import CLOSED, REFUSED, THROTTLED, ControlAnswer
from bot.model.containment import Principal, PrincipalKind

WINDOWS_S = (60, 120, 300, 600)
LEAST_LIMIT = 10
"""Of a rate-based rule, in its window."""

SCOPE = ("scope", "REGIONAL")

_COSTS = {
    "regex_match_statement": 3,
    "ip_set_reference_statement": 1,
    "label_match_statement": 1,
    "rate_based_statement": 2,
}
_TRANSFORMATION_COST = 10

_NO_TYPE = (
    "The answers' Content-Type is application/json, not application/problem+json: AWS WAF takes no "
    "other from a rule."
)


def render(draft: Draft) -> Rendered:
    """Return an ``aws_wafv2_rule_group``, and an ``aws_wafv2_ip_set`` for each list of callers."""
    sets: list[Block] = []
    acting: list[Block] = []
    unsupported: list[str] = []
    used: set[str] = set()
    for case in draft.contained():
        for name, answer, statement in _refusals(draft, case, sets):
            acting.append(_blocking(f"{case.number}-{name}", statement, answer))
            used.add(answer.mark)
        if case.rules.rate_per_s is not None:
            limit = _limit(draft, case)
            if limit is None:
                unsupported.append(_too_slow(case))
            else:
                acting.append(_blocking(f"{case.number}-throttle", limit, THROTTLED))
                used.add(THROTTLED.mark)
    if not acting:
        return Rendered("", (), tuple(unsupported))
    odd = _matches(Block("uri_path"), ODD_SEGMENT, "URL_DECODE")
    acting.insert(0, _blocking("odd-paths", odd, CLOSED))
    used.add(CLOSED.mark)
    rules = [_labelling(draft, case) for case in draft.cases] + acting
    group = _group(draft, rules, [a for a in (CLOSED, REFUSED, THROTTLED) if a.mark in used])
    blocks = ["\n".join(block.lines()) for block in (*sets, group)]
    return Rendered("\n\n".join(blocks) + "\n", _how(draft), (*unsupported, _NO_TYPE))


def _how(draft: Draft) -> tuple[str, ...]:
    return (
        "Put this file beside your own, and a rule into your aws_wafv2_web_acl, before all others:",
        "override_action { none {} }, and as its statement rule_group_reference_statement with",
        f"arn = {_resource('aws_wafv2_rule_group', draft)}.arn. For CloudFront, every scope is",
        '"CLOUDFRONT". A limit is near what it says, and not exact: it slows callers down, and is',
        "no block. Addresses are those that AWS WAF sees.",
        *ODD_PATHS,
    )


def _resource(type_: str, draft: Draft, suffix: str = "") -> str:
    return f"{type_}.firedoor_{draft.tag}{suffix}"


def _group(draft: Draft, rules: Sequence[Block], answers: Iterable[ControlAnswer]) -> Block:
    numbered = [
        Block("rule", [rule.items[0], ("priority", priority), *rule.items[1:]])
        for priority, rule in enumerate(rules)
    ]
    bodies = [
        Block(
            "custom_response_body",
            [("key", a.mark), ("content", a.body), ("content_type", "APPLICATION_JSON")],
        )
        for a in answers
    ]
    name = f"firedoor-{draft.tag}"
    items: list[Item] = [
        ("name", name),
        SCOPE,
        ("capacity", sum(map(_cost, rules))),
        *bodies,
        *numbered,
        _visibility(name),
    ]
    return Block("resource", items, ["aws_wafv2_rule_group", f"firedoor_{draft.tag}"])


def _cost(block: Block) -> int:
    """Return the capacity units of all statements in it."""
    inner = [item for item in block.items if isinstance(item, Block)]
    if block.type == "text_transformation":
        return 0 if ("type", "NONE") in block.items else _TRANSFORMATION_COST
    return _COSTS.get(block.type, 0) + sum(map(_cost, inner))


# --- rules ---------------------------------------------------------------------------------------


def _labelling(draft: Draft, case: Case) -> Block:
    rules = case.rules
    parts = [_path(rules.path)]
    if rules.methods:
        words = "|".join(map(literal_bytes, rules.methods))
        asked = [_matches(Block("method"), f"^(?:{words})$", "NONE")]
        if rules.closed:
            words = "|".join(literal_bytes(method.lower()) for method in rules.methods)
            lower = word_regex(words, letters="a-z")
            asked += [
                _matches(Block("single_header", [("name", header)]), lower, "LOWERCASE")
                for header in OVERRIDE_HEADERS
            ]
        parts.append(_either(asked))
    if case.before:
        others = [_has(draft, other) for other in draft.cases if other.rules in case.before]
        parts.append(_not(_either(others)))
    label = Block("rule_label", [("name", _label(draft, case))])
    count = Block("action", [Block("count")])
    name = f"{case.number}-endpoint"
    return Block("rule", [("name", name), count, label, _root(_all(parts)), _visibility(name)])


def _refusals(
    draft: Draft, case: Case, sets: list[Block]
) -> Iterator[tuple[str, ControlAnswer, Block]]:
    """Return what is answered to whom, and add the sets of addresses that it looks at."""
    rules, here = case.rules, _has(draft, case)
    if rules.closed:
        yield "close", CLOSED, here
    if rules.blocked:
        callers = _callers(draft, f"_{case.number}_blocked", rules.blocked, sets)
        yield "block", REFUSED, _all([here, callers])
    for number, group in enumerate(rules.allowed, start=1):
        callers = _callers(draft, f"_{case.number}_allowed{number}", group, sets)
        yield f"allow-only{number}", REFUSED, _all([here, _not(callers)])


def _blocking(name: str, statement: Block, answer: ControlAnswer) -> Block:
    headers = [
        Block("response_header", [("name", key), ("value", value)])
        for key, value in answer.headers.items()
        if key != "content-type"
    ]
    response = Block(
        "custom_response",
        [("response_code", answer.status), ("custom_response_body_key", answer.mark), *headers],
    )
    action = Block("action", [Block("block", [response])])
    return Block("rule", [("name", name), action, _root(statement), _visibility(name)])


def _limit(draft: Draft, case: Case) -> Block | None:
    """Return the statement of a limit; None if it is slower than WAF counts."""
    rate_per_s = case.rules.rate_per_s or 0.0
    for window_s in WINDOWS_S:
        limit = math.ceil(round(rate_per_s * window_s, 6))
        if limit >= LEAST_LIMIT:
            items: list[Item] = [
                ("limit", limit),
                ("evaluation_window_sec", window_s),
                ("aggregate_key_type", "CONSTANT"),
                Block("scope_down_statement", [_has(draft, case)]),
            ]
            return Block("rate_based_statement", items)
    return None


def _too_slow(case: Case) -> str:
    return (
        f"The throttle of {place(case.rules)} is left out: AWS WAF limits to "
        f"{LEAST_LIMIT} in {WINDOWS_S[-1] // 60} minutes at least."
    )


def _callers(draft: Draft, suffix: str, callers: Iterable[Principal], sets: list[Block]) -> Block:
    """Return a statement about addresses, after adding a set for each version of IP."""
    by_version: dict[int, list[str]] = {}
    for caller in callers:
        for network in _networks(caller.value):
            by_version.setdefault(network.version, []).append(str(network))
    statements = []
    for version, addresses in sorted(by_version.items()):
        label = f"firedoor_{draft.tag}{suffix}_v{version}"
        items: list[Item] = [
            ("name", label.replace("_", "-")),
            SCOPE,
            ("ip_address_version", f"IPV{version}"),
            ("addresses", addresses),
        ]
        sets.append(Block("resource", items, ["aws_wafv2_ip_set", label]))
        arn = Reference(f"aws_wafv2_ip_set.{label}.arn")
        statements.append(Block("ip_set_reference_statement", [("arn", arn)]))
    return _either(statements)


def _networks(value: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Return a network as WAF takes it: all of the addresses there are only in two halves."""
    network = ipaddress.ip_network(value)
    return list(network.subnets()) if network.prefixlen == 0 else [network]


def _visibility(name: str) -> Block:
    return Block(
        "visibility_config",
        [
            ("cloudwatch_metrics_enabled", True),
            ("metric_name", name),
            ("sampled_requests_enabled", True),
        ],
    )


# --- statements ----------------------------------------------------------------------------------


def _path(template: str) -> Block:
    return _either(
        [
            _matches(Block("uri_path"), raw_regex(template), "NONE"),
            _matches(Block("uri_path"), decoded_regex(template), "URL_DECODE", "NORMALIZE_PATH"),
        ]
    )


def _matches(field: Block, regex: str, *transformations: str) -> Block:
    transformed = [
        Block("text_transformation", [("priority", priority), ("type", type_)])
        for priority, type_ in enumerate(transformations)
    ]
    return Block(
        "regex_match_statement",
        [("regex_string", regex), Block("field_to_match", [field]), *transformed],
    )


def _has(draft: Draft, case: Case) -> Block:
    return Block("label_match_statement", [("scope", "LABEL"), ("key", _label(draft, case))])


def _label(draft: Draft, case: Case) -> str:
    return f"firedoor:{draft.tag}:{case.number}"


def _root(statement: Block) -> Block:
    return Block("statement", [statement])


def _all(statements: Sequence[Block]) -> Block:
    return _joined("and_statement", statements)


def _either(statements: Sequence[Block]) -> Block:
    return _joined("or_statement", statements)


def _joined(type_: str, statements: Sequence[Block]) -> Block:
    """WAF takes no `and` or `or` of one."""
    if len(statements) == 1:
        return statements[0]
    return Block(type_, [_root(statement) for statement in statements])


def _not(statement: Block) -> Block:
    return Block("not_statement", [_root(statement)])


LANGUAGE = Language(
    title="AWS WAF (Terraform)",
    suffix="tf",
    media_type="text/plain",
    render=render,
    cannot_tell=by_kind(
        {
            PrincipalKind.API_KEY: "AWS WAF checks no keys",
            PrincipalKind.CLAIM: "AWS WAF verifies no tokens, so it cannot tell whose they are",
        }
    ),
    # Of `regex_string`.
    most_regex=512,
)
