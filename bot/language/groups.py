"""Reads the steps that hold other steps: parallel, foreach, and calls of other runbooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from bot.language.fields import NAME, Section
from bot.language.filters import FUNCTIONS
from bot.language.grammar import NAMES, WORDS
from bot.language.hints import shortened
from bot.language.outline import Around, depth_of, is_branch
from bot.language.references import STEP_NAMES
from bot.language.runbook import Call, Foreach, OnFailure, Parallel, Step
from bot.language.scope import Called, Read, Scope
from bot.language.yaml_source import List, Map, Node, Scalar, path_of

if TYPE_CHECKING:
    from bot.language.steps import StepReader

MAX_NESTING = 5
MAX_CONCURRENCY = 20
INDEX = "index"
"""What the number of an item is called, counted from 0."""

OF_EACH: Mapping[str, Any] = {"items": list[Any], "statuses": list[str], "failed": int}
"""What every foreach leaves besides its outputs."""

GROUP_ON_FAILURE: tuple[OnFailure, ...] = tuple(
    each for each in get_args(OnFailure) if each != "ask"
)
JOIN: tuple[Literal["all", "any"], ...] = ("all", "any")


def _written(section: Section, key: str) -> str:
    """Return the text of a key, whether or not it is right."""
    entry = section.entry(key)
    return entry.value.raw if entry and isinstance(entry.value, Scalar) else ""


def _on_failure(section: Section) -> OnFailure:
    if _written(section, "on_failure") == "ask":
        message = (
            "People are asked about the single step that failed, so 'ask' stands there. Here goes "
            f"one of {', '.join(GROUP_ON_FAILURE)}."
        )
        section.wrong("on_failure", message)
        return "stop"
    return section.choice("on_failure", GROUP_ON_FAILURE, "stop")


def _too_deep(reader: StepReader, section: Section, scope: Scope) -> bool:
    """Tell whether a group is nested too deeply; its steps are then not read."""
    if depth_of(scope.place) < MAX_NESTING:
        return False
    message = (
        f"Steps are nested at most {MAX_NESTING} deep. Put the inner ones into a runbook of their "
        "own, and call it with 'runbook'."
    )
    section.reading.add(section.mark, section.where, message)
    scope.facts.update(dict.fromkeys(reader.outline.inside.get(section.mark, ())))
    return True


def read_parallel(reader: StepReader, section: Section, step_id: str, scope: Scope) -> Read:
    """Read branches. Afterwards all their steps can be read; within, none of another branch."""
    join = section.choice("join", JOIN, "all")
    on_failure = _on_failure(section)
    if _too_deep(reader, section, scope):
        return None, {}
    items = section.items("parallel", "branches")
    entry = section.entry("parallel")
    if entry and isinstance(entry.value, List) and not entry.value.items:
        section.wrong("parallel", "Write at least one branch here.")
    branches: list[tuple[Step, ...]] = []
    after = dict(scope.facts)
    for number, (item, where) in enumerate(items):
        inner = scope.inner((*scope.place, Around("parallel", step_id, number)))
        branches.append(_branch(reader, item, where, inner))
        after |= inner.facts
    scope.facts |= after
    step = Step(
        id=step_id,
        line=section.mark.line,
        parallel=Parallel(tuple(branches), join),
        on_failure=on_failure,
    )
    return step, {}


def _branch(reader: StepReader, node: Node, where: str, scope: Scope) -> tuple[Step, ...]:
    if not isinstance(node, Map) or not is_branch(node):
        return reader.sequence([(node, where)], scope)
    return _steps(reader, Section(node, where, reader.reading, ("steps",)), scope)


def _steps(reader: StepReader, section: Section, scope: Scope) -> tuple[Step, ...]:
    """Read the ``steps`` of a group, of which there is at least one."""
    entry = section.entry("steps")
    if entry and isinstance(entry.value, List) and not entry.value.items:
        section.wrong("steps", "Write at least one step here.")
    return reader.sequence(section.items("steps", "steps"), scope)


def read_foreach(reader: StepReader, section: Section, step_id: str, scope: Scope) -> Read:
    """Read the steps for each item. Outside, only the outputs can be read."""
    reading = reader.reading
    section.require("steps")
    items, type_ = _items(section)
    reader.check(scope)
    name = _name(section, reading.names)
    concurrency = section.integer("concurrency", 1, MAX_CONCURRENCY, 1)
    on_failure = _on_failure(section)
    if _too_deep(reader, section, scope):
        return None, None
    outer = reading.names
    reading.names = {**outer, name: type_, INDEX: int}
    inner = scope.inner((*scope.place, Around("foreach", step_id)))
    steps = _steps(reader, section, inner)
    outputs = read_outputs(section, {*OF_EACH, *STEP_NAMES})
    reader.check(inner, "in an output", "the outputs are read")
    reading.names = outer
    facts = {**dict.fromkeys(outputs, list[Any]), **OF_EACH}
    step = Step(
        id=step_id,
        line=section.mark.line,
        foreach=Foreach(items, name, steps, concurrency, outputs),
        on_failure=on_failure,
        fact_names=tuple(facts),
    )
    return step, facts


def _items(section: Section) -> tuple[Any, Any]:
    """Return the list, or the expression that gives one, and the type of its items."""
    entry = section.entry("foreach")
    node = entry.value if entry else None
    if not isinstance(node, List):
        return section.expression("foreach"), Any
    if not node.items:
        section.wrong("foreach", "The list is empty. Write at least one item, or an expression.")
    types = {
        type(item.value) if isinstance(item, Scalar) and "{{" not in item.raw else Any
        for item in node.items
    }
    type_ = types.pop() if len(types) == 1 else Any
    return section.reading.value(node, section.path("foreach")), type_


def _name(section: Section, outer: Mapping[str, Any]) -> str:
    """Return what an item is called; if that is no name, what stands there."""
    name = section.name("as", NAME, "a name (a-z, then a-z, 0-9 or _)")
    if name is None and section.has("as"):
        return _written(section, "as")
    name, message = name or "item", ""
    if name in outer:
        message = f"A foreach around this one calls something '{name}' already."
    elif name in {*NAMES, *FUNCTIONS, *WORDS, INDEX}:
        message = f"'{shortened(name)}' has a meaning of its own in expressions."
    if message:
        section.wrong("as", f"{message} Choose another name with 'as'.")
    return name


def read_outputs(section: Section, taken: set[str]) -> dict[str, Any]:
    """Read ``outputs``: names to values."""
    node = section.map("outputs", "a mapping of names to values")
    outputs: dict[str, Any] = {}
    for entry in node.entries if node else ():
        where = path_of(section.path("outputs"), entry.key)
        outputs[entry.key] = section.reading.value(entry.value, where)
        message = ""
        if not NAME.fullmatch(entry.key):
            message = f"'{shortened(entry.key)}' is not a name (a-z, then a-z, 0-9 or _)."
        elif entry.key in taken:
            message = f"Every such step has '{entry.key}' of its own. Choose another name."
        if message:
            section.reading.add(entry.mark, where, message)
    return outputs


def read_call(reader: StepReader, section: Section, step_id: str, scope: Scope) -> Read:
    """Read a call. What the other runbook takes and leaves is checked once it is known."""
    runbook = section.id("runbook")
    on_failure = _on_failure(section)
    node = section.map("with", "a mapping of inputs to values")
    where = section.path("with")
    inputs = reader.reading.value(node, where) if node else {}
    entry = section.entry("runbook")
    if runbook is None or entry is None:
        return None, None
    if node or not section.has("with"):
        given = node or Map(section.mark, ())
        mark, at = entry.value.mark, section.path("runbook")
        reader.calls.append(Called(step_id, runbook, mark, at, given, where))
    step = Step(
        id=step_id,
        line=section.mark.line,
        call=Call(runbook, inputs),
        on_failure=on_failure,
    )
    return step, None
