"""Containments to make patches of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from actions.gateway.handoff import Format, Patch, patch
from bot.model.containment import Containment, Control, ControlKind, Principal, PrincipalKind

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ORDER = "/api/orders/{order_id}"


def address(value: str) -> Principal:
    return Principal(kind=PrincipalKind.IP, value=value)


def api_key(name: str) -> Principal:
    return Principal(kind=PrincipalKind.API_KEY, value=name)


def control(
    kind: ControlKind = ControlKind.CLOSE, *, method: str = "GET", path: str = ORDER, **more: Any
) -> Control:
    return Control(kind=kind, method=method, path=path, **more)


def containment(held: Control | None = None, **changes: Any) -> Containment:
    values = {
        "id": "INC-7-R1.close",
        "incident_id": "INC-7",
        "run_id": "INC-7-R1",
        "step_id": "close",
        "gateway": "edge",
        "control": held or control(),
        "owner": "slack:U0IRIS",
        "reason": "Cross-owner reads",
        "since": NOW,
        "expires_at": NOW + timedelta(hours=4),
    }
    return Containment(**{**values, **changes})


def rendered(
    format_: Format, controls: Sequence[Control], *, known: Iterable[str] = (), **changes: Any
) -> Patch:
    """Return the patch of controls, each of a containment of its own."""
    containments = [
        containment(each, **{"id": f"INC-7-R1.{number}", **changes})
        for number, each in enumerate(controls, start=1)
    ]
    return patch(format_, controls, containments=containments, known=known)
