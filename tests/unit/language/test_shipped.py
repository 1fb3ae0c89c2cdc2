"""What is shipped with the language: the runbooks, their rehearsals, the page, the real actions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from bot import wiring
from bot.engine.rehearsal import rehearse
from bot.folders import load_folder, rehearse_folder
from bot.language import approvals, groups, link, singles, steps, yaml_source
from bot.language import rehearsal as rehearsals
from bot.language.declarations import KEYS as INPUT_KEYS
from bot.language.document import RUNBOOK_KEYS
from bot.language.filters import FILTERS, FUNCTIONS
from bot.language.load import check_files, load
from bot.language.outline import KINDS
from bot.language.params import key_of
from bot.language.rehearsal import load_rehearsal
from bot.language.runbook import InputType
from bot.language.schema import schema
from bot.language.triggers import TRIGGER_KEYS
from bot.model.alert import Alert
from bot.model.endpoint import Endpoint

RUNBOOKS = Path(__file__).parents[3] / "runbooks"
PAGE = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
ACTIONS = wiring.actions()
YAML_BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table after a line, without its head."""
    after = PAGE[PAGE.index(heading) :]
    table = re.search(r"(?:^\|.*\n)+", after, flags=re.MULTILINE)
    assert table is not None
    lines = table[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def names(heading: str, column: int = 0) -> list[str]:
    """The names written as code in a column of a table."""
    return [name for row in rows(heading) for name in re.findall(r"`(\w+)", row[column])]


class TestRunbooks:
    def test_all_load(self):
        """
        The shipped runbooks hold no problem, with the real actions.
        """
        assert "api1-bola" in load_folder([RUNBOOKS], ACTIONS)

    def test_all_are_valid_under_the_schema(self):
        """
        An editor that uses ``firedoor schema`` marks nothing in them.
        """
        validator = Draft202012Validator(schema(ACTIONS))
        for file in load_folder([RUNBOOKS], ACTIONS).values():
            assert list(validator.iter_errors(yaml.safe_load(file.text))) == []

    @pytest.mark.parametrize(
        "rehearsed", rehearse_folder(RUNBOOKS, ACTIONS), ids=lambda each: each.case
    )
    def test_rehearsals(self, rehearsed: Any):
        """
        Each runbook has a rehearsal, and every case of it passes.
        """
        assert rehearsed.differences == ()

    def test_lifting_works_when_closing_was_skipped(self):
        """
        What a skipped step left is null, and ``reopen`` lifts only what is held.
        """
        runbook = load_folder([RUNBOOKS], ACTIONS)["api1-bola"]
        expression = runbook.step("reopen").params["containments"]
        from bot.language.expressions import evaluate

        scope = {"steps": {"close": {"containment": None}, "throttle": {"containment": "T"}}}
        value = evaluate(expression, scope, rehearsals.START)

        assert ACTIONS["gateway.lift"].read_params({"containments": value}).containments == ["T"]


class TestPage:
    def test_its_runbook_and_rehearsal_work(self):
        """
        The examples on the page are whole: the runbook loads, and its rehearsal passes.
        """
        runbook_text, rehearsal_text = YAML_BLOCKS
        runbook = load(runbook_text, "README.md", ACTIONS)
        rehearsal = load_rehearsal(rehearsal_text, "README.md", {runbook.id: runbook})

        for case in rehearsal.cases:
            assert rehearse(runbook, rehearsal, case).differences == ()

    def test_its_pieces_work(self):
        """
        The steps shown beside the tables load, one after another.
        """
        pieces = "".join(re.findall(r"^```yml\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE))
        head = "name: A\nsummary: S.\nseverity: sev1\nowners: [b]\n"
        inputs = "inputs: {endpoint: {type: endpoint}, since: {type: datetime, default: null}}\n"
        texts = {
            "pieces": f"id: pieces\n{head}{inputs}steps:\n{pieces}",
            "called": f"id: contain-endpoint\n{head}{inputs}steps: [{{id: a, manual: {{ask: b}}}}]",
        }

        assert pieces.count("\n- ") == 2
        assert check_files(texts, ACTIONS) == {"pieces": (), "called": ()}

    @pytest.mark.parametrize(
        ("heading", "keys"),
        [
            ("### Runbook", RUNBOOK_KEYS),
            ("### Input,", INPUT_KEYS),
            ("| Type | Takes", [each.value for each in InputType]),
            ("### Trigger", TRIGGER_KEYS),
            ("| Key of `approval`", approvals.APPROVAL_KEYS),
            ("| Key of `retry`", singles.RETRY_KEYS),
            ("| Key of `manual`", singles.MANUAL_KEYS),
            ("### Functions", [*FUNCTIONS, "duration"]),
            ("### Filters", FILTERS),
            ("| Key | Holds |\n|---|---|\n| `runbook`", rehearsals.KEYS),
            ("| Key of a case", rehearsals.CASE_KEYS),
            ("| Key of a failure", rehearsals.FAILURE_KEYS),
            ("| Key of `expect`", rehearsals.EXPECT_KEYS),
            ("| Act | With", [*rehearsals._ACT_KEYS]),
        ],
    )
    def test_its_tables_are_complete(self, heading: str, keys: Any):
        """
        Every key, type, function and filter stands in its table, and nothing else.
        """
        assert sorted(names(heading)) == sorted(keys)

    def test_its_tables_of_a_step_are_complete(self):
        """
        Each kind of step has a table of its keys, besides those of every step.
        """
        common = names("A step has exactly one of")
        assert sorted(common) == sorted({*steps.STEP_KEYS} - {*steps.BELONGS})
        for kind in KINDS:
            takes = [key for key, kinds in steps.BELONGS.items() if kind in kinds]
            if takes:
                assert sorted(names(f"With `{kind}`")) == sorted(takes)

    def test_its_list_of_names_is_complete(self):
        """
        What an alert and an endpoint have is listed.
        """
        for model in (Alert, Endpoint):
            for field in model.model_fields:
                assert any(f"`{field}`" in row[1] for row in rows("### Names")), field

    def test_its_figures_are_the_codes(self):
        """
        A bound on the page is the bound in force.
        """
        from bot.language import grammar, inputs, values

        for figure in (
            f"{yaml_source.MAX_BYTES // 1024} KiB",
            f"{yaml_source.MAX_DEPTH} levels",
            f"{yaml_source.MAX_NODES:,} values",
            f"{grammar.MAX_LENGTH:,} characters",
            f"{values.MAX_ITEMS:,} items",
            f"{values.MAX_TEXT:,}\ncharacters",
            f"{inputs.MAX_TEXT:,} characters",
            f"1 (the default) to {approvals.MAX_APPROVALS}",
            f"1 to {singles.MAX_ATTEMPTS}, with the first one",
            f"1 to {singles.MAX_BACKOFF}",
            f"1 (the default) to {groups.MAX_CONCURRENCY}",
            f"at most {steps.MAX_STEPS} steps",
            f"{groups.MAX_NESTING} deep",
            f"{link.MAX_CALLS_DEEP} runbooks deep",
            f"{link.MAX_STEPS_TOGETHER:,} steps",
            f"left out, {rehearsals.START:%Y-%m-%dT%H:%M:%SZ}",
        ):
            assert figure in PAGE, figure

    def test_its_table_of_actions_is_the_list_of_actions(self):
        """
        Each action stands there with its effect, its parameters and its facts.
        """
        expected = []
        for name, action in sorted(ACTIONS.items()):
            fields = action.params.model_fields
            required = [f"`{key_of(n, f)}`" for n, f in fields.items() if f.is_required()]
            optional = [f"*`{key_of(n, f)}`*" for n, f in fields.items() if not f.is_required()]
            effect = action.effect.name + (" + `ttl`" if action.contains else "")
            facts = ", ".join(f"`{fact}`" for fact in action.facts.model_fields)
            expected.append([f"`{name}`", effect, ", ".join([*required, *optional]), facts])

        assert rows("| Action | Effect |") == expected


class TestRealActions:
    @pytest.mark.parametrize("name", sorted(ACTIONS))
    def test_facts_do_not_hide_what_every_step_has(self, name: str):
        """
        ``status`` and ``skipped`` mean the step's own, whatever the action.
        """
        assert ACTIONS[name].facts.model_fields.keys().isdisjoint({"status", "skipped"})

    @pytest.mark.parametrize("name", sorted(ACTIONS))
    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_parameters_refuse_rubbish_in_the_one_way(self, name: str, data: st.DataObject):
        """
        A wrong literal under ``with`` is a problem of the runbook, never a crash of the check.
        """
        action = ACTIONS[name]
        junk = st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.text(max_size=3), inner, max_size=2)
            ),
        )
        values = {
            key_of(field_name, field): data.draw(junk)
            for field_name, field in action.params.model_fields.items()
            if field.is_required() or data.draw(st.booleans())
        }
        try:
            action.read_params(values)
        except ValidationError:
            return
        json.dumps(action.params.model_json_schema())
