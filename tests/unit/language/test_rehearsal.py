"""Reading rehearsals."""

# ruff: noqa: E501  # in the tables below a rule, its place and its message stand side by side

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from bot.engine.state import StepStatus
from bot.errors import RunbookInvalid
from bot.language.load import load
from bot.language.rehearsal import (
    START,
    STEP_STATUSES,
    Act,
    Fails,
    Gives,
    check_rehearsal,
    load_rehearsal,
)
from bot.model.incident import RunStatus
from tests.unit.language.acme_actions import ACTIONS
from tests.unit.language.texts import CONTAIN, EVERYTHING, GOOD, REHEARSAL

RUNBOOKS = {"api1": load(GOOD, "good.yaml", ACTIONS)}


def found(*changes: tuple[str, str]) -> list[tuple[str, str]]:
    text = REHEARSAL
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    rehearsal, problems = check_rehearsal(text, RUNBOOKS)
    assert (rehearsal is None) == bool(problems)
    return [(each.where, each.message) for each in problems]


class TestAGoodRehearsal:
    def test_everything_that_it_says_is_read(self):
        """
        Loading gives plain frozen data, ready to be played.
        """
        rehearsal = load_rehearsal(REHEARSAL, "r.yaml", RUNBOOKS)
        alert_case, person_case = rehearsal.cases

        assert rehearsal.runbook == "api1"
        [(key, endpoint)] = rehearsal.endpoints.items()
        assert (key, endpoint.key, endpoint.owner) == (key, key, "team-orders")
        assert alert_case.alert is not None
        assert alert_case.alert.starts_at == datetime(2026, 2, 28, 9, tzinfo=UTC)
        assert (alert_case.now, alert_case.start_by, alert_case.line) == (START, "", 5)
        assert alert_case.outcomes["close"] == (Gives({"containment": "C1"}),)
        assert alert_case.outcomes["reads"][0] == Fails(
            "unreachable", "The log is away.", None, 30.0
        )
        assert alert_case.people[0] == Act("approve", "rotate", "slack:U1", ("security",))
        assert alert_case.people[2].values == {"version": "1.2.3", "checks": 1}
        assert alert_case.people[3].reason == "Not now."
        assert alert_case.expect.status is RunStatus.STOPPED
        assert alert_case.expect.steps == {"close": "done", "rotate": "done", "wipe": "stopped"}
        assert alert_case.expect.order == ("close", "reads", "rotate")
        assert person_case.alert is None
        assert person_case.start_by == "slack:U9"
        assert person_case.now == datetime(2026, 2, 28, 23, tzinfo=UTC)
        assert person_case.inputs == {"endpoint": "GET /api/orders/{order_id}"}
        assert [act.kind for act in person_case.people] == ["wait", "decide", "cancel"]
        assert person_case.people[1].choice == "skip"

    def test_an_alert_starts_when_the_case_begins(self):
        """
        Unless it says otherwise.
        """
        text = REHEARSAL.replace("      starts_at: 2026-02-28T09:00:00Z\n", "")

        case = load_rehearsal(text, "r.yaml", RUNBOOKS).cases[0]

        assert case.alert is not None
        assert case.alert.starts_at == START

    def test_its_words_are_the_engines(self):
        """
        A rehearsal speaks of statuses as the engine does.
        """
        assert set(STEP_STATUSES) == {status.value for status in StepStatus}


