"""The ASGI application: all doors on one port, for loopback only."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from bot.errors import BadInput, NotFound
from bot.sandbox.slack_standin import control, person_routes, web_api
from bot.sandbox.slack_standin.standin import Standin

# The page loads nothing from elsewhere and runs no script but its own; a message that manages to
# put markup into it gains nothing.
SECURITY_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        b"img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


def create_app(standin: Standin, is_stopping: Callable[[], bool] = lambda: False) -> ASGIApp:
    """
    Return the application.

    Args:
        is_stopping: True once the server is being stopped, so that open streams end.
    """
    app = Starlette(
        routes=[
            Route("/api/{method}", web_api.api_call, methods=["GET", "POST"]),
            Route("/response/{key}", web_api.response_url, methods=["POST"]),
            Route("/upload/{key}", web_api.upload, methods=["POST"]),
            Route("/files/{file}", web_api.download),
            WebSocketRoute("/link", _link),
            *control.ROUTES,
            *person_routes.ROUTES,
        ],
        exception_handlers={BadInput: _bad_input, NotFound: _not_found},
    )
    app.state.standin = standin
    app.state.is_stopping = is_stopping
    return _Guard(app, standin)


async def _link(websocket: WebSocket) -> None:
    standin: Standin = websocket.app.state.standin
    if standin.faults.is_offline:
        await websocket.close()  # before it is accepted: the handshake is refused
        return
    await standin.sockets.serve(websocket)


async def _bad_input(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=422)


async def _not_found(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=404)


class _Guard:
    """
    Adds the security headers, and turns pages of other sites away.

    The control door and the people's door have no authentication. A page of another site, open in
    the browser of the person who runs this, could otherwise reach them: by name (DNS rebinding;
    so the Host header must be loopback) or by a form (so Origin must be ours).
    """

    def __init__(self, app: ASGIApp, standin: Standin) -> None:
        self._app = app
        self._own = standin.base_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *SECURITY_HEADERS]
            await send(message)

        app: ASGIApp = self._app if self._is_ours(Request(scope)) else _turned_away
        await app(scope, receive, send_with_headers)

    def _is_ours(self, request: Request) -> bool:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname
        origin = request.headers.get("origin")
        port = urlsplit(self._own).port
        return host in ("127.0.0.1", "localhost") and origin in (
            None,
            self._own,
            f"http://localhost:{port}",
        )


_turned_away = JSONResponse(
    {"error": "This server answers to its own pages only; nothing was done."}, status_code=403
)
