"""Every action, listed by hand: what is not here does not exist for a runbook.

A module of its own, so that importing one family does not import all of them.
"""

from __future__ import annotations

from typing import Any

from actions import credentials, gateway, logs, notify, probe, report
from bot.action import Action

ALL: tuple[Action[Any], ...] = (
    *gateway.ACTIONS,
    *logs.ACTIONS,
    *credentials.ACTIONS,
    *notify.ACTIONS,
    *probe.ACTIONS,
    *report.ACTIONS,
)
