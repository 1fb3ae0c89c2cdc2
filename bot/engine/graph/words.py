"""What a step does, needs and falls back to, in a few words for a drawing."""

from __future__ import annotations

import json
from typing import Any

from bot.language.expressions import Expression
from bot.language.runbook import Approval, Runbook, Step

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))

_ON_FAILURE = {
    "ask": "ask a person",
    "stop": "stop",
    "continue": "go on",
    "undo": "undo every change",
}


def one_line(text: str) -> str:
    """Return text as one line of printable characters."""
    return "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for char in " ".join(text.split())
    )


def clipped(text: str, length: int) -> str:
    """Return text as one line that is no longer than this."""
    line = one_line(text)
    return line if len(line) <= length else f"{line[: length - 1].rstrip()}…"


def value_text(value: Any) -> str:
    """Return a value of a runbook as it is read: an expression without its braces."""
    match value:
        case Expression():
            return one_line(value.source)
        case str():
            return one_line(value)
        case list() | tuple():
            return ", ".join(value_text(each) for each in value)
        case _:
            return one_line(json.dumps(value, ensure_ascii=False, default=value_text))


def duration_text(seconds: float) -> str:
    """Return a declared duration as the language writes it: ``15m``."""
    for size, unit in _UNITS:
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size:g}{unit}"
    return f"{seconds:g}s"


def took_text(seconds: float) -> str:
    """Return a measured duration: ``3.2 s``, ``2 min 5 s``, ``1 h 3 min``."""
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h" + (f" {minutes} min" if minutes else "")


def title(step: Step) -> str:
    """Return the step's name; a ``parallel`` that nobody named has none."""
    return "" if "@" in step.id else step.id


def does(step: Step) -> str:
    """Return what the step does."""
    if step.manual is not None:
        return one_line(step.manual.ask)
    if step.parallel is not None:
        return "side by side, until one is done" if step.parallel.join == "any" else "side by side"
    if step.foreach is not None:
        each = step.foreach
        beside = f", {each.concurrency} at once" if each.concurrency > 1 else ", one at a time"
        return f"for each {each.name} of {value_text(each.items)}{beside}"
    if step.call is not None:
        return f"runbook {step.call.runbook}"
    return step.uses or ""


def condition(step: Step) -> str:
    """Return when the step is done at all; empty for always."""
    return value_text(step.condition) if step.condition is not None else ""


def approval(needed: Approval) -> str:
    """Return who must say yes."""
    text = f"{needed.card}: " if needed.card else ""
    text += f"{needed.required} of {' or '.join(needed.groups)}"
    if needed.timeout_s is not None:
        text += f" within {duration_text(needed.timeout_s)}"
    text += ", else skip" if needed.on_timeout == "skip" else ", else stop"
    if needed.break_glass:
        text += f"; {needed.break_glass} may override"
    return text


def question(step: Step) -> str:
    """Return who is asked, and how long; empty where that is left open."""
    manual = step.manual
    if manual is None:
        return ""
    parts = [f"asks {manual.assignee}"] if manual.assignee else []
    if manual.due_s is not None:
        parts.append(f"due in {duration_text(manual.due_s)}")
    if manual.timeout_s is not None:
        parts.append(f"within {duration_text(manual.timeout_s)}, else {manual.on_timeout}")
    return ", ".join(parts)


def fallback(step: Step) -> str:
    """Return what follows a failure, where it is not what always does."""
    default = "stop" if step.is_group else "ask"
    return "" if step.on_failure == default else _ON_FAILURE[step.on_failure]


def may_be_passed(step: Step) -> bool:
    """Tell whether the run may go on past the step without doing it."""
    gate = step.approval is not None and step.approval.on_timeout == "skip"
    unanswered = step.manual is not None and step.manual.on_timeout == "skip"
    return step.condition is not None or gate or (unanswered and bool(question(step)))


def started_by(runbook: Runbook) -> str:
    """Return what may start the runbook."""
    sources = list(dict.fromkeys(trigger.source for trigger in runbook.triggers))
    return f"alert of {' or '.join(sources)}, or a person" if sources else "a person"
