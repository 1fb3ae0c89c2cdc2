"""Containments at API gateways: throttle, close, block a principal, lift."""

from __future__ import annotations

from typing import Any

from actions.gateway.envoy import EnvoyGateway
from actions.gateway.hold import BlockPrincipal, Close, Throttle
from actions.gateway.lift import Lift
from bot.action import Action

ACTIONS: tuple[Action[Any], ...] = (Throttle(), Close(), BlockPrincipal(), Lift())

__all__ = ["ACTIONS", "BlockPrincipal", "Close", "EnvoyGateway", "Lift", "Throttle"]
