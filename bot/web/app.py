"""The FastAPI application. Each handler verifies, parses, calls the service and translates back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from bot.errors import AlertInvalid, BadInput, StoreUnavailable
from bot.service.app import Service
from bot.web import alertmanager, answers, containments
from bot.web.authentic import bearer_of, error
from bot.web.bodies import body_of

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1_000_000


def create_app(
    service: Service, *, tokens: dict[str, str], people: Mapping[str, str] | None = None
) -> FastAPI:
    """
    Return the application.

    Args:
        tokens: Source to the bearer token that it must present.

        people: Bearer token to the person (actor) that it stands for.
    """
    # No generated documentation pages: they load scripts from elsewhere.
    app = FastAPI(title="Firedoor", docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/webhooks/alertmanager")
    async def take_alertmanager(request: Request) -> JSONResponse:
        token = tokens.get(alertmanager.SOURCE)
        if not token or bearer_of(request, {token: alertmanager.SOURCE}) is None:
            return error(
                401,
                "The bearer token is missing or wrong; nothing was taken. Set it in the "
                "receiver's http_config.",
            )
        body = await body_of(request, MAX_BODY_BYTES)
        if body is None:
            return error(413, f"The body is over {MAX_BODY_BYTES} bytes; nothing was taken.")
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

    app.include_router(containments.router(service, people or {}))
    app.include_router(answers.router())
    app.add_exception_handler(HTTPException, _no_such_thing)
    app.add_exception_handler(Exception, _unforeseen)
    return app


def _no_such_thing(_request: Request, problem: Exception) -> JSONResponse:
    """An address or a method that there is not, in the form of all our refusals."""
    assert isinstance(problem, HTTPException)  # noqa: S101  # it is registered for these
    return error(problem.status_code, f"{problem.detail}; nothing was done.", problem.headers)


def _unforeseen(_request: Request, _problem: Exception) -> JSONResponse:
    """Whoever asks hears nothing of our inside; the server logs the error, redacted."""
    return error(500, "This could not be carried out; the reason is in Firedoor's log.")


def _take(service: Service, body: bytes) -> JSONResponse:
    try:
        alerts = alertmanager.parse(body)
    except AlertInvalid as problem:
        return error(422, str(problem))
    taken: list[dict[str, Any]] = []
    problems: list[str] = []
    for alert in alerts:
        try:
            taken.append(service.incidents.take_alert(alert).model_dump(mode="json"))
        except StoreUnavailable as problem:
            # Alertmanager repeats on 5xx only; alerts taken before this one join when repeated.
            return error(503, str(problem))
        except BadInput as problem:
            problems.append(f"{alert.fingerprint}: {problem}")
    if problems:
        log.warning("Alerts that start no run: %s", "; ".join(problems))
    if problems and not taken:
        return error(422, " ".join(problems))
    return JSONResponse({"taken": taken, "problems": problems})
