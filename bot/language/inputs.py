"""Values for a runbook's inputs and for the fields of an answer: typed, all problems at once."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bot.errors import BadInput, ExpressionInvalid
from bot.language.expressions import evaluate
from bot.language.hints import did_you_mean, listed, nearest, shortened, which
from bot.language.moments import (
    LONGEST_DURATION_S,
    moment_text,
    parse_duration,
    parse_moment,
    to_utc,
)
from bot.language.runbook import Input, InputType, Runbook, Trigger
from bot.language.values import LARGEST_NUMBER, Missing, is_number, truth
from bot.model.alert import Alert
from bot.model.endpoint import Endpoint

MAX_TEXT = 10_000
"""Of one value, in characters."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,16}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,16}(?:\.[0-9]{1,16})?(?:[eE][+-]?[0-9]{1,3})?")
_ENDPOINT = re.compile(r"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE) (/[^\s?#]*)")
_PARAMETER = re.compile(r"\{[^{}/]*\}")
_SURROGATE = re.compile("[\ud800-\udfff]")


def bind(
    runbook: Runbook, given: Mapping[str, Any], endpoints: Mapping[str, Endpoint], now: datetime
) -> dict[str, Any]:
    """Return a value for every input, as JSON: moments as ISO 8601 text in UTC, durations in
    seconds.

    Args:
        given: By input name. Text is accepted for every type (``"5"``, ``"true"``, ``"15m"``), as
            command lines, chats and alerts give nothing else. Null counts as not given.

        endpoints: The inventory, by endpoint key.

    Raises:
        BadInput: Names every input that is missing, unknown or of the wrong type.
    """
    bound, problems = _bind(runbook.inputs, given, endpoints, now, "input")
    if problems:
        raise BadInput(_message(f"Runbook {runbook.id} was not started", "its inputs", problems))
    return bound


def bind_fields(
    fields: Mapping[str, Input],
    values: Mapping[str, Any],
    endpoints: Mapping[str, Endpoint] | None = None,
) -> dict[str, Any]:
    """Return a value for every field of an answer, as JSON like ``bind``.

    Args:
        endpoints: The inventory, against which endpoints are checked; without it their form is.

    Raises:
        BadInput: Names every field that is missing, unknown or of the wrong type.
    """
    bound, problems = fit_fields(fields, values, endpoints)
    if problems:
        raise BadInput(_message("The answer was not taken", "its fields", problems))
    return bound


