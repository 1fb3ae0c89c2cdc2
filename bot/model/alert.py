"""An alert, as every source's webhook is translated to it."""

from __future__ import annotations

from typing import Literal

from bot.model.base import Frozen, Utc


class Alert(Frozen):
    """
    One alert from a monitoring system. Its texts come from outside: they are data, and are
    never parsed as a template, SQL or markup.

    ``fingerprint`` names the alert's series in its source: equal labels, equal fingerprint.
    ``starts_at`` is when the condition began, by the source's clock.
    """

    source: str
    fingerprint: str
    status: Literal["firing", "resolved"] = "firing"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    starts_at: Utc
