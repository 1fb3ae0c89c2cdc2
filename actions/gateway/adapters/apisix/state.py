"""What APISIX holds, read over its Admin API, and what of it is Firedoor's. No decisions.

Forms are those of the Admin API of version 3 (docs/en/latest/admin-api.md, apisix/admin/*.lua).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from actions.gateway.adapters.apisix.render import CHANGING, REVISION, Base, id_start, marker_id
from actions.gateway.adapters.http_api import HttpApi
from bot.errors import ProviderRefused
from bot.model.base import digest_of

ADMIN = "/apisix/admin"
PAGE_SIZE = 500
"""The most that APISIX gives at once."""

MAX_PAGES = 1000
_TEXTS = ("uri", "host", "name", "desc", "script", "filter_func")
_LISTS = ("uris", "hosts", "methods", "vars")
_VERSION, _SET, _BASE = "firedoor-version", "firedoor-set", "firedoor-base"


@dataclass(frozen=True)
class Marker:
    """The labels of Firedoor's switched-off route: what is in force, as it was when the last write
    was done. See `kong.state.Marker`."""

    version: str
    set_digest: str
    base_digest: str

    def labels(self) -> dict[str, str]:
        return {_VERSION: self.version, _SET: self.set_digest, _BASE: self.base_digest}


@dataclass(frozen=True)
class State:
    """``own`` are Firedoor's routes by identifier, with their number of change."""

    own: Mapping[str, Mapping[str, Any]]
    base: Base

    @property
    def base_digest(self) -> str:
        services, configs = self.base.services.values(), self.base.plugin_configs.values()
        objects = [*self.base.routes, *services, *configs]
        return digest_of(sorted(digest_of(unchanging(each)) for each in objects))[:12]


def unchanging(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: each for key, each in value.items() if key not in CHANGING}


def set_digest(gateway: str, own: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the digest of Firedoor's routes, of which the marker's labels are no part."""
    content = {key: unchanging(value) for key, value in own.items()}
    content.pop(marker_id(gateway), None)
    return digest_of(content)[:12]


def marker_of(gateway: str, own: Mapping[str, Mapping[str, Any]]) -> Marker | None:
    labels = own.get(marker_id(gateway), {}).get("labels") or {}
    found = [labels.get(name) for name in (_VERSION, _SET, _BASE)]
    return Marker(*map(str, found)) if all(found) else None


class ApisixState:
    """Reads. All errors are those of `HttpApi`."""

    def __init__(self, gateway: str, api: HttpApi) -> None:
        self._gateway, self._api = gateway, api

    def look(self) -> State:
        routes = self._listed("routes")
        start = id_start(self._gateway)
        base = Base(
            [value for id_, value in routes.items() if not id_.startswith(start)],
            self._listed("services"),
            self._listed("plugin_configs"),
        )
        return State(self._own(routes), base)

    def own(self) -> dict[str, Mapping[str, Any]]:
        return self._own(self._listed("routes"))

    def check_consumers(self, names: Iterable[str]) -> None:
        """
        Check that consumers are there, and that no consumer has a restriction of its own: that
        would take the place of the route's.

        Raises:
            ProviderRefused: It is not so.
        """
        consumers = self._listed("consumers")
        if missing := sorted(set(names) - set(consumers)):
            raise ProviderRefused(
                f"Gateway {self._gateway} has no consumer named {missing[0]!r}, so it cannot tell "
                "its requests apart; nothing was done. Name a consumer as APISIX does."
            )
        for name, value in [*consumers.items(), *self._listed("consumer_groups").items()]:
            if "consumer-restriction" in (value.get("plugins") or {}):
                raise ProviderRefused(
                    f"Consumer or consumer group {name} of gateway {self._gateway} has a "
                    "`consumer-restriction`, which APISIX runs in place of any route's; nothing "
                    "was done. Close the endpoint, or take that plugin away."
                )

    def _own(self, routes: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
        start = id_start(self._gateway)
        return {id_: value for id_, value in routes.items() if id_.startswith(start)}

    def _listed(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the values of all pages by identifier, with their number of change."""
        path, found = f"{ADMIN}/{kind}", dict[str, dict[str, Any]]()
        for page in range(1, MAX_PAGES + 1):
            query = {"page": str(page), "page_size": str(PAGE_SIZE)}
            answer = self._api.read(path, query)
            # Lua knows no empty list: it is an empty object then.
            nodes = (answer.get("list") or []) if isinstance(answer, dict) else None
            if not isinstance(nodes, list) or not isinstance(answer.get("total"), int):
                raise self._api.not_its_own(path)
            for node in nodes:
                if not _is_node(node):
                    raise self._api.not_its_own(path)
                id_ = str(node["key"]).rpartition("/")[2]
                found[id_] = {**node["value"], REVISION: node[REVISION]}
            if len(nodes) < PAGE_SIZE:
                return found
        raise self._api.not_its_own(path)


def _is_node(node: Any) -> bool:
    """Tell whether a value has the form of an entry, as far as Firedoor looks at it."""
    if not isinstance(node, dict) or not isinstance(node.get("key"), str):
        return False
    value = node.get("value")
    return (
        isinstance(value, dict)
        and isinstance(node.get(REVISION), int)
        and all(isinstance(value.get(name) or "", str) for name in _TEXTS)
        and all(isinstance(value.get(name) or [], list) for name in _LISTS)
        and all(isinstance(uri, str) for uri in value.get("uris") or [])
        and isinstance(value.get("priority") or 0, int)
        and _is_plugins(value.get("plugins") or {})
        and isinstance(value.get("labels") or {}, dict)
    )


def _is_plugins(plugins: Any) -> bool:
    return isinstance(plugins, dict) and all(
        isinstance(conf, dict) and isinstance(conf.get("_meta") or {}, dict)
        for conf in plugins.values()
    )
