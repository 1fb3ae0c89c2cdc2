"""Drawings of runbooks and of runs."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.action import Effect
from bot.engine.graph import mermaid, svg
from bot.engine.graph.mermaid import escaped
from bot.engine.graph.paper import fit, width_of, wrap
from bot.engine.graph.words import duration_text, took_text
from bot.engine.state import Failure, RunState, StepState, StepStatus
from bot.language.runbook import Approval, Call, Foreach, Manual, Parallel, Step
from bot.model.incident import RunStatus
from tests.unit.engine.rehearsal import ALERT, NOON, SAM, book, change, expression, manual, step

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = (
    'end"]; click n1 javascript:alert(1) %% <script>alert(1)</script> --> x[\n'
    "```mermaid\nsubgraph `end` &quot; #quot; **b** www.x.example ]]> \x00\x1b[31m\u202eabc\ud800"
)

CONTAIN = replace(
    book(change("throttle", ttl_s=1800, on_failure="undo"), change("close")),
    id="contain",
    always=(step("note", Effect.NOTIFY),),
)
GROUPS = replace(
    book(
        Step(id="contain", line=1, call=Call("contain", {}, CONTAIN), on_failure="stop"),
        Step(
            id="parallel@1",
            line=2,
            parallel=Parallel(((step("affected"),), (step("accounts"), step("devices"))), "any"),
            on_failure="stop",
        ),
        Step(
            id="each",
            line=3,
            foreach=Foreach(
                expression("inputs.keys"),
                "key",
                (change("rotate", approval=Approval(("security",), 2)), step("prove")),
                3,
            ),
            on_failure="continue",
        ),
        step("tell", Effect.NOTIFY, condition=expression("inputs.loud")),
        manual("fixed", assignee="developers", timeout_s=3600.0, on_timeout="skip"),
        step("wipe", Effect.IRREVERSIBLE),
    ),
    always=(step("report"),),
)
LEAVES = {
    "throttle", "close", "note", "affected", "accounts", "devices", "rotate", "prove", "tell",
    "fixed", "wipe", "report",
}  # fmt: skip


def state_of(*, status: RunStatus = RunStatus.RUNNING, reason: str = "", **steps: Any) -> RunState:
    """A run; underscores of step names stand for dots."""
    return RunState(
        incident_id="INC-7",
        run_id="INC-7-R1",
        origin=SAM,
        status=status,
        reason=reason,
        steps={key.replace("_", "."): value for key, value in steps.items()},
    )


def was(status: StepStatus, begin: float = 0, took: float = 1, **more: Any) -> StepState:
    return StepState(
        status=status,
        started_at=NOON + timedelta(seconds=begin),
        ended_at=NOON + timedelta(seconds=begin + took) if status.is_final else None,
        **more,
    )


def texts(drawing: str) -> list[str]:
    """What is written in a picture, in order."""
    return [each.text or "" for each in ElementTree.fromstring(drawing).iter(f"{SVG}text")]


# --- Mermaid -------------------------------------------------------------------------------------

SAFE = r'"(?:[^\W_]|[ ,._/:-]|\#\d+;|<br>)*"'
LINE = re.compile(
    rf"""flowchart\ TB
    | \s+ n\d+ (?: \[/{SAFE}/\] | \[\[{SAFE}\]\] | \[{SAFE}\] | \(\({SAFE}\)\) | \(\[{SAFE}\]\)
                 | \{{\{{{SAFE}\}}\}} | \{{{SAFE}\}} ) :::[a-z]+
    | \s+ n\d+\ -->(?:\|{SAFE}\|)?\ n\d+
    | \s+ subgraph\ g\d+\[{SAFE}\]
    | \s+ end
    | \s+ classDef\ .*
    """,
    re.VERBOSE,
)


def nodes(chart: str) -> dict[str, str]:
    """The nodes of a flowchart, with their first line."""
    found = re.findall(r'^\s+(n\d+)[^\s"]+"(.*)"', chart, re.MULTILINE)
    return {name: label.partition("<br>")[0] for name, label in found}


class TestMermaid:
    def test_every_step_is_there_once(self):
        """
        Steps in groups, in called runbooks and under always too.
        """
        labels = list(nodes(mermaid(GROUPS)).values())

        assert [labels.count(name) for name in sorted(LEAVES)] == [1] * len(LEAVES)

    def test_every_node_lies_on_a_way_from_start_to_end(self):
        """
        Nothing hangs loose: all but the first node are reached, all but the last are left.
        """
        chart = mermaid(GROUPS)
        links = re.findall(r"^\s+(n\d+) -->(?:\|.*\|)? (n\d+)$", chart, re.MULTILINE)

        names = list(nodes(chart))
        assert {target for _, target in links} == set(names[1:])
        assert {source for source, _ in links} == set(names[:-1])

    def test_what_decides_is_written_on_it(self):
        """
        Conditions, approvals, questions, joins and what follows a failure.
        """
        chart = mermaid(GROUPS)

        assert '{"if inputs.loud"}' in chart
        assert '{{"approval<br>2 of security, else stop"}}' in chart
        assert "asks developers, within 1h, else skip" in chart
        assert '(("join any"))' in chart
        assert "for each key of inputs.keys, 3 at once" in chart
        assert "if it fails#58; undo every change" in chart
        assert chart.count("always, however the rest ended") == 2
        assert chart.count("subgraph ") == chart.count("\n  end\n") + chart.count("\n    end\n")

    def test_a_called_runbook_that_is_not_linked_is_named(self):
        """
        A file on its own can be drawn.
        """
        chart = mermaid(book(Step(id="contain", line=1, call=Call("contain"))))

        assert '[["runbook contain"]]' in chart
        assert "runbook contain" in texts(svg(book(Step(id="x", line=1, call=Call("contain")))))

    def test_who_may_say_yes_and_what_follows_without_one(self):
        """
        How long is waited, who may override, and the way past what nobody approved.
        """
        skip = Approval(("security",), 2, 900.0, "skip", break_glass="commanders")
        chart = mermaid(book(change("close", approval=skip), change("turn")))

        assert "2 of security within 15m, else skip#59; commanders may override" in chart
        assert '|"approved"|' in chart
        assert '|"not approved"|' in chart

    def test_what_a_loop_goes_over(self):
        """
        An expression without its braces, or the values as they stand in the file.
        """
        for items, said in (
            (expression("inputs.keys"), "inputs.keys"),
            (["a", 2, None, [True]], "a, 2, null, true"),
            ([{"a": expression("inputs.b")}], '{"a": "inputs.b"}'),
        ):
            loop = Step(id="each", line=1, foreach=Foreach(items, "key", (step("a"),)))
            assert f"for each key of {said}, one at a time" in texts(svg(book(loop)))

    def test_when_an_answer_is_due(self):
        """
        Beside who is asked, and until when.
        """
        asks = manual("fixed", assignee="developers", due_s=3600.0, timeout_s=7200.0)

        assert "asks developers, due in 1h, within 2h, else stop" in texts(svg(book(asks)))

    @settings(deadline=None)
    @given(st.text(max_size=120) | st.just(HOSTILE))
    def test_text_is_inert(self, text: str):
        """
        Whatever the texts of a file are, each line has a form of ours.
        """
        hostile = replace(
            book(
                Step(id="a", line=1, manual=Manual(ask=text, assignee=text)),
                replace(change("b"), uses=text, approval=Approval((text,), card=text)),
                Step(id="c", line=1, foreach=Foreach(text, text, (step("d"),))),
                Step(id="e", line=1, call=Call(text)),
            ),
            name=text,
        )

        for line in mermaid(hostile).splitlines():
            assert LINE.fullmatch(line), line

    @pytest.mark.parametrize(
        ("text", "made"),
        [
            ("gateway.close", "gateway.close"),
            ("1. first", "1#46; first"),
            ("# a -- b", "#35; a #45;#45; b"),
            ("www.x.example", "www#46;x.example"),
            ("Ünïcode 漢", "Ünïcode 漢"),
        ],
    )
    def test_plain_words_stay_readable(self, text: str, made: str):
        """
        Only what could be markup is coded.
        """
        assert escaped(text) == made


# --- SVG -----------------------------------------------------------------------------------------


class TestSvg:
    def test_every_step_is_there_once(self):
        """
        With and without a run.
        """
        for drawing in (svg(GROUPS), svg(GROUPS, state_of(tell=was(StepStatus.DONE)))):
            found = texts(drawing)
            assert [found.count(name) for name in sorted(LEAVES)] == [1] * len(LEAVES)

    def test_it_stands_alone(self):
        """
        No scripts, styles, pictures, links or handlers: shapes and text only.
        """
        root = ElementTree.fromstring(svg(GROUPS, state_of(tell=was(StepStatus.FAILED))))

        assert {each.tag.removeprefix(SVG) for each in root.iter()} <= {
            "svg", "title", "desc", "rect", "path", "circle", "text",
        }  # fmt: skip
        attributes = {name for each in root.iter() for name in each.attrib}
        assert not {name for name in attributes if name.startswith("on") or "href" in name}
        assert "url(" not in svg(GROUPS)

    def test_the_title_says_which_run_and_how_it_went(self):
        """
        Run, name, version, status and reason.
        """
        found = texts(svg(GROUPS, state_of(status=RunStatus.STOPPED, reason="a drill")))

        assert found[:5] == [
            "stopped",
            "INC-7-R1 A book",
            f"book · version {GROUPS.version[:12]}",
            "started by slack:U0SAM",
            "a drill",
        ]

    def test_a_step_shows_how_it_went(self):
        """
        Status, failure, approvals, attempts and time.
        """
        failed = was(
            StepStatus.FAILED,
            took=125,
            attempt=3,
            approvals=("slack:U1", "slack:U2"),
            failure=Failure(phase="apply", error="refused", message="No such route."),
        )
        found = texts(svg(book(change("close")), state_of(close=failed)))

        assert "refused in apply: No such route." in found
        assert "by slack:U1, slack:U2" in found
        assert "2 min 5 s, 3 attempts" in found
        assert "failed" in found

    @pytest.mark.parametrize("status", list(StepStatus))
    def test_every_status_is_told_by_words_and_sign(self, status: StepStatus):
        """
        Colour alone tells nothing: the word stands on the card and in the legend.
        """
        found = texts(svg(book(step("look")), state_of(look=was(status))))

        assert found[1:].count(status.value.replace("_", " ")) == 2

    @pytest.mark.parametrize("status", list(RunStatus))
    def test_every_end_of_a_run_can_be_drawn(self, status: RunStatus):
        """
        Also that it is not over.
        """
        found = texts(svg(book(step("look")), state_of(status=status)))

        assert status.value in found
        assert (f"ended: {status.value}" in found) == status.is_final

    def test_iterations_are_rows_and_many_are_counted(self):
        """
        Up to twenty stand there by number, with what went wrong; more are only counted.
        """

        def run(number: int) -> list[str]:
            steps = {
                f"each_{n}_{name}": was(
                    StepStatus.FAILED if (n, name) == (2, "prove") else StepStatus.DONE,
                    failure=Failure(phase="run", error="failed", message="No.") if n == 2 else None,
                )
                for n in range(number)
                for name in ("rotate", "prove")
            }
            return texts(svg(GROUPS, state_of(**steps)))

        few, many = run(20), run(21)

        assert {str(n) for n in range(20)} <= set(few)
        assert "prove: No." in few
        assert "1 failed, 19 done" in few
        assert "21 items:" in many
        assert not {str(n) for n in range(21)} & set(many)

    def test_the_way_taken_is_solid_and_bold_and_the_rest_dashed(self):
        """
        Of two steps of which one was done, one card is dashed, and so is the way to it.
        """
        two = book(step("one"), step("two"))
        halfway = ElementTree.fromstring(svg(two, state_of(one=was(StepStatus.DONE))))
        planned = ElementTree.fromstring(svg(two))

        dashed = [each for each in halfway.iter() if "stroke-dasharray" in each.attrib]
        bold = [each for each in halfway.iter(f"{SVG}path") if each.get("stroke-width") == "3"]
        assert len([each for each in dashed if each.tag == f"{SVG}rect"]) == 2  # two, and the end
        assert len([each for each in dashed if each.tag == f"{SVG}path"]) == 2
        assert len(bold) == 1
        assert not [each for each in planned.iter() if "stroke-dasharray" in each.attrib]

    def test_a_run_that_left_its_steps_goes_on_to_always(self):
        """
        The way goes past what was not done, and is not broken.
        """
        stopped = state_of(
            status=RunStatus.STOPPED,
            tell=was(StepStatus.STOPPED),
            report=was(StepStatus.DONE, 5),
        )
        without = state_of(status=RunStatus.STOPPED, tell=was(StepStatus.STOPPED))

        assert "ended: stopped" in texts(svg(GROUPS, stopped))
        assert svg(GROUPS, stopped).count('stroke-width="3"') > svg(GROUPS, without).count(
            'stroke-width="3"'
        )

    @settings(deadline=None)
    @given(
        st.text(max_size=300) | st.just(HOSTILE),
        st.dictionaries(
            st.sampled_from(
                ["contain", "contain.close", "parallel@1", "affected", "each", "each.0.rotate",
                 "each.12.prove", "each.0", "tell", "wipe", "report", "elsewhere", "9.x"]
            ),
            st.sampled_from(list(StepStatus)),
        ),
    )  # fmt: skip
    def test_any_text_and_any_state_give_a_valid_picture(
        self, text: str, statuses: dict[str, StepStatus]
    ):
        """
        A strict parser reads it, and nothing of the text became an element.
        """
        hostile = replace(
            GROUPS,
            name=text,
            steps=(
                *GROUPS.steps,
                Step(id="ask", line=1, manual=Manual(ask=text, assignee=text)),
                replace(change("do"), uses=text, approval=Approval((text,))),
            ),
        )
        failure = Failure(phase="run", error="failed", message=text)
        state = state_of(reason=text).model_copy(
            update={
                "run_id": text,
                "steps": {
                    key: was(status, note=text, failure=failure, approvals=(text,))
                    for key, status in statuses.items()
                },
            }
        )

        drawing = svg(hostile, state)

        root = ElementTree.fromstring(drawing)
        assert "script" not in {each.tag.removeprefix(SVG) for each in root.iter()}
        assert all("\n" not in each for each in texts(drawing))
        assert svg(hostile, state) == drawing

    def test_an_iteration_goes_on_while_a_step_of_it_waits_its_turn(self):
        """
        It is done only when every step of it is.
        """
        state = state_of(each_0_rotate=was(StepStatus.DONE), each_0_prove=StepState())

        assert "running" in texts(svg(GROUPS, state))

    def test_an_iteration_of_many_steps_shows_the_first(self):
        """
        And says that there are more.
        """
        names = [f"s{number}" for number in range(30)]
        loop = Step(id="each", line=1, foreach=Foreach([1], "i", tuple(step(n) for n in names)))
        few, many = (
            svg(book(loop), state_of(**{f"each_0_{n}": was(StepStatus.DONE) for n in chosen}))
            for chosen in (names[:2], names)
        )

        assert "…" in texts(many)
        assert "…" not in texts(few)

    def test_the_way_past_a_step(self):
        """
        It is there for what may come; in a run only where the run went past.
        """
        one = book(step("tell", condition=expression("inputs.loud")), step("last"))

        assert "else" in texts(svg(one))
        for status, words in ((StepStatus.DONE, set()), (StepStatus.SKIPPED, {"past"})):
            drawing = svg(one, state_of(tell=was(status), last=was(StepStatus.DONE, 5)))
            assert {"else", "past"} & set(texts(drawing)) == words

    def test_a_called_runbook_without_always(self):
        """
        Its steps are drawn where it is called; one without steps is an empty frame.
        """
        for inner, seen in ((book(step("inner")), True), (book(), False)):
            drawing = svg(book(Step(id="other", line=1, call=Call("book", {}, inner))))
            assert ("inner" in texts(drawing)) is seen

    def test_the_legend_stays_on_the_page(self):
        """
        Where a run has had more statuses than fit, the last are left out.
        """
        every = {f"s{number}": was(status) for number, status in enumerate(StepStatus)}
        drawing = svg(book(*(step(name) for name in every)), state_of(**every))
        width = float(ElementTree.fromstring(drawing).attrib["width"])

        assert all(
            float(each.attrib["x"]) < width
            for each in ElementTree.fromstring(drawing).iter(f"{SVG}text")
        )

    def test_an_empty_run_can_be_drawn(self):
        """
        Of a run of which nothing is known yet.
        """
        state = RunState(incident_id="INC-1", run_id="INC-1-R1", origin=ALERT)

        assert "not over yet" in texts(svg(GROUPS, state))

    def test_everything_lies_on_the_page(self):
        """
        No shape is outside, and no text begins there.
        """
        root = ElementTree.fromstring(svg(GROUPS, state_of(tell=was(StepStatus.DONE))))
        width, height = float(root.attrib["width"]), float(root.attrib["height"])

        for each in root.iter():
            if "x" in each.attrib:
                assert 0 <= float(each.attrib["x"]) <= width
                assert 0 <= float(each.attrib["y"]) <= height
            if each.tag == f"{SVG}rect":
                assert float(each.get("x", "0")) + float(each.attrib["width"]) <= width + 0.1
                assert float(each.get("y", "0")) + float(each.attrib["height"]) <= height + 0.1


class TestText:
    @settings(deadline=None)
    @given(st.text(max_size=200), st.floats(40, 400))
    def test_what_is_fitted_fits(self, text: str, room: float):
        """
        One line, as broad as the room at most; wrapped lines too, and no more of them.
        """
        assert width_of(fit(text, room, 12), 12) <= room
        lines = wrap(text, room, 12, 3)
        assert len(lines) <= 3
        assert all(width_of(line, 12) <= room for line in lines)

    def test_where_nothing_fits(self):
        """
        What is left is the sign that something was cut off.
        """
        assert fit("wide", 1, 12) == "…"
        assert wrap("wide", 1, 12, 3) == ["…"]

    def test_durations(self):
        """
        As the language writes them, and as a clock measured them.
        """
        assert [duration_text(s) for s in (90, 900, 14_400, 172_800, 0.5)] == [
            "90s", "15m", "4h", "2d", "0.5s",
        ]  # fmt: skip
        assert [took_text(s) for s in (0, 3.24, 59, 60, 125, 3_600, 3_780)] == [
            "0 s", "3.2 s", "59 s", "1 min", "2 min 5 s", "1 h", "1 h 3 min",
        ]  # fmt: skip
