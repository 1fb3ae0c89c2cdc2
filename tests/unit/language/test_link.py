"""Runbooks that call each other: what is checked between files, and what comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.errors import RunbookInvalid
from bot.folders import load_folder
from bot.language.load import check_files, load
from bot.language.runbook import Runbook
from tests.unit.language.acme_actions import ACTIONS
from tests.unit.language.texts import CONTAIN, EVERYTHING

WIPE = "{id: w, uses: data.wipe}"


def book(name: str, *steps: str, more: str = "") -> str:
    """A small runbook."""
    return (
        f"id: {name}\nname: A\nsummary: S.\nseverity: sev1\nowners: [b]\n"
        f"steps: [{', '.join(steps) or WIPE}]\n{more}"
    )


def calls(*names: str) -> list[str]:
    return [f"{{id: c{number}, runbook: {name}}}" for number, name in enumerate(names)]


def found(*texts: str) -> list[tuple[str, str, str]]:
    """Number of the text, path and message of each problem between texts."""
    problems = check_files({str(number): text for number, text in enumerate(texts)}, ACTIONS)
    return [(file, each.where, each.message) for file, ones in problems.items() for each in ones]


def changed(old: str, new: str, text: str = EVERYTHING) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)


class TestChecks:
    def test_what_fits_together(self):
        """
        Neither the order of the files nor what is beside them matters.
        """
        assert found(EVERYTHING, CONTAIN) == found(CONTAIN, book("z"), EVERYTHING) == []

    def test_an_unknown_runbook(self):
        """
        A call of a runbook that is not there is a problem, with what was meant.
        """
        assert found(EVERYTHING, CONTAIN.replace("id: contain-", "id: contains-")) == [
            (
                "0",
                "steps[4].runbook",
                "No runbook is called 'contain-endpoint'. Did you mean 'contains-endpoint'?",
            )
        ]
        assert found(book("a", *calls("b"))) == [
            ("0", "steps[0].runbook", "No runbook is called 'b'. There is none.")
        ]

    @pytest.mark.parametrize("broken", ["", "id: Contain", "id: contain-endpoint\n"])
    def test_a_broken_runbook_is_not_an_unknown_one(self, broken: str):
        """
        Nothing is said about calls of a runbook whose file has problems, or that may be in one.
        """
        assert {file for file, _, _ in found(EVERYTHING, broken)} == {"1"}

    @pytest.mark.parametrize(
        ("old", "new", "where", "part"),
        [
            (
                'with: {endpoint: "{{ inputs.endpoint }}", hours: 2}',
                "with: {hours: 2}",
                "steps[4].with",
                "Runbook 'contain-endpoint' needs endpoint. Give it under 'with'",
            ),
            (
                '    with: {endpoint: "{{ inputs.endpoint }}", hours: 2}\n',
                "",
                "steps[4].with",
                "needs endpoint",
            ),
            ("hours: 2}", "hours: soon}", "steps[4].with.hours", "'soon' is not a whole number"),
            ("hours: 2}", "hours: [2]}", "steps[4].with.hours", "[2] is not a whole number"),
            ("hours: 2}", "huors: 2}", "steps[4].with.huors", "Did you mean 'hours'?"),
            (
                "{{ steps.contain.containment }}",
                "{{ steps.contain.containmnt }}",
                "outputs.containment",
                "Did you mean 'containment'?",
            ),
            (
                "{{ steps.contain.containment }}",
                "{{ steps.contain }}",
                "outputs.containment",
                "Say what is to be read of steps.contain: there are containment, hours, skipped",
            ),
            (
                "contain.close",
                "contain.clse",
                "triggers[0].auto[3]",
                "'contain-endpoint' has no step 'clse' under 'steps'. Did you mean 'close'?",
            ),
            ("contain.close", "contain.last", "triggers[0].auto[3]", "no step 'last'"),
            ("contain.close", "contain.ask", "triggers[0].auto[3]", "'contain.ask' asks a person"),
            (
                "contain.close",
                "contain.close.x",
                "triggers[0].auto[3]",
                "Step 'contain.close' calls no runbook, so there is no 'contain.close.x'.",
            ),
        ],
    )
    def test_each_broken_rule_is_one_problem(self, old: str, new: str, where: str, part: str):
        """
        Inputs, outputs and steps of the other runbook are checked where they are used.
        """
        [(file, at, message)] = found(changed(old, new), CONTAIN)

        assert (file, at) == ("0", where)
        assert part in message

    def test_a_runbook_without_inputs(self):
        """
        It takes nothing.
        """
        assert found(book("a", "{id: c, runbook: b, with: {x: 1}}"), book("b")) == [
            ("0", "steps[0].with.x", "The key 'x' is unknown here. None is taken.")
        ]

    def test_status_of_a_call(self):
        """
        A call has what every step has.
        """
        reads = '{id: r, if: "{{ steps.c0.status == none }}", uses: data.wipe}'

        assert found(book("a", *calls("b"), reads), book("b")) == []

    def test_steps_some_runbooks_down_may_be_automatic(self):
        """
        The way leads through the steps that call.
        """
        auto = "triggers: [{source: x, auto: [c0.c0.w]}]\n"
        last = book("c", "{id: w, uses: notify.people, with: {data: []}}")

        assert found(book("a", *calls("b"), more=auto), book("b", *calls("c")), last) == []
        assert found(book("a", *calls("b"), more=auto), book("b", *calls("c")), book("c")) == [
            (
                "0",
                "triggers[0].auto[0]",
                "Step 'c0.c0.w' cannot be taken back, so a person must approve it.",
            )
        ]

    def test_circles(self):
        """
        Each runbook on a circle is told the way round; one that leads there is not.
        """
        problems = found(
            book("a", *calls("b")),
            book("b", WIPE, *calls("c")),
            book("c", *calls("x", "b")),
            book("d", *calls("d")),
            book("x"),
        )

        assert [(file, where, message[:49]) for file, where, message in problems] == [
            ("1", "steps[1].runbook", "The runbook calls itself: b -> c -> b. A run woul"),
            ("2", "steps[1].runbook", "The runbook calls itself: c -> b -> c. A run woul"),
            ("3", "steps[0].runbook", "The runbook calls itself: d -> d. A run would nev"),
        ]

    def test_a_circle_of_three_with_a_way_around(self):
        """
        The shortest way is told, in its order.
        """
        texts = (book("a", *calls("b", "c")), book("b", *calls("c")), book("c", *calls("d")))

        [message, *_] = [message for *_, message in found(*texts, book("d", *calls("a")))]
        assert "a -> c -> d -> a" in message

    def test_calls_go_five_deep(self):
        """
        The one that begins the sixth level is told; those that call it are not.
        """
        chain = [book(f"b{number}", *calls(f"b{number + 1}")) for number in range(8)]

        assert found(*chain[3:], book("b8")) == []
        [(file, where, message)] = found(*chain, book("b8"))
        assert (file, where) == ("2", "steps[0].runbook")
        assert message.startswith("Runbooks call each other at most 5 deep")

    def test_steps_do_not_multiply_without_end(self):
        """
        All that a runbook may come to do is bounded, counted at each call.
        """
        wide = [f"{{id: s{number}, uses: data.wipe}}" for number in range(199)]
        texts = [book("a", *calls("b")), book("b", *calls(*["c"] * 5)), book("c", *wide)]

        assert found(*texts[1:]) == []
        texts[2] = book("c", *wide, WIPE)
        assert found(*texts) == [
            (
                "1",
                "steps[0].runbook",
                "With all that it calls, the runbook has over 1000 steps. Call less from here.",
            )
        ]

    def test_two_of_one_id(self):
        """
        The second is told about the first.
        """
        assert found(book("a"), book("a")) == [
            ("1", "id", "0 is called 'a' already. Rename one of the two.")
        ]


class TestLinking:
    def test_every_call_leads_to_its_runbook(self, tmp_path: Path):
        """
        Wherever the call stands: in a branch, in a foreach, under ``always``, in one called.
        """
        steps = [
            "{parallel: [{id: p, runbook: b}]}",
            "{id: f, foreach: [1], steps: [{id: i, runbook: b}]}",
        ]
        texts = {
            "a": book("a", *steps, more="always: [{id: z, runbook: c}]\n"),
            "b": book("b", *calls("c")),
            "c": book("c", more="outputs: {x: 1}\n"),
        }
        for name, text in texts.items():
            (tmp_path / f"{name}.yaml").write_text(text)

        runbooks = load_folder([tmp_path], ACTIONS)

        assert list(runbooks) == ["a", "b", "c"]
        first = runbooks["a"]
        for step_id, name in (("p", "b"), ("i", "b"), ("z", "c")):
            call = first.step(step_id).call
            assert call is not None
            assert call.book is runbooks[name]
        assert first.step("z").fact_names == ("x",)
        assert runbooks["c"].version == runbooks["c"].digest
        assert first.called() == {"b": runbooks["b"], "c": runbooks["c"]}

    def test_a_pinned_run_is_loaded_with_what_it_calls(self):
        """
        From texts alone comes the same runbook, of the same version, as from the folder.
        """
        texts = {"b": book("b", *calls("c")), "c": book("c")}
        loaded = load(book("a", *calls("b")), "a.yaml", ACTIONS, texts)

        def again(runbook: Runbook) -> Runbook:
            called = {name: each.text for name, each in runbook.called().items()}
            return load(runbook.text, "a.yaml", ACTIONS, called)

        assert list(loaded.called()) == ["b", "c"]
        assert again(loaded) == loaded
        assert again(loaded).version == loaded.version != loaded.digest
        changed_text = load(
            book("a", *calls("b")), "a.yaml", ACTIONS, texts | {"c": book("c") + "#"}
        )
        assert changed_text.version != loaded.version

    def test_what_is_called_must_be_there_and_right(self):
        """
        A pinned run whose texts do not fit is not loaded.
        """
        with pytest.raises(RunbookInvalid, match="No runbook is called 'b'"):
            load(book("a", *calls("b")), "a.yaml", ACTIONS)
        with pytest.raises(RunbookInvalid, match=r"a\.yaml, which calls b: 1 problem"):
            load(book("a", *calls("b")), "a.yaml", ACTIONS, {"b": "- x"})

    def test_a_folder_with_problems_between_its_files(self, tmp_path: Path):
        """
        They are reported like all others; what cannot be read may hold what is missing.
        """
        (tmp_path / "a.yaml").write_text(book("a", *calls("b")))
        with pytest.raises(RunbookInvalid, match="No runbook is called 'b'"):
            load_folder([tmp_path], ACTIONS)

        (tmp_path / "b.yaml").write_bytes(b"\xff")
        with pytest.raises(RunbookInvalid) as caught:
            load_folder([tmp_path], ACTIONS)
        assert [each.message for each in caught.value.problems] == [
            "The file is not UTF-8. Save it as UTF-8."
        ]
