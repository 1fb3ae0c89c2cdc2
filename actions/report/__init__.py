"""Writing up an incident."""

from __future__ import annotations

from typing import Any

from actions.report.draft import Draft
from bot.action import Action

ACTIONS: tuple[Action[Any], ...] = (Draft(),)

__all__ = ["ACTIONS", "Draft"]
