"""The only loop: one command at a time, each a durable step, until the run is over."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from bot.errors import StoreUnavailable
from bot.model import events
from bot.model.commands import Finish, Wait
from bot.model.events import EVENT
from bot.ports import Clock
from bot.service.perform import Performer
from bot.service.record import Position, Recorder

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 3_600.0
"""How long one wait for a message lasts when nothing is due; then the loop waits again."""

STORE_RETRY_S = 1.0
"""How often a journal that cannot be written is tried again."""


class Durable(Protocol):
    """What the driver needs of the durable executor. Only ``durable/`` knows which one it is."""

    def step(self, name: str, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Call once, remember the result; after a crash, at least once again if it had not
        ended."""

    def receive(self, timeout_s: float) -> dict[str, Any] | None:
        """Take the next message of the run's mailbox, or None after ``timeout_s``."""


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
        at = durable.step("where", lambda: self._summary(self._recorder.position(run_id)))
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
        timeout_s = LONGEST_WAIT_S
        if until is not None:
            due = Wait.model_validate({"until": until}).until
            assert due is not None  # noqa: S101  # just given
            timeout_s = min(max((due - self._clock.now()).total_seconds(), 0.0), LONGEST_WAIT_S)
        message = durable.receive(timeout_s)

        def record() -> dict[str, Any]:
            event = (
                events.TimerFired(at=self._clock.now())
                if message is None
                else EVENT.validate_python(message)
            )
            return self._summary(
                self._patiently(lambda: self._recorder.record(run_id, position, event))
            )

        return durable.step("record", record)

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
