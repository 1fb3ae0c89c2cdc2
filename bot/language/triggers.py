"""Reads triggers, and checks which steps may run before a person has answered anything."""

from __future__ import annotations

from dataclasses import dataclass

from bot.action import Effect
from bot.language.fields import ID_PATH, Section, as_map
from bot.language.given import check_given
from bot.language.hints import did_you_mean, listed
from bot.language.references import Names, check_references
from bot.language.runbook import Step, Trigger, within
from bot.language.steps import StepReader
from bot.language.yaml_source import Mark, Node

TRIGGER_KEYS = ("source", "if", "inputs", "auto")


@dataclass(frozen=True)
class Within:
    """A step under ``auto`` that stands in another runbook, to be checked once that is known."""

    path: tuple[str, ...]
    mark: Mark
    where: str


def read_trigger(
    node: Node, where: str, reader: StepReader
) -> tuple[Trigger | None, tuple[Within, ...]]:
    """Read one trigger, after the steps."""
    reading = reader.reading
    body = as_map(node, where, reading, "a trigger such as {source: alertmanager}")
    if body is None:
        return None, ()
    section = Section(body, where, reading, TRIGGER_KEYS)
    section.require("source")
    source, condition = section.id("source"), section.expression("if")
    given = section.section("inputs", reader.inputs, "a mapping of inputs to values")
    values = {}
    for name in reader.inputs:
        entry = given.entry(name) if given else None
        if given and entry:
            values[name] = reading.value(entry.value, given.path(name))
    _check_inputs(section, given, reader)
    check_references(reading.drain(), Names(frozenset({"alert"}), "in a trigger"), reading)
    auto = section.ids("auto", "a step", ID_PATH)
    within = tuple(
        Within(tuple(step_id.split(".")), *place)
        for step_id, place in auto.items()
        if _is_within(step_id, *place, reader)
    )
    return Trigger(source or "", condition, values, tuple(auto)), within


def _check_inputs(section: Section, given: Section | None, reader: StepReader) -> None:
    """See that the values fit their inputs, and that all that are required are there."""
    lacking = check_given(given, reader.inputs)
    if lacking:
        at = given or section
        message = (
            f"The trigger gives no value for {', '.join(lacking)}, and an alert cannot be asked. "
            "Give one under 'inputs', or give the input a default."
        )
        at.reading.add(at.mark, at.where, message)


def _is_within(step_id: str, mark: Mark, where: str, reader: StepReader) -> bool:
    """Report what is wrong with a step under ``auto``; tell whether another runbook must say it."""
    first, _, rest = step_id.partition(".")
    places = reader.outline.places
    step = reader.steps.get(first)
    main = [each for each, place in places.items() if place[0].kind == "steps"]
    fault = ""
    if first not in places:
        fault = f"No step is called '{first}'.{did_you_mean(first, main)}"
    elif first not in main:
        fault = f"Step '{first}' stands under 'always'; 'auto' is for those under 'steps'."
    elif step is not None and rest and step.call is None:
        fault = f"Step '{first}' calls no runbook, so there is no '{step_id}'."
    elif step is not None and not rest:
        fault = auto_fault(step_id, step)
    if fault:
        reader.reading.add(mark, where, fault)
    return bool(rest) and not fault


def auto_fault(name: str, step: Step) -> str:
    """Return why a step may not run before a person answers; empty if it may."""
    if step.approval is not None:
        return (
            f"Step '{name}' has an approval, so it always waits for people. Take it from 'auto', "
            "or take the approval from the step."
        )
    if step.effect is Effect.IRREVERSIBLE:
        return f"Step '{name}' cannot be taken back, so a person must approve it."
    if step.manual is not None:
        return f"Step '{name}' asks a person, so it cannot run before one answers."
    if step.call is not None:
        return f"Step '{name}' calls a runbook. Name the steps of that one: {name}.STEP."
    if step.is_group:
        inside = listed(each.id for each in within((step,)) if not each.is_group)
        return f"Step '{name}' only holds others. Name those that may run: {inside}."
    return ""
