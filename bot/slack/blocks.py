"""Messages and forms as Block Kit. Pure: data in, blocks out; escaping happens here and only here.

Texts from alerts and people go into ``plain_text`` wherever Block Kit has it; where it must be
mrkdwn, ``&``, ``<`` and ``>`` are escaped, as Slack asks, so that nothing in them becomes a
mention or a link.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from bot.language.runbook import Input, InputType, Runbook
from bot.model.ask import Ask
from bot.model.message import Button, Message

HEADER_MAX = 150
SECTION_MAX = 3_000
FIELD_MAX = 2_000
FIELDS_MAX = 10
OPTION_MAX = 75
OPTIONS_MAX = 100
VALUE_MAX = 150
TEXT_MAX = 3_900
"""Of the fallback text; Slack cuts a message's text at 40,000 and asks for less than 4,000."""

_REFERENCE = re.compile(
    r"<(?:([@#])([A-Z0-9]+)(?:\|([^<>|]*))?|((?:https?://|mailto:)[^<>|]+)(?:\|[^<>|]*)?)>"
)

ACTION_PREFIX = "firedoor."
Block = dict[str, Any]


def clean(text: str) -> str:
    """Drop what hides or reorders text: control, bidirectional and zero-width characters."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf"))


def escape(text: str) -> str:
    """Escape for mrkdwn (https://docs.slack.dev/messaging/formatting-message-text)."""
    return clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def as_typed(text: str) -> str:
    """Return what a person typed into a command: Slack escapes it, and makes references of names
    and addresses."""
    named = _REFERENCE.sub(lambda m: m[4] or f"{m[1]}{m[3] or m[2]}", text)
    return named.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def plain(text: str, limit: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": cut(clean(text), limit) or " ", "emoji": False}


def message_blocks(message: Message) -> list[Block]:
    """Return the blocks of a message: at most about a dozen."""
    blocks: list[Block] = [{"type": "header", "text": plain(message.title, HEADER_MAX)}]
    for paragraph in message.paragraphs:
        blocks.append({"type": "section", "text": plain(paragraph, SECTION_MAX)})
    for start in range(0, len(message.facts), FIELDS_MAX):
        blocks.append(
            {
                "type": "section",
                "fields": [
                    {
                        "type": "mrkdwn",
                        "text": cut(f"*{escape(label)}*\n{escape(value) or '-'}", FIELD_MAX),
                        "verbatim": True,
                    }
                    for label, value in message.facts[start : start + FIELDS_MAX]
                ],
            }
        )
    if message.code:
        # A fence inside the text would end ours; a zero-width space would be stripped by clean().
        fenced = escape(message.code).replace("```", "'''")
        text = cut(fenced, SECTION_MAX - 10)
        blocks.append(
            {
                "type": "section",
                "text": {"type": "mrkdwn", "text": f"```\n{text}\n```", "verbatim": True},
            }
        )
    if message.buttons:
        blocks.append({"type": "actions", "elements": [_button(b) for b in message.buttons]})
    if message.context:
        blocks.append({"type": "context", "elements": [plain(message.context, SECTION_MAX)]})
    return blocks


def fallback_text(message: Message) -> str:
    """Return the text for notifications and screen readers."""
    return cut(escape("\n".join((message.title, *message.paragraphs))), TEXT_MAX)


def _button(button: Button) -> Block:
    element: Block = {
        "type": "button",
        "action_id": f"{ACTION_PREFIX}{button.verb}",
        "text": plain(button.label, OPTION_MAX),
        "value": button.token,
    }
    if button.style:
        element["style"] = button.style
    return element


# --- forms ---------------------------------------------------------------------------------------

RUN_FORM = "firedoor.run_form"
PICK_FORM = "firedoor.pick_form"
ANSWER_FORM = "firedoor.answer_form"
REJECT_FORM = "firedoor.reject_form"
OVERRIDE_FORM = "firedoor.override_form"
REVIEW_FORM = "firedoor.review_form"


def pick_form(runbooks: Sequence[Runbook], channel: str) -> Block:
    """The first form of ``/firedoor run``: which runbook?"""
    options = [
        {"text": plain(f"{book.id}: {book.name}", OPTION_MAX), "value": book.id}
        for book in runbooks[:OPTIONS_MAX]
    ]
    select = {"type": "static_select", "action_id": "value", "options": options}
    return _form(
        PICK_FORM,
        "Run a runbook",
        "Next",
        [_input("runbook", "Runbook", select)],
        channel,
    )


def run_form(runbook: Runbook, endpoints: Sequence[str], channel: str) -> Block:
    """The form for a runbook's inputs. ``channel`` comes back as private metadata."""
    blocks: list[Block] = [{"type": "section", "text": plain(runbook.summary, SECTION_MAX)}]
    blocks += [
        _input(
            name,
            declared.description or name,
            _element(declared, endpoints),
            hint=_hint(declared),
            optional=declared.has_default,
        )
        for name, declared in runbook.inputs.items()
    ]
    return _form(RUN_FORM, "Run a runbook", "Run", blocks, f"{runbook.id}|{channel}")


def answer_form(ask: Ask, fields: Mapping[str, Input]) -> Block:
    """The form for a manual step's answer."""
    blocks: list[Block] = [
        {"type": "section", "text": plain(str(ask.body.get("ask", "")), SECTION_MAX)}
    ]
    blocks += [
        _input(
            name,
            declared.description or name,
            _element(declared, ()),
            hint=_hint(declared),
            optional=declared.has_default,
        )
        for name, declared in fields.items()
    ]
    return _form(ANSWER_FORM, "Answer", "Send", blocks, ask.token)


def reject_form(ask: Ask) -> Block:
    """The form that asks for the reason of a rejection."""
    summary = str(ask.body.get("summary", ""))
    field = _words("reason", "Why not?", optional=True)
    return _reason_form(REJECT_FORM, "Reject", "Reject", summary, field, ask)


def override_form(ask: Ask) -> Block:
    """The form that asks why the glass is broken."""
    summary = (
        f"{ask.body.get('summary', '')} You let this go on without its approval. It is announced, "
        "and somebody else will review it."
    )
    field = _words("reason", "Why can it not wait?", optional=False)
    return _reason_form(OVERRIDE_FORM, "Break glass", "Break glass", summary, field, ask)


def review_form(ask: Ask) -> Block:
    """The form that asks what a review of a broken glass found."""
    body = ask.body
    summary = f"{body.get('by', '')} broke the glass at {ask.step_id}: {body.get('reason', '')}"
    field = _words("finding", "Was it right, and what is to change?", optional=False)
    return _reason_form(REVIEW_FORM, "Review", "Send", summary, field, ask)


def _words(name: str, label: str, *, optional: bool) -> Block:
    element: Block = {"type": "plain_text_input", "action_id": "value", "multiline": True}
    element["max_length"] = 1_000
    return _input(name, label, element, optional=optional)


def _reason_form(
    callback: str, title: str, submit: str, summary: str, field: Block, ask: Ask
) -> Block:
    section = {"type": "section", "text": plain(summary, SECTION_MAX)}
    return _form(callback, title, submit, [section, field], ask.token)


def form_values(view: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a person filled in, by input name; what they left empty is not there."""
    values: dict[str, Any] = {}
    for name, elements in view["state"]["values"].items():
        element = elements["value"]
        if element["type"] == "static_select":
            selected = element.get("selected_option")
            value = selected["value"] if selected else None
        elif element["type"] == "checkboxes":
            value = bool(element.get("selected_options"))
        else:
            value = element.get("value")
        if value not in (None, ""):
            values[name] = value
    return values


def _form(callback: str, title: str, submit: str, blocks: list[Block], metadata: str) -> Block:
    return {
        "type": "modal",
        "callback_id": callback,
        "title": plain(title, 24),
        "submit": plain(submit, 24),
        "close": plain("Cancel", 24),
        "blocks": blocks,
        "private_metadata": metadata,
    }


def _input(
    name: str, label: str, element: Block, *, hint: str = "", optional: bool = False
) -> Block:
    block: Block = {
        "type": "input",
        "block_id": name,
        "label": plain(label, 2_000),
        "element": element,
        "optional": optional,
    }
    if hint:
        block["hint"] = plain(hint, 2_000)
    return block


def _element(declared: Input, endpoints: Sequence[str]) -> Block:
    if declared.type is InputType.ENDPOINT and endpoints:
        choices: Sequence[str] = endpoints
    elif declared.enum:
        choices = [str(item) for item in declared.enum]
    else:
        choices = ()
    # A menu that could not show them all, or not return them whole, would hide some: text it is.
    if choices and len(choices) <= OPTIONS_MAX and all(len(c) <= VALUE_MAX for c in choices):
        options = [{"text": plain(c, OPTION_MAX), "value": c} for c in choices]
        return {"type": "static_select", "action_id": "value", "options": options}
    if declared.type is InputType.BOOLEAN:
        options = [{"text": plain("yes", OPTION_MAX), "value": "true"}]
        options.append({"text": plain("no", OPTION_MAX), "value": "false"})
        return {"type": "static_select", "action_id": "value", "options": options}
    return {"type": "plain_text_input", "action_id": "value", "max_length": 2_000}


def _hint(declared: Input) -> str:
    kind = {
        InputType.DATETIME: "A moment such as 2026-11-23T14:00:00Z.",
        InputType.DURATION: "A duration such as 90s, 15m, 4h or 2d.",
        InputType.INTEGER: "A whole number.",
        InputType.NUMBER: "A number.",
    }.get(declared.type, "")
    examples = ", ".join(str(e) for e in declared.examples[:3])
    return " ".join(part for part in (kind, f"For example: {examples}" if examples else "") if part)
