"""What is particular to nginx: whole requests a minute, and one header of a name."""

from __future__ import annotations

import re

import pytest

from bot.model.containment import ANY_METHOD, ControlKind
from tests.gateways.containments import control, rendered


@pytest.mark.parametrize(
    ("rate_per_s", "per_minute", "burst", "is_exact"),
    [
        (5.0, 300, 4, True),
        (1.0, 60, 0, True),
        (1.5, 90, 1, True),
        (0.5, 30, 0, True),
        (100 / 3600, 2, 0, False),
        (1 / 3600, 1, 0, False),
    ],
)
def test_rate(rate_per_s: float, per_minute: int, burst: int, is_exact: bool) -> None:
    """
    A rate is rounded up to whole requests a minute, so that the patch is never stricter than
    Firedoor; and that is told. As many may come at once as in a second.
    """
    made = rendered("nginx", [control(ControlKind.THROTTLE, rate_per_s=rate_per_s)])

    assert re.findall(r"rate=(\S+);", made.text) == [f"{per_minute}r/m"]
    assert re.findall(r"burst=(\d+) nodelay;", made.text) == ([str(burst)] if burst else [])
    assert (made.unsupported == ()) == is_exact


@pytest.mark.parametrize(("method", "is_told"), [("GET", True), (ANY_METHOD, False)])
def test_several_override_headers(method: str, is_told: bool) -> None:
    """
    What older versions do not see of a method override is told, where it matters.
    """
    made = rendered("nginx", [control(method=method)])

    assert any("before 1.23" in sentence for sentence in made.unsupported) == is_told
