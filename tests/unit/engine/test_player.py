"""Playing rehearsals: time, people, groups, and what is said where a case ends elsewhere."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.cli.junit import junit_xml
from bot.cli.main import cli
from bot.engine.rehearsal import Rehearsed, rehearse
from bot.errors import RunbookInvalid
from bot.folders import rehearse_folder
from bot.language.load import load
from bot.language.rehearsal import START, load_rehearsal
from bot.language.runbook import Runbook
from bot.model import events
from tests.unit.language.acme_actions import ACTIONS

HEAD = """\
id: {id}
name: A book
summary: For a test.
severity: sev2
owners: [oncall]
"""

ONE = HEAD.format(id="one") + (
    """\
steps:
  - id: shut
    uses: gateway.close
    with: {endpoint: GET /a}
    ttl: 30m
    retry: {attempts: 2, delay: 10s, jitter: 0}
  - id: turn
    uses: credentials.rotate
    with: {credential: orders}
    approval: {from: [security], required: 2, timeout: 15m, on_timeout: skip}
  - id: fixed
    manual: {ask: "Is it fixed?", remind: 20m, timeout: 1h, on_timeout: skip}
"""
)

INNER = HEAD.format(id="contain") + (
    """\
inputs: {endpoint: {type: string}}
outputs: {held: "{{ steps.shut.containment }}"}
steps:
  - id: shut
    uses: gateway.close
    with: {endpoint: "{{ inputs.endpoint }}"}
    ttl: 30m
"""
)

GROUPS = HEAD.format(id="groups") + (
    """\
outputs: {held: "{{ steps.contain.held }}"}
steps:
  - id: contain
    runbook: contain
    with: {endpoint: GET /a}
  - parallel:
      - id: slow
        uses: gateway.close
        with: {endpoint: GET /b}
        ttl: 1h
      - id: quick
        uses: credentials.rotate
        with: {credential: orders}
  - id: each
    foreach: "{{ ['a', 'b', 'c'] }}"
    as: name
    concurrency: 2
    steps:
      - id: turn
        uses: credentials.rotate
        with: {credential: "{{ name }}"}
always:
  - id: last
    uses: notify.people
    with: {data: []}
"""
)

ALERTED = HEAD.format(id="alerted") + (
    """\
triggers:
  - source: alertmanager
    if: "{{ alert.labels.alertname == 'Leak' }}"
    auto: [shut]
steps:
  - id: shut
    uses: gateway.close
    with: {endpoint: GET /a}
    ttl: 30m
  - id: wipe
    uses: data.wipe
    approval: {from: [security], break_glass: commanders}
