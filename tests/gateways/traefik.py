"""A real Traefik that watches a folder, with the services that it needs beside it."""

from __future__ import annotations

import json
import sysconfig
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import yaml

from actions.gateway.adapters.traefik import TraefikGateway
from bot.model.answers import CLOSED, REFUSED, THROTTLED
from tests.gateways.envoy import Garbage
from tests.gateways.rig import API_KEYS, Rig
from tests.gateways.upstream import Tokens

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "gateways"
TRAEFIK = Path(sysconfig.get_path("scripts")) / "traefik"
BAD_URL = "http://127.0.0.1:none"


class TraefikRig(Rig):
    """Traefik as ``deploy/gateways/traefik.example.yaml`` and its routes show it."""

    kind = "traefik"
    adapter_class = TraefikGateway
    cut = "actions.gateway.own_file:OwnFile.replace"

    def install(self) -> None:
        self.folder = self.directory / "dynamic"
        self.folder.mkdir()
        self.own = self.folder / "firedoor.yml"
        self.theirs = self.folder / "routes.yml"
        self.side_port = self.take_port()
        self.side = Side(self.side_port, self.tokens)
        self._api_url = f"http://127.0.0.1:{self.admin_port}"
        self._responder_url = f"http://127.0.0.1:{self.side_port}"
        self.theirs.write_text(self.routes())
        (self.directory / "traefik.yml").write_text(self.static())

    def static(self) -> str:
        return replaced(
            (DEPLOY / "traefik.example.yaml").read_text(),
            {
                ":8080": f"127.0.0.1:{self.port}",
                "127.0.0.1:8082": f"127.0.0.1:{self.admin_port}",
                "/etc/traefik/dynamic": str(self.folder),
            },
        )

    def routes(self) -> str:
        return replaced(
            (DEPLOY / "traefik-routes.example.yaml").read_text(),
            {
                "http://orders.internal:8090": self.upstream.url,
                "http://auth.internal:8091": f"http://127.0.0.1:{self.side_port}",
            },
        )

    def start(self) -> None:
        super().start()
        self.restart_firedoor()  # with the patience for a gateway that runs

    def argv(self) -> tuple[str, ...]:
        return (str(TRAEFIK), f"--configFile={self.directory / 'traefik.yml'}")

    def close(self) -> None:
        super().close()
        self.side.close()

    def arguments(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dynamic_file": self.own,
            "drafts": self.directory / "drafts",
            "api_url": self._api_url,
            "metrics_url": f"http://127.0.0.1:{self.admin_port}/metrics",
            "responder_url": self._responder_url,
            "endpoints": tuple(self.endpoints),
            "identity": "auth@file",
            "claim_headers": {"sub": "X-Auth-Sub", "role": "X-Auth-Role"},
            "api_key_header": "X-Api-Client",
            # How long a gateway that is down is waited for is not what is tested.
            "take_timeout_s": 4.0 if self.process is not None else 0.2,
        }

    def writes(self) -> object:
        status = self.own.stat()
        return status.st_ino, status.st_mtime_ns

    def export(self) -> bytes:
        return self.theirs.read_bytes() + self.own.read_bytes()

    def edit_theirs(self) -> None:
        routes = yaml.safe_load(self.routes())
        away = {"regex": ".*", "replacement": "http://by.their.hand/"}
        routes["http"]["middlewares"]["away"] = {"redirectRegex": away}
        routes["http"]["routers"]["theirs"] = {
            "rule": "Path(`/theirs`)",
            "middlewares": ["away"],
            "service": "noop@internal",
        }
        self.write_theirs(routes)

    def has_their_edit(self) -> bool:
        return self.get("/theirs", None).headers.get("location") == "http://by.their.hand/"

    def write_theirs(self, routes: Any) -> None:
        self._put(self.theirs, yaml.safe_dump(routes))

    def reported(self, kind: str = "routers") -> Any:
        """Return what Traefik says of its objects, by name."""
        with urllib.request.urlopen(f"{self._api_url}/api/rawdata", timeout=5) as answer:
            return json.load(answer)[kind]

    def edit_ours(self) -> None:
        content = json.loads(self.own.read_text())
        content["http"]["routers"] = {}
        self._put(self.own, json.dumps(content))

    def refuse(self) -> None:
        # Traefik drops a router whose service it cannot build.
        self._responder_url = BAD_URL
        self.gateway = self.adapter()

    def accept(self) -> None:
        self._responder_url = f"http://127.0.0.1:{self.side_port}"
        self._put(self.theirs, self.routes())
        self.gateway = self.adapter()

    def garble(self) -> None:
        self._garbage = Garbage()
        self._api_url = self._garbage.url
        self.gateway = self.adapter()

    def ungarble(self) -> None:
        self._garbage.close()
        self._api_url = f"http://127.0.0.1:{self.admin_port}"
        self.gateway = self.adapter()

    def _put(self, path: Path, text: str) -> None:
        draft = self.directory / "by-hand"
        draft.write_text(text)
        draft.replace(path)


class Side:
    """
    What an operator runs beside a Traefik: a responder, for answers that Traefik does not have,
    and a service that says who a caller is.

    A bad token is refused; without one nobody is said to be anybody, and the request goes on.
    """

    def __init__(self, port: int, tokens: Tokens) -> None:
        names = {key: name for name, key in API_KEYS.items()}
        self.asked: list[tuple[str, dict[str, str]]] = []
        side = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                side.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                if self.path == "/verify":
                    self.verify()
                    return
                for answer in (CLOSED, THROTTLED, REFUSED):
                    if self.path == f"/answers/{answer.mark}":
                        self.say(200, dict(answer.headers), answer.body)
                        return
                self.say(404, {}, "")

            def verify(self) -> None:
                found = {}
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                if token:
                    try:
                        claims = jwt.decode(token, tokens.key.public_key(), algorithms=["RS256"])
                    except jwt.InvalidTokenError:
                        self.say(401, {}, "")
                        return
                    found = {"X-Auth-Sub": claims["sub"], "X-Auth-Role": claims["role"]}
                if name := names.get(self.headers.get("X-Api-Key", "")):
                    found["X-Api-Client"] = name
                self.say(200, found, "")

            def say(self, status: int, headers: dict[str, str], body: str) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def replaced(text: str, by: dict[str, str]) -> str:
    """Return an example with its placeholders replaced, each of which must be in it once."""
    for old, new in by.items():
        quoted = f'"{old}"'
        found = quoted if quoted in text else old
        assert text.count(found) == 1, old
        text = text.replace(found, new)
    return text
