"""Kong's plugins that hold callers back, and their settings. Pure.

The settings are those of Kong 3's schemas, in kong/plugins/*/schema.lua.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bot.model.answers import CLOSED, REFUSED, THROTTLED

CALLERS = ("consumer", "consumer_group")
"""By these a plugin is for some callers only."""

NEVER = "x-firedoor-never"
"""A header that would end an allowed caller's own requests, and nobody else's."""

# A 429 that a plugin made on this route is Firedoor's, as no other limit may be on it.
MARK_THROTTLED = (
    'if kong.response.get_status() == 429 and kong.response.get_source() == "exit" then '
    + " ".join(
        f'kong.response.set_header("{name}", "{value}")'
        for name, value in THROTTLED.headers.items()
        if name != "content-type"
    )
    + " end"
)


def limit_config(rate_per_s: float) -> dict[str, Any]:
    """
    Return the settings of ``rate-limiting`` for requests a second over all callers of a node.

    It counts in fixed windows of a second, a minute and an hour, all of which hold. A rate that is
    no whole number a second is rounded up there, and held by the longer windows.
    """
    windows = {"second": rate_per_s, "minute": 60 * rate_per_s, "hour": 3600 * rate_per_s}
    limits: dict[str, int] = {}
    for window, count in windows.items():
        limits[window] = max(1, math.ceil(round(count, 6)))
        if limits[window] == round(count, 6):
            break
    return {
        **limits,
        "policy": "local",
        "limit_by": "service",
        "error_code": THROTTLED.status,
        "error_message": THROTTLED.detail,
    }


def plugin_of(name: str, config: Mapping[str, Any], service: Any) -> dict[str, Any]:
    plugin = {"name": name, "config": dict(config), "enabled": True}
    return {**plugin, "service": {"id": service["id"]}} if service else plugin


def ending(status: int, body: str) -> dict[str, Any]:
    return {"status_code": status, "content_type": CLOSED.headers["content-type"], "body": body}


def refusing(service: Any) -> dict[str, Any]:
    return plugin_of("request-termination", ending(REFUSED.status, REFUSED.body), service)


def reference(plugin: Mapping[str, Any], name: str) -> str | None:
    return (plugin.get(name) or {}).get("id")


def scope(plugin: Mapping[str, Any]) -> tuple[str | None, ...]:
    """Return what Kong lets be there once, on one route."""
    return (plugin["name"], *(reference(plugin, key) for key in ("service", *CALLERS)))