def fit_fields(
    fields: Mapping[str, Input],
    values: Mapping[str, Any],
    endpoints: Mapping[str, Endpoint] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Return what ``bind_fields`` does, and what is wrong, one line for each field."""
    # Defaults of fields are literal, so no time is needed: any will do.
    return _bind(fields, values, endpoints, datetime(2000, 1, 1, tzinfo=UTC), "field")


def _message(fact: str, what: str, problems: list[str]) -> str:
    lines = "\n".join(f"  {problem}" for problem in problems)
    return f"{fact}; mend {what} and try again.\n{lines}"


def _bind(
    declared: Mapping[str, Input],
    given: Mapping[str, Any],
    endpoints: Mapping[str, Endpoint] | None,
    now: datetime,
    what: str,
) -> tuple[dict[str, Any], list[str]]:
    bound: dict[str, Any] = {}
    problems: list[str] = []
    for name in given:
        if name not in declared:
            near = did_you_mean(name, [other for other in declared if other not in given])
            hint = near or which("", declared)
            problems.append(f"{shortened(name)}: no {what} has this name.{hint}")
    for name, one in declared.items():
        value = given.get(name)
        if value is None and not one.has_default:
            if nearest(name, [other for other in given if other not in declared]) is None:
                example = f", such as {one.examples[0]}" if one.examples else ""
                problems.append(f"{name}: a value is needed ({one.type.value}{example}).")
            continue
        try:
            if value is None:
                value = evaluate(one.default, {}, now)
            bound[name] = None if value is None else coerce(one, value, endpoints)
        except (ValueError, ExpressionInvalid) as error:
            problems.append(f"{name}: {error}")
    return bound, problems


def coerce(
    declared: Input, value: Any, endpoints: Mapping[str, Endpoint] | None = None
) -> str | int | float | bool:
    """Return a value as JSON of the declared type.

    Raises:
        ValueError: It is not of the type, or not one of those listed. The message is a sentence.
    """
    result = _typed(declared.type, value, endpoints)
    if declared.enum and result not in declared.enum:
        choices = ", ".join(str(choice) for choice in declared.enum)
        raise ValueError(f"{_shown(value)} is not one of {choices}.")
    return result


def _typed(
    type_: InputType, value: Any, endpoints: Mapping[str, Endpoint] | None
) -> str | int | float | bool:
    match type_:
        case InputType.STRING:
            return _string(value)
        case InputType.INTEGER:
            return _integer(value)
        case InputType.NUMBER:
            return _number(value)
        case InputType.BOOLEAN:
            return _boolean(value)
        case InputType.DATETIME:
            return _datetime(value)
        case InputType.DURATION:
            return _duration_s(value)
    return _endpoint(value, endpoints)


def _shown(value: Any) -> str:
    """Return a value as an author would write it, cut to fit a message."""
    if isinstance(value, str):
        return f"'{shortened(value)}'"
    return shortened(json.dumps(value, default=str))


def _not(value: Any, what: str) -> ValueError:
    return ValueError(f"{_shown(value)} is not {what}.")


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise _not(value, "text; put it in quotes")
    if len(value) > MAX_TEXT:
        raise ValueError(f"The text is longer than {MAX_TEXT} characters.")
    if _SURROGATE.search(value):
        raise ValueError("The text holds half a character (a lone surrogate).")
    return value


def _integer(value: Any) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > LARGEST_NUMBER:
        raise _not(value, "a whole number")
    return value


def _number(value: Any) -> int | float:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = int(value) if _INTEGER.fullmatch(value.strip()) else float(value)
    if not is_number(value) or not math.isfinite(value) or abs(value) > LARGEST_NUMBER:
        raise _not(value, "a number")
    number: int | float = value
    return number


def _boolean(value: Any) -> bool:
    if isinstance(value, str) and value in ("true", "false"):
        return value == "true"
    if not isinstance(value, bool):
        raise _not(value, "true or false")
    return value


def _datetime(value: Any) -> str:
    if isinstance(value, datetime):
        return moment_text(to_utc(value))
    if not isinstance(value, str):
        raise _not(value, "a moment, such as 2026-03-01T12:30:00Z")
    try:
        return moment_text(parse_moment(value.strip()))
    except ValueError as error:
        raise ValueError(f"{_shown(value)} is not a moment: {error}.") from error


def _duration_s(value: Any) -> int | float:
    if is_number(value) and 0 <= value <= LONGEST_DURATION_S:
        seconds: int | float = value
        return seconds
    if not isinstance(value, str):
        raise _not(value, "a duration, such as 90s, 15m, 4h or 2d")
    try:
        return int(parse_duration(value.strip()))
    except ValueError as error:
        raise ValueError(f"{_shown(value)} is not a duration: {error}.") from error


def _endpoint(value: Any, endpoints: Mapping[str, Endpoint] | None) -> str:
    if not isinstance(value, str):
        raise _not(value, "an endpoint, such as GET /api/orders/{id}")
    if endpoints is None:
        if not _ENDPOINT.fullmatch(value):
            hint = "It is a method in capitals, a space and a path, such as GET /api/orders/{id}."
            raise ValueError(f"{_shown(value)} is not an endpoint. {hint}")
        return value
    if value in endpoints:
        return value
    raise ValueError(f"{_shown(value)} is not in the inventory.{_endpoint_hint(value, endpoints)}")


def _endpoint_hint(value: str, endpoints: Mapping[str, Endpoint]) -> str:
    """Find what was meant: another case of the method, other parameter names, a concrete path, a
    slash at the end, or a slip."""
    if not endpoints:
        return " The inventory is empty: name OpenAPI documents under 'inventory' in the settings."
    method, _, path = value.strip().partition(" ")
    path = path.strip().split("?")[0]
    same_path = [each for each in endpoints.values() if _same_path(path, each.path)]
    for each in same_path:
        if each.method == method.upper():
            return f" Did you mean '{each.key}'?"
    if same_path:
        return f" That path has {listed(each.key for each in same_path)}."
    return which(value, endpoints)


def _same_path(path: str, template: str) -> bool:
    parts, wanted = path.rstrip("/").split("/"), template.rstrip("/").split("/")
    return len(parts) == len(wanted) and all(
        part == want or (bool(part) and _PARAMETER.search(want) is not None)
        for part, want in zip(parts, wanted, strict=True)
    )


def match(runbook: Runbook, alert: Alert, now: datetime) -> tuple[Trigger, dict[str, Any]] | None:
    """Return the first trigger that an alert sets off, with the inputs that it gives (not bound).

    Only firing alerts set off anything. A condition that reads a label which the alert does not
    have does not hold.

    Raises:
        ExpressionInvalid: The condition mixes kinds of values; or the alert matches, but lacks what
            the trigger's inputs read from it.
    """
    if alert.status != "firing":
        return None
    scope = {"alert": alert.model_dump(mode="json")}
    for trigger in runbook.triggers:
        if trigger.source != alert.source:
            continue
        try:
            if trigger.condition is not None and not truth(evaluate(trigger.condition, scope, now)):
                continue
        except Missing:
            continue
        return trigger, evaluate(dict(trigger.inputs), scope, now)
    return None
