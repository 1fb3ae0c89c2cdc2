"""The service as one object, for the doors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bot.errors import StoreUnavailable
from bot.language.inputs import bind
from bot.language.runbook import Input, Runbook
from bot.model.ask import Ask
from bot.model.incident import StartRun
from bot.ports import Clock, Store
from bot.service.containments import ContainmentDesk
from bot.service.custody import Custody
from bot.service.drive import Driver
from bot.service.incidents import Incidents
from bot.service.outbox import Outbox
from bot.service.people import Groups, People, Person
from bot.service.perform import Performer
from bot.service.postmortems import Postmortems
from bot.service.preview import Foreseen
from bot.service.record import Recorder
from bot.service.reports import Reports


@dataclass(frozen=True)
class Service:
    """All use cases. Made by ``bot.wiring``; holds no state of its own."""

    store: Store
    clock: Clock
    recorder: Recorder
    performer: Performer
    driver: Driver
    incidents: Incidents
    people: People
    reports: Reports
    desk: ContainmentDesk
    custody: Custody
    postmortems: Postmortems
    groups: Groups
    outboxes: tuple[Outbox, ...]
    checks: Mapping[str, Callable[[], str]]
    """Connection to a call that says what it is, or raises what is wrong; for ``doctor``."""

    def check_start(self, wish: StartRun, person: Person) -> None:
        """Raise what would keep this person from starting this run.

        Raises:
            NotAllowed: They are in no group.

            BadInput: The runbook is not known, or its inputs do not fit (all at once).
        """
        self.check_known(person)
        runbook = self.incidents.runbook(wish.runbook_id)
        bind(runbook, wish.inputs, self.incidents.endpoints, self.clock.now())

    def check_known(self, person: Person) -> None:
        """Raise NotAllowed unless the person is in a group: only responders act."""
        self.groups.check_known(person)

    def fields_of(self, ask: Ask) -> Mapping[str, Input]:
        """Return the declared fields of a manual step's question."""
        return self.people.manual_of(ask).fields

    def foresee(
        self, runbook: Runbook, inputs: Mapping[str, Any], person: Person
    ) -> list[Foreseen]:
        """Return what the runbook would do with these (bound) inputs, were this person to start it;
        reads only."""
        return self.performer.foresee(runbook, inputs, self.groups, person.actor)

    def health(self) -> dict[str, Any]:
        """Return what works: ``store`` is ``ok`` or why it cannot be used, likewise the rest."""
        store = "ok"
        try:
            with self.store.begin() as tx:
                tx.touch(self.clock.now())
        except StoreUnavailable as error:
            store = str(error)
        trouble = [outbox.trouble for outbox in self.outboxes if outbox.trouble]
        return {
            "store": self.driver.store_trouble or store,
            "sending": "; ".join(trouble) or "ok",
        }
