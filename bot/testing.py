"""Fakes of the ports, shipped for people who write actions and runbooks.

The contract suites under ``tests/contract`` run on these and on the real things alike, so that a
fake does not drift from what it stands for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bot.action import SILENT, Action, Gateway, PostmortemDesk, Support, Writing
from bot.durable import ENGINE_VERSION
from bot.durable.identity import fresh_id
from bot.errors import BadInput, Conflict, ProviderRefused, ProviderUnreachable
from bot.language.runbook import Runbook
from bot.model.base import digest_of
from bot.model.containment import Control, ControlKind
from bot.model.endpoint import Endpoint
from bot.model.message import Message, MessageRef
from bot.model.outcome import Evidence
from bot.ports import Clock, Redactor, SharedStore
from bot.service.app import Service
from bot.service.containments import ContainmentDesk
from bot.service.context import Connections
from bot.service.custody import Custody
from bot.service.drive import Drive, Driver
from bot.service.guards import GuardRails
from bot.service.incidents import Incidents
from bot.service.lease import Lease
from bot.service.outbox import Outbox
from bot.service.people import Groups, People
from bot.service.perform import Performer
from bot.service.postmortems import Postmortems
from bot.service.record import Recorder
from bot.service.redact import SecretRedactor
from bot.service.reports import Reports
from bot.store import FolderFiles, SqlStore

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class FakeClock:
    """A clock that stands until it is moved."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, **delta: float) -> None:
        """Move on by a ``timedelta``'s arguments, e.g. ``advance(minutes=5)``."""
        self._now += timedelta(**delta)

    def set(self, now: datetime) -> None:
        self._now = now


class FakeGateway:
    """A gateway that holds its controls in memory. ``down`` and ``refuses`` make it fail; before
    as many writes as ``conflicts`` says, another writer is faster; ``edited`` is what another hand
    made of the gateway's own part."""

    def __init__(self, name: str = "edge") -> None:
        self._name = name
        self.controls: tuple[Control, ...] = ()
        self.down = False
        self.refuses = False
        self.conflicts = 0
        self.writes = 0
        self.edited = ""
        self.hits: dict[Control, int] = {}

    @property
    def name(self) -> str:
        return self._name

    def supports(self, control: Control) -> Support:
        del control
        return Support(ok=True)

    def version_of(self, controls: Sequence[Control]) -> str:
        dumped = sorted(digest_of(control.model_dump(mode="json")) for control in set(controls))
        return digest_of(dumped)[:12]

    def converge(self, controls: Sequence[Control], writing: Writing = SILENT) -> str:
        self._reach()
        if self.refuses:
            raise ProviderRefused("The gateway refuses this configuration; the old one serves on.")
        if self.version_of(controls) != self.observe():
            before = self.writes, self.edited
            writing.begin()
            if self.conflicts or (self.writes, self.edited) != before:
                self.conflicts = max(0, self.conflicts - 1)
                raise Conflict("The gateway was changed by another writer; nothing was written.")
            if self.edited:
                writing.displaced(f"The gateway was edited and brought back: {self.edited}")
            self.controls, self.edited = tuple(controls), ""
            self.writes += 1
        return self.observe()

    def observe(self) -> str:
        self._reach()
        version = self.version_of(self.controls)
        return f"{version}, edited" if self.edited else version

    def shadow_hits(self, control: Control) -> int:
        self._reach()
        if control.kind is not ControlKind.SHADOW:
            raise BadInput(f"{control.kind.value} is no shadow, so it counts nothing.")
        return self.hits.get(control, 0)

    def prepare(self) -> None:
        """Needs nothing."""

    def _reach(self) -> None:
        if self.down:
            raise ProviderUnreachable("The gateway gives no answer; the old controls serve on.")


