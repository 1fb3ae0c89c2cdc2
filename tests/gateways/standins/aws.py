"""AWS as moto has it, on an HTTP port, with what moto alone gets wrong put right.

``make`` replaces, as AWS documents:

- ``UpdateRuleGroup`` replaces all of a rule group: moto keeps the old rules when there are none;
- ``UpdateStage`` removes a method's settings: moto takes the operation and does nothing.
"""

from __future__ import annotations

import json
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from bot.sandbox.processes import Ports
from tests.gateways.envoy import Garbage
from tests.gateways.subject import Subject

REGION = "eu-central-1"
KEY = {"access_key_id": "AKIAFIREDOOR", "secret_access_key": "not-a-real-one"}


class AwsServer:
    """
    ``calls`` are the operations that came in, as IAM names them; ``writes`` counts those that
    change something. ``refuses`` makes it refuse operations of that name, with ``code``.
    """

    def __init__(self) -> None:
        self._claimed = Ports()
        self.port = self._claimed.take()
        self.url = f"http://127.0.0.1:{self.port}"
        self.calls: list[str] = []
        self.writes = 0
        self.refuses, self.code = "", "ValidationException"
        self._server: Any = None

    def start(self) -> None:
        from moto.moto_server.werkzeug_app import MotoRequestHandler
        from werkzeug.serving import make_server

        if self._server is None:
            self._server = make_server(
                "127.0.0.1",
                self.port,
                self._guarded(_moto()),
                threaded=True,
                request_handler=MotoRequestHandler,
            )
            self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
            self._thread.start()

    def stop(self) -> None:
        """Close the port; what is there stays."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def close(self) -> None:
        self.stop()
        self._claimed.close()

    def client(self, service: str) -> Any:
        """Return a client as an operator has one."""
        import boto3

        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id="AKIAOPERATOR",
            aws_secret_access_key="another",
        )

    def _guarded(self, app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        def call(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            is_read, name = _operation(environ)
            self.calls.append(name)
            if self.refuses and self.refuses in name:
                body = json.dumps({"__type": self.code, "message": "the body of a refusal"})
                kind = ("x-amzn-ErrorType", self.code)
                start_response("400 Bad Request", [("Content-Type", "application/json"), kind])
                return [body.encode()]
            if name == "wafv2:CheckCapacity":  # moto does not know it
                start_response("501 Not Implemented", [("Content-Type", "text/plain")])
                return [b"no"]
            self.writes += not is_read
            return app(environ, start_response)

        return call


def _operation(environ: dict[str, Any]) -> tuple[bool, str]:
    """Return whether an operation only reads, and its name: ``wafv2:GetRuleGroup``, or
    ``apigateway:PATCH /restapis/…``."""
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        name = target.rpartition(".")[2]
        return name.startswith(("Get", "List", "Check")), f"wafv2:{name}"
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    return method == "GET", f"apigateway:{method} {path}"


_made: list[Any] = []


def _moto() -> Any:
    """Return the one WSGI application: importing it takes a second."""
    if not _made:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        _replace_whole_rule_groups()
        _remove_method_settings()
        _made.append(DomainDispatcherApplication(create_backend_app))
    return _made[0]


def _replace_whole_rule_groups() -> None:
    from moto.wafv2.models import WAFV2Backend

    theirs: Any = WAFV2Backend.update_rule_group

    def update(self: Any, **given: Any) -> Any:
        group = theirs(self, **given)
        group.description = given["description"] or ""
        group.custom_response_bodies = given["custom_response_bodies"]
        if not given["rules"]:
            group.rules = []
        return group

    patched: Any = WAFV2Backend
    patched.update_rule_group = update


def _remove_method_settings() -> None:
    from moto.apigateway.models import Stage

    theirs: Any = Stage.apply_operations

    def apply(self: Any, operations: list[dict[str, Any]]) -> Any:
        for each in operations:
            if each["op"] == "remove" and each["path"].startswith("/~1"):
                del self.method_settings[each["path"][1:]]
        return theirs(self, operations)

    patched: Any = Stage
    patched.apply_operations = apply


class AwsSubject(Subject):
    """A gateway in AWS. Subclasses make what an operator makes, in `install`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server = AwsServer()
        self.endpoint_url = self.server.url
        self.server.start()
        self.install()
        self.gateway = self.adapter()

    @abstractmethod
    def install(self) -> None: ...

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def close(self) -> None:
        self.server.close()

    def writes(self) -> object:
        return self.server.writes

    def garble(self) -> None:
        self._garbage = Garbage()
        self.endpoint_url = self._garbage.url
        self.gateway = self.adapter()

    def ungarble(self) -> None:
        self._garbage.close()
        self.endpoint_url = self.server.url
        self.gateway = self.adapter()

    @cached_property
    def kept_dir(self) -> Path:
        return self.directory / "kept"
