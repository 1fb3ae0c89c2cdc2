"""Bodies of requests: never read further than a limit, and read as what an address promises."""

from __future__ import annotations

from fastapi import Request
from pydantic import ValidationError

MOST_PROBLEMS = 20


async def body_of(request: Request, most_bytes: int) -> bytes | None:
    """Return the body, or None as soon as it is longer than ``most_bytes``."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most_bytes:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def problems_of(error: ValidationError) -> str:
    """Name the problems of a body and their places; what was sent is not repeated."""
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}"
        for item in error.errors(include_input=False, include_url=False)[:MOST_PROBLEMS]
    )
