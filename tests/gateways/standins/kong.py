"""Kong's Admin API, and its adapter as a subject of the contract.

Forms and words are those of kong/api/endpoints.lua, kong/db/errors.lua and the schemas in
kong/db/schema/entities and kong/plugins of Kong 3. Of those only what Firedoor may meet is here.
"""

from __future__ import annotations

import base64
import copy
import json
import re
import uuid
from pathlib import Path
from typing import Any

from actions.gateway.adapters.kong import KongGateway
from tests.gateways.standins.server import JsonServer, Request, Response
from tests.gateways.standins.subject import StandIn
from tests.gateways.upstream import ENDPOINTS

TOKEN = "kong-admin-t0ken"

Entity = dict[str, Any]

_ROUTE: Entity = {
    "name": None,
    "protocols": ["http", "https"],
    "methods": None,
    "hosts": None,
    "paths": None,
    "headers": None,
    "https_redirect_status_code": 426,
    "regex_priority": 0,
    "strip_path": True,
    "path_handling": "v0",
    "preserve_host": False,
    "request_buffering": True,
    "response_buffering": True,
    "snis": None,
    "sources": None,
    "destinations": None,
    "tags": None,
    "service": None,
}
_SERVICE: Entity = {
    "name": None,
    "protocol": "http",
    "host": None,
    "port": 80,
    "path": None,
    "retries": 5,
    "connect_timeout": 60000,
    "read_timeout": 60000,
    "write_timeout": 60000,
    "tags": None,
    "client_certificate": None,
    "ca_certificates": None,
    "tls_verify": None,
    "tls_verify_depth": None,
    "enabled": True,
}
_PLUGIN: Entity = {
    "name": None,
    "instance_name": None,
    "config": {},
    "protocols": ["grpc", "grpcs", "http", "https"],
    "enabled": True,
    "ordering": None,
    "tags": None,
    "route": None,
    "service": None,
    "consumer": None,
    "consumer_group": None,
}
_CONSUMER: Entity = {"username": None, "custom_id": None, "tags": None}
_DEFAULTS = {
    "routes": _ROUTE,
    "services": _SERVICE,
    "plugins": _PLUGIN,
    "consumers": _CONSUMER,
}
_KEY = {"routes": "name", "services": "name", "consumers": "username"}
_CONFIGS: dict[str, Entity] = {
    "request-termination": {
        "status_code": 503,
        "message": None,
        "content_type": None,
        "body": None,
        "echo": False,
        "trigger": None,
    },
    "response-transformer": {
        "add": {"headers": [], "json": [], "json_types": []},
        "remove": {"headers": [], "json": []},
        "rename": {"headers": [], "json": []},
        "replace": {"headers": [], "json": [], "json_types": []},
        "append": {"headers": [], "json": [], "json_types": []},
    },
    "ip-restriction": {"allow": None, "deny": None, "status": None, "message": None},
    "rate-limiting": {
        **dict.fromkeys(("second", "minute", "hour", "day", "month", "year")),
        "limit_by": "consumer",
        "policy": "local",
        "fault_tolerant": True,
        "hide_client_headers": False,
        "error_code": 429,
        "error_message": "API rate limit exceeded",
        "header_name": None,
        "path": None,
    },
    "post-function": dict.fromkeys(("access", "header_filter", "body_filter", "log")),
    "key-auth": {"key_names": ["apikey"], "hide_credentials": False, "anonymous": None},
}


class Invalid(Exception):
    """What Kong refuses, as it says it."""

    def __init__(
        self, status: int, code: int, name: str, message: str, fields: Entity | None = None
    ) -> None:
        super().__init__(message)
        body = {"code": code, "name": name, "message": message, "fields": fields or {}}
        self.response = Response(status, body)


def violation(where: str, why: str) -> Invalid:
    said = why if where == "@entity" else f"{where}: {why}"
    fields = {where: [why] if where == "@entity" else why}
    return Invalid(400, 2, "schema violation", f"schema violation ({said})", fields)