class TestRules:
    @pytest.mark.parametrize(
        ("changes", "where", "part"),
        [
            ([("runbook: api1\n", "runbook: api2\n")], "runbook", "Did you mean 'api1'?"),
            ([("runbook: api1\n", "")], "", "'runbook' is missing"),
            ([("runbook: api1\n", "runbok: api1\n")], "runbok", "Did you mean 'runbook'?"),
            ([("[personal]}", "5}")], "inventory.GET /api/orders/{order_id}.data_classification", "tuple"),
            ([("[personal]}", "[personal], own: x}")], "inventory.GET /api/orders/{order_id}.own", "unknown here"),
            ([("{owner: team-orders, data_classification: [personal]}", "team-orders")], "inventory.GET /api/orders/{order_id}", "a mapping such as {owner"),
            ([("name: Nobody comes", "name: An alert closes at once and people do the rest")], "cases[1]", "Two cases are called"),
            ([("  - name: Nobody comes\n    start_by", "  - start_by")], "cases[1]", "'name' is missing"),
            ([("    start_by: \"slack:U9\"\n", "")], "cases[1]", "either by an 'alert' or by a person"),
            ([("    outcomes:\n", "    inputs: {}\n    outcomes:\n")], "cases[0].inputs", "The trigger gives the inputs"),
            ([("2026-03-01T00:00:00+01:00", "noon")], "cases[1].now", "'noon' is not a moment"),
            ([("2026-02-28T09:00:00Z", "2026-02-28")], "cases[0].alert.starts_at", "needs an offset"),
            ([("      source: alertmanager\n", "")], "cases[0].alert", "'source' is missing"),
            ([("alertname: CrossOwnerReads,", "alertname: 5,")], "cases[0].alert.labels.alertname", "Put it in quotes"),
            ([("close: {containment: C1}", "clsoe: {containment: C1}")], "cases[0].outcomes.clsoe", "Did you mean 'close'?"),
            ([("close: {containment: C1}", "close: {contianment: C1}")], "cases[0].outcomes.close.contianment", "Did you mean 'containment'?"),
            ([("close: {containment: C1}", "close: C1")], "cases[0].outcomes.close", "facts, or {fails"),
            ([("close: {containment: C1}", "fixed: {version: C1}")], "cases[0].outcomes.fixed", "Put the answer under 'people'"),
            ([("close: {containment: C1}", "close: {containment: \"{{ run.id }}\"}")], "cases[0].outcomes.close.containment", "literal values"),
            ([("fails: unreachable", "fails: badly")], "cases[0].outcomes.reads[0].fails", "'badly' is not known"),
            ([("message: The log is away., ", "")], "cases[0].outcomes.reads[0]", "'message' is missing"),
            ([("retry_after: 30s", "phase: planning")], "cases[0].outcomes.reads[0].phase", "There are plan, apply"),
            ([("{wait: rotate}", "{sleep: rotate}")], "cases[1].people[0]", "An act is one of approve, reject"),
            ([("{wait: rotate}", "rest")], "cases[1].people[0]", "an act: one of approve"),
            ([("{wait: rotate}", "{wait: roate}")], "cases[1].people[0].wait", "Did you mean 'rotate'?"),
            ([("{wait: rotate}", "{approve: rotate, by: me}")], "cases[1].people[0]", "'groups' is missing"),
            ([("choice: skip", "choice: maybe")], "cases[1].people[1].choice", "There are retry, skip, stop, done"),
            ([("{answer: fixed, by: \"slack:U1\", values: {version: 1.2.3}}", "{answer: close, by: me}")], "cases[0].people[2].answer", "asks nothing"),
            ([("values: {version: 1.2.3}", "values: {version: 1.2.3, checks: x}")], "cases[0].people[2].values", "'x' is not a whole number"),
            ([(", values: {version: 1.2.3}", "")], "cases[0].people[2].values", "version: a value is needed"),
            ([("      status: stopped\n", "")], "cases[0].expect", "'status' is missing"),
            ([("      status: stopped\n", "      status: undoing\n")], "cases[0].expect.status", "'undoing' is not known"),
            ([("wipe: stopped}", "wipe: over}")], "cases[0].expect.steps.wipe", "'over' is not known"),
            ([("wipe: stopped}", "wip: stopped}")], "cases[0].expect.steps.wip", "Did you mean 'wipe'?"),
            ([("order: [close, reads, rotate]", "order: [close, red]")], "cases[0].expect.order[1]", "Did you mean 'reads'?"),
            ([("    expect: {status: cancelled}\n", "")], "cases[1]", "'expect' is missing"),
        ],
    )  # fmt: skip
    def test_each_broken_rule_is_one_problem(self, changes: Any, where: str, part: str):
        """
        Breaking one rule gives one problem, at its path.
        """
        [(at, message)] = found(*changes)

        assert at == where
        assert part in message

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "The file is empty."),
            ("- a", "Here goes a rehearsal: a mapping with runbook and cases, not a list."),
            ("runbook: api1\ncases: []", "A rehearsal has at least one case."),
            ("runbook: api1\ncases: [a]", "Here goes a case such as {name: …, expect: …}, not the text 'a'."),
            ("runbook: api1\ncases: *a", "'*a': aliases are not allowed. Write it out."),
        ],
    )  # fmt: skip
    def test_what_is_no_rehearsal(self, text: str, message: str):
        """
        Something else altogether is one problem.
        """
        with pytest.raises(RunbookInvalid) as caught:
            load_rehearsal(text, "r.yaml", RUNBOOKS)

        [problem] = caught.value.problems
        assert problem.message == message

    def test_aliases_inside_are_one_problem_each(self):
        """
        What YAML refused is not complained about again.
        """
        for old, new in (
            ("close: {containment: C1}", "close: *a"),
            ("{alertname: CrossOwnerReads,", "{alertname: *a,"),
        ):
            assert [message for _, message in found((old, new))] == [
                "'*a': aliases are not allowed. Write it out."
            ]

    def test_without_its_runbook_the_form_is_checked(self):
        """
        Then steps and facts cannot be; the unknown runbook is the one problem.
        """
        _, problems = check_rehearsal(REHEARSAL, {})

        assert [each.message for each in problems] == [
            "No runbook is called 'api1'. There is none."
        ]


