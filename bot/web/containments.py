"""Containments over HTTP: what is in force, and extending, lifting and handing over.

A token of the settings stands for one person (``api_tokens``), whose groups decide as anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bot.errors import BadInput, NotAllowed, NotFound, StoreUnavailable
from bot.model.containment import Containment
from bot.service.app import Service
from bot.service.people import Person
from bot.web.authentic import bearer_of, error
from bot.web.bodies import body_of, problems_of

MAX_BODY_BYTES = 10_000

_Word = Annotated[str, Field(min_length=1, max_length=200)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Extend(_Body):
    """``ttl``: how long from now, such as ``2h``."""

    ttl: _Word


class HandOver(_Body):
    """``to``: an id as in the settings."""

    to: _Word


class Lift(_Body):
    """Nothing; the body may be left out."""


B = TypeVar("B", bound=_Body)


def router(service: Service, people: Mapping[str, str]) -> APIRouter:
    """
    Return the routes.

    Args:
        people: Bearer token to the actor that it stands for.
    """
    routes = APIRouter(prefix="/containments")

    async def answer(request: Request, call: Callable[[Person, bytes], Any]) -> JSONResponse:
        actor = bearer_of(request, people)
        if actor is None:
            return error(
                401,
                "The bearer token is missing or unknown; nothing was done. Give one of those "
                "under `api_tokens` in firedoor.yaml.",
            )
        body = await body_of(request, MAX_BODY_BYTES)
        if body is None:
            return error(413, f"The body is over {MAX_BODY_BYTES} bytes; nothing was done.")
        # The store blocks for a moment; the event loop must not.
        return await run_in_threadpool(_answer, service, actor, body, call)

    @routes.get("")
    async def in_force(request: Request) -> JSONResponse:
        """What is in force, oldest first."""
        return await answer(
            request,
            lambda _person, _body: {
                "containments": [_shown(c) for c in service.reports.containments()]
            },
        )

    @routes.post("/{containment_id}/extend")
    async def extend(request: Request, containment_id: str) -> JSONResponse:
        """Move the expiry."""

        def call(person: Person, body: bytes) -> dict[str, Any]:
            ttl = _read(Extend, body).ttl
            return _shown(service.custody.extend(containment_id, ttl, person))

        return await answer(request, call)

    @routes.post("/{containment_id}/hand-over")
    async def hand_over(request: Request, containment_id: str) -> JSONResponse:
        """Make somebody else answerable."""

        def call(person: Person, body: bytes) -> dict[str, Any]:
            to = _read(HandOver, body).to
            return _shown(service.custody.hand_over(containment_id, to, person))

        return await answer(request, call)

    @routes.post("/{containment_id}/lift")
    async def lift(request: Request, containment_id: str) -> JSONResponse:
        """End it; the gateway is brought there within a second."""

        def call(person: Person, body: bytes) -> dict[str, Any]:
            _read(Lift, body or b"{}")
            return {"lifted": True, "gateways": service.custody.lift(containment_id, person)}

        return await answer(request, call)

    return routes


def _answer(
    service: Service, actor: str, body: bytes, call: Callable[[Person, bytes], Any]
) -> JSONResponse:
    person = service.groups.person(actor)
    try:
        service.check_known(person)
        return JSONResponse(call(person, body))
    except NotAllowed as problem:
        return error(403, str(problem))
    except NotFound as problem:
        return error(404, str(problem))
    except BadInput as problem:
        return error(422, str(problem))
    except StoreUnavailable as problem:
        return error(503, str(problem))


def _read(kind: type[B], body: bytes) -> B:
    try:
        return kind.model_validate_json(body)
    except ValidationError as problem:
        fields = ", ".join(f'"{name}"' for name in kind.model_fields) or "nothing"
        raise BadInput(
            f"The body cannot be used ({problems_of(problem)}); nothing was done. Send a JSON "
            f"object with {fields}."
        ) from None


def _shown(containment: Containment) -> dict[str, Any]:
    return containment.model_dump(mode="json")
