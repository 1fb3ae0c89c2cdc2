"""The parts of one stand-in, and what it hands out for a short time: triggers and response URLs."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bot.errors import Refused
from bot.sandbox.slack_standin import payloads
from bot.sandbox.slack_standin.faults import Faults
from bot.sandbox.slack_standin.socket_mode import Sockets
from bot.sandbox.slack_standin.workspace import Workspace, public

Json = dict[str, Any]

TRIGGER_LIFE_S = 3.0
RESPONSE_URL_LIFE_S = 30 * 60
RESPONSE_URL_USES = 5
EVENTS = ("app_mention", "member_joined_channel", "message")


class SlackRefusal(Refused):
    """A Web API call is refused, as ``{"ok": false, "error": code}`` with messages."""

    def __init__(self, code: str, messages: list[str] | None = None) -> None:
        self.code = code
        self.messages = messages or []
        super().__init__(f"{code} {'; '.join(self.messages)}".strip())


@dataclass
class ResponseUrl:
    """Where a response URL leads: the channel, the person, and the message that was clicked."""

    channel_id: str
    user: str
    message_ts: str | None
    expires_s: float
    uses_left: int = RESPONSE_URL_USES


@dataclass
class _Trigger:
    user: str
    expires_s: float
    is_used: bool = False


@dataclass
class Standin:
    """
    Everything that the routes work on.

    Args:
        base_url: Our own address, ``http://127.0.0.1:PORT``.

        bot_token, app_token: What the app must show. Never written anywhere.

        commands: The slash commands that are registered for the app.

        events: The types of events that the app is subscribed to.
    """

    workspace: Workspace
    sockets: Sockets
    faults: Faults
    base_url: str
    bot_token: str = field(repr=False)
    app_token: str = field(repr=False)
    clock: Callable[[], float]
    commands: tuple[str, ...] = ("/firedoor",)
    events: tuple[str, ...] = EVENTS
    trigger_life_s: float = TRIGGER_LIFE_S
    calls: deque[Json] = field(default_factory=lambda: deque(maxlen=5_000))
    response_urls: dict[str, ResponseUrl] = field(default_factory=dict)
    _triggers: dict[str, _Trigger] = field(default_factory=dict)
    _call_count: int = 0

    def new_trigger(self, user: str) -> str:
        """Return a trigger id: good for opening one modal for this person, for 3 s."""
        left, middle = secrets.randbelow(10**6), secrets.randbelow(10**7)
        trigger_id = f"{left:06d}.{middle:07d}.{secrets.token_hex(16)}"
        self._triggers[trigger_id] = _Trigger(user, self.clock() + self.trigger_life_s)
        return trigger_id

    def use_trigger(self, trigger_id: str) -> str:
        """Return the person of a trigger id. Raises SlackRefusal if it is used, late or unknown."""
        trigger = self._triggers.get(trigger_id)
        if trigger is None:
            raise SlackRefusal("invalid_trigger_id")
        if trigger.is_used:
            raise SlackRefusal("exchanged_trigger_id")
        if trigger.expires_s < self.clock():
            raise SlackRefusal("expired_trigger_id")
        trigger.is_used = True
        return trigger.user

    def new_response_url(self, channel_id: str, user: str, message_ts: str | None) -> str:
        """Return an address to which the app may answer five times within 30 minutes."""
        key = secrets.token_urlsafe(18)
        self.response_urls[key] = ResponseUrl(
            channel_id, user, message_ts, self.clock() + RESPONSE_URL_LIFE_S
        )
        return f"{self.base_url}/response/{key}"

    def publish(self, content: Json) -> None:
        """Send an event to the app, if it is subscribed to events of this type."""
        if content["type"] not in self.events:
            return
        self.sockets.publish(content["type"], payloads.event(self.clock(), public(content)))

    def log_call(self, method: str, args: Json, status: int, answer: Json, fault: str) -> None:
        """Remember a Web API call. The arguments hold no token any more."""
        self._call_count += 1
        self.calls.append(
            {
                "number": self._call_count,
                "at_s": self.clock(),
                "method": method,
                "args": args,
                "status": status,
                "ok": bool(answer.get("ok")),
                "error": answer.get("error"),
                "fault": fault or None,
            }
        )
