"""APISIX's Admin API, and its adapter as a subject of the contract.

Forms and words are those of apisix/admin/resource.lua, apisix/schema_def.lua and the plugins of
version 3. Of those only what Firedoor may meet is here.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actions.gateway.adapters.apisix import ApisixGateway
from tests.gateways.standins.server import JsonServer, Request, Response
from tests.gateways.standins.subject import StandIn
from tests.gateways.upstream import ENDPOINTS

KEY = "apisix-admin-k3y"
Value = dict[str, Any]

KINDS = ("routes", "services", "plugin_configs", "consumers", "consumer_groups", "global_rules")
_FIELDS = (
    "uri uris name desc priority methods host hosts remote_addr remote_addrs timeout vars "
    "filter_func script script_id plugins plugin_config_id upstream labels service_id upstream_id "
    "service_protocol enable_websocket id status create_time update_time"
)
_ROUTE_FIELDS = frozenset(_FIELDS.split())
_METHODS = {"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PURGE"}
_DEFAULTS: dict[str, Value] = {
    "limit-count": {
        "key_type": "var",
        "key": "remote_addr",
        "policy": "local",
        "rejected_code": 503,
        "allow_degradation": False,
        "show_limit_quota_header": True,
    },
    "consumer-restriction": {"type": "consumer_name", "rejected_code": 403},
    "response-rewrite": {"body_base64": False},
    "key-auth": {"header": "apikey", "query": "apikey", "hide_credentials": False},
    "fault-injection": {},
    "ip-restriction": {"message": "Your IP address is not allowed"},
    "proxy-rewrite": {"use_real_request_uri_unsafe": False},
}
"""What a schema check adds to a plugin's settings before they are stored."""


class Invalid(Exception):
    """What APISIX refuses, as it says it."""


