"""Faults on demand: what a test or the demo asks Slack to do wrong, and for how many calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from bot.errors import BadInput

Kind = Literal["rate_limited", "status", "error", "hang", "lost_response"]


@dataclass
class Fault:
    """
    One order. The keys are those of ``POST /control/faults``.

    ``method`` is a Web API method, ``response_url``, ``upload`` or ``*`` for all; ``times`` is how
    often it strikes, None for ever. ``lost_response``: the call takes effect, but the connection
    is closed without an answer. ``hang``: the call has no effect and gets no answer for
    ``hang_s``, then the connection is closed.
    """

    kind: Kind
    method: str = "*"
    status: int = 500
    error: str = "internal_error"
    retry_after_s: int = 1
    hang_s: float = 60.0
    times: int | None = 1

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Fault:
        """Build a fault. Raises BadInput if a key or kind is not known."""
        try:
            fault = cls(**body)
        except TypeError as error:
            raise BadInput(f"This is not a fault ({error}); nothing was changed.") from error
        if fault.kind not in get_args(Kind):
            kinds = ", ".join(get_args(Kind))
            raise BadInput(f"No fault is named {fault.kind!r}; nothing was changed. Use {kinds}.")
        return fault


@dataclass
class Faults:
    """The orders in force, and whether Slack is reachable at all."""

    clock: Callable[[], float]
    orders: list[Fault] = field(default_factory=list)
    cleared: asyncio.Event = field(default_factory=asyncio.Event)
    _offline_until_s: float = 0.0

    def take(self, method: str) -> Fault | None:
        """Return the first order for a method and count it, or None."""
        for fault in self.orders:
            if fault.method in ("*", method):
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self.orders.remove(fault)
                return fault
        return None

    def clear(self) -> None:
        """Take back all orders; calls that hang are let go."""
        self.orders.clear()
        self.cleared.set()
        self.cleared = asyncio.Event()

    @property
    def is_offline(self) -> bool:
        return self.clock() < self._offline_until_s

    def go_offline(self, seconds: float | bool) -> None:
        """Be unreachable for so many seconds; True: until told otherwise; False: be back."""
        if isinstance(seconds, bool):
            self._offline_until_s = float("inf") if seconds else 0.0
        else:
            self._offline_until_s = self.clock() + seconds
