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


class Claimed(Frozen):
    """A run that a worker has just taken to drive, and whether its mailbox holds something."""

    stored: StoredRun
    fence: int
    has_message: bool


class Due(Frozen):
    """A run with work to do. ``is_mine``: this worker drives it, and has a message to take."""

    run_id: str
    is_mine: bool


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

    def newest_message(self, run_id: str) -> tuple[int, Event] | None:
        """Return the newest message that was not taken, with its number."""

    def take_message(self, number: int) -> None: ...

    # Leases: one worker drives a run at a time.

    def claim(self, run_id: str, *, worker: str, engine: int, now: datetime) -> Claimed | None:
        """Take a due run that nobody drives; None if there is nothing to do or it is taken.

        ``engine`` is the version of the worker's engine: it drives runs of this one and older.
        """

    def fence_of(self, run_id: str) -> int:
        """Return the number of the claim under which a run is driven. Raises NotFound."""

    def take_away(self, run_id: str, *, now: datetime) -> None:
        """Void every claim of a run, since somebody else writes it now; it is due at once."""

    def release(
        self, run_id: str, *, fence: int, due_at: datetime | None, force: bool = False
    ) -> bool:
        """Let any worker drive the run from ``due_at`` on, or once a message comes.

        False, and nothing is changed, if a message is there already (unless by ``force``).

        Raises:
            LeaseLost: Another worker has it.
        """

    def make_due(self, run_id: str) -> None:
        """Have a run looked at by whoever may drive it."""

    def due_runs(
        self, *, worker: str, engine: int, now: datetime, limit: int
    ) -> tuple[Sequence[Due], datetime | None]:
        """Return what this worker may do now, and when the next of the others becomes due."""

    def driven_by(self, worker: str) -> Sequence[str]:
        """Return the runs that a worker has claimed."""

    def free(self, run_id: str, worker: str) -> None:
        """Make a claimed run anybody's again, if it is this worker's still; it is due at once."""

    def other_versions(self, worker: str, lease_s: float) -> bool:
        """Tell whether a worker of another version lives beside this one."""

    def add_worker(self, worker: str, *, host: str, pid: int, version: str) -> None: ...
    def workers(self) -> Sequence[str]: ...
    def living_workers(self, lease_s: float) -> Sequence[str]: ...
    def dead_workers(self, lease_s: float) -> Sequence[str]:
        """Return the workers that were not heard of for ``lease_s``."""

    def bury(self, worker: str, *, lease_s: float | None) -> int | None:
        """Forget a worker and let others drive its runs; return how many there were.

        None, and nothing is changed, if it is gone already or, with a ``lease_s``, lives.
        """

    def duty_holder(self, name: str) -> str | None: ...
    def take_duty(self, name: str, worker: str) -> bool:
        """Tell whether a duty is this worker's now: it was, or nobody had it."""

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

    def put_parcel(
        self, parcel: Parcel, at: datetime, *, replace: bool = False, sent: bool = False
    ) -> None:
        """Put it in the outbox, unless its key is already there. ``sent``: there is nothing to
        send yet, until ``send_again``.

        ``replace`` is for updates, where only the newest matters: an existing one takes this
        content and is sent (again).
        """

    def send_again(self, key: str, at: datetime) -> None:
        """Have a parcel sent once more, as it will be then."""

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


class Signals(Protocol):
    """News of runs that became due, also from other processes. For one thread."""

    def wait(self, timeout_s: float) -> Sequence[str] | None:
        """Return the runs that something came for; empty: of some run; None: nothing came.

        Raises:
            StoreUnavailable: News may be missed until it is called again.
        """

    def close(self) -> None: ...


class SharedStore(Store, Protocol):
    """A store as workers need it."""

    @property
    def is_shared(self) -> bool:
        """Whether several workers may drive the runs of this store at a time."""

    def call_me(self, worker: str) -> None:
        """Make this process's connections known as this worker's, from now on."""

    def beat(self, worker: str) -> bool:
        """Note that a worker lives; False if it was taken for dead. Waits for no writer."""

    def silence(self, worker: str) -> None:
        """End a dead worker's connections, so that it holds no lock and commits nothing."""

    def signals(self) -> Signals: ...
    def only_one(self, name: str, timeout_s: float) -> AbstractContextManager[None]:
        """Hold a lock over all processes of this store.

        Raises:
            ProviderUnreachable: Another one holds it for longer than ``timeout_s``.
        """


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
