"""Reads the steps of a runbook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from bot.action import Action, Effect
from bot.language.declarations import known, read_declarations
from bot.language.expressions import Expression
from bot.language.fields import Reading, Section, as_map
from bot.language.hints import did_you_mean, shortened, which
from bot.language.params import read_params
from bot.language.references import STEP_NAMES, Names, check_references
from bot.language.runbook import Approval, Input, InputType, Manual, OnFailure, Retry, Step
from bot.language.yaml_source import List, Map, Mark, Node, Scalar, path_of

STEP_KEYS = (
    "id",
    "uses",
    "with",
    "manual",
    "if",
    "approval",
    "retry",
    "timeout",
    "ttl",
    "on_failure",
)
ACTION_ONLY = ("with", "approval", "retry", "timeout", "ttl", "on_failure")
MANUAL_KEYS = ("ask", "fields", "timeout", "on_timeout")
APPROVAL_KEYS = ("from", "required", "timeout", "on_timeout")
RETRY_KEYS = ("attempts", "delay")
LATER_KEYS = {
    key: f"'{key}' is not yet in this version of the language. {remedy}"
    for key, remedy in {
        "parallel": "Write the steps one after another.",
        "foreach": "Write a step for each, or use an action that takes a list.",
        "runbook": "Write its steps here, or start it as a run of its own.",
        "always": "Give the earlier steps 'on_failure: continue'.",
    }.items()
}
MAX_APPROVALS = 10
MAX_ATTEMPTS = 10
ON_TIMEOUT: tuple[Literal["skip", "stop"], ...] = ("skip", "stop")
ANSWERED_BY = "answered_by"
"""What every answer has besides its fields: who gave it."""

_TYPES: dict[InputType, Any] = {
    InputType.INTEGER: int,
    InputType.NUMBER: float,
    InputType.BOOLEAN: bool,
    InputType.DURATION: float,
}


@dataclass
class StepReader:
    """Reads steps in order, remembering what later ones may refer to."""

    actions: Mapping[str, Action[Any]]
    inputs: Mapping[str, Input | None]
    reading: Reading
    steps: dict[str, Step] = field(default_factory=dict)
    """Those that could be read, by id."""
    _facts: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)
    _later: set[str] = field(default_factory=set)

    @property
    def ids(self) -> frozenset[str]:
        """The ids of all steps, also of those that are broken."""
        return frozenset(self._facts)

    def read(self, section: Section) -> tuple[Step, ...]:
        """Read ``steps`` of a runbook."""
        items = section.items("steps", "steps")
        if section.has("steps") and isinstance(_value(section, "steps"), List) and not items:
            section.wrong("steps", "A runbook has at least one step.")
        self._later = {step_id for item, _ in items for step_id in _ids_in(item)}
        for item, where in items:
            self._step(item, where)
        return tuple(self.steps.values())

    def _step(self, node: Node, where: str) -> None:
        body = as_map(node, where, self.reading, "a step such as {id: …, uses: …}")
        if body is None:
            return
        section = Section(body, where, self.reading, STEP_KEYS, LATER_KEYS)
        if any(body.get(key) for key in ("parallel", "foreach", "runbook")):
            self._facts.update(dict.fromkeys(_ids_in(body)))
            return
        section.require("id")
        step_id = section.id("id")
        step, facts = self._uses_or_manual(section, step_id or "")
        self._check_references(step_id)
        if step_id is None:
            return
        if step_id in self._facts:
            section.wrong("id", f"Two steps are called '{step_id}'. Rename one.")
            return
        self._facts[step_id] = facts
        if step is not None:
            self.steps[step_id] = step

    def _check_references(self, step_id: str | None) -> None:
        self._later -= self._facts.keys()
        roots = frozenset({"inputs", "steps", "alert", "inventory", "incident", "run"})
        later = frozenset(self._later | ({step_id} if step_id else set())) - self._facts.keys()
        names = Names(roots, "in a step", self.inputs, self._facts, later)
        check_references(self.reading.drain(), names, self.reading)

    def _uses_or_manual(
        self, section: Section, step_id: str
    ) -> tuple[Step | None, Mapping[str, Any] | None]:
        """Return the step, and its facts' types where they can be told."""
        condition = section.expression("if")
        if section.has("uses") and section.has("manual"):
            message = "A step has either 'uses' or 'manual'. Make two steps of it."
            self.reading.add(section.mark, section.where, message)
            return None, None
        if section.has("manual"):
            return self._manual(section, step_id, condition)
        if section.has("uses"):
            return self._action(section, step_id, condition)
        message = "A step needs 'uses' (an action) or 'manual' (a question)."
        self.reading.add(section.mark, section.where, message)
        return None, None

    def _manual(
        self, section: Section, step_id: str, condition: Expression | None
    ) -> tuple[Step | None, Mapping[str, Any] | None]:
        for key in ACTION_ONLY:
            entry = section.entry(key)
            if entry is not None:
                hint = " Put it under 'manual'." if key == "timeout" else ""
                message = f"'{key}' goes with 'uses' only.{hint}"
                self.reading.add(entry.mark, section.path(key), message)
        body = section.section("manual", MANUAL_KEYS, "a question such as {ask: …}")
        if body is None:
            return None, None
        body.require("ask")
        node = body.map("fields", "a mapping of names to types")
        fields = read_declarations(node, body.path("fields"), self.reading, computed_defaults=False)
        for name in fields.keys() & {ANSWERED_BY, *STEP_NAMES}:
            message = f"Every answer has '{name}' of its own. Choose another name."
            body.wrong("fields", message)
        manual = Manual(
            ask=body.text("ask"),
            fields=known(fields),
            timeout_s=body.duration_s("timeout"),
            on_timeout=body.choice("on_timeout", ON_TIMEOUT, "stop"),
        )
        facts = {name: _TYPES.get(one.type, str) if one else Any for name, one in fields.items()}
        facts[ANSWERED_BY] = str
        step = Step(
            id=step_id,
            line=section.mark.line,
            manual=manual,
            condition=condition,
            fact_names=tuple(facts),
        )
        return step, facts

    def _action(
        self, section: Section, step_id: str, condition: Expression | None
    ) -> tuple[Step | None, Mapping[str, Any] | None]:
        name = section.text("uses")
        action = self.actions.get(name)
        if action is None and name:
            hint = which(name, self.actions)
            section.wrong("uses", f"No action is called '{shortened(name)}'.{hint}")
        params = self._params(section, action)
        approval = self._approval(section)
        on_failure = section.choice("on_failure", get_args(OnFailure), "ask")
        ttl_s = section.duration_s("ttl")
        retry, timeout_s = self._retry(section), section.duration_s("timeout")
        if action is None:
            return None, None
        self._check_against(section, action)
        facts = {name: info.annotation for name, info in action.facts.model_fields.items()}
        step = Step(
            id=step_id,
            line=section.mark.line,
            uses=action.name,
            params=params,
            condition=condition,
            approval=approval,
            ttl_s=ttl_s,
            retry=retry,
            timeout_s=timeout_s,
            on_failure=on_failure,
            effect=action.effect,
            fact_names=tuple(facts),
        )
        return step, facts

    def _params(self, section: Section, action: Action[Any] | None) -> Mapping[str, Any]:
        node = section.map("with", "a mapping of parameters")
        if action is None:
            if node is not None:
                self.reading.value(node, section.path("with"))
            return {}
        if node is None:
            if section.has("with"):
                return {}
            node = Map(section.mark, ())
        return read_params(node, path_of(section.where, "with"), self.reading, action)

    def _check_against(self, section: Section, action: Action[Any]) -> None:
        """Check the keys that depend on what the action does."""
        if action.contains and not section.has("ttl"):
            self.reading.add(
                section.mark,
                section.where,
                f"'ttl' is missing: {action.name} holds a containment, and each one expires. Write "
                "how long, such as ttl: 4h.",
            )
        if not action.contains and (entry := section.entry("ttl")):
            message = f"{action.name} holds no containment, so nothing can expire. Leave out 'ttl'."
            self.reading.add(entry.mark, section.path("ttl"), message)
        if action.effect is Effect.READ and (entry := section.entry("approval")):
            message = f"{action.name} only reads and never asks. Leave out 'approval'."
            self.reading.add(entry.mark, section.path("approval"), message)
        undo = section.entry("on_failure")
        if undo and action.effect is not Effect.CHANGE and _text(undo.value) == "undo":
            message = f"{action.name} is {action.effect}, and only a change can be undone."
            section.wrong("on_failure", message)

    def _approval(self, section: Section) -> Approval | None:
        body = section.section("approval", APPROVAL_KEYS, "a mapping such as {from: [group]}")
        if body is None:
            return None
        body.require("from")
        groups = body.ids("from", "a group of people")
        value = _value(body, "from")
        if isinstance(value, List) and not value.items:
            body.wrong("from", "Name at least one group that may approve.")
        return Approval(
            groups=tuple(groups),
            required=body.integer("required", 1, MAX_APPROVALS, 1),
            timeout_s=body.duration_s("timeout"),
            on_timeout=body.choice("on_timeout", ON_TIMEOUT, "stop"),
        )

    def _retry(self, section: Section) -> Retry:
        body = section.section("retry", RETRY_KEYS, "a mapping such as {attempts: 3}")
        if body is None:
            return Retry()
        body.require("attempts")
        attempts = body.integer("attempts", 1, MAX_ATTEMPTS, 1)
        return Retry(attempts, body.duration_s("delay") or Retry().delay_s)


