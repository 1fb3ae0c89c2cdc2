"""A real Caddy that is changed over its administration API, and a verifier beside it."""

from __future__ import annotations

import base64
import sysconfig
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from actions.gateway.adapters.caddy import CaddyGateway
from tests.gateways.envoy import Garbage
from tests.gateways.rig import API_KEYS, Rig
from tests.gateways.upstream import Tokens

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "gateways" / "caddy.example.json"
SERVER = "edge"
ROUTES = f"apps/http/servers/{SERVER}/routes"
THEIRS = {
    "match": [{"path": ["/theirs"]}],
    "handle": [{"handler": "static_response", "body": "by their hand"}],
    "terminal": True,
}


class CaddyRig(Rig):
    """
    Caddy as ``deploy/gateways/caddy.example.json`` shows it: the adapter comes in by
    ``admin.remote``, with the rights that stand there; operators come in by ``admin.listen``.

    ``resumes``: whether a start goes on with what was configured last, or forgets it.
    """

    kind = "caddy"
    adapter_class = CaddyGateway
    cut = "requests:Session.send"
    resumes = False

    def install(self) -> None:
        self._config = self.directory / "caddy.json"
        self._certificate = self.directory / "firedoor.pem"
        self.kept_dir = self.directory / "kept"
        self.remote_port = self.take_port()
        self.verifier = Verifier(self.tokens)
        self._admin_url = f"https://127.0.0.1:{self.remote_port}"
        text = EXAMPLE.read_text()
        for placeholder, value in (
            ("127.0.0.1:2019", f"127.0.0.1:{self.admin_port}"),
            ("edge.internal", "127.0.0.1"),
            (":2021", f"127.0.0.1:{self.remote_port}"),
            ("FIREDOOR_CERTIFICATE_DER_IN_BASE64", write_certificate(self._certificate)),
            (":8080", f"127.0.0.1:{self.port}"),
            ("orders.internal:8090", f"127.0.0.1:{self.upstream_port}"),
        ):
            assert text.count(f'"{placeholder}"') == 1, placeholder
            text = text.replace(f'"{placeholder}"', f'"{value}"')
        self._config.write_text(text)

    def argv(self) -> tuple[str, ...]:
        binary = Path(sysconfig.get_path("scripts")) / "caddy"
        # It keeps its authority and what it saves in these folders.
        folders = (f"XDG_CONFIG_HOME={self.directory}", f"XDG_DATA_HOME={self.directory}")
        resume = ("--resume",) if self.resumes else ()
        return ("env", *folders, str(binary), "run", "--config", str(self._config), *resume)

    def close(self) -> None:
        super().close()
        self.verifier.close()

    def arguments(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "admin_url": self._admin_url,
            "server": SERVER,
            "kept_dir": self.kept_dir,
            "endpoints": tuple(self.endpoints),
            "verifier": self.verifier.url,
            "claim_headers": {"sub": "x-verified-sub", "role": "x-verified-role"},
            "api_key_header": "x-verified-key",
            "client_certificate": self._certificate,
            "ca_file": self.directory / "caddy/pki/authorities/local/root.crt",
        }

    def operator(self, method: str, path: str, value: Any = None) -> requests.Response:
        """Do something as an operator: over the local interface, and without an If-Match."""
        with requests.Session() as session:
            session.trust_env = False
            url = f"http://127.0.0.1:{self.admin_port}/{path}"
            body = {} if value is None else {"json": value}
            answer = session.request(
                method, url, headers={"Connection": "close"}, timeout=5, **body
            )
        assert answer.status_code == 200, answer.text
        return answer

    def routes(self) -> list[Any]:
        found: list[Any] = self.operator("GET", f"config/{ROUTES}").json()
        return found

    def writes(self) -> object:
        name = "caddy_config_last_reload_success_timestamp_seconds"
        lines = self.operator("GET", "metrics").text.splitlines()
        return [line for line in lines if line.startswith(name)]

    def export(self) -> bytes:
        return self.operator("GET", "config/").content

    def edit_theirs(self) -> None:
        at = len(self.routes()) - 1
        self.operator("PUT", f"config/{ROUTES}/{at}", THEIRS)

    def has_their_edit(self) -> bool:
        return self.get("/theirs", None).body == b"by their hand"

    def edit_ours(self) -> None:
        self.operator("PATCH", f"id/firedoor-{SERVER}/handle/1/routes", [])

    def refuse(self) -> None:
        # What a configuration needs to load is looked at anew with each change of it.
        authority = self.directory / "upstream-ca.pem"
        authority.write_text((self.directory / "caddy/pki/authorities/local/root.crt").read_text())
        proxy = {
            "handler": "reverse_proxy",
            "upstreams": [{"dial": "orders.internal:443"}],
            "transport": {
                "protocol": "http",
                "tls": {"ca": {"provider": "file", "pem_files": [str(authority)]}},
            },
        }
        named = {"brittle": {"handle": [proxy]}}
        self.operator("PUT", f"config/apps/http/servers/{SERVER}/named_routes", named)
        authority.unlink()

    def accept(self) -> None:
        if self.process is None:
            return  # it comes back with what it was installed with
        for at, route in reversed(list(enumerate(self.routes()))):
            if route == THEIRS:
                self.operator("DELETE", f"config/{ROUTES}/{at}")
        server = f"config/apps/http/servers/{SERVER}"
        if "named_routes" in self.operator("GET", server).json():
            self.operator("DELETE", f"{server}/named_routes")

    def garble(self) -> None:
        self._garbage = Garbage()
        self._admin_url = self._garbage.url
        self.gateway = self.adapter()

    def ungarble(self) -> None:
        self._garbage.close()
        self._admin_url = f"https://127.0.0.1:{self.remote_port}"
        self.gateway = self.adapter()


class Verifier:
    """
    Says who sent a request: by a token's signature, and by a key that it knows.

    ``asked`` holds method, path, headers and body of what it was asked with.
    """

    def __init__(self, tokens: Tokens) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.fails_with: int | None = None
        verifier = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                verifier.asked.append((self.command, self.path, dict(self.headers), body))
                status, found = verifier.judge(
                    self.headers.get("Authorization", ""), self.headers.get("X-Api-Key", ""), tokens
                )
                self.send_response(verifier.fails_with or status)
                for name, value in {**found, "Content-Length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/verify"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def judge(self, authorization: str, key: str, tokens: Tokens) -> tuple[int, dict[str, str]]:
        found = {}
        names = [name for name, known in API_KEYS.items() if known == key]
        if names:
            found["X-Verified-Key"] = names[0]
        try:
            public = tokens.key.public_key()
            claims = jwt.decode(authorization.removeprefix("Bearer "), public, ["RS256"])
        except jwt.InvalidTokenError:
            return (200, found) if names else (401, {})
        return 200, {**found, "X-Verified-Sub": claims["sub"], "X-Verified-Role": claims["role"]}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def write_certificate(file: Path) -> str:
    """Write a certificate that signs itself, with its key; return it as Caddy's rights name it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "firedoor")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
