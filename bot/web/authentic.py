"""Who sends a request, by its bearer token; and how a refusal is said."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from fastapi import Request
from fastapi.responses import JSONResponse


def bearer_of(request: Request, known: Mapping[str, str]) -> str | None:
    """Return whom the request's token stands for; None if it has none that is known.

    Every known token is compared, and in constant time each: how long it takes says nothing.
    """
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    # Compared as the bytes that were sent: headers are read as Latin-1, and may hold any of them.
    sent = given.encode("latin-1").strip()
    found = [who for token, who in known.items() if hmac.compare_digest(sent, token.encode())]
    return found[0] if found else None


def error(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    if status == 401:  # RFC 9110, section 11.6.1: it must say how to be known
        headers = {"WWW-Authenticate": "Bearer"}
    return JSONResponse({"error": message}, status_code=status, headers=headers)
