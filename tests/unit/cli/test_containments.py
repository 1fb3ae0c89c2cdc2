"""``firedoor containments``: listed, extended, handed over and lifted at a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bot.cli.driving import driving_lock
from bot.cli.main import cli
from bot.errors import FiredoorError
from bot.model.containment import Containment, Control, ControlKind
from bot.service.people import Person
from bot.settings import Settings
from bot.testing import START
from tests.scenario.company import IRIS, SAM, STRANGER, Company

HELD = Containment(
    id="INC-1-R1.close",
    incident_id="INC-1",
    run_id="INC-1-R1",
    step_id="close",
    gateway="edge",
    control=Control(kind=ControlKind.CLOSE, method="GET", path="/api/orders"),
    owner=SAM.actor,
    reason="Cross-owner reads",
    since=START,
    expires_at=START + timedelta(hours=4),
)


class Terminal:
    """Calls ``firedoor containments`` on a company, as one of its people."""

    def __init__(self, company: Company, patch: pytest.MonkeyPatch) -> None:
        self.company, self.person = company, SAM
        self.settings = Settings(state_dir=str(company.folder / "state"))

        @contextmanager
        def attached(_ctx: Any) -> Iterator[Any]:
            yield company.world.service

        patch.setattr("bot.cli.containments.attached", attached)
        patch.setattr("bot.cli.containments.me", lambda _service: self.person)
        patch.setattr("bot.cli.containments.settings_of", lambda _ctx: self.settings)

    def __call__(self, *words: str, by: Person = SAM, code: int = 0) -> str:
        self.person = by
        done = CliRunner().invoke(cli, ["containments", *words], terminal_width=200)
        error = done.exception
        got = error.exit_code if isinstance(error, FiredoorError) else done.exit_code
        assert got == code, (got, done.output, error)
        return str(error) if isinstance(error, FiredoorError) else done.output

    @property
    def held(self) -> Containment | None:
        return self.company.world.service.desk.get(HELD.id)


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Sam's endpoint is closed; nothing else drives runs or writes to gateways."""
    company = Company(tmp_path, [])
    company.world.service.desk.hold(HELD)
    yield Terminal(company, monkeypatch)
    company.restart()


class TestList:
    def test_what_is_in_force_and_what_was(self, terminal):
        """
        As JSON with all that is kept.
        """
        assert json.loads(terminal("list", "--json")) == [HELD.model_dump(mode="json")]
        terminal("lift", HELD.id)

        assert terminal("list") == "Nothing is in force.\n"
        (ended,) = json.loads(terminal("list", "--all", "--json"))
        assert ended["lifted_by"] == SAM.actor


class TestExtend:
    def test_it_says_until_when(self, terminal):
        """
        From now on.
        """
        said = terminal("extend", HELD.id, "2h", by=IRIS)

        assert said == f"{HELD.id} expires at 2026-01-02 05:04:05 UTC.\n"
        assert terminal.held.expires_at == START + timedelta(hours=2)

    @pytest.mark.parametrize("ttl", ["soon", "0s", "31d"])
    def test_what_is_no_time_is_bad_input(self, terminal, ttl):
        """
        Exit code 2, and nothing is extended.
        """
        assert "nothing was extended" in terminal("extend", HELD.id, ttl, code=2)
        assert terminal.held == HELD


class TestHandover:
    def test_it_says_who_is_answerable(self, terminal):
        """
        By the id that stands for them everywhere.
        """
        said = terminal("handover", HELD.id, "U0IRIS")

        assert said == f"slack:U0IRIS is answerable for {HELD.id} now.\n"
        assert terminal.held.owner == IRIS.actor

    def test_to_nobody_it_is_refused(self, terminal):
        """
        Exit code 3: a rule says no.
        """
        assert "nothing was handed over" in terminal("handover", HELD.id, "U0EVE", code=3)
        assert terminal.held == HELD


class TestWhoMay:
    @pytest.mark.parametrize(
        "words", [("extend", HELD.id, "2h"), ("handover", HELD.id, "U0IRIS"), ("lift", HELD.id)]
    )
    def test_a_user_of_the_machine_in_no_group_may_not(self, terminal, words):
        """
        Exit code 3, and nothing is done.
        """
        assert "in no group" in terminal(*words, by=STRANGER, code=3)
        assert terminal.held == HELD

    @pytest.mark.parametrize(
        "words", [("extend", "X", "2h"), ("handover", "X", "U"), ("lift", "X")]
    )
    def test_unknown_ids_and_people_are_said(self, terminal, words):
        """
        What is looked for first is who; an id that there is not is bad input.
        """
        code = 3 if words[0] == "handover" else 2

        assert "nothing was" in terminal(*words, code=code)


class TestLift:
    def test_without_a_serving_process_it_brings_the_gateway_there(self, terminal):
        """
        Done when the gateway reports it.
        """
        assert terminal("lift", HELD.id) == f"{HELD.id} is lifted, and the gateway reports it.\n"
        assert terminal.company.gateway.controls == ()

    def test_beside_a_serving_process_it_leaves_the_gateway_to_it(self, terminal):
        """
        One process writes to a gateway.
        """
        with driving_lock(terminal.settings):
            said = terminal("lift", HELD.id)

        assert said == f"{HELD.id} is lifted; the serving process converges the gateway.\n"
        assert terminal.held.lifted_by == SAM.actor
        assert terminal.company.gateway.controls == (HELD.control,)

    @pytest.mark.parametrize("trouble", ["down", "refuses"])
    def test_a_gateway_that_cannot_be_brought_there_is_said(self, terminal, trouble):
        """
        Exit code 5: it is lifted, and who serves next goes on; the old control holds still.
        """
        setattr(terminal.company.gateway, trouble, True)

        said = terminal("lift", HELD.id, code=5)

        assert "is lifted, but gateway edge could not be brought there" in said
        assert terminal.held.lifted_by == SAM.actor
        assert terminal.company.gateway.controls == (HELD.control,)
