"""Each feature of the language, as its rehearsal specifies it, on the engine and on both stores.

The rehearsals are in ``features/``. On a store every event is recorded by the service (redacted,
journaled, with its asks and messages) and the state is read back, so the same specification holds
for what a restart would find.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bot.engine import RunState, advance
from bot.engine.player import Player
from bot.engine.rehearsal import rehearse
from bot.folders import REHEARSAL_ENDING, load_folder
from bot.language.rehearsal import Case, Rehearsal, load_rehearsal
from bot.language.runbook import Runbook
from bot.model import events
from bot.model.commands import Command
from bot.model.events import EVENT, Event
from bot.model.incident import RunStatus, Severity
from bot.model.journal import verify_chain
from bot.testing import FakeClock
from tests.scenario.company import Company

FOLDER = Path(__file__).parent / "features"
RUN = "INC-1-R1"


def known() -> dict[str, Any]:
    return dict(Company(Path(), []).actions)


def cases() -> list[Any]:
    runbooks = load_folder([FOLDER], known())
    found = []
    for file in sorted(FOLDER.glob(f"*{REHEARSAL_ENDING}")):
        rehearsal = load_rehearsal(file.read_text(encoding="utf-8"), file.name, runbooks)
        book = runbooks[rehearsal.runbook]
        found += [
            pytest.param(book, rehearsal, case, id=f"{book.id}: {case.name}")
            for case in rehearsal.cases
        ]
    return found


CASES = cases()


class Recorded:
    """Takes events into account as the service does, on a real store."""

    def __init__(self, company: Company, runbook: Runbook) -> None:
        self._world, self._runbook = company.world, runbook
        self._clock = company.clock
        self._commands: tuple[Command, ...] = ()

    def __call__(
        self, state: RunState | None, event: Event
    ) -> tuple[RunState, tuple[Command, ...]]:
        self._clock.set(event.at)
        recorder = self._world.service.recorder
        if state is None:
            assert isinstance(event, events.RunStarted)
            self._start(event)
        else:
            position = recorder.position(RUN).events
            asked = self._asked(event)
            if asked is not None:
                recorder.ask(RUN, position, asked)
            else:
                recorder.record(RUN, position, event)
        # A fresh reading of the store is what a restarted worker sees.
        self._commands = recorder.position(RUN).commands
        return recorder.state(RUN), self._commands

    def _asked(self, event: Event) -> Any:
        if not isinstance(event, events.Asked | events.Reminded):
            return None
        kinds = ("ask_approval", "ask_person", "ask_decision", "remind")
        return next(
            c for c in self._commands if c.kind in kinds and getattr(c, "step", "") == event.step
        )

    def _start(self, event: events.RunStarted) -> None:
        with self._world.store.begin() as tx:
            incident = tx.add_incident(
                key="k", title="A feature", severity=Severity.SEV2, at=event.at
            )
            run = tx.add_run(
                incident_id=incident.id,
                runbook_id=self._runbook.id,
                runbook_digest=self._runbook.version,
                runbook_text=self._runbook.text,
                called_texts={name: b.text for name, b in self._runbook.called().items()},
                origin=event.origin,
                at=event.at,
            )
            assert run.id == RUN
            self._world.service.recorder.start(tx, incident, run, event)


@pytest.mark.parametrize(("runbook", "rehearsal", "case"), CASES)
def test_the_engine_does_as_its_rehearsal_says(
    runbook: Runbook, rehearsal: Rehearsal, case: Case
) -> None:
    """
    The pure engine, without a store.
    """
    result = rehearse(runbook, rehearsal, case)

    assert not result.differences, result.diff


@pytest.mark.parametrize(("runbook", "rehearsal", "case"), CASES)
def test_so_does_the_service_on_its_store(
    runbook: Runbook,
    rehearsal: Rehearsal,
    case: Case,
    tmp_path: Path,
    store_url_of: Callable[[Path], str | None],
) -> None:
    """
    Journaled and read back at every step, a run comes to the same end by the same commands; the
    chain holds, nothing is asked any more, and the journal replays to the very same state.
    """
    company = Company(tmp_path, [], store_url=store_url_of(tmp_path), clock=FakeClock(case.now))
    pure = Player(runbook, rehearsal, case)
    pure.play()

    played = Player(runbook, rehearsal, case, Recorded(company, runbook))
    played.play()

    assert played.commands == pure.commands
    assert played.state == pure.state
    records = company.world.service.reports.records(None)
    assert verify_chain(records) == len(records)
    replayed: RunState | None = None
    for record in records:
        if "event" in record.body:
            event = EVENT.validate_python(record.body["event"])
            replayed, _ = advance(runbook, replayed, event)
    assert replayed == pure.state
    if pure.state.status is not RunStatus.RUNNING:
        with company.world.store.read() as tx:
            assert [a for a in tx.open_asks(RUN) if a.kind != "review"] == []
    company.restart()
