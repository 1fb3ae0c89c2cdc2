"""What Kong holds, read over its Admin API, and what of it is Firedoor's. No decisions.

Pages, filters and errors are as in kong/api/endpoints.lua of Kong 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from actions.gateway.adapters.http_api import HttpApi
from actions.gateway.adapters.kong.names import TAG, is_own, named_id, nowhere, service_name
from actions.gateway.adapters.kong.render import Base
from bot.errors import ProviderRefused
from bot.model.base import digest_of

PAGE_SIZE = 1000
"""The most that Kong gives at once."""

MAX_PAGES = 1000
_TEXTS = ("tags", "paths", "hosts", "methods", "protocols")
_REFERENCES = ("route", "service", "consumer", "consumer_group")
_TIMES = ("created_at", "updated_at")
_VERSION, _SET, _BASE = f"{TAG}-version:", f"{TAG}-set:", f"{TAG}-base:"


@dataclass(frozen=True)
class Marker:
    """
    The tags of Firedoor's service: what is in force, as it was when the last write was done.

    ``set_digest`` is over Firedoor's objects, ``base_digest`` over the operator's that they were
    made from.
    """

    version: str
    set_digest: str
    base_digest: str

    def tags(self) -> list[str]:
        return [
            f"{_VERSION}{self.version}",
            f"{_SET}{self.set_digest}",
            f"{_BASE}{self.base_digest}",
        ]


@dataclass(frozen=True)
class State:
    """``own`` has keys such as ``routes/<id>``: all that is Firedoor's, and whatever another hand
    has put on one of its routes."""

    own: Mapping[str, Mapping[str, Any]]
    base: Base

    @property
    def base_digest(self) -> str:
        objects = [*self.base.routes, *self.base.plugins]
        return digest_of(sorted(digest_of(without_times(each)) for each in objects))[:12]


def set_digest(gateway: str, own: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the digest of Firedoor's objects, of which the service's tags are no part."""
    service = f"services/{named_id(service_name(gateway))}"
    content = {key: dict(without_times(body)) for key, body in own.items()}
    if service in content:
        content[service].pop("tags", None)
    return digest_of(content)[:12]


def marker_of(gateway: str, own: Mapping[str, Mapping[str, Any]]) -> Marker | None:
    service = own.get(f"services/{named_id(service_name(gateway))}", {})
    tags = [tag for tag in service.get("tags") or [] if isinstance(tag, str)]
    found = [
        next((tag.removeprefix(start) for tag in tags if tag.startswith(start)), None)
        for start in (_VERSION, _SET, _BASE)
    ]
    version, digest, base = found
    if version is None or digest is None or base is None:
        return None
    return Marker(version, digest, base)


def without_times(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in _TIMES}


class KongState:
    """Reads. All errors are those of `HttpApi`."""

    def __init__(self, gateway: str, api: HttpApi) -> None:
        self._gateway, self._api = gateway, api

    def look(self) -> State:
        key = f"services/{nowhere(self._gateway)['id']}"
        service = self._one(f"/{key}")
        routes, plugins = self._listed("routes"), self._listed("plugins")
        own = {key: service} if service else {}
        own_routes = {route["id"] for route in routes if is_own(self._gateway, route)}
        own |= {f"routes/{r['id']}": r for r in routes if r["id"] in own_routes}
        on_own = {p["id"] for p in plugins if (p.get("route") or {}).get("id") in own_routes}
        own |= {f"plugins/{p['id']}": p for p in plugins if p["id"] in on_own}
        base = Base(
            [route for route in routes if route["id"] not in own_routes],
            [plugin for plugin in plugins if plugin["id"] not in on_own],
        )
        return State(own, base)

    def consumers(self, names: set[str]) -> dict[str, str]:
        """Return the identifiers of consumers.

        Raises:
            ProviderRefused: There is none of a name.
        """
        found = {}
        for name in sorted(names):
            path = f"/consumers/{quote(name, safe='')}"
            consumer = self._one(path)
            if consumer is None:
                raise ProviderRefused(
                    f"Gateway {self._gateway} has no consumer named {name!r}, so it cannot tell "
                    "its requests apart; nothing was done. Name a consumer as Kong does."
                )
            found[name] = consumer["id"]
        return found

    def _one(self, path: str) -> dict[str, Any] | None:
        found = self._api.read(path, missing_ok=True)
        if found is not None and not _is_entity(found):
            raise self._api.not_its_own(path)
        return found  # type: ignore[no-any-return]  # it was just looked at

    def _listed(self, kind: str) -> list[dict[str, Any]]:
        """Return all pages. Only the offset of the next one is taken, never its address."""
        path, found, offset = f"/{kind}", list[dict[str, Any]](), ""
        for _ in range(MAX_PAGES):
            page = {"offset": offset} if offset else {}
            answer = self._api.read(path, {"size": str(PAGE_SIZE), **page})
            data = answer.get("data") if isinstance(answer, dict) else None
            if not isinstance(data, list) or not all(map(_is_entity, data)):
                raise self._api.not_its_own(path)
            found += data
            offset = answer.get("offset")
            if not offset:
                return found
            if not isinstance(offset, str):
                break
        raise self._api.not_its_own(path)


def _is_entity(value: Any) -> bool:
    """Tell whether a value has the form of an entity, as far as Firedoor looks at it."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("id"), str)
        and all(_is_texts(value.get(name)) for name in _TEXTS)
        and all(
            other is None or (isinstance(other, dict) and isinstance(other.get("id"), str))
            for other in map(value.get, _REFERENCES)
        )
        and all(isinstance(value.get(name) or {}, dict) for name in ("config", "headers"))
        and isinstance(value.get("regex_priority") or 0, int)
        and isinstance(value.get("name") or "", str)
    )


def _is_texts(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(t, str) for t in value))