class FakeChat:
    """A chat that keeps what it got. ``fail`` holds errors to raise, one a call; ``lose`` counts
    posts that are kept but whose answer is lost."""

    def __init__(self) -> None:
        self.channels: dict[str, str] = {}
        self.messages: dict[MessageRef, Message] = {}
        self.keys: dict[str, list[MessageRef]] = {}
        self.fail: list[Exception] = []
        self.lose = 0

    def open_channel(self, name: str, topic: str, members: Sequence[str] = ()) -> str:
        del topic, members
        self._maybe_fail()
        return self.channels.setdefault(name, f"C{len(self.channels) + 1}")

    def post(self, channel: str, message: Message, key: str) -> MessageRef:
        self._maybe_fail()
        ref = MessageRef(channel=channel, ts=f"{len(self.messages) + 1}.0")
        self.messages[ref] = message
        self.keys.setdefault(key, []).append(ref)
        if self.lose:
            self.lose -= 1
            raise ProviderUnreachable("The chat's answer was lost; it is tried again.")
        return ref

    def find(self, channel: str, key: str) -> MessageRef | None:
        self._maybe_fail()
        return next((ref for ref in self.keys.get(key, []) if ref.channel == channel), None)

    def update(self, ref: MessageRef, message: Message) -> None:
        self._maybe_fail()
        self.messages[ref] = message

    def check(self) -> str:
        self._maybe_fail()
        return "a fake chat"

    def titled(self, part: str) -> list[Message]:
        """Return the messages, as they are now, whose title holds ``part``."""
        return [message for message in self.messages.values() if part in message.title]

    def _maybe_fail(self) -> None:
        if self.fail:
            raise self.fail.pop(0)


