"""The Terraform file: it has the provider's blocks and keeps AWS WAF's limits."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.gateway.handoff.hcl import Block as HclBlock
from actions.gateway.handoff.hcl import quoted
from bot.model.containment import ANY_METHOD, Control, ControlKind
from tests.gateways.containments import address, control, rendered
from tests.gateways.hostile import HOSTILE, TEMPLATES
from tests.unit.actions.gateway.handoff_readers import Block, attributes, inner, read_hcl

# Attributes and blocks of the provider's resources (internal/service/wafv2: schemas.go,
# rule_group.go, ip_set.go), as far as patches use them.
SHAPES: dict[str, tuple[set[str], set[str]]] = {
    "aws_wafv2_ip_set": ({"name", "scope", "ip_address_version", "addresses"}, set()),
    "aws_wafv2_rule_group": (
        {"name", "scope", "capacity"},
        {"custom_response_body", "rule", "visibility_config"},
    ),
    "custom_response_body": ({"key", "content", "content_type"}, set()),
    "rule": ({"name", "priority"}, {"action", "rule_label", "statement", "visibility_config"}),
    "action": (set(), {"count", "block"}),
    "count": (set(), set()),
    "block": (set(), {"custom_response"}),
    "custom_response": ({"response_code", "custom_response_body_key"}, {"response_header"}),
    "response_header": ({"name", "value"}, set()),
    "rule_label": ({"name"}, set()),
    "visibility_config": (
        {"cloudwatch_metrics_enabled", "metric_name", "sampled_requests_enabled"},
        set(),
    ),
    "label_match_statement": ({"scope", "key"}, set()),
    "ip_set_reference_statement": ({"arn"}, set()),
    "regex_match_statement": ({"regex_string"}, {"field_to_match", "text_transformation"}),
    "field_to_match": (set(), {"uri_path", "method", "single_header"}),
    "uri_path": (set(), set()),
    "method": (set(), set()),
    "single_header": ({"name"}, set()),
    "text_transformation": ({"priority", "type"}, set()),
    "rate_based_statement": (
        {"limit", "evaluation_window_sec", "aggregate_key_type"},
        {"scope_down_statement"},
    ),
}
COMPOUND = {"and_statement", "or_statement", "not_statement"}
HOLDERS = {"statement", "scope_down_statement"}
LEVELS = 3
"""How deep the provider lets `and`, `or` and `not` stand in each other."""


def read(*controls: Control, **more: Any) -> list[Block]:
    """Read a patch, after a look at its shape."""
    blocks = read_hcl(rendered("terraform-aws-waf", controls, **more).text)
    for block in blocks:
        assert block[0] == "resource"
        has_shape((block[1][0], [], block[2]))
    return blocks


def has_shape(block: Block, level: int = LEVELS) -> None:
    type_, _, _ = block
    if type_ in COMPOUND:
        assert level > 0
        names, inside, level = set(), {"statement"}, level - 1
    elif type_ in HOLDERS:
        assert len(block[2]) == 1
        names = set()
        inside = COMPOUND | {name for name in SHAPES if name.endswith("_statement")}
    else:
        names, inside = SHAPES[type_]
    assert attributes(block).keys() == names, type_
    for each in inner(block):
        assert each[0] in inside, (type_, each[0])
        has_shape(each, level)


def group_of(blocks: list[Block]) -> Block:
    (group,) = (block for block in blocks if block[1][0] == "aws_wafv2_rule_group")
    return group


def every(block: Block, type_: str) -> list[Block]:
    found = [block] if block[0] == type_ else []
    return found + [deep for each in inner(block) for deep in every(each, type_)]


EVERYTHING = (
    control(method=ANY_METHOD),
    control(ControlKind.BLOCK, path="/api/a", principals=(address("203.0.113.0/24"),)),
    control(ControlKind.ALLOW_ONLY, path="/api/a", principals=(address("2001:db8::/32"),)),
    control(ControlKind.ALLOW_ONLY, path="/api/a", principals=(address("198.51.100.1"),)),
    control(ControlKind.THROTTLE, path="/api/a", rate_per_s=2.0),
)
KNOWN = ("GET /api/orders/export", "POST /api/orders/{other}", "GET /api/orders/import")


class TestShape:
    def test_everything(self) -> None:
        """
        Blocks, attributes and the depth of statements are the provider's; names and priorities
        are unique; every set and answer that a rule names is there.
        """
        blocks = read(*EVERYTHING, known=KNOWN)

        group = group_of(blocks)
        rules = inner(group, "rule")
        for name in ("name", "priority"):
            assert len({attributes(rule)[name] for rule in rules}) == len(rules)
        answers = {attributes(body)["key"] for body in inner(group, "custom_response_body")}
        used = {attributes(r)["custom_response_body_key"] for r in every(group, "custom_response")}
        assert answers == used == {"closed", "refused", "throttled"}
        sets = {f"{'.'.join(b[1])}.arn" for b in blocks if b is not group}
        assert {attributes(s)["arn"] for s in every(group, "ip_set_reference_statement")} == sets

    @pytest.mark.parametrize("template", TEMPLATES)
    def test_hostile_path_is_a_path(self, template: str) -> None:
        """
        Whatever a path holds, it is in a string, and the string is an expression.
        """
        blocks = read(control(path=template), owner=HOSTILE, reason=HOSTILE)

        expressions = every(group_of(blocks), "regex_match_statement")
        assert len(expressions) == 7
        for expression in expressions:
            re.compile(attributes(expression)["regex_string"])

    def test_equals_signs_are_aligned(self) -> None:
        """
        As `terraform fmt` writes it, for repositories that check that.
        """
        block = HclBlock("a", [("x", 1), ("long", True), HclBlock("b", [("y", ["z"])]), ("w", "")])
        assert list(block.lines()) == [
            "a {",
            "  x    = 1",
            "  long = true",
            "  b {",
            '    y = ["z"]',
            "  }",
            '  w = ""',
            "}",
        ]


class TestLimits:
    def test_capacity(self) -> None:
        """
        AWS WAF's list: an expression costs 3 and each transformation 10, an address set 1, a label
        1, a limit 2.
        """
        (closed,) = (group_of(read(control())),)
        # Two paths, one with two transformations; a method; three headers in lower case; a label;
        # and odd paths, decoded.
        assert attributes(closed)["capacity"] == (3 + 3 + 20) + 3 + 3 * (3 + 10) + 1 + (3 + 10)

    @pytest.mark.parametrize(
        ("rate_per_s", "limit", "window_s"),
        [(1.0, 60, 60), (0.1, 12, 120), (0.05, 15, 300), (10 / 600, 10, 600), (0.95, 57, 60)],
    )
    def test_rate(self, rate_per_s: float, limit: int, window_s: int) -> None:
        """
        It is counted in the shortest window in which AWS WAF counts so few, over all callers.
        """
        blocks = read(control(ControlKind.THROTTLE, rate_per_s=rate_per_s))

        (statement,) = every(group_of(blocks), "rate_based_statement")
        assert attributes(statement) == {
            "limit": limit,
            "evaluation_window_sec": window_s,
            "aggregate_key_type": "CONSTANT",
        }

    def test_rate_that_is_too_slow(self) -> None:
        """
        What AWS WAF does not count is left out, and told.
        """
        slow = control(ControlKind.THROTTLE, path="/api/a", rate_per_s=0.01)
        made = rendered("terraform-aws-waf", [slow, control()])

        assert any("throttle of GET /api/a is left out" in s for s in made.unsupported)
        assert "rate_based_statement" not in made.text

    def test_every_address(self) -> None:
        """
        AWS WAF takes no network of length 0, so it is told in two halves.
        """
        blocks = read(control(ControlKind.BLOCK, principals=(address("0.0.0.0/0"),)))

        (callers,) = (b for b in blocks if b[1][0] == "aws_wafv2_ip_set")
        networks = list(map(ipaddress.ip_network, attributes(callers)["addresses"]))
        assert [str(n) for n in ipaddress.collapse_addresses(networks)] == ["0.0.0.0/0"]
        assert all(network.prefixlen > 0 for network in networks)

    def test_content_type_is_told(self) -> None:
        """
        The answers say what they are as AWS WAF lets them.
        """
        assert any(
            "Content-Type" in s for s in rendered("terraform-aws-waf", [control()]).unsupported
        )


class TestQuoting:
    @given(text=st.text())
    def test_a_string_is_its_text(self, text: str) -> None:
        """
        Whatever it holds, it is one string on one line, without a template in it.
        """
        word = quoted(text)

        assert len(word.splitlines()) == 1
        assert not re.search(r"(?<!\$)(?:\$\$)*\$\{|(?<!%)(?:%%)*%\{", word)
        ((_, _, items),) = read_hcl(f"a {{\n  b = {word}\n}}\n")
        assert dict(items)["b"] == text
