"""The JSON Schema of the language agrees with the loader wherever a schema can."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bot import wiring
from bot.language.load import check
from bot.language.params import key_of
from bot.language.schema import schema
from tests.unit.language.acme_actions import ACTIONS
from tests.unit.language.texts import EVERYTHING, GOOD

SCHEMA = schema(ACTIONS)
VALIDATOR = Draft202012Validator(SCHEMA)
DOCUMENT: dict[str, Any] = yaml.safe_load(
    GOOD.replace("{version: {", "{version: {").replace("1.2.3", "'1.2.3'")
)


EVERYTHING_DOCUMENT: dict[str, Any] = yaml.safe_load(EVERYTHING.replace(" on:", " 'on':"))


def changed(path: list[Any], value: Any, document: dict[str, Any] = DOCUMENT) -> dict[str, Any]:
    document = copy.deepcopy(document)
    inner: Any = document
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


def _keys(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of the language in a schema: its path and what the schema says about it."""
    if isinstance(node, list):
        for each in node:
            yield from _keys(each, path)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if " " in key:
            continue  # parameters of an action: it describes them
        if key == "properties" and node.get("type") == "object":
            yield from ((*path, name, about) for name, about in value.items())
        yield from _keys(value, (*path, key))


class TestSchema:
    def test_it_is_a_schema(self):
        """
        It is valid JSON Schema 2020-12, and plain JSON.
        """
        Draft202012Validator.check_schema(SCHEMA)
        assert json.loads(json.dumps(SCHEMA)) == SCHEMA

    def test_a_good_runbook_is_valid(self):
        """
        What the loader takes is valid under the schema.
        """
        assert list(VALIDATOR.iter_errors(DOCUMENT)) == []

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (["name"], None),
            (["id"], "1st"),
            (["severity"], "sev9"),
            (["owasp"], "API11:2023"),
            (["owners"], []),
            (["unknown"], 1),
            (["steps"], []),
            (["inputs", "Bad"], {"type": "string"}),
            (["inputs", "endpoint", "type"], "date"),
            (["inputs", "endpoint", "type"], None),
            (["triggers", 0, "source"], None),
            (["triggers", 0, "if"], "true"),
            (["triggers", 0, "auto"], ["Not an id"]),
            (["steps", 0, "uses"], "gateway.clse"),
            (["steps", 0, "ttl"], None),
            (["steps", 0, "ttl"], "soon"),
            (["steps", 0, "with"], None),
            (["steps", 0, "with", "endpoint"], None),
            (["steps", 0, "with", "tags"], ["green"]),
            (["steps", 0, "with", "hours"], 25),
            (["steps", 0, "with", "unknown"], 1),
            (["steps", 0, "manual"], {"ask": "x"}),
            (["steps", 0, "on_failure"], "give-up"),
            (["steps", 3, "with", "letter"], {"copies": [1, "x"]}),
            (["steps", 3, "with", "letter"], {"subject": "x", "copies": ["y", "x"]}),
            (["steps", 1, "ttl"], "1h"),
            (["steps", 1, "approval"], {"from": ["a"]}),
            (["steps", 1, "retry", "attempts"], 0),
            (["steps", 2, "approval", "from"], []),
            (["steps", 2, "approval", "on_timeout"], "go"),
            (["steps", 4, "manual", "ask"], None),
            (["steps", 4, "ttl"], "1h"),
            (["steps", 4, "manual", "fields", "version", "type"], "text"),
            (["steps", 4, "id"], None),
        ],
    )
    def test_what_the_loader_refuses_is_invalid(self, path: list[Any], value: Any):
        """
        An editor marks these mistakes while one types; the loader refuses each of them too.
        """
        document = changed(path, value)

        assert not VALIDATOR.is_valid(document)
        assert check(json.dumps(document), "x.json", ACTIONS)[1]

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (["steps", 0, "with", "hours"], "{{ 5 }}"),
            (["steps", 0, "with", "tags"], ["red", "{{ inputs.since }}"]),
            (["steps", 0, "with", "tags"], "{{ inputs.since }}"),
            (["steps", 3, "with", "extra"], {"a": [1, "{{ 2 }}"], "b": "{{ 3 }}"}),
            (["steps", 3, "with", "letter"], {"subject": "{{ 'x' }}", "copies": [1, "{{ 'y' }}"]}),
            (["steps", 3, "with", "letter"], "{{ none }}"),
            (["steps", 3, "with", "either"], [1, "{{ 2 }}"]),
        ],
    )
    def test_expressions_may_stand_wherever_values_do(self, path: list[Any], value: Any):
        """
        Also inside lists and mappings of parameters.
        """
        document = changed(path, value)

        assert list(VALIDATOR.iter_errors(document)) == []
        assert check(json.dumps(document), "x.json", ACTIONS)[1] == ()

    def test_a_runbook_that_uses_everything_is_valid(self):
        """
        Every key of the language is known to the schema.
        """
        assert list(VALIDATOR.iter_errors(EVERYTHING_DOCUMENT)) == []

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (["deadline"], 4),
            (["always"], []),
            (["outputs"], ["x"]),
            (["outputs", "Bad"], 1),
            (["approvals", "closing", "break_glass"], ["a"]),
            (["approvals", "closing", "from"], None),
            (["triggers", 0, "auto"], ["a..b"]),
            (["steps", 0, "approval"], "closing"),
            (["steps", 0, "retry", "on"], ["ambiguous"]),
            (["steps", 0, "retry", "on"], []),
            (["steps", 0, "retry", "backoff"], 0),
            (["steps", 0, "retry", "jitter"], True),
            (["steps", 1, "manual", "assignee"], ["a"]),
            (["steps", 1, "manual", "remind"], "often"),
            (["steps", 1, "on_failure"], "stop"),
            (["steps", 2, "join"], "some"),
            (["steps", 2, "on_failure"], "ask"),
            (["steps", 2, "ttl"], "1h"),
            (["steps", 2, "parallel"], []),
            (["steps", 2, "parallel", 0, "uses"], "nope"),
            (["steps", 2, "parallel", 1, "if"], "{{ true }}"),
            (["steps", 2, "parallel", 1, "steps", 0, "approval"], "No name"),
            (["steps", 2, "parallel", 1, "steps", 0, "approval"], {"required": 1}),
            (["steps", 3, "id"], None),
            (["steps", 3, "foreach"], "a"),
            (["steps", 3, "foreach"], []),
            (["steps", 3, "as"], "Not a name"),
            (["steps", 3, "concurrency"], 21),
            (["steps", 3, "steps"], None),
            (["steps", 3, "steps", 0, "with"], {}),
            (["steps", 3, "approval"], "closing"),
            (["steps", 4, "runbook"], "Not an id"),
            (["steps", 4, "with"], [1]),
            (["steps", 4, "retry"], {"attempts": 1}),
            (["always", 0, "uses"], "nope"),
        ],
    )
    def test_what_the_loader_refuses_of_everything_is_invalid(self, path: list[Any], value: Any):
        """
        The same holds for the steps that hold others, and what goes with them.
        """
        document = changed(path, value, EVERYTHING_DOCUMENT)

        assert not VALIDATOR.is_valid(document)
        assert check(json.dumps(document), "x.json", ACTIONS)[1]

    @pytest.mark.parametrize("actions", [ACTIONS, wiring.actions()], ids=["acme", "real"])
    def test_every_key_is_described(self, actions: Any):
        """
        An editor shows what each key of the language is for, and of each parameter what its action
        says about it.
        """
        definitions = schema(actions)
        undescribed = [key for key in _keys(definitions) if not key[-1].get("description")]

        assert undescribed == []
        for name, action in actions.items():
            properties = definitions["$defs"][f"with {name}"]["properties"]
            for key, field in action.params.model_fields.items():
                assert properties[key_of(key, field)].get("description") == field.description

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_what_the_loader_takes_is_valid(self, data: st.DataObject):
        """
        The schema is never stricter than the loader, however a runbook is changed.
        """
        document = copy.deepcopy(data.draw(st.sampled_from([DOCUMENT, EVERYTHING_DOCUMENT])))
        for _ in range(data.draw(st.integers(1, 2))):
            inner: Any = document
            while isinstance(inner, dict | list) and inner:
                keys = list(inner) if isinstance(inner, dict) else range(len(inner))
                key = data.draw(st.sampled_from(list(keys)))
                if not isinstance(inner[key], dict | list) or data.draw(st.booleans()):
                    break
                inner = inner[key]
            if not inner:
                continue
            if data.draw(st.booleans()):
                del inner[key]
            else:
                inner[key] = data.draw(
                    st.sampled_from([None, 5, True, "x", "5m", "{{ 5 }}", [], {}, ["a"], "sev2"])
                )
        _, problems = check(json.dumps(document), "x.json", ACTIONS)
        if not problems:
            assert list(VALIDATOR.iter_errors(document)) == []
