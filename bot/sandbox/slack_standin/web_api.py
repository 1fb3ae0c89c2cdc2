"""The HTTP side of the app: Web API calls, response URLs and uploads, with faults on demand."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from bot.sandbox.slack_standin import (
    methods_chat,
    methods_conversations,
    methods_files,
    methods_views,
)
from bot.sandbox.slack_standin.call import Call
from bot.sandbox.slack_standin.connections import close_without_answer
from bot.sandbox.slack_standin.faults import Fault
from bot.sandbox.slack_standin.standin import SlackRefusal, Standin

Json = dict[str, Any]

METHODS: dict[str, Callable[[Call], Json]] = {
    "apps.connections.open": methods_conversations.connections_open,
    "auth.test": methods_conversations.auth_test,
    "chat.delete": methods_chat.delete,
    "chat.getPermalink": methods_chat.permalink,
    "chat.postEphemeral": methods_chat.post_ephemeral,
    "chat.postMessage": methods_chat.post_message,
    "chat.update": methods_chat.update,
    "conversations.archive": methods_conversations.archive,
    "conversations.create": methods_conversations.create,
    "conversations.history": methods_chat.history,
    "conversations.info": methods_conversations.info,
    "conversations.invite": methods_conversations.invite,
    "conversations.join": methods_conversations.join,
    "conversations.list": methods_conversations.list_,
    "conversations.members": methods_conversations.members,
    "conversations.open": methods_conversations.open_,
    "conversations.replies": methods_chat.replies,
    "conversations.setPurpose": methods_conversations.set_purpose,
    "conversations.setTopic": methods_conversations.set_topic,
    "files.completeUploadExternal": methods_files.complete,
    "files.getUploadURLExternal": methods_files.get_upload_url,
    "files.info": methods_files.info,
    "pins.add": methods_chat.add_pin,
    "reactions.add": methods_chat.add_reaction,
    "usergroups.list": methods_conversations.usergroups_list,
    "usergroups.users.list": methods_conversations.usergroups_users_list,
    "users.info": methods_conversations.users_info,
    "users.list": methods_conversations.users_list,
    "users.lookupByEmail": methods_conversations.users_lookup_by_email,
    "views.open": methods_views.open_,
    "views.push": methods_views.push,
    "views.update": methods_views.update,
}


async def api_call(request: Request) -> Response:
    """Answer ``/api/{method}``."""
    standin: Standin = request.app.state.standin
    method = request.path_params["method"]
    if standin.faults.is_offline:
        return await _unreachable(standin, request, method)
    try:
        args, token = _arguments(request, await request.body())
    except SlackRefusal as refusal:
        return JSONResponse(_refused(refusal))
    _keep(standin, "api", {"method": method, "args": args})
    fault = standin.faults.take(method)
    answer, response = await _with_fault(
        standin, request, fault, lambda: _perform(standin, method, args, token)
    )
    standin.log_call(method, args, response.status_code, answer, fault.kind if fault else "")
    return response


async def response_url(request: Request) -> Response:
    """Answer a POST to a response URL: ``ok`` as text, or a refusal as JSON."""
    standin: Standin = request.app.state.standin
    if standin.faults.is_offline:
        return await _unreachable(standin, request, "response_url")
    try:
        args, _ = _arguments(request, await request.body())
    except SlackRefusal as refusal:
        return JSONResponse(_refused(refusal), status_code=400)
    _keep(standin, "response_url", {"args": args})
    fault = standin.faults.take("response_url")
    answer, response = await _with_fault(
        standin, request, fault, lambda: _respond(standin, request.path_params["key"], args)
    )
    standin.log_call(
        "response_url", args, response.status_code, answer, fault.kind if fault else ""
    )
    if fault is not None:
        return response
    return PlainTextResponse("ok") if answer["ok"] else JSONResponse(answer, status_code=404)


async def upload(request: Request) -> Response:
    """Take the bytes of a file."""
    standin: Standin = request.app.state.standin
    if standin.faults.is_offline:
        return await _unreachable(standin, request, "upload")
    content = await request.body()
    _keep(standin, "upload", _readable(content))
    fault = standin.faults.take("upload")

    def perform() -> Json:
        methods_files.take_upload(standin, request.path_params["key"], content)
        return {"ok": True}

    answer, response = await _with_fault(standin, request, fault, lambda: _guarded(perform))
    standin.log_call("upload", {}, response.status_code, answer, fault.kind if fault else "")
    if fault is not None:
        return response
    if not answer["ok"]:
        return PlainTextResponse(answer["error"], status_code=400)
    return PlainTextResponse(f"OK - {len(content)}")


async def download(request: Request) -> Response:
    """Give the bytes of a shared file, as something to save and never to show."""
    standin: Standin = request.app.state.standin
    file = standin.workspace.files.get(request.path_params["file"])
    if file is None or file["_state"] != "shared":
        return PlainTextResponse("not found", status_code=404)
    safe_name = re.sub(r"[^\w.-]+", "_", file["name"], flags=re.ASCII)
    return Response(
        (standin.workspace.archive.uploads / file["id"]).read_bytes(),
        media_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{safe_name}"'},
    )


async def _unreachable(standin: Standin, request: Request, method: str) -> Response:
    """Answer nothing: what the app sent never reached Slack."""
    standin.log_call(method, {}, 0, {}, "offline")
    return await close_without_answer(request)


async def _with_fault(
    standin: Standin, request: Request, fault: Fault | None, perform: Callable[[], Json]
) -> tuple[Json, Response]:
    """Return what the call came to and what the app gets to see of it."""
    if fault is None:
        answer = perform()
        return answer, JSONResponse(answer)
    match fault.kind:
        case "rate_limited":
            refused = {"ok": False, "error": "ratelimited"}
            headers = {"Retry-After": str(fault.retry_after_s)}
            return refused, JSONResponse(refused, status_code=429, headers=headers)
        case "status":
            text = f"status {fault.status} on demand"
            return {"error": text}, PlainTextResponse(text, status_code=fault.status)
        case "error":
            refused = {"ok": False, "error": fault.error}
            return refused, JSONResponse(refused)
        case "hang":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(standin.faults.cleared.wait(), fault.hang_s)
            return {"error": "hang"}, await close_without_answer(request)
        case "lost_response":
            return perform(), await close_without_answer(request)


def _perform(standin: Standin, method: str, args: Json, token: str) -> Json:
    def perform() -> Json:
        if method not in METHODS:
            raise SlackRefusal("unknown_method", [f"[ERROR] there is no method {method}"])
        _check_token(standin, method, token)
        return {"ok": True, **METHODS[method](Call(standin, args))}

    return _guarded(perform)


def _respond(standin: Standin, key: str, args: Json) -> Json:
    def perform() -> Json:
        target = standin.response_urls.get(key)
        if target is None:
            raise SlackRefusal("no_such_response_url")
        if target.uses_left <= 0:
            raise SlackRefusal("used_url")
        if target.expires_s < standin.clock():
            raise SlackRefusal("expired_url")
        target.uses_left -= 1
        methods_chat.respond(standin, target, Call(standin, args))
        return {"ok": True}

    return _guarded(perform)


def _guarded(perform: Callable[[], Json]) -> Json:
    try:
        return perform()
    except SlackRefusal as refusal:
        return _refused(refusal)


def _refused(refusal: SlackRefusal) -> Json:
    answer: Json = {"ok": False, "error": refusal.code}
    if refusal.messages:
        answer["response_metadata"] = {"messages": refusal.messages}
    return answer


def _check_token(standin: Standin, method: str, token: str) -> None:
    if not token:
        raise SlackRefusal("not_authed")
    wanted, other = standin.bot_token, standin.app_token
    if method == "apps.connections.open":
        wanted, other = other, wanted
    if hmac.compare_digest(token.encode(), wanted.encode()):
        return
    is_other = hmac.compare_digest(token.encode(), other.encode())
    raise SlackRefusal("not_allowed_token_type" if is_other else "invalid_auth")


def _arguments(request: Request, body: bytes) -> tuple[Json, str]:
    """Return the arguments of the query and the body, without the token, and the token."""
    args: Json = dict(request.query_params)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        # slack_sdk sends auth.test as application/json with an empty body.
        args |= _json_object(body) if body.strip() else {}
    elif kind == "application/x-www-form-urlencoded":
        args |= dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True))
    elif body:
        raise SlackRefusal("invalid_post_type")
    shown = args.pop("token", "")
    header = request.headers.get("authorization", "")
    return args, header.removeprefix("Bearer ").strip() or str(shown or "")


def _json_object(body: bytes) -> Json:
    try:
        value = json.loads(body)
    except ValueError:
        raise SlackRefusal("invalid_json") from None
    if not isinstance(value, dict):
        raise SlackRefusal("json_not_object")
    return value


def _keep(standin: Standin, door: str, what: Json) -> None:
    standin.workspace.archive.receive(standin.clock(), door, what)


def _readable(content: bytes) -> Json:
    try:
        return {"text": content.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}
