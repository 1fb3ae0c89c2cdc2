"""The Kubernetes API, as far as one object of one's own needs it.

Preconditions are the server's: a write names the version that it was built on, and is refused if
there is another by now.
https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from bot.errors import BadInput, Conflict, ProviderRefused, ProviderUnreachable

TIMEOUTS_S = (3.0, 10.0)
"""For connecting, and between two bytes of an answer."""

MAX_MESSAGE = 300
"""Characters of the server's own words in ours."""

Object = Mapping[str, Any]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Place:
    """Where objects of one kind are: ``group`` and ``version`` of their API, ``kind``, ``plural``
    and ``namespace``."""

    group: str
    version: str
    kind: str
    plural: str
    namespace: str

    @property
    def path(self) -> str:
        return f"/apis/{self.group}/{self.version}/namespaces/{self.namespace}/{self.plural}"


class KubernetesClient:
    """
    May be used from several threads.

    Args:
        gateway: Name of the gateway, for messages.

        server: ``https://host:port`` of the API server. Without TLS on loopback only.

        token_file: Holds the bearer token. Read for each call: tokens of service accounts rotate.

        ca_file: The certificate that signs the API server's; None for those that are trusted by
            everybody.

    Raises:
        BadInput: The token would be sent in the clear.
    """

    def __init__(
        self, *, gateway: str, server: str, token_file: Path, ca_file: Path | None
    ) -> None:
        self._gateway, self._server = gateway, server.rstrip("/")
        self._token_file, self._ca_file = token_file, ca_file
        split = urlsplit(self._server)
        if split.scheme != "https" and split.hostname not in _LOOPBACK:
            raise BadInput(
                f"{server} of gateway {gateway} has no TLS, so its token could be read on the way; "
                "nothing was asked. Write https://."
            )
        self._asking = threading.Lock()
        self._http = requests.Session()
        self._http.trust_env = False

    def find(self, place: Place, name: str) -> Object | None:
        """Return an object; None if there is none of that name.

        Raises:
            ProviderUnreachable: There is no answer that says what is there.
        """
        response = self._send("GET", f"{place.path}/{name}")
        body = _body(response)
        if response.status_code == 404 and (body.get("details") or {}).get("name") == name:
            return None
        if response.status_code != 200 or body.get("kind") != place.kind:
            raise self._unreadable(response, body, f"{place.plural} {name}")
        return body

    def list(self, place: Place) -> list[Object]:
        """Return all objects of a kind in a namespace. Raises ProviderUnreachable."""
        found: list[Object] = []
        more = ""
        while True:
            response = self._send("GET", f"{place.path}?limit=500{more}")
            body = _body(response)
            items = body.get("items")
            if response.status_code != 200 or not isinstance(items, list):
                raise self._unreadable(response, body, place.plural)
            found += items
            token = (body.get("metadata") or {}).get("continue")
            if not token:
                return found
            more = f"&continue={token}"

    def create(self, place: Place, manifest: Object) -> None:
        """Make an object. Raises Conflict if it exists, ProviderRefused, ProviderUnreachable."""
        self._write("POST", place.path, manifest)

    def replace(self, place: Place, manifest: Object) -> None:
        """Replace an object that is still of the version in ``manifest``.

        Raises:
            Conflict: It is of another by now, or gone; nothing was written.
        """
        self._write("PUT", f"{place.path}/{manifest['metadata']['name']}", manifest)

    def delete(self, place: Place, seen: Object) -> None:
        """Remove an object that is still the one that was seen, and as it was seen.

        Raises:
            Conflict: It is another by now, or gone; nothing was written.
        """
        metadata = seen["metadata"]
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
        }
        self._write("DELETE", f"{place.path}/{metadata['name']}", options)

    # --- inside --------------------------------------------------------------------------------

    def _write(self, method: str, path: str, body: Object) -> None:
        response = self._send(method, path, body)
        status, answer = response.status_code, _body(response)
        if status in (200, 201, 202) and answer.get("kind"):
            return
        said = f"The Kubernetes API of gateway {self._gateway} answers {_said(response, answer)}"
        if answer.get("kind") != "Status" or status >= 500 or status == 429:
            raise ProviderUnreachable(
                f"{said} to {method} {path}; it may not have taken the change. It is tried again; "
                "look at the API server if it stays so.",
                retry_after_s=_retry_after_s(response),
            )
        if status == 409 or (status == 404 and method != "POST"):
            raise Conflict(
                f"{said}: another writer was faster; nothing was written. It is read and tried "
                "again."
            )
        raise ProviderRefused(
            f"{said} to {method} {path}; the gateway stays as it was. "
            + (
                "Grant Firedoor's service account the right to it, or see which policy refuses it."
                if status in (401, 403)
                else "See what the gateway's installation takes."
            )
        )

    def _unreadable(
        self, response: requests.Response, body: Object, what: str
    ) -> ProviderUnreachable:
        return ProviderUnreachable(
            f"The Kubernetes API of gateway {self._gateway} at {self._server} answers "
            f"{_said(response, body)} when asked for {what}; nothing is known of the gateway. See "
            "whether its token may read it, and whether its kind is installed there.",
            retry_after_s=_retry_after_s(response),
        )

    def _send(self, method: str, path: str, body: Object | None = None) -> requests.Response:
        try:
            token = self._token_file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise ProviderUnreachable(
                f"The token of gateway {self._gateway} cannot be read from {self._token_file} "
                f"({type(error).__name__}); nothing was asked. Mend the file or its rights."
            ) from None
        try:
            with self._asking:
                return self._http.request(
                    method,
                    f"{self._server}{path}",
                    json=body,
                    headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
                    timeout=TIMEOUTS_S,
                    allow_redirects=False,
                    verify=True if self._ca_file is None else str(self._ca_file),
                )
        except (requests.RequestException, OSError, ValueError) as error:
            raise ProviderUnreachable(
                f"The Kubernetes API of gateway {self._gateway} at {self._server} gives no answer "
                f"({type(error).__name__}); nothing is known of the gateway. See whether it runs, "
                "and whether the CA file is its own."
            ) from None


def _body(response: requests.Response) -> Object:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _said(response: requests.Response, body: Object) -> str:
    """Return the status and, if the server is a Kubernetes API, its reason and words; without the
    token, should they repeat it: it changes, so the redactor does not know it."""
    if body.get("kind") != "Status":
        return str(response.status_code)
    reason, message = body.get("reason", ""), str(body.get("message", ""))
    token = (response.request.headers.get("Authorization") or "").removeprefix("Bearer ")
    message = message.replace(token, "[redacted]") if token else message
    printable = "".join(char if char.isprintable() else " " for char in message)
    return f"{response.status_code} {reason} ({printable[:MAX_MESSAGE]})"


def _retry_after_s(response: requests.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else None
