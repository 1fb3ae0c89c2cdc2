"""Web API: messages, reactions and pins."""

from __future__ import annotations

from typing import Any

from bot.sandbox.slack_standin import blockkit
from bot.sandbox.slack_standin.call import Call
from bot.sandbox.slack_standin.people import APP, BOT_USER_ID
from bot.sandbox.slack_standin.standin import ResponseUrl, SlackRefusal, Standin
from bot.sandbox.slack_standin.workspace import public

Json = dict[str, Any]

_HISTORY_LIMIT = 999


def content_of(call: Call) -> Json:
    """
    Return what a call wants to say: ``text``, ``blocks``, ``metadata``, as far as it names them.

    Raises:
        SlackRefusal: Slack would not take it: invalid_blocks (with what is wrong and where),
            msg_too_long, msg_blocks_too_long, invalid_metadata_format.
    """
    content: Json = {}
    for unknown in ("attachments", "markdown_text"):
        if call.args.get(unknown) not in (None, "", [], "[]"):
            raise SlackRefusal(
                f"invalid_{unknown}",
                [f"[ERROR] this stand-in shows no {unknown}; use blocks [json-pointer:/{unknown}]"],
            )
    if call.args.get("text") is not None:
        content["text"] = call.text("text")
        if len(content["text"]) > blockkit.MESSAGE_TEXT_MAX:
            raise SlackRefusal("msg_too_long")
    blocks = call.structure("blocks", "invalid_blocks_format")
    if blocks is not None:
        if not isinstance(blocks, list):
            raise SlackRefusal("invalid_blocks_format")
        findings = blockkit.message_findings(blocks)
        if findings:
            raise SlackRefusal("invalid_blocks", findings)
        if blockkit.blocks_text_length(blocks) > blockkit.MESSAGE_TEXT_MAX:
            raise SlackRefusal("msg_blocks_too_long")
        content["blocks"] = blocks
    metadata = call.structure("metadata", "invalid_metadata_format")
    if metadata is not None:
        findings = blockkit.metadata_findings(metadata) if metadata else []
        if findings:
            raise SlackRefusal("invalid_metadata_format", findings)
        content["metadata"] = metadata
    return content


def _new_content(call: Call) -> Json:
    content = content_of(call)
    if not content.get("text", "").strip() and not content.get("blocks"):
        raise SlackRefusal("no_text")
    for flag in ("unfurl_links", "unfurl_media"):
        if flag in call.args:
            content[f"_{flag}"] = call.flag(flag)
    thread_ts = call.text("thread_ts")
    if thread_ts:
        content["thread_ts"] = thread_ts
    return content


def post_message(call: Call) -> Json:
    """Post a message. Public channels need no membership (scope chat:write.public)."""
    channel = call.channel()
    content = _new_content(call)
    thread_ts = content.get("thread_ts")
    if thread_ts and thread_ts not in call.workspace.messages[channel["id"]]:
        raise SlackRefusal("thread_not_found")
    message = call.workspace.post(channel, APP, content)
    return {"channel": channel["id"], "ts": message["ts"], "message": public(message)}


def post_ephemeral(call: Call) -> Json:
    """Show a message to one member of a channel only."""
    channel = call.channel()
    user = call.required("user")
    if user not in call.workspace.members:
        raise SlackRefusal("user_not_found")
    if user not in channel["_members"]:
        raise SlackRefusal("user_not_in_channel")
    message = call.workspace.post_ephemeral(channel, APP, user, _new_content(call))
    return {"message_ts": message["ts"]}


def update(call: Call) -> Json:
    """
    Change a message of the app.

    Blocks stay only if neither text nor blocks are given: text without blocks removes them
    (Slack's description of the ``blocks`` argument). Metadata stays unless it is given.
    """
    channel = call.channel()
    message = _own_message(call, channel)
    content = content_of(call)
    if not content.get("text") and "blocks" not in content:
        raise SlackRefusal("no_text")
    if "text" in content and "blocks" not in content:
        content["blocks"] = []
        content["edited"] = {"user": BOT_USER_ID, "ts": call.workspace.new_ts()}
    call.workspace.rewrite(message, content)
    return {
        "channel": channel["id"],
        "ts": message["ts"],
        "text": message["text"],
        "message": public(message),
    }


def delete(call: Call) -> Json:
    """Remove a message of the app."""
    channel = call.channel()
    message = _own_message(call, channel)
    call.workspace.remove(message)
    return {"channel": channel["id"], "ts": message["ts"]}


