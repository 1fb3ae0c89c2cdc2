"""Controls at a gateway, and the containments that hold them there."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from bot.model.base import Frozen, Utc


class ControlKind(StrEnum):
    """The ladder, least disruptive first."""

    THROTTLE = "throttle"
    BLOCK_PRINCIPAL = "block_principal"
    CLOSE = "close"


class Control(Frozen):
    """
    What a gateway does with requests to one endpoint.

    ``rate_per_s`` goes with THROTTLE: requests a second let through, over all callers, per
    gateway node. ``principal`` goes with BLOCK_PRINCIPAL: the ``sub`` of a verified JWT.
    """

    kind: ControlKind
    method: str
    path: str
    rate_per_s: float | None = Field(default=None, gt=0)
    principal: str | None = None

    @property
    def endpoint(self) -> str:
        return f"{self.method} {self.path}"


class Containment(Frozen):
    """
    A control in force at a gateway, with an owner, a reason and an expiry.

    ``id`` is made from the run and the step that asked for it, so asking twice holds once.
    It is in force from ``since`` until the earlier of ``lifted_at`` and ``expires_at``.
    """

    id: str
    incident_id: str
    run_id: str
    step_id: str
    gateway: str
    control: Control
    owner: str
    reason: str
    since: Utc
    expires_at: Utc
    lifted_at: Utc | None = None
    lifted_by: str | None = None
