"""JSON Schema (2020-12) of the language, for editors: completion and marks while typing.

``bot.language.load`` checks more (references, durations' sizes, what may be combined). What it
accepts is valid under this schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from bot.action import Action, Effect
from bot.language.approvals import MAX_APPROVALS, ON_TIMEOUT
from bot.language.document import OWASP
from bot.language.fields import ID, NAME
from bot.language.params import key_of
from bot.language.runbook import InputType, OnFailure
from bot.language.singles import MAX_ATTEMPTS
from bot.model.incident import Severity

JSON = dict[str, Any]

_EXPRESSION: JSON = {"$ref": "#/$defs/expression"}
_DURATION: JSON = {"$ref": "#/$defs/duration"}
_IDS: JSON = {
    "type": "array",
    "items": {"$ref": "#/$defs/id"},
    "minItems": 1,
    "uniqueItems": True,
}
_TEXT: JSON = {"type": "string", "minLength": 1}


def schema(actions: Mapping[str, Action[Any]]) -> JSON:
    """Return the schema of a runbook, with the parameters of these actions under ``with``."""
    definitions: JSON = {
        "id": {"type": "string", "pattern": _whole(ID.pattern)},
        "duration": {"type": "string", "pattern": "^[0-9]{1,9}[smhd]$", "examples": ["15m"]},
        "expression": {"type": "string", "pattern": r"^\s*\{\{[\s\S]*\}\}\s*$"},
        "input": _declaration(computed_default=True),
        "field": _declaration(computed_default=False),
        "trigger": _trigger(),
        "approval": _approval(),
        "retry": _retry(),
        "manual": _manual(),
        "step": _step(actions),
    }
    for name, action in sorted(actions.items()):
        own, used = _with(name, action)
        definitions[f"with {name}"] = own
        definitions |= used
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Firedoor runbook",
        **_runbook(),
        "$defs": definitions,
    }


def _object(required: list[str], properties: JSON, description: str = "") -> JSON:
    about = {"description": description} if description else {}
    return {
        "type": "object",
        **about,
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


def _whole(pattern: str) -> str:
    return f"^(?:{pattern})$"


def _runbook() -> JSON:
    return _object(
        ["id", "name", "summary", "severity", "owners", "steps"],
        {
            "id": {"$ref": "#/$defs/id"},
            "name": _TEXT,
            "summary": _TEXT,
            "owasp": {"type": "string", "pattern": _whole(OWASP.pattern)},
            "severity": {"enum": [each.value for each in Severity]},
            "owners": {**_IDS, "description": "Groups that approve what an alert starts."},
            "inputs": _named({"$ref": "#/$defs/input"}),
            "triggers": {"type": "array", "items": {"$ref": "#/$defs/trigger"}},
            "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}, "minItems": 1},
        },
    )


def _named(value: JSON) -> JSON:
    return {
        "type": "object",
        "propertyNames": {"pattern": _whole(NAME.pattern)},
        "additionalProperties": value,
    }


def _declaration(*, computed_default: bool) -> JSON:
    scalar: JSON = {"type": ["string", "number", "boolean"]}
    default: JSON = {"type": ["string", "number", "boolean", "null"]}
    if computed_default:
        default["description"] = "A value, or an expression over now()."
    return _object(
        ["type"],
        {
            "type": {"enum": [each.value for each in InputType]},
            "description": _TEXT,
            "default": default,
            "enum": {"type": "array", "items": scalar},
            "examples": {"type": "array", "items": scalar},
        },
    )


def _trigger() -> JSON:
    return _object(
        ["source"],
        {
            "source": {"$ref": "#/$defs/id"},
            "if": _EXPRESSION,
            "inputs": {"type": "object"},
            "auto": {
                **_IDS,
                "minItems": 0,
                "description": "Steps that may run before a person has answered anything.",
            },
        },
    )


def _approval() -> JSON:
    return _object(
        ["from"],
        {
            "from": _IDS,
            "required": {"type": "integer", "minimum": 1, "maximum": MAX_APPROVALS},
            "timeout": _DURATION,
            "on_timeout": {"enum": list(ON_TIMEOUT)},
        },
        "Who must say yes before the step acts.",
    )


def _retry() -> JSON:
    return _object(
        ["attempts"],
        {
            "attempts": {"type": "integer", "minimum": 1, "maximum": MAX_ATTEMPTS},
            "delay": _DURATION,
        },
    )


def _manual() -> JSON:
    return _object(
        ["ask"],
        {
            "ask": _TEXT,
            "fields": _named({"$ref": "#/$defs/field"}),
            "timeout": _DURATION,
            "on_timeout": {"enum": list(ON_TIMEOUT)},
        },
        "A question for a person.",
    )


def _step(actions: Mapping[str, Action[Any]]) -> JSON:
    """A step is a question, or uses one of the actions; the rest follows from which."""
    common: JSON = {"id": {"$ref": "#/$defs/id"}, "if": _EXPRESSION}
    manual = _object(["id", "manual"], {**common, "manual": {"$ref": "#/$defs/manual"}})
    uses = _object(
        ["id", "uses"],
        {
            **common,
            "uses": {"enum": sorted(actions)},
            "with": {"type": "object"},
            "approval": {"$ref": "#/$defs/approval"},
            "retry": {"$ref": "#/$defs/retry"},
            "timeout": _DURATION,
            "ttl": {**_DURATION, "description": "When the containment expires."},
            "on_failure": {"enum": list(get_args(OnFailure))},
        },
    )
    uses["allOf"] = [_rule(name, action) for name, action in sorted(actions.items())]
    return {"if": {"required": ["manual"]}, "then": manual, "else": uses}


def _rule(name: str, action: Action[Any]) -> JSON:
    """What a step must and may not have if it uses this action."""
    properties: JSON = {"with": {"$ref": f"#/$defs/with {name}"}}
    required = []
    if any(field.is_required() for field in action.params.model_fields.values()):
        required.append("with")
    if action.contains:
        required.append("ttl")
    else:
        properties["ttl"] = False
    if action.effect is Effect.READ:
        properties["approval"] = False
    if action.effect is not Effect.CHANGE:
        properties["on_failure"] = {"not": {"const": "undo"}}
    return {
        "if": {"properties": {"uses": {"const": name}}, "required": ["uses"]},
        "then": {"properties": properties, "required": required},
    }


def _with(name: str, action: Action[Any]) -> tuple[JSON, JSON]:
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
    return {"anyOf": [_EXPRESSION, _open(value)]}


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
