"""Taking known secrets out of texts: the last line of defence, not the first.

Secrets are kept out of outcomes and messages by construction. Should one slip into an error text
of a library, it is replaced here before the journal, the log or a message sees it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

MASK = "[redacted]"
SHORTEST = 6
"""Shorter values are not replaced: they would take ordinary words apart."""


class SecretRedactor:
    """Implements ``bot.ports.Redactor`` for a fixed set of secret values, in their plain, URL-,
    JSON-escaped and base64 forms."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms: set[str] = set()
        for secret in secrets:
            if len(secret) >= SHORTEST:
                forms |= _forms(secret)
        self._forms = sorted(forms, key=len, reverse=True)

    def text(self, value: str) -> str:
        if not value.isascii():
            # Half a character (a lone surrogate, from hostile JSON) can be neither stored nor
            # hashed; it becomes a question mark.
            value = value.encode("utf-8", "replace").decode()
        for form in self._forms:
            if form in value:
                value = value.replace(form, MASK)
        return value

    def json(self, value: Any) -> Any:
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(key): self.json(item) for key, item in value.items()}
            case list() | tuple():
                return [self.json(item) for item in value]
            case _:
                return value


def _forms(secret: str) -> set[str]:
    raw = secret.encode()
    return {
        secret,
        quote(secret, safe=""),
        json.dumps(secret)[1:-1],
        base64.b64encode(raw).decode().rstrip("="),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
        *_inside_base64(raw),
    }


def _inside_base64(raw: bytes) -> set[str]:
    """Return how base64 shows these bytes within others, as in ``user:password``: the characters
    that hold no bit of a neighbour, for each of the three places in a group."""
    found: set[str] = set()
    for skipped in range(3):
        first, end = -(-skipped * 8 // 6), (skipped + len(raw)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(bytes(skipped) + raw).decode()[first:end])
    return found
