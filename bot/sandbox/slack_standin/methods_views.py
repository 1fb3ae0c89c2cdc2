"""Web API: modals. Each person has a stack of at most three open views."""

from __future__ import annotations

from typing import Any

from bot.sandbox.slack_standin import blockkit, payloads, values
from bot.sandbox.slack_standin.call import Call
from bot.sandbox.slack_standin.standin import SlackRefusal
from bot.sandbox.slack_standin.workspace import Workspace, with_ids

Json = dict[str, Any]

STACK_MAX = 3


def open_(call: Call) -> Json:
    """Open a modal for the person of a trigger id. What was open before is gone."""
    content = checked(call.structure("view", "invalid_arguments"))
    user = call.standin.use_trigger(call.required("trigger_id"))
    _refuse_taken_external_id(call.workspace, content)
    call.workspace.views[user] = []
    return {"view": push_view(call.workspace, user, content)}


def push(call: Call) -> Json:
    """Open a modal on top of the one that is open."""
    content = checked(call.structure("view", "invalid_arguments"))
    user = call.standin.use_trigger(call.required("trigger_id"))
    _refuse_taken_external_id(call.workspace, content)
    if len(call.workspace.views.get(user, ())) >= STACK_MAX:
        raise SlackRefusal("push_limit_reached")
    return {"view": push_view(call.workspace, user, content)}


def update(call: Call) -> Json:
    """Replace the content of an open modal; with ``hash``, only if nobody else did meanwhile."""
    content = checked(call.structure("view", "invalid_arguments"))
    view = _find(call.workspace, call.text("view_id"), call.text("external_id"))
    if view is None:
        raise SlackRefusal("not_found")
    if call.text("hash", view["hash"]) != view["hash"]:
        raise SlackRefusal("hash_conflict")
    return {"view": replace_view(call.workspace, view, content)}


def checked(view: Any) -> Json:
    """Return a view that Slack takes. Raises SlackRefusal with what is wrong and where."""
    if not isinstance(view, dict):
        raise SlackRefusal(
            "invalid_arguments", ["[ERROR] missing required field: view [json-pointer:/view]"]
        )
    # slack_sdk sends what is None as null, and what Slack returned comes back in updates.
    content = {key: value for key, value in view.items() if value is not None}
    findings = blockkit.view_findings(content)
    if findings:
        raise SlackRefusal("invalid_arguments", findings)
    return content


def push_view(workspace: Workspace, user: str, content: Json) -> Json:
    """Open a checked view for a person and return it."""
    stack = workspace.views.setdefault(user, [])
    content = content | {"blocks": with_ids(content["blocks"])}
    view = payloads.view(content, workspace.new_id("V"), stack)
    view["state"] = {"values": initial_values(view["blocks"])}
    stack.append(view)
    workspace.changed()
    return view


def replace_view(workspace: Workspace, view: Json, content: Json) -> Json:
    """
    Give an open view a checked new content and return it.

    What a person entered stays where block and action keep their ids, as in Slack.
    """
    blocks = with_ids(content["blocks"])
    kept = view["state"]["values"]
    fresh = initial_values(blocks)
    for block_id, actions in fresh.items():
        for action_id, value in actions.items():
            before = kept.get(block_id, {}).get(action_id)
            if before is not None and before["type"] == value["type"]:
                actions[action_id] = before
    defaults = payloads.view({}, view["id"], [])
    for key in ("private_metadata", "callback_id", "submit", "close", "clear_on_close"):
        view[key] = defaults[key]
    view |= content | {"blocks": blocks, "state": {"values": fresh}, "hash": payloads.new_hash()}
    workspace.changed()
    return view


def initial_values(blocks: list[Json]) -> dict[str, dict[str, Json]]:
    """Return the values of all inputs as they are before anybody touched them."""
    found: dict[str, dict[str, Json]] = {}
    for block in blocks:
        for _, element in blockkit.elements_of(block):
            if values.is_input(element) and element["type"] != "overflow":
                found.setdefault(block["block_id"], {})[element["action_id"]] = values.initial(
                    element
                )
    return found


def _find(workspace: Workspace, view_id: str, external_id: str) -> Json | None:
    for stack in workspace.views.values():
        for view in stack:
            if view["id"] == view_id or (external_id and view["external_id"] == external_id):
                return view
    return None


def _refuse_taken_external_id(workspace: Workspace, content: Json) -> None:
    external_id = content.get("external_id")
    if external_id and _find(workspace, "", external_id) is not None:
        raise SlackRefusal("duplicate_external_id")
