"""Reads the declarations of inputs and of the fields of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bot.errors import ExpressionInvalid
from bot.language.expressions import Expression, evaluate
from bot.language.fields import Reading, Section, named_maps
from bot.language.inputs import coerce
from bot.language.runbook import Input, InputType
from bot.language.yaml_source import Broken, Map, Node, Scalar, plain

KEYS = ("type", "description", "default", "enum", "examples")
_ANY_MOMENT = datetime(2000, 1, 1, tzinfo=UTC)


def read_declarations(
    node: Map | None, where: str, reading: Reading, *, computed_defaults: bool
) -> dict[str, Input | None]:
    """
    Return declared names; None for one whose type cannot be told.

    Args:
        computed_defaults: Whether a default may be an expression.
    """
    declared: dict[str, Input | None] = {}
    for entry, body, path in named_maps(node, where, reading, "a mapping such as {type: string}"):
        declared[entry.key] = None
        if body is not None:
            section = Section(body, path, reading, KEYS)
            declared[entry.key] = _read(entry.key, section, computed_defaults)
    return declared


def _read(name: str, section: Section, computed_defaults: bool) -> Input | None:
    section.require("type")
    description = section.text("description")
    type_ = section.choice("type", [one.value for one in InputType], "")
    if not type_:
        return None
    bare = Input(name, InputType(type_), description)
    enum = tuple(
        value
        for item, where in section.items("enum", "values")
        if (value := _literal(bare, item, where, section.reading)) is not None
    )
    limited = Input(name, bare.type, description, enum=enum)
    examples = tuple(
        value
        for item, where in section.items("examples", "values")
        if (value := _literal(limited, item, where, section.reading)) is not None
    )
    default = _default(limited, section, computed_defaults)
    return Input(name, bare.type, description, default, section.has("default"), enum, examples)


def _literal(declared: Input, node: Node, where: str, reading: Reading) -> Any:
    """Return a literal as JSON of the declared type, or None after reporting."""
    if isinstance(node, Broken):
        return None
    try:
        return coerce(declared, plain(node))
    except ValueError as error:
        reading.add(node.mark, where, str(error))
        return None


def _default(declared: Input, section: Section, computed_defaults: bool) -> Any:
    """Return the default: JSON of the declared type, or an expression over ``now()``."""
    entry = section.entry("default")
    if entry is None:
        return None
    node, reading, where = entry.value, section.reading, section.path("default")
    if not isinstance(node, Scalar) or "{{" not in node.raw:
        if isinstance(node, Scalar) and node.value is None:
            return None
        return _literal(declared, node, where, reading)
    if not computed_defaults:
        reading.add(node.mark, where, "An expression cannot stand here. Write the value itself.")
        return None
    expression = reading.expression(node, where)
    if expression is not None and not expression.references:
        _try(declared, expression, node, where, reading)
    return expression


def _try(
    declared: Input, expression: Expression, node: Scalar, where: str, reading: Reading
) -> None:
    """Report a default whose result, at any moment, is not of its input's type."""
    try:
        result = evaluate(expression, {}, _ANY_MOMENT)
        if result is not None:
            coerce(declared, result)
    except (ValueError, ExpressionInvalid) as error:
        reading.add(node.mark, where, str(error))


def known(declared: Mapping[str, Input | None]) -> dict[str, Input]:
    """Return those declarations that could be read."""
    return {name: one for name, one in declared.items() if one is not None}
