"""The FastAPI application. Each handler verifies, parses, calls the service and translates back."""

from __future__ import annotations

import hmac
import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from bot.errors import AlertInvalid, BadInput, StoreUnavailable
from bot.service.app import Service
from bot.web import alertmanager

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1_000_000


def create_app(service: Service, *, tokens: dict[str, str]) -> FastAPI:
    """
    Return the application.

    Args:
        tokens: Source to the bearer token that it must present.
    """
    # No generated documentation pages: they load scripts from elsewhere.
    app = FastAPI(title="Firedoor", docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/webhooks/alertmanager")
    async def take_alertmanager(request: Request) -> JSONResponse:
        if not _is_authentic(request, tokens.get(alertmanager.SOURCE)):
            return _error(
                401,
                "The bearer token is missing or wrong; nothing was taken. Set it in the "
                "receiver's http_config.",
            )
        body = await _body(request)
        if body is None:
            return _error(413, f"The body is over {MAX_BODY_BYTES} bytes; nothing was taken.")
        # The store blocks for a moment; the event loop must not.
        return await run_in_threadpool(_take, service, body)

    @app.get("/health")
    def health() -> JSONResponse:
        """Alive, and with what trouble. Always 200 while the process answers."""
        return JSONResponse(service.health())

    @app.get("/ready")
    def ready() -> JSONResponse:
        """200 when alerts can be taken, else 503."""
        state = service.health()
        return JSONResponse(state, status_code=200 if state["store"] == "ok" else 503)

    return app


def _take(service: Service, body: bytes) -> JSONResponse:
    try:
        alerts = alertmanager.parse(body)
    except AlertInvalid as error:
        return _error(422, str(error))
    taken: list[dict[str, Any]] = []
    problems: list[str] = []
    for alert in alerts:
        try:
            taken.append(service.incidents.take_alert(alert).model_dump(mode="json"))
        except StoreUnavailable as error:
            # Alertmanager repeats on 5xx only; alerts taken before this one join when repeated.
            return _error(503, str(error))
        except BadInput as error:
            problems.append(f"{alert.fingerprint}: {error}")
    if problems:
        log.warning("Alerts that start no run: %s", "; ".join(problems))
    if problems and not taken:
        return _error(422, " ".join(problems))
    return JSONResponse({"taken": taken, "problems": problems})


async def _body(request: Request) -> bytes | None:
    """Return the body, or None as soon as it is longer than we take."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _is_authentic(request: Request, token: str | None) -> bool:
    if not token:
        return False
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # Compared as the bytes that were sent: headers are read as Latin-1, and may hold any of them.
    return scheme.lower() == "bearer" and hmac.compare_digest(
        given.encode("latin-1").strip(), token.encode()
    )


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status_code=status)
