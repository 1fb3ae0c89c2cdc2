"""Who works at the sandbox's company, and the firedoor.yaml of its Firedoor."""

from __future__ import annotations

import copy
import json
import os
import pwd
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.sandbox.aws import ORDERS_USER, REGION
from bot.sandbox.files import write_secret
from bot.sandbox.mail import USERNAME as SMTP_USERNAME
from bot.sandbox.openbao import KV_MOUNT, ORDERS_PATH
from bot.sandbox.orders_data import PROBE_OWNER, PROBE_STRANGER

PORTS = (
    "openbao",
    "openbao-cluster",
    "aws",
    "mail",
    "slack",
    "orders",
    "envoy",
    "envoy-admin",
    "firedoor",
)
"""What the company needs a port for. Firedoor's own is chosen with them, not opened."""

PEOPLE = (
    {"id": "U0SAM", "name": "sam", "display": "Sam Okafor", "role": "security-oncall"},
    {"id": "U0IRIS", "name": "iris", "display": "Iris Lindqvist", "role": "incident-commander"},
    {"id": "U0TARIQ", "name": "tariq", "display": "Tariq Usman", "role": "security"},
    {"id": "U0LENA", "name": "lena", "display": "Lena Fischer", "role": "legal"},
    {"id": "U0COREY", "name": "corey", "display": "Corey Hansen", "role": "compliance"},
    {"id": "U0OLGA", "name": "olga", "display": "Olga Novak", "role": "orders-team"},
)
"""The members of the Slack workspace. The stand-in adds Firedoor's own user."""

GROUPS = {
    "security-oncall": ["U0SAM"],
    "incident-commander": ["U0IRIS"],
    "security": ["U0SAM", "U0TARIQ"],
}

STAKEHOLDERS = [
    {
        "name": "security",
        "data": ["any"],
        "channels": ["#security"],
        "emails": ["security@acme.example"],
    },
    {
        "name": "legal",
        "data": ["personal", "payment"],
        "channels": ["#legal"],
        "emails": ["legal@acme.example"],
    },
    {
        "name": "compliance",
        "data": ["personal", "payment"],
        "channels": [],
        "emails": ["compliance@acme.example"],
    },
]

Overrides = Mapping[str, Any] | Callable[[dict[str, Any]], Mapping[str, Any]]
"""Merged into the settings; or a function that is given them and returns those to be written."""


@dataclass(frozen=True)
class Places:
    """Where the company's servers and files are; what the settings are made from."""

    directory: Path
    runbooks: Path
    ports: Mapping[str, int]
    base_routes: Path
    rds_file: Path
    access_log: Path

    def url(self, server: str) -> str:
        """Return the address of one of the company's servers."""
        return f"http://127.0.0.1:{self.ports[server]}"

    def secret(self, name: str) -> Path:
        """Return the file of one of the secrets that Firedoor's settings point at."""
        return self.directory / "secrets" / name


def write_people(path: Path) -> None:
    """Write the members of the Slack workspace."""
    path.write_text(json.dumps(PEOPLE, indent=1), encoding="utf-8")


def write_fresh_tokens(directory: Path) -> None:
    """Write new random values for the secrets that the company chooses itself, mode 0600."""
    fresh = {
        "alertmanager-token": secrets.token_urlsafe(24),
        "slack-bot-token": f"xoxb-{_digits(12)}-{_digits(13)}-{secrets.token_hex(12)}",
        "slack-app-token": f"xapp-1-A{_digits(10)}-{_digits(13)}-{secrets.token_hex(32)}",
        "smtp-password": secrets.token_urlsafe(18),
    }
    for name, value in fresh.items():
        write_secret(directory / name, value)


def _digits(count: int) -> str:
    return "".join(secrets.choice("0123456789") for _ in range(count))


def settings_of(places: Places) -> dict[str, Any]:
    """Return the content of firedoor.yaml. Paths are relative to it; no secret is in it."""
    return {
        "state_dir": "state",
        "http": {"host": "127.0.0.1", "port": places.ports["firedoor"]},
        "webhooks": {"alertmanager": {"token": _file("alertmanager-token")}},
        "slack": {
            "bot_token": _file("slack-bot-token"),
            "app_token": _file("slack-app-token"),
            "api_url": f"{places.url('slack')}/api/",
            "incidents_channel": "#incidents",
        },
        "email": {
            "host": "127.0.0.1",
            "port": places.ports["mail"],
            "sender": "firedoor@acme.example",
            "username": SMTP_USERNAME,
            "password": _file("smtp-password"),
            "tls": "none",
        },
        "groups": {**GROUPS, "security-oncall": [*GROUPS["security-oncall"], _who_is_here()]},
        "stakeholders": copy.deepcopy(STAKEHOLDERS),
        **_gateway_settings(places),
        **_credential_settings(places),
        "inventory": ["openapi.yaml"],
        "runbooks": [str(places.runbooks)],
    }


def _who_is_here() -> str:
    """Whoever sits at this terminal may act in the sandbox by the command line."""
    return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"


def _file(name: str) -> dict[str, str]:
    return {"file": f"secrets/{name}"}


def _gateway_settings(places: Places) -> dict[str, Any]:
    def relative(path: Path) -> str:
        return path.relative_to(places.directory).as_posix()

    logs = places.access_log.with_name(f"{places.access_log.stem}*{places.access_log.suffix}")
    return {
        "gateways": {
            "edge": {
                "kind": "envoy",
                "base_routes": relative(places.base_routes),
                "rds_file": relative(places.rds_file),
                "admin_url": places.url("envoy-admin"),
                "public_url": places.url("envoy"),
            }
        },
        "logs": {"edge-access": {"kind": "envoy_json", "files": [relative(logs)]}},
    }


def _credential_settings(places: Places) -> dict[str, Any]:
    return {
        "vaults": {
            "main": {
                "url": places.url("openbao"),
                "token": _file("vault-token"),
                "kv_mount": KV_MOUNT,
            }
        },
        "aws": {
            "main": {
                "region": REGION,
                "endpoint_url": places.url("aws"),
                "access_key_id": _file("aws-access-key-id"),
                "secret_access_key": _file("aws-secret-access-key"),
            }
        },
        "credentials": {
            "orders-service": {
                "kind": "aws_iam_key",
                "user": ORDERS_USER,
                "aws": "main",
                "vault": "main",
                "path": ORDERS_PATH,
                "consumer_url": f"{places.url('orders')}/internal/health",
            }
        },
        "probes": {
            "orders": {
                "gateway": "edge",
                "upstream_url": places.url("orders"),
                "login_path": "/api/login",
                "owner": {"username": PROBE_OWNER, "password": _file(f"{PROBE_OWNER}-password")},
                "stranger": {
                    "username": PROBE_STRANGER,
                    "password": _file(f"{PROBE_STRANGER}-password"),
                },
            }
        },
    }


def overridden(settings: dict[str, Any], overrides: Overrides | None) -> dict[str, Any]:
    """Return settings with overrides: mappings are merged key by key, anything else replaced."""
    if overrides is None:
        return settings
    if callable(overrides):
        return dict(overrides(settings))
    merged = dict(settings)
    for key, value in overrides.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, Mapping):
            merged[key] = overridden(below, value)
        else:
            merged[key] = value
    return merged
