"""JSON Schema of the parameters of an action, where an expression may stand for any value."""

from __future__ import annotations

from typing import Any

from bot.action import Action
from bot.language.params import key_of

JSON = dict[str, Any]

EXPRESSION: JSON = {"$ref": "#/$defs/expression"}


def with_schema(name: str, action: Action[Any]) -> tuple[JSON, JSON]:
    """Return the schema of an action's parameters, and the definitions that it uses."""
    prefix = f"{name} "
    own = action.params.model_json_schema(by_alias=True, ref_template=f"#/$defs/{prefix}{{model}}")
    used = {f"{prefix}{key}": _open(value) for key, value in own.pop("$defs", {}).items()}
    own["properties"] = {
        key: _or_expression(value) for key, value in own.get("properties", {}).items()
    }
    own["required"] = [
        key_of(field_name, field)
        for field_name, field in action.params.model_fields.items()
        if field.is_required()
    ]
    return own, used


def _or_expression(value: JSON) -> JSON:
    """Allow an expression wherever a value may stand, also inside lists and mappings."""
    opened = _open(value)
    about = {"description": opened.pop("description")} if "description" in opened else {}
    return {**about, "anyOf": [EXPRESSION, opened]}


def _open(value: JSON) -> JSON:
    opened = dict(value)
    if "properties" in opened:
        named = opened["properties"].items()
        opened["properties"] = {name: _or_expression(each) for name, each in named}
    for key in ("items", "additionalProperties"):
        if isinstance(opened.get(key), dict):
            opened[key] = _or_expression(opened[key])
    for key in ("anyOf", "allOf", "oneOf", "prefixItems"):
        if isinstance(opened.get(key), list):
            opened[key] = [_open(each) for each in opened[key]]
    return opened
