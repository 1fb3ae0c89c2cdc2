"""Reads the steps that do one thing: use an action, or ask a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from bot.action import Action, Effect
from bot.language.approvals import ON_TIMEOUT
from bot.language.declarations import known, read_declarations
from bot.language.fields import Section
from bot.language.hints import listed, shortened, which
from bot.language.outline import frame_of
from bot.language.params import read_params
from bot.language.references import STEP_NAMES
from bot.language.runbook import InputType, Manual, OnFailure, Retry, Step
from bot.language.scope import Read, Scope
from bot.language.yaml_source import List, Map, Scalar, path_of
from bot.model.events import ErrorKind

if TYPE_CHECKING:
    from bot.language.steps import StepReader

MANUAL_KEYS = ("ask", "fields", "assignee", "due", "remind", "timeout", "on_timeout")
RETRY_KEYS = ("attempts", "delay", "backoff", "jitter", "on")
MAX_ATTEMPTS = 10
MAX_BACKOFF = 10
LEAST_REMIND_S = 60
NEVER_RETRIED: Mapping[str, str] = {
    "ambiguous": "it may have happened already, and a person decides what is true",
    "refused": "the other system says no, and will say no again",
}
RETRIED: tuple[ErrorKind, ...] = tuple(
    kind for kind in get_args(ErrorKind) if kind not in NEVER_RETRIED
)
ANSWERED_BY = "answered_by"
"""What every answer has besides its fields: who gave it."""

_TYPES: dict[InputType, Any] = {
    InputType.INTEGER: int,
    InputType.NUMBER: float,
    InputType.BOOLEAN: bool,
    InputType.DURATION: float,
}


def read_manual(reader: StepReader, section: Section, step_id: str, scope: Scope) -> Read:
    """Read a question, and the facts that its answer leaves."""
    body = section.section("manual", MANUAL_KEYS, "a question such as {ask: …}")
    if body is None:
        return None, None
    body.require("ask")
    node = body.map("fields", "a mapping of names to types")
    fields = read_declarations(node, body.path("fields"), reader.reading, computed_defaults=False)
    for name in fields.keys() & {ANSWERED_BY, *STEP_NAMES}:
        body.wrong("fields", f"Every answer has '{name}' of its own. Choose another name.")
    remind_s = body.duration_s("remind")
    if remind_s is not None and remind_s < LEAST_REMIND_S:
        body.wrong("remind", "People are reminded once a minute at most. Write 1m or longer.")
    manual = Manual(
        ask=body.text("ask"),
        fields=known(fields),
        assignee=body.id("assignee"),
        due_s=body.duration_s("due"),
        remind_s=remind_s,
        timeout_s=body.duration_s("timeout"),
        on_timeout=body.choice("on_timeout", ON_TIMEOUT, "stop"),
    )
    facts = {name: _TYPES.get(one.type, str) if one else Any for name, one in fields.items()}
    facts[ANSWERED_BY] = str
    step = Step(id=step_id, line=section.mark.line, manual=manual, fact_names=tuple(facts))
    return step, facts


def read_action(reader: StepReader, section: Section, step_id: str, scope: Scope) -> Read:
    """Read a step that uses an action, and the facts that the action leaves."""
    name = section.text("uses")
    action = reader.actions.get(name)
    if action is None and name:
        hint = which(name, reader.actions)
        section.wrong("uses", f"No action is called '{shortened(name)}'.{hint}")
    params = _params(reader, section, action)
    reads = reader.check(scope)
    approval = reader.cards.read(section, step_id, frame_of(scope.place), scope.facts, reads)
    on_failure = section.choice("on_failure", get_args(OnFailure), "ask")
    ttl_s = section.duration_s("ttl")
    retry, timeout_s = _retry(section), section.duration_s("timeout")
    if action is None:
        return None, None
    _check_against(section, action)
    facts = {name: info.annotation for name, info in action.facts.model_fields.items()}
    step = Step(
        id=step_id,
        line=section.mark.line,
        uses=action.name,
        params=params,
        approval=approval,
        ttl_s=ttl_s,
        retry=retry,
        timeout_s=timeout_s,
        on_failure=on_failure,
        effect=action.effect,
        fact_names=tuple(facts),
    )
    return step, facts


def _params(reader: StepReader, section: Section, action: Action[Any] | None) -> Mapping[str, Any]:
    node = section.map("with", "a mapping of parameters")
    if action is None:
        if node is not None:
            reader.reading.value(node, section.path("with"))
        return {}
    if node is None:
        if section.has("with"):
            return {}
        node = Map(section.mark, ())
    return read_params(node, path_of(section.where, "with"), reader.reading, action)


def _check_against(section: Section, action: Action[Any]) -> None:
    """Check the keys that depend on what the action does."""
    if action.contains and not section.has("ttl"):
        section.reading.add(
            section.mark,
            section.where,
            f"'ttl' is missing: {action.name} holds a containment, and each one expires. Write "
            "how long, such as ttl: 4h.",
        )
    if not action.contains and (entry := section.entry("ttl")):
        message = f"{action.name} holds no containment, so nothing can expire. Leave out 'ttl'."
        section.reading.add(entry.mark, section.path("ttl"), message)
    if action.effect is Effect.READ and (entry := section.entry("approval")):
        message = f"{action.name} only reads and never asks. Leave out 'approval'."
        section.reading.add(entry.mark, section.path("approval"), message)


def _retry(section: Section) -> Retry:
    body = section.section("retry", RETRY_KEYS, "a mapping such as {attempts: 3}")
    usual = Retry()
    if body is None:
        return usual
    body.require("attempts")
    return Retry(
        attempts=body.integer("attempts", 1, MAX_ATTEMPTS, 1),
        delay_s=body.duration_s("delay") or usual.delay_s,
        backoff=body.number("backoff", 1, MAX_BACKOFF, usual.backoff),
        jitter=body.number("jitter", 0, 1, usual.jitter),
        on=_retried(body) if body.has("on") else usual.on,
    )


def _retried(body: Section) -> tuple[ErrorKind, ...]:
    """Read which classes of error are tried again."""
    chosen: list[ErrorKind] = []
    for item, where in body.items("on", "classes of error"):
        value = item.value if isinstance(item, Scalar) else None
        kind = next((each for each in RETRIED if each == value), None)
        if kind is not None and kind not in chosen:
            chosen.append(kind)
            continue
        if kind is not None:
            message = f"'{kind}' is here twice."
        elif isinstance(value, str) and value in NEVER_RETRIED:
            message = f"'{value}' is never tried again: {NEVER_RETRIED[value]}."
        else:
            message = f"Here goes a class of error that is tried again: {listed(RETRIED)}."
        body.reading.add(item.mark, where, message)
    entry = body.entry("on")
    if entry and isinstance(entry.value, List) and not entry.value.items:
        body.wrong("on", "Name at least one class of error, or leave 'on' out.")
    return tuple(chosen)
