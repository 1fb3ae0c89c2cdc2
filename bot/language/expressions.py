"""Expressions: a checked subset of Jinja's, in ``{{ }}``.

``parse`` reads one and refuses what is not in the language; ``evaluate`` puts the results of
expressions into a JSON value. What an expression may say is in runbooks/README.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bot.errors import ExpressionInvalid
from bot.language import tree
from bot.language.hints import shortened
from bot.language.interpreter import Interpreter, text_of
from bot.language.values import to_json

_ANY_MOMENT = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Expression:
    """
    A parsed expression.

    ``references`` are the name paths it reads, as tuples: ``("steps", "affected", "principals")``.
    A key that is itself read from a path stands in brackets: ``inventory[inputs.endpoint].owner``
    is ``("inventory", "[inputs.endpoint]", "owner")``, beside ``("inputs", "endpoint")``. Items of
    lists are ``"[0]"``, and any other computed key is ``"[…]"``.
    ``offsets`` says where in ``source`` each reference ends first.
    """

    source: str
    node: tree.Node = field(repr=False, compare=False)
    references: frozenset[tuple[str, ...]] = frozenset()
    offsets: Mapping[tuple[str, ...], int] = field(default_factory=dict, repr=False, compare=False)


def parse(source: str, more: Collection[str] = ()) -> Expression:
    """Read one expression, given without its braces.

    An expression that reads no name is evaluated once, so that ``{{ 1 + none }}`` is found here.

    Args:
        more: Names that may be read besides those that may be read anywhere.

    Raises:
        ExpressionInvalid: It breaks the language; ``offset`` says where.
    """
    # Jinja's parser takes 70 ms to import and is needed only where a runbook is read.
    from bot.language.grammar import read

    node = read(source, more)
    offsets: dict[tuple[str, ...], int] = {}
    for path, offset in _references(node):
        offsets.setdefault(path, offset)
    if not offsets:
        to_json(Interpreter({}, _ANY_MOMENT).value(node))
    return Expression(source, node, frozenset(offsets), offsets)


def _references(node: tree.Node) -> Iterator[tuple[tuple[str, ...], int]]:
    path: list[str] = []
    inner = node
    while isinstance(inner, tree.Access):
        path.append(_segment(inner.key))
        yield from _references(inner.key)
        inner = inner.target
    if isinstance(inner, tree.Name):
        yield (inner.name, *reversed(path)), node.offset
    elif inner is not node:
        yield from _references(inner)
    else:
        for child in tree.children(node):
            yield from _references(child)


def _segment(key: tree.Node) -> str:
    match key:
        case tree.Literal(value=str() as text):
            return text
        case tree.Literal() | tree.Access():
            return f"[{text_of(key)}]"
        case _:
            return "[…]"


def evaluate(value: Any, scope: Mapping[str, Any], now: datetime) -> Any:
    """Return a JSON value with every expression in it replaced by its result.

    Pure: equal arguments, equal result, and the result shares nothing with ``scope``. Moments
    become ISO 8601 text, durations become seconds.

    Args:
        scope: The names that may be read, as plain JSON.

        now: What ``now()`` gives; aware.

    Raises:
        ExpressionInvalid: Something read is missing or null where a value is needed, kinds do not
            go together, or a result is too large. The message quotes the expression.
    """
    if isinstance(value, Expression):
        try:
            return to_json(Interpreter(scope, now).value(value.node))
        except ExpressionInvalid as error:
            quoted = shortened(" ".join(value.source.split()), 100)
            raise type(error)(f"In {{{{ {quoted} }}}}: {error}", error.offset) from error
    if isinstance(value, Mapping):
        return {key: evaluate(each, scope, now) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [evaluate(each, scope, now) for each in value]
    return value
