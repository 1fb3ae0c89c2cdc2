"""A question before people, and a message on its way: what the store keeps of them."""

from __future__ import annotations

from typing import Any, Literal

from bot.model.base import Frozen, Utc
from bot.model.message import Message, MessageRef


class Ask(Frozen):
    """
    A question that waits for people. ``token`` is opaque and in the buttons; everything else is
    looked up here when one is clicked.

    ``digest`` is the card's, for approvals. ``body`` holds what the question needs: the plan,
    the fields of an answer, or the choices of a decision. A ``review`` is of a broken glass: it
    belongs to no step's status and outlives its run.
    """

    token: str
    incident_id: str
    run_id: str
    step_id: str
    kind: Literal["approval", "answer", "decision", "review"]
    digest: str = ""
    groups: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    required: int = 1
    body: dict[str, Any] = {}
    asked_at: Utc
    expires_at: Utc | None = None
    closed: str = ""
    """Empty while open; else one line that says how it ended."""


class Parcel(Frozen):
    """
    Something to send, in the outbox. It is sent once per ``key``.

    ``open_channel`` makes the incident's channel; ``post`` and ``email`` send a message;
    ``update`` rewrites the message that was sent under ``target_key``. A ``live`` one is composed
    when it is sent, from where its run stands by then; its ``message`` is what was sent last.
    """

    key: str
    incident_id: str
    run_id: str | None = None
    step_id: str | None = None
    kind: Literal["open_channel", "post", "update", "email"]
    to: str = ""
    """A channel name, an address, or empty for the incident's own channel."""
    audience: str = ""
    message: Message
    target_key: str = ""
    live: bool = False
    members: tuple[str, ...] = ()
    """Whom to invite into a new channel, as actors (``slack:U0SAM``)."""


class StoredParcel(Frozen):
    """
    A parcel with where it stands. ``claimed``: it was begun and its end is not known.

    ``attempts`` counts every try of the present content; ``refusals`` those that the other system
    understood and refused.
    """

    id: int
    parcel: Parcel
    status: Literal["pending", "claimed", "sent", "dead"]
    attempts: int
    refusals: int = 0
    next_at: Utc
    ref: MessageRef | None = None
    error: str = ""
