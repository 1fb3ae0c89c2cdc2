"""What Firedoor's objects in Kong are called, and by what they are known. Pure."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from bot.model.base import digest_of

NAMESPACE = uuid.UUID("6f1f2c1e-2a7d-5d0b-9a53-3b6f0f6f5a10")
"""Of the identifiers of Firedoor's objects: version 5 (RFC 9562), of their names."""

TAG = "firedoor"
NOWHERE = "firedoor.invalid"
"""The host of the closed endpoints' service; no name server knows it (RFC 6761, 6.4)."""


def gateway_tags(gateway: str) -> list[str]:
    """Return the tags of all objects of a gateway. A tag has neither comma nor slash."""
    return [TAG, f"{TAG}-gateway:{quote(gateway, safe='')}"]


def named_id(name: str) -> str:
    return str(uuid.uuid5(NAMESPACE, name))


def name_of(gateway: str, content: Any) -> str:
    """Return the name of an object: equal content, equal name."""
    return f"firedoor-{digest_of(gateway)[:8]}-{digest_of(content)[:16]}"


def service_name(gateway: str) -> str:
    return name_of(gateway, NOWHERE)


def is_own(gateway: str, route: Mapping[str, Any]) -> bool:
    """Tell whether a route is one of Firedoor's: by its name or, if another hand has changed that,
    by its tags. A copy of one, tags and all, has an identifier of Kong's making (version 4)."""
    name, id_ = str(route.get("name")), str(route["id"])
    if name.startswith(f"firedoor-{digest_of(gateway)[:8]}-") and id_ == named_id(name):
        return True
    tags = set(gateway_tags(gateway)) <= set(route.get("tags") or [])
    return tags and bool(re.fullmatch("[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f-]{17}", id_))


def nowhere(gateway: str) -> dict[str, Any]:
    """Return the service of closed endpoints, which also carries the version."""
    name = service_name(gateway)
    return {
        "id": named_id(name),
        "name": name,
        "protocol": "http",
        "host": NOWHERE,
        "port": 80,
        "retries": 0,
        "enabled": True,
    }