class KongApi(JsonServer):
    """``disabled`` are plugins that this Kong does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, dict[str, Entity]] = {kind: {} for kind in _DEFAULTS}
        self.disabled: set[str] = set()
        self._seconds = 1_700_000_000

    # --- HTTP ------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Response:
        if request.headers.get("kong-admin-token") != TOKEN:
            return Response(401, {"message": "Invalid credentials. Token or User required"})
        kind, *rest = request.path
        if kind not in self.tables or len(rest) > 1:
            return Response(404, {"message": "Not found"})
        try:
            if not rest:
                return self._collection(kind, request)
            return self._entity(kind, rest[0], request)
        except Invalid as invalid:
            return invalid.response

    def _collection(self, kind: str, request: Request) -> Response:
        if request.method == "GET":
            return Response(200, self._page(kind, request.query))
        if request.method == "POST":
            return Response(201, self._stored(kind, str(uuid.uuid4()), request.body, None))
        return Response(405, {"message": "Method not allowed"})

    def _entity(self, kind: str, key: str, request: Request) -> Response:
        found = self._find(kind, key)
        id_ = found["id"] if found else key
        match request.method:
            case "GET" if found:
                return Response(200, found)
            case "PUT":
                if not _is_uuid(id_):
                    raise violation("id", "expected a valid UUID")
                return Response(200, self._stored(kind, id_, request.body, None))
            case "PATCH" if found:
                return Response(200, self._stored(kind, id_, request.body, found))
            case "DELETE":
                if found:
                    self._delete(kind, id_)
                return Response(204)
        return Response(404, {"message": "Not found"})

    def _page(self, kind: str, query: Any) -> Entity:
        size = int(query.get("size", 100))
        if not 1 <= size <= 1000:
            raise Invalid(400, 9, "invalid size", "size must be an integer between 1 and 1000")
        rows = sorted(self.tables[kind].values(), key=lambda row: row["id"])
        if tags := query.get("tags"):
            wanted = set(tags.split(","))
            rows = [row for row in rows if wanted <= set(row["tags"] or [])]
        begin = int(base64.b64decode(query["offset"])) if query.get("offset") else 0
        page: Entity = {"data": rows[begin : begin + size], "next": None}
        if begin + size < len(rows):
            page["offset"] = base64.b64encode(str(begin + size).encode()).decode()
            page["next"] = f"/{kind}?offset={page['offset']}"
        return page

    # --- rows ------------------------------------------------------------------------------------

    def _find(self, kind: str, key: str) -> Entity | None:
        if _is_uuid(key):
            return self.tables[kind].get(key)
        name = _KEY.get(kind)
        rows = self.tables[kind].values()
        return next((row for row in rows if name and row[name] == key), None)

    def _stored(self, kind: str, id_: str, body: Any, before: Entity | None) -> Entity:
        if not isinstance(body, dict):
            raise violation("@entity", "expected a record")
        if unknown := sorted(set(body) - {*_DEFAULTS[kind], "id"}):
            raise violation(unknown[0], "unknown field")
        row = {**copy.deepcopy(before or _DEFAULTS[kind]), **copy.deepcopy(body), "id": id_}
        self._seconds += 1
        old = self.tables[kind].get(id_)
        row["created_at"] = old["created_at"] if old else self._seconds
        row["updated_at"] = self._seconds
        self._check(kind, row)
        self.tables[kind][id_] = row
        return row

    def _check(self, kind: str, row: Entity) -> None:
        for tag in row["tags"] or []:
            if re.search("[,/]", tag) or not tag.isprintable():
                raise violation("tags", f"invalid tag '{tag}': expected printable ascii")
        for name, table in (
            ("route", "routes"),
            ("service", "services"),
            ("consumer", "consumers"),
        ):
            other = row.get(name)
            if other and other["id"] not in self.tables[table]:
                message = (
                    f"the foreign key '{{id=\"{other['id']}\"}}' does not reference an existing "
                    f"'{table}' entity."
                )
                raise Invalid(400, 4, "foreign key violation", message, {name: other})
        if kind == "routes":
            _check_route(row)
        elif kind == "plugins":
            self._check_plugin(row)
        elif kind == "services" and not row["host"]:
            raise violation("host", "required field missing")
        self._check_unique(kind, row)

    def _check_plugin(self, row: Entity) -> None:
        name = row["name"]
        if name not in _CONFIGS or name in self.disabled:
            why = f"plugin '{name}' not enabled; add it to the 'plugins' configuration property"
            raise violation("name", why)
        config = row["config"]
        if unknown := sorted(set(config) - set(_CONFIGS[name])):
            raise violation("config", f"{unknown[0]}: unknown field")
        row["config"] = config = _with_defaults(_CONFIGS[name], config)
        if name == "request-termination" and config["content_type"] and not config["body"]:
            raise violation("config", "content_type requires a body")
        if name == "ip-restriction" and not (config["allow"] or config["deny"]):
            raise violation(
                "@entity",
                "at least one of these fields must be non-empty: 'config.allow', 'config.deny'",
            )
        if name == "rate-limiting":
            limits = [config[p] for p in ("second", "minute", "hour") if config[p]]
            if not limits or limits != sorted(limits):
                raise violation("config", "The limit for a longer period cannot be lower")

    def _check_unique(self, kind: str, row: Entity) -> None:
        others = [other for other in self.tables[kind].values() if other["id"] != row["id"]]
        name = _KEY.get(kind)
        if name and row[name] is not None and any(row[name] == other[name] for other in others):
            message = f"UNIQUE violation detected on '{{{name}=\"{row[name]}\"}}'"
            raise Invalid(409, 5, "unique constraint violation", message, {name: row[name]})
        if kind == "plugins":
            scope = ("name", "route", "service", "consumer", "consumer_group")
            mine = [row[key] for key in scope]
            if any(mine == [other[key] for key in scope] for other in others):
                message = f"UNIQUE violation detected on '{json.dumps(mine)}'"
                raise Invalid(409, 5, "unique constraint violation", message)

    def _delete(self, kind: str, id_: str) -> None:
        if kind == "services" and any(
            (route["service"] or {}).get("id") == id_ for route in self.tables["routes"].values()
        ):
            message = "an existing 'routes' entity references this 'services' entity"
            raise Invalid(400, 4, "foreign key violation", message)
        del self.tables[kind][id_]
        reference = {"routes": "route", "services": "service", "consumers": "consumer"}.get(kind)
        plugins = self.tables["plugins"]
        for plugin in [p for p in plugins.values() if reference and p[reference] == {"id": id_}]:
            del plugins[plugin["id"]]

    # --- an operator -----------------------------------------------------------------------------

    def made(self, kind: str, **body: Any) -> Entity:
        """Return what an operator makes, with an identifier of Kong's making."""
        with self._lock:
            return copy.deepcopy(self._stored(kind, str(uuid.uuid4()), body, None))

    def own(self, kind: str) -> list[Entity]:
        """Return Firedoor's objects of a kind."""
        with self._lock:
            rows = copy.deepcopy(list(self.tables[kind].values()))
        return [row for row in rows if "firedoor" in (row["tags"] or [])]

    def changed(self, kind: str, id_: str, **body: Any) -> None:
        """Be another hand that changes an object."""
        with self._lock:
            self._stored(kind, id_, body, self.tables[kind][id_])

    def removed(self, kind: str, id_: str) -> None:
        with self._lock:
            self._delete(kind, id_)

    def exported(self) -> bytes:
        with self._lock:
            tables = {
                kind: {
                    id_: {k: v for k, v in row.items() if k not in ("created_at", "updated_at")}
                    for id_, row in rows.items()
                }
                for kind, rows in self.tables.items()
            }
        return json.dumps(tables, sort_keys=True).encode()


