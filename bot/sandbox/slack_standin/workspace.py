"""The workspace: channels, messages, modals and what each person may see of them.

Objects have Slack's own JSON shapes, because that is what goes out again. Everything runs on one
event loop, so nothing is locked. Keys that begin with ``_`` are ours and never leave.
"""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import Callable, Iterable
from typing import Any

from bot.sandbox.slack_standin import blockkit
from bot.sandbox.slack_standin.archive import Archive
from bot.sandbox.slack_standin.people import (
    APP,
    APP_ID,
    BOT_ID,
    BOT_USER_ID,
    SLACKBOT,
    TEAM_ID,
    Member,
)

Json = dict[str, Any]

SEED_CHANNELS = ("general", "incidents", "security", "legal")


class Workspace:
    """
    All state of the stand-in that a restart keeps, and the open modals, which it does not.

    Args:
        clock: Seconds since 1970. Injected, so that a test may hold it.
    """

    def __init__(self, archive: Archive, people: list[Member], clock: Callable[[], float]) -> None:
        self.archive = archive
        self.clock = clock
        self.people = people
        self.members = {member.id: member for member in (*people, APP, SLACKBOT)}
        self.channels: dict[str, Json] = {}
        self.messages: dict[str, dict[str, Json]] = {}
        self.ephemerals: dict[str, Json] = {}
        self.files: dict[str, Json] = {}
        self.views: dict[str, list[Json]] = {}
        self.version = 0
        self._last_us = 0
        self._waiting: set[asyncio.Event] = set()
        self._restore()

    # -- time and names

    def new_ts(self) -> str:
        """Return a moment as Slack names messages, and never the same one twice."""
        self._last_us = max(int(self.clock() * 1_000_000), self._last_us + 1)
        return f"{self._last_us // 1_000_000}.{self._last_us % 1_000_000:06d}"

    @staticmethod
    def new_id(prefix: str, length: int = 9) -> str:
        """Return a fresh id such as ``C0ABCDEFGH1``."""
        letters = string.ascii_uppercase + string.digits
        return prefix + "0" + "".join(secrets.choice(letters) for _ in range(length))

    # -- changes

    def changed(self) -> None:
        """Wake whoever shows the workspace to a person."""
        self.version += 1
        for event in self._waiting:
            event.set()

    async def wait_change(self, version: int, timeout_s: float) -> int:
        """Return the newest version, at once if it is not ``version``, else after a change."""
        if self.version == version:
            event = asyncio.Event()
            self._waiting.add(event)
            try:
                await asyncio.wait_for(event.wait(), timeout_s)
            except TimeoutError:
                pass
            finally:
                self._waiting.discard(event)
        return self.version

    def keep(self, kind: str, value: Json) -> None:
        """Write a changed object to disk and wake the watchers."""
        self.archive.keep(kind, value)
        self.changed()

    # -- channels

    def add_channel(self, name: str, members: Iterable[str], **more: Any) -> Json:
        """Create a channel. The caller has checked that the name is allowed and free."""
        channel: Json = {
            "id": self.new_id("D" if more.get("is_im") else "C"),
            "name": name,
            "name_normalized": name,
            "is_channel": not more.get("is_im", False),
            "is_im": False,
            "is_private": False,
            "is_archived": False,
            "is_general": name == "general",
            "created": int(self.clock()),
            "creator": BOT_USER_ID,
            "context_team_id": TEAM_ID,
            "topic": {"value": "", "creator": "", "last_set": 0},
            "purpose": {"value": "", "creator": "", "last_set": 0},
            "_members": list(members),
            **more,
        }
        self.channels[channel["id"]] = channel
        self.messages[channel["id"]] = {}
        self.keep("channel", channel)
        return channel

    def find_channel(self, reference: str) -> Json | None:
        """Return the channel of an id, a name or ``#name``; for a user id the direct messages."""
        if reference in self.channels:
            return self.channels[reference]
        if reference in self.members and reference not in (BOT_USER_ID, SLACKBOT.id):
            return self.direct_channel(reference)
        name = reference.removeprefix("#")
        return next((c for c in self.channels.values() if c["name"] == name and name), None)

    def direct_channel(self, user: str) -> Json:
        """Return the channel between the app and one person, made when it is first needed."""
        for channel in self.channels.values():
            if channel["is_im"] and channel["user"] == user:
                return channel
        return self.add_channel("", [user, BOT_USER_ID], is_im=True, user=user)

    def join(self, channel: Json, user: str) -> bool:
        """Add a person to a channel. Returns False if the person was already there."""
        if user in channel["_members"]:
            return False
        channel["_members"].append(user)
        self.keep("channel", channel)
        return True

    def visible_channels(self, user: str) -> list[Json]:
        """Return the channels that a person can read: the public ones and the person's own."""
        return [
            channel
            for channel in self.channels.values()
            if user in channel["_members"] or not (channel["is_private"] or channel["is_im"])
        ]

    # -- messages

    def new_message(self, channel: Json, author: Member, content: Json) -> Json:
        """Return a message that is not yet posted. ``content``: text, blocks, thread_ts …"""
        message: Json = {
            "type": "message",
            "user": author.id,
            "team": TEAM_ID,
            "ts": self.new_ts(),
            "text": "",
            **content,
        }
        if author is APP:
            message |= {"bot_id": BOT_ID, "app_id": APP_ID}
        if "blocks" in message:
            message["blocks"] = with_ids(message["blocks"])
        message["_channel"] = channel["id"]
        return message

    def post(self, channel: Json, author: Member, content: Json) -> Json:
        """Post a message in a channel and return it."""
        message = self.new_message(channel, author, content)
        self.messages[channel["id"]][message["ts"]] = message
        parent = self.messages[channel["id"]].get(message.get("thread_ts", ""))
        if parent is not None:
            parent["reply_count"] = parent.get("reply_count", 0) + 1
            parent["latest_reply"] = message["ts"]
            parent["thread_ts"] = parent["ts"]
            self.archive.keep("message", parent)
        self.keep("message", message)
        return message

    def post_ephemeral(self, channel: Json, author: Member, user: str, content: Json) -> Json:
        """Show a message to one person only."""
        message = self.new_message(channel, author, content) | {"_only_for": user}
        self.ephemerals[message["ts"]] = message
        self.keep("ephemeral", message)
        return message

    def find_message(self, channel_id: str, ts: str, user: str) -> Json | None:
        """Return a message that a person can see, or None."""
        message = self.messages.get(channel_id, {}).get(ts) or self.ephemerals.get(ts)
        if message is None or message["_channel"] != channel_id:
            return None
        return message if message.get("_only_for", user) == user else None

    def rewrite(self, message: Json, content: Json) -> None:
        """Change the content of a message; its earlier blocks are kept for late clicks."""
        if "blocks" in content:
            if message.get("blocks"):
                message.setdefault("_former_blocks", []).append(message["blocks"])
            message["blocks"] = with_ids(content["blocks"])
        message |= {key: value for key, value in content.items() if key != "blocks"}
        self.keep(_kind(message), message)

    def remove(self, message: Json) -> None:
        """Delete a message."""
        self.messages[message["_channel"]].pop(message["ts"], None)
        self.ephemerals.pop(message["ts"], None)
        self.keep(_kind(message), message | {"_deleted": True})

    # -- restarts

    def _restore(self) -> None:
        for kind, value in self.archive.load():
            match kind:
                case "channel":
                    self.channels[value["id"]] = value
                    self.messages.setdefault(value["id"], {})
                case "message" | "ephemeral":
                    ours = (
                        self.ephemerals if kind == "ephemeral" else self.messages[value["_channel"]]
                    )
                    if value.get("_deleted"):
                        ours.pop(value["ts"], None)
                    else:
                        ours[value["ts"]] = value
                    seconds, microseconds = value["ts"].split(".")
                    at_us = int(seconds) * 1_000_000 + int(microseconds)
                    self._last_us = max(self._last_us, at_us)
                case "file":
                    self.files[value["id"]] = value
        self.archive.begin(
            [
                *(("channel", channel) for channel in self.channels.values()),
                *(("message", m) for messages in self.messages.values() for m in messages.values()),
                *(("ephemeral", message) for message in self.ephemerals.values()),
                *(("file", file) for file in self.files.values()),
            ]
        )
        if not self.channels:
            for name in SEED_CHANNELS:
                self.add_channel(name, [BOT_USER_ID, *(person.id for person in self.people)])


