"""Containments at API gateways: shadow, throttle, block, allow only, close, lift, hand off."""

from __future__ import annotations

from typing import Any

from actions.gateway.adapters.envoy import EnvoyFleet, EnvoyGateway
from actions.gateway.hand_off import HandOff
from actions.gateway.hold import AllowOnly, Block, BlockPrincipal, Close, Shadow, Throttle
from actions.gateway.lift import Lift
from actions.gateway.shadow_hits import ShadowHits
from bot.action import Action

ACTIONS: tuple[Action[Any], ...] = (
    Shadow(),
    ShadowHits(),
    Throttle(),
    Block(),
    BlockPrincipal(),
    AllowOnly(),
    Close(),
    Lift(),
    HandOff(),
)

__all__ = [
    "ACTIONS",
    "AllowOnly",
    "Block",
    "BlockPrincipal",
    "Close",
    "EnvoyFleet",
    "EnvoyGateway",
    "HandOff",
    "Lift",
    "Shadow",
    "ShadowHits",
    "Throttle",
]
