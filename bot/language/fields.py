"""Reads the mappings of a runbook, key by key, reporting every problem and going on.

One mistake gives one problem: a misspelt key is reported, and its value is read as that of the key
that was meant.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from bot.errors import ExpressionInvalid
from bot.language.expressions import Expression, parse
from bot.language.hints import MIXED_TEXT, did_you_mean, listed, nearest, shortened
from bot.language.moments import parse_duration
from bot.language.values import kind_of
from bot.language.yaml_source import (
    Broken,
    Entry,
    List,
    Map,
    Mark,
    Node,
    Report,
    Scalar,
    path_of,
    plain,
)

ID = re.compile(r"[a-z][a-z0-9_-]{0,63}")
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
ID_PATH = re.compile(rf"{ID.pattern}(?:\.{ID.pattern}){{0,5}}")
"""Of a step, through the steps that call the runbooks around it."""

FEW = 5
"""So many choices are listed in a message even if one is near."""

T = TypeVar("T", bound=str)


@dataclass(frozen=True)
class Located:
    """An expression and where it stands. ``base`` is its offset in the scalar."""

    expression: Expression
    scalar: Scalar
    base: int
    where: str

    def mark_of(self, reference: tuple[str, ...]) -> Mark:
        return self.scalar.at(self.base + self.expression.offsets[reference])


class Reading(Report):
    """A report that also collects the expressions that were read, for the check of references."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Mapping[str, Any] = {}
        """What the foreach around adds to the names of expressions, with their types."""
        self._located: list[Located] = []

    def drain(self) -> tuple[Located, ...]:
        """Return the expressions read since the last call."""
        located, self._located = tuple(self._located), []
        return located

    def expression(self, scalar: Scalar, where: str) -> Expression | None:
        """Read a scalar that is one ``{{ expression }}``."""
        raw = scalar.raw
        start = raw.find("{{")
        body = raw.strip()
        if not body.startswith("{{") or not body.endswith("}}") or len(body) < len("{{}}"):
            self.add(scalar.at(max(start, 0)), where, MIXED_TEXT)
            return None
        base = start + 2
        source = raw[base : raw.rindex("}}")]
        if source.startswith(("-", "+")) or source.endswith(("-", "+")):
            message = "A sign right beside the braces does not count. Leave a space between them."
            self.add(scalar.at(start), where, message)
            return None
        try:
            expression = parse(source, self.names)
        except ExpressionInvalid as error:
            self.add(scalar.at(base + error.offset), where, str(error))
            return None
        self._located.append(Located(expression, scalar, base, where))
        return expression

    def value(self, node: Node, where: str) -> Any:
        """Return a node as JSON whose leaves may be expressions."""
        match node:
            case Scalar(value=str()) if "{{" in node.raw:
                return self.expression(node, where)
            case List():
                return [self.value(item, f"{where}[{i}]") for i, item in enumerate(node.items)]
            case Map():
                return {e.key: self.value(e.value, path_of(where, e.key)) for e in node.entries}
            case _:
                return plain(node)


def found(node: Node) -> str:
    """Return what stands in the file, for a message."""
    match node:
        case Scalar(value=str() as text):
            return f"the text '{shortened(text)}'" if text else "empty text"
        case Scalar(value=None):
            return "nothing"
        case Scalar():
            return shortened(node.raw)
        case _:
            return kind_of(plain(node))


