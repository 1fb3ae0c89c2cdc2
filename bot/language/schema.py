"""JSON Schema (2020-12) of the language, for editors: completion, help and marks while typing.

``bot.language.load`` checks more (references, durations' sizes, what may be combined). What it
accepts is valid under this schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from bot.action import Action, Effect
from bot.language.approvals import MAX_APPROVALS, ON_TIMEOUT
from bot.language.document import OWASP
from bot.language.fields import ID, ID_PATH, NAME
from bot.language.groups import GROUP_ON_FAILURE, JOIN, MAX_CONCURRENCY
from bot.language.runbook import InputType, OnFailure
from bot.language.schema_params import EXPRESSION, JSON, with_schema
from bot.language.singles import MAX_ATTEMPTS, MAX_BACKOFF, RETRIED
from bot.model.incident import Severity

_IF = "An expression; if it gives null, false, 0 or anything empty, the step is skipped."
_STEPS: JSON = {"type": "array", "items": {"$ref": "#/$defs/step"}, "minItems": 1}


def schema(actions: Mapping[str, Action[Any]]) -> JSON:
    """Return the schema of a runbook, with the parameters of these actions under ``with``."""
    definitions: JSON = {
        "id": {"type": "string", "pattern": _whole(ID.pattern)},
        "ids": {
            "type": "array",
            "items": {"$ref": "#/$defs/id"},
            "minItems": 1,
            "uniqueItems": True,
        },
        "text": {"type": "string", "minLength": 1},
        "duration": {"type": "string", "pattern": "^[0-9]{1,9}[smhd]$", "examples": ["15m"]},
        "expression": {"type": "string", "pattern": r"^\s*\{\{[\s\S]*\}\}\s*$"},
        "input": _declaration(computed_default=True),
        "field": _declaration(computed_default=False),
        "trigger": _trigger(),
        "approval": _approval(),
        "retry": _retry(),
        "manual": _manual(),
        "branch": _branch(),
        "step": _step(actions),
    }
    for name, action in sorted(actions.items()):
        own, used = with_schema(name, action)
        definitions[f"with {name}"] = own
        definitions |= used
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Firedoor runbook",
        **_runbook(),
        "$defs": definitions,
    }


def _object(required: list[str], properties: JSON) -> JSON:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


def _whole(pattern: str) -> str:
    return f"^(?:{pattern})$"


def _ref(name: str, description: str) -> JSON:
    return {"$ref": f"#/$defs/{name}", "description": description}


def _enum(values: Any, description: str) -> JSON:
    return {"enum": [str(value) for value in values], "description": description}


def _number(type_: str, least: float, most: float, description: str) -> JSON:
    return {"type": type_, "minimum": least, "maximum": most, "description": description}


def _named(value: JSON, description: str) -> JSON:
    return {
        "type": "object",
        "description": description,
        "propertyNames": {"pattern": _whole(NAME.pattern)},
        "additionalProperties": value,
    }


def _runbook() -> JSON:
    owasp = "Class of the OWASP API Security Top 10: API1:2023 to API10:2023."
    return _object(
        ["id", "name", "summary", "severity", "owners", "steps"],
        {
            "id": _ref("id", "a-z, then a-z, 0-9, _ or -; unique among all runbooks."),
            "name": _ref("text", "The title of the incident begins with it."),
            "summary": _ref("text", "What is wrong when this runbook is right."),
            "owasp": {
                "type": "string",
                "pattern": _whole(OWASP.pattern),
                "description": owasp,
            },
            "severity": _enum(Severity, "From sev1, the worst, to sev4."),
            "owners": _ref("ids", "Groups that approve what an alert starts."),
            "inputs": _named(
                {"$ref": "#/$defs/input"}, "Names to what must be known at the start."
            ),
            "triggers": {
                "type": "array",
                "items": {"$ref": "#/$defs/trigger"},
                "description": "What starts it by itself; without any, only people start it.",
            },
            "deadline": _ref("duration", "How long a run may take; then it is ended."),
            "approvals": _named(
                {"$ref": "#/$defs/approval"},
                "Names to approvals that several steps share: one card, one yes for all of them.",
            ),
            "steps": {**_STEPS, "description": "What is done, in this order."},
            "always": {
                **_STEPS,
                "description": "Steps that run at the end, however the others ended.",
            },
            "outputs": _named({}, "Names to what a runbook that calls this one may read."),
        },
    )


def _declaration(*, computed_default: bool) -> JSON:
    scalar: JSON = {"type": ["string", "number", "boolean"]}
    default = "A value of the type; null makes it optional, none at all makes it required."
    if computed_default:
        default += " Also an expression over now()."
    return _object(
        ["type"],
        {
            "type": _enum(InputType, "What it may hold."),
            "description": _ref("text", "Shown in forms."),
            "default": {"type": ["string", "number", "boolean", "null"], "description": default},
            "enum": {
                "type": "array",
                "items": scalar,
                "description": "The only values allowed.",
            },
            "examples": {
                "type": "array",
                "items": scalar,
                "description": "The first is shown where one must be given.",
            },
        },
    )


def _trigger() -> JSON:
    return _object(
        ["source"],
        {
            "source": _ref("id", "The alert's source, such as alertmanager."),
            "if": {**EXPRESSION, "description": "An expression over alert."},
            "inputs": {
                "type": "object",
                "description": "Input names to values, or to expressions over alert.",
            },
            "auto": {
                "type": "array",
                "items": {"type": "string", "pattern": _whole(ID_PATH.pattern)},
                "uniqueItems": True,
                "description": "Steps that may run before a person has answered anything.",
            },
        },
    )


def _approval() -> JSON:
    return _object(
        ["from"],
        {
            "from": _ref("ids", "Groups; who started the run cannot approve in it."),
            "required": _number("integer", 1, MAX_APPROVALS, "How many distinct people."),
            "timeout": _ref("duration", "How long to wait; forever if left out."),
            "on_timeout": _enum(ON_TIMEOUT, "Stop the run or skip the step; also on a rejection."),
            "break_glass": _ref("id", "A group whose members may let it go on alone, and say why."),
        },
    )


def _retry() -> JSON:
    return _object(
        ["attempts"],
        {
            "attempts": _number("integer", 1, MAX_ATTEMPTS, "How many, with the first one."),
            "delay": _ref("duration", "Before the second attempt; 5s if left out."),
            "backoff": _number("number", 1, MAX_BACKOFF, "Each delay is so many times the last."),
            "jitter": _number("number", 0, 1, "The part of a delay that is varied."),
            "on": {
                "type": "array",
                "items": {"enum": list(RETRIED)},
                "minItems": 1,
                "uniqueItems": True,
                "description": "The classes of error that are tried again.",
            },
        },
    )


def _manual() -> JSON:
    return _object(
        ["ask"],
        {
            "ask": _ref("text", "The question."),
            "fields": _named({"$ref": "#/$defs/field"}, "Names to fields of the answer."),
            "assignee": _ref("id", "The group that is asked; anybody who may act if left out."),
            "due": _ref("duration", "When the answer is overdue, which is said."),
            "remind": _ref("duration", "How often it is asked again; 1m or longer."),
            "timeout": _ref("duration", "How long to wait; forever if left out."),
            "on_timeout": _enum(ON_TIMEOUT, "Stop the run, or skip the step."),
        },
    )


def _branch() -> JSON:
    return {
        "if": {"required": ["steps"], "not": {"required": ["foreach"]}},
        "then": _object(
            ["steps"], {"steps": {**_STEPS, "description": "The branch, one after another."}}
        ),
        "else": {"$ref": "#/$defs/step"},
    }


def _step(actions: Mapping[str, Action[Any]]) -> JSON:
    """What a step may hold follows from the one key that says what it is."""
    kinds = {
        "manual": _kind("manual", _ref("manual", "A question for a person.")),
        "parallel": _parallel(),
        "foreach": _foreach(),
        "runbook": _call(),
    }
    result = _uses(actions)
    for key, kind in reversed(kinds.items()):
        result = {"if": {"required": [key]}, "then": kind, "else": result}
    return result


def _kind(key: str, own: JSON, **more: JSON) -> JSON:
    common: JSON = {
        "id": _ref("id", "As the runbook's; unique in it."),
        "if": {**EXPRESSION, "description": _IF},
    }
    return _object(["id", key], {**common, key: own, **more})


def _group(key: str, own: JSON, **more: JSON) -> JSON:
    about = "When a step inside fails for good: stop what is around, go on, or take all back."
    return _kind(key, own, **more, on_failure=_enum(GROUP_ON_FAILURE, about))


def _parallel() -> JSON:
    branches: JSON = {
        "type": "array",
        "items": {"$ref": "#/$defs/branch"},
        "minItems": 1,
        "description": "Branches that go on side by side: each a step, or a mapping with steps.",
    }
    join = _enum(JOIN, "Done with all branches, or with any one, which ends the others.")
    return {**_group("parallel", branches, join=join), "required": ["parallel"]}


def _foreach() -> JSON:
    group = _group(
        "foreach",
        {
            "anyOf": [EXPRESSION, {"type": "array", "minItems": 1}],
            "description": "A list, or an expression that gives one.",
        },
        concurrency=_number(
            "integer", 1, MAX_CONCURRENCY, "How many items at once; 1 if left out."
        ),
        steps={**_STEPS, "description": "What is done for each item."},
        outputs=_named({}, "Names to what each item leaves; later steps read lists of them."),
    )
    name = {"type": "string", "pattern": _whole(NAME.pattern)}
    group["properties"]["as"] = {**name, "description": "What an item is called; item if left out."}
    return {**group, "required": ["id", "foreach", "steps"]}


def _call() -> JSON:
    given = {"type": "object", "description": "Its inputs: values, or expressions."}
    return _group(
        "runbook", _ref("id", "Another runbook, which runs as this step."), **{"with": given}
    )


def _uses(actions: Mapping[str, Action[Any]]) -> JSON:
    uses = _kind(
        "uses",
        _enum(sorted(actions), "An action."),
        approval={
            "if": {"type": "string"},
            "then": {"pattern": _whole(NAME.pattern)},
            "else": {"$ref": "#/$defs/approval"},
            "description": "Who must say yes first; or the name of an approval that is shared.",
        },
        retry=_ref("retry", "What to do if the other system gives no answer."),
        timeout=_ref("duration", "How long one call may take; the action's own if left out."),
        ttl=_ref("duration", "When the containment expires."),
        on_failure=_enum(
            get_args(OnFailure),
            "After the last attempt: ask a person, stop, go on, or take all changes back.",
        ),
    )
    uses["properties"]["with"] = {
        "type": "object",
        "description": "The action's parameters: values, or expressions anywhere in them.",
    }
    uses["allOf"] = [_rule(name, action) for name, action in sorted(actions.items())]
    return uses


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
    return {
        "if": {"properties": {"uses": {"const": name}}, "required": ["uses"]},
        "then": {"properties": properties, "required": required},
    }
