"""Reads the steps of a runbook: what all have in common, and what each may read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bot.action import Action
from bot.language import groups, singles
from bot.language.approvals import Cards
from bot.language.fields import Located, Reading, Section, as_map
from bot.language.outline import KINDS, Outline
from bot.language.references import Names, check_references
from bot.language.runbook import Input, Step
from bot.language.scope import Called, Facts, Scope
from bot.language.yaml_source import Node

STEP_KEYS = (
    "id",
    "if",
    *KINDS,
    "with",
    "approval",
    "retry",
    "timeout",
    "ttl",
    "on_failure",
    "join",
    "as",
    "concurrency",
    "steps",
    "outputs",
)
BELONGS: Mapping[str, tuple[str, ...]] = {
    "with": ("uses", "runbook"),
    "approval": ("uses",),
    "retry": ("uses",),
    "timeout": ("uses",),
    "ttl": ("uses",),
    "on_failure": ("uses", "parallel", "foreach", "runbook"),
    "join": ("parallel",),
    "as": ("foreach",),
    "concurrency": ("foreach",),
    "steps": ("foreach",),
    "outputs": ("foreach",),
}
"""Which kinds of step take a key that not all of them take."""

ROOTS = frozenset({"inputs", "steps", "alert", "inventory", "incident", "run"})
"""What a step may read."""

MAX_STEPS = 200


@dataclass
class StepReader:
    """
    Reads steps in order, remembering what is needed for checks later on.

    Args:
        steps: Those that could be read, by id.

        calls: Those that call other runbooks.

        reads: Expressions with the paths that go into the outputs of other runbooks.
    """

    actions: Mapping[str, Action[Any]]
    inputs: Mapping[str, Input | None]
    reading: Reading
    cards: Cards
    outline: Outline
    steps: dict[str, Step] = field(default_factory=dict)
    calls: list[Called] = field(default_factory=list)
    reads: list[tuple[Located, tuple[str, ...]]] = field(default_factory=list)
    _ids: set[str] = field(default_factory=set)

    def sequence(self, items: Iterable[tuple[Node, str]], scope: Scope) -> tuple[Step, ...]:
        """Read steps that run one after another; what is broken is left out."""
        steps = [self.step(item, where, scope) for item, where in items]
        return tuple(step for step in steps if step is not None)

    def step(self, node: Node, where: str, scope: Scope) -> Step | None:
        """Read one step, and let those after it read what it leaves."""
        body = as_map(node, where, self.reading, "a step such as {id: …, uses: …}")
        if body is None:
            return None
        section = Section(body, where, self.reading, STEP_KEYS)
        inside = self.outline.inside.get(body.mark, ())
        kind = _kind(section)
        step_id = self._id(section)
        condition = section.expression("if")
        self.check(scope)
        step: Step | None = None
        facts: Facts | None = None
        if kind is None:
            scope.facts.update(dict.fromkeys(inside))
        else:
            _check_keys(section, kind)
            step, facts = _READ[kind](self, section, step_id or "", scope)
            self.check(scope)
        if step_id is None:
            return None
        if step_id in self._ids:
            section.wrong("id", f"Two steps are called '{step_id}'. Rename one.")
            return None
        self._ids.add(step_id)
        scope.facts[step_id] = facts
        if step is None:
            return None
        step = replace(step, condition=condition)
        self.steps[step_id] = step
        return step

    def _id(self, section: Section) -> str | None:
        if section.has("id"):
            return section.id("id")
        if section.has("parallel"):
            return self.outline.unnamed.get(section.mark)
        section.require("id")
        return None

    def names(self, scope: Scope, place: str, begins: str) -> Names:
        own = self.reading.names
        return Names(
            ROOTS | own.keys(),
            place,
            self.inputs,
            scope.facts,
            own,
            self.outline.places,
            scope.place,
            begins,
        )

    def check(
        self, scope: Scope, place: str = "in a step", begins: str = "this step begins"
    ) -> tuple[Located, ...]:
        """Check the expressions read since the last check, and return them."""
        located = self.reading.drain()
        check_references(located, self.names(scope, place, begins), self.reading)
        called = {call.step_id for call in self.calls} & scope.facts.keys()
        self.reads += [
            (one, path)
            for one in located
            for path in one.expression.references
            if path[0] == "steps" and len(path) > 1 and path[1] in called
        ]
        return located


def _kind(section: Section) -> str | None:
    """Return which kind of step this is, or None after reporting that it is not exactly one."""
    kinds = [kind for kind in KINDS if section.has(kind)]
    if len(kinds) == 1:
        return kinds[0]
    message = (
        "A step needs one of 'uses' (an action), 'manual' (a question), 'parallel', 'foreach' and "
        "'runbook'."
    )
    if kinds:
        both = " and ".join(f"'{kind}'" for kind in kinds)
        message = f"A step is one thing, and this one has {both}. Make a step of each."
    section.reading.add(section.mark, section.where, message)
    return None


def _check_keys(section: Section, kind: str) -> None:
    """Report keys that this kind of step does not take."""
    for key, kinds in BELONGS.items():
        entry = section.entry(key)
        if entry is None or kind in kinds:
            continue
        wanted = " or ".join(f"'{each}'" for each in kinds)
        hint = ""
        if kind == "manual":
            hint = " Put it under 'manual'." if key == "timeout" else ""
        elif kinds == ("uses",):
            hint = " Put it at the steps inside."
        message = f"'{key}' goes with {wanted} only.{hint}"
        section.reading.add(entry.mark, section.path(key), message)


_READ = {
    "uses": singles.read_action,
    "manual": singles.read_manual,
    "parallel": groups.read_parallel,
    "foreach": groups.read_foreach,
    "runbook": groups.read_call,
}
