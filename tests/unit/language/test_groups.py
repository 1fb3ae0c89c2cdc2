"""Steps that hold steps, shared approvals, what runs always: what is taken, and every rule."""

# ruff: noqa: E501  # in the tables below a rule, its place and its message stand side by side

from __future__ import annotations

from typing import Any

import pytest

from bot.action import Effect
from bot.language.expressions import Expression
from bot.language.load import check, load
from bot.language.runbook import Approval, Retry, Runbook
from tests.unit.language.acme_actions import ACTIONS
from tests.unit.language.texts import CONTAIN, EVERYTHING

HEAD = "id: a\nname: A\nsummary: S.\nseverity: sev1\nowners: [b]\ninputs: {x: {type: string}}\n"
A, B, C = (f"{{id: {name}, uses: data.wipe}}" for name in "abc")


def found(text: str) -> list[tuple[str, str]]:
    """Path and message of each problem."""
    runbook, problems = check(text, "x.yaml", ACTIONS)
    assert (runbook is None) == bool(problems)
    return [(each.where, each.message) for each in problems]


def changed(*changes: tuple[str, str]) -> str:
    """The runbook that uses everything, with some texts replaced; each must be there, once."""
    text = EVERYTHING
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def everything() -> Runbook:
    return load(EVERYTHING, "x.yaml", ACTIONS, {"contain-endpoint": CONTAIN})


class TestWhatIsRead:
    def test_the_runbook_itself(self):
        """
        A deadline, what is done always, and what a caller may read.
        """
        runbook = everything()

        assert runbook.deadline_s == 4 * 3600
        assert [step.id for step in runbook.always] == ["report", "check"]
        assert runbook.outputs.keys() == {"containment", "done"}
        assert isinstance(runbook.outputs["containment"], Expression)
        assert runbook.triggers[0].auto == ("reads", "shut", "turn", "contain.close")

    def test_every_step_has_its_id(self):
        """
        Ids are those written; a parallel without one is numbered.
        """
        assert [step.id for step in everything().every_step()] == [
            *("reads", "fixed", "parallel@1", "shut", "first", "second", "each", "turn", "inner"),
            *("told", "contain", "both", "read-again", "report", "check"),
        ]

    def test_a_shared_approval(self):
        """
        Each step that names one has it, with its name.
        """
        runbook = everything()
        card = Approval(("commanders",), 2, 900, "stop", "incident-commander", "closing")

        assert runbook.approvals == {"closing": card}
        assert runbook.step("first").approval == runbook.step("second").approval == card
        assert runbook.step("told").approval == Approval(
            ("security",), break_glass="incident-commander"
        )

    def test_retry_and_the_question(self):
        """
        What is tried again is said by class; a question may be somebody's, and be due.
        """
        runbook = everything()
        manual = runbook.step("fixed").manual

        assert runbook.step("reads").retry == Retry(
            3, 5, 1.5, 0.2, ("unreachable", "timeout", "failed")
        )
        assert manual is not None
        assert (manual.assignee, manual.due_s, manual.remind_s) == ("security", 3600, 900)

    def test_parallel(self):
        """
        Branches are steps in order. A group stops unless it says otherwise.
        """
        runbook = everything()
        step, both = runbook.step("parallel@1"), runbook.step("both")

        assert step.parallel is not None
        assert [[one.id for one in branch] for branch in step.parallel.branches] == [
            ["shut"],
            ["first", "second"],
        ]
        assert (step.parallel.join, step.on_failure, step.fact_names) == ("any", "continue", ())
        assert step.condition is not None
        assert both.parallel is not None
        assert (both.parallel.join, both.on_failure, both.effect) == ("all", "stop", None)

    def test_foreach(self):
        """
        It leaves its outputs as lists, and what became of the items.
        """
        each, inner = everything().step("each"), everything().step("inner")

        assert each.foreach is not None
        assert (each.foreach.name, each.foreach.concurrency) == ("account", 3)
        assert isinstance(each.foreach.items, Expression)
        assert [step.id for step in each.foreach.steps] == ["turn", "inner"]
        assert each.fact_names == ("told", "done", "items", "statuses", "failed")
        assert inner.foreach is not None
        assert (inner.foreach.items, inner.foreach.name) == ([1, 2, 3], "item")

    def test_a_call(self):
        """
        A call has its runbook once it is linked, and leaves that one's outputs.
        """
        step = everything().step("contain")

        assert step.call is not None
        assert step.call.book == load(CONTAIN, "c.yaml", ACTIONS)
        assert step.call.inputs["hours"] == 2
        assert step.fact_names == ("containment", "hours")

    def test_a_text_alone_is_not_linked(self):
        """
        Checking one text leaves its calls as they are.
        """
        runbook, problems = check(EVERYTHING, "x.yaml", ACTIONS)

        assert (problems, runbook is not None) == ((), True)
        assert runbook is not None
        step = runbook.step("contain")
        assert step.call is not None
        assert (step.call.book, step.fact_names) == (None, ())
        assert runbook.step("first").effect is Effect.CHANGE

    def test_unnamed_steps_are_counted_in_the_order_of_the_file(self):
        """
        Whichever of ``steps`` and ``always`` stands first.
        """
        text = (
            HEAD + f"always: [{{parallel: [{A}]}}]\nsteps:\n"
            f"  - parallel:\n      - {B}\n      - steps: [{{parallel: [{C}]}}]\n"
        )
        runbook = load(text, "x.yaml", ACTIONS)

        assert [step.id for step in runbook.every_step() if step.is_group] == [
            *("parallel@2", "parallel@3", "parallel@1")
        ]


