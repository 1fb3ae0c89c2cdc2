"""The Kubernetes API, as far as gateways are told what to do by its objects.

It keeps what the real one keeps: a resource version for every write, 409 for a stale one, a
generation for every change of a spec, preconditions of a delete, ``Status`` bodies, tokens and
roles, default values. It has a controller that says in a route's status whether it takes it. No
proxy listens to it.
"""

from __future__ import annotations

import copy
import json
import re
import ssl
import threading
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bot.sandbox.processes import Ports

KINDS = {
    ("security.istio.io", "v1", "authorizationpolicies"): "AuthorizationPolicy",
    ("gateway.networking.k8s.io", "v1", "httproutes"): "HTTPRoute",
}
OPERATOR = "operator-token"

Key = tuple[str, str, str, str]
Answer = tuple[int, dict[str, Any]]

_PATH = re.compile(r"/apis/([^/]+)/([^/]+)/namespaces/([^/]+)/([^/]+)(?:/([^/]+))?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


class KubernetesApi:
    """
    ``writes`` counts writes that were done. ``refuses`` makes an admission policy refuse all;
    ``takes`` is what the controller says of a route; without ``controls`` it says nothing.

    Args:
        rules: Of the role of `token`'s bearer, as in a ``Role``.
    """

    def __init__(self, directory: Path, rules: Sequence[Mapping[str, Any]]) -> None:
        self._claimed = Ports()
        self.port = self._claimed.take()
        self.url = f"https://127.0.0.1:{self.port}"
        self.ca_file = directory / "ca.pem"
        self._key_file = directory / "key.pem"
        _write_certificate(self.ca_file, self._key_file)
        self.token = "firedoor-token"
        self.rules = rules
        self.objects: dict[Key, dict[str, Any]] = {}
        self.writes = 0
        self.refuses = False
        self.takes, self.controls = True, True
        self._version = 100
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        if self._server is None:
            self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
            self._server.daemon_threads = True
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.ca_file, self._key_file)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
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

    def as_operator(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Do something as ``kubectl`` does, by one who may do all."""
        status, answer = self.answer(method, path, OPERATOR, body)
        assert status < 300, answer
        return answer

    def export(self) -> list[Any]:
        """Return all objects without what the server alone writes."""
        found = []
        for key, stored in sorted(self.objects.items()):
            metadata = {
                name: stored["metadata"].get(name) for name in ("name", "labels", "annotations")
            }
            found.append([key, metadata, stored.get("spec")])
        return found

    def answer(self, method: str, path: str, token: str, body: Any) -> Answer:
        """Answer one request as the API server does."""
        split = urlsplit(path)
        found = _PATH.fullmatch(split.path)
        if token not in (self.token, OPERATOR):
            return _status(401, "Unauthorized", "Unauthorized")
        if found is None or (found[1], found[2], found[4]) not in KINDS:
            return 404, {}
        group, version, namespace, plural, name = found.groups()
        kind = KINDS[group, version, plural]
        verb = {"GET": "get" if name else "list", "POST": "create", "PUT": "update"}.get(
            method, "delete"
        )
        if token != OPERATOR and not self._may(verb, group, plural, name):
            words = f'{plural}.{group} is forbidden: User "firedoor" cannot {verb} {name or ""}'
            return _status(403, "Forbidden", words, name, plural)
        with self._lock:
            if verb == "list":
                return self._list((group, plural, namespace), kind, parse_qs(split.query))
            key = (group, plural, namespace, name or str(body["metadata"].get("name")))
            if verb == "get":
                there = self.objects.get(key)
                return (200, there) if there else _not_found(key)
            if self.refuses:
                words = (
                    'admission webhook "policy.acme.example" denied the request of '
                    f"Bearer {token}"  # they may say what they like
                )
                return _status(403, "Forbidden", words, key[3], plural)
            if verb == "delete":
                return self._delete(key, body or {})
            if body.get("kind") != kind or body.get("apiVersion") != f"{group}/{version}":
                return _status(400, "BadRequest", "the object is of another kind")
            return self._create(key, body) if verb == "create" else self._update(key, body)

    # --- verbs ---------------------------------------------------------------------------------

    def _list(
        self, where: tuple[str, str, str], kind: str, query: Mapping[str, list[str]]
    ) -> Answer:
        """Return at most ``limit`` objects, and from where to go on."""
        found = [each for key, each in sorted(self.objects.items()) if key[:3] == where]
        first = int(query.get("continue", ["0"])[0])
        limit = int(query.get("limit", ["500"])[0])
        rest = str(first + limit) if first + limit < len(found) else ""
        items = [{k: v for k, v in each.items() if k != "kind"} for each in found]
        metadata = {"resourceVersion": str(self._version), "continue": rest}
        page = items[first : first + limit]
        return 200, {"kind": f"{kind}List", "metadata": metadata, "items": page}

    def _create(self, key: Key, body: dict[str, Any]) -> Answer:
        metadata = body["metadata"]
        if key in self.objects:
            words = f'{key[1]}.{key[0]} "{key[3]}" already exists'
            return _status(409, "AlreadyExists", words, key[3], key[1])
        if metadata.get("resourceVersion"):
            words = "resourceVersion should not be set on objects to be created"
            return _status(400, "BadRequest", words)
        if not _NAME.fullmatch(key[3]):
            words = "metadata.name: Invalid value: a lowercase RFC 1123 subdomain is needed"
            return _status(422, "Invalid", words, key[3], key[1])
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        made = {"uid": str(uuid.uuid4()), "creationTimestamp": now, "generation": 1}
        stored = {**copy.deepcopy(body), "metadata": {**metadata, **made}}
        return 201, self._keep(key, stored)

    def _update(self, key: Key, body: dict[str, Any]) -> Answer:
        there = self.objects.get(key)
        if there is None:
            return _not_found(key)
        metadata, old = body["metadata"], there["metadata"]
        if not metadata.get("resourceVersion"):
            words = "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"
            return _status(422, "Invalid", words, key[3], key[1])
        if metadata["resourceVersion"] != old["resourceVersion"]:
            return _stale(key)
        if metadata.get("uid", old["uid"]) != old["uid"]:
            return _status(409, "Conflict", "Precondition failed: UID in precondition", key[3])
        fixed = {name: old[name] for name in ("uid", "creationTimestamp", "generation")}
        stored = _defaulted({**copy.deepcopy(body), "metadata": {**metadata, **fixed}})
        stored["status"] = there.get("status", {})  # has a path of its own
        if _content(stored) == _content(there):
            return 200, there
        if stored.get("spec") != there.get("spec"):
            stored["metadata"]["generation"] = old["generation"] + 1
        return 200, self._keep(key, stored)

    def _delete(self, key: Key, options: Mapping[str, Any]) -> Answer:
        there = self.objects.get(key)
        if there is None:
            return _not_found(key)
        for name, wanted in (options.get("preconditions") or {}).items():
            if there["metadata"][name] != wanted:
                return _stale(key)
        del self.objects[key]
        self.writes += 1
        return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    # --- inside --------------------------------------------------------------------------------

    def _may(self, verb: str, group: str, plural: str, name: str | None) -> bool:
        return any(
            verb in rule["verbs"]
            and group in rule["apiGroups"]
            and plural in rule["resources"]
            and ("resourceNames" not in rule or name in rule["resourceNames"])
            for rule in self.rules
        )

    def _keep(self, key: Key, stored: dict[str, Any]) -> dict[str, Any]:
        stored = _defaulted(stored)
        stored["metadata"]["namespace"] = key[2]
        stored["metadata"]["managedFields"] = [{"manager": "python-requests", "time": "now"}]
        stored["metadata"]["resourceVersion"] = self._next()
        self.objects[key] = stored
        self.writes += 1
        answer = copy.deepcopy(stored)
        if stored["kind"] == "HTTPRoute" and self.controls:
            self._report(stored)
        return answer

    def _report(self, route: dict[str, Any]) -> None:
        """Say of a route, as its controller, whether it is taken."""
        condition = {
            "type": "Accepted",
            "status": str(self.takes),
            "reason": "Accepted" if self.takes else "NotAllowedByListeners",
            "observedGeneration": route["metadata"]["generation"],
        }
        route["status"] = {
            "parents": [
                {"parentRef": each, "controllerName": "acme.example/c", "conditions": [condition]}
                for each in route["spec"]["parentRefs"]
            ]
        }
        route["metadata"]["resourceVersion"] = self._next()

    def _next(self) -> str:
        self._version += 1
        return str(self._version)


def _content(stored: Mapping[str, Any]) -> Any:
    metadata = stored["metadata"]
    return stored.get("spec"), metadata.get("labels"), metadata.get("annotations")


def _defaulted(stored: dict[str, Any]) -> dict[str, Any]:
    """Fill in what the definition of HTTPRoute has default values for."""
    if stored["kind"] == "HTTPRoute":
        for parent in stored["spec"].get("parentRefs", []):
            parent.setdefault("group", "gateway.networking.k8s.io")
            parent.setdefault("kind", "Gateway")
        for rule in stored["spec"].get("rules", []):
            for match in rule.setdefault("matches", [{}]):
                match.setdefault("path", {"type": "PathPrefix", "value": "/"})
                for header in match.get("headers", []):
                    header.setdefault("type", "Exact")
    return stored


def _status(
    code: int, reason: str, message: str, name: str | None = None, plural: str = ""
) -> Answer:
    details = {"name": name, "kind": plural} if name else {}
    return code, {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": message,
        "details": details,
        "code": code,
    }


def _not_found(key: Key) -> Answer:
    return _status(404, "NotFound", f'{key[1]}.{key[0]} "{key[3]}" not found', key[3], key[1])


def _stale(key: Key) -> Answer:
    words = (
        f'Operation cannot be fulfilled on {key[1]}.{key[0]} "{key[3]}": the object has been '
        "modified; please apply your changes to the latest version and try again"
    )
    return _status(409, "Conflict", words, key[3], key[1])


def _handler(api: KubernetesApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            body = json.loads(sent) if sent else None
            status, answer = api.answer(self.command, self.path, token, body)
            text = json.dumps(answer).encode() if answer else b"404 page not found\n"
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if answer else "text/plain")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_DELETE = handle_one

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def _write_certificate(ca_file: Path, key_file: Path) -> None:
    """Write a certificate for 127.0.0.1 that is signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
