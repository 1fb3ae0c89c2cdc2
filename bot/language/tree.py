"""The tree of an expression: all that one can say, and nothing else.

``bot.language.grammar`` makes it from Jinja's; what has no node here cannot be evaluated.
``offset`` counts characters from the first one of the expression.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal as OneOf


@dataclass(frozen=True)
class Literal:
    """Text, a number, true, false or none."""

    offset: int
    value: str | int | float | bool | None


@dataclass(frozen=True)
class Name:
    """One of ``bot.language.grammar.NAMES``, or what a foreach adds to them."""

    offset: int
    name: str


@dataclass(frozen=True)
class Access:
    """``target.key`` or ``target[key]``: an entry of a mapping or an item of a list."""

    offset: int
    target: Node
    key: Node


@dataclass(frozen=True)
class Arithmetic:
    offset: int
    operator: OneOf["+", "-", "*"]
    left: Node
    right: Node


@dataclass(frozen=True)
class Negative:
    offset: int
    operand: Node


Comparator = OneOf["==", "!=", "<", "<=", ">", ">=", "in", "not in"]


@dataclass(frozen=True)
class Comparison:
    """``first op second op third …``: holds when every neighbouring pair does."""

    offset: int
    first: Node
    rest: tuple[tuple[Comparator, Node], ...]


@dataclass(frozen=True)
class Logic:
    """``and``, ``or``: gives the operand that decided, and evaluates no further."""

    offset: int
    operator: OneOf["and", "or"]
    left: Node
    right: Node


@dataclass(frozen=True)
class Not:
    offset: int
    operand: Node


@dataclass(frozen=True)
class Choice:
    """``then if test else otherwise``."""

    offset: int
    test: Node
    then: Node
    otherwise: Node


@dataclass(frozen=True)
class ListOf:
    offset: int
    items: tuple[Node, ...]


@dataclass(frozen=True)
class MapOf:
    offset: int
    entries: tuple[tuple[str, Node], ...]


@dataclass(frozen=True)
class Filter:
    """``target | name(arguments)``."""

    offset: int
    name: str
    target: Node
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Call:
    """``now()`` or ``duration(…)``."""

    offset: int
    name: str
    arguments: tuple[Node, ...]


Node = (
    Literal
    | Name
    | Access
    | Arithmetic
    | Negative
    | Comparison
    | Logic
    | Not
    | Choice
    | ListOf
    | MapOf
    | Filter
    | Call
)


def children(node: Node) -> tuple[Node, ...]:
    """Return the nodes directly under one, in reading order."""
    match node:
        case Literal() | Name():
            return ()
        case Access():
            return (node.target, node.key)
        case Arithmetic() | Logic():
            return (node.left, node.right)
        case Negative() | Not():
            return (node.operand,)
        case Comparison():
            return (node.first, *(operand for _, operand in node.rest))
        case Choice():
            return (node.then, node.test, node.otherwise)
        case ListOf():
            return node.items
        case MapOf():
            return tuple(value for _, value in node.entries)
        case Filter():
            return (node.target, *node.arguments)
        case _:
            return node.arguments
