"""One call of the Web API: its arguments, whichever way they came."""

from __future__ import annotations

import json
from typing import Any

from bot.sandbox.slack_standin.people import BOT_USER_ID
from bot.sandbox.slack_standin.standin import SlackRefusal, Standin
from bot.sandbox.slack_standin.workspace import Workspace

Json = dict[str, Any]


class Call:
    """The arguments of a call. A form holds only strings; JSON holds anything."""

    def __init__(self, standin: Standin, args: Json) -> None:
        self.standin = standin
        self.args = args

    @property
    def workspace(self) -> Workspace:
        return self.standin.workspace

    def text(self, name: str, default: str = "") -> str:
        """Return an argument as text."""
        value = self.args.get(name)
        return default if value is None else str(value)

    def required(self, name: str, error: str = "invalid_arguments") -> str:
        """Return an argument as text. Raises SlackRefusal if it is missing or empty."""
        value = self.text(name)
        if not value:
            raise SlackRefusal(
                error, [f"[ERROR] missing required field: {name} [json-pointer:/{name}]"]
            )
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return an argument as a truth value: true, "true", 1 and "1" are true."""
        value = self.args.get(name)
        return default if value is None else str(value).lower() in ("true", "1")

    def number(self, name: str, default: int) -> int:
        """Return an argument as a whole number."""
        try:
            return int(self.args.get(name) or default)
        except (TypeError, ValueError):
            raise SlackRefusal("invalid_arguments") from None

    def words(self, name: str) -> list[str]:
        """Return a comma-separated argument, or a list, as its parts."""
        value = self.args.get(name) or []
        parts = value if isinstance(value, list) else str(value).split(",")
        return [str(part).strip() for part in parts if str(part).strip()]

    def structure(self, name: str, error: str) -> Any:
        """Return an argument that is JSON, or JSON in a form's field; None if it is missing."""
        value = self.args.get(name)
        if isinstance(value, str):
            try:
                return json.loads(value) if value else None
            except ValueError:
                raise SlackRefusal(error) from None
        return value

    def channel(self, name: str = "channel", *, member: bool = False) -> Json:
        """
        Return the channel that an argument names by id, or by name.

        Args:
            member: The app must be in it.

        Raises:
            SlackRefusal: No such channel, or a private one that the app is not in; or, with
                ``member``, not_in_channel.
        """
        channel = self.workspace.find_channel(self.required(name))
        is_in = channel is not None and BOT_USER_ID in channel["_members"]
        if channel is None or (channel["is_private"] and not is_in):
            raise SlackRefusal("channel_not_found")
        if channel["is_archived"]:
            raise SlackRefusal("is_archived")
        if member and not is_in:
            raise SlackRefusal("not_in_channel")
        return channel