class FakeMail:
    """A mail server that keeps what it got."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Message, str]] = []
        self.fail: list[Exception] = []

    def send(self, to: str, message: Message, key: str) -> None:
        if self.fail:
            raise self.fail.pop(0)
        self.sent.append((to, message, key))

    def check(self) -> str:
        return "a fake mail server"


class InlineRunner:
    """Drives runs in the calling thread, as far as they go. It is a worker without the threads.

    ``before_go`` is called before each round of a drive, and may raise, to try a crash there.
    """

    def __init__(self, store: SharedStore, clock: Clock, *, drives: bool = True) -> None:
        self.driver: Driver | None = None
        self.before_go: Callable[[], None] = lambda: None
        self._store, self._clock = store, clock
        self._drives: dict[str, Drive] = {}
        self._worker = fresh_id("inline")
        if not drives:
            return
        store.call_me(self._worker)
        with store.begin() as tx:
            # A world in the same place as an earlier one is what comes after its end.
            for other in tx.workers():
                tx.bury(other, lease_s=None)
            tx.add_worker(self._worker, host="test", pid=0, version="test")

    def start(self, run_id: str) -> None:
        self.wake(run_id)

    def wake(self, run_id: str) -> None:
        driver = self.driver
        if driver is None:
            return
        if run_id in self._drives:
            self._drives[run_id].poke()
            return
        with self._store.read() as tx:
            due, _ = tx.due_runs(
                worker=self._worker, engine=ENGINE_VERSION, now=self._clock.now(), limit=1_000
            )
        if not any(each.run_id == run_id for each in due):
            return
        with self._store.begin() as tx:
            claimed = tx.claim(
                run_id, worker=self._worker, engine=ENGINE_VERSION, now=self._clock.now()
            )
        if claimed is None:
            return
        woken = threading.Event()
        drive = driver.open(claimed, Lease(self._store, claimed), woken.set)
        self._drives[run_id] = drive
        try:
            self.before_go()
            while not (rest := drive.go()).left:
                woken.wait(rest.wait_s)
                woken.clear()
                self.before_go()
        except BaseException:
            # A process that is gone takes its calls with it: none may go on into the next one.
            driver.performer.wait_idle(5.0)
            raise
        finally:
            del self._drives[run_id]


class _NoPostmortem(PostmortemDesk):
    def draft(self) -> Sequence[Evidence]:
        return ()


class World:
    """A whole service on fakes and a real store in a folder. The doors are left out.

    Another one in the same folder, with the same ``gateway``, ``chat`` and ``mail``, is the same
    company after a restart of Firedoor.
    """

    def __init__(
        self,
        folder: Path,
        *,
        actions: Sequence[Action[Any]],
        runbooks: Sequence[Runbook] = (),
        endpoints: Mapping[str, Endpoint] | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        people: Mapping[str, Sequence[str]] | None = None,
        connections: Mapping[tuple[type, str], object] | None = None,
        secrets: Sequence[str] = (),
        gateways: Mapping[str, Gateway] | None = None,
        clock: Clock | None = None,
        gateway: FakeGateway | None = None,
        chat: FakeChat | None = None,
        mail: FakeMail | None = None,
        sleep: Callable[[float], None] = lambda _s: None,
        store_url: str | None = None,
        announce_in: str | None = None,
        is_driven_inline: bool = True,
        is_migrated: bool = False,
        guards: GuardRails | None = None,
    ) -> None:
        """
        Args:
            store_url: A database other than the file in ``folder``.

            is_migrated: True if that database is up to date already.

            is_driven_inline: False if real workers drive the runs, here or elsewhere.
        """
        self.folder = folder
        self.clock = clock or FakeClock()
        self.gateway = gateway or FakeGateway()
        self.chat = chat or FakeChat()
        self.mail = mail or FakeMail()
        self.store = SqlStore(store_url or f"sqlite:///{folder / 'firedoor.sqlite'}")
        if not is_migrated:
            self.store.migrate()
        self.runner = InlineRunner(self.store, self.clock, drives=is_driven_inline)
        self.redactor: Redactor = SecretRedactor(secrets)
        known = {action.name: action for action in actions}
        files = FolderFiles(folder / "evidence")
        recorder = Recorder(self.store, self.clock, self.redactor, known, announce_in)
        desk = ContainmentDesk(
            self.store,
            gateways or {"edge": self.gateway},
            self.clock,
            only_one=self.store.only_one,
            redact=self.redactor.text,
        )
        performer = Performer(
            store=self.store,
            clock=self.clock,
            redactor=self.redactor,
            files=files,
            actions=known,
            connections=Connections(connections or {}),
            endpoints=endpoints or {},
            desk=desk,
            postmortem=lambda _incident_id: _NoPostmortem(),
            guards=guards,
        )
        driver = Driver(recorder, performer, self.clock, sleep=sleep)
        if is_driven_inline:
            self.runner.driver = driver
            driver.find_unreadable(self.store)
        group_members = Groups(groups or {}, people)
        self.service = Service(
            store=self.store,
            clock=self.clock,
            recorder=recorder,
            performer=performer,
            driver=driver,
            incidents=Incidents(
                store=self.store,
                clock=self.clock,
                recorder=recorder,
                runner=self.runner,
                runbooks={runbook.id: runbook for runbook in runbooks},
                endpoints=endpoints or {},
                groups=group_members,
            ),
            people=People(
                store=self.store,
                clock=self.clock,
                recorder=recorder,
                runner=self.runner,
                groups=group_members,
            ),
            reports=Reports(self.store, self.clock),
            desk=desk,
            custody=Custody(desk, group_members),
            postmortems=Postmortems(
                store=self.store,
                files=files,
                clock=self.clock,
                endpoints=endpoints or {},
                templates=folder,
            ),
            groups=group_members,
            outboxes=tuple(
                Outbox(
                    store=self.store,
                    clock=self.clock,
                    kinds=frozenset(kinds),
                    chat=self.chat,
                    mail=self.mail,
                    live=recorder.live_card,
                    redact=self.redactor.text,
                )
                for kinds in (("open_channel", "post", "update"), ("email",))
            ),
            checks={},
        )

    def send(self) -> int:
        """Send everything that is due; return how many parcels were sent."""
        total = 0
        while sent := sum(outbox.flush() for outbox in self.service.outboxes):
            total += sent
        return total

    def keep(self) -> None:
        """End what has expired, and bring the gateways to what is in force."""
        desk = self.service.desk
        desk.expire_due()
        for name in desk.gateways.names:
            if desk.gateways.is_behind(name):
                desk.gateways.reconcile(name)

    def close(self) -> None:
        self.store.close()
