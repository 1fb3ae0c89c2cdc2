"""Strict YAML with places: text -> nodes that know their line and column, and all problems.

Built on PyYAML's events, so aliases are never followed and a bomb is refused before anything is
composed. Stricter than YAML where YAML surprises:

- no anchors, aliases, merge keys, tags, directives, or second documents;
- duplicate keys are problems, and keys are always text;
- plain scalars follow JSON: ``true``, ``false``, ``null`` (or ``~``, or nothing) and numbers as
  JSON writes them. Everything else is text: ``on``, ``Yes``, ``010``, ``12:30:00``, dates.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from bot.errors import Problem
from bot.language.hints import shortened
from bot.language.values import LARGEST_NUMBER

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 10_000
MAX_PROBLEMS = 100
"""A file with more is not a slip; the rest is not listed."""

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class Mark:
    """A place in the file. ``line`` and ``column`` count from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Scalar:
    """Text, a number, true, false or null. ``raw`` is its text before it was understood."""

    mark: Mark
    value: str | int | float | bool | None
    raw: str
    inside: Mark | None = None
    """Where the first character of the text stands, if the text is on one line as it is."""

    def at(self, offset: int) -> Mark:
        """Return the place of a character of the text, or of the scalar where that is unknown."""
        if self.inside is None:
            return self.mark
        return Mark(self.inside.line, self.inside.column + offset)


@dataclass(frozen=True)
class List:
    mark: Mark
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Entry:
    """A key of a mapping with its value."""

    key: str
    mark: Mark
    value: Node


@dataclass(frozen=True)
class Map:
    """A mapping; its keys are unique."""

    mark: Mark
    entries: tuple[Entry, ...]

    def get(self, key: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.key == key), None)


@dataclass(frozen=True)
class Broken:
    """Stands where a problem was found already, so that nothing else is said about it."""

    mark: Mark


Node = Scalar | List | Map | Broken


class Report:
    """Collects the problems of one file."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []

    def add(self, mark: Mark, where: str, message: str) -> None:
        self._problems.append(Problem(mark.line, mark.column, where, message))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems, in file order, each once."""
        found = sorted(set(self._problems))
        if len(found) > MAX_PROBLEMS:
            rest = len(found) - MAX_PROBLEMS
            last = found[MAX_PROBLEMS - 1]
            more = Problem(last.line, last.column, "", f"There are {rest} more problems.")
            return (*found[:MAX_PROBLEMS], more)
        return tuple(found)


def plain(node: Node) -> Any:
    """Return a node as plain JSON; what is broken becomes null."""
    match node:
        case Scalar():
            return node.value
        case List():
            return [plain(item) for item in node.items]
        case Map():
            return {entry.key: plain(entry.value) for entry in node.entries}
        case _:
            return None


def read(text: str, report: Report) -> Node | None:
    """Return the root of a document, or None if there is none that could be looked at further.

    Problems go to ``report``; the nodes hold ``Broken`` where they were.
    """
    start = Mark(1, 1)
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        report.add(start, "", f"The file is larger than {MAX_BYTES // 1024} KiB.")
        return None
    builder = _Builder(text, report)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
    except _TooMuch:
        return None
    except yaml.MarkedYAMLError as error:
        mark = _mark(error.problem_mark or error.context_mark)
        what = " ".join(part for part in (error.context, error.problem) if part)
        report.add(mark, builder.where, f"This is not YAML: {shortened(what, 200)}.")
        return None
    except yaml.reader.ReaderError as error:
        place = _place_of(text, error.position)
        report.add(place, "", f"The character U+{int(error.character):04X} is not allowed in YAML.")
        return None
    except (ValueError, OverflowError):
        # PyYAML turns escapes (\UFFFFFFFF) and %YAML versions into numbers without looking.
        report.add(start, builder.where, "This is not YAML: it holds an impossible escape.")
        return None
    if builder.root is None:
        report.add(start, "", "The file is empty.")
    return builder.root


def _mark(mark: Any) -> Mark:
    """Return one of PyYAML's marks (which may be None) as ours, which counts from 1."""
    return Mark(mark.line + 1, mark.column + 1) if mark is not None else Mark(1, 1)


def _place_of(text: str, index: int, known: Mark = Mark(1, 1), known_index: int = 0) -> Mark:
    """Return the place of a character, counting on from one whose place is known."""
    breaks = list(_LINE_BREAK.finditer(text, known_index, index))
    if not breaks:
        return Mark(known.line, known.column + index - known_index)
    return Mark(known.line + len(breaks), index - breaks[-1].end() + 1)


class _TooMuch(Exception):
    """A way out of the loop: a cap was reached, and is reported already."""


@dataclass
class _Frame:
    """A collection that is being read."""

    mark: Mark
    is_map: bool
    where: str
    is_key: bool = False
    is_broken: bool = False
    items: list[Node] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    key: tuple[str | None, Mark] | None = None
    """The key whose value comes next; its name is None if the value is to be dropped."""

    @property
    def wants_key(self) -> bool:
        return self.is_map and self.key is None

    @property
    def next_where(self) -> str:
        """The path of the value that comes next."""
        if not self.is_map:
            return f"{self.where}[{len(self.items)}]"
        return self.where if self.key is None else path_of(self.where, self.key[0] or "")


def path_of(where: str, key: str) -> str:
    """Return the path of a key under a path: ``steps[2].with``."""
    key = shortened(key, 40)
    return f"{where}.{key}" if where and key else where or key


