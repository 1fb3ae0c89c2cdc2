"""The person's door in JSON (``/person/…``), its live updates, and the page itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from importlib import resources
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from bot.errors import BadInput
from bot.sandbox.slack_standin import rendering
from bot.sandbox.slack_standin.control import json_body
from bot.sandbox.slack_standin.door import Door, Result
from bot.sandbox.slack_standin.standin import Standin

Json = dict[str, Any]

MESSAGES_SHOWN = 500
# How long a watcher sleeps before it looks whether the server is being stopped.
_WATCH_S = 0.5
_LONGEST_WAIT_S = 10.0
_PAGE = {
    "": ("index.html", "text/html"),
    "page.js": ("page.js", "text/javascript"),
    "blocks.js": ("blocks.js", "text/javascript"),
    "page.css": ("page.css", "text/css"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}


async def _people(request: Request) -> Response:
    standin: Standin = request.app.state.standin
    return JSONResponse(
        {
            "people": [
                {
                    "id": person.id,
                    "name": person.name,
                    "display": person.display,
                    "role": person.role,
                }
                for person in standin.workspace.people
            ]
        }
    )


async def _state(request: Request) -> Response:
    standin: Standin = request.app.state.standin
    query = request.query_params
    user = query.get("user", "")
    if user not in standin.workspace.members:
        raise BadInput(f"Nobody here has the id {user!r}; name one with ?user=.")
    limit = int(query.get("limit", MESSAGES_SHOWN))
    return JSONResponse(rendering.state(standin, user, query.get("channel"), limit))


async def _version(request: Request) -> Response:
    """Wait until the workspace is not at version ``after`` any more, for ``wait_s`` at most."""
    standin: Standin = request.app.state.standin
    query = request.query_params
    after, wait_s = int(query.get("after", -1)), float(query.get("wait_s", 0))
    newest = await standin.workspace.wait_change(after, min(wait_s, _LONGEST_WAIT_S))
    return JSONResponse({"version": newest})


async def _watch(request: Request) -> Response:
    return StreamingResponse(_changes(request), media_type="text/event-stream")


async def _changes(request: Request) -> AsyncIterator[str]:
    standin: Standin = request.app.state.standin
    version = -1
    while not request.app.state.is_stopping():
        newest = await standin.workspace.wait_change(version, _WATCH_S)
        if newest != version:
            version = newest
            yield f"data: {version}\n\n"
            # Many changes in a short time become one look at the new state.
            await asyncio.sleep(0.05)


async def _say(request: Request) -> Response:
    door, body = await _begin(request)
    user, channel, text = _texts(body, "user", "channel", "text")
    return _done(await door.say(user, channel, text, body.get("thread_ts")))


async def _command(request: Request) -> Response:
    door, body = await _begin(request)
    user, channel, text = _texts(body, "user", "channel", "text")
    return _done(await door.command(user, channel, text))


async def _message(request: Request) -> Response:
    door, body = await _begin(request)
    user, channel, text = _texts(body, "user", "channel", "text")
    return _done(door.message(user, channel, text, body.get("thread_ts")))


async def _click(request: Request) -> Response:
    door, body = await _begin(request)
    if not body.get("view_id"):
        _texts(body, "channel", "ts")
    user, action_id = _texts(body, "user", "action_id")
    return _done(
        await door.click(
            user,
            body,
            action_id,
            body.get("block_id"),
            body.get("value"),
            bool(body.get("stale", False)),
        )
    )


async def _submit(request: Request) -> Response:
    door, body = await _begin(request)
    given = body.get("values", {})
    if not isinstance(given, dict) or not all(isinstance(each, dict) for each in given.values()):
        raise BadInput("values must be {block_id: {action_id: value}}; nothing was sent.")
    user, view_id = _texts(body, "user", "view_id")
    return _done(await door.submit(user, view_id, given))


async def _close_view(request: Request) -> Response:
    door, body = await _begin(request)
    user, view_id = _texts(body, "user", "view_id")
    return _done(await door.close_view(user, view_id, clear=bool(body.get("clear", False))))


async def _begin(request: Request) -> tuple[Door, Json]:
    standin: Standin = request.app.state.standin
    body = await json_body(request)
    what = {"action": request.url.path.rpartition("/")[2], "body": body}
    standin.workspace.archive.receive(standin.clock(), "person", what)
    return Door(standin), body


def _texts(body: Json, *names: str) -> list[str]:
    for name in names:
        if not isinstance(body.get(name), str) or not body[name]:
            raise BadInput(f"{name} is missing or not a text; nothing was done.")
    return [body[name] for name in names]


def _done(result: Result) -> Response:
    return JSONResponse(asdict(result))


async def _page(request: Request) -> Response:
    name, kind = _PAGE.get(request.path_params.get("name", ""), (None, ""))
    if name is None:
        return PlainTextResponse("not found", status_code=404)
    text = resources.files(__package__).joinpath("page", name).read_text("utf-8")
    return Response(text, media_type=kind)


ROUTES = [
    Route("/person/people", _people),
    Route("/person/state", _state),
    Route("/person/version", _version),
    Route("/person/events", _watch),
    Route("/person/say", _say, methods=["POST"]),
    Route("/person/command", _command, methods=["POST"]),
    Route("/person/message", _message, methods=["POST"]),
    Route("/person/click", _click, methods=["POST"]),
    Route("/person/submit", _submit, methods=["POST"]),
    Route("/person/close_view", _close_view, methods=["POST"]),
    Route("/", _page),
    Route("/page/{name}", _page),
]
