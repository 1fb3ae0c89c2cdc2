"""The only loop: everything that is outstanding, side by side, until the run waits.

A drive holds no thread while calls are under way or nothing is due: whoever owns it calls ``go``
whenever something came. Where the run stands is in the journal alone; a drive may be dropped at
any line, and another one, in whatever worker, goes on where the journal ends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from bot.errors import LeftToNewer, RunbookInvalid, StoreUnavailable
from bot.model import events
from bot.model.commands import (
    ApplyStep,
    AskApproval,
    AskDecision,
    AskPerson,
    Finish,
    PlanStep,
    Remind,
    RunStep,
    UndoStep,
    VerifyStep,
    Wait,
)
from bot.model.incident import Run
from bot.ports import Claimed, Clock, Store
from bot.service.lease import Lease
from bot.service.perform import Call, Performer
from bot.service.record import Position, Recorder, position_of

log = logging.getLogger(__name__)

T = TypeVar("T")

STORE_RETRY_S = 1.0
"""How often a journal that cannot be written is tried again."""

CALLS = (PlanStep, RunStep, ApplyStep, VerifyStep, UndoStep)
ASKS = (AskApproval, AskPerson, AskDecision, Remind)


@dataclass(frozen=True)
class Rest:
    """Why a drive has stopped for now. ``left``: the lease is given back, nothing is under way.
    Else it is to be gone on with once it is woken, or after ``wait_s``."""

    left: bool
    wait_s: float | None = None


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
        self.recorder, self.performer, self.clock = recorder, performer, clock
        self._sleep = sleep
        self.may_give_up: Callable[[], bool] = lambda: True
        """Whether no other worker could read what this one cannot."""
        self.store_trouble = ""
        """Why the journal cannot be written right now; empty when it can."""

    def find_unreadable(self, store: Store) -> None:
        """Have every run looked at whose runbook this version cannot read, also those that wait:
        people hear of it now, not once they have answered.

        Raises:
            StoreUnavailable: It cannot be told.
        """
        with store.read() as tx:
            runs = tx.runs(unfinished=True)
        lost = [run.id for run in runs if not self.can_read(run)]
        if lost and self.may_give_up():
            with store.begin() as tx:
                for run_id in lost:
                    tx.make_due(run_id)

    def can_read(self, run: Run) -> bool:
        try:
            self.recorder.runbook_of(run)
        except RunbookInvalid:
            return False
        return True

    def open(self, claimed: Claimed, lease: Lease, wake: Callable[[], None]) -> Drive:
        """
        Make the drive of a run that was just claimed.

        Args:
            wake: Called, from any thread, when there is something to go on with.
        """
        return Drive(self, claimed, lease, wake)

    def patiently(self, lease: Lease, call: Callable[[], T]) -> T:
        """Wait while the journal cannot be written: nothing is done that it would not hold.

        Raises:
            LeaseLost: Meanwhile, or before.
        """
        while True:
            lease.check()
            try:
                result = call()
            except StoreUnavailable as error:
                self.wait_for_store(error)
            else:
                self.store_trouble = ""
                return result

    def wait_for_store(self, error: StoreUnavailable) -> None:
        if not self.store_trouble:
            log.warning("%s", error)
        self.store_trouble = str(error)
        self._sleep(STORE_RETRY_S)


class Drive:
    """One run in one worker's hands. Only one thread may be in ``go`` at a time."""

    def __init__(
        self, driver: Driver, claimed: Claimed, lease: Lease, wake: Callable[[], None]
    ) -> None:
        self._driver, self._lease, self._wake = driver, lease, wake
        self._run_id = lease.run_id
        self._recorder = driver.recorder.fenced(lease)
        self._session = driver.performer.session(claimed.stored.run, lease)
        self._position: Position = position_of(claimed.stored)
        self._recorder.know(claimed.stored)
        self._calls: dict[str, Call] = {}
        # Where the runbook cannot be read, taking what came says so.
        self._has_news = claimed.has_message or not driver.can_read(claimed.stored.run)
        self._looked_at = -1

    def poke(self) -> None:
        """Look into the mailbox at the next ``go``. May be called from any thread."""
        self._has_news = True
        self._wake()

    def go(self) -> Rest:
        """
        Do all that can be done without waiting.

        Raises:
            LeaseLost: The run is not ours any more; the drive is to be dropped as it is.
        """
        while True:
            self._lease.check()
            if self._collect():
                continue
            if self._is_over():
                if self._calls:
                    return self._rest()
                if self._leave(None):
                    return Rest(left=True)
                self._read_last_words()
                continue
            if self._ask():
                continue
            self._begin_calls()
            if self._take_news():
                continue
            if self._calls:
                return self._rest()
            if self._leave(self._due_at()):
                return Rest(left=True)
            self._has_news = True

    # --- what came ------------------------------------------------------------------------------

    def _collect(self) -> bool:
        """Record the calls that have ended or taken too long."""
        ended = [call for call in self._calls.values() if call.is_over()]
        for call in ended:
            try:
                event = call.event()
            except StoreUnavailable as error:
                # It is begun again once the store is back.
                del self._calls[call.step]
                self._driver.wait_for_store(error)
                continue
            self._write(lambda event=event: self._recorder.record(self._run_id, self._at, event))  # type: ignore[misc]
            del self._calls[call.step]
        return bool(ended)

    def _take_news(self) -> bool:
        """Take one message, or the moment that is due; tell whether the run stands elsewhere."""
        is_due = self._is_due()
        if not self._has_news and not is_due:
            return False
        self._has_news = False
        before = self._at
        self._write(lambda: self._recorder.take_message(self._run_id, self._at))
        if self._at == before:
            if is_due:
                self._looked_at = before
            return False
        self._has_news = True
        return True

    def _read_last_words(self) -> None:
        """Of what comes after the end only a wish to undo is heard; the rest is put away."""

        def read() -> Position:
            message = self._recorder.next_message(self._run_id)
            if isinstance(message, events.UndoAsked):
                try:
                    return self._recorder.take_message(self._run_id, self._at)
                except RunbookInvalid as error:
                    log.error("%s cannot be undone: %s", self._run_id, error)  # noqa: TRY400
            self._recorder.put_away(self._run_id)
            return self._position

        self._position = self._driver.patiently(self._lease, read)

    # --- what is to be done ---------------------------------------------------------------------

    @property
    def _at(self) -> int:
        return self._position.events

    def _is_over(self) -> bool:
        commands = self._position.commands
        return not commands or isinstance(commands[-1], Finish)

    def _ask(self) -> bool:
        """Put the first question before people that is not there yet, or remind of one."""
        for command in self._position.commands:
            if isinstance(command, ASKS):
                self._write(partial(self._recorder.ask, self._run_id, self._at, command))
                return True
        return False

    def _begin_calls(self) -> None:
        for command in self._position.commands:
            if isinstance(command, CALLS) and command.step not in self._calls:
                self._calls[command.step] = self._session.begin(command, self._wake)

    def _write(self, call: Callable[[], Position]) -> None:
        try:
            self._position = self._driver.patiently(self._lease, call)
        except RunbookInvalid as error:
            if not self._driver.may_give_up():
                raise LeftToNewer(
                    f"{self._run_id} is left to a worker of another version: this one cannot read "
                    f"its runbook. {error}"
                ) from None
            reason = (
                "This version of Firedoor cannot read the runbook that the run began with, so it "
                f"was ended; containments stay in force. Start a new run. {error}"
            )
            log.error("%s: %s", self._run_id, reason)  # noqa: TRY400  # the reason is the whole story
            self._position = self._driver.patiently(
                self._lease, lambda: self._recorder.give_up(self._run_id, reason)
            )

    # --- waiting --------------------------------------------------------------------------------

    def _until(self) -> datetime | None:
        last = self._position.commands[-1] if self._position.commands else None
        return last.until if isinstance(last, Wait) else None

    def _is_due(self) -> bool:
        until = self._until()
        has_come = until is not None and until <= self._driver.clock.now()
        return has_come and self._looked_at != self._at

    def _due_at(self) -> datetime | None:
        """Return when the run is to be looked at again, if no message comes before."""
        until = self._until()
        if until is not None and self._looked_at == self._at:
            # The moment has passed and changed nothing: not again and again without a pause.
            return max(until, self._driver.clock.now() + timedelta(seconds=1))
        return until

    def _leave(self, due_at: datetime | None) -> bool:
        return self._driver.patiently(
            self._lease, lambda: self._recorder.release(self._run_id, due_at)
        )

    def _rest(self) -> Rest:
        """Rest until a call ends, or has taken too long, or a moment is due."""
        waits = [call.deadline_s - time.monotonic() for call in self._calls.values()]
        until = self._until()
        if until is not None and self._looked_at != self._at:
            waits.append((until - self._driver.clock.now()).total_seconds())
        return Rest(left=False, wait_s=max(min(waits), 0.0) if waits else None)
