"""Reading a runbook: what is taken, and every rule with its place and message."""

# ruff: noqa: E501  # in the tables below a rule, its place and its message stand side by side

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from bot.action import Effect
from bot.errors import NotFound, RunbookInvalid
from bot.folders import load_folder
from bot.language.expressions import Expression
from bot.language.load import check, load
from bot.language.runbook import Approval, InputType, Retry
from bot.model.incident import Severity
from tests.unit.language.acme_actions import ACTIONS
from tests.unit.language.texts import GOOD, REHEARSAL


def problems_of(text: str) -> list[tuple[int, int, str, str]]:
    runbook, problems = check(text, "x.yaml", ACTIONS)
    assert (runbook is None) == bool(problems)
    return [(each.line, each.column, each.where, each.message) for each in problems]


def changed(*changes: tuple[str, str]) -> str:
    """The good runbook with some texts replaced; each must be there, once."""
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def found(*changes: tuple[str, str]) -> list[tuple[str, str]]:
    """Path and message of each problem."""
    return [(where, message) for _, _, where, message in problems_of(changed(*changes))]


class TestAGoodRunbook:
    def test_everything_that_it_says_is_read(self):
        """
        Loading gives plain frozen data.
        """
        runbook = load(GOOD, "good.yaml", ACTIONS)

        assert (runbook.id, runbook.severity, runbook.owasp) == ("api1", Severity.SEV1, "API1:2023")
        assert runbook.owners == ("security-oncall",)
        assert runbook.text == GOOD
        assert runbook.digest == hashlib.sha256(GOOD.encode()).hexdigest()
        assert [step.id for step in runbook.steps] == [
            "close",
            "reads",
            "rotate",
            "tell",
            "fixed",
            "wipe",
        ]

    def test_inputs(self):
        """
        An input has a type, and a default or none.
        """
        inputs = load(GOOD, "good.yaml", ACTIONS).inputs

        assert inputs["endpoint"].type is InputType.ENDPOINT
        assert inputs["endpoint"].has_default is False
        assert inputs["endpoint"].examples == ("GET /api/orders/{order_id}",)
        assert inputs["since"].has_default is True
        assert isinstance(inputs["since"].default, Expression)

    def test_triggers(self):
        """
        A trigger has a source, a condition, inputs, and steps that may run at once.
        """
        [trigger] = load(GOOD, "good.yaml", ACTIONS).triggers

        assert (trigger.source, trigger.auto) == ("alertmanager", ("close",))
        assert trigger.condition is not None
        assert trigger.condition.references == {("alert", "labels", "alertname")}
        assert trigger.inputs.keys() == {"endpoint", "since"}

    def test_steps_that_use_an_action(self):
        """
        Such a step knows its effect and facts from the action.
        """
        close, reads, rotate, *_ = load(GOOD, "good.yaml", ACTIONS).steps

        assert (close.uses, close.effect, close.ttl_s) == ("gateway.close", Effect.CHANGE, 1800.0)
        assert (close.line, close.on_failure) == (16, "undo")
        assert close.fact_names == ("containment",)
        assert close.params["rate"] == "1/s"
        assert isinstance(close.params["endpoint"], Expression)
        assert (reads.retry, reads.timeout_s) == (Retry(3, 10.0), 120.0)
        assert (reads.effect, reads.on_failure, reads.approval) == (Effect.READ, "ask", None)
        assert rotate.approval == Approval(("security",), 2, 900.0, "skip")
        assert rotate.retry == Retry()

    def test_steps_that_ask_a_person(self):
        """
        The answer's fields, and who gave it, are the step's facts.
        """
        fixed = load(GOOD, "good.yaml", ACTIONS).step("fixed")

        assert fixed.manual is not None
        assert (fixed.uses, fixed.effect) == (None, None)
        assert (fixed.manual.ask, fixed.manual.timeout_s, fixed.manual.on_timeout) == (
            "Is the ownership check deployed?",
            3600.0,
            "skip",
        )
        assert fixed.manual.fields["checks"].default == 1
        assert fixed.fact_names == ("version", "checks", "answered_by")

    def test_the_smallest_runbook(self):
        """
        Only what is needed is required.
        """
        text = """\
id: a
name: A
summary: Asks.
severity: sev4
owners: [b]
steps: [{id: c, manual: {ask: Why so}}]
"""
        runbook = load(text, "a.yaml", ACTIONS)

        assert (runbook.inputs, runbook.triggers, runbook.owasp) == ({}, (), None)
        [step] = runbook.steps
        assert step.fact_names == ("answered_by",)


