"""Reads one text as a runbook, and keeps what can only be checked together with other runbooks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bot.action import Action
from bot.errors import Problem
from bot.language.approvals import Cards
from bot.language.declarations import known, read_declarations
from bot.language.fields import Located, Reading, Section, as_map
from bot.language.groups import read_outputs
from bot.language.outline import Around, Outline
from bot.language.references import STEP_NAMES, Names, check_references
from bot.language.runbook import Runbook, Step
from bot.language.scope import Called, Scope
from bot.language.steps import MAX_STEPS, StepReader
from bot.language.triggers import Within, read_trigger
from bot.language.yaml_source import List, Map, Mark, read
from bot.model.incident import Severity

RUNBOOK_KEYS = (
    "id",
    "name",
    "summary",
    "owasp",
    "severity",
    "owners",
    "inputs",
    "triggers",
    "deadline",
    "approvals",
    "steps",
    "always",
    "outputs",
)
OWASP = re.compile(r"API(?:[1-9]|10):2023")

_START = Mark(1, 1)


@dataclass
class Draft:
    """
    A text that was read, its calls of other runbooks not yet checked.

    Args:
        runbook: None if the text has a problem of its own.

        id: As far as it could be read.

        at: Where the id stands.

        size: How many steps it has.
    """

    reading: Reading
    runbook: Runbook | None = None
    id: str | None = None
    at: Mark = _START
    calls: tuple[Called, ...] = ()
    reads: tuple[tuple[Located, tuple[str, ...]], ...] = ()
    auto: tuple[Within, ...] = ()
    size: int = 0

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self.reading.problems


def read_draft(text: str, actions: Mapping[str, Action[Any]]) -> Draft:
    """Read a text. All that is wrong with it alone is among the problems of the result."""
    reading = Reading()
    draft = Draft(reading)
    root = read(text, reading)
    if root is not None:
        body = as_map(root, "", reading, "a runbook: a mapping with id, name, steps, …")
        if body is not None:
            _fill(draft, body, text, actions)
    return draft


def _fill(draft: Draft, body: Map, text: str, actions: Mapping[str, Action[Any]]) -> None:
    """Read the whole runbook; it is only good if nothing was reported."""
    reading = draft.reading
    section = Section(body, "", reading, RUNBOOK_KEYS)
    section.require("id", "name", "summary", "severity", "owners", "steps")
    inputs = read_declarations(
        section.map("inputs", "a mapping of names to types"),
        "inputs",
        reading,
        computed_defaults=True,
    )
    check_references(reading.drain(), Names(frozenset(), "in a default"), reading)
    reader = StepReader(actions, inputs, reading, Cards(section, reading), Outline())
    steps, outputs, always = _read_steps(section, reader)
    triggers = [
        read_trigger(item, where, reader) for item, where in section.items("triggers", "triggers")
    ]
    severities = [severity.value for severity in Severity]
    runbook = Runbook(
        id=section.id("id") or "",
        name=section.text("name"),
        summary=section.text("summary"),
        severity=Severity(section.choice("severity", severities, "sev1")),
        owners=_owners(section),
        inputs=known(inputs),
        triggers=tuple(trigger for trigger, _ in triggers if trigger is not None),
        steps=steps,
        text=text,
        digest=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
        owasp=section.name("owasp", OWASP, "an OWASP API class such as API1:2023"),
        always=always,
        outputs=outputs,
        approvals=reader.cards.approvals,
        deadline_s=section.duration_s("deadline"),
    )
    entry = section.entry("id")
    draft.id, draft.at = runbook.id or None, entry.value.mark if entry else section.mark
    draft.size = reader.outline.count
    draft.runbook = None if reading.problems else runbook
    draft.calls, draft.reads = tuple(reader.calls), tuple(reader.reads)
    draft.auto = tuple(each for _, within in triggers for each in within)


def _owners(section: Section) -> tuple[str, ...]:
    owners = section.ids("owners", "a group of people")
    entry = section.entry("owners")
    if entry and isinstance(entry.value, List) and not entry.value.items:
        section.wrong("owners", "Name at least one group: owners approve what an alert starts.")
    return tuple(owners)


def _read_steps(
    section: Section, reader: StepReader
) -> tuple[tuple[Step, ...], Mapping[str, Any], tuple[Step, ...]]:
    """Read ``steps``, the ``outputs`` that may read them, and ``always``, which may read both."""
    reader.outline.add(section, "steps", "always")
    if reader.outline.count > MAX_STEPS:
        message = (
            f"The runbook has {reader.outline.count} steps; at most {MAX_STEPS} are read. Put some "
            "into a runbook of their own, and call it with 'runbook'."
        )
        section.wrong("steps", message)
        return (), {}, ()
    for key in _empty(section, "steps", "always"):
        section.wrong(key, "A runbook has at least one step.")
    scope = Scope((Around("steps"),))
    steps = reader.sequence(section.items("steps", "steps"), scope)
    outputs = read_outputs(section, set(STEP_NAMES))
    reader.check(scope, "in an output", "the outputs are read")
    last = scope.inner((Around("always"),))
    always = reader.sequence(section.items("always", "steps"), last)
    reader.cards.check(reader.reading)
    return steps, outputs, always


def _empty(section: Section, *keys: str) -> Iterator[str]:
    for key in keys:
        entry = section.entry(key)
        if entry and isinstance(entry.value, List) and not entry.value.items:
            yield key
