"""The values of expressions: JSON, moments and durations. What they are, and how they compare.

Stricter than Python where Python surprises: true is not 1, text is never ordered, and a moment is
never compared with text.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

from bot.errors import ExpressionInvalid
from bot.language.moments import moment_text, seconds_of

LARGEST_NUMBER = 2**53 - 1
"""Integers beyond it lose digits in many readers of JSON (RFC 8259, section 6)."""

MAX_TEXT = 100_000
MAX_ITEMS = 10_000
MAX_DATA_DEPTH = 40
MAX_WORK = 100_000
"""How many values the filters and comparisons of one expression may go over, in all."""


class Missing(ExpressionInvalid):
    """What an expression reads is not there or null. The ``default`` filter stands in for it."""


def kind_of(value: Any) -> str:
    """Return what a person calls a value, with its article. Anything foreign is refused."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            return "a list"
        case dict():
            return "a mapping"
        case datetime():
            return "a moment"
        case timedelta():
            return "a duration"
        case _:
            raise ExpressionInvalid(f"A {type(value).__name__} is no value of this language.")


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def bounded(value: Any) -> Any:
    """Return a number or text that is not too large, or refuse it."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpressionInvalid("The number is too large.")
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        raise ExpressionInvalid(f"The number is beyond {LARGEST_NUMBER} and would lose digits.")
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise ExpressionInvalid(f"The text is longer than {MAX_TEXT} characters.")
    return value


def truth(value: Any) -> bool:
    """Tell whether a value counts as true: not null, false, 0, nor anything empty."""
    kind_of(value)
    return bool(value)


def equal(left: Any, right: Any) -> bool:
    """Tell whether two values are the same. Unlike kinds differ, except that moments, durations and
    text may not be mixed: that is always a slip."""
    left_kind, right_kind = kind_of(left), kind_of(right)
    if left_kind == right_kind:
        if isinstance(left, dict):
            return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
        if isinstance(left, list | tuple):
            return len(left) == len(right) and all(map(equal, left, right))
        return bool(left == right)
    if {left_kind, right_kind} in _NEVER_EQUAL:
        raise ExpressionInvalid(_not_together("compared", left_kind, right_kind))
    return False


_NEVER_EQUAL = (
    {"a moment", "text"},
    {"a duration", "text"},
    {"a duration", "a number"},
)


def less(left: Any, right: Any) -> bool:
    """Tell whether ``left`` comes before ``right``: two numbers, moments or durations."""
    left_kind, right_kind = kind_of(left), kind_of(right)
    if left_kind != right_kind or left_kind not in ("a number", "a moment", "a duration"):
        raise ExpressionInvalid(_not_together("put in order", left_kind, right_kind))
    return bool(left < right)


def _not_together(verb: str, left_kind: str, right_kind: str) -> str:
    hint = ""
    if "text" in (left_kind, right_kind) and "a moment" in (left_kind, right_kind):
        hint = " Make the text a moment: x | datetime."
    elif "a duration" in (left_kind, right_kind):
        hint = " Make the other a duration: duration(x)."
    elif left_kind == right_kind == "text":
        hint = " Make them moments (x | datetime) or numbers (x | int)."
    elif "null" in (left_kind, right_kind):
        hint = " Give a value for when it is null: x | default(0)."
    return f"{left_kind} and {right_kind} cannot be {verb}.{hint}"


def contains(item: Any, container: Any) -> bool:
    """Tell whether ``item in container`` holds: item of a list, part of text, key of a mapping."""
    if isinstance(container, list | tuple):
        return any(equal(item, each) for each in container)
    if isinstance(container, str | dict) and isinstance(item, str):
        return item in container
    raise ExpressionInvalid(
        f"{kind_of(item)} cannot be looked for in {kind_of(container)}. The right side of 'in' is "
        "a list, or a mapping or text in which text is looked for."
    )


def weight(value: Any, most: int) -> int:
    """Count the values in a value, itself and what is nested in it; no further than ``most``."""
    count, left = 0, [value]
    while left and count < most:
        each = left.pop()
        count += 1
        if isinstance(each, dict):
            left += each.values()
        elif isinstance(each, list | tuple):
            left += each
    return count


class _Budget:
    """How much of a result may still be made; shared by its parts."""

    def __init__(self) -> None:
        self.items = MAX_ITEMS
        self.characters = MAX_TEXT

    def spend(self, characters: int) -> None:
        self.items -= 1
        self.characters -= characters
        if self.items < 0 or self.characters < 0:
            raise ExpressionInvalid(
                f"The result has over {MAX_ITEMS} items or {MAX_TEXT} characters."
            )


def to_json(value: Any) -> Any:
    """Return a fresh JSON value: moments as ISO 8601 text, durations as seconds.

    Raises:
        ExpressionInvalid: It is too large or too deep, or holds something that is not JSON.
    """
    return _to_json(value, _Budget(), 0)


def _to_json(value: Any, budget: _Budget, depth: int) -> Any:
    if depth > MAX_DATA_DEPTH:
        raise ExpressionInvalid(f"The result is nested over {MAX_DATA_DEPTH} deep.")
    budget.spend(len(value) if isinstance(value, str) else 0)
    match value:
        case dict():
            budget.spend(sum(map(len, value)))
            return {key: _to_json(each, budget, depth + 1) for key, each in value.items()}
        case list() | tuple():
            return [_to_json(each, budget, depth + 1) for each in value]
        case datetime():
            return moment_text(value)
        case timedelta():
            return seconds_of(value)
        case _:
            kind_of(value)
            return bounded(value)