class TestManyMistakes:
    def test_five_mistakes_give_five_problems_at_their_places(self):
        """
        One round trip for the author: all mistakes at once, and nothing that follows from them.
        """
        text = changed(
            ("severity: sev1", "severty: sev1"),
            ("timeout: 2m", "timeout: 2x"),
            ("    ttl: 30m\n", "    ttl: 30\n"),
            ("steps.reads.count", "steps.reads.cuont"),
            ("auto: [close]", "auto: [close, rotate]"),
        )

        assert problems_of(text) == [
            (5, 1, "severty", "The key 'severty' is unknown here. Did you mean 'severity'?"),
            (
                14,
                19,
                "triggers[0].auto[1]",
                "Step 'rotate' has an approval, so it always waits for people. Take it from "
                "'auto', or take the approval from the step.",
            ),
            (
                19,
                10,
                "steps[0].ttl",
                "Here goes a duration such as 90s, 15m, 4h or 2d, not 30.",
            ),
            (
                27,
                14,
                "steps[1].timeout",
                "'2x' is not a duration: a duration is a whole number and s, m, h or d, such as "
                "90s, 15m, 4h, 2d.",
            ),
            (
                37,
                31,
                "steps[3].with.people",
                "steps.reads has no 'cuont'; it has anything, by_day, count, either, first_at, mode, "
                "paths, principals, skipped, status. Did you mean 'count'?",
            ),
        ]

    def test_an_unknown_action_is_one_problem(self):
        """
        What hangs on it (its parameters, its facts) is not complained about too.
        """
        assert found(("uses: logs.reads", "uses: logs.red")) == [
            ("steps[1].uses", "No action is called 'logs.red'. Did you mean 'logs.reads'?")
        ]

    def test_a_misspelt_key_is_read_as_what_was_meant(self):
        """
        So its value is checked too, and nothing is missing.
        """
        assert found(
            ("    with: {credential: orders, mode: routine}", "    wth: {credntial: 5}")
        ) == [
            ("steps[2].wth", "The key 'wth' is unknown here. Did you mean 'with'?"),
            (
                "steps[2].with.credntial",
                "The key 'credntial' is unknown here. Did you mean 'credential'?",
            ),
            ("steps[2].with.credntial", "This should be a valid string."),
        ]

    def test_load_raises_all_of_them(self):
        """
        The error says the file and every problem, in file order.
        """
        with pytest.raises(RunbookInvalid) as caught:
            load("id: 1\nname: {}\n", "bad.yaml", ACTIONS)

        lines = str(caught.value).splitlines()
        assert lines[0] == "bad.yaml: 6 problems, nothing was run."
        assert lines[-1] == "  line 2, column 7, name: Here goes text, not a mapping."
        assert caught.value.exit_code == 2


TOP = ("name: Broken object level authorization\n", "")


