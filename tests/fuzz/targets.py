"""What is fuzzed, and what must hold whatever comes in.

A target takes any text. It returns whether the text was good, and raises ``Finding`` (or anything
else) where a promise is broken.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree
from zlib import crc32

from bot.engine.graph import mermaid, svg
from bot.engine.rehearsal import rehearse
from bot.engine.state import RunState
from bot.errors import ExpressionInvalid, Problem, RunbookInvalid
from bot.language.expressions import evaluate, parse
from bot.language.interpreter import Interpreter
from bot.language.load import check, check_files, load
from bot.language.rehearsal import check_rehearsal
from bot.language.runbook import Runbook
from bot.language.yaml_source import MAX_PROBLEMS
from tests.fuzz.corpus import ACTIONS, NEXT_FILE, runbooks
from tests.fuzz.runs import drive
from tests.unit.engine.test_graph import LINE, SVG

NOW = datetime(2026, 3, 1, tzinfo=UTC)
_DEEP: Any = {"a": 1}
for _ in range(20):
    _DEEP = [_DEEP, 1]
SCOPE: dict[str, Any] = {
    "inputs": {
        "a": "x" * 50,
        "n": 7,
        "none": None,
        "since": "2026-01-01T00:00:00Z",
        "many": list(range(3_000)),
        "words": [f"word {number}" for number in range(300)],
        "deep": _DEEP,
    },
    "steps": {"s": {"list": [3, 1.5, 2], "map": {"k": [1, {"z": "t"}]}, "status": "done"}},
    "alert": {"labels": {"x": "{{ 7 * 7 }}"}, "starts_at": "2026-01-01T00:00:00Z"},
    "inventory": {"GET /x": {"owner": "orders", "data_classification": ["personal"]}},
    "incident": {"id": "INC-1", "severity": "sev2"},
    "run": {"id": "INC-1-R1", "started_by": "slack:U1"},
    "item": "a",
    "index": 0,
}
_BEFORE = json.dumps(SCOPE)

PLAIN = (type(None), bool, int, float, str, list, dict)
VALUES = (*PLAIN, tuple, datetime, timedelta)


class Finding(AssertionError):
    """A promise is broken."""


def _promise(holds: bool, what: str) -> None:
    if not holds:
        raise Finding(what)


def _only(value: Any, kinds: tuple[type, ...], what: str) -> None:
    """Look at the exact type of everything in a value; subclasses are foreign too."""
    stack = [value]
    while stack:
        each = stack.pop()
        _promise(type(each) in kinds, f"{what} holds a {type(each).__name__}")
        if isinstance(each, dict):
            stack += each.keys()
            stack += each.values()
        elif isinstance(each, list | tuple):
            stack += each


# --- expressions ---------------------------------------------------------------------------------


def expressions(text: str) -> bool:
    """JSON comes out, twice the same, or ExpressionInvalid with an offset in the text."""
    try:
        expression = parse(text, ("item", "index"))
        raw = Interpreter(SCOPE, NOW).value(expression.node)
        _only(raw, VALUES, "the value")
        result = evaluate({"x": [expression]}, SCOPE, NOW)
    except ExpressionInvalid as error:
        _promise(0 <= error.offset <= len(text), f"offset {error.offset} of {len(text)}")
        _promise(len(str(error)) < 2_000, "a message without an end")
        _promise("\n" not in str(error), "a message of several lines")
        return False
    _only(result, PLAIN, "the result")
    _promise(len(json.dumps(result, allow_nan=False)) < 2_000_000, "a large result")
    _promise(evaluate(parse(text, ("item", "index")), SCOPE, NOW) == result["x"][0], "not pure")
    return True


def scope_is_whole() -> bool:
    """Whether what was read is as it was; costs too much to be asked each time."""
    return json.dumps(SCOPE) == _BEFORE


# --- runbooks ------------------------------------------------------------------------------------


def loader(text: str) -> bool:
    """Problems with places, or a runbook that is stable, can be drawn, and runs."""
    parts = text.split(NEXT_FILE)[:4]
    if len(parts) == 1:
        book, problems = check(text, "fuzz.yaml", ACTIONS)
        _promise((book is None) == bool(problems), "neither a runbook nor problems")
        _in_file(problems, text)
        if book is None:
            return False
    found = check_files({f"{number}.yaml": part for number, part in enumerate(parts)}, ACTIONS)
    for part, problems in zip(parts, found.values(), strict=True):
        _in_file(problems, part)
    book = _loaded(parts)
    if len(parts) > 1:
        _promise((book is None) == any(found.values()), "load and check_files differ")
    if book is None:
        return False
    again = _loaded(parts)
    _promise(again is not None and book.version == again.version, "another version")
    _promise(again == book, "loading twice differs")
    chance = random.Random(crc32(text.encode("utf-8", "surrogatepass")))
    _drawn(book, None)
    run = drive(book, chance)
    _drawn(book, run.state)
    stored = run.state.model_dump_json()
    _promise(RunState.model_validate_json(stored) == run.state, "a state that cannot be kept")
    return True


def _loaded(parts: list[str]) -> Runbook | None:
    """Load the first file; it may call the others, whose ids stand in their own text."""
    called: dict[str, str] = {}
    for part in parts[1:]:
        own, _ = check(part, "fuzz.yaml", ACTIONS)
        if own is None:
            return None
        called[own.id] = part
    if len(called) < len(parts) - 1:
        return None
    try:
        book = load(parts[0], "fuzz.yaml", ACTIONS, called)
    except RunbookInvalid as error:
        _promise(bool(error.problems), "refused without a problem")
        _promise(len(str(error)) < 500_000, "a message without an end")
        return None
    _promise(book.text == parts[0], "another text")
    return book


def _in_file(problems: Iterable[Problem], text: str) -> None:
    lines = len(text.splitlines()) or 1
    count = 0
    for count, problem in enumerate(problems, 1):  # noqa: B007  # counted
        _promise(1 <= problem.line <= lines + 1, f"line {problem.line} of {lines}: {problem}")
        _promise(problem.column >= 1, f"column {problem.column}")
        _promise("\n" not in str(problem), f"a message of several lines: {problem}")
        _promise(len(str(problem)) < 2_000, "a message without an end")
        str(problem).encode()
    _promise(count <= MAX_PROBLEMS + 1, "problems without an end")


_SHAPES = {"svg", "title", "desc", "rect", "path", "circle", "text"}


def _drawn(book: Runbook, state: RunState | None) -> None:
    if state is None:
        for line in mermaid(book).splitlines():
            _promise(LINE.fullmatch(line) is not None, f"a foreign line of Mermaid: {line!r}")
    for each in ElementTree.fromstring(svg(book, state)).iter():
        _promise(each.tag.removeprefix(SVG) in _SHAPES, f"a foreign element: {each.tag}")
        for name in each.attrib:
            _promise(not name.startswith("on") and "href" not in name, f"attribute {name}")


# --- rehearsals ----------------------------------------------------------------------------------


def _books() -> dict[str, Runbook]:
    """The runbooks of the corpus that the rehearsals of the corpus are of."""
    books: dict[str, Runbook] = {}
    for text in runbooks():
        parts = text.split(NEXT_FILE)
        try:
            called = {part.partition("id: ")[2].partition("\n")[0]: part for part in parts[1:]}
            book = load(parts[0], "corpus.yaml", ACTIONS, called)
        except RunbookInvalid:
            continue  # it calls others, and is in the corpus with them too
        books[book.id] = book
    return books


BOOKS = _books()


def rehearsal(text: str) -> bool:
    """Problems with places, or a rehearsal whose cases can be played."""
    found, problems = check_rehearsal(text, BOOKS)
    _in_file(problems, text)
    _promise((found is None) == bool(problems), "neither a rehearsal nor problems")
    if found is None:
        return False
    book = BOOKS[found.runbook]
    for case in found.cases[:5]:
        played = rehearse(book, found, case)
        _promise(bool(played.journal) or bool(played.differences), "nothing happened")
        played.told.encode()
    return True


TARGETS: dict[str, Callable[[str], bool]] = {
    "loader": loader,
    "expressions": expressions,
    "rehearsal": rehearsal,
}
