"""Checks, before a run, that every name an expression reads will be there."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Union

from pydantic import BaseModel

from bot.language.fields import Located, Reading
from bot.language.hints import did_you_mean, listed
from bot.language.outline import Place
from bot.language.runbook import Input, InputType
from bot.model.alert import Alert
from bot.model.endpoint import Endpoint
from bot.model.incident import Origin

STEP_NAMES: Mapping[str, Any] = {"status": str, "skipped": bool}
"""What every step has besides its facts."""

_INCIDENT: Mapping[str, Any] = {"id": str}
_RUN: Mapping[str, Any] = {"id": str, "origin": Origin}
_SCALARS = (str, int, float, datetime, timedelta)


@dataclass(frozen=True)
class Names:
    """
    What expressions at one place may read.

    Args:
        roots: The names that have a meaning there.

        place: That place, for messages.

        inputs: Declared inputs; None where the declaration is broken.

        steps: Facts of the steps that are over, name to type; None where they cannot be told.

        own: What the foreach around gives a name to, with the types.

        places: Where each step of the runbook stands.

        here: Where this one stands.

        begins: What happens here, for messages.
    """

    roots: frozenset[str]
    place: str
    inputs: Mapping[str, Input | None] = field(default_factory=dict)
    steps: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    own: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)
    here: Place = ()
    begins: str = "this step begins"


def check_references(located: Iterable[Located], names: Names, reading: Reading) -> None:
    """Report every reference that would not be there at the run."""
    for one in located:
        for path in one.expression.references:
            fault = _fault(path, names)
            if fault:
                reading.add(one.mark_of(path), one.where, fault)


def _fault(path: tuple[str, ...], names: Names) -> str | None:
    root = path[0]
    if root in names.own:
        return _type_fault(names.own[root], path, 1)
    if root not in names.roots:
        can = listed(names.roots) if names.roots else "only now() and literal values"
        return f"'{root}' cannot be read {names.place}; {can} can."
    match root:
        case "inputs":
            return _input_fault(path, names)
        case "steps":
            return _step_fault(path, names)
        case "inventory":
            return _inventory_fault(path, names)
        case "alert":
            return _type_fault(Alert, path, 1)
        case "incident":
            return _entry_fault(_INCIDENT, path, 1)
        case _:
            return _entry_fault(_RUN, path, 1)


def _input_fault(path: tuple[str, ...], names: Names) -> str | None:
    types_ = dict.fromkeys(names.inputs, str)
    return _entry_fault(types_, path, 1)


def _step_fault(path: tuple[str, ...], names: Names) -> str | None:
    if len(path) > 1 and path[1] in names.places and path[1] not in names.steps:
        return _not_over(path[1], names)
    fault = _entry_fault(names.steps, path, 1, known_only=True)
    if fault or len(path) == 1:
        return fault
    facts = names.steps[path[1]]
    return None if facts is None else fact_fault(path, facts)


def fact_fault(path: tuple[str, ...], facts: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a path such as ``steps.close.containment``, if these are the facts
    of the step."""
    return _entry_fault({**facts, **STEP_NAMES}, path, 2)


def _not_over(step_id: str, names: Names) -> str:
    """Say why a step that there is cannot be read here."""
    there = names.places[step_id]
    depth = next(
        (i for i, (a, b) in enumerate(zip(there, names.here, strict=False)) if a != b),
        min(len(there), len(names.here)),
    )
    beyond, beside = there[depth:], names.here[depth:]
    each = next((around.name for around in beyond if around.kind == "foreach"), None)
    if each is not None:
        return (
            f"steps.{step_id} runs once for each item of '{each}' and is known in there only. Give "
            f"'{each}' an output that reads it, and read steps.{each}.OUTPUT here: a list."
        )
    if beyond and beside and beyond[0].name == beside[0].name != "":
        return (
            f"steps.{step_id} stands in another branch, which goes on at the same time. Read it "
            "after the parallel, or put both steps into one branch."
        )
    return f"steps.{step_id} is not done when {names.begins}. Only earlier steps can be read."


def _inventory_fault(path: tuple[str, ...], names: Names) -> str | None:
    endpoints = [
        name
        for name, declared in names.inputs.items()
        if declared is None or declared.type is InputType.ENDPOINT
    ]
    if len(path) < 2 or path[1] not in [f"[inputs.{name}]" for name in endpoints]:
        example = endpoints[0] if endpoints else "endpoint"
        form = f"inventory[inputs.{example}].owner"
        return f"The inventory is read by an input of type endpoint: {form}."
    if len(path) == 2:
        return f"Say which of {listed(Endpoint.model_fields)} is to be read of the endpoint."
    return _type_fault(Endpoint, path, 2)


def _entry_fault(
    entries: Mapping[str, Any], path: tuple[str, ...], index: int, *, known_only: bool = False
) -> str | None:
    """Find what is wrong with a path whose element ``index`` must be one of ``entries``."""
    where = ".".join(path[:index])
    if index == len(path):
        return f"Say what is to be read of {where}: there are {listed(entries)}."
    key = path[index]
    if key.startswith("["):
        return f"{where} is read by a name written out, so that it can be checked: {where}.name."
    if key not in entries:
        return f"{where} has no '{key}'; it has {listed(entries)}.{did_you_mean(key, entries)}"
    return None if known_only else _type_fault(entries[key], path, index + 1)


def _type_fault(type_: Any, path: tuple[str, ...], index: int) -> str | None:
    """Find what is wrong with a path whose elements from ``index`` on go into a type."""
    if index == len(path):
        return None
    type_ = _without_none(type_)
    where = ".".join(path[:index])
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if origin is dict:
        return _type_fault(arguments[1], path, index + 1)
    if origin in (list, tuple):
        if path[index].startswith("["):
            return _type_fault(arguments[0], path, index + 1)
        return f"{where} is a list and has no '{path[index]}'."
    if isinstance(type_, type) and issubclass(type_, BaseModel):
        entries = {name: info.annotation for name, info in type_.model_fields.items()}
        return _entry_fault(entries, path, index)
    if origin is typing.Literal or (isinstance(type_, type) and issubclass(type_, _SCALARS)):
        return f"{where} is one value and has no '{path[index]}'."
    return None


def _without_none(type_: Any) -> Any:
    """Return ``X`` for ``X | None``; other unions as they are."""
    if typing.get_origin(type_) in (Union, types.UnionType):
        members = [each for each in typing.get_args(type_) if each is not type(None)]
        if len(members) == 1:
            return members[0]
    return type_
