"""Checks what stands under ``with`` against the parameters of its action.

Literal values are checked here as they will be checked at the run; what holds an expression can
only be checked then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from bot.action import Action
from bot.language.fields import Reading, Section
from bot.language.yaml_source import List, Map, Mark, Node, Scalar, leaves, path_of


def key_of(name: str, field: FieldInfo) -> str:
    """Return what a parameter is called under ``with``."""
    return field.alias or name


def read_params(node: Map, where: str, reading: Reading, action: Action[Any]) -> Mapping[str, Any]:
    """Return the values under ``with``, as JSON whose leaves may be expressions."""
    fields = {key_of(name, field): field for name, field in action.params.model_fields.items()}
    section = Section(node, where, reading, fields)
    section.require(*(key for key, field in fields.items() if field.is_required()))
    values: dict[str, Any] = {}
    literals: dict[str, Node] = {}
    for key in fields:
        entry = section.entry(key)
        if entry is None:
            continue
        values[key] = reading.value(entry.value, section.path(key))
        if _is_literal(entry.value):
            literals[key] = entry.value
    _check_literals(section, values, literals, action)
    return values


def _is_literal(node: Node) -> bool:
    """Tell whether a value holds no expression, and nothing that is reported already."""
    return all(isinstance(leaf, Scalar) and "{{" not in leaf.raw for leaf, _ in leaves(node, ""))


def _check_literals(
    section: Section, values: Mapping[str, Any], literals: Mapping[str, Node], action: Action[Any]
) -> None:
    """Validate the literal values; what is missing was said, and what is an expression is left out
    together with the rules that look at several values at once."""
    try:
        action.params.model_validate({key: values[key] for key in literals})
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_context=False):
            location = problem["loc"]
            if problem["type"] == "missing" and len(location) == 1:
                continue
            if not location and len(literals) == len(values):
                section.reading.add(section.mark, section.where, _sentence(problem))
            elif location and location[0] in literals:
                key = str(location[0])
                mark, where = _descend(literals[key], section.path(key), location[1:])
                section.reading.add(mark, where, _sentence(problem))


def _descend(node: Node, where: str, location: tuple[int | str, ...]) -> tuple[Mark, str]:
    """Return the place of a problem inside a value; names of union members are passed over."""
    for part in location:
        if isinstance(node, List) and isinstance(part, int) and part < len(node.items):
            node, where = node.items[part], f"{where}[{part}]"
        elif isinstance(node, Map) and (entry := node.get(str(part))) is not None:
            node, where = entry.value, path_of(where, entry.key)
    return node.mark, where


def _sentence(problem: ErrorDetails) -> str:
    """Return what pydantic says as a sentence of ours."""
    match problem["type"]:
        case "missing":
            return f"'{problem['loc'][-1]}' is missing here."
        case "extra_forbidden":
            return "This key is unknown here."
        case _:
            message = problem["msg"].removeprefix("Value error, ")
            message = message.replace("Input should be", "This should be")
            return message if message.endswith(".") else f"{message}."
