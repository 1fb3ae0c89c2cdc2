"""The yardstick at each gateway: what a bare script does to close an endpoint, and to look at it.

It was written for one endpoint: what it sends is prepared, and it plans, remembers and compares
nothing. It waits for the gateway's own word as Firedoor does, since without it the proof would
begin too early. Its proof sends the very requests that Firedoor's has sent, by the same library.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from actions.gateway.adapters.nginx.processes import workers_of
from actions.gateway.adapters.nginx.server import STATUS_PATH
from actions.probe.prober import Answer, Line
from bot.model.containment import Control
from tests.gateways.caddy import ROUTES, CaddyRig
from tests.gateways.envoy import EnvoyRig
from tests.gateways.haproxy import HaproxyRig
from tests.gateways.nginx import NginxRig
from tests.gateways.rig import Rig
from tests.gateways.traefik import TraefikRig

POLL_S = 0.001


@dataclass(frozen=True)
class Calls:
    """The two control calls of a script; each returns once the gateway itself says so."""

    close: Callable[[], None]
    open: Callable[[], None]


def calls(rig: Rig, control: Control) -> Calls:
    """Prepare a script for one gateway. The gateway is open afterwards."""
    return SCRIPTS[rig.kind](rig, control)


def _by_file(
    rig: Rig, control: Control, file: Path, path: str, reports: Callable[[bytes, str], bool]
) -> Calls:
    """Prepare calls that put a file in place and ask until the version is reported."""
    contents: list[tuple[bytes, str]] = []
    for controls in ([control], []):
        version = rig.gateway.converge(controls)
        contents.append((file.read_bytes(), version))
    draft = file.parent.parent / "bare-script.part"
    admin = http.client.HTTPConnection("127.0.0.1", rig.admin_port, timeout=5)

    def put(content: bytes, version: str) -> None:
        draft.write_bytes(content)
        draft.replace(file)
        while True:
            admin.request("GET", path)
            if reports(admin.getresponse().read(), version):
                return
            time.sleep(POLL_S)

    closed, opened = contents
    return Calls(lambda: put(*closed), lambda: put(*opened))


def _envoy(rig: Rig, control: Control) -> Calls:
    assert isinstance(rig, EnvoyRig)
    path = "/config_dump?resource=dynamic_route_configs&mask=version_info"
    return _by_file(rig, control, rig.files.rds_file, path, lambda body, v: v.encode() in body)


def _traefik(rig: Rig, control: Control) -> Calls:
    assert isinstance(rig, TraefikRig)
    return _by_file(rig, control, rig.own, "/api/rawdata", lambda body, v: v.encode() in body)


def _caddy(rig: Rig, control: Control) -> Calls:
    assert isinstance(rig, CaddyRig)
    rig.gateway.converge([control])
    route = json.dumps(rig.routes()[0])
    rig.gateway.converge([])
    # By the door that Firedoor uses, with its certificate.
    trusted = ssl.create_default_context(cafile=str(rig.arguments()["ca_file"]))
    trusted.load_cert_chain(rig.arguments()["client_certificate"])

    def send(method: str, body: str | None) -> None:
        # Caddy restarts its admin listener with each change, and ends its connections.
        admin = http.client.HTTPSConnection(
            "127.0.0.1", rig.remote_port, timeout=5, context=trusted
        )
        headers = {"Content-Type": "application/json", "Connection": "close"}
        admin.request(method, f"/config/{ROUTES}/0", body, headers)
        answer = admin.getresponse()
        assert answer.status == 200, answer.read()
        admin.close()

    return Calls(lambda: send("PUT", route), lambda: send("DELETE", None))


def _haproxy(rig: Rig, control: Control) -> Calls:
    """One map decides; the lists of callers are empty for a close."""
    assert isinstance(rig, HaproxyRig)
    file = rig.maps_dir / "routes.map"
    contents = []
    for controls in ([control], []):
        rig.gateway.converge(controls)
        contents.append(file.read_text())

    def ask(command: str) -> str:
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(rig.socket))
            line.sendall(command.encode())
            line.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: line.recv(65536), b"")).decode()

    def put(content: str) -> None:
        version = ask(f"prepare map {file}\n").rpartition(":")[2].strip()
        ask(f"add map @{version} {file} <<\n{content}\n")
        ask(f"commit map @{version} {file}\n")
        draft = rig.home / "bare-script.part"
        draft.write_text(content)
        draft.replace(file)
        while len(ask(f"show map {file}\n").splitlines()) < content.count("\n"):
            time.sleep(POLL_S)

    closed, opened = contents
    return Calls(lambda: put(closed), lambda: put(opened))


def _nginx(rig: Rig, control: Control) -> Calls:
    """nginx says its version at once, and old workers answer until they have ended."""
    assert isinstance(rig, NginxRig)
    arguments = rig.arguments()
    contents = []
    for controls in ([control], []):
        version = rig.gateway.converge(controls)
        contents.append((rig.own.read_bytes(), version))

    def put(content: bytes, version: str) -> None:
        draft = rig.root / "bare-script.part"
        draft.write_bytes(content)
        draft.replace(rig.own)
        subprocess.run(arguments["test_command"], check=True, capture_output=True)
        master = int((rig.root / "nginx.pid").read_text())
        old = [each.pid for each in workers_of(master)]
        os.kill(master, signal.SIGHUP)
        while version.encode() not in _asked(rig.admin_port) or any(
            Path(f"/proc/{pid}").exists() for pid in old
        ):
            time.sleep(POLL_S)

    closed, opened = contents
    return Calls(lambda: put(*closed), lambda: put(*opened))


def _asked(port: int) -> bytes:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        line.request("GET", STATUS_PATH)
        return line.getresponse().read()
    finally:
        line.close()


SCRIPTS: dict[str, Callable[[Rig, Control], Calls]] = {
    "envoy": _envoy,
    "haproxy": _haproxy,
    "nginx": _nginx,
    "traefik": _traefik,
    "caddy": _caddy,
}


# --- the proof -----------------------------------------------------------------------------------


@dataclass
class Recorded:
    """The requests of a proof, in order: on which connection, where to, what, and what came."""

    requests: list[tuple[int, str, str, str, dict[str, str], bytes | None, int]] = field(
        default_factory=list
    )

    def replay(self) -> None:
        """Send them all again, as a bare script would. Raises AssertionError on another answer."""
        number, line = -1, None
        for on, url, method, path, headers, body, status in self.requests:
            if on != number:
                if line is not None:
                    line.close()
                address = urlsplit(url)
                number, line = (
                    on,
                    http.client.HTTPConnection(str(address.hostname), address.port, timeout=5),
                )
            assert line is not None
            line.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
            for name, value in headers.items():
                line.putheader(name, value)
            if body is not None:
                line.putheader("Content-Length", str(len(body)))
            line.endheaders(body)
            answer = line.getresponse()
            answer.read()
            assert answer.status == status, (method, path, answer.status, status)
        if line is not None:
            line.close()


@contextmanager
def recording() -> Iterator[Recorded]:
    """Record what every probe sends while this is open."""
    recorded, real = Recorded(), Line._send
    connections: dict[int, int] = {}

    def send(
        line: Line, method: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> Answer:
        answer = real(line, method, path, headers, body)
        on = connections.setdefault(id(line), len(connections))
        kept.append(line)
        recorded.requests.append((on, line._url, method, path, headers, body, answer.status))
        return answer

    kept: list[Any] = []  # so that no two lines have the same id
    Line._send = send  # type: ignore[method-assign]
    try:
        yield recorded
    finally:
        Line._send = real  # type: ignore[method-assign]