"""
)

BOOKS: dict[str, Runbook] = {
    "alerted": load(ALERTED, "alerted.yaml", ACTIONS),
    "one": load(ONE, "one.yaml", ACTIONS),
    "groups": load(GROUPS, "groups.yaml", ACTIONS, {"contain": INNER}),
}


def play(book: str, **case: Any) -> Rehearsed:
    """Play a case; what it expects is only that it is running, unless it says otherwise."""
    case = {"name": "A case", "start_by": "sam", "expect": {"status": "running"}, **case}
    case = {key: value for key, value in case.items() if value is not None}
    text = yaml.safe_dump({"runbook": book, "cases": [case]}, sort_keys=False)
    rehearsal = load_rehearsal(text, "r.yaml", BOOKS)
    return rehearse(BOOKS[book], rehearsal, rehearsal.cases[0])


def expecting(book: str, expect: dict[str, Any], **case: Any) -> tuple[str, ...]:
    return play(book, expect=expect, **case).differences


def when(played: Rehearsed, kind: type[Any], step: str = "") -> list[float]:
    """Seconds from the start to each event of a kind."""
    return [
        (event.at - START).total_seconds()
        for event in played.journal
        if isinstance(event, kind) and (not step or event.step == step)
    ]


APPROVED = [
    {"approve": "turn", "by": "iris", "groups": ["security"]},
    {"approve": "turn", "by": "olga", "groups": ["security"]},
]


class TestTime:
    def test_a_call_ends_when_its_time_has_passed(self):
        """
        The clock goes on to that moment, and no further.
        """
        played = play("one", outcomes={"shut": {"containment": "C1", "takes": "5m"}})

        planned, applied = when(played, events.Planned, "shut"), when(played, events.Applied)
        assert applied[0] - planned[0] == 300
        assert all(a.at <= b.at for a, b in zip(played.journal, played.journal[1:], strict=False))

    def test_a_failure_takes_its_time_too(self):
        """
        And the next attempt waits for its moment.
        """
        played = play(
            "one",
            outcomes={
                "shut": [
                    {"fails": "timeout", "message": "Late.", "takes": "2m"},
                    {"containment": "C1"},
                ]
            },
            people=[{"wait": "shut"}],
        )

        [failed], [again] = when(played, events.StepFailed), when(played, events.TimerFired)
        assert failed >= 120
        assert again - failed == 10

    def test_side_by_side_the_shorter_call_ends_first(self):
        """
        Although the longer one began first.
        """
        assert not expecting(
            "groups",
            {"status": "done", "order": ["quick", "slow", "each.1.turn", "each.0.turn"]},
            outcomes={
                "slow": {"takes": "5m"},
                "quick": {"takes": "1m"},
                "each.0.turn": {"takes": "10m"},
            },
        )

    def test_an_act_with_a_time_happens_then(self):
        """
        While a call is under way.
        """
        played = play(
            "one",
            outcomes={"shut": {"takes": "5m"}},
            people=[
                {"resume": True, "by": "sam", "at": "10m"},
                {"pause": True, "by": "sam", "at": "2m"},
            ],
        )

        assert when(played, events.Paused) == [120]
        assert when(played, events.Resumed) == [600]
        [applied] = when(played, events.Applied)
        assert 300 <= applied <= 310
        assert when(played, events.Verified)[0] > 600  # paused, nothing more begins

    def test_deadlines_pass_on_the_way(self):
        """
        A timer fires before what comes later.
        """
        played = play("one", people=[{"cancel": True, "by": "sam", "at": "30m"}])

        assert [event.kind for event in played.journal][-3:] != []
        assert when(played, events.TimerFired)[0] < when(played, events.Cancelled)[0] == 1800
        assert play("one").differences == ()


class TestPeople:
    def test_words_are_given_in_order_once_the_run_waits(self):
        """
        Each when its step waits for it.
        """
        commands = [
            "plan shut", "apply shut", "verify shut", "plan turn", "ask approval turn",
            "apply turn", "verify turn", "ask person fixed", "finish done",
        ]  # fmt: skip
        assert not expecting(
            "one",
            {"status": "done", "commands": commands, "undone": []},
            people=[*APPROVED, {"answer": "fixed", "by": "sam"}],
        )

    def test_waiting_goes_past_reminders_to_the_end_of_the_wait(self):
        """
        Nobody approves, and nobody answers; reminders do not end the wait.
        """
        played = play(
            "one",
            people=[{"wait": "turn"}, {"wait": "fixed"}],
            expect={"status": "done", "steps": {"turn": "skipped", "fixed": "skipped"}},
        )

        assert played.differences == ()
        assert len(when(played, events.Reminded)) == 2

    @pytest.mark.parametrize(
        ("act", "status"),
        [
            ({"skip": "turn", "by": "sam", "reason": "A drill."}, "skipped"),
            ({"reject": "turn", "by": "iris", "groups": ["security"]}, "skipped"),
        ],
    )
    def test_a_step_is_passed_over(self, act: Any, status: str):
        """
        By a word about a step that waits.
        """
        expect = {"status": "running", "steps": {"turn": status, "fixed": "awaiting_answer"}}
        assert not expecting("one", expect, people=[act])

    def test_a_wait_is_over_once_the_step_waits_no_more(self):
        """
        Others approve meanwhile; the next act comes then, not at the deadline.
        """
        timed = [{**act, "at": f"{number}m"} for number, act in enumerate(APPROVED, 1)]
        played = play("one", people=[{"wait": "turn"}, {"answer": "fixed", "by": "sam"}, *timed],
                      expect={"status": "done", "steps": {"turn": "done"}})  # fmt: skip

        assert played.differences == ()
        assert when(played, events.Answered)[0] < 180

    def test_an_alert_starts_what_it_may_and_a_person_overrides_the_rest(self):
        """
        What a trigger lists runs by itself; who may break the glass does so with a reason.
        """
        alert = {"source": "alertmanager", "labels": {"alertname": "Leak"}}
        override = {"override": "wipe", "by": "iris", "groups": ["commanders"], "reason": "Now."}

        played = play("alerted", start_by=None, alert=alert, people=[override],
                      expect={"status": "done", "steps": {"shut": "done"}})  # fmt: skip

        assert played.differences == ()
        assert when(played, events.Approved) == []
        assert len(when(played, events.Overridden)) == 1

    def test_what_was_done_is_taken_back(self):
        """
        In reverse order, while it runs and after its end.
        """
        done = [*APPROVED, {"answer": "fixed", "by": "sam"}]
        for people, status in (
            ([*APPROVED, {"cancel": True, "by": "sam", "undo": True}], "cancelled"),
            ([*APPROVED, {"undo": True, "by": "sam"}], "undone"),
            ([*done, {"undo": True, "by": "sam", "reason": "A drill."}], "undone"),
            ([*done, {"undo": True, "by": "sam", "at": "3h"}], "undone"),
        ):
            expect = {"status": status, "undone": ["turn", "shut"]}
            assert not expecting("one", expect, people=people)

    def test_a_cancelled_run_keeps_its_changes(self):
        """
        Unless the word says that they are taken back.
        """
        people = [{"cancel": True, "by": "sam", "undo": False, "reason": "A drill."}]
        expect = {"status": "cancelled", "undone": [], "reason": "A drill."}
        assert not expecting("one", expect, people=people)

    def test_a_failed_step_is_tried_again(self):
        """
        By a person, before the time for it has come.
        """
        fails = {"fails": "unreachable", "message": "No answer."}
        played = play(
            "one",
            outcomes={"shut": [fails, {"containment": "C1"}]},
            people=[{"retry": "shut", "by": "sam", "groups": ["oncall"]}],
            expect={"status": "running", "steps": {"shut": "done"}},
        )

        assert played.differences == ()
        assert when(played, events.TimerFired) == []

    def test_outcomes_are_used_up_in_order(self):
        """
        A change that is made at once, and cannot be proven afterwards.
        """
        fails = {"fails": "unverified", "message": "Still open.", "phase": "verify"}
        played = play(
            "one",
            outcomes={"shut": [{"containment": "C1"}, fails]},
            expect={"status": "running", "steps": {"shut": "awaiting_retry"}},
        )

        assert played.differences == ()
        assert len(when(played, events.Applied)) == 1

    def test_what_never_came_is_said(self):
        """
        Acts that are left over are differences.
        """
        people = [*APPROVED, {"answer": "fixed", "by": "sam"}, {"cancel": True, "by": "sam"}]
        assert expecting("one", {"status": "done"}, people=people) == (
            "the run never came to: cancel",
        )


class TestGroups:
    def test_steps_are_named_by_key(self):
        """
        In called runbooks, in rounds, beside others; and the outputs come out.
        """
        assert not expecting(
            "groups",
            {
                "status": "done",
                "steps": {
                    "contain.shut": "done", "contain": "done", "parallel@1": "done",
                    "each.2.turn": "done", "each": "done", "last": "done",
                },
                "outputs": {"held": "C7"},
            },
            outcomes={"contain.shut": {"containment": "C7"}},
        )  # fmt: skip

    def test_each_round_uses_up_its_own_outcomes(self):
        """
        A key without a number is for every round; one with its number is for that round.
        """
        fails = {"fails": "refused", "message": "No."}
        played = play(
            "groups",
            outcomes={"each.turn": [fails, {}], "each.1.turn": {}},
            people=[{"decide": f"each.{n}.turn", "by": "sam", "choice": "retry"} for n in (0, 2)],
            expect={"status": "done"},
        )

        assert played.differences == ()
        assert [e.step for e in played.journal if isinstance(e, events.StepFailed)] == [
            "each.0.turn", "each.2.turn",
        ]  # fmt: skip

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_playing_a_case_twice_gives_the_same_journal(self, data: st.DataObject):
        """
        Whatever calls take, and whatever people do.
        """
        takes = st.sampled_from(["", "1s", "30s", "5m", "20m"])
        outcomes: dict[str, Any] = {}
        for key in ("contain.shut", "slow", "quick", "each.turn", "each.1.turn", "last"):
            if took := data.draw(takes):
                outcomes[key] = {"takes": took}
            if data.draw(st.integers(0, 4)) == 0:
                error = data.draw(st.sampled_from(["refused", "unreachable", "ambiguous"]))
                outcomes[key] = outcomes.get(key, {}) | {"fails": error, "message": "No."}
        acts = st.sampled_from(
            [
                {"pause": True},
                {"resume": True},
                {"cancel": True, "undo": True},
                {"cancel": True},
                {"undo": True},
                {"skip": "slow"},
                {"skip": "each.0.turn"},
                {"retry": "quick"},
                {"decide": "slow", "choice": "skip"},
            ]
        )
        at = st.sampled_from([{}, {"at": "10s"}, {"at": "2m"}, {"at": "1h"}])
        people = [
            data.draw(acts) | data.draw(at) | {"by": "iris"}
            for _ in range(data.draw(st.integers(0, 5)))
        ]

        first = play("groups", outcomes=outcomes, people=people)
        second = play("groups", outcomes=outcomes, people=people)

        assert first == second
        moments = [event.at for event in first.journal]
        assert moments == sorted(moments)
        assert moments[-1] - moments[0] < timedelta(hours=3)


class TestWhatCannotBePlayed:
    def test_an_alert_that_no_trigger_takes(self):
        """
        It is the one difference; nothing was started.
        """
        played = play("alerted", start_by=None, alert={"source": "alertmanager", "labels": {}})

        assert played.journal == ()
        assert played.differences == (
            "No trigger of the runbook takes this alert; nothing was started.",
        )

    def test_a_case_that_goes_in_circles(self, monkeypatch: pytest.MonkeyPatch):
        """
        It is ended after a number of events.
        """
        monkeypatch.setattr("bot.engine.player.MAX_EVENTS", 3)

        (difference,) = play("one").differences

        assert difference == "The case is not over after 3 events; it goes in circles."

    def test_a_runbook_without_a_rehearsal(self, tmp_path: Path):
        """
        It is a problem of the folder, once the others were rehearsed.
        """
        cases = [{"name": "A case", "start_by": "sam", "expect": {"status": "running"}}]
        rehearsal = yaml.safe_dump({"runbook": "one", "cases": cases})
        (tmp_path / "one.yaml").write_text(ONE)
        (tmp_path / "one.rehearsal.yaml").write_text(rehearsal)

        assert [each.differences for each in rehearse_folder(tmp_path, ACTIONS)] == [()]
        (tmp_path / "contain.yaml").write_text(INNER)
        with pytest.raises(RunbookInvalid, match=r"No rehearsal for contain\."):
            rehearse_folder(tmp_path, ACTIONS)


class TestDifferences:
    def test_commands_and_steps_are_shown_line_by_line(self):
        """
        What was expected against what came.
        """
        played = play(
            "one",
            expect={
                "status": "done",
                "commands": ["plan shut", "apply shut", "finish done"],
                "steps": {"shut": "done", "turn": "done"},
            },
        )

        assert played.differences == (
            "the run is running, not done",
            "turn is awaiting_approval, not done",
            "the commands are others",
        )
        lines = played.diff.splitlines()
        assert lines[:2] == ["--- expected steps", "+++ actual steps"]
        assert {"-turn: done", "+turn: awaiting_approval", " shut: done"} <= set(lines)
        assert {"-finish done", "+verify shut", "+ask approval turn", " apply shut"} <= set(lines)
        assert "ask approval turn" in played.told

    def test_outputs_order_and_what_was_undone(self):
        """
        Each says what came.
        """
        assert expecting(
            "groups",
            {"status": "done", "outputs": {"held": "C8"}, "order": ["each", "contain"],
             "undone": ["quick"], "steps": {"each.7.turn": "done"}, "reason": "x"},
        ) == (
            "each.7.turn is not there, not done",
            "the order is contain, each, not each, contain",
            "undone are none, not quick",
            "the outputs are others",
            "the reason is ''",
        )  # fmt: skip


class TestJunit:
    def test_it_has_a_suite_for_each_runbook(self):
        """
        With what failed, and where it stands.
        """
        root = ElementTree.fromstring(
            junit_xml(
                [
                    Rehearsed("a", "works", (), "", "a.rehearsal.yaml", 3),
                    Rehearsed("b", "works", (), "", "b.rehearsal.yaml", 3),
                    Rehearsed("a", "fails", ("x is y",), "-x\n+y", "a.rehearsal.yaml", 9),
                ]
            )
        )

        assert [suite.get("name") for suite in root] == ["a", "b"]
        assert (root.get("tests"), root.get("failures")) == ("3", "1")
        case = root[0][1]
        assert case.attrib == {
            "name": "fails", "classname": "a", "file": "a.rehearsal.yaml", "line": "9", "time": "0",
        }  # fmt: skip
        assert case[0].get("message") == "x is y"
        assert case[0].text == "a.rehearsal.yaml:9\nx is y\n-x\n+y"

    @given(st.text(max_size=60) | st.just("\x00\x1b[31m]]>&<\ud800\uffff\r\n"))
    def test_it_is_well_formed_whatever_was_written(self, text: str):
        """
        What XML cannot hold is replaced.
        """
        results = [Rehearsed(text, text, (text,), text, text, 1)]

        [suite] = ElementTree.fromstring(junit_xml(results))

        assert suite[0][0].tag == "failure"
        assert junit_xml(results) == junit_xml(results)


RUNBOOK = """\
id: {id}
name: A book
summary: For a test.
severity: sev2
owners: [oncall]
steps:
  - id: over
    manual: {{ask: "Is it over?"}}
