"""The AWS stand-in: moto's server with IAM enforced, in its own process, on loopback only.

``python -m bot.sandbox.aws --port P --state-file F``. What moto alone does not do, and IAM does,
is added here, because a rotation cannot be proven against a stand-in that lets everybody in:

- an inactive key is refused like an unknown one (moto 5.2 accepts it even with IAM enforced);
- a policy's ``Resource`` is checked for calls on IAM users (moto compares it with ``*``);
- users, policies and keys survive a restart, in the state file (0600);
- moto's own control pages, which show every secret, are closed.

Two users exist: ``orders-service``, which may call nothing but what needs no permission, and
``firedoor``, which may rotate the keys of ``orders-service`` and do nothing else.
"""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bot.sandbox.files import write_secret

ACCOUNT = "123456789012"
REGION = "us-east-1"
ORDERS_USER = "orders-service"
FIREDOOR_USER = "firedoor"

ROTATION_ACTIONS = (
    "iam:CreateAccessKey",
    "iam:ListAccessKeys",
    "iam:UpdateAccessKey",
    "iam:DeleteAccessKey",
    "iam:GetAccessKeyLastUsed",
)

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def read_keys(state_file: Path) -> dict[str, list[dict[str, str]]]:
    """Return each user's access keys as AWS has them now: ``id``, ``secret``, ``status``."""
    state = json.loads(state_file.read_text(encoding="utf-8"))
    return {name: user["keys"] for name, user in state["users"].items()}


def arguments(port: int, state_file: Path) -> list[str]:
    """Return the command line arguments of this module."""
    return ["--port", str(port), "--state-file", str(state_file)]


def _user_arn(name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:user/{name}"


def _first_users() -> dict[str, Any]:
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": list(ROTATION_ACTIONS),
                "Resource": _user_arn(ORDERS_USER),
            }
        ],
    }
    return {
        ORDERS_USER: {"policies": {}, "keys": None},
        FIREDOOR_USER: {"policies": {"rotate-orders-service": json.dumps(policy)}, "keys": None},
    }


class _Accounts:
    """The users of moto's IAM, kept in a file."""

    def __init__(self, state_file: Path) -> None:
        from moto.iam.models import iam_backends

        self._backend = iam_backends[ACCOUNT]["aws"]
        self._file = state_file
        self._lock = threading.Lock()
        self._written = ""
        users = _first_users()
        if state_file.exists():
            users = json.loads(state_file.read_text(encoding="utf-8"))["users"]
        for name, user in users.items():
            self._add(name, user["policies"], user["keys"])
        self.save()

    def _add(self, name: str, policies: dict[str, str], keys: list[dict[str, str]] | None) -> None:
        from datetime import datetime

        self._backend.create_user(region_name=REGION, user_name=name)
        for policy, document in policies.items():
            self._backend.put_user_policy(name, policy, document)
        if keys is None:
            self._backend.create_access_key(name)
            return
        for kept in keys:
            key = self._backend.create_access_key(name, status=kept["status"])
            del self._backend.access_keys[key.access_key_id]
            key.access_key_id, key.secret_access_key = kept["id"], kept["secret"]
            key.create_date = datetime.fromisoformat(kept["created"])
            self._backend.access_keys[key.access_key_id] = key

    def save(self) -> None:
        """Write the file if anything changed since the last time."""
        with self._lock:
            users = {
                name: {
                    "policies": dict(user.policies),
                    "keys": [
                        {
                            "id": key.access_key_id,
                            "secret": key.secret_access_key,
                            "status": key.status,
                            "created": key.create_date.isoformat(),
                        }
                        for key in user.access_keys
                    ],
                }
                for name, user in self._backend.users.items()
            }
            text = json.dumps({"users": users}, indent=1)
            if text != self._written:
                write_secret(self._file, text)
                self._written = text


def _enforce_iam() -> None:
    """Turn moto's IAM checks on, from the first request, and add the two that it lacks."""
    from moto import settings
    from moto.iam import access_control
    from moto.iam.responses import IamResponse

    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0.0

    class ActiveKey(access_control.IAMUserAccessKey):
        def __init__(self, account_id: str, partition: str, access_key_id: str, headers: Any):
            super().__init__(account_id, partition, access_key_id, headers)
            if self.backend.access_keys[access_key_id].status != "Active":
                raise access_control.CreateAccessKeyFailure(reason="InvalidId")

    def resource_of(response: Any) -> str:
        """The user that a call is about: named, or the owner of the key that it names."""
        names = response.data.get("UserName")
        if names:
            return _user_arn(names[0])
        key = response.backend.access_keys.get((response.data.get("AccessKeyId") or [""])[0])
        return _user_arn(key.user_name) if key is not None else "*"

    patched_module: Any = access_control
    patched_module.IAMUserAccessKey = ActiveKey
    patched_class: Any = IamResponse
    patched_class._determine_resource = resource_of


def _guarded(app: WsgiApp, accounts: _Accounts) -> WsgiApp:
    """Answer ``/health``, close what AWS does not have, and keep the accounts after each call."""

    def answer(status: str, text: str, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response(status, [("Content-Type", "text/plain")])
        return [text.encode()]

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/health":
            return answer("200 OK", "ok\n", start_response)
        if path.startswith("/moto-api"):
            return answer("404 Not Found", "AWS has no such page.\n", start_response)
        if not environ.get("HTTP_AUTHORIZATION"):
            return answer("403 Forbidden", "Unsigned requests are refused.\n", start_response)
        response = app(environ, start_response)
        accounts.save()
        return response

    return call


def main(argv: list[str] | None = None) -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser(prog="python -m bot.sandbox.aws", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state-file", type=Path, required=True)
    options = parser.parse_args(argv)

    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    _enforce_iam()
    accounts = _Accounts(options.state_file)
    app = _guarded(DomainDispatcherApplication(create_backend_app), accounts)
    server = make_server(
        "127.0.0.1", options.port, app, threaded=True, request_handler=MotoRequestHandler
    )
    server.serve_forever()


if __name__ == "__main__":
    main()
