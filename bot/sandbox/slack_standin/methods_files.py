"""Web API: files, the three steps of ``files_upload_v2``."""

from __future__ import annotations

import secrets
from typing import Any

from bot.sandbox.slack_standin.call import Call
from bot.sandbox.slack_standin.people import APP, BOT_USER_ID
from bot.sandbox.slack_standin.standin import SlackRefusal, Standin
from bot.sandbox.slack_standin.workspace import public

Json = dict[str, Any]


def get_upload_url(call: Call) -> Json:
    """Step 1: name a file and get an address for its bytes."""
    name = call.required("filename")
    length = call.number("length", 0)
    if length <= 0:
        raise SlackRefusal("invalid_arguments")
    key = secrets.token_urlsafe(18)
    file: Json = {
        "id": call.workspace.new_id("F"),
        "name": name,
        "title": name,
        "size": length,
        "user": BOT_USER_ID,
        "created": int(call.standin.clock()),
        "_key": key,
        "_state": "promised",
    }
    call.workspace.files[file["id"]] = file
    call.workspace.keep("file", file)
    return {"file_id": file["id"], "upload_url": f"{call.standin.base_url}/upload/{key}"}


def take_upload(standin: Standin, key: str, content: bytes) -> Json:
    """Step 2: keep the bytes. Raises SlackRefusal for an unknown address or another length."""
    workspace = standin.workspace
    file = next((each for each in workspace.files.values() if each["_key"] == key), None)
    if file is None or file["_state"] != "promised":
        raise SlackRefusal("upload_not_found")
    if len(content) != file["size"]:
        raise SlackRefusal("upload_wrong_length")
    (workspace.archive.uploads / file["id"]).write_bytes(content)
    file["_state"] = "uploaded"
    workspace.keep("file", file)
    return file


def complete(call: Call) -> Json:
    """Step 3: share the uploaded files in a channel, in one message."""
    entries = call.structure("files", "invalid_arguments")
    if not isinstance(entries, list) or not entries:
        raise SlackRefusal("invalid_arguments")
    files = [_uploaded(call, entry) for entry in entries]
    channel_ids = call.words("channels") or call.words("channel_id")
    for channel_id in channel_ids:
        channel = call.workspace.find_channel(channel_id)
        if channel is None:
            raise SlackRefusal("channel_not_found")
        content: Json = {"text": call.text("initial_comment"), "files": [public(f) for f in files]}
        if call.text("thread_ts"):
            content["thread_ts"] = call.text("thread_ts")
        call.workspace.post(channel, APP, content)
    return {"files": [public(file) for file in files]}


def info(call: Call) -> Json:
    """Describe a file."""
    file = call.workspace.files.get(call.required("file"))
    if file is None:
        raise SlackRefusal("file_not_found")
    return {"file": public(file)}


def _uploaded(call: Call, entry: Any) -> Json:
    file = call.workspace.files.get(entry.get("id", "")) if isinstance(entry, dict) else None
    if file is None or file["_state"] == "promised":
        raise SlackRefusal("file_not_found")
    file["title"] = entry.get("title") or file["name"]
    file["url_private_download"] = f"{call.standin.base_url}/files/{file['id']}"
    file["_state"] = "shared"
    call.workspace.keep("file", file)
    return file
