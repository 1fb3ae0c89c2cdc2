"""Taking an event into account: engine, journal, cards and outbox, in one transaction.

Nothing is done before the transaction that says so is committed. A run's position is the number
of events it has taken; recording at a position that has passed changes nothing, so the driver may
repeat any of its steps after a crash.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bot.action import Action
from bot.engine import RunState, StepStatus, advance
from bot.engine.places import find
from bot.language.load import load
from bot.language.runbook import Runbook
from bot.model import events
from bot.model.ask import Parcel, live_key
from bot.model.commands import (
    COMMAND,
    AskApproval,
    AskDecision,
    AskPerson,
    Command,
    Finish,
    Remind,
)
from bot.model.events import Event
from bot.model.incident import Incident, IncidentStatus, Run, RunStatus
from bot.model.message import Message
from bot.ports import Clock, Redactor, Store, StoredRun, Transaction
from bot.service import asks, cards
from bot.service.lease import Lease

_STATUS_ORDER = list(IncidentStatus)

Question = AskApproval | AskPerson | AskDecision | Remind
"""Commands that are done by putting a message before people."""


@dataclass(frozen=True)
class Position:
    """Where a run stands: how many events it has taken, and what is to be done next."""

    events: int
    commands: tuple[Command, ...]


class Recorder:
    """Writes a run's events. Used by the driver and by the doors that start runs."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        redactor: Redactor,
        actions: Mapping[str, Action[Any]],
        announce_in: str | None = None,
    ) -> None:
        """
        Args:
            announce_in: The channel in which a broken glass is announced, besides the incident's.
        """
        self._store, self._clock, self._redactor = store, clock, redactor
        self._actions, self._announce_in = actions, announce_in
        self._runbooks: dict[str, Runbook] = {}
        self._lease: Lease | None = None
        self._known: tuple[StoredRun, RunState | None] | None = None

    # --- of one drive ---------------------------------------------------------------------------

    def fenced(self, lease: Lease) -> Recorder:
        """Return a recorder for one drive: it writes only while the lease holds.

        While it does, nobody else writes the run, so it need not be read again each time.
        """
        mine = copy.copy(self)
        mine._store, mine._lease = lease.store, lease
        return mine

    def know(self, stored: StoredRun) -> None:
        self._known = (stored, None)

    def release(self, run_id: str, due_at: datetime | None) -> bool:
        """Give the lease back; False, if a message has come that is to be taken first."""
        assert self._lease is not None  # noqa: S101  # a drive's recorder has one
        with self._store.begin() as tx:
            return tx.release(run_id, fence=self._lease.fence, due_at=due_at)

    def next_message(self, run_id: str) -> Event | None:
        with self._store.read() as tx:
            message = tx.next_message(run_id)
        return None if message is None else message[1]

    def put_away(self, run_id: str) -> None:
        """Take the next message out of the mailbox, unheard."""
        with self._store.begin() as tx:
            message = tx.next_message(run_id)
            if message is not None:
                tx.take_message(message[0])

    @contextmanager
    def _begin(self) -> Iterator[Transaction]:
        try:
            with self._store.begin() as tx:
                yield tx
        except BaseException:
            self._known = None  # whether it was committed is not known
            raise

    def _stands(self, tx: Transaction, run_id: str) -> tuple[StoredRun, RunState | None]:
        if self._lease is None:
            return tx.run(run_id), None
        if self._known is None:
            self._known = (tx.run(run_id), None)
        return self._known

    # --- events ---------------------------------------------------------------------------------

    def runbook_of(self, run: Run) -> Runbook:
        """Read the run's pinned text; an edit of the file since changes nothing here."""
        if run.runbook_digest not in self._runbooks:
            file = f"{run.runbook_id} (pinned by {run.id})"
            self._runbooks[run.runbook_digest] = load(
                run.runbook_text, file, self._actions, run.called_texts
            )
        return self._runbooks[run.runbook_digest]

    def redacted(self, text: str) -> str:
        """Take every known secret out of what someone wrote."""
        return self._redactor.text(text)

    def redacted_event(self, event: Event) -> Event:
        """Take every known secret out of an event; it is to be so before it is kept anywhere."""
        return type(event).model_validate(self._redactor.json(event.model_dump(mode="json")))

    def position(self, run_id: str) -> Position:
        with self._store.read() as tx:
            return position_of(tx.run(run_id))

    def state(self, run_id: str) -> RunState:
        with self._store.read() as tx:
            return RunState.model_validate(tx.run(run_id).state)

    def start(
        self, tx: Transaction, incident: Incident, run: Run, started: events.RunStarted
    ) -> None:
        """Record a new run's first event, in the transaction that made the run."""
        stored = StoredRun(run=run, state={}, events=0, commands=())
        _, state = self._take(tx, stored, started, None)
        card = cards.run_card(incident, run, self.runbook_of(run), state)
        asks.queue_card(tx, run, card, started.at)

    def give_up(self, run_id: str, reason: str) -> Position:
        """End a run that cannot be driven any more, without asking the engine."""
        with self._begin() as tx:
            stored = tx.run(run_id)
            self._known = None
            now = self._clock.now()
            finish = Finish(status=RunStatus.FAILED, reason=reason)
            tx.append(
                at=now,
                kind="run_given_up",
                body={"reason": reason},
                incident_id=stored.run.incident_id,
                run_id=run_id,
            )
            ended = stored.run.model_copy(update={"status": RunStatus.FAILED, "ended_at": now})
            state = {**stored.state, "status": RunStatus.FAILED.value, "reason": reason}
            commands = [finish.model_dump(mode="json")]
            tx.save_run(ended, state=state, events=stored.events + 1, commands=commands)
            for ask in tx.open_asks(run_id):
                if ask.kind == "review":
                    continue  # it outlives the run
                tx.save_ask(ask.model_copy(update={"closed": reason}))
                asks.close_card(tx, ask, reason, now)
            parcel = Parcel(
                key=f"{run_id}:given-up",
                incident_id=stored.run.incident_id,
                run_id=run_id,
                kind="post",
                message=Message(title=f"{run_id} was given up", paragraphs=(reason,)),
            )
            tx.put_parcel(parcel, now)
            return Position(stored.events + 1, (finish,))

    def record(self, run_id: str, position: int, event: Event) -> Position:
        """Take an event into account, unless the run is already past this position."""
        with self._begin() as tx:
            stored, state = self._stands(tx, run_id)
            if stored.events != position:
                return position_of(stored)
            return self.take(tx, stored, event, state or RunState.model_validate(stored.state))

    def take_message(self, run_id: str, position: int) -> Position:
        """Take the next message of the mailbox into account; without one, note that time passed.

        The message leaves the mailbox in the transaction that records it: it counts once.
        """
        with self._begin() as tx:
            stored, state = self._stands(tx, run_id)
            if stored.events != position:
                return position_of(stored)
            state = state or RunState.model_validate(stored.state)
            message = tx.next_message(run_id)
            if message is None:
                return self.take(tx, stored, events.TimerFired(at=self._clock.now()), state)
            number, event = message
            tx.take_message(number)
            return self.take(tx, stored, event, state)

    def take(self, tx: Transaction, stored: StoredRun, event: Event, state: RunState) -> Position:
        """Take an event into account, in a transaction that holds the run as it is stored.

        Whoever drives the run under a lease, and is not us, finds it gone.
        """
        position, _ = self._take(tx, stored, event, state)
        if position.events != stored.events:
            tx.send_again(f"{live_key(stored.run.id)}:update", event.at)
        return position

    def _take(
        self, tx: Transaction, stored: StoredRun, event: Event, state: RunState | None
    ) -> tuple[Position, RunState]:
        if self._lease is None and stored.events:
            tx.take_away(stored.run.id, now=self._clock.now())
        runbook = self.runbook_of(stored.run)
        event = self.redacted_event(event)
        after, commands = advance(runbook, state, event)
        if isinstance(event, events.TimerFired) and after == state:
            return position_of(stored), after
        run = stored.run.model_copy(
            update={
                "status": after.status,
                "ended_at": event.at if after.status.is_final else None,
            }
        )
        dumped = [command.model_dump(mode="json") for command in commands]
        tx.append(
            at=event.at,
            kind=event.kind,
            body={"event": event.model_dump(mode="json"), "commands": dumped},
            actor=_actor(event),
            incident_id=run.incident_id,
            run_id=run.id,
            step_id=getattr(event, "step", None),
        )
        dumped_state = after.model_dump(mode="json", exclude_defaults=True)
        tx.save_run(run, state=dumped_state, events=stored.events + 1, commands=dumped)
        if self._lease is not None:
            now = StoredRun.model_construct(
                run=run, state=dumped_state, events=stored.events + 1, commands=tuple(dumped)
            )
            self._known = (now, after)
        self._advance_incident(tx, run, runbook, after, event)
        if state is not None and any(step.is_waiting for step in state.steps.values()):
            asks.close_asks(tx, run, after, event)  # nothing else is asked about
        asks.queue_notices(tx, run, event)
        if isinstance(event, events.Overridden) and after.step(event.step).overridden:
            asks.announce_override(tx, tx.incident(run.incident_id), run, event, self._announce_in)
        return Position(stored.events + 1, commands), after

    # --- what goes with an event ---------------------------------------------------------------

    def _advance_incident(
        self,
        tx: Transaction,
        run: Run,
        runbook: Runbook,
        state: RunState,
        event: Event,
    ) -> None:
        """Move the incident's status forward when a step that reaches one is done."""
        step_id = getattr(event, "step", None)
        if step_id is None or state.step(step_id).status is not StepStatus.DONE:
            return
        place = find(runbook, state, step_id)
        uses = place.step.uses if place else None
        reached = self._actions[uses].reaches if uses else None
        if reached is None:
            return
        incident = tx.incident(run.incident_id)
        if _STATUS_ORDER.index(reached) <= _STATUS_ORDER.index(incident.status):
            return
        tx.append(
            at=event.at,
            kind="status_changed",
            body={"from": incident.status.value, "to": reached.value},
            incident_id=incident.id,
            run_id=state.run_id,
            step_id=step_id,
        )
        tx.save_incident(incident.model_copy(update={"status": reached}))

    def live_card(self, tx: Transaction, run_id: str) -> Message:
        """Return what a run's live message says now."""
        stored = tx.run(run_id)
        state = RunState.model_validate(stored.state)
        incident = tx.incident(stored.run.incident_id)
        return cards.run_card(incident, stored.run, self.runbook_of(stored.run), state)

    def ask(self, run_id: str, position: int, command: Question) -> Position:
        """Put a question before people: the ask, its message and the event, in one transaction."""
        with self._begin() as tx:
            stored, state = self._stands(tx, run_id)
            if stored.events != position:
                return position_of(stored)
            now = self._clock.now()
            incident = tx.incident(stored.run.incident_id)
            state = state or RunState.model_validate(stored.state)
            if isinstance(command, Remind):
                asks.remind(tx, incident, stored.run, command, now)
                reminded = events.Reminded(at=now, step=command.step)
                return self.take(tx, stored, reminded, state)
            asks.put_question(tx, incident, stored.run, command, now)
            return self.take(tx, stored, events.Asked(at=now, step=command.step), state)


def position_of(stored: StoredRun) -> Position:
    """Return where a stored run stands."""
    commands = tuple(COMMAND.validate_python(command) for command in stored.commands)
    return Position(stored.events, commands)


def _actor(event: Event) -> str:
    match event:
        case events.RunStarted():
            return event.origin.actor
        case _:
            return str(getattr(event, "by", "firedoor"))