class _Builder:
    """Takes PyYAML's events, one by one, and builds nodes with a stack of its own."""

    def __init__(self, text: str, report: Report) -> None:
        self.root: Node | None = None
        self._text = text
        self._report = report
        self._frames: list[_Frame] = []
        self._nodes = 0
        self._documents = 0

    @property
    def where(self) -> str:
        return self._frames[-1].next_where if self._frames else ""

    def take(self, event: yaml.Event) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self._document(event)
            case yaml.AliasEvent():
                message = (
                    f"'*{shortened(event.anchor or '')}': aliases are not allowed. Write it out."
                )
                self._problem(event, message)
                self._place(Broken(_mark(event.start_mark)))
            case yaml.ScalarEvent():
                self._count(event)
                self._refuse_extras(event)
                self._scalar(event)
            case yaml.CollectionStartEvent():
                self._count(event)
                self._refuse_extras(event)
                self._open(event)
            case yaml.CollectionEndEvent():
                self._close()

    def _problem(self, event: yaml.Event, message: str) -> None:
        self._report.add(_mark(event.start_mark), self.where, message)

    def _document(self, event: yaml.DocumentStartEvent) -> None:
        self._documents += 1
        if event.version is not None or event.tags:
            self._problem(event, "YAML directives are not allowed. Leave out the line with '%'.")
        if self._documents > 1:
            self._problem(event, "The file holds a second document. Put it in a file of its own.")
            raise _TooMuch

    def _count(self, event: yaml.Event) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._problem(event, f"The file has over {MAX_NODES} values.")
            raise _TooMuch

    def _refuse_extras(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.anchor is not None:
            self._problem(event, f"'&{shortened(event.anchor)}': anchors are not allowed.")
        if event.tag is not None:
            self._problem(event, f"The tag '{shortened(event.tag)}' is not allowed. Leave it out.")

    def _open(self, event: yaml.CollectionStartEvent) -> None:
        if len(self._frames) >= MAX_DEPTH:
            self._problem(event, f"The file is nested over {MAX_DEPTH} deep.")
            raise _TooMuch
        is_key = bool(self._frames) and self._frames[-1].wants_key
        if is_key:
            if not any(frame.is_key for frame in self._frames):
                message = "A key is text. If this is to be an expression, put it in quotes: "
                self._problem(event, message + '"{{ … }}".')
            self._frames[-1].is_broken = True
        is_map = isinstance(event, yaml.MappingStartEvent)
        self._frames.append(_Frame(_mark(event.start_mark), is_map, self.where, is_key))

    def _close(self) -> None:
        frame = self._frames.pop()
        if frame.is_key:
            self._frames[-1].key = (None, frame.mark)
        elif frame.is_broken:
            self._place(Broken(frame.mark))
        elif frame.is_map:
            self._place(Map(frame.mark, tuple(frame.entries.values())))
        else:
            self._place(List(frame.mark, tuple(frame.items)))

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        if self._frames and self._frames[-1].wants_key:
            self._frames[-1].key = (self._key(event, self._frames[-1]), _mark(event.start_mark))
        else:
            self._place(self._understand(event))

    def _key(self, event: yaml.ScalarEvent, frame: _Frame) -> str | None:
        """Return a key's name, or None where its value is to be dropped."""
        key = event.value
        if event.style is None and key == "<<":
            self._problem(event, "Merge keys ('<<') are not allowed. Write the entries out.")
        elif _UNPRINTABLE.search(key) or not key:
            self._problem(event, "A key is text, not empty, and printable.")
        elif key in frame.entries:
            first = frame.entries[key].mark.line
            message = f"The key '{shortened(key)}' is here twice; the first is on line {first}."
            self._report.add(_mark(event.start_mark), path_of(frame.where, key), message)
        else:
            return key
        return None

    def _place(self, node: Node) -> None:
        if not self._frames:
            self.root = node
            return
        frame = self._frames[-1]
        if not frame.is_map:
            frame.items.append(node)
        elif frame.key is None:  # an alias where a key should be
            frame.key = (None, node.mark)
        else:
            name, mark = frame.key
            if name is not None:
                frame.entries[name] = Entry(name, mark, node)
            frame.key = None

    def _understand(self, event: yaml.ScalarEvent) -> Scalar | Broken:
        mark, raw = _mark(event.start_mark), event.value
        if _UNPRINTABLE.search(raw):
            self._problem(event, "The text holds a control character or half a character.")
            return Broken(mark)
        if event.style is not None:
            return Scalar(mark, raw, raw, self._inside(event))
        match raw:
            case "" | "~" | "null":
                return Scalar(mark, None, raw)
            case "true" | "false":
                return Scalar(mark, raw == "true", raw)
        if not _FLOAT.fullmatch(raw):
            return Scalar(mark, raw, raw, self._inside(event))
        number = int(raw) if _INTEGER.fullmatch(raw) else float(raw)
        if not math.isfinite(number) or (number == int(number) and abs(number) > LARGEST_NUMBER):
            message = f"The number is beyond {LARGEST_NUMBER}. If it is text, put it in quotes."
            self._problem(event, message)
            return Broken(mark)
        return Scalar(mark, number, raw)

    def _inside(self, event: yaml.ScalarEvent) -> Mark | None:
        """Find the text where it stands in the file; not if it is folded or has escapes."""
        start: Any = event.start_mark
        end: Any = event.end_mark
        text = event.value.rstrip("\n")
        if not text or _LINE_BREAK.search(text):
            return None
        found = self._text.find(text, start.index, end.index)
        return _place_of(self._text, found, _mark(start), start.index) if found >= 0 else None


def leaves(node: Node, where: str) -> Iterator[tuple[Scalar | Broken, str]]:
    """Yield everything under a node that is no collection, with its path."""
    match node:
        case Scalar() | Broken():
            yield node, where
        case List():
            for index, item in enumerate(node.items):
                yield from leaves(item, f"{where}[{index}]")
        case _:
            for entry in node.entries:
                yield from leaves(entry.value, path_of(where, entry.key))
