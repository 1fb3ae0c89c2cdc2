"""A real Envoy that watches its routes in a file."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from actions.gateway import EnvoyGateway
from bot.sandbox.envoy import EnvoyFiles, prepare
from tests.gateways.rig import API_KEYS, Rig

_TYPE = "type.googleapis.com/envoy"
_HTTP = "type.googleapis.com/envoy.extensions.filters.http"
CLIENT_HEADER = "x-api-client"


class EnvoyRig(Rig):
    """Envoy as ``deploy/gateways/envoy.example.yaml`` shows it, which also checks API keys."""

    kind = "envoy"
    adapter_class = EnvoyGateway
    cut = "actions.gateway.own_file:OwnFile.replace"

    files: EnvoyFiles

    def install(self) -> None:
        self.files = prepare(
            self.directory / "gateway",
            listen_port=self.port,
            admin_port=self.admin_port,
            upstream_port=self.upstream_port,
            jwks=self.tokens.jwks(),
        )
        bootstrap = json.loads(self.files.bootstrap.read_text())
        (listener,) = bootstrap["static_resources"]["listeners"]
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        manager["http_filters"] = [*checking_keys(), *manager["http_filters"]]
        self.files.bootstrap.write_text(json.dumps(bootstrap))
        self._base = self.files.base_routes.read_text()
        self._admin_url = f"http://127.0.0.1:{self.admin_port}"

    def argv(self) -> tuple[str, ...]:
        return self.files.argv

    def arguments(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "base_routes": self.files.base_routes,
            "rds_file": self.files.rds_file,
            "admin_url": self._admin_url,
            "endpoints": tuple(self.endpoints),
            "api_key_header": CLIENT_HEADER,
            # How long a gateway that is down is waited for is not what is tested.
            "take_timeout_s": 4.0 if self.process is not None else 0.2,
        }

    def writes(self) -> object:
        status = self.files.rds_file.stat()
        return status.st_ino, status.st_mtime_ns

    def export(self) -> bytes:
        return self.files.base_routes.read_bytes() + self.files.rds_file.read_bytes()

    def edit_theirs(self) -> None:
        base = json.loads(self.files.base_routes.read_text())
        answer = {"status": 200, "body": {"inline_string": "by their hand"}}
        route = {"name": "theirs", "match": {"path": "/theirs"}, "direct_response": answer}
        base["virtual_hosts"][0]["routes"].insert(0, route)
        self.files.base_routes.write_text(json.dumps(base))

    def has_their_edit(self) -> bool:
        return self.get("/theirs", None).body == b"by their hand"

    def edit_ours(self) -> None:
        content = json.loads(self.files.rds_file.read_text())
        content["resources"][0]["virtual_hosts"][0]["routes"] = []
        draft = self.directory / "by-hand.json"
        draft.write_text(json.dumps(content))
        draft.replace(self.files.rds_file)

    def refuse(self) -> None:
        base = json.loads(self._base)
        # Two virtual hosts of one domain: Envoy takes no such routes.
        base["virtual_hosts"].append({**base["virtual_hosts"][0], "name": "twin"})
        self.files.base_routes.write_text(json.dumps(base))
        self.gateway = self.adapter()

    def accept(self) -> None:
        self.files.base_routes.write_text(self._base)
        self.gateway = self.adapter()

    def garble(self) -> None:
        self._garbage = Garbage()
        self._admin_url = self._garbage.url
        self.gateway = self.adapter()

    def ungarble(self) -> None:
        self._garbage.close()
        self._admin_url = f"http://127.0.0.1:{self.admin_port}"
        self.gateway = self.adapter()

    def log_lines(self, path: str) -> list[dict[str, Any]]:
        text = self.files.access_log.read_text() if self.files.access_log.exists() else ""
        return [
            line for line in map(json.loads, text.splitlines()) if line["path"].startswith(path)
        ]


class Garbage:
    """An HTTP server that answers everything with 200 and nonsense."""

    def __init__(self, body: bytes = b'{"configs": [[1, 2], "\xff') -> None:
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def checking_keys() -> list[dict[str, Any]]:
    """Return filters that take the name of a key off what callers send, then check their key, if
    they send one, and write its name."""
    strip = {"request_mutations": [{"remove": CLIENT_HEADER}]}
    check = {
        "@type": f"{_HTTP}.api_key_auth.v3.ApiKeyAuth",
        "credentials": [{"key": key, "client": name} for name, key in API_KEYS.items()],
        "key_sources": [{"header": "x-api-key"}],
        "forwarding": {"header": CLIENT_HEADER, "hide_credentials": True},
    }
    has_key = {
        "single_predicate": {
            "input": {
                "name": "key",
                "typed_config": {
                    "@type": f"{_TYPE}.type.matcher.v3.HttpRequestHeaderMatchInput",
                    "header_name": "x-api-key",
                },
            },
            "value_match": {"safe_regex": {"google_re2": {}, "regex": ".+"}},
        }
    }
    skip = {
        "@type": "type.googleapis.com/envoy.extensions.filters.common.matcher.action.v3.SkipFilter"
    }
    return [
        {
            "name": "strip",
            "typed_config": {
                "@type": f"{_HTTP}.header_mutation.v3.HeaderMutation",
                "mutations": strip,
            },
        },
        {
            "name": "keys",
            "typed_config": {
                "@type": f"{_TYPE}.extensions.common.matching.v3.ExtensionWithMatcher",
                "extension_config": {
                    "name": "envoy.filters.http.api_key_auth",
                    "typed_config": check,
                },
                "xds_matcher": {
                    "matcher_list": {
                        "matchers": [
                            {
                                "predicate": {"not_matcher": has_key},
                                "on_match": {"action": {"name": "skip", "typed_config": skip}},
                            }
                        ]
                    }
                },
            },
        },
    ]
