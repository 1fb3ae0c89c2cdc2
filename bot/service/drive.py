"""The only loop: one command at a time, each a durable step, until the run is over."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

from bot.errors import StoreUnavailable
from bot.model.commands import Finish, Wait
from bot.ports import Clock
from bot.service.perform import Performer
from bot.service.record import Position, Recorder

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 3_600.0
"""How long one wait lasts when nothing is due; then the loop looks again."""

STORE_RETRY_S = 1.0
"""How often a journal that cannot be written is tried again."""


class Durable(Protocol):
    """What the driver needs of the durable executor. Only ``durable/`` knows which one it is."""

    def step(self, name: str, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Call once, remember the result; after a crash, at least once again if it had not
        ended."""

    def wait(self, timeout_s: float) -> None:
        """Sleep until the run is woken, or ``timeout_s`` passed; at once if woken before."""


class Driver:
    """Drives runs. One instance serves all of them."""

    def __init__(
        self,
        recorder: Recorder,
        performer: Performer,
        clock: Clock,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._recorder, self._performer, self._clock = recorder, performer, clock
        self._sleep = sleep
        self.store_trouble = ""
        """Why the journal cannot be written right now; empty when it can."""

    def drive(self, run_id: str, durable: Durable) -> None:
        """Bring a run to its end. Called again after a restart, it goes on where it was."""
        at = durable.step(
            "where",
            lambda: self._summary(self._patiently(lambda: self._recorder.position(run_id))),
        )
        while at["next"] not in (None, Finish.model_fields["kind"].default):
            position = at["events"]
            if at["next"] == "wait":
                at = self._wait(run_id, position, at["until"], durable)
            else:
                at = durable.step(
                    at["next"],
                    lambda position=position: self._summary(  # type: ignore[misc]
                        self._patiently(lambda: self._performer.perform(run_id, position))
                    ),
                )

    def _wait(
        self, run_id: str, position: int, until: str | None, durable: Durable
    ) -> dict[str, Any]:
        """Look into the mailbox; if that changes nothing, sleep until it may have changed."""
        at = durable.step(
            "look",
            lambda: self._summary(
                self._patiently(lambda: self._recorder.take_message(run_id, position))
            ),
        )
        if at["events"] == position:
            timeout_s = LONGEST_WAIT_S
            if until is not None:
                due_s = (datetime.fromisoformat(until) - self._clock.now()).total_seconds()
                timeout_s = min(max(due_s, 0.0), LONGEST_WAIT_S)
            durable.wait(timeout_s)
        return at

    def _patiently(self, call: Callable[[], Position]) -> Position:
        """Wait while the journal cannot be written: nothing is done that it would not hold."""
        while True:
            try:
                result = call()
            except StoreUnavailable as error:
                if not self.store_trouble:
                    log.warning("%s", error)
                self.store_trouble = str(error)
                self._sleep(STORE_RETRY_S)
            else:
                self.store_trouble = ""
                return result

    @staticmethod
    def _summary(position: Position) -> dict[str, Any]:
        """What the executor keeps of a position: small, and nothing that the journal has not."""
        last = position.commands[-1] if position.commands else None
        until = last.until if isinstance(last, Wait) else None
        return {
            "events": position.events,
            "next": last.kind if last else None,
            "until": until.isoformat() if until else None,
        }