class TestRules:
    @pytest.mark.parametrize(
        ("old", "new", "where", "part"),
        [
            # the runbook
            ("deadline: 4h", "deadline: 4", "deadline", "a duration such as 90s"),
            ("outputs: {containment:", "outputs: {Out:", "outputs.Out", "'Out' is not a name"),
            (
                "outputs: {containment:",
                "outputs: {status:",
                "outputs.status",
                "has 'status' of its own",
            ),
            (
                'done: ["{{ steps.each.statuses }}"]',
                'done: ["{{ steps.report.status }}"]',
                "outputs.done[0]",
                "steps.report is not done when the outputs are read",
            ),
            # shared approvals
            (
                "    from: [commanders]\n",
                "",
                "approvals.closing",
                "'from' is missing",
            ),
            (
                "    break_glass: incident-commander\n",
                "    break_glass: [a, b]\n",
                "approvals.closing.break_glass",
                "Here goes an id",
            ),
            (
                "approvals:\n",
                "approvals:\n  other: {from: [a]}\n",
                "approvals.other",
                "No step has 'approval: other'",
            ),
            (
                "approvals:\n",
                "approvals:\n  Other: {from: [a]}\n",
                "approvals.Other",
                "'Other' is not a name",
            ),
            (
                "approval: {from: [security], break_glass: incident-commander}",
                "approval: clsing",
                "steps[3].steps[1].steps[0].approval",
                "No approval is called 'clsing' under 'approvals'. Did you mean 'closing'?",
            ),
            (
                "approval: {from: [security], break_glass: incident-commander}",
                "approval: closing",
                "steps[3].steps[1].steps[0].approval",
                "Step 'first' shares the approval 'closing' and stands in other steps",
            ),
            (
                "approval: {from: [security], break_glass: incident-commander}",
                'approval: "{{ inputs.account }}"',
                "steps[3].steps[1].steps[0].approval",
                "a mapping such as {from: [group]}, or a name of 'approvals', not the text",
            ),
            (
                '{credential: "{{ inputs.account }}"}',
                '{credential: "{{ steps.first.containment }}"}',
                "steps[2].parallel[1].steps[1].with.credential",
                "shares the approval 'closing', which is asked before steps.first is known; give it an approval of its own",
            ),
            (
                '    manual: {ask: "Was everybody told?"}\n',
                "    uses: data.wipe\n    approval: closing\n",
                "always[1].approval",
                "stands in other steps",
            ),
            # kinds and their keys
            (
                "    concurrency: 3\n",
                "    concurrency: 3\n    uses: x\n",
                "steps[3]",
                "this one has 'uses' and 'foreach'",
            ),
            ("    concurrency: 3\n", "    ttl: 3h\n", "steps[3].ttl", "Put it at the steps inside"),
            (
                "    concurrency: 3\n",
                "    approval: closing\n",
                "steps[3].approval",
                "'approval' goes with 'uses' only. Put it at the steps inside.",
            ),
            (
                "    concurrency: 3\n",
                "    with: {a: 1}\n",
                "steps[3].with",
                "'with' goes with 'uses' or 'runbook' only",
            ),
            ("    concurrency: 3\n", "    join: any\n", "steps[3].join", "'parallel' only"),
            (
                "    ttl: 4h\n",
                "    ttl: 4h\n        as: x\n",
                "steps[2].parallel[0].as",
                "'foreach' only",
            ),
            (
                '    manual: {ask: "Was everybody told?"}\n',
                "    manual: {ask: x}\n    on_failure: stop\n",
                "always[1].on_failure",
                "'on_failure' goes with 'uses' or 'parallel' or 'foreach' or 'runbook' only.",
            ),
            (
                "    join: any\n",
                "    join: some\n",
                "steps[2].join",
                "There are all, any",
            ),
            # retry
            ("backoff: 1.5", "backoff: 0.5", "steps[0].retry.backoff", "from 1 to 10, not 0.5"),
            ("backoff: 1.5", "backoff: true", "steps[0].retry.backoff", "not true"),
            ("backoff: 1.5", "backoff: [1]", "steps[0].retry.backoff", "not a list"),
            ("jitter: 0.2", "jitter: 1.1", "steps[0].retry.jitter", "from 0 to 1, not 1.1"),
            ("jitter: 0.2", "jitter: '0'", "steps[0].retry.jitter", "not the text '0'"),
            (
                "timeout, failed]",
                "ambiguous]",
                "steps[0].retry.on[1]",
                "'ambiguous' is never tried again: it may have happened already, and a person decides what is true.",
            ),
            (
                "timeout, failed]",
                "refused]",
                "steps[0].retry.on[1]",
                "'refused' is never tried again: the other system says no, and will say no again.",
            ),
            (
                "timeout, failed]",
                "late]",
                "steps[0].retry.on[1]",
                "a class of error that is tried again: failed, timeout, unreachable, unverified",
            ),
            (
                "timeout, failed]",
                "[timeout]]",
                "steps[0].retry.on[1]",
                "a class of error that is tried again",
            ),
            (
                "timeout, failed]",
                "unreachable]",
                "steps[0].retry.on[1]",
                "'unreachable' is here twice",
            ),
            (
                "[unreachable, timeout, failed]",
                "[]",
                "steps[0].retry.on",
                "at least one class of error",
            ),
            (
                "[unreachable, timeout, failed]",
                "timeout",
                "steps[0].retry.on",
                "a list of classes of error",
            ),
            # questions
            (
                "      remind: 15m\n",
                "      remind: 59s\n",
                "steps[1].manual.remind",
                "once a minute",
            ),
            ("      due: 1h\n", "      due: soon\n", "steps[1].manual.due", "is not a duration"),
            (
                "      assignee: security\n",
                "      assignee: [a]\n",
                "steps[1].manual.assignee",
                "an id",
            ),
            # parallel
            (
                "      - steps:\n          - id: first",
                "      - if: x\n        steps:\n          - id: first",
                "steps[2].parallel[1].if",
                "unknown here. There are steps",
            ),
            (
                '{endpoint: "{{ inputs.endpoint }}", hours: "{{ steps.reads.count }}"}',
                '{endpoint: "{{ steps.shut.containment }}"}',
                "steps[2].parallel[1].steps[0].with.endpoint",
                "steps.shut stands in another branch, which goes on at the same time",
            ),
            (
                "    on_failure: continue\n  - id: each",
                "    on_failure: ask\n  - id: each",
                "steps[2].on_failure",
                "Here goes one of stop, continue, undo",
            ),
            (
                "    on_failure: continue\n  - id: each",
                "    on_failure: wait\n  - id: each",
                "steps[2].on_failure",
                "There are stop, continue, undo",
            ),
            (
                "steps.fixed.version == '1'",
                "steps.shut.status == '1'",
                "steps[2].if",
                "steps.shut is not done when this step begins",
            ),
            # foreach
            (
                '    foreach: "{{ steps.reads.principals.services }}"\n',
                "    foreach: []\n",
                "steps[3].foreach",
                "The list is empty",
            ),
            (
                '    foreach: "{{ steps.reads.principals.services }}"\n',
                "    foreach: 5\n",
                "steps[3].foreach",
                '"{{ an expression }}", not 5',
            ),
            (
                '    foreach: "{{ steps.reads.principals.services }}"\n',
                '    foreach: ["{{ steps.turn.status }}"]\n',
                "steps[3].foreach[0]",
                "steps.turn runs once for each item of 'each'",
            ),
            ("concurrency: 3", "concurrency: 21", "steps[3].concurrency", "21 is not from 1 to 20"),
            (
                "outputs: {told:",
                "outputs: {items:",
                "steps[3].outputs.items",
                "has 'items' of its own",
            ),
            (
                "outputs: {told:",
                "outputs: {skipped:",
                "steps[3].outputs.skipped",
                "has 'skipped' of its own",
            ),
            (
                "{{ steps.inner.failed }}",
                "{{ steps.told.status }}",
                "steps[3].outputs.told",
                "Give 'inner' an output that reads it, and read steps.inner.OUTPUT here: a list.",
            ),
            (
                "{{ steps.inner.failed }}",
                "{{ steps.inner.fialed }}",
                "steps[3].outputs.told",
                "Did you mean 'failed'?",
            ),
            (
                "{{ steps.each.done }}",
                "{{ steps.turn.status }}",
                "always[0].with.data",
                "steps.turn runs once for each item of 'each'",
            ),
            (
                "{{ steps.each.done }}",
                "{{ steps.each.done.x }}",
                "always[0].with.data",
                "is a list",
            ),
            (
                "{{ steps.each.done }}",
                "{{ account }}",
                "always[0].with.data",
                "Nothing is named 'account'. There are alert, incident",
            ),
            (
                "{{ steps.each.done }}",
                "{{ index }}",
                "always[0].with.data",
                "Nothing is named 'index'",
            ),
            (
                "item > index",
                "item.x > index",
                "steps[3].steps[1].steps[0].if",
                "item is one value",
            ),
            (
                "item > index",
                "item > index.x",
                "steps[3].steps[1].steps[0].if",
                "index is one value",
            ),
            # calls
            ("runbook: contain-endpoint", "runbook: Contain", "steps[4].runbook", "is not an id"),
            (
                'with: {endpoint: "{{ inputs.endpoint }}", hours: 2}',
                "with: [a]",
                "steps[4].with",
                "a mapping of inputs to values",
            ),
            (
                'with: {endpoint: "{{ inputs.endpoint }}", hours: 2}',
                'with: {endpoint: "{{ steps.contain.status }}"}',
                "steps[4].with.endpoint",
                "steps.contain is not done when this step begins",
            ),
            # auto
            (
                "shut, turn",
                "each",
                "triggers[0].auto[1]",
                "only holds others. Name those that may run: told, turn.",
            ),
            ("shut, turn", "contain", "triggers[0].auto[1]", "Name the steps of that one"),
            ("shut, turn", "report", "triggers[0].auto[1]", "stands under 'always'"),
            ("shut, turn", "first", "triggers[0].auto[1]", "has an approval"),
            ("shut, turn", "shut.x", "triggers[0].auto[1]", "calls no runbook"),
            ("shut, turn", "nope.x", "triggers[0].auto[1]", "No step is called 'nope'"),
            ("shut, turn", "a..b", "triggers[0].auto[1]", "the id of a step"),
        ],
    )
    def test_each_broken_rule_is_one_problem(self, old: str, new: str, where: str, part: str):
        """
        Breaking one rule gives one problem, at its path, with what to do.
        """
        [(at, message)] = found(changed((old, new)))

        assert at == where
        assert part in message

    @pytest.mark.parametrize(
        ("steps", "where", "part"),
        [
            (f"[{{parallel: [{A}]}}, {A}]", "steps[1].id", "Two steps are called 'a'"),
            (f"[{{id: x, parallel: []}}, {A}]", "steps[0].parallel", "at least one branch"),
            (f"[{{parallel: {A}}}]", "steps[0].parallel", "a list of branches"),
            (f"[{{parallel: [{A}, x]}}]", "steps[0].parallel[1]", "a step such as"),
            ("[{parallel: [{steps: []}]}]", "steps[0].parallel[0].steps", "at least one step"),
            (f"[{{parallel: [{{steps: {A}}}]}}]", "steps[0].parallel[0].steps", "a list of steps"),
            ("[{id: x, foreach: [1], steps: []}]", "steps[0].steps", "at least one step"),
            ("[{id: x, foreach: [1]}]", "steps[0]", "'steps' is missing"),
            (f"[{{foreach: [1], steps: [{A}]}}]", "steps[0]", "'id' is missing"),
            ("[{runbook: x}]", "steps[0]", "'id' is missing"),
            (f"[{{id: item, foreach: [1], as: Bad, steps: [{A}]}}]", "steps[0].as", "not a name"),
            (
                '[{id: x, foreach: [1], as: Bad, steps: [{id: y, if: "{{ Bad }}", uses: data.wipe}]}]',
                "steps[0].as",
                "'Bad' is not a name",
            ),
            *(
                (
                    f"[{{id: x, foreach: [1], as: {name}, steps: [{A}]}}]",
                    "steps[0].as",
                    f"'{name}' has a meaning of its own in expressions. Choose another name",
                )
                for name in ("inputs", "steps", "run", "index", "now", "not", "undefined")
            ),
            (
                f"[{{id: x, foreach: [1], steps: [{{id: y, foreach: [1], steps: [{A}]}}]}}]",
                "steps[0].steps[0].as",
                "calls something 'item' already",
            ),
        ],
    )
    def test_each_broken_shape_is_one_problem(self, steps: str, where: str, part: str):
        """
        So is a group that is not written as one.
        """
        [(at, message)] = found(f"{HEAD}steps: {steps}\n")

        assert at == where
        assert part in message

    @pytest.mark.parametrize(
        "changes",
        [
            [("jitter: 0.2", "jitter: 0")],
            [("backoff: 1.5", "backoff: 10")],
            [("      remind: 15m\n", "      remind: 1m\n")],
            [('"{{ steps.reads.principals.services }}"', "[a, b]")],
            [("foreach: [1, 2, 3]", "foreach: [1, x]"), ("item > index", "item.any.thing")],
            [("foreach: [1, 2, 3]", 'foreach: ["{{ account }}", 1]'), ("item > index", "item.x")],
            [("foreach: [1, 2, 3]", "foreach: [{a: 1}, {a: 2}]"), ("item > index", "item.a")],
            [("{{ steps.each.done }}", "{{ steps.shut.containment }}")],
            [("{{ steps.each.done }}", "{{ steps.each.done[0].deep }}")],
        ],
    )
    def test_what_is_allowed(self, changes: Any):
        """
        Rules do not reach further than they say.
        """
        assert found(changed(*changes)) == []

    def test_a_card_is_asked_once_for_branches_too(self):
        """
        Whichever branch is first asks for all, so a step reads only what is over for each of them.
        """
        read = '{id: r, uses: logs.reads, with: {endpoint: x, since: "{{ now() }}"}}'
        one = '{id: one, uses: credentials.rotate, with: {credential: "{{ steps.r.mode }}"}, approval: c}'
        two = "{id: two, uses: data.wipe, approval: c}"
        head = f"{HEAD}approvals: {{c: {{from: [g]}}}}\n"

        assert found(f"{head}steps: [{{parallel: [{{steps: [{read}, {one}]}}, {two}]}}]\n") == [
            (
                "steps[0].parallel[0].steps[1].with.credential",
                "This step shares the approval 'c', which is asked before steps.r is known; give "
                "it an approval of its own.",
            )
        ]
        assert found(f"{head}steps: [{read}, {{parallel: [{one}, {two}]}}]\n") == []

    def test_steps_of_one_foreach_may_share_an_approval(self):
        """
        Each item then has a card of its own.
        """
        steps = "{id: a, uses: data.wipe, approval: c}, {id: b, uses: data.wipe, approval: c}"
        text = f"{HEAD}approvals: {{c: {{from: [g]}}}}\nsteps: [{{id: x, foreach: [1], steps: [{steps}]}}]\n"

        assert found(text) == []

    def test_a_broken_approval_is_one_problem(self):
        """
        Steps that share it are not complained about.
        """
        for broken in ("5", "*x"):
            text = f"{HEAD}approvals: {{c: {broken}}}\nsteps: [{{id: a, uses: data.wipe, approval: c}}]\n"
            assert len(found(text)) == 1

    @pytest.mark.parametrize(
        "broken",
        [
            f"{{id: x, uses: y, foreach: [1], steps: [{A}]}}",
            f"{{id: x, uses: y, parallel: [{A}]}}",
            f"{{parallel: [{A}], foreach: [1]}}",
            f"{{id: x, parallel: [{A}], manual: {{ask: b}}}}",
        ],
    )
    def test_what_a_broken_group_holds_is_known(self, broken: str):
        """
        Reading one of its steps is no second mistake.
        """
        later = '{id: z, if: "{{ steps.a.status }}", uses: data.wipe}'

        assert len(found(f"{HEAD}steps: [{broken}, {later}]\n")) == 1

    def test_empty_always(self):
        """
        An empty list is a slip.
        """
        assert found(f"{HEAD}steps: [{A}]\nalways: []\n") == [
            ("always", "A runbook has at least one step.")
        ]


