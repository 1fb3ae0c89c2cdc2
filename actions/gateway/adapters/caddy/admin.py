"""Caddy's administration API, as far as Firedoor uses it: the routes of one server.

Every change goes with ``If-Match``, which holds a path and a hash of what is configured there, so
Caddy refuses it with 412 if somebody was faster. It would take a change without it as well. An
answer comes once the new configuration serves; a configuration that does not load is answered
with an error, and Caddy goes on with the one before, in memory and in what it saves.

https://caddyserver.com/docs/api#concurrent-config-changes
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter

from bot.errors import Conflict, ProviderRefused, ProviderUnreachable

READ_TIMEOUT_S = 5.0
WRITE_TIMEOUT_S = 15.0
"""Caddy answers once the new configuration serves, which took 3 to 10 ms here."""

READS = 3
REST_S = 0.05
"""A change by anyone replaces Caddy's listeners, and may reset a connection that is being opened;
reading is tried again after this long."""

MAX_SAID = 300
REFUSALS = ("loading new config", "indexing config")


class AdminApi:
    """
    Args:
        server: Key of the server under ``apps.http.servers``.

        client_certificate: PEM file with a certificate and its key to be known by, and
            ``ca_file``: with what signed Caddy's own. For ``admin.remote``.
    """

    def __init__(
        self,
        gateway: str,
        url: str,
        server: str,
        *,
        client_certificate: Path | None = None,
        ca_file: Path | None = None,
    ) -> None:
        self._gateway, self._url, self._server = gateway, url.rstrip("/"), server
        self._path = f"/config/apps/http/servers/{quote(server, safe='')}"
        self._certificate = client_certificate
        self._ca_file = ca_file
        self._asking = threading.Lock()
        self._session: requests.Session | None = None
        self._context: tuple[tuple[int, ...], ssl.SSLContext] | None = None

    def routes(self) -> tuple[list[Any], str]:
        """Return the server's routes, and the ETag that stands for them."""
        answer = self._read("routes")
        etag = answer.headers.get("ETag", "")
        routes = self._json(answer)
        if not isinstance(routes, list):
            raise ProviderUnreachable(
                f"Gateway {self._gateway} has no routes in a server {self._server!r}; nothing is "
                "known of its containments. Name the server as Caddy's configuration does, under "
                "`apps.http.servers`."
            )
        if not etag.startswith('"/config/'):
            raise self._not_caddy(answer)
        return routes, etag

    def setting(self, name: str) -> Any:
        """Return a setting of the server; None if it is not set."""
        return self._json(self._read(name))

    def write(
        self, method: Literal["PUT", "PATCH", "DELETE"], at: str, value: Any, etag: str
    ) -> None:
        """
        Change something below the server: PUT inserts, PATCH replaces, DELETE takes out.

        Raises:
            Conflict: The routes are not those that ``etag`` stands for; nothing was written.

            ProviderRefused: Caddy refuses the configuration; the one before serves on.

            ProviderUnreachable: No usable answer; it may have been written.
        """
        headers = {"If-Match": etag, "Content-Type": "application/json"}
        body = None if method == "DELETE" else json.dumps(value).encode()
        try:
            answer = self._send(method, at, WRITE_TIMEOUT_S, headers, body)
        except OSError as error:  # requests' own are of it, and a missing file's too
            raise self._silent(error, "the change may have been made or not") from None
        if answer.status_code == 200:
            return
        said = _said(answer)
        if answer.status_code == 412:
            raise Conflict(
                f"The routes of gateway {self._gateway} were changed by another writer just now; "
                "nothing was written. They are read and tried again."
            )
        if answer.status_code in (401, 403):
            raise ProviderRefused(
                f"Gateway {self._gateway} does not let Firedoor change its routes "
                f"({answer.status_code}: {said}); nothing was written. Allow GET, PUT, PATCH and "
                f"DELETE on {self._path}/routes in `admin.remote.access_control`."
            )
        if said and (answer.status_code == 400 or said.startswith(REFUSALS)):
            raise ProviderRefused(
                f"Gateway {self._gateway} refuses the configuration ({said}); the one before "
                "serves on. Look at what the operators' own part of it needs to load."
            )
        raise self._not_caddy(answer)

    # --- HTTP ----------------------------------------------------------------------------------

    def _read(self, at: str) -> requests.Response:
        for left in reversed(range(READS)):
            try:
                answer = self._send("GET", at, READ_TIMEOUT_S)
                break
            except requests.Timeout as error:
                raise self._silent(error, "nothing is known of its containments") from None
            except OSError as error:  # requests' own are of it, and a missing file's too
                if not left:
                    raise self._silent(error, "nothing is known of its containments") from None
                time.sleep(REST_S)
        if answer.status_code in (401, 403):
            raise ProviderUnreachable(
                f"Gateway {self._gateway} does not let Firedoor read {self._path}/{at} "
                f"({answer.status_code}: {_said(answer)}); nothing is known of its containments. "
                "Allow it in `admin.remote.access_control`."
            )
        if answer.status_code == 400 and "invalid traversal path" in _said(answer):
            raise ProviderUnreachable(
                f"Gateway {self._gateway} has no server {self._server!r}; nothing is known of its "
                "containments. Name it as Caddy's configuration does, under `apps.http.servers`, "
                "and see that the configuration is loaded."
            )
        if answer.status_code != 200:
            raise self._not_caddy(answer)
        return answer

    def _send(
        self,
        method: str,
        at: str,
        timeout_s: float,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> requests.Response:
        with self._asking:
            session = self._session or self._opened()
            # Each change ends kept connections, by whomever it is: one is kept for what is read
            # and then written at once, since the handshake takes longer than both.
            self._session = session if method == "GET" else None
            try:
                return session.request(
                    method,
                    f"{self._url}{self._path}/{at}",
                    headers=headers,
                    data=body,
                    timeout=timeout_s,
                    allow_redirects=False,
                )
            except OSError:  # requests' own are of it
                self._session = None
                raise
            finally:
                if self._session is None:
                    session.close()

    def _opened(self) -> requests.Session:
        """Raises OSError if a file of a certificate cannot be read, or holds none."""
        session = requests.Session()
        # No proxy, certificate or password of the environment's.
        session.trust_env = False
        if self._url.lower().startswith("https:"):
            session.mount(self._url, _Trusting(self._trusted()))
        return session

    def _trusted(self) -> ssl.SSLContext:
        """Return what connections are made with; made anew when a file was renewed, as making it
        takes as long as a handshake."""
        files = [Path(self._ca_file or requests.utils.DEFAULT_CA_BUNDLE_PATH), self._certificate]
        read = tuple(file.stat().st_mtime_ns for file in files if file is not None)
        if self._context is None or self._context[0] != read:
            context = ssl.create_default_context(cafile=str(files[0]))
            if self._certificate is not None:
                context.load_cert_chain(self._certificate)
            self._context = read, context
        return self._context[1]

    def _json(self, answer: requests.Response) -> Any:
        try:
            return answer.json()
        except ValueError:
            raise self._not_caddy(answer) from None

    def _silent(self, error: Exception, consequence: str) -> ProviderUnreachable:
        return ProviderUnreachable(
            f"The admin interface of gateway {self._gateway} at {self._url} gives no answer "
            f"({type(error).__name__}); {consequence}. See whether Caddy runs, and whether its "
            "`admin` lets Firedoor in."
        )

    def _not_caddy(self, answer: requests.Response) -> ProviderUnreachable:
        return ProviderUnreachable(
            f"The admin interface of gateway {self._gateway} at {self._url} gives an answer that "
            f"is not Caddy's ({answer.status_code}); nothing is known of its containments. See "
            "what listens there."
        )


class _Trusting(HTTPAdapter):
    """Makes connections with a context as it is; requests alone would read the files for each."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, **more, ssl_context=self._context)

    def cert_verify(self, *_arguments: Any) -> None:
        """The context says whom to trust; nobody else is added."""


def _said(answer: requests.Response) -> str:
    """Return what Caddy says of an error; empty if it is not Caddy that says it."""
    try:
        return str(answer.json()["error"])[:MAX_SAID]
    except (ValueError, TypeError, KeyError):
        return ""