class ApisixApi(JsonServer):
    """``disabled`` are plugins that this APISIX does not load."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, dict[str, Value]] = {kind: {} for kind in KINDS}
        self.disabled: set[str] = set()
        self._revision = 100

    # --- HTTP ------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Response:
        if request.headers.get("x-api-key") != KEY:
            body = {"error_msg": "failed to check token", "description": "wrong apikey"}
            return Response(401, body)
        if request.path[:2] != ("apisix", "admin") or len(request.path) not in (3, 4):
            return Response(404, {"error_msg": "404 Route Not Found"})
        kind, key = request.path[2], "/".join(request.path[3:])
        if kind not in self.tables:
            return Response(400, {"error_msg": f"Unsupported resource type: {kind}"})
        if not key:
            return self._listed(kind, request)
        node = self.tables[kind].get(key)
        try:
            match request.method:
                case "GET" if node:
                    return Response(200, node)
                case "PUT":
                    return Response(200 if node else 201, self._stored(kind, key, request.body))
                case "DELETE" if node:
                    del self.tables[kind][key]
                    self._revision += 1
                    return Response(200, {"deleted": "1", "key": f"/apisix/{kind}/{key}"})
        except Invalid as invalid:
            return Response(400, {"error_msg": str(invalid)})
        return Response(404, {"message": "Key not found"})

    def _listed(self, kind: str, request: Request) -> Response:
        if request.method != "GET":
            return Response(405, {"error_msg": "not supported `POST` method for listing"})
        nodes = sorted(self.tables[kind].values(), key=lambda node: node["createdIndex"])
        size = int(request.query.get("page_size", 0))
        if size and not 10 <= size <= 500:
            return Response(400, "page_size must be between 10 and 500")
        begin = (int(request.query.get("page", 1)) - 1) * size
        shown = nodes[begin : begin + size] if size else nodes
        return Response(200, {"total": len(nodes), "list": shown or {}})

    # --- rows ------------------------------------------------------------------------------------

    def _stored(self, kind: str, key: str, body: Any) -> Value:
        if not isinstance(body, dict):
            raise Invalid("invalid configuration")
        value = copy.deepcopy(body)
        if not re.fullmatch(r"[a-zA-Z0-9\-_.]{1,64}", key):
            raise Invalid('invalid configuration: property "id" validation failed')
        if value.setdefault("id", key) != key:
            raise Invalid("wrong route id")
        if kind == "routes":
            self._check_route(value)
        for name, conf in (value.get("plugins") or {}).items():
            self._check_plugin(name, conf)
        self._revision += 1
        old = self.tables[kind].get(key)
        value.setdefault("create_time", old["value"]["create_time"] if old else self._revision)
        value.setdefault("update_time", self._revision)
        node = {
            "key": f"/apisix/{kind}/{key}",
            "value": value,
            "createdIndex": old["createdIndex"] if old else self._revision,
            "modifiedIndex": self._revision,
        }
        self.tables[kind][key] = node
        return {"key": node["key"], "value": value}

    def _check_route(self, value: Value) -> None:
        if unknown := sorted(set(value) - _ROUTE_FIELDS):
            raise Invalid(
                f"invalid configuration: additional properties forbidden, found {unknown[0]}"
            )
        if ("uri" in value) == ("uris" in value):
            raise Invalid(
                "invalid configuration: allOf 1 failed: value should match only one "
                "schema, but matches none"
            )
        if "host" in value and "hosts" in value:
            raise Invalid("only one of host or hosts is allowed")
        if not {"plugins", "upstream", "upstream_id", "service_id", "script"} & set(value):
            raise Invalid("invalid configuration: object matches none of the required")
        if not set(value.get("methods") or []) <= _METHODS:
            raise Invalid(
                'invalid configuration: property "methods" validation failed: failed to '
                "validate item 1: matches none of the enum values"
            )
        for name, label in (value.get("labels") or {}).items():
            if not re.fullmatch(r"\S{1,64}", label):
                raise Invalid(f'invalid configuration: property "labels" validation failed: {name}')
        for name, most in (("desc", 256), ("name", 100)):
            if len(value.get(name, "")) > most:
                raise Invalid(
                    f'invalid configuration: property "{name}" validation failed: string '
                    f"too long, expected at most {most}"
                )
        for field, kind in (("service_id", "services"), ("plugin_config_id", "plugin_configs")):
            if value.get(field) and str(value[field]) not in self.tables[kind]:
                raise Invalid(
                    f"failed to fetch {kind} info by id [{value[field]}], response code: 404"
                )
        if "vars" in value:
            check_expression(value["vars"], "failed to validate the 'vars' expression")
        value.setdefault("priority", 0)
        value.setdefault("status", 1)

    def _check_plugin(self, name: str, conf: Any) -> None:
        if name not in _DEFAULTS or name in self.disabled:
            raise Invalid(f"unknown plugin [{name}]")
        said = f"failed to check the configuration of plugin {name} err"
        if not isinstance(conf, dict):
            raise Invalid(f"invalid plugin conf {conf} for plugin [{name}]")
        for key, default in _DEFAULTS[name].items():
            conf.setdefault(key, copy.deepcopy(default))
        if name == "fault-injection":
            abort = conf.get("abort") or conf.get("delay")
            if not abort:
                raise Invalid(f"{said}: expect object to have at least 1 properties")
            if "vars" in abort:
                check_expression(abort["vars"], said)
            if not all(isinstance(v, str) for v in (abort.get("headers") or {}).values()):
                raise Invalid(f'{said}: property "abort" validation failed')
        if name == "limit-count" and not (
            _is_positive(conf.get("count")) and _is_positive(conf.get("time_window"))
        ):
            raise Invalid(f'{said}: property "count" is required')
        if name == "consumer-restriction":
            lists = [conf.get(key) for key in ("whitelist", "blacklist") if key in conf]
            if len(lists) != 1 or not lists[0]:
                raise Invalid(f"{said}: value should match only one schema")
        if name == "response-rewrite" and "vars" in conf:
            check_expression(conf["vars"], said)

    # --- an operator -----------------------------------------------------------------------------

    def made(self, kind: str, key: str, **body: Any) -> None:
        """Be an operator who makes something."""
        with self._lock:
            self._stored(kind, key, body)

    def changed(self, kind: str, key: str, change: Callable[[Value], object]) -> None:
        """Be another hand that changes something."""
        with self._lock:
            value = copy.deepcopy(self.tables[kind][key]["value"])
            del value["update_time"]
            change(value)
            self._stored(kind, key, value)

    def removed(self, kind: str, key: str) -> None:
        with self._lock:
            del self.tables[kind][key]
            self._revision += 1

    def own(self) -> dict[str, Value]:
        """Return Firedoor's routes in force."""
        with self._lock:
            rows = {k: copy.deepcopy(n["value"]) for k, n in self.tables["routes"].items()}
        return {
            k: v for k, v in rows.items() if (v.get("labels") or {}).get("firedoor") == "control"
        }

    def exported(self) -> bytes:
        changing = ("create_time", "update_time")
        with self._lock:
            tables = {
                kind: {
                    key: {k: v for k, v in node["value"].items() if k not in changing}
                    for key, node in nodes.items()
                }
                for kind, nodes in self.tables.items()
            }
        return json.dumps(tables, sort_keys=True).encode()


