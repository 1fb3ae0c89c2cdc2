"""Evaluates the tree of an expression. Pure: plain data in, plain data out, the time is given.

Nothing here touches a Python object's attributes or calls what it finds in data: names are looked
up in ``dict`` and ``list`` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NoReturn

from bot.errors import ExpressionInvalid
from bot.language import tree
from bot.language.filters import FILTERS, FUNCTIONS
from bot.language.hints import did_you_mean, listed, shortened
from bot.language.moments import to_utc
from bot.language.values import (
    MAX_WORK,
    Missing,
    bounded,
    contains,
    equal,
    is_number,
    kind_of,
    less,
    truth,
    weight,
)

_ONE_GLANCE = frozenset({"default", "first", "last", "length"})
"""Filters that cost the same however large their value is."""


class Interpreter:
    """Evaluates trees over one scope at one moment."""

    def __init__(self, scope: Mapping[str, Any], now: datetime) -> None:
        self._scope = scope
        self._now = now
        self._work = MAX_WORK

    def value(self, node: tree.Node) -> Any:
        """Return a node's value.

        Raises:
            Missing: Something it reads is not there or null.

            ExpressionInvalid: Values of kinds that do not go together, or too large.
        """
        match node:
            case tree.Literal():
                return node.value
            case tree.Name():
                return self._name(node)
            case tree.Access():
                return self._access(node)
            case tree.Arithmetic():
                return self._arithmetic(node)
            case tree.Negative():
                return self._negative(node)
            case tree.Comparison():
                return self._comparison(node)
            case tree.Logic():
                left = self.value(node.left)
                goes_on = truth(left) if node.operator == "and" else not truth(left)
                return self.value(node.right) if goes_on else left
            case tree.Not():
                return not truth(self.value(node.operand))
            case tree.Choice():
                return self.value(node.then if truth(self.value(node.test)) else node.otherwise)
            case tree.ListOf():
                return [self.value(item) for item in node.items]
            case tree.MapOf():
                return {key: self.value(entry) for key, entry in node.entries}
            case tree.Filter():
                return self._filter(node)
            case _:
                return self._call(node)

    def _name(self, node: tree.Name) -> Any:
        if node.name not in self._scope:
            raise Missing(f"'{node.name}' cannot be read here.", node.offset)
        return self._scope[node.name]

    def _access(self, node: tree.Access) -> Any:
        target, key = self.value(node.target), self.value(node.key)
        if isinstance(target, dict) and isinstance(key, str):
            if key in target:
                return target[key]
            raise Missing(_no_entry(text_of(node.target), key, target), node.offset)
        if isinstance(target, list | tuple) and isinstance(key, int) and not isinstance(key, bool):
            if -len(target) <= key < len(target):
                return target[key]
            raise Missing(
                f"{text_of(node.target)} has {len(target)} items and none at {key}.", node.offset
            )
        if target is None:
            raise Missing(
                f"{text_of(node.target)} is null, so {text_of(node)} cannot be read. Give a value "
                f"for that: {text_of(node)} | default(…).",
                node.offset,
            )
        raise ExpressionInvalid(
            f"{text_of(node.target)} is {kind_of(target)} and has no entry {_key_text(key)}.",
            node.offset,
        )

    def _arithmetic(self, node: tree.Arithmetic) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        try:
            if _goes_together(node.operator, left, right):
                match node.operator:
                    case "+":
                        return bounded(left + right)
                    case "-":
                        return bounded(left - right)
                    case _:
                        return bounded(left * right)
        except OverflowError as error:
            raise ExpressionInvalid("The result is too large.", node.offset) from error
        except ExpressionInvalid as error:
            raise _at(error, node.offset) from error
        _refuse_arithmetic(node, left, right)

    def _negative(self, node: tree.Negative) -> Any:
        operand = self.value(node.operand)
        if is_number(operand) or isinstance(operand, timedelta):
            return -operand
        raise ExpressionInvalid(f"'-' takes a number, and got {kind_of(operand)}.", node.offset)

    def _comparison(self, node: tree.Comparison) -> bool:
        left = self.value(node.first)
        for operator, operand in node.rest:
            right = self.value(operand)
            self._spend(operand.offset, left, right)
            try:
                holds = _compare(operator, left, right)
            except ExpressionInvalid as error:
                raise _at(error, operand.offset) from error
            if not holds:
                return False
            left = right
        return True

    def _filter(self, node: tree.Filter) -> Any:
        try:
            target = self.value(node.target)
        except Missing:
            if node.name != "default":
                raise
            target = None
        arguments = [self.value(argument) for argument in node.arguments]
        if node.name not in _ONE_GLANCE:
            self._spend(node.offset, target)
        try:
            return FILTERS[node.name].apply(target, *arguments)
        except ExpressionInvalid as error:
            raise _at(error, node.offset, f"{text_of(node.target)} | {node.name}: ") from error

    def _spend(self, offset: int, *values: Any) -> None:
        """Bound how long an expression takes, which is short and may read much, and often."""
        for value in values:
            self._work -= weight(value, self._work + 1)
        if self._work < 0:
            raise ExpressionInvalid(
                f"The expression goes over more than {MAX_WORK} values. Split it over several "
                "steps, or read less.",
                offset,
            )

    def _call(self, node: tree.Call) -> Any:
        if node.name == "now":
            return to_utc(self._now)
        arguments = [self.value(argument) for argument in node.arguments]
        try:
            return FUNCTIONS[node.name].apply(*arguments)
        except ExpressionInvalid as error:
            raise _at(error, node.offset, f"{node.name}(…): ") from error


def _at(error: ExpressionInvalid, offset: int, prefix: str = "") -> ExpressionInvalid:
    return type(error)(f"{prefix}{error}", offset)


def _no_entry(where: str, key: str, target: dict[str, Any]) -> str:
    hint = did_you_mean(key, target)
    return f"{where} has no '{shortened(key)}'; it has {listed(target)}.{hint}"


def _goes_together(operator: str, left: Any, right: Any) -> bool:
    """Tell whether an operator is defined for two values, before Python is asked."""
    if is_number(left) and is_number(right):
        return True
    kinds = (kind_of(left), kind_of(right))
    return (operator, *kinds) in {
        ("+", "a moment", "a duration"),
        ("+", "a duration", "a moment"),
        ("+", "a duration", "a duration"),
        ("-", "a moment", "a duration"),
        ("-", "a moment", "a moment"),
        ("-", "a duration", "a duration"),
        ("*", "a duration", "a number"),
        ("*", "a number", "a duration"),
    }


def _refuse_arithmetic(node: tree.Arithmetic, left: Any, right: Any) -> NoReturn:
    kinds = {kind_of(left), kind_of(right)}
    message = f"'{node.operator}' cannot take {kind_of(left)} and {kind_of(right)}."
    if "null" in kinds:
        raise Missing(f"{message} Give a value for null: x | default(0).", node.offset)
    if "text" in kinds and kinds & {"a moment", "a duration"}:
        message += " Make the text a moment: x | datetime."
    elif "a moment" in kinds:
        message += " Make the other a duration: duration('1h')."
    elif "text" in kinds:
        message += " To build text, use join: [a, b] | join; for numbers, x | int."
    raise ExpressionInvalid(message, node.offset)


def _compare(operator: tree.Comparator, left: Any, right: Any) -> bool:
    match operator:
        case "==":
            return equal(left, right)
        case "!=":
            return not equal(left, right)
        case "<":
            return less(left, right)
        case ">":
            return less(right, left)
        case "<=":
            return not less(right, left)
        case ">=":
            return not less(left, right)
        case "in":
            return contains(left, right)
        case _:
            return not contains(left, right)


def text_of(node: tree.Node) -> str:
    """Return a node as an author wrote it, near enough for a message."""
    match node:
        case tree.Name():
            return node.name
        case tree.Access(key=tree.Literal(value=str() as key)) if key.isidentifier():
            return f"{text_of(node.target)}.{key}"
        case tree.Access():
            return f"{text_of(node.target)}[{text_of(node.key)}]"
        case tree.Literal():
            return _key_text(node.value)
        case _:
            return "the value"


def _key_text(key: Any) -> str:
    """Return a key for a message; of a computed one that is no key, never more than its kind."""
    match key:
        case str():
            return f"'{shortened(key)}'"
        case None:
            return "null"
        case bool():
            return "true" if key else "false"
        case int() | float():
            return str(key)
        case _:
            return f"for {kind_of(key)}"
