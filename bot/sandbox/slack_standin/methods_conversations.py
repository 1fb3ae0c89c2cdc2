"""Web API: who we are, channels, people and user groups."""

from __future__ import annotations

import re
from typing import Any

from bot.sandbox.slack_standin.call import Call
from bot.sandbox.slack_standin.people import (
    APP_NAME,
    BOT_ID,
    BOT_USER_ID,
    SLACKBOT,
    TEAM_ID,
    TEAM_NAME,
    usergroups,
)
from bot.sandbox.slack_standin.standin import SlackRefusal, Standin
from bot.sandbox.slack_standin.workspace import public

Json = dict[str, Any]

NAME_MAX = 80
TOPIC_MAX = 250


def auth_test(call: Call) -> Json:
    """Say whose token it is."""
    return {
        "url": f"{call.standin.base_url}/",
        "team": TEAM_NAME,
        "user": APP_NAME,
        "team_id": TEAM_ID,
        "user_id": BOT_USER_ID,
        "bot_id": BOT_ID,
        "is_enterprise_install": False,
    }


def connections_open(call: Call) -> Json:
    """Give the address of a WebSocket. The only method that takes the app token."""
    host = call.standin.base_url.removeprefix("http://")
    return {"url": f"ws://{host}/link?ticket={call.standin.sockets.new_ticket()}"}


def create(call: Call) -> Json:
    """Create a channel; the app is its first member."""
    name = call.required("name", "invalid_name_required")
    if len(name) > NAME_MAX:
        raise SlackRefusal("invalid_name_maxlength")
    if not re.search(r"[a-z0-9]", name):
        raise SlackRefusal("invalid_name_punctuation")
    if not re.fullmatch(r"[a-z0-9_-]+", name):
        raise SlackRefusal("invalid_name_specials")
    if call.workspace.find_channel(f"#{name}") is not None:
        raise SlackRefusal("name_taken")
    channel = call.workspace.add_channel(name, [BOT_USER_ID], is_private=call.flag("is_private"))
    return {"channel": _described(channel)}


def list_(call: Call) -> Json:
    """List the public channels, and the private ones that the app is in."""
    kinds = call.words("types") or ["public_channel"]
    channels = [
        _described(channel)
        for channel in call.workspace.channels.values()
        if _kind(channel) in kinds
        and (not channel["is_private"] or BOT_USER_ID in channel["_members"])
    ]
    return {"channels": channels, "response_metadata": {"next_cursor": ""}}


def info(call: Call) -> Json:
    """Describe a channel."""
    return {"channel": _described(call.channel())}


def members(call: Call) -> Json:
    """List the members of a channel."""
    found = call.channel()["_members"]
    return {"members": found, "response_metadata": {"next_cursor": ""}}


def invite(call: Call) -> Json:
    """Add people to a channel."""
    channel = call.channel(member=True)
    users = call.words("users")
    if not users:
        raise SlackRefusal("no_user")
    if any(user not in call.workspace.members for user in users):
        raise SlackRefusal("user_not_found")
    if BOT_USER_ID in users:
        raise SlackRefusal("cant_invite_self")
    if all(user in channel["_members"] for user in users):
        raise SlackRefusal("already_in_channel")
    for user in users:
        if call.workspace.join(channel, user):
            tell_joined(call.standin, channel, user, BOT_USER_ID)
    return {"channel": _described(channel)}


def join(call: Call) -> Json:
    """Add the app to a public channel."""
    channel = call.channel()
    if call.workspace.join(channel, BOT_USER_ID):
        tell_joined(call.standin, channel, BOT_USER_ID, None)
        return {"channel": _described(channel)}
    return {"channel": _described(channel), "warning": "already_in_channel"}


def open_(call: Call) -> Json:
    """Open the direct messages with one person."""
    users = call.words("users")
    if len(users) != 1 or users[0] not in call.workspace.members:
        raise SlackRefusal("user_not_found")
    return {"channel": {"id": call.workspace.direct_channel(users[0])["id"]}}


def archive(call: Call) -> Json:
    """Close a channel: nothing can be posted any more."""
    channel = call.channel(member=True)
    channel["is_archived"] = True
    call.workspace.keep("channel", channel)
    return {}


def set_topic(call: Call) -> Json:
    """Set the topic that stands at the top of a channel."""
    return _set(call, "topic")


def set_purpose(call: Call) -> Json:
    """Set what a channel is for."""
    return _set(call, "purpose")


def _set(call: Call, what: str) -> Json:
    channel = call.channel(member=True)
    value = call.text(what)
    if len(value) > TOPIC_MAX:
        raise SlackRefusal("too_long")
    channel[what] = {"value": value, "creator": BOT_USER_ID, "last_set": int(call.standin.clock())}
    call.workspace.keep("channel", channel)
    return {"channel": _described(channel)}


def users_info(call: Call) -> Json:
    """Describe a person."""
    member = call.workspace.members.get(call.required("user"))
    if member is None:
        raise SlackRefusal("user_not_found")
    return {"user": member.profile}


def users_list(call: Call) -> Json:
    """Describe everybody."""
    found = [member.profile for member in call.workspace.members.values()]
    return {"members": found, "response_metadata": {"next_cursor": ""}}


def users_lookup_by_email(call: Call) -> Json:
    """Find a person by e-mail address."""
    email = call.required("email")
    for member in call.workspace.people:
        if member.profile["profile"]["email"] == email:
            return {"user": member.profile}
    raise SlackRefusal("users_not_found")


def usergroups_list(call: Call) -> Json:
    """List the user groups: one for each role."""
    groups = usergroups(call.workspace.people)
    with_users = call.flag("include_users")
    return {
        "usergroups": [
            {**group, "user_count": len(users), **({"users": users} if with_users else {})}
            for group, users in groups.values()
        ]
    }


def usergroups_users_list(call: Call) -> Json:
    """List who is in a user group."""
    groups = usergroups(call.workspace.people)
    group_id = call.required("usergroup")
    if group_id not in groups:
        raise SlackRefusal("no_such_subteam")
    return {"users": groups[group_id][1]}


def tell_joined(standin: Standin, channel: Json, user: str, inviter: str | None) -> None:
    """Tell the app that somebody joined a channel that it is in."""
    if BOT_USER_ID in channel["_members"] and user != SLACKBOT.id:
        event: Json = {
            "type": "member_joined_channel",
            "user": user,
            "channel": channel["id"],
            "channel_type": "G" if channel["is_private"] else "C",
            "team": TEAM_ID,
            "event_ts": standin.workspace.new_ts(),
        }
        standin.publish(event if inviter is None else event | {"inviter": inviter})


def _described(channel: Json) -> Json:
    members = channel["_members"]
    return public(channel) | {"is_member": BOT_USER_ID in members, "num_members": len(members)}


def _kind(channel: Json) -> str:
    if channel["is_im"]:
        return "im"
    return "private_channel" if channel["is_private"] else "public_channel"