def _check_route(row: Entity) -> None:
    if not any(row[name] for name in ("methods", "hosts", "headers", "paths", "snis")):
        raise violation(
            "@entity",
            "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is "
            "'https'",
        )
    for path in row["paths"] or []:
        if not path.startswith(("/", "~/")):
            raise violation("paths", "should start with: / (fixed path) or ~/ (regex path)")
        if path.startswith("~"):
            try:
                re.compile(path[1:])
            except re.error as error:
                raise violation("paths", f"invalid regex: '{path[1:]}' ({error})") from None
    for method in row["methods"] or []:
        if not re.fullmatch("[A-Z]+", method):
            raise violation("methods", f"invalid value: {method}")
    if row["name"] is not None and not re.fullmatch(r"[A-Za-z0-9.\-_~]+", row["name"]):
        raise violation("name", f"invalid value '{row['name']}'")


def _with_defaults(defaults: Entity, given: Entity) -> Entity:
    return {
        key: _with_defaults(default, given.get(key) or {})
        if isinstance(default, dict)
        else copy.deepcopy(given.get(key, default))
        for key, default in defaults.items()
    }


def _is_uuid(text: str) -> bool:
    return bool(re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text))


class KongStandIn(StandIn):
    """A Kong with one route of the operator's, which checks keys."""

    kind = "kong"
    adapter_class = KongGateway
    refusal = violation("config", "expected a record").response
    credential = "admin_token"
    api: KongApi

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.api = KongApi()
        service = self.api.made("services", name="orders", host="orders.internal")
        route = self.api.made(
            "routes",
            name="orders",
            paths=["/"],
            hosts=["api.example.com"],
            service={"id": service["id"]},
            strip_path=True,
        )
        self.api.made("plugins", name="key-auth", route={"id": route["id"]})
        self.api.made("consumers", username="partner-7")
        self.api.start()
        self.gateway = self.adapter()

    def arguments(self) -> dict[str, Any]:
        return {
            "name": "edge-kong",
            "admin_url": self.api.url,
            "admin_token": TOKEN,
            "set_aside": self._directory / "aside",
            "endpoints": tuple(ENDPOINTS),
            "consumers": True,
            "settle_s": 0.0,
        }

    def export(self) -> bytes:
        return self.api.exported()

    def edit_theirs(self) -> None:
        self.api.made("routes", name="theirs", paths=["/theirs"])

    def has_their_edit(self) -> bool:
        return any(row["name"] == "theirs" for row in self.api.tables["routes"].values())

    def edit_ours(self) -> None:
        plugin = next(p for p in self.api.own("plugins") if p["name"] == "request-termination")
        self.api.changed("plugins", plugin["id"], enabled=False)

    def accept(self) -> None:
        super().accept()
        for row in [r for r in self.api.tables["routes"].values() if r["name"] == "theirs"]:
            self.api.removed("routes", row["id"])
