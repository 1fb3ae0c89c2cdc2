"""A real nginx that reads Firedoor's file when it is told to reload."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

from actions.gateway.adapters.nginx import NginxGateway
from actions.gateway.adapters.nginx.processes import still_there, workers_of
from tests.gateways.rig import API_KEYS, Rig
from tests.gateways.upstream import until

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "gateways" / "nginx.example.conf"
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
THEIRS = "location = /theirs { return 200 'by their hand'; }"


def find_nginx() -> str | None:
    """Return the path of nginx. It is mostly where only root looks for programs."""
    return shutil.which("nginx", path=f"{os.defpath}:/usr/local/sbin:/usr/sbin:/sbin")


class NginxRig(Rig):
    """nginx as ``deploy/gateways/nginx.example.conf`` shows it, in a directory of its own."""

    kind = "nginx"
    adapter_class = NginxGateway
    cut = "actions.gateway.own_file:OwnFile.replace"

    @classmethod
    def missing(cls) -> str:
        return "" if find_nginx() else "nginx is not installed"

    def install(self) -> None:
        self.root = self.directory / "nginx"
        self.own = self.root / "firedoor" / "http.conf"
        self.conf = self.root / "nginx.conf"
        (self.root / "log").mkdir(parents=True)
        keys = [f'"~^{key}$" {name};\n' for name, key in API_KEYS.items()]
        (self.root / "api-clients.map").write_text("".join(keys))
        self._conf = self._configured(EXAMPLE.read_text())
        self.conf.write_text(self._conf)

    def _configured(self, text: str) -> str:
        """Return the example for this machine: its addresses, and only files in the directory."""
        temporary = "".join(f"    {name}_temp_path {self.root}/{name};\n" for name in TEMPORARY)
        places = {
            "user www-data;": "user root;",
            "worker_processes auto;": "worker_processes 2;",
            # A connection that sends nothing keeps an old worker for so long.
            "client_header_timeout 5s;": "client_header_timeout 1s;",
            "/run/nginx.pid": f"{self.root}/nginx.pid",
            "/var/log/nginx": f"{self.root}/log",
            "/var/lib/firedoor-nginx": str(self.own.parent),
            "/etc/nginx": str(self.root),
            "listen 8080": f"listen 127.0.0.1:{self.port}",
            "orders.internal:8090": f"127.0.0.1:{self.upstream_port}",
            "verifier.internal:8091": f"127.0.0.1:{self.upstream_port}",
            "\nhttp {\n": f"\nhttp {{\n{temporary}",
        }
        for example, here in places.items():
            assert example in text, f"{EXAMPLE} has no {example!r} any more"
            text = text.replace(example, here)
        return text

    def argv(self) -> tuple[str, ...]:
        return (*self._nginx(), "-g", "daemon off;")

    def _nginx(self) -> tuple[str, ...]:
        return (find_nginx() or "nginx", "-p", str(self.root), "-c", str(self.conf))

    def arguments(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "own_file": self.own,
            "status_address": f"127.0.0.1:{self.admin_port}",
            "pid_file": self.root / "nginx.pid",
            "test_command": (*self._nginx(), "-t"),
            "endpoints": tuple(self.endpoints),
            "api_key_variable": "api_client",
            "claim_variables": {"sub": "verified_sub", "role": "verified_role"},
            "shadow_log": self.own.parent / "shadow.log",
            # How long nonsense is listened to is not what is tested.
            "take_timeout_s": 0.5 if "nonsense" in self.conf.read_text() else 10.0,
        }

    def writes(self) -> object:
        status = self.own.stat()
        return status.st_ino, status.st_mtime_ns

    def export(self) -> bytes:
        return self.conf.read_bytes() + self.own.read_bytes()

    def edit_theirs(self) -> None:
        self._edit("merge_slashes on;", f"merge_slashes on; {THEIRS}")
        self.reload()

    def has_their_edit(self) -> bool:
        return self.get("/theirs", None).body == b"by their hand"

    def edit_ours(self) -> None:
        content = self.own.read_text()
        assert '"closed"' in content
        self.own.write_text(content.replace('"closed"', '""'))

    def refuse(self) -> None:
        # nginx takes all of its configuration or nothing.
        self._edit("merge_slashes on;", "merge_slashes perhaps;")

    def accept(self) -> None:
        if self.conf.read_text() != self._conf:
            self.conf.write_text(self._conf)
            self.reload()

    def garble(self) -> None:
        """Have nginx itself answer nonsense where its status is asked for."""
        address = f"127.0.0.1:{self.admin_port}"
        garbage = f"server {{ listen {address} default_server; return 200 '[nonsense'; }}"
        self._edit("\nhttp {\n", f"\nhttp {{\n    {garbage}\n")
        self.reload()
        self.gateway = self.adapter()

    def ungarble(self) -> None:
        self.accept()
        self.gateway = self.adapter()

    def _edit(self, old: str, new: str) -> None:
        text = self.conf.read_text()
        assert old in text
        self.conf.write_text(text.replace(old, new, 1))

    def reload(self) -> None:
        """Be an operator who reloads, and waits until it is done."""
        if self.process is None:
            return
        old = workers_of(self.process.pid)
        self.process.send_signal(signal.SIGHUP)
        until(lambda: not still_there(old), "the old workers to end")
