"""The bodies of a gateway's answers, for one that cannot hold them itself (Traefik).

Everybody gets these answers anyway, so nobody is asked for a token.
"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from bot.model.answers import CLOSED, REFUSED, THROTTLED

_ANSWERS = {answer.mark: answer for answer in (CLOSED, THROTTLED, REFUSED)}


def router() -> APIRouter:
    """Return ``/answers/closed``, ``/answers/throttled`` and ``/answers/refused``."""
    routes = APIRouter(prefix="/answers")

    @routes.get("/{mark}")
    def answer(mark: str) -> Response:
        """The body with status 200: the gateway sets the status that its callers get."""
        found = _ANSWERS.get(mark)
        if found is None:
            return Response(status_code=404)
        return Response(found.body, headers=dict(found.headers))

    return routes
