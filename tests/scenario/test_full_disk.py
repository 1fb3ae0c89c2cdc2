"""A full disk: the run waits, says so, loses nothing, and goes on when there is room."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bot.errors import StoreUnavailable
from bot.model.incident import RunStatus
from bot.testing import World
from tests.scenario.company import CLOSE, IRIS, SAM, TRIGGER, Company, alert, text_of

BIG = "x" * 20_000
"""What does not fit into pages that are there already."""

STEPS = """
- id: look
  uses: acme.look
  with: {key: door}
- id: set
  uses: acme.set
  with: {key: door, value: VALUE}
  approval: {from: [security]}
- id: tell
  uses: acme.tell
  with: {text: Data was read.}
""".replace("VALUE", BIG)


class Disk:
    """Bounds the journal's database, as a full disk does."""

    def __init__(self) -> None:
        self.is_full = False
        """Nothing that needs another page can be written; a small row may still fit somewhere."""
        self._file: Path | None = None

    def watch(self, world: World) -> None:
        self._file = world.folder / "firedoor.sqlite"
        sa.event.listen(world.store.engine, "checkout", self._checkout)

    def fill(self) -> None:
        """Let the file grow no more, and use up what is free within it."""
        assert self._file is not None
        connection = sqlite3.connect(self._file, isolation_level=None)
        connection.execute("CREATE TABLE filler (content)")
        connection.execute("PRAGMA max_page_count=1")  # SQLite takes the present size instead
        for size in (100_000, 4_000):
            with contextlib.suppress(sqlite3.OperationalError):
                while True:
                    connection.execute("INSERT INTO filler VALUES (zeroblob(?))", (size,))
        connection.close()
        self.is_full = True

    def _checkout(self, connection: sqlite3.Connection, _record: Any, _proxy: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={1 if self.is_full else 1_000_000}")


class Sleeper:
    """Frees the disk after some tries, where the driver would sleep."""

    def __init__(self, disk: Disk, tries: int) -> None:
        self.disk, self.tries, self.slept = disk, tries, 0
        self.said: list[str] = []
        self.company: Company | None = None

    def __call__(self, _seconds: float) -> None:
        self.slept += 1
        assert self.company is not None
        self.said.append(self.company.world.service.driver.store_trouble)
        if self.slept >= self.tries:
            self.disk.is_full = False


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def sleeper(disk: Disk) -> Sleeper:
    return Sleeper(disk, tries=3)


@pytest.fixture
def company(tmp_path: Path, disk: Disk, sleeper: Sleeper) -> Company:
    company = Company(tmp_path, [text_of(STEPS)], sleep=sleeper, prepare=disk.watch)
    sleeper.company = company
    return company


class TestWhileARunGoesOn:
    @pytest.mark.parametrize("what", ["look.run", "set.observe", "set.apply", "set.verify"])
    def test_it_waits_and_goes_on(self, company, disk, sleeper, what):
        """
        Wherever the disk fills up: the run waits with a clear message, makes its effect once, and
        ends as if nothing had been.
        """
        filled = []

        def fill(called: str) -> None:
            if called == what and not filled:
                filled.append(called)
                disk.fill()

        company.outside.on_call = fill
        company.outside.values["door"] = BIG + "!"
        company.start(IRIS)
        company.world.service.people.approve(company.ask().token, SAM)

        assert company.state().status is RunStatus.DONE
        assert company.outside.effects == [f"door={BIG}"]
        assert filled == [what]
        assert sleeper.slept == 3
        assert all("full" in said and "disk space" in said for said in sleeper.said)
        assert company.world.service.driver.store_trouble == ""
        company.world.service.reports.audit()
        events = [kind for kind in company.kinds() if kind in ("applied", "verified", "planned")]
        assert events == ["applied", "planned", "applied", "verified", "applied"]
        company.restart()

    def test_health_says_so_meanwhile(self, company, disk, sleeper):
        """
        Whoever looks at the bot sees why nothing moves.
        """
        seen = []

        def fill(called: str) -> None:
            if called == "look.run" and not seen:
                disk.fill()

        def look(seconds: float) -> None:
            seen.append(company.world.service.health()["store"])
            sleeper(seconds)

        company.sleep = look
        company.outside.on_call = fill
        company.outside.values["door"] = BIG
        company.start(IRIS)

        assert "full" in seen[0]
        assert company.world.service.health()["store"] == "ok"
        company.restart()


class TestAtTheDoors:
    def test_an_alert_that_cannot_be_kept_is_not_taken(self, tmp_path, disk):
        """
        The sender is told to come again; nothing was done, and the repeat is taken.
        """
        company = Company(tmp_path, [text_of(CLOSE, more=TRIGGER)], prepare=disk.watch)
        big = alert(annotations={"summary": BIG})
        company.world  # noqa: B018  # it makes the database
        disk.fill()

        with pytest.raises(StoreUnavailable, match="full"):
            company.world.service.incidents.take_alert(big)
        assert company.gateway.controls == ()

        disk.is_full = False
        assert company.world.service.incidents.take_alert(big).opened
        assert len(company.gateway.controls) == 1
        company.restart()

    def test_an_approval_that_cannot_be_kept_does_not_count(self, company, disk):
        """
        The person hears it and clicks again; nothing was done in between.
        """
        company.start(IRIS)
        token = company.ask().token
        disk.fill()
        with pytest.raises(StoreUnavailable):
            company.world.service.people.reject(token, SAM, BIG)
        disk.is_full = False

        company.world.service.people.approve(token, SAM)

        assert company.state().status is RunStatus.DONE
        company.restart()


class TestEvidence:
    def test_evidence_that_cannot_be_written_holds_the_run(self, company, sleeper, monkeypatch):
        """
        A step whose evidence is not on the disk is not done; it is done again when there is room.
        """
        real, full = os.fsync, [True, True]

        def fsync(descriptor: int) -> None:
            if full:
                full.pop()
                raise OSError(errno.ENOSPC, "No space left on device")
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        company.start(IRIS)

        assert sleeper.slept == 2
        assert "No space left" in sleeper.said[0]
        assert company.outside.calls.count("look.run") == 3
        assert company.kinds().count("evidence_kept") == 1
        assert company.ask().step_id == "set"
        company.restart()
