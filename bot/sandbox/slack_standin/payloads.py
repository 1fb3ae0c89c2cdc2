"""The payloads that the app gets, in the shapes of real Slack.

``token`` is Slack's old verification token: present and empty, since Socket Mode does not use it.
"""

from __future__ import annotations

import secrets
from typing import Any

from bot.sandbox.slack_standin.people import (
    APP_ID,
    BOT_ID,
    BOT_USER_ID,
    TEAM_DOMAIN,
    TEAM_ID,
    Member,
)

Json = dict[str, Any]

_TEAM = {"id": TEAM_ID, "domain": TEAM_DOMAIN}


def slash_command(
    user: Member, channel: Json, command: str, text: str, trigger_id: str, response_url: str
) -> Json:
    """Return what a typed command sends. All values are strings, as in a form."""
    return {
        "token": "",
        "team_id": TEAM_ID,
        "team_domain": TEAM_DOMAIN,
        "channel_id": channel["id"],
        "channel_name": "directmessage" if channel["is_im"] else channel["name"],
        "user_id": user.id,
        "user_name": user.name,
        "command": command,
        "text": text,
        "api_app_id": APP_ID,
        "is_enterprise_install": "false",
        "response_url": response_url,
        "trigger_id": trigger_id,
    }


def _interaction(kind: str, user: Member, trigger_id: str) -> Json:
    return {
        "type": kind,
        "user": user.brief,
        "api_app_id": APP_ID,
        "token": "",
        "trigger_id": trigger_id,
        "team": _TEAM,
        "enterprise": None,
        "is_enterprise_install": False,
    }


def message_action(
    user: Member,
    channel: Json,
    message: Json,
    action: Json,
    state: Json,
    *,
    is_ephemeral: bool,
    trigger_id: str,
    response_url: str,
) -> Json:
    """Return what a click in a message sends. The content of an ephemeral one is left out."""
    payload = _interaction("block_actions", user, trigger_id) | {
        "container": {
            "type": "message",
            "message_ts": message["ts"],
            "channel_id": channel["id"],
            "is_ephemeral": is_ephemeral,
        },
        "channel": {
            "id": channel["id"],
            "name": "directmessage" if channel["is_im"] else channel["name"],
        },
        "state": {"values": state},
        "response_url": response_url,
        "actions": [action],
    }
    if not is_ephemeral:
        payload["message"] = message
    if "thread_ts" in message:
        payload["container"]["thread_ts"] = message["thread_ts"]
    return payload


def view_action(user: Member, view: Json, action: Json, trigger_id: str) -> Json:
    """Return what a click in a modal sends."""
    return _interaction("block_actions", user, trigger_id) | {
        "container": {"type": "view", "view_id": view["id"]},
        "view": view,
        "actions": [action],
    }


def view_submission(user: Member, view: Json, trigger_id: str) -> Json:
    """Return what sending a modal sends. ``view`` holds ``state.values``."""
    return _interaction("view_submission", user, trigger_id) | {"view": view, "response_urls": []}


def view_closed(user: Member, view: Json, *, is_cleared: bool) -> Json:
    """Return what closing a modal sends, if it asked for it with ``notify_on_close``."""
    payload = _interaction("view_closed", user, "") | {"view": view, "is_cleared": is_cleared}
    del payload["trigger_id"]
    return payload


def event(at_s: float, content: Json) -> Json:
    """Return an event of the Events API around its content (``type``, ``user``, ``channel`` …)."""
    return {
        "token": "",
        "team_id": TEAM_ID,
        "context_team_id": TEAM_ID,
        "context_enterprise_id": None,
        "api_app_id": APP_ID,
        "event": content,
        "type": "event_callback",
        "event_id": f"Ev{secrets.token_hex(5).upper()}",
        "event_time": int(at_s),
        "authorizations": [
            {
                "enterprise_id": None,
                "team_id": TEAM_ID,
                "user_id": BOT_USER_ID,
                "is_bot": True,
                "is_enterprise_install": False,
            }
        ],
        "is_ext_shared_channel": False,
        "event_context": f"4-{secrets.token_hex(16)}",
    }


def view(content: Json, view_id: str, stack: list[Json]) -> Json:
    """Return an opened modal: what the app sent, completed as Slack completes it."""
    return {
        "id": view_id,
        "team_id": TEAM_ID,
        "app_id": APP_ID,
        "app_installed_team_id": TEAM_ID,
        "bot_id": BOT_ID,
        "hash": new_hash(),
        "private_metadata": "",
        "callback_id": "",
        "external_id": "",
        "submit": None,
        "close": None,
        "clear_on_close": False,
        "notify_on_close": False,
        "submit_disabled": False,
        "previous_view_id": stack[-1]["id"] if stack else None,
        "root_view_id": stack[0]["id"] if stack else view_id,
        "state": {"values": {}},
        **content,
    }


def new_hash() -> str:
    """Return the mark of one state of a view: an update may name the state it was made for."""
    return f"{secrets.randbelow(10**10)}.{secrets.token_hex(4)}"