def _value(section: Section, key: str) -> Node | None:
    entry = section.entry(key)
    return entry.value if entry else None


def _text(node: Node) -> str:
    return node.raw if isinstance(node, Scalar) else ""


def _ids_in(node: Node) -> set[str]:
    """Return every ``id`` under a step, also in keys that later versions will know."""
    match node:
        case List():
            return {each for item in node.items for each in _ids_in(item)}
        case Map():
            own = node.get("id")
            ids = {own.value.raw} if own and isinstance(own.value, Scalar) else set()
            for key in LATER_KEYS:
                inner = node.get(key)
                ids |= _ids_in(inner.value) if inner else set()
            return ids
        case _:
            return set()


def check_auto(auto: Mapping[str, tuple[Mark, str]], reader: StepReader, reading: Reading) -> None:
    """Report steps under ``auto`` that may not run before a person answers."""
    for step_id, (mark, where) in auto.items():
        step = reader.steps.get(step_id)
        message = ""
        if step_id not in reader.ids:
            message = f"No step is called '{step_id}'.{did_you_mean(step_id, reader.ids)}"
        elif step is not None and step.approval is not None:
            message = (
                f"Step '{step_id}' has an approval, so it always waits for people. Take it from "
                "'auto', or take the approval from the step."
            )
        elif step is not None and step.effect is Effect.IRREVERSIBLE:
            message = f"Step '{step_id}' cannot be taken back, so a person must approve it."
        elif step is not None and step.manual is not None:
            message = f"Step '{step_id}' asks a person, so it cannot run before one answers."
        if message:
            reading.add(mark, where, message)