def check_expression(rules: Any, said: str) -> None:
    """Check an expression as ``expr.new`` of lua-resty-expr does."""
    if not isinstance(rules, list) or not rules:
        raise Invalid(f"{said}: rule too short")
    if isinstance(rules[0], str) and rules[0].upper() not in _LOGIC:
        raise Invalid(f"{said}: rule should be wrapped inside brackets")
    _compile(rules, said)


_LOGIC = ("OR", "!OR", "AND", "!AND")
_OPERATORS = ("==", "~=", ">", ">=", "<", "<=", "~~", "~*", "in", "has", "ipmatch")


def _compile(rules: Any, said: str) -> None:
    if not isinstance(rules, list) or not rules:
        raise Invalid(f"{said}: rule too short")
    if isinstance(rules[0], list):
        for rule in rules:
            _compile(rule, said)
    elif rules[0].upper() in _LOGIC:
        if len(rules) <= 2:
            raise Invalid(f"{said}: rule too short")
        for rule in rules[1:]:
            _compile(rule, said)
    elif len(rules) == 4 and rules[1] != "!":
        raise Invalid(f"{said}: bad 'not' expression")
    elif len(rules) not in (3, 4) or rules[-2] not in _OPERATORS:
        raise Invalid(f"{said}: invalid operator '{rules[-2]}'")


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and value > 0


class ApisixStandIn(StandIn):
    """An APISIX with one route of the operator's, which checks keys."""

    kind = "apisix"
    adapter_class = ApisixGateway
    refusal = Response(400, {"error_msg": "unknown plugin [fault-injection]"})
    credential = "admin_key"
    api: ApisixApi

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.api = ApisixApi()
        self.api.made("services", "orders", upstream={"type": "roundrobin", "nodes": {"o:80": 1}})
        self.api.made(
            "routes",
            "orders",
            name="orders",
            uri="/*",
            hosts=["api.example.com"],
            service_id="orders",
            plugins={"key-auth": {}},
        )
        self.api.made("consumers", "partner-7", plugins={"key-auth": {"key": "k"}})
        self.api.start()
        self.gateway = self.adapter()

    def arguments(self) -> dict[str, Any]:
        return {
            "name": "edge-apisix",
            "admin_url": self.api.url,
            "admin_key": KEY,
            "set_aside": self._directory / "aside",
            "endpoints": tuple(ENDPOINTS),
            "consumers": True,
            "settle_s": 0.0,
        }

    def export(self) -> bytes:
        return self.api.exported()

    def edit_theirs(self) -> None:
        self.api.made("routes", "theirs", uri="/theirs", service_id="orders")

    def has_their_edit(self) -> bool:
        return "theirs" in self.api.tables["routes"]

    def edit_ours(self) -> None:
        self.api.changed("routes", next(iter(self.api.own())), lambda value: value.update(status=0))

    def accept(self) -> None:
        super().accept()
        if self.has_their_edit():
            self.api.removed("routes", "theirs")
