"""What is particular to Envoy: filters that stand alone, and routes that cannot say "but not"."""

from __future__ import annotations

from typing import Any

import yaml

from actions.gateway.adapters.envoy.routes import POLICY
from bot.model.containment import ControlKind, subject
from tests.gateways.containments import address, control, rendered


def document(*controls: Any, **more: Any) -> dict[str, Any]:
    return yaml.safe_load(rendered("envoy", controls, **more).text)


def test_only_what_is_needed() -> None:
    """
    A close needs no filter, and the rest no route but the one for odd paths.
    """
    limit = control(ControlKind.THROTTLE, path="/api/a", rate_per_s=1.0)
    closed, limited, both = document(control()), document(limit), document(control(), limit)
    assert closed.keys() == {"routes"}
    assert limited.keys() == both.keys() == {"routes", "http_filters"}
    assert [route["name"] for route in limited["routes"]] == ["firedoor odd paths"]
    assert both["routes"] == closed["routes"]


def test_refusals_are_of_firedoors_policy() -> None:
    """
    The listener gives answers of that policy Firedoor's body, so all endpoints are in it.
    """
    found = document(
        control(ControlKind.BLOCK, principals=(subject("c-1"),)),
        control(ControlKind.BLOCK, path="/api/a", principals=(address("203.0.113.7"),)),
    )

    (block,) = found["http_filters"]
    policies = block["typed_config"]["rules"]["policies"]
    assert list(policies) == [POLICY]
    assert len(policies[POLICY]["principals"]) == 2


def test_buckets_are_apart() -> None:
    """
    Each limited endpoint has a bucket of its own, and nothing else is counted.
    """
    found = document(
        control(ControlKind.THROTTLE, rate_per_s=5.0),
        control(ControlKind.THROTTLE, path="/api/a", rate_per_s=0.5),
    )

    (limit,) = found["http_filters"]
    config = limit["typed_config"]
    assert "token_bucket" not in config
    buckets = {d["entries"][0]["value"]: d["token_bucket"] for d in config["descriptors"]}
    values = [
        a["header_value_match"]["descriptor_value"]
        for r in config["rate_limits"]
        for a in r["actions"]
    ]
    assert sorted(values) == sorted(buckets) == ["1", "2"]
    assert {b["max_tokens"] for b in buckets.values()} == {1, 5}


def test_too_many_matches_are_left_out() -> None:
    """
    Long paths make several matchers each, and what is kept out multiplies them. What would slow
    down every request is left out, and told.
    """
    stem = "/api/" + "/".join(["long-segment"] * 12)
    known = [f"GET {stem}/{n}-{'x' * 40}" for n in range(8)]
    made = rendered("envoy", [control(path=f"{stem}/{{id}}"), control()], known=known)

    assert any("to keep other endpoints out of it" in sentence for sentence in made.unsupported)
    assert "long-segment" not in made.text.partition("routes:")[2]