def nested(depth: int, inner: str) -> str:
    for number in range(depth):
        inner = f"{{id: g{number}, foreach: [1], as: i{number}, steps: [{inner}]}}"
    return inner


class TestBounds:
    def test_groups_are_nested_five_deep(self):
        """
        The sixth is refused, and what it holds is not read; what it would leave is known.
        """
        assert found(f"{HEAD}steps: [{nested(5, A)}]\n") == []
        [(where, message)] = found(f"{HEAD}steps: [{nested(6, A)}]\n")
        assert where == "steps[0]" + ".steps[0]" * 5
        assert message.startswith("Steps are nested at most 5 deep.")

    def test_branches_may_be_nested_as_deep(self):
        """
        The bound of the file leaves room for it, also where each branch is a list of steps.
        """
        text = A
        for _ in range(5):
            text = f"{{parallel: [{{steps: [{text}]}}]}}"
        assert found(f"{HEAD}steps: [{text}]\n") == []
        text = f"{{parallel: [{{steps: [{text}]}}]}}"
        later = '{id: z, if: "{{ steps.a.status }}", uses: data.wipe}'
        [(_, message)] = found(f"{HEAD}steps: [{text}, {later}]\n")
        assert message.startswith("Steps are nested at most 5 deep.")

    def test_a_runbook_has_two_hundred_steps(self):
        """
        Counted wherever they stand, groups too.
        """
        steps = ", ".join(f"{{id: s{number}, uses: data.wipe}}" for number in range(198))

        assert found(f"{HEAD}steps: [{{parallel: [{steps}]}}]\nalways: [{A}]\n") == []
        [(where, message)] = found(f"{HEAD}steps: [{{parallel: [{steps}]}}, {B}]\nalways: [{A}]\n")
        assert (where, message[:51]) == (
            "steps",
            "The runbook has 201 steps; at most 200 are read. Pu",
        )