class TestRules:
    @pytest.mark.parametrize(
        ("changes", "where", "part"),
        [
            # the runbook itself
            pytest.param([("id: api1\n", "id: 1st\n")], "id", "'1st' is not an id", id="id-form"),
            pytest.param([("id: api1\n", "id: Api\n")], "id", "'Api' is not an id", id="id-case"),
            pytest.param([TOP], "", "'name' is missing here", id="missing"),
            pytest.param([("sev1", "sev9")], "severity", "'sev9' is not known here", id="severity"),
            pytest.param(
                [("API1:2023", "API11:2023")], "owasp", "not an OWASP API class", id="owasp"
            ),
            pytest.param(
                [("[security-oncall]", "[]")], "owners", "at least one group", id="owners"
            ),
            pytest.param(
                [("[security-oncall]", "x")], "owners", "a list of a group of", id="owners-text"
            ),
            pytest.param(
                [("[security-oncall]", "[a, a]")], "owners[1]", "'a' is here twice", id="twice"
            ),
            pytest.param(
                [("[security-oncall]", "[A]")], "owners[0]", "id of a group", id="owner-id"
            ),
            pytest.param(
                [("name: Broken object level authorization", "name: ' '")],
                "name",
                "empty",
                id="blank",
            ),
            pytest.param(
                [("name: Broken object level authorization", "name:")],
                "name",
                "not nothing",
                id="null",
            ),
            pytest.param(
                [("name: Broken object level authorization", "name: true")],
                "name",
                "not true",
                id="bool",
            ),
            pytest.param(
                [("name: Broken object level authorization", 'name: "{{ run.id }}"')],
                "name",
                "An expression cannot stand here",
                id="expression-in-name",
            ),
            pytest.param(
                [("id: api1\n", "id: api1\nversion: 3\n")],
                "version",
                "There are always, approvals, deadline, id, inputs, name",
                id="unknown-key",
            ),
            # inputs
            pytest.param(
                [
                    (
                        "  since: {type: datetime",
                        "  End: {type: string, default: x}\n  since: {type: datetime",
                    )
                ],
                "inputs.End",
                "is not a name",
                id="input-name",
            ),
            pytest.param(
                [("{type: endpoint, examples", "{examples")],
                "inputs.endpoint",
                "'type' is missing",
                id="input-type-missing",
            ),
            pytest.param(
                [("type: datetime", "type: date")],
                "inputs.since.type",
                "Did you mean 'datetime'?",
                id="input-type",
            ),
            pytest.param(
                [('GET /api/orders/{order_id}"]}', 'get orders"]}')],
                "inputs.endpoint.examples[0]",
                "A method in capitals".lower(),
                id="example",
            ),
            pytest.param(
                [("\"{{ now() - duration('24h') }}\"", "yesterday")],
                "inputs.since.default",
                "'yesterday' is not a moment",
                id="default",
            ),
            pytest.param(
                [("\"{{ now() - duration('24h') }}\"", '"{{ 5 }}"')],
                "inputs.since.default",
                "5 is not a moment",
                id="default-kind",
            ),
            pytest.param(
                [("\"{{ now() - duration('24h') }}\"", '"{{ alert.starts_at }}"')],
                "inputs.since.default",
                "only now() and literal values can",
                id="default-reads",
            ),
            pytest.param(
                [("\"{{ now() - duration('24h') }}\"", '"{{ now( }}"')],
                "inputs.since.default",
                "cannot be read",
                id="default-syntax",
            ),
            pytest.param(
                [("\"{{ now() - duration('24h') }}\"", "[1]")],
                "inputs.since.default",
                "[1] is not a moment",
                id="default-list",
            ),
            pytest.param(
                [("{type: datetime, ", "{type: datetime, enum: [2026-01-01T00:00:00Z], ")],
                "inputs.since.default",
                "is not one of",
                id="enum",
            ),
            pytest.param(
                [("{type: datetime, ", "{type: datetime, enum: 5, ")],
                "inputs.since.enum",
                "a list of values",
                id="enum-list",
            ),
            pytest.param(
                [
                    (
                        "  since: {type: datetime, default: \"{{ now() - duration('24h') }}\"}",
                        "  since: datetime",
                    )
                ],
                "inputs.since",
                "a mapping such as {type: string}",
                id="input-text",
            ),
            # triggers
            pytest.param(
                [("  - source: alertmanager\n    if", "  - if")],
                "triggers[0]",
                "'source' is missing",
                id="source",
            ),
            pytest.param(
                [("\"{{ alert.labels.alertname == 'CrossOwnerReads' }}\"", "true")],
                "triggers[0].if",
                '"{{ an expression }}", not true',
                id="condition",
            ),
            pytest.param(
                [('endpoint: "{{ alert.labels.endpoint }}", ', "")],
                "triggers[0].inputs",
                "no value for endpoint",
                id="trigger-lacks",
            ),
            pytest.param(
                [
                    (
                        '    inputs: {endpoint: "{{ alert.labels.endpoint }}", since: "{{ alert.starts_at }}"}\n',
                        "",
                    )
                ],
                "triggers[0]",
                "no value for endpoint",
                id="trigger-lacks-all",
            ),
            pytest.param(
                [('since: "{{ alert.starts_at }}"', "since: soon")],
                "triggers[0].inputs.since",
                "'soon' is not a moment",
                id="trigger-literal",
            ),
            pytest.param(
                [('since: "{{ alert.starts_at }}"', 'since: ["{{ alert.starts_at }}"]')],
                "triggers[0].inputs.since",
                "is not a moment",
                id="trigger-list",
            ),
            pytest.param(
                [('since: "{{ alert.starts_at }}"', 'sinse: "{{ alert.starts_at }}"')],
                "triggers[0].inputs.sinse",
                "Did you mean 'since'?",
                id="trigger-input",
            ),
            pytest.param(
                [("{{ alert.starts_at }}", "{{ alert.begins }}")],
                "triggers[0].inputs.since",
                "alert has no 'begins'",
                id="alert-field",
            ),
            pytest.param(
                [("{{ alert.starts_at }}", "{{ inputs.since }}")],
                "triggers[0].inputs.since",
                "'inputs' cannot be read in a trigger; alert can",
                id="trigger-root",
            ),
            pytest.param(
                [("auto: [close]", "auto: [clsoe]")],
                "triggers[0].auto[0]",
                "Did you mean 'close'?",
                id="auto-unknown",
            ),
            pytest.param(
                [("auto: [close]", "auto: [fixed]")],
                "triggers[0].auto[0]",
                "asks a person",
                id="auto-manual",
            ),
            pytest.param(
                [
                    ("auto: [close]", "auto: [wipe]"),
                    (
                        "    uses: data.wipe\n    approval: {from: [security]}\n",
                        "    uses: data.wipe\n",
                    ),
                ],
                "triggers[0].auto[0]",
                "cannot be taken back",
                id="auto-irreversible",
            ),
            pytest.param(
                [("auto: [close]", "auto: close")],
                "triggers[0].auto",
                "a list of a step",
                id="auto-text",
            ),
            # steps
            pytest.param(
                [("  - id: tell\n    uses", "  - uses")],
                "steps[3]",
                "'id' is missing",
                id="step-id",
            ),
            pytest.param(
                [("  - id: tell\n", "  - id: rotate\n")],
                "steps[3].id",
                "Two steps are called 'rotate'",
                id="step-twice",
            ),
            pytest.param(
                [("  - id: tell\n", "  - id: Tell\n")],
                "steps[3].id",
                "is not an id",
                id="step-id-form",
            ),
            pytest.param(
                [("    uses: data.wipe\n", "")],
                "steps[5]",
                "needs one of 'uses' (an action), 'manual' (a question)",
                id="neither",
            ),
            pytest.param(
                [("    uses: data.wipe\n", "    uses: data.wipe\n    manual: {ask: x}\n")],
                "steps[5]",
                "this one has 'uses' and 'manual'. Make a step of each.",
                id="both",
            ),
            pytest.param(
                [("    uses: data.wipe\n", "    uses: [data.wipe]\n")],
                "steps[5].uses",
                "text, not a list",
                id="uses-list",
            ),
            pytest.param(
                [("    uses: data.wipe\n", "    uses: x.y\n")],
                "steps[5].uses",
                "There are credentials.rotate, data.wipe",
                id="uses-list-all",
            ),
            pytest.param(
                [("    uses: data.wipe\n", "    uses: data.wipe\n    always: true\n")],
                "steps[5].always",
                "The key 'always' is unknown here",
                id="always",
            ),
            pytest.param(
                [('"{{ steps.reads.principals.services | length > 0 }}"', "yes")],
                "steps[2].if",
                "not the text 'yes'",
                id="if-text",
            ),
            pytest.param(
                [
                    (
                        "{{ steps.reads.principals.services | length > 0 }}",
                        "{{ steps.reads.count }} > 0",
                    )
                ],
                "steps[2].if",
                "never a mix",
                id="if-mixed",
            ),
            pytest.param(
                [("    ttl: 30m\n", "")],
                "steps[0]",
                "'ttl' is missing: gateway.close holds a containment",
                id="ttl-missing",
            ),
            pytest.param(
                [("    timeout: 2m\n", "    ttl: 2m\n")],
                "steps[1].ttl",
                "holds no containment",
                id="ttl-refused",
            ),
            pytest.param(
                [("    ttl: 30m\n", "    ttl: 0m\n")],
                "steps[0].ttl",
                "The duration is zero",
                id="ttl-zero",
            ),
            pytest.param(
                [("    timeout: 2m\n", "    approval: {from: [a]}\n")],
                "steps[1].approval",
                "only reads and never asks",
                id="approval-read",
            ),
            pytest.param(
                [("    timeout: 2m\n", "    on_failure: undoo\n")],
                "steps[1].on_failure",
                "There are ask, stop, continue, undo.",
                id="on-failure",
            ),
            pytest.param(
                [("{attempts: 3, delay: 10s}", "{delay: 10s}")],
                "steps[1].retry",
                "'attempts' is missing",
                id="retry-attempts",
            ),
            pytest.param(
                [("{attempts: 3, delay: 10s}", "{attempts: 0}")],
                "steps[1].retry.attempts",
                "0 is not from 1 to 10",
                id="retry-zero",
            ),
            pytest.param(
                [("{attempts: 3, delay: 10s}", "{attempts: '3'}")],
                "steps[1].retry.attempts",
                "not the text '3'",
                id="retry-text",
            ),
            pytest.param(
                [("{attempts: 3, delay: 10s}", "3")],
                "steps[1].retry",
                "a mapping such as {attempts: 3}",
                id="retry-number",
            ),
            pytest.param(
                [("[security], required: 2,", "[], required: 2,")],
                "steps[2].approval.from",
                "at least one group",
                id="approval-nobody",
            ),
            pytest.param(
                [("{from: [security], required: 2,", "{required: 2,")],
                "steps[2].approval",
                "'from' is missing",
                id="approval-from",
            ),
            pytest.param(
                [("required: 2", "required: 11")],
                "steps[2].approval.required",
                "11 is not from 1 to 10",
                id="approval-required",
            ),
            pytest.param(
                [("on_timeout: skip}", "on_timeout: go}")],
                "steps[2].approval.on_timeout",
                "There are skip, stop",
                id="approval-on-timeout",
            ),
            # manual steps
            pytest.param(
                [('      ask: "Is the ownership check deployed?"\n', "")],
                "steps[4].manual",
                "'ask' is missing",
                id="ask",
            ),
            pytest.param(
                [("{type: integer, default: 1}", '{type: integer, default: "{{ 1 }}"}')],
                "steps[4].manual.fields.checks.default",
                "An expression cannot stand here",
                id="field-default",
            ),
            pytest.param(
                [("{type: integer, default: 1}", "{type: integer, default: x}")],
                "steps[4].manual.fields.checks.default",
                "'x' is not a whole number",
                id="field-literal",
            ),
            pytest.param(
                [("checks: {type", "status: {type")],
                "steps[4].manual.fields",
                "has 'status' of its own",
                id="field-reserved",
            ),
            pytest.param(
                [("checks: {type", "answered_by: {type")],
                "steps[4].manual.fields",
                "has 'answered_by' of its own",
                id="field-reserved-too",
            ),
            pytest.param(
                [("  - id: fixed\n", "  - id: fixed\n    timeout: 1h\n")],
                "steps[4].timeout",
                "Put it under 'manual'",
                id="manual-timeout",
            ),
            pytest.param(
                [("  - id: fixed\n", "  - id: fixed\n    ttl: 1h\n")],
                "steps[4].ttl",
                "goes with 'uses' only",
                id="manual-ttl",
            ),
            # parameters
            pytest.param(
                [("{credential: orders, mode: routine}", "{mode: routine}")],
                "steps[2].with",
                "'credential' is missing",
                id="param-missing",
            ),
            pytest.param(
                [("    with: {credential: orders, mode: routine}\n", "")],
                "steps[2].with",
                "'credential' is missing",
                id="with-missing",
            ),
            pytest.param(
                [("{credential: orders, mode: routine}", "[credential]")],
                "steps[2].with",
                "a mapping of parameters, not a list",
                id="with-list",
            ),
            pytest.param(
                [("mode: routine", "mode: quick")],
                "steps[2].with.mode",
                "This should be 'routine' or 'compromise'",
                id="param-literal",
            ),
            pytest.param(
                [("mode: routine", "mod: routine")],
                "steps[2].with.mod",
                "Did you mean 'mode'?",
                id="param-unknown",
            ),
            pytest.param(
                [("mode: routine", "old: x")],
                "steps[2].with",
                "old and new go together.",
                id="param-together",
            ),
            pytest.param(
                [("rate: 1/s", "rate: 1/m")],
                "steps[0].with.rate",
                "a rate ends in /s.",
                id="param-rule",
            ),
            pytest.param(
                [("tags: [red]", "tags: [red, green]")],
                "steps[0].with.tags[1]",
                "'red' or 'blue'",
                id="param-item",
            ),
            pytest.param(
                [("rate: 1/s", "hours: 25")],
                "steps[0].with.hours",
                "less than or equal to 24",
                id="param-bound",
            ),
            pytest.param(
                [('people: "{{ steps.reads.count }}"', "extra: {a: [1, x]}")],
                "steps[3].with.extra.a[1]",
                "valid integer",
                id="param-deep",
            ),
            pytest.param(
                [('people: "{{ steps.reads.count }}"', "people: {a: 1}")],
                "steps[3].with.people",
                "valid integer",
                id="param-map",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "a {{ steps.reads.count }}")],
                "steps[3].with.people",
                "never a mix",
                id="param-mixed",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{- steps.reads.count -}}")],
                "steps[3].with.people",
                "Leave a space",
                id="param-dash",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ }}")],
                "steps[3].with.people",
                "expression is empty",
                id="param-empty",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{}")],
                "steps[3].with.people",
                "never a mix",
                id="param-half",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ ''.__class__ }}")],
                "steps[3].with.people",
                "two underscores",
                id="param-class",
            ),
            pytest.param(
                [('people: "{{ steps.reads.count }}"', "letter: {subject: x, copies: [1, x, 2]}")],
                "steps[3].with.letter.copies",
                "at most 2 items",
                id="param-tuple",
            ),
            pytest.param(
                [('people: "{{ steps.reads.count }}"', "letter: {subject: x, copy: 1}")],
                "steps[3].with.letter.copy",
                "This key is unknown here.",
                id="param-model-extra",
            ),
            pytest.param(
                [('people: "{{ steps.reads.count }}"', "letter: {copies: [1, x]}")],
                "steps[3].with.letter",
                "'subject' is missing here.",
                id="param-model-missing",
            ),
            pytest.param(
                [("\"{{ now() - duration('24h') }}\"", "*x")],
                "inputs.since.default",
                "aliases are not allowed",
                id="default-alias",
            ),
            pytest.param(
                [('since: "{{ alert.starts_at }}"', "since: *x")],
                "triggers[0].inputs.since",
                "aliases are not allowed",
                id="trigger-alias",
            ),
            # references
            pytest.param(
                [("{{ steps.reads.count }}", "{{ steps.tell.status }}")],
                "steps[3].with.people",
                "steps.tell is not done when this step begins",
                id="own-step",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ steps.wipe.status }}")],
                "steps[3].with.people",
                "Only earlier steps",
                id="later-step",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ steps.raeds.count }}")],
                "steps[3].with.people",
                "Did you mean 'reads'?",
                id="unknown-step",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ steps.reads }}")],
                "steps[3].with.people",
                "Say what is to be read of steps.reads",
                id="whole-step",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ steps }}")],
                "steps[3].with.people",
                "Say what is to be read of steps",
                id="whole-steps",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ steps[inputs.endpoint].x }}")],
                "steps[3].with.people",
                "a name written out",
                id="computed-step",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ steps.reads.count.x }}")],
                "steps[3].with.people",
                "steps.reads.count is one value",
                id="below-scalar",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ steps.reads.mode.x }}")],
                "steps[3].with.people",
                "is one value",
                id="below-literal",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ steps.reads.first_at.x }}")],
                "steps[3].with.people",
                "is one value",
                id="below-optional",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ steps.reads.paths.x }}")],
                "steps[3].with.people",
                "is a list and has no 'x'",
                id="below-list",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ steps.reads.paths[0].x }}")],
                "steps[3].with.people",
                "steps.reads.paths.[0] is one value",
                id="below-item",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ steps.reads.principals.poeple }}")],
                "steps[3].with.people",
                "Did you mean 'people'?",
                id="nested",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ steps.reads.by_day.monday.x }}")],
                "steps[3].with.people",
                "is one value",
                id="below-dict",
            ),
            pytest.param(
                [("{{ steps.fixed.version != none", "{{ steps.fixed.versoin != none")],
                "steps[5].if",
                "Did you mean 'version'?",
                id="manual-fact",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ inputs.sinc }}")],
                "steps[3].with.people",
                "Did you mean 'since'?",
                id="unknown-input",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ inputs }}")],
                "steps[3].with.people",
                "Say what is to be read of inputs",
                id="whole-inputs",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ inputs.since.x }}")],
                "steps[3].with.people",
                "inputs.since is one value",
                id="below-input",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ alert.labels.x.y }}")],
                "steps[3].with.people",
                "alert.labels.x is one value",
                id="below-label",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ incident.title }}")],
                "steps[3].with.people",
                "incident has no 'title'",
                id="incident",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ run.origin.kin }}")],
                "steps[3].with.people",
                "Did you mean 'kind'?",
                id="run",
            ),
            pytest.param(
                [("inventory[inputs.endpoint].data_classification", "inventory['GET /x'].owner")],
                "steps[3].with.data",
                "inventory[inputs.endpoint].owner",
                id="inventory-literal",
            ),
            pytest.param(
                [
                    (
                        "inventory[inputs.endpoint].data_classification",
                        "inventory[inputs.since].owner",
                    )
                ],
                "steps[3].with.data",
                "by an input of type endpoint",
                id="inventory-input",
            ),
            pytest.param(
                [("inventory[inputs.endpoint].data_classification", "inventory[inputs.endpoint]")],
                "steps[3].with.data",
                "Say which of data_classification",
                id="inventory-whole",
            ),
            pytest.param(
                [("inventory[inputs.endpoint].data_classification", "inventory")],
                "steps[3].with.data",
                "by an input of type endpoint",
                id="inventory-bare",
            ),
            pytest.param(
                [
                    (
                        "inventory[inputs.endpoint].data_classification",
                        "inventory[inputs.endpoint].data",
                    )
                ],
                "steps[3].with.data",
                "Did you mean 'data_classification'?",
                id="inventory-field",
            ),
            pytest.param(
                [
                    (
                        "inventory[inputs.endpoint].data_classification",
                        "inventory[inputs.endpoint].owner.x",
                    )
                ],
                "steps[3].with.data",
                "is one value",
                id="inventory-below",
            ),
        ],
    )
    def test_each_broken_rule_is_one_problem(self, changes: Any, where: str, part: str):
        """
        Breaking one rule gives one problem, at its path, with what to do.
        """
        [(at, message)] = found(*changes)

        assert at == where
        assert part in message

    @pytest.mark.parametrize(
        ("changes"),
        [
            pytest.param(
                [("{{ steps.reads.count }}", "{{ steps.reads.by_day.monday }}")], id="dict-entry"
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ steps.reads.by_day[inputs.endpoint] }}")],
                id="dict-computed",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ steps.reads.anything.at.all }}")], id="any"
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ steps.reads.principals.services[0] }}")], id="item"
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ steps.reads.either.people }}")], id="union"
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ alert.labels.x if alert else run.origin.kind }}")],
                id="alert",
            ),
            pytest.param(
                [("{{ steps.reads.count }}", "{{ [incident.id, run.id] | length }}")], id="ids"
            ),
            pytest.param(
                [
                    (
                        "{{ steps.reads.count }}",
                        "{{ 7 if steps.close.skipped else steps.close.status | length }}",
                    )
                ],
                id="status",
            ),
            pytest.param(
                [
                    ("    ttl: 30m\n", "    ttl: 1d\n    approval: {from: [a]}\n"),
                    ("auto: [close]", "auto: []"),
                ],
                id="approval",
            ),
            pytest.param(
                [("mode: routine", 'old: x, new: "{{ inputs.since }}"')],
                id="rules-over-expressions-wait",
            ),
            pytest.param(
                [("mode: routine", 'new: "{{ inputs.since }}"')], id="rules-over-expressions-wait-2"
            ),
            pytest.param(
                [("tags: [red]", 'tags: [red, "{{ inputs.since }}"]')], id="list-with-expression"
            ),
            pytest.param(
                [
                    (
                        "name: Broken object level authorization",
                        "name: 'Braces }} and {% %} are text'",
                    )
                ],
                id="other-braces",
            ),
            pytest.param(
                [("auto: [close]", "auto: [close, reads, tell]")], id="auto-read-and-notify"
            ),
            pytest.param([("    timeout: 2m\n", "    on_failure: undo\n")], id="undo-read"),
            pytest.param(
                [("    uses: data.wipe\n", "    uses: data.wipe\n    on_failure: undo\n")],
                id="undo-irreversible",
            ),
            pytest.param([("\"{{ now() - duration('24h') }}\"", "null")], id="default-null"),
            pytest.param(
                [("\"{{ now() - duration('24h') }}\"", '"{{ none }}"')], id="default-none"
            ),
            pytest.param(
                [("\"{{ now() - duration('24h') }}\"", "2026-01-01T00:00:00Z")],
                id="default-literal",
            ),
            pytest.param(
                [
                    ("triggers:\n", "triggers: []\n#"),
                    ("  - source: alertmanager\n    if: ", "#"),
                    ("    inputs: {endpoint", "#"),
                    ("    auto: [close]", "#"),
                ],
                id="no-triggers",
            ),
        ],
    )
    def test_what_is_allowed(self, changes: Any):
        """
        Rules do not reach further than they say.
        """
        assert found(*changes) == []

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                "- a",
                [(1, 1, "", "Here goes a runbook: a mapping with id, name, steps, …, not a list.")],
            ),
            ("5", [(1, 1, "", "Here goes a runbook: a mapping with id, name, steps, …, not 5.")]),
            (
                "''",
                [
                    (
                        1,
                        1,
                        "",
                        "Here goes a runbook: a mapping with id, name, steps, …, not empty text.",
                    )
                ],
            ),
            ("", [(1, 1, "", "The file is empty.")]),
            (
                "a: [",
                [
                    (
                        1,
                        5,
                        "a[0]",
                        "This is not YAML: while parsing a flow node expected the node content, but found '<stream end>'.",
                    )
                ],
            ),
        ],
    )
    def test_what_is_no_runbook(self, text: str, expected: Any):
        """
        Something else altogether is one problem.
        """
        assert problems_of(text) == expected

    def test_lists_and_mappings_where_other_things_go(self):
        """
        Wrong shapes are reported where they stand, and the rest is still checked.
        """
        text = """\
id: [a]
name: A
summary: {}
severity: [sev1]
owners: {a: b}
inputs: [a]
triggers: {a: b}
steps: {a: b}
"""
        assert [(line, message) for line, _, _, message in problems_of(text)] == [
            (1, "Here goes an id (a-z, then a-z, 0-9, _ or -), not a list."),
            (3, "Here goes text, not a mapping."),
            (4, "Here goes one of sev1, sev2, sev3, sev4, not a list."),
            (5, "Here goes a list of a group of people, not a mapping."),
            (6, "Here goes a mapping of names to types, not a list."),
            (7, "Here goes a list of triggers, not a mapping."),
            (8, "Here goes a list of steps, not a mapping."),
        ]

    def test_wrong_items(self):
        """
        So are wrong items of lists.
        """
        text = """\
id: a
name: A
summary: S.
severity: sev1
owners: [[a], 5]
triggers: [x, {source: y}]
steps:
  - just text
  - {id: b, manual: ask}
  - {id: c, uses: gateway.close, with: , ttl: 1h, if: []}
  - {id: d, uses: x.y, with: {a: "{{ inputs.z }}"}}
"""
        assert [(line, where) for line, _, where, _ in problems_of(text)] == [
            (5, "owners[0]"),
            (5, "owners[1]"),
            (6, "triggers[0]"),
            (8, "steps[0]"),
            (9, "steps[1].manual"),
            (10, "steps[2].with"),
            (10, "steps[2].if"),
            (11, "steps[3].uses"),
            (11, "steps[3].with.a"),
        ]

    def test_empty_steps(self):
        """
        A runbook without steps is no runbook.
        """
        text = "id: a\nname: A\nsummary: S.\nseverity: sev1\nowners: [b]\nsteps: []\n"

        assert problems_of(text) == [(6, 8, "steps", "A runbook has at least one step.")]

    def test_what_yaml_refused_is_not_complained_about_again(self):
        """
        An alias in place of a value is one problem, wherever it stands.
        """
        for old in (
            "api1",
            "sev1",
            "[security-oncall]",
            "30m",
            "routine",
            "close, reads",
            "[close]",
        ):
            if GOOD.count(old) == 1 or old in ("30m", "sev1", "[close]"):
                text = GOOD.replace(old, "*x", 1)
                messages = [message for *_, message in problems_of(text)]
                assert messages == ["'*x': aliases are not allowed. Write it out."], old

        for where in ("inputs", "triggers", "steps", "owners"):
            text = "id: a\nname: A\nsummary: S.\nseverity: sev1\nowners: [b]\nsteps: [{id: a, manual: {ask: b}}]\n"
            lines = [line for line in text.splitlines() if not line.startswith(where)]
            found = problems_of("\n".join([*lines, f"{where}: *x"]))
            assert len(found) == 1, where

    def test_a_broken_item_is_left_out(self):
        """
        The other items of a list are still checked.
        """
        text = changed(("auto: [close]", "auto: [*x, nope]"), ("tags: [red]", "tags: *y"))

        assert [message for *_, message in problems_of(text)] == [
            "'*x': aliases are not allowed. Write it out.",
            "No step is called 'nope'.",
            "'*y': aliases are not allowed. Write it out.",
        ]

    def test_an_item_of_no_member_of_a_union(self):
        """
        Each member says what it wants, at the item where there is one.
        """
        problems = found(('people: "{{ steps.reads.count }}"', "either: [1, x]"))

        assert [where for where, _ in problems] == [
            "steps[3].with.either",
            "steps[3].with.either[1]",
        ]


