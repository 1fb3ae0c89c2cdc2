"""What every model shares: frozen, strict about unknown keys, canonical as JSON."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict


def _to_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("the moment is outside the years 1 to 9999 in UTC") from None


Utc = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""A moment. Aware, and always in UTC."""


class Frozen(BaseModel):
    """Base of all that is journaled or sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def canonical_json(value: Any) -> str:
    """Return the one text that stands for a JSON value: sorted keys, no spaces, UTF-8.

    Digests and the journal's hashes are taken over this text.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value's canonical text, as 64 hexadecimal digits."""
    # surrogatepass: hostile JSON may hold half a character; its digest must still exist.
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()