KEYED = load(EVERYTHING, "leak.yaml", ACTIONS, {"contain-endpoint": CONTAIN})


def problems_of(**case: Any) -> list[tuple[str, str]]:
    """The problems of a case of a runbook with groups."""
    whole = {"name": "x", "start_by": "sam", "expect": {"status": "done"}, **case}
    text = yaml.safe_dump({"runbook": "leak", "cases": [whole]}, sort_keys=False)
    _, problems = check_rehearsal(text, {"leak": KEYED})
    return [(each.where.removeprefix("cases[0]."), each.message) for each in problems]


class TestKeys:
    def test_steps_are_named_by_key(self):
        """
        In rounds, in called runbooks, in branches, and groups themselves.
        """
        keys = [
            "reads", "shut", "second", "parallel@1", "each", "each.0.turn", "each.12.inner",
            "each.2.inner.0.told", "contain.close", "contain.last", "read-again", "report",
        ]  # fmt: skip
        expect = {"status": "done", "steps": dict.fromkeys(keys, "done"), "order": keys}

        assert problems_of(expect=expect) == []

    @pytest.mark.parametrize(
        ("key", "part"),
        [
            ("each.turn", "'each' has rounds. Say which one: each.0.turn."),
            ("each.1", "'each.1' is a round, not a step."),
            ("each.1.trun", "No step is called 'trun' in 'each.1'. Did you mean 'turn'?"),
            ("each.1.inner.told", "Say which one: each.1.inner.0.told."),
            ("contain.shut", "No step is called 'shut' in 'contain'."),
            ("contain.0.close", "No step is called '0' in 'contain'."),
            ("reads.x", "Step 'reads' holds no steps that are named after it."),
            ("parallel@1.shut", "Step 'parallel@1' holds no steps that are named after it."),
            ("Each.1.turn", "is not a step's key"),
            ("each..turn", "is not a step's key"),
            ("turn", "No step is called 'turn'."),
        ],
    )  # fmt: skip
    def test_a_wrong_key_is_said(self, key: str, part: str):
        """
        With what may have been meant; wherever a key stands.
        """
        for where, case in (
            ("people[0].skip", {"people": [{"skip": key, "by": "sam"}]}),
            ("expect.undone[0]", {"expect": {"status": "done", "undone": [key]}}),
            ("expect.commands[0]", {"expect": {"status": "done", "commands": [f"run {key}"]}}),
        ):
            [(at, message)] = problems_of(**case)
            assert at == where
            assert part in message

    @pytest.mark.parametrize("key", [7, None, True, ["turn"], {"turn": 1}])
    def test_a_key_is_text(self, key: Any):
        """
        Whatever else stands there is refused.
        """
        problems = problems_of(people=[{"skip": key, "by": "sam"}])

        assert problems == [("people[0].skip", "Here goes a step's key, as text.")]

    def test_a_key_that_yaml_refuses_is_said_once(self):
        """
        Nothing more is said about it as a key.
        """
        text = REHEARSAL.replace("{wait: rotate}", "{wait: *rotate}")

        _, problems = check_rehearsal(text, RUNBOOKS)

        assert [problem.where for problem in problems] == ["cases[1].people[0].wait"]
        assert "aliases are not allowed" in problems[0].message

    def test_each_wrong_value_of_an_answer_is_a_problem_of_its_own(self):
        """
        In one line; values that are no mapping are one problem and no more.
        """
        answer = {"answer": "fixed", "by": "sam"}

        problems = problems_of(people=[{**answer, "values": {"a": "1", "b": 2}}])

        assert [(where, message.partition(".")[0]) for where, message in problems] == [
            ("people[0].values", "a: no field has this name"),
            ("people[0].values", "b: no field has this name"),
            ("people[0].values", "version: a value is needed (string)"),
        ]
        assert not any("\n" in message for _, message in problems)
        [(where, message)] = problems_of(people=[{**answer, "values": "1.2.3"}])
        assert where == "people[0].values"
        assert message.startswith("Here goes a mapping of fields to values")

    def test_outcomes_may_be_for_every_round(self):
        """
        A key without numbers; and outcomes of what calls nothing are refused.
        """
        assert problems_of(outcomes={"each.turn": {}, "each.1.turn": {"takes": "5m"}}) == []
        [(_, group)] = problems_of(outcomes={"each": {}})
        [(_, question)] = problems_of(outcomes={"contain.ask": {}})
        assert "holds other steps" in group
        assert "Put the answer under 'people'" in question

    @pytest.mark.parametrize(
        ("case", "where", "part"),
        [
            ({"people": [{"pause": False, "by": "sam"}]}, "people[0].pause", "Write pause: true"),
            ({"people": [{"undo": "x", "by": "sam"}]}, "people[0].undo", "true or false"),
            ({"people": [{"cancel": True, "by": "sam", "undo": 1}]}, "people[0].undo", "true or false"),
            ({"people": [{"resume": True}]}, "people[0]", "'by' is missing"),
            ({"people": [{"override": "first", "by": "sam", "groups": ["x"]}]}, "people[0]", "'reason' is missing"),
            ({"people": [{"skip": 5, "by": "sam"}]}, "people[0].skip", "as text"),
            ({"people": [{"wait": "reads", "at": "5m"}]}, "people[0].at", "unknown here"),
            ({"people": [{"pause": True, "by": "sam", "at": "soon"}]}, "people[0].at", "not a duration"),
            ({"outcomes": {"reads": {"takes": 5}}}, "outcomes.reads.takes", "a duration"),
            ({"expect": {"status": "done", "commands": ["go reads"]}}, "expect.commands[0]", "A command is one of 'plan …'"),
            ({"expect": {"status": "done", "commands": [1]}}, "expect.commands[0]", "A command is one of"),
            ({"expect": {"status": "done", "commands": ["finish well"]}}, "expect.commands[0]", "does not end 'well'"),
            ({"expect": {"status": "done", "order": ["reads", "reads"]}}, "expect.order[1]", "here twice"),
            ({"expect": {"status": "done", "undone": [1]}}, "expect.undone[0]", "as text"),
            ({"expect": {"status": "done", "outputs": []}}, "expect.outputs", "a mapping of outputs"),
        ],
    )  # fmt: skip
    def test_each_broken_rule_of_what_is_new(self, case: Any, where: str, part: str):
        """
        One problem each, at its place.
        """
        [(at, message)] = problems_of(**case)

        assert at == where
        assert part in message

    def test_what_is_new_is_read(self):
        """
        Times, words about the run, and what is expected exactly.
        """
        text = yaml.safe_dump(
            {
                "runbook": "leak",
                "cases": [
                    {
                        "name": "x",
                        "start_by": "sam",
                        "outcomes": {"shut": {"containment": "C1", "takes": "5m"}},
                        "people": [
                            {"cancel": True, "by": "sam", "undo": True, "at": "10m"},
                            {"override": "first", "by": "sam", "groups": ["x"], "reason": "Now."},
                        ],
                        "expect": {
                            "status": "undone",
                            "commands": ["run reads", "finish undone"],
                            "undone": [],
                            "outputs": {},
                        },
                    }
                ],
            }
        )

        [case] = load_rehearsal(text, "r.yaml", {"leak": KEYED}).cases

        assert case.outcomes["shut"] == (Gives({"containment": "C1"}, 300.0),)
        assert (case.people[0].undo, case.people[0].at_s) == (True, 600.0)
        assert (case.people[1].kind, case.people[1].reason) == ("override", "Now.")
        assert case.expect.commands == ("run reads", "finish undone")
        assert (case.expect.undone, case.expect.outputs) == ((), {})
