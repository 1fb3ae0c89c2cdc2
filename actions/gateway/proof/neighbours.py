"""What stands beside a contained endpoint must go on as without us."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from actions.gateway.proof.target import Target, said, send, target_of
from actions.probe import Prober
from bot.action import Context
from bot.model.answers import MARK_HEADER
from bot.model.endpoint import Endpoint
from bot.model.outcome import Check

NEIGHBOURS = 12
"""The nearest ones by path; an inventory may hold hundreds."""


def neighbours(
    endpoints: Sequence[Endpoint], gateway: str, prober: Prober, ctx: Context
) -> list[Check]:
    """Ask the nearest endpoints that nobody holds back: they must answer as without us."""
    controls = [c.control for c in ctx.containments.in_force(gateway)]
    asked = {endpoint.key for endpoint in endpoints}
    free = [
        endpoint
        for endpoint in ctx.endpoints.values()
        if endpoint.method == "GET"
        and endpoint.example_path
        and endpoint.key not in asked
        and not any(control.concerns(endpoint.key) for control in controls)
    ]
    nearest = sorted(
        free, key=lambda e: (-max((_shared(e, one) for one in endpoints), default=0), e.key)
    )
    if not nearest:
        why = "the inventory has no other GET endpoint with an example path"
        return [Check(name="neighbours", ok=True, expected="as before", seen=f"none; {why}")]
    return [
        alive(f"neighbour {endpoint.key} answers", target_of(endpoint), prober)
        for endpoint in nearest[:NEIGHBOURS]
    ]


def alive(name: str, target: Target, prober: Prober) -> Check:
    """Check for an answer that is the service's own, and no worse than without the gateway."""
    answer = send(target, prober)
    ok = answer.status < 500 and MARK_HEADER not in answer.headers
    expected, seen = "2xx", said(answer)
    if ok and not answer.is_success and target.is_safe:
        # Not everything is the probe's to read; then the service itself says the same.
        direct = send(target, prober, "owner", "upstream")
        ok = answer.status == direct.status
        expected = f"2xx, or what the service itself says ({direct.status})"
    elif not target.is_real:
        expected = "an answer of the service"
    return Check(name=name, ok=ok, expected=expected, seen=seen)


def _shared(one: Endpoint, other: Endpoint) -> int:
    pairs = zip(one.path.split("/"), other.path.split("/"), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
