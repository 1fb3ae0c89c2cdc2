"""The Chat port on Slack's Web API."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web import SlackResponse

from bot.errors import ProviderRefused, ProviderUnreachable
from bot.model.message import Message, MessageRef
from bot.slack.blocks import fallback_text, message_blocks

log = logging.getLogger(__name__)

EVENT_TYPE = "firedoor_message"
"""The metadata type under which each message carries its key."""

TIMEOUT_S = 10
HISTORY = 200
"""How far back an interrupted message is looked for, in messages of its channel."""

_PASSING = frozenset(
    {"internal_error", "fatal_error", "service_unavailable", "request_timeout", "ratelimited"}
)
"""Error codes that go away by themselves."""

_CONNECTION = frozenset(
    {
        "invalid_auth",
        "not_authed",
        "token_revoked",
        "token_expired",
        "account_inactive",
        "missing_scope",
        "accesslimited",
        "team_access_not_granted",
        "org_login_required",
    }
)
"""Codes that say something of the connection, not of the message: once it is mended, the message
goes through, so it is kept."""


class SlackChat:
    """Implements ``bot.ports.Chat``."""

    def __init__(self, token: str, api_url: str) -> None:
        # No retries of the SDK's own: it would post again after a lost answer without looking
        # whether the first one arrived. The outbox looks, and then repeats.
        self.client = WebClient(token=token, base_url=api_url, timeout=TIMEOUT_S, retry_handlers=[])
        self._channels: dict[str, str] = {}

    def open_channel(self, name: str, topic: str, members: Sequence[str] = ()) -> str:
        try:
            response = self._call("conversations.create", {"name": name})
            channel = str(response["channel"]["id"])
        except ProviderRefused as error:
            if "name_taken" not in str(error):
                raise
            # Names hold the incident's number: one of this name is ours, made before a crash.
            channel = self._channel_id(name)
        self._call("conversations.setTopic", {"channel": channel, "topic": topic[:250]})
        for member in members:
            try:
                self._call("conversations.invite", {"channel": channel, "users": member})
            except ProviderRefused as error:
                # Already there, deactivated, or gone: no reason to keep the others out.
                log.warning("%s was not invited to #%s: %s", member, name, error)
        return channel

    def post(self, channel: str, message: Message, key: str) -> MessageRef:
        response = self._call(
            "chat.postMessage",
            {
                "channel": self._channel_id(channel),
                "text": fallback_text(message),
                "blocks": message_blocks(message),
                "metadata": {"event_type": EVENT_TYPE, "event_payload": {"key": key}},
                "unfurl_links": False,
                "unfurl_media": False,
            },
        )
        return MessageRef(channel=str(response["channel"]), ts=str(response["ts"]))

    def find(self, channel: str, key: str) -> MessageRef | None:
        channel_id = self._channel_id(channel)
        response = self._read(
            "conversations.history",
            {"channel": channel_id, "include_all_metadata": "true", "limit": HISTORY},
        )
        for message in response["messages"]:
            metadata = message.get("metadata") or {}
            payload = metadata.get("event_payload") or {}
            if metadata.get("event_type") == EVENT_TYPE and payload.get("key") == key:
                return MessageRef(channel=channel_id, ts=str(message["ts"]))
        return None

    def update(self, ref: MessageRef, message: Message) -> None:
        self._call(
            "chat.update",
            {
                "channel": ref.channel,
                "ts": ref.ts,
                "text": fallback_text(message),
                "blocks": message_blocks(message),
            },
        )

    def check(self) -> str:
        response = self._read("auth.test", {})
        return f"Slack: {response['user']} in {response['team']}"

    def _channel_id(self, channel: str) -> str:
        """Return the id of ``#name`` or ``name``; an id is returned as it is."""
        name = channel.removeprefix("#")
        if channel[:1] in "CG" and channel.isupper() and not channel.startswith("#"):
            return channel
        if name not in self._channels:
            cursor = ""
            while True:
                page = self._read(
                    "conversations.list",
                    {"limit": 1000, "exclude_archived": "true", "cursor": cursor},
                )
                self._channels |= {c["name"]: c["id"] for c in page["channels"]}
                cursor = (page.get("response_metadata") or {}).get("next_cursor") or ""
                if name in self._channels or not cursor:
                    break
        if name not in self._channels:
            raise ProviderRefused(
                f"Slack has no channel #{name} that the bot can see; the message was not sent. "
                "Make the channel, or invite the bot to it."
            )
        return self._channels[name]

    def _call(self, method: str, arguments: dict[str, Any]) -> SlackResponse:
        return _translate(method, lambda: self.client.api_call(method, json=arguments))

    def _read(self, method: str, arguments: dict[str, Any]) -> SlackResponse:
        """Call a method that takes no JSON, as Slack's reading methods do."""
        given = {k: v for k, v in arguments.items() if v != ""}
        return _translate(method, lambda: self.client.api_call(method, params=given))


def _translate(method: str, call: Callable[[], SlackResponse]) -> SlackResponse:
    """Turn every way in which Slack says no, or nothing, into one of our errors."""
    try:
        return call()
    except SlackApiError as error:
        status = getattr(error.response, "status_code", None)
        code = _error_code(error.response)
        if status == 429 or code == "ratelimited":
            after_s = float(error.response.headers.get("Retry-After", 1))
            raise ProviderUnreachable(
                f"Slack limits {method} for {after_s:g} s; it is sent then.", after_s
            ) from None
        if (status is not None and status >= 500) or code in _PASSING:
            raise ProviderUnreachable(
                f"Slack answers {method} with {code or status}; it is tried again."
            ) from None
        if code in _CONNECTION:
            raise ProviderUnreachable(
                f"Slack does not let us in ({method}: {code}); messages wait. Mend the app's token "
                "or scopes, restart, and look with `firedoor doctor`."
            ) from None
        details = (error.response.get("response_metadata") or {}).get("messages") or []
        more = f" ({'; '.join(details[:3])})" if details else ""
        raise ProviderRefused(
            f"Slack refuses {method}: {code}{more}. Check the bot's scopes with `firedoor doctor`."
        ) from None
    except (SlackClientError, OSError, json.JSONDecodeError) as error:
        raise ProviderUnreachable(
            f"Slack does not answer {method} ({type(error).__name__}); it is tried again."
        ) from None


def _error_code(response: Any) -> str:
    try:
        return str(response.get("error") or "")
    except (AttributeError, ValueError):
        return ""
