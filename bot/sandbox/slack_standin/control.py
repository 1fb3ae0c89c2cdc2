"""The control door, for tests and the demo: faults, disconnections, logs. No authentication."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from bot.errors import BadInput
from bot.sandbox.slack_standin.faults import Fault
from bot.sandbox.slack_standin.standin import Standin

Json = dict[str, Any]


async def _health(request: Request) -> Response:
    standin: Standin = request.app.state.standin
    return JSONResponse(
        {
            "ok": True,
            "connections": standin.sockets.open_count,
            "is_offline": standin.faults.is_offline,
        }
    )


async def _faults(request: Request) -> Response:
    standin: Standin = request.app.state.standin
    if request.method == "DELETE":
        standin.faults.clear()
    elif request.method == "POST":
        standin.faults.orders.append(Fault.from_json(await json_body(request)))
    return JSONResponse({"faults": [asdict(fault) for fault in standin.faults.orders]})


async def _disconnect(request: Request) -> Response:
    standin: Standin = request.app.state.standin
    body = await json_body(request)
    after_s = float(body.get("after_s", 1.0))
    dropped = await standin.sockets.disconnect(
        warning=bool(body.get("warning", False)), after_s=after_s
    )
    return JSONResponse({"dropped": dropped})


async def _offline(request: Request) -> Response:
    standin: Standin = request.app.state.standin
    seconds = (await json_body(request)).get("seconds", True)
    if not isinstance(seconds, int | float):
        raise BadInput("seconds must be a number, true or false; nothing was changed.")
    standin.faults.go_offline(seconds)
    if standin.faults.is_offline:
        await standin.sockets.disconnect()
    standin.workspace.changed()
    return JSONResponse({"is_offline": standin.faults.is_offline})


async def _calls(request: Request) -> Response:
    standin: Standin = request.app.state.standin
    method = request.query_params.get("method")
    found = [call for call in standin.calls if method in (None, call["method"])]
    return JSONResponse({"calls": found})


async def _deliveries(request: Request) -> Response:
    standin: Standin = request.app.state.standin
    found = [asdict(each) | {"is_acked": each.is_acked} for each in standin.sockets.log]
    return JSONResponse({"deliveries": found})


async def _dump(request: Request) -> Response:
    standin: Standin = request.app.state.standin
    return PlainTextResponse(await asyncio.to_thread(standin.workspace.archive.dump))


async def json_body(request: Request) -> Json:
    """
    Return the JSON object of a request.

    The content type must say so: a page of another site cannot send it without being asked about.

    Raises:
        BadInput: It is something else.
    """
    body = await request.body()
    if not body:
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0]
    if kind != "application/json":
        raise BadInput(f"The body is {kind or 'of no type'}; send application/json.")
    try:
        value = await request.json()
    except ValueError as error:
        raise BadInput(f"The body is not JSON ({error}); nothing was done.") from error
    if not isinstance(value, dict):
        raise BadInput("The body is not a JSON object; nothing was done.")
    return value


ROUTES = [
    Route("/control/health", _health),
    Route("/control/faults", _faults, methods=["GET", "POST", "DELETE"]),
    Route("/control/disconnect", _disconnect, methods=["POST"]),
    Route("/control/offline", _offline, methods=["POST"]),
    Route("/control/calls", _calls),
    Route("/control/deliveries", _deliveries),
    Route("/control/dump", _dump),
]
