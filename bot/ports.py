"""What the service needs from the outside, as protocols. The adapters are wired in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from bot.model.ask import Ask, Parcel, StoredParcel
from bot.model.base import Frozen
from bot.model.containment import Containment
from bot.model.events import Event
from bot.model.incident import Incident, Origin, Run, Severity
from bot.model.journal import Record
from bot.model.message import Message, MessageRef
from bot.model.outcome import Evidence


class Clock(Protocol):
    """The only source of the time."""

    def now(self) -> datetime:
        """The time, in UTC."""


class StoredRun(Frozen):
    """
    A run with its state as JSON (the engine's), the number of events it has taken, and the
    commands that are outstanding since the last one.
    """

    run: Run
    state: dict[str, Any]
    events: int
    commands: tuple[dict[str, Any], ...]


class Transaction(Protocol):
    """Reads and writes that are committed together or not at all."""

    def append(
        self,
        *,
        at: datetime,
        kind: str,
        body: dict[str, Any],
        actor: str = "firedoor",
        incident_id: str | None = None,
        run_id: str | None = None,
        step_id: str | None = None,
    ) -> Record:
        """Add a record to the journal, chained to the last."""

    def records(
        self,
        incident_id: str | None = None,
        run_id: str | None = None,
        step_id: str | None = None,
        kind: str | None = None,
    ) -> Sequence[Record]: ...

    def add_incident(
        self, *, key: str, title: str, severity: Severity, at: datetime
    ) -> Incident: ...
    def incident(self, incident_id: str) -> Incident:
        """Raises NotFound."""

    def open_incident(self, key: str) -> Incident | None: ...
    def incidents(self) -> Sequence[Incident]:
        """Newest first."""

    def save_incident(self, incident: Incident) -> None: ...

    def seen_alert(self, *, source: str, fingerprint: str, starts_at: datetime) -> str | None:
        """Return the incident that this very alert already belongs to."""

    def remember_alert(
        self, *, source: str, fingerprint: str, starts_at: datetime, incident_id: str
    ) -> None: ...

    def add_run(
        self,
        *,
        incident_id: str,
        runbook_id: str,
        runbook_digest: str,
        runbook_text: str,
        origin: Origin,
        at: datetime,
        called_texts: Mapping[str, str] | None = None,
    ) -> Run: ...
    def run(self, run_id: str) -> StoredRun:
        """Raises NotFound."""

    def runs(self, incident_id: str | None = None, unfinished: bool = False) -> Sequence[Run]: ...
    def save_run(
        self,
        run: Run,
        *,
        state: dict[str, Any],
        events: int,
        commands: Sequence[dict[str, Any]],
    ) -> None: ...

    def put_message(self, run_id: str, event: Event, key: str) -> bool:
        """Put an event into a run's mailbox; False if one with this key was there before."""

    def next_message(self, run_id: str) -> tuple[int, Event] | None:
        """Return the oldest message that was not taken, with its number."""

    def take_message(self, number: int) -> None: ...
    def waiting_mailboxes(self) -> Sequence[str]:
        """Return the runs that have messages which were not taken."""

    def add_containment(self, containment: Containment) -> None: ...
    def containment(self, containment_id: str) -> Containment | None: ...
    def containments(
        self,
        *,
        incident_id: str | None = None,
        gateway: str | None = None,
        in_force: bool = False,
    ) -> Sequence[Containment]:
        """Oldest first. ``in_force``: not lifted (an expired one is lifted by the keeper)."""

    def save_containment(self, containment: Containment) -> None: ...
    def remove_containment(self, containment_id: str) -> None:
        """Only for one that its gateway refused: it was never in force."""

    def add_ask(self, ask: Ask) -> None: ...
    def ask(self, token: str) -> Ask:
        """Raises NotFound."""

    def open_asks(self, run_id: str) -> Sequence[Ask]:
        """The questions of a run that are not closed, oldest first."""

    def asks(self, run_id: str) -> Sequence[Ask]:
        """All questions of a run, oldest first."""

    def save_ask(self, ask: Ask) -> None: ...

    def put_parcel(self, parcel: Parcel, at: datetime, *, replace: bool = False) -> bool:
        """Put it in the outbox; False if its key is already there.

        ``replace`` is for updates, where only the newest matters: an existing one takes this
        content and is sent (again).
        """

    def due_parcels(self, now: datetime, limit: int) -> Sequence[StoredParcel]:
        """Pending and claimed ones whose time has come, oldest first."""

    def parcel(self, key: str) -> StoredParcel | None: ...
    def parcels(self, incident_id: str) -> Sequence[StoredParcel]: ...
    def save_parcel(self, stored: StoredParcel) -> None: ...

    def touch(self, at: datetime) -> None:
        """Write something small: only a write shows that writing works."""

    def add_evidence(self, incident_id: str, evidence: Evidence) -> None: ...
    def evidence(self, incident_id: str) -> Sequence[Evidence]: ...


class Store(Protocol):
    """The database."""

    def begin(self) -> AbstractContextManager[Transaction]:
        """Open a transaction that commits at the end of the block, or rolls back on an error.

        Raises:
            StoreUnavailable: It cannot be read or written (full disk, lost file, locked).
        """

    def read(self) -> AbstractContextManager[Transaction]:
        """Open a transaction for reading only; it does not wait for writers."""


class Chat(Protocol):
    """A chat system. Every call may raise ProviderUnreachable or ProviderRefused."""

    def open_channel(self, name: str, topic: str, members: Sequence[str] = ()) -> str:
        """Make a channel, or adopt the one of this name that we made before; return its id.

        ``members`` are the chat's user ids to invite; one that cannot be invited is left out.
        """

    def post(self, channel: str, message: Message, key: str) -> MessageRef:
        """Send a message that carries ``key`` in its metadata."""

    def find(self, channel: str, key: str) -> MessageRef | None:
        """Return the message that carries ``key``, if it was sent."""

    def update(self, ref: MessageRef, message: Message) -> None: ...

    def check(self) -> str:
        """Say what the connection is, for ``firedoor doctor``."""


class Mail(Protocol):
    """A mail server. Raises ProviderUnreachable or ProviderRefused."""

    def send(self, to: str, message: Message, key: str) -> None:
        """Send one mail; its Message-ID is made from ``key``, so a repeat can be recognised."""

    def check(self) -> str: ...


class Runner(Protocol):
    """Drives runs durably."""

    def start(self, run_id: str) -> None:
        """Begin to drive a run. Safe to repeat."""

    def wake(self, run_id: str) -> None:
        """Make a waiting run look into its mailbox now. A wake that is lost is made good later."""


class EvidenceFiles(Protocol):
    """Bytes, by their SHA-256."""

    def put(self, content: bytes) -> str:
        """Keep bytes durably and return their SHA-256."""

    def get(self, sha256: str) -> bytes:
        """Raises NotFound, or Failed if the bytes no longer match."""

    def path(self, sha256: str) -> str: ...


class Redactor(Protocol):
    """Takes known secrets out of texts."""

    def text(self, value: str) -> str: ...

    def json(self, value: Any) -> Any:
        """The same for every string in a JSON value."""
