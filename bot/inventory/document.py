"""A YAML or JSON document -> nodes with places. More lenient than runbooks, as OpenAPI documents
are written by others and are large; but aliases are not followed, so no bomb can go off.

Scalars keep their text as it stands in the file: an example of ``007`` is not the number 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from bot.errors import Problem

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 60
MAX_NODES = 500_000

# libyaml is some twenty times faster; PyYAML may have been built without it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True)
class Scalar:
    """``text`` is None for null."""

    line: int
    column: int
    text: str | None


@dataclass(frozen=True)
class List:
    line: int
    column: int
    items: list[Node] = field(default_factory=list)


@dataclass(frozen=True)
class Map:
    line: int
    column: int
    entries: dict[str, Node] = field(default_factory=dict)


Node: TypeAlias = "Scalar | List | Map"


class Problems:
    """Collects the problems of one document."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, node: Node | None, where: str, message: str) -> None:
        line, column = (node.line, node.column) if node is not None else (1, 1)
        self.found.append(Problem(line, column, where, message))


def read(text: str, problems: Problems) -> Node | None:
    """Return the root of a document, or None after reporting why there is none."""
    if len(text) > MAX_BYTES:
        problems.add(None, "", f"The document is larger than {MAX_BYTES // 1024 // 1024} MiB.")
        return None
    if text.lstrip()[:1] == "{":
        # JSON may be indented with tabs, which YAML forbids; within its strings none can stand.
        text = text.replace("\t", " ")
    try:
        return _Builder(problems).build(yaml.parse(text, Loader=_Loader))
    except _TooMuch as error:
        problems.add(error.node, "", str(error))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Scalar(mark.line + 1, mark.column + 1, None) if mark else None
        problems.add(place, "", f"This is neither YAML nor JSON: {error.problem}.")
    except (yaml.YAMLError, ValueError, OverflowError):
        # Characters that YAML forbids, and escapes that PyYAML turns into numbers unseen.
        problems.add(None, "", "This is neither YAML nor JSON: it holds an impossible character.")
    return None


class _TooMuch(Exception):
    """A way out: the document cannot be gone on with."""

    def __init__(self, message: str, node: Node) -> None:
        self.node = node
        super().__init__(message)


class _Builder:
    """Builds nodes from events with a stack of its own, so depth costs no recursion."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._open: list[tuple[List | Map, str | None]] = []
        """Collections being read, with the key whose value comes next."""
        self._root: Node | None = None
        self._count = 0

    def build(self, events: Iterator[yaml.Event]) -> Node | None:
        for event in events:
            match event:
                case yaml.AliasEvent():
                    raise _TooMuch(
                        "Aliases ('*name') are not read. Use $ref.", _scalar(event, None)
                    )
                case yaml.ScalarEvent():
                    null = not event.style and event.value in _NULLS
                    text = None if null else event.value
                    self._place(_scalar(event, text))
                case yaml.SequenceStartEvent():
                    self._begin(List(*_place(event)))
                case yaml.MappingStartEvent():
                    self._begin(Map(*_place(event)))
                case yaml.CollectionEndEvent():
                    self._place(self._open.pop()[0])
                case yaml.DocumentStartEvent() if self._root is not None:
                    raise _TooMuch("The file holds a second document.", _scalar(event, None))
        if self._root is None:
            self._problems.add(None, "", "The document is empty.")
        return self._root

    def _begin(self, node: List | Map) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise _TooMuch(f"The document is nested over {MAX_DEPTH} deep.", node)
        if self._open and isinstance(self._open[-1][0], Map) and self._open[-1][1] is None:
            raise _TooMuch("A key must be text.", node)
        self._open.append((node, None))

    def _place(self, node: Node) -> None:
        self._count += 1
        if self._count > MAX_NODES:
            raise _TooMuch(f"The document has over {MAX_NODES} values.", node)
        if not self._open:
            self._root = node
            return
        parent, key = self._open[-1]
        if isinstance(parent, List):
            parent.items.append(node)
        elif key is None:
            # Collections are refused as keys when they begin, so this is a scalar.
            name = (node.text or "") if isinstance(node, Scalar) else ""
            if name in parent.entries:
                self._problems.add(node, name[:60], f"The key '{name[:60]}' is here twice.")
            self._open[-1] = (parent, name)
        else:
            parent.entries.setdefault(key, node)
            self._open[-1] = (parent, None)


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _scalar(event: Any, text: str | None) -> Scalar:
    return Scalar(*_place(event), text)
