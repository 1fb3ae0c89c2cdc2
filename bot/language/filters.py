"""The filters and functions of expressions: ``x | name(arguments)`` and ``name(arguments)``.

Each takes and gives plain values (see ``bot.language.values``); the table in runbooks/README.md
lists them, and a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bot.errors import ExpressionInvalid
from bot.language.moments import (
    LONGEST_DURATION_S,
    moment_text,
    parse_duration,
    parse_moment,
    to_utc,
)
from bot.language.values import MAX_TEXT, Missing, bounded, is_number, kind_of, to_json
from bot.model.base import canonical_json

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,16}")
_MAX_DIGITS = 10


@dataclass(frozen=True)
class Signature:
    """A filter or function. ``least`` and ``most`` count arguments, without a filter's target."""

    apply: Callable[..., Any]
    least: int = 0
    most: int = 0


def _want(value: Any, types: type | tuple[type, ...], what: str) -> Any:
    if isinstance(value, types) and (value is not True and value is not False):
        return value
    if value is None:
        raise Missing(f"It takes {what}, and got null. Give a value for that: x | default(…).")
    raise ExpressionInvalid(f"It takes {what}, and got {kind_of(value)}.")


def _list(value: Any) -> list[Any]:
    return list(_want(value, (list, tuple), "a list"))


def _text(value: Any) -> str:
    return str(_want(value, str, "text"))


def length(value: Any) -> int:
    return len(_want(value, (str, list, tuple, dict), "text, a list or a mapping"))


def lower(value: Any) -> str:
    return str(bounded(_text(value).lower()))


def upper(value: Any) -> str:
    return str(bounded(_text(value).upper()))


def trim(value: Any) -> str:
    return _text(value).strip()


def default(value: Any, otherwise: Any) -> Any:
    """The interpreter passes null for what is missing, too."""
    return otherwise if value is None else value


def first(value: Any) -> Any:
    items = _list(value)
    if not items:
        raise Missing("The list is empty and has no first item.")
    return items[0]


def last(value: Any) -> Any:
    items = _list(value)
    if not items:
        raise Missing("The list is empty and has no last item.")
    return items[-1]


def string(value: Any) -> str:
    """Text of a scalar as JSON writes it; text itself as it is."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return canonical_json(bounded(value))
        case datetime():
            return moment_text(value)
        case None:
            raise Missing("Null has no text. Give a value for that: x | default('none').")
        case _:
            raise ExpressionInvalid(f"{kind_of(value)} has no text of its own.")


def join(value: Any, separator: Any = "") -> str:
    parts = [string(item) for item in _list(value)]
    glue = _text(separator)
    if sum(map(len, parts)) + len(glue) * len(parts) > MAX_TEXT:
        raise ExpressionInvalid(f"The text would be longer than {MAX_TEXT} characters.")
    return glue.join(parts)


def whole(value: Any) -> int:
    """A number without its fraction; text of an integer."""
    if isinstance(value, str):
        if not _WHOLE_NUMBER.fullmatch(value.strip()):
            raise ExpressionInvalid("The text is not a whole number.")
        return int(bounded(int(value)))
    return int(bounded(int(bounded(_want(value, (int, float), "a number or text of one")))))


def round_(value: Any, digits: Any = 0) -> int | float:
    """Halves go to the even neighbour. Without digits: an integer."""
    number = bounded(_want(value, (int, float), "a number"))
    places = _want(digits, int, "a number of digits")
    if not 0 <= places <= _MAX_DIGITS:
        raise ExpressionInvalid(f"It rounds to 0 to {_MAX_DIGITS} digits.")
    result: int | float = bounded(round(number, places) if places else round(number))
    return result


def sort(value: Any) -> list[Any]:
    items = _list(value)
    kinds = {kind_of(item) for item in items}
    if len(kinds) > 1 or kinds - {"a number", "text", "a moment", "a duration"}:
        raise ExpressionInvalid("It sorts a list of numbers, or of texts, moments or durations.")
    return sorted(items)


def unique(value: Any) -> list[Any]:
    """Keeps the first of equal items, in order."""
    kept: dict[tuple[str, str], Any] = {}
    for item in _list(value):
        whole_float = isinstance(item, float) and item.is_integer()
        comparable = int(item) if whole_float else to_json(item)
        kept.setdefault((kind_of(item), canonical_json(comparable)), item)
    return list(kept.values())


def compact(value: Any) -> list[Any]:
    """Leaves out what is null, such as the facts of skipped steps."""
    return [item for item in _list(value) if item is not None]


def moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        return to_utc(value)
    try:
        return parse_moment(_text(value))
    except ValueError as error:
        raise ExpressionInvalid(f"The text is not a moment: {error}.") from error


def duration(value: Any) -> timedelta:
    """``'15m'``, or a number of seconds."""
    if isinstance(value, timedelta):
        return value
    if is_number(value):
        if not abs(value) <= LONGEST_DURATION_S:
            raise ExpressionInvalid("A duration is at most ten years.")
        return timedelta(seconds=value)
    try:
        return timedelta(seconds=parse_duration(_text(value)))
    except ValueError as error:
        raise ExpressionInvalid(f"The text is not a duration: {error}.") from error


FILTERS: dict[str, Signature] = {
    "compact": Signature(compact),
    "datetime": Signature(moment),
    "default": Signature(default, 1, 1),
    "first": Signature(first),
    "int": Signature(whole),
    "join": Signature(join, 0, 1),
    "last": Signature(last),
    "length": Signature(length),
    "lower": Signature(lower),
    "round": Signature(round_, 0, 1),
    "sort": Signature(sort),
    "string": Signature(string),
    "trim": Signature(trim),
    "unique": Signature(unique),
    "upper": Signature(upper),
}

FUNCTIONS: dict[str, Signature] = {
    "duration": Signature(duration, 1, 1),
    "now": Signature(lambda: None),
}
"""``now`` is answered by the interpreter, which is given the time."""
