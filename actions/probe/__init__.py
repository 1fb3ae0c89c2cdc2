"""Looking from outside, as test customers do."""

from __future__ import annotations

from typing import Any

from actions.probe.authorization import Authorization
from actions.probe.prober import Answer, Prober, VantagePoint, Via, Who
from bot.action import Action

ACTIONS: tuple[Action[Any], ...] = (Authorization(),)

__all__ = ["ACTIONS", "Answer", "Authorization", "Prober", "VantagePoint", "Via", "Who"]
