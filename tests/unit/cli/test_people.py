"""The commands by which people answer, steer and look at runs; and ``firedoor plan``."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bot.cli.common import me
from bot.cli.main import cli, main
from bot.errors import FiredoorError, ProviderUnreachable
from bot.model.incident import RunStatus
from bot.service.people import Person
from tests.scenario.company import IRIS, SAM, TARIQ, Company, text_of

RUN = "INC-1-R1"
STEPS = """
- id: a
  uses: acme.set
  with: {key: a, value: new}
- id: b
  uses: acme.set
  with: {key: b, value: new}
  approval: {from: [security], break_glass: oncall, timeout: 1h}
"""
PARALLEL = """
- parallel:
  - id: yes-1
    uses: acme.set
    with: {key: y1, value: new}
    approval: {from: [security]}
  - id: yes-2
    uses: acme.set
    with: {key: y2, value: new}
    approval: {from: [security]}
  - id: why
    manual: {ask: "Why?\\nREFUSED: x", assignee: oncall, due: 10m, fields: {reason: {type: string}}}
"""


class Terminal:
    """Calls ``firedoor`` on a company, as one of its people."""

    def __init__(self, company: Company, patch: pytest.MonkeyPatch) -> None:
        self.company, self.person = company, SAM

        @contextmanager
        def attached(_ctx: Any) -> Iterator[Any]:
            yield company.world.service

        def me(_service: object) -> Person:
            return self.person

        for module in ("people", "verbs", "incidents", "runbooks"):
            patch.setattr(f"bot.cli.{module}.attached", attached)
            if module != "incidents":
                patch.setattr(f"bot.cli.{module}.me", me)

    def __call__(self, *words: str, by: Person = SAM, code: int = 0) -> str:
        self.person = by
        done = CliRunner().invoke(cli, words, terminal_width=200)
        error = done.exception
        got = error.exit_code if isinstance(error, FiredoorError) else done.exit_code
        assert got == code, (got, done.output, error)
        return str(error) if isinstance(error, FiredoorError) else done.output


@pytest.fixture
def terminal_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Terminal]]:
    made: list[Company] = []

    def make(*texts: str) -> Terminal:
        made.append(Company(tmp_path, list(texts)))
        return Terminal(made[-1], monkeypatch)

    yield make
    for company in made:
        company.restart()


@pytest.fixture
def terminal(terminal_of: Callable[..., Terminal]) -> Terminal:
    """A run of Iris that waits for security at its second step."""
    made = terminal_of(text_of(STEPS))
    made.company.start(IRIS)
    return made


class TestVerbs:
    def test_pause_resume_skip(self, terminal):
        """
        Each says what becomes of it; what cannot count exits with 3.
        """
        assert "is being paused" in terminal("pause", RUN, "--reason", "lunch")
        assert "paused already, by slack:U0SAM" in terminal("pause", RUN, code=3)
        assert "goes on" in terminal("resume", RUN)
        assert "is not paused" in terminal("resume", RUN, code=3)
        assert "is done, so it cannot be skipped" in terminal("skip", RUN, "a", code=3)
        assert "has no step 'x'; it has a, b." in terminal("skip", RUN, "x", code=2)
        assert "is being skipped" in terminal("skip", RUN, "b")

    def test_undo_cancel_retry_rerun(self, terminal):
        """
        A rerun names the new run; a cancel says what becomes of the changes.
        """
        assert "has not failed" in terminal("retry", RUN, "b", code=3)
        assert terminal("rerun", RUN, "b") == "INC-1-R2 is running.\n"
        assert "INC-1-R2 runs INC-1-R1 again" in terminal("rerun", RUN, "b", code=3)
        assert "Its changes are taken back" in terminal("cancel", "INC-1-R2", "--undo")
        assert "being taken back: a." in terminal("undo", RUN)
        assert terminal.company.state().status is RunStatus.UNDONE
        assert "no change that could be taken back" in terminal("undo", RUN, code=3)

    @pytest.mark.parametrize(
        "words",
        [("pause",), ("cancel",), ("undo",), ("skip", RUN), ("retry", RUN), ("rerun", RUN)],
    )
    def test_missing_words_are_bad_input(self, terminal, words):
        """
        Nothing is done.
        """
        assert "Missing argument" in terminal(*words, code=2)

    def test_the_glass_is_broken_with_a_reason_and_reviewed_by_another(self, terminal):
        """
        Both need words; who broke it does not review it.
        """
        assert "--reason" in terminal("override", RUN, code=2)
        assert "Only oncall" in terminal("override", RUN, "--reason", "now", by=TARIQ, code=3)
        assert "You broke the glass at b" in terminal("override", RUN, "--reason", "now")
        assert "cannot review it" in terminal("review", RUN, "b", "--finding", "fine", code=3)
        terminal("review", RUN, "b", "--finding", "fine", by=TARIQ)
        said = terminal("review", RUN, "b", "--finding", "fine", by=TARIQ, code=2)
        assert said.startswith("No review waits")


class TestWhatIsPrinted:
    def test_a_reason_does_not_steer_the_terminal(self, terminal, monkeypatch, capsys):
        """
        What somebody wrote comes back in an error of somebody else.
        """
        token = terminal.company.ask().token
        people = terminal.company.world.service.people
        people.reject(token, SAM, "no \x1b[2J\u202egood")
        monkeypatch.setattr("sys.argv", ["firedoor", "approve", RUN])
        monkeypatch.setattr(people, "ask_of_step", lambda *_: people.find_ask(token))
        monkeypatch.setattr("bot.cli.people.me", lambda _service: TARIQ)

        with pytest.raises(SystemExit) as ended:
            main()

        assert ended.value.code == 3
        said = capsys.readouterr().err
        assert "Rejected by slack:U0SAM: no [2Jgood" in said


class TestAnswering:
    def test_without_a_step_all_that_ask_are_named(self, terminal_of):
        """
        Two approvals wait: which one is meant is not guessed.
        """
        terminal = terminal_of(text_of(PARALLEL))
        terminal.company.start(IRIS)

        said = terminal("approve", RUN, code=2)
        assert "asks at 2 steps: yes-1 (approval), yes-2 (approval)" in said
        terminal("approve", RUN, "--step", "yes-2")
        terminal("answer", RUN, "reason=none")
        terminal("approve", RUN)
        assert terminal.company.outside.effects == ["y2=new", "y1=new"]


class TestStatus:
    def test_it_says_what_waits_for_whom_until_when_and_how_to_answer(self, terminal):
        """
        The command under it can be copied.
        """
        shown = terminal("status")

        assert f"{RUN} book: running" in shown
        assert "b waits: approval of b: Sets b to new.; of security; not by slack:U0IRIS; " in shown
        assert "until 2026-01-02 04:04:05 UTC" in shown
        assert f"firedoor approve {RUN} --step b" in shown
        said = terminal(*f"approve {RUN} --step b".split())
        assert said == f"Your approval of b in {RUN} is recorded.\n"
        assert terminal("status") == "No run is going on.\n"

    def test_questions_and_decisions_show_how_they_are_answered(self, terminal_of):
        """
        With the names of the fields; hostile text stays on its line.
        """
        terminal = terminal_of(text_of(PARALLEL))
        terminal.company.start(IRIS)
        lines = terminal("status").splitlines()

        assert f"      firedoor answer {RUN} --step why reason=..." in lines
        (asked,) = [line for line in lines if "answer: Why?" in line]
        assert "Why? REFUSED: x; of oncall; due 2026-01-02 03:14:05 UTC" in asked

    def test_it_says_who_paused_and_why_it_ends(self, terminal_of):
        """
        A run that does not move says what holds it.
        """
        always = 'always:\n  - id: told\n    manual: {ask: "Why?"}\n'
        terminal = terminal_of(text_of(STEPS) + always)
        terminal.company.start(IRIS)
        terminal("pause", RUN)
        assert f"{RUN} book: paused by slack:U0SAM" in terminal("status")
        terminal("cancel", RUN, "--reason", "a drill")
        ends = f"{RUN} book: comes to its end, last steps (cancelled: a drill)"
        assert ends in terminal("status")

    def test_a_review_waits_though_its_run_is_over(self, terminal):
        """
        Nobody forgets a broken glass because all is well again.
        """
        terminal("override", RUN, "--reason", "nobody answers")
        shown = terminal("status")

        assert f"{RUN} book: done" in shown
        assert "review of the glass that slack:U0SAM broke: nobody answers; of security" in shown
        assert f"firedoor review {RUN} b --finding ..." in shown
        (run,) = json.loads(terminal("status", "--json"))
        assert [(w["kind"], w["not_by"]) for w in run["waits"]] == [("review", [SAM.actor])]
        terminal("review", RUN, "b", "--finding", "fine", by=TARIQ)
        assert terminal("status") == "No run is going on.\n"

    def test_what_a_step_holds_stands_below_it(self, terminal_of):
        """
        In the order of the items, also of more than ten.
        """
        items = ", ".join(f'"k{n}"' for n in range(12))
        steps = (
            f"\n- id: each\n  foreach: [{items}]\n  as: it\n  steps:\n"
            '    - id: put\n      uses: acme.set\n      with: {key: "{{ it }}", value: new}\n'
            '\n- id: end\n  manual: {ask: "Over?"}\n'
        )
        terminal = terminal_of(text_of(steps))
        terminal.company.start(IRIS)
        (run,) = json.loads(terminal("status", "--json"))

        assert list(run["steps"]) == ["each", *(f"each.{n}.put" for n in range(12)), "end"]
        assert "    each.11.put" in terminal("status")

    def test_json_has_all_of_it(self, terminal):
        """
        For those who build on it.
        """
        terminal("pause", RUN)
        (run,) = json.loads(terminal("status", "--json"))

        assert run["paused_by"] == SAM.actor
        assert run["ending"] is None
        assert run["waits"] == [
            {
                "step": "b",
                "kind": "approval",
                "what": "approval of b: Sets b to new.",
                "groups": ["security"],
                "required": 1,
                "given": [],
                "not_by": [IRIS.actor],
                "until": "2026-01-02T04:04:05Z",
                "due": None,
                "command": f"firedoor approve {RUN} --step b",
            }
        ]


class TestPlan:
    def test_all_well_is_0_and_shows_the_difference(self, terminal_of):
        """
        Nothing is changed.
        """
        terminal = terminal_of(text_of(STEPS))
        shown = terminal("plan", "book", by=IRIS)

        assert "plan: Sets a to new." in shown
        assert "+new" in shown
        assert "2 steps; 0 would be refused" in shown
        assert terminal.company.outside.effects == []

    def test_what_would_be_refused_is_3(self, terminal_of):
        """
        Nobody but the starter could approve.
        """
        terminal = terminal_of(text_of(STEPS.replace("security", "commanders")))

        assert "REFUSED: It needs 1 of commanders" in terminal("plan", "book", by=IRIS, code=3)
        steps = json.loads(terminal("plan", "book", "--json", by=IRIS, code=3))["steps"]
        assert [bool(step["refused"]) for step in steps] == [False, True]

    def test_what_cannot_be_told_is_5(self, terminal_of):
        """
        A system gives no answer: try again later.
        """
        terminal = terminal_of(text_of(STEPS))
        terminal.company.outside.fail["set.observe"] = [ProviderUnreachable("Down.\nREFUSED: x")]
        shown = terminal("plan", "book", by=IRIS, code=5)

        assert "NO ANSWER: Down. REFUSED: x" in shown
        assert not [line for line in shown.splitlines() if line.strip().startswith("REFUSED")]

    def test_a_refusal_outweighs_silence(self, terminal_of):
        """
        What is certain is said first.
        """
        terminal = terminal_of(text_of(STEPS.replace("security", "commanders")))
        terminal.company.outside.fail["set.observe"] = [ProviderUnreachable("Down.")]

        terminal("plan", "book", by=IRIS, code=3)


def test_a_user_of_the_machine_is_known_as_the_human_who_they_are(tmp_path):
    """
    As ``people`` says; whoever is not named there is only that user.
    """
    user = pwd.getpwuid(os.getuid()).pw_name
    company = Company(tmp_path, [text_of(STEPS)])
    assert me(company.world.service).actor == f"cli:{user}"

    company = Company(tmp_path, [text_of(STEPS)], people={"sam": [f"cli:{user}", "U0SAM"]})
    assert me(company.world.service) == SAM
