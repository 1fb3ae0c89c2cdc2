"""Containments over HTTP: what is in force, and extending, lifting and handing over.

A token of the settings stands for one person (``api_tokens``), whose groups decide as anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from bot.errors import BadInput, NotAllowed, NotFound, StoreUnavailable
from bot.model.containment import Containment
from bot.service.app import Service
from bot.service.people import Person
from bot.web.authentic import bearer_of, error

_Id = Annotated[str, Field(min_length=1, max_length=200)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Extend(_Body):
    """``ttl``: how long from now, such as ``2h``."""

    ttl: _Id


class HandOver(_Body):
    """``to``: an id as in the settings."""

    to: _Id


def router(service: Service, people: Mapping[str, str]) -> APIRouter:
    """
    Return the routes.

    Args:
        people: Bearer token to the actor that it stands for.
    """
    routes = APIRouter(prefix="/containments")

    def answer(request: Request, call: Callable[[Person], Any]) -> JSONResponse:
        actor = bearer_of(request, people)
        if actor is None:
            return error(
                401,
                "The bearer token is missing or unknown; nothing was done. Give one of those "
                "under `api_tokens` in firedoor.yaml.",
            )
        person = service.groups.person(actor)
        try:
            service.check_known(person)
            return JSONResponse(call(person))
        except NotAllowed as problem:
            return error(403, str(problem))
        except NotFound as problem:
            return error(404, str(problem))
        except BadInput as problem:
            return error(422, str(problem))
        except StoreUnavailable as problem:
            return error(503, str(problem))

    @routes.get("")
    def in_force(request: Request) -> JSONResponse:
        """What is in force, oldest first."""
        return answer(
            request,
            lambda _person: {"containments": [_shown(c) for c in service.reports.containments()]},
        )

    @routes.post("/{containment_id}/extend")
    def extend(request: Request, containment_id: str, body: Extend) -> JSONResponse:
        """Move the expiry."""
        return answer(
            request,
            lambda person: _shown(service.custody.extend(containment_id, body.ttl, person)),
        )

    @routes.post("/{containment_id}/hand-over")
    def hand_over(request: Request, containment_id: str, body: HandOver) -> JSONResponse:
        """Make somebody else answerable."""
        return answer(
            request,
            lambda person: _shown(service.custody.hand_over(containment_id, body.to, person)),
        )

    @routes.post("/{containment_id}/lift")
    def lift(request: Request, containment_id: str) -> JSONResponse:
        """End it; the gateway is brought there within a second."""
        return answer(
            request,
            lambda person: {
                "lifted": True,
                "gateways": service.custody.lift(containment_id, person),
            },
        )

    return routes


def _shown(containment: Containment) -> dict[str, Any]:
    return containment.model_dump(mode="json")