def with_ids(blocks: list[Json]) -> list[Json]:
    """Return blocks with an id for each block and element that has none, as Slack fills them in."""
    filled = []
    for block in blocks:
        block = {**block, "block_id": block.get("block_id") or secrets.token_urlsafe(4)}
        if block["type"] in ("actions", "input", "section"):
            for key in ("element", "accessory"):
                if key in block:
                    block[key] = _with_action_id(block[key])
            if block["type"] == "actions":
                block["elements"] = [_with_action_id(element) for element in block["elements"]]
        filled.append(block)
    return filled


def _with_action_id(element: Json) -> Json:
    if element["type"] == "image":
        return element
    return {**element, "action_id": element.get("action_id") or secrets.token_urlsafe(4)}


def public(value: Json) -> Json:
    """Return an object without what is ours."""
    return {key: each for key, each in value.items() if not key.startswith("_")}


def find_element(
    blocks: list[Json], action_id: str, block_id: str | None
) -> tuple[Json, Json] | None:
    """Return the block and the element of an action, or None. ``block_id`` may be left out."""
    for block in blocks:
        if block_id is not None and block["block_id"] != block_id:
            continue
        for _, element in blockkit.elements_of(block):
            if element.get("action_id") == action_id:
                return block, element
    return None


def _kind(message: Json) -> str:
    return "ephemeral" if "_only_for" in message else "message"
