"""What a person sees: channels, messages and modals, with all text already parsed into runs.

The page only builds DOM nodes from this. So there is one parser of mrkdwn, and a test without a
browser can tell what a person would see.
"""

from __future__ import annotations

from typing import Any

from bot.sandbox.slack_standin import mrkdwn
from bot.sandbox.slack_standin.people import TEAM_NAME, usergroups
from bot.sandbox.slack_standin.standin import Standin
from bot.sandbox.slack_standin.workspace import public

Json = dict[str, Any]


def state(standin: Standin, user: str, only: str | None, limit: int) -> Json:
    """
    Return the workspace as one person sees it.

    Args:
        only: Give the messages of this channel only (id, name or ``#name``); None: of all.

        limit: At most so many messages for each channel, the newest.
    """
    workspace = standin.workspace
    stack = workspace.views.get(user, [])
    groups = usergroups(workspace.people)
    return {
        "version": workspace.version,
        "team": TEAM_NAME,
        "user": user,
        "is_app_connected": standin.sockets.open_count > 0,
        "is_offline": standin.faults.is_offline,
        "commands": list(standin.commands),
        "members": [
            {
                "id": member.id,
                "name": member.name,
                "display": member.display,
                "role": member.role,
                "is_bot": member.is_bot,
            }
            for member in workspace.members.values()
        ],
        "groups": {group_id: group["handle"] for group_id, (group, _) in groups.items()},
        "channels": [
            {
                "id": channel["id"],
                "name": channel["name"],
                "topic": channel["topic"]["value"],
                "topic_runs": mrkdwn.parse(channel["topic"]["value"]),
                "is_im": channel["is_im"],
                "is_private": channel["is_private"],
                "is_archived": channel["is_archived"],
                "is_member": user in channel["_members"],
                "members": channel["_members"],
                "messages": (
                    _messages(standin, channel, user, limit)
                    if only in (None, channel["id"], channel["name"], f"#{channel['name']}")
                    else []
                ),
            }
            for channel in workspace.visible_channels(user)
        ],
        "view": _shown_view(stack[-1]) if stack else None,
        "view_depth": len(stack),
    }


def _messages(standin: Standin, channel: Json, user: str, limit: int) -> list[Json]:
    workspace = standin.workspace
    mine = [
        message
        for message in workspace.ephemerals.values()
        if message["_channel"] == channel["id"] and message["_only_for"] == user
    ]
    found = [*workspace.messages[channel["id"]].values(), *mine]
    found.sort(key=lambda message: str(message["ts"]))
    return [_shown_message(message, user) for message in found[-limit:]]


def _shown_message(message: Json, user: str) -> Json:
    return public(message) | {
        "is_ephemeral": "_only_for" in message,
        "text_runs": mrkdwn.parse(message["text"]),
        "shown_blocks": with_runs(message.get("blocks", [])),
        "shown_reactions": [
            {"runs": mrkdwn.plain(f":{each['name']}:"), "count": each["count"]}
            for each in message.get("reactions", [])
        ],
        "state": message.get("_state", {}).get(user, {}),
    }


def _shown_view(view: Json) -> Json:
    return public(view) | {"shown_blocks": with_runs(view["blocks"])}


def with_runs(node: Any) -> Any:
    """Return a copy of blocks in which each text object also holds its ``runs``."""
    if isinstance(node, list):
        return [with_runs(each) for each in node]
    if not isinstance(node, dict):
        return node
    copy = {key: with_runs(value) for key, value in node.items()}
    match copy.get("type"):
        case "mrkdwn":
            copy["runs"] = mrkdwn.parse(copy["text"], verbatim=bool(copy.get("verbatim")))
        case "plain_text":
            copy["runs"] = mrkdwn.plain(copy["text"])
    return copy
