"""Closing a connection without an answer, which ASGI has no word for."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

_transports: dict[tuple[str, int], asyncio.Transport] = {}


class Protocol(H11Protocol):
    """uvicorn's HTTP protocol, which also tells us which connection belongs to which peer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the connection."""
        super().connection_made(transport)
        _transports[_peer(transport)] = transport
        self._remembered = _peer(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        _transports.pop(self._remembered, None)
        super().connection_lost(exc)


async def close_without_answer(request: Request) -> Response:
    """Close the connection of a request. The response that is returned reaches nobody."""
    client = request.client
    transport = _transports.get((client.host, client.port)) if client is not None else None
    if transport is not None:
        transport.close()
        # The server sees the end of the connection in its next turn; then it drops what we say.
        await asyncio.sleep(0.01)
    return Response(status_code=502)


def _peer(transport: asyncio.Transport) -> tuple[str, int]:
    host, port = transport.get_extra_info("peername")[:2]
    return str(host), int(port)