def _own_message(call: Call, channel: Json) -> Json:
    message = _message(call, channel, call.required("ts"))
    if message["user"] != BOT_USER_ID:
        raise SlackRefusal("cant_update_message")
    return message


def _message(call: Call, channel: Json, ts: str) -> Json:
    message: Json | None = call.workspace.messages[channel["id"]].get(ts)
    if message is None:
        raise SlackRefusal("message_not_found")
    return message


def history(call: Call) -> Json:
    """Return the messages of a channel, newest first, without the answers in threads."""
    channel = call.channel(member=True)
    messages = [
        message
        for message in call.workspace.messages[channel["id"]].values()
        if message.get("thread_ts", message["ts"]) == message["ts"]
    ]
    return _page(call, messages[::-1])


def replies(call: Call) -> Json:
    """Return a message and the answers in its thread, oldest first."""
    channel = call.channel(member=True)
    parent = _message(call, channel, call.required("ts"))
    messages = [
        message
        for message in call.workspace.messages[channel["id"]].values()
        if parent["ts"] in (message["ts"], message.get("thread_ts"))
    ]
    return _page(call, messages)


def _page(call: Call, messages: list[Json]) -> Json:
    limit = min(call.number("limit", 100), _HISTORY_LIMIT)
    oldest, latest = call.text("oldest", "0"), call.text("latest", "99999999999")
    inclusive = call.flag("inclusive")
    found = [m for m in messages if _within(m["ts"], oldest, latest, inclusive=inclusive)]
    hidden = () if call.flag("include_all_metadata") else ("metadata",)
    return {
        "messages": [
            {key: value for key, value in public(message).items() if key not in hidden}
            for message in found[:limit]
        ],
        "has_more": len(found) > limit,
        "pin_count": sum(bool(message.get("pinned_to")) for message in messages),
        "response_metadata": {"next_cursor": ""},
    }


def _within(ts: str, oldest: str, latest: str, *, inclusive: bool) -> bool:
    if inclusive and ts in (oldest, latest):
        return True
    return _order(oldest) < _order(ts) < _order(latest)


def _order(ts: str) -> tuple[int, int]:
    seconds, _, microseconds = ts.partition(".")
    return int(seconds or 0), int((microseconds or "0").ljust(6, "0"))


def permalink(call: Call) -> Json:
    """Return the address of a message: our own page."""
    channel = call.channel()
    message = _message(call, channel, call.required("message_ts"))
    url = f"{call.standin.base_url}/?channel={channel['id']}#m{message['ts']}"
    return {"channel": channel["id"], "permalink": url}


def add_reaction(call: Call) -> Json:
    """Put an emoji under a message."""
    channel = call.channel()
    message = _message(call, channel, call.required("timestamp"))
    name = call.required("name", "invalid_name").strip(":")
    reactions: list[Json] = message.setdefault("reactions", [])
    reaction = next((each for each in reactions if each["name"] == name), None)
    if reaction is None:
        reaction = {"name": name, "users": [], "count": 0}
        reactions.append(reaction)
    if BOT_USER_ID in reaction["users"]:
        raise SlackRefusal("already_reacted")
    reaction["users"].append(BOT_USER_ID)
    reaction["count"] += 1
    call.workspace.keep("message", message)
    return {}


def add_pin(call: Call) -> Json:
    """Pin a message to its channel."""
    channel = call.channel(member=True)
    message = _message(call, channel, call.required("timestamp"))
    if channel["id"] in message.get("pinned_to", ()):
        raise SlackRefusal("already_pinned")
    message["pinned_to"] = [*message.get("pinned_to", ()), channel["id"]]
    call.workspace.keep("message", message)
    return {}


def respond(standin: Standin, target: ResponseUrl, call: Call) -> None:
    """
    Do what a POST to a response URL asks for: answer, or replace or delete what was clicked.

    Raises:
        SlackRefusal: The content is refused, or there is no message to replace.
    """
    workspace = standin.workspace
    channel = workspace.channels[target.channel_id]
    message = (
        workspace.find_message(channel["id"], target.message_ts, target.user)
        if target.message_ts
        else None
    )
    if call.flag("delete_original"):
        if message is not None:
            workspace.remove(message)
        return
    if call.flag("replace_original") and message is not None:
        content = content_of(call)
        if "text" in content and "blocks" not in content:
            content["blocks"] = []
        workspace.rewrite(message, content)
    elif call.text("response_type", "ephemeral") == "in_channel":
        workspace.post(channel, APP, _new_content(call))
    else:
        workspace.post_ephemeral(channel, APP, target.user, _new_content(call))
