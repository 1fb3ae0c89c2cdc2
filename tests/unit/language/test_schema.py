"""The JSON Schema of the language agrees with the loader wherever a schema can."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bot.language.load import check
from bot.language.schema import schema
from tests.unit.language.acme_actions import ACTIONS
from tests.unit.language.texts import GOOD

SCHEMA = schema(ACTIONS)
VALIDATOR = Draft202012Validator(SCHEMA)
DOCUMENT: dict[str, Any] = yaml.safe_load(
    GOOD.replace("{version: {", "{version: {").replace("1.2.3", "'1.2.3'")
)


def changed(path: list[Any], value: Any) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    inner: Any = document
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


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
            (["steps", 1, "on_failure"], "undo"),
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

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_what_the_loader_takes_is_valid(self, data: st.DataObject):
        """
        The schema is never stricter than the loader, however a runbook is changed.
        """
        document = copy.deepcopy(DOCUMENT)
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
