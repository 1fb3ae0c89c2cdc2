"""Under which id a worker is known, and whether it may still act under it."""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from collections.abc import Callable

from bot.errors import LeaseLost

BEAT_S = 2.0
"""How often a worker says that it lives."""

LEASE_S = 8.0
"""For how long nobody doubts it then. After that any other worker takes over its runs."""


def now_s() -> float:
    """A clock that nobody sets and that goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def fresh_id(name: str | None = None) -> str:
    """Return an id that no other worker has or had. PostgreSQL shows 63 signs of it."""
    host = re.sub(r"[^A-Za-z0-9-]+", "-", name or socket.gethostname().partition(".")[0])[:28]
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


class Identity:
    """One life of a worker. It ends for good when the worker was not heard of for a lease."""

    def __init__(
        self,
        worker: str,
        *,
        beats: bool,
        lease_s: float = LEASE_S,
        clock: Callable[[], float] = now_s,
    ) -> None:
        """
        Args:
            beats: False where nobody else could take over, so that it cannot be lost by silence.
        """
        self.worker = worker
        self._beats, self._lease_s, self._clock = beats, lease_s, clock
        self._heard_at = clock()
        self._is_lost = False
        self.duties: set[str] = set()

    def heard(self, at: float) -> None:
        """The store has taken a beat that was begun at this moment of the clock."""
        self._heard_at = max(self._heard_at, at)

    def lose(self) -> None:
        self._is_lost = True

    @property
    def is_lost(self) -> bool:
        if self._beats and self._clock() - self._heard_at >= self._lease_s:
            self._is_lost = True  # a later beat does not mend it
        return self._is_lost

    def check(self) -> None:
        """Raise LeaseLost if another worker may be acting in this one's place."""
        if self.is_lost:
            raise LeaseLost(
                f"The worker {self.worker} was not heard of for {self._lease_s:g} s, so others may "
                "do its work; it does nothing more under this name."
            )
