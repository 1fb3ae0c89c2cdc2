"""Every event and command is in the committed journal before its effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bot.action import SILENT
from bot.store import SqlStore
from tests.scenario.company import CLOSE, IRIS, ORDERS, SAM, TRIGGER, Company, alert, text_of

STEPS = """
- id: look
  uses: acme.look
  with: {key: door}
- id: set
  uses: acme.set
  with: {key: door, value: shut}
  approval: {from: [security]}
- id: tell
  uses: acme.tell
  with: {text: Data was read.}
"""


class Witness:
    """Looks at the committed journal from outside, over a connection of its own."""

    def __init__(self, company: Company) -> None:
        self._store = SqlStore(
            company.store_url or f"sqlite:///{company.folder / 'firedoor.sqlite'}"
        )
        self.seen: dict[str, list[Any]] = {}

    def __call__(self, what: str) -> None:
        with self._store.read() as tx:
            records = tx.records()
            last = records[-1]
        commands = last.body.get("commands", [])
        self.seen.setdefault(what, []).append((last.kind, [c["kind"] for c in commands]))

    def kinds(self) -> list[str]:
        with self._store.read() as tx:
            return [record.kind for record in tx.records()]

    def close(self) -> None:
        self._store.close()


@pytest.fixture
def company(tmp_path: Path, store_url_of) -> Company:
    return Company(tmp_path, [text_of(STEPS)], store_url=store_url_of(tmp_path))


class TestJournalBeforeEffect:
    def test_the_command_is_committed_when_the_action_is_called(self, company):
        """
        Whoever reads the journal after a crash sees what was being done.
        """
        company.start(IRIS)
        witness = Witness(company)
        company.outside.on_call = witness
        company.world.service.people.approve(company.ask().token, SAM)
        witness.close()
        company.restart()

        assert witness.seen == {
            "set.observe": [("approved", ["apply_step"])],
            "set.apply": [("approved", ["apply_step"])],
            "set.verify": [("applied", ["verify_step"])],
            "tell.compose": [("verified", ["run_step"])],
        }

    def test_the_note_is_committed_when_the_effect_is_made(self, company):
        """
        A note that an action wrote before a remote call is there, whatever the call does.
        """
        company.start(IRIS)
        witness = Witness(company)
        company.outside.then = witness
        company.world.service.people.approve(company.ask().token, SAM)
        witness.close()
        company.restart()

        assert witness.seen == {"put door": [("note", [])]}

    def test_reads_too(self, company):
        """
        A look into the logs is journaled before it begins.
        """
        Company(company.folder, company.texts, store_url=company.store_url).world.close()
        witness = Witness(company)
        company.outside.on_call = witness
        company.start(IRIS)
        witness.close()
        company.restart()

        assert witness.seen["look.run"] == [("run_started", ["run_step"])]

    def test_an_alert_is_committed_before_the_gateway_is_touched(self, tmp_path, store_url_of):
        """
        The incident, the alert and the containment stand in the journal before anything is closed.
        """
        company = Company(
            tmp_path, [text_of(CLOSE, more=TRIGGER)], store_url=store_url_of(tmp_path)
        )
        real, kinds = company.gateway.converge, []

        def converge(controls: Any, writing: Any = SILENT) -> str:
            witness = Witness(company)
            kinds.append(witness.kinds())
            witness.close()
            return real(controls, writing)

        company.gateway.converge = converge  # type: ignore[method-assign]
        company.world.service.incidents.take_alert(alert())
        company.restart()

        assert kinds == [["incident_opened", "run_started", "planned", "containment_held"]]
        assert [c.endpoint for c in company.gateway.controls] == [ORDERS.key]

    def test_a_notice_is_in_the_outbox_with_the_event_that_asked_for_it(self, company):
        """
        There is no moment in which the step is done and the notice is forgotten.
        """
        company.start(IRIS)
        company.world.service.people.approve(company.ask().token, SAM)

        with company.world.store.read() as tx:
            waiting = [p.parcel.key for p in tx.parcels("INC-1") if p.parcel.audience]
        company.restart()

        assert waiting == [
            "INC-1-R1:tell:notice:security:slack",
            "INC-1-R1:tell:notice:security:email",
        ]
