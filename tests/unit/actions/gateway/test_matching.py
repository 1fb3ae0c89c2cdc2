"""What adapters of gateways with routes of the operator's share."""

from __future__ import annotations

from typing import Any

import pytest

from actions.gateway.adapters.matching import common_networks, holds, kept_out, may_meet
from actions.gateway.rules import rules_of
from bot.model.containment import ANY_METHOD, Control, ControlKind

KNOWN = ("GET /orders/export", "POST /orders/import", "GET /orders/{id}", "GET /orders", "GET /x")


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([["10.0.0.0/8"]], ["10.0.0.0/8"]),
        ([["10.0.0.0/8"], ["10.1.0.0/16", "192.0.2.0/24"]], ["10.1.0.0/16"]),
        ([["10.1.0.0/16"], ["10.0.0.0/8"], ["10.1.2.0/24"]], ["10.1.2.0/24"]),
        ([["10.0.0.0/8"], ["192.0.2.0/24"]], []),
        ([["10.0.0.0/8"], ["::/0"]], []),
        ([["2001:db8::/32"], ["2001:db8:1::/48"]], ["2001:db8:1::/48"]),
        ([["10.0.0.1/8"], ["10.0.0.0/8"]], ["10.0.0.0/8"]),
    ],
)
def test_networks_on_every_list(groups: list[list[str]], expected: list[str]) -> None:
    """
    An address is let through if it is on each list; IPv4 and IPv6 have none in common.
    """
    assert common_networks(groups) == expected


@pytest.mark.parametrize(
    ("prefix", "template", "expected"),
    [
        ("/", "/orders/{id}", True),
        ("/orders", "/orders/{id}", True),
        ("/orders/", "/orders/{id}", True),
        ("/orders/4001", "/orders/{id}", True),
        ("/orders/4001/items", "/orders/{id}", True),
        ("/shop", "/orders/{id}", False),
        ("/ord", "/orders/{id}", True),
        ("/%6frders", "/orders/{id}", True),
    ],
)
def test_prefix_may_meet_a_template(prefix: str, template: str, expected: bool) -> None:
    """
    In doubt it may.
    """
    assert may_meet(prefix, template) is expected


@pytest.mark.parametrize(
    ("stored", "wanted", "expected"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": None}, True),
        ({"a": 1}, {"a": 1, "b": 0}, False),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": 1}}, True),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": [{"x": 1, "y": 2}]}, {"a": [{"x": 1}]}, True),
        ({"a": 1.0}, {"a": 1}, True),
        (None, {"a": 1}, False),
        ({"a": None}, {"a": {}}, False),
    ],
)
def test_stored_value_holds_what_is_wanted(stored: Any, wanted: Any, expected: bool) -> None:
    """
    Members that a server adds do not matter; all that is wanted must be there.
    """
    assert holds(stored, wanted) is expected


def test_known_endpoints_are_kept_out_of_a_wider_one() -> None:
    """
    Free endpoints that the template catches are kept out, those of other methods only if the
    control is on the whole route; contained ones hold by themselves.
    """

    def free(method: str, *more: Control) -> list[str]:
        close = Control(kind=ControlKind.CLOSE, method=method, path="/orders/{id}")
        rules = rules_of([close, *more], KNOWN)
        (wide,) = [r for r in rules if r.path == "/orders/{id}" and r.method == method]
        return [f"{other.method} {other.path}" for other in kept_out(wide, rules)]

    export = Control(kind=ControlKind.CLOSE, method="GET", path="/orders/export")
    assert free("GET") == ["GET /orders/export"]
    assert free(ANY_METHOD) == ["GET /orders/export", "POST /orders/import"]
    assert free(ANY_METHOD, export) == ["POST /orders/import"]