"""


class TestCommand:
    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("FIREDOOR_CONFIG", raising=False)
        folder = tmp_path / "runbooks"
        folder.mkdir()
        (folder / "a.yaml").write_text(RUNBOOK.format(id="a"))
        self.rehearsal = folder / "a.rehearsal.yaml"
        self.write("running")

    def write(self, status: str) -> None:
        case = {"name": "Nobody [red]comes", "start_by": "sam", "expect": {"status": status}}
        self.rehearsal.write_text(yaml.safe_dump({"runbook": "a", "cases": [case]}))

    def call(self, *words: str) -> Any:
        return CliRunner().invoke(cli, ["rehearse", *words], catch_exceptions=False)

    def test_the_folder_here_needs_no_settings(self):
        """
        Without a folder and without settings.
        """
        done = self.call()

        assert done.exit_code == 0
        assert "1 cases, 0 failed" in done.stdout

    def test_what_differs_is_shown_and_counted(self):
        """
        Exit code 4, the place of the case, and the difference; for CI too.
        """
        self.write("done")

        done = self.call("runbooks", "--junit", "junit.xml")

        assert done.exit_code == 4
        assert "runbooks/a.rehearsal.yaml:2: Nobody [red]comes" in done.stdout
        assert "the run is running, not done" in done.stdout
        assert ElementTree.parse("junit.xml").getroot().get("failures") == "1"
        [told] = json.loads(self.call("--json").stdout)
        assert (told["ok"], told["says"]) == (False, ["the run is running, not done"])

    def test_results_that_cannot_be_written_are_said(self):
        """
        As bad input.
        """
        from bot.errors import BadInput

        with pytest.raises(BadInput, match="--junit"):
            self.call("--junit", "runbooks")

    def test_results_say_where_they_stand(self):
        """
        File and line of the case.
        """
        [result] = rehearse_folder(Path("runbooks"), {})

        assert (result.file, result.line) == ("runbooks/a.rehearsal.yaml", 2)