class TestFolders:
    def write(self, folder: Path, **files: str) -> None:
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")

    def test_every_runbook_of_a_folder_is_loaded(self, tmp_path: Path):
        """
        Rehearsals and other files are passed over; a single file can be named too.
        """
        folder = tmp_path / "books"
        folder.mkdir()
        self.write(
            folder,
            a__yaml=GOOD,
            b__yml=GOOD.replace("id: api1\n", "id: api2\n"),
            a__rehearsal__yaml=REHEARSAL,
            README__md="# hello",
        )
        (folder / "inner.yaml").mkdir()
        extra = tmp_path / "c.yaml"
        extra.write_text(GOOD.replace("id: api1\n", "id: api3\n"))

        assert list(load_folder([folder, extra], ACTIONS)) == ["api1", "api2", "api3"]

    def test_two_runbooks_of_one_id(self, tmp_path: Path):
        """
        A repeated id is a problem at the second one, naming the first.
        """
        self.write(tmp_path, a__yaml=GOOD, b__yaml="# copy\n" + GOOD)

        with pytest.raises(RunbookInvalid) as caught:
            load_folder([tmp_path], ACTIONS)

        [problem] = caught.value.problems
        assert caught.value.file.endswith("b.yaml")
        assert (problem.line, problem.column, problem.where) == (2, 5, "id")
        assert problem.message.startswith("a.yaml is called 'api1' already.")

    def test_problems_of_all_files_are_reported(self, tmp_path: Path):
        """
        One bad file does not hide another.
        """
        self.write(tmp_path, a__yaml="", b__yaml="id: {}", c__yaml=GOOD)
        (tmp_path / "d.yaml").write_bytes(b"a: 1\nb: \xff\n")
        (tmp_path / "e.yaml").write_bytes(b"#" * 300_000)

        with pytest.raises(RunbookInvalid) as caught:
            load_folder([tmp_path], ACTIONS)

        message = str(caught.value)
        assert message.startswith("4 files: ")
        assert "a.yaml: The file is empty." in message
        assert "b.yaml id: Here goes an id" in message
        assert "d.yaml: The file is not UTF-8" in message
        assert "e.yaml: The file is larger than 256 KiB." in message

    def test_a_path_that_does_not_exist(self, tmp_path: Path):
        """
        A wrong path in the settings is not an empty set of runbooks.
        """
        with pytest.raises(NotFound, match="does not exist, so no runbook was read"):
            load_folder([tmp_path / "absent"], ACTIONS)
