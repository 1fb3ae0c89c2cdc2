"""The only loop: one command at a time until the run waits, then again when it is woken.

Going on (``Driver.go``) is a durable step and waiting is durable; where the run stands is in the
journal alone, so the executor needs to remember nothing but that the run is to be driven.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from bot.errors import RunbookInvalid, StoreUnavailable
from bot.model.commands import Finish, Wait
from bot.ports import Clock
from bot.service.perform import Performer, next_of
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
        at = durable.step("go", lambda: self.go(run_id))
        while at["waits"]:
            durable.wait(self._wait_s(at["until"]))
            at = durable.step("go", lambda: self.go(run_id))

    def go(self, run_id: str) -> dict[str, Any]:
        """
        Do one command after the other until the run waits for something or is over.

        The journal says where the run stands, so this may be called again after a crash at any
        line: every command is looked up there, done, and its event recorded, before the next.

        Returns:
            ``waits``: whether the run goes on later; ``until``: the moment it waits for, as ISO
            8601 text, or None.
        """
        position = self._patiently(lambda: self._recorder.position(run_id))
        while position.commands and not isinstance(position.commands[-1], Finish):
            at = position.events
            # A word that has come is heard before the next command is begun.
            command = next_of(position.commands)
            waits = isinstance(command, Wait) or self._recorder.has_message(run_id)
            call = self._recorder.take_message if waits else self._performer.perform
            try:
                position = self._patiently(partial(call, run_id, at))
            except RunbookInvalid as error:
                reason = (
                    f"This version of Firedoor cannot read the runbook that the run began with, so "
                    f"it was ended; containments stay in force. Start a new run. {error}"
                )
                log.error("%s: %s", run_id, reason)  # noqa: TRY400  # the reason is the whole story
                position = self._patiently(partial(self._recorder.give_up, run_id, reason))
            if waits and position.events == at:
                until = command.until if isinstance(command, Wait) else None
                return {"waits": True, "until": until.isoformat() if until else None}
        return {"waits": False, "until": None}

    def _wait_s(self, until: str | None) -> float:
        if until is None:
            return LONGEST_WAIT_S
        due_s = (datetime.fromisoformat(until) - self._clock.now()).total_seconds()
        return min(max(due_s, 0.0), LONGEST_WAIT_S)

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
