"""A message for people, before any chat's or mail's own form."""

from __future__ import annotations

from typing import Literal

from bot.model.base import Frozen

Verb = Literal["approve", "reject", "override", "answer", "retry", "skip", "stop", "done", "review"]


class Button(Frozen):
    """``token`` is opaque and used once; all else is looked up on our side when it is clicked."""

    label: str
    verb: Verb
    token: str
    style: Literal["primary", "danger"] | None = None


class Message(Frozen):
    """
    Plain text everywhere: the door that sends it escapes for its own markup.

    ``facts`` are label and value pairs. ``code`` is shown in fixed width (a plan, a diff).
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    code: str = ""
    buttons: tuple[Button, ...] = ()
    context: str = ""


class MessageRef(Frozen):
    """Where a sent message is: Slack's channel id and ``ts``."""

    channel: str
    ts: str