class Section:
    """
    One mapping of the file.

    Args:
        keys: The keys it may have.
    """

    def __init__(self, node: Map, where: str, reading: Reading, keys: Collection[str]) -> None:
        self.mark = node.mark
        self.where = where
        self.reading = reading
        self._entries: dict[str, Entry] = {}
        unclaimed = {key for key in keys if node.get(key) is None}
        for entry in node.entries:
            if entry.key in keys:
                self._entries[entry.key] = entry
            else:
                self._unknown(entry, keys, unclaimed)

    def _unknown(self, entry: Entry, keys: Collection[str], unclaimed: set[str]) -> None:
        meant = nearest(entry.key, unclaimed)
        hint = f" Did you mean '{meant}'?" if meant else f" There are {listed(keys)}."
        if not keys:
            hint = " None is taken."
        message = f"The key '{shortened(entry.key)}' is unknown here.{hint}"
        self.reading.add(entry.mark, path_of(self.where, entry.key), message)
        if meant is not None:
            unclaimed.discard(meant)
            self._entries[meant] = entry

    def entry(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def has(self, key: str) -> bool:
        return key in self._entries

    def path(self, key: str) -> str:
        entry = self._entries.get(key)
        return path_of(self.where, entry.key if entry else key)

    def require(self, *keys: str) -> None:
        """Report each key that is missing."""
        for key in keys:
            if not self.has(key):
                self.reading.add(self.mark, self.where, f"'{key}' is missing here.")

    def wrong(self, key: str, message: str) -> None:
        """Report a problem with the value of a key."""
        entry = self._entries.get(key)
        mark = entry.value.mark if entry else self.mark
        self.reading.add(mark, self.path(key), message)

    def _scalar(self, key: str, wanted: type[Any], what: str) -> Any:
        """Return a literal scalar of exactly the wanted class, or None after reporting."""
        entry = self._entries.get(key)
        if entry is None or isinstance(entry.value, Broken):
            return None
        node = entry.value
        if isinstance(node, Scalar) and "{{" in node.raw:
            self.wrong(key, f"An expression cannot stand here. Write {what}.")
        elif isinstance(node, Scalar) and type(node.value) is wanted:
            return node.value
        else:
            self.wrong(key, f"Here goes {what}, not {found(node)}.")
        return None

    def text(self, key: str) -> str:
        """Return a text on its own, not empty; or empty text if there is none."""
        value = self._scalar(key, str, "text")
        if value is not None and not value.strip():
            self.wrong(key, "The text is empty. Write it, or leave the key out.")
        return (value or "").strip()

    def name(self, key: str, pattern: re.Pattern[str], what: str) -> str | None:
        """Return text of a form, such as an id."""
        value: str | None = self._scalar(key, str, what)
        if value is None or pattern.fullmatch(value):
            return value
        self.wrong(key, f"'{shortened(value)}' is not {what}.")
        return None

    def id(self, key: str) -> str | None:
        return self.name(key, ID, "an id (a-z, then a-z, 0-9, _ or -)")

    def choice(self, key: str, choices: Collection[T], default: T) -> T:
        """Return one of listed texts."""
        value = self._scalar(key, str, f"one of {', '.join(choices)}")
        for choice in choices:
            if choice == value:
                return choice
        if value is not None:
            near = did_you_mean(value, choices) if len(choices) > FEW else ""
            hint = near or f" There are {', '.join(choices)}."
            self.wrong(key, f"'{shortened(value)}' is not known here.{hint}")
        return default

    def integer(self, key: str, least: int, most: int, default: int) -> int:
        value = self._scalar(key, int, f"a whole number from {least} to {most}")
        if value is None:
            return default
        if not least <= value <= most:
            self.wrong(key, f"{value} is not from {least} to {most}.")
            return default
        return int(value)

    def number(self, key: str, least: float, most: float, default: float) -> float:
        entry = self._entries.get(key)
        if entry is None or isinstance(entry.value, Broken):
            return default
        value = entry.value.value if isinstance(entry.value, Scalar) else None
        if not isinstance(value, str | bool | None) and least <= value <= most:
            return float(value)
        self.wrong(key, f"Here goes a number from {least} to {most}, not {found(entry.value)}.")
        return default

    def duration_s(self, key: str) -> float | None:
        """Return the seconds of a duration, which is not zero."""
        value = self._scalar(key, str, "a duration such as 90s, 15m, 4h or 2d")
        if value is None:
            return None
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            self.wrong(key, f"'{shortened(value)}' is not a duration: {error}.")
            return None
        if not seconds:
            self.wrong(key, "The duration is zero. Write a longer one, or leave the key out.")
            return None
        return seconds

    def expression(self, key: str) -> Expression | None:
        entry = self._entries.get(key)
        if entry is None or isinstance(entry.value, Broken):
            return None
        if isinstance(entry.value, Scalar) and "{{" in entry.value.raw:
            return self.reading.expression(entry.value, self.path(key))
        self.wrong(key, f'Here goes "{{{{ an expression }}}}", not {found(entry.value)}.')
        return None

    def items(self, key: str, what: str) -> list[tuple[Node, str]]:
        """Return the items of a list with their paths; broken ones are left out."""
        entry = self._entries.get(key)
        if entry is None or isinstance(entry.value, Broken):
            return []
        if not isinstance(entry.value, List):
            self.wrong(key, f"Here goes a list of {what}, not {found(entry.value)}.")
            return []
        path = self.path(key)
        numbered = [(item, f"{path}[{index}]") for index, item in enumerate(entry.value.items)]
        return [(item, where) for item, where in numbered if not isinstance(item, Broken)]

    def ids(
        self, key: str, what: str, pattern: re.Pattern[str] = ID
    ) -> dict[str, tuple[Mark, str]]:
        """Return the ids of a list, each once, with their places."""
        ids: dict[str, tuple[Mark, str]] = {}
        for item, where in self.items(key, what):
            value = item.value if isinstance(item, Scalar) else None
            if not isinstance(value, str) or not pattern.fullmatch(value):
                message = f"Here goes the id of {what}, not {found(item)}."
                self.reading.add(item.mark, where, message)
            elif value in ids:
                self.reading.add(item.mark, where, f"'{value}' is here twice.")
            else:
                ids[value] = (item.mark, where)
        return ids

    def map(self, key: str, what: str) -> Map | None:
        """Return a mapping, or None after reporting what else is there."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        return as_map(entry.value, self.path(key), self.reading, what)

    def section(self, key: str, keys: Collection[str], what: str) -> Section | None:
        node = self.map(key, what)
        return None if node is None else Section(node, self.path(key), self.reading, keys)


def as_map(node: Node, where: str, reading: Reading, what: str) -> Map | None:
    """Return a mapping, or None after reporting what else is there."""
    if isinstance(node, Map):
        return node
    if not isinstance(node, Broken):
        reading.add(node.mark, where, f"Here goes {what}, not {found(node)}.")
    return None


def named_maps(
    node: Map | None, where: str, reading: Reading, what: str
) -> Iterator[tuple[Entry, Map | None, str]]:
    """Yield entry, mapping and path for ``name: {…}`` entries, checking the names."""
    for entry in node.entries if node else ():
        path = path_of(where, entry.key)
        if not NAME.fullmatch(entry.key):
            message = f"'{shortened(entry.key)}' is not a name (a-z, then a-z, 0-9 or _)."
            reading.add(entry.mark, path, message)
        yield entry, as_map(entry.value, path, reading, what), path
