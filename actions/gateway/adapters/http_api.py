"""An administration API that speaks JSON over HTTP: what every adapter of one needs.

A call ends in a JSON value or in one of three errors, whatever the other side does:

- no answer, an answer that is not its own, a redirect, 429 or 5xx: ``ProviderUnreachable``;
- 409 or 412 to a write: ``Conflict``;
- any other 4xx to a write: ``ProviderRefused``. To a read it is ``ProviderUnreachable``, as a
  gateway whose state cannot be read says nothing about a configuration.

No proxy, credential or certificate is taken from the environment, no redirect is followed, every
call has a time limit and every answer a size limit, and no message holds a credential.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit, urlunsplit

import requests

from bot.errors import Conflict, ProviderRefused, ProviderUnreachable

HTTP_TIMEOUT_S = 5.0
"""For connecting, and for each pause of the answer."""

CALL_TIMEOUT_S = 15.0
"""For a whole call, so that an answer that drips in ends too."""

MAX_ANSWER_BYTES = 32 * 2**20
MAX_REASON_CHARS = 300

_CHUNK_BYTES = 64 * 1024
_CONFLICTS = (409, 412)
_PASSING = (408, 425, 429)
"""Said of the moment, not of the request (RFC 9110, RFC 8470, RFC 6585)."""


def first_text(*keys: str) -> Callable[[Any], str]:
    """Return what finds the reason in an error's JSON body: the first of these members with a
    text."""

    def reason(body: Any) -> str:
        found = [body.get(key) for key in keys] if isinstance(body, dict) else []
        return next((text for text in found if isinstance(text, str) and text), "")

    return reason


class HttpApi:
    """
    May be used from several threads; calls are made one at a time.

    Args:
        gateway: Name of the gateway, for messages.

        what: What it is, for messages: ``Kong's Admin API``.

        base_url: With a path, if the API is below one.

        headers: Sent with every call.

        secrets: Texts that must not be in a message, whatever the other side answers.

        reason: Finds, in an error's JSON body, what the other side says about it.

        ca_file: Certificates of the authorities to trust, if not the usual ones.

        client_cert: Files of a certificate and of its key, for an API that asks for one.
    """

    def __init__(
        self,
        *,
        gateway: str,
        what: str,
        base_url: str,
        headers: Mapping[str, str] | None = None,
        secrets: tuple[str, ...] = (),
        reason: Callable[[Any], str],
        ca_file: str | None = None,
        client_cert: tuple[str, str] | None = None,
        timeout_s: float = HTTP_TIMEOUT_S,
    ) -> None:
        self._gateway, self._what = gateway, what
        self._base_url = base_url.rstrip("/")
        self._secrets = tuple(secret for secret in secrets if secret)
        self._reason = reason
        self._timeout_s = timeout_s
        self._asking = threading.Lock()
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.headers.update({"Accept": "application/json", "User-Agent": "firedoor"})
        self._http.headers.update(headers or {})
        if ca_file is not None:
            self._http.verify = ca_file
        self._http.cert = client_cert

    def __repr__(self) -> str:
        return f"HttpApi({self.shown_url!r})"

    @property
    def shown_url(self) -> str:
        """The address without what might be a credential in it."""
        parts = urlsplit(self._base_url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path, "", ""))

    def read(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        missing_ok: bool | Callable[[Any], bool] = False,
    ) -> Any:
        """Return the JSON value of a GET; None for a 404 if ``missing_ok``, or if it tells from
        the 404's JSON body that what was asked for is not there.

        Raises:
            ProviderUnreachable: There is none.
        """
        response, content = self._call("GET", path, query, None, {})
        if missing_ok and response.status_code == 404:
            body = self._json(path, content)  # a 404 of its own, not one of something in between
            if missing_ok is True or (callable(missing_ok) and missing_ok(body)):
                return None
        if response.status_code != 200:
            raise ProviderUnreachable(
                f"{self._place(path)} answers {self._said(response, content)}; nothing is known "
                "of its state. See whether the address, the credential and its rights are right.",
                _retry_after_s(response),
            )
        return self._json(path, content)

    def write(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Return the JSON value that a write is answered with; None if the answer is empty.

        Raises:
            Conflict: 409 or 412; nothing was written.

            ProviderRefused: Another 4xx; nothing was written.

            ProviderUnreachable: Whether it was written is not known.
        """
        sent = {"Content-Type": "application/json", **(headers or {})} if body is not None else {}
        response, content = self._call(method, path, query, body, sent)
        status = response.status_code
        if 200 <= status < 300:
            return self._json(path, content) if content else None
        fact = f"{self._place(path)} answers {self._said(response, content)} to {method}"
        if status in _CONFLICTS:
            raise Conflict(f"{fact}; nothing was written. It is read anew and tried again.")
        if 400 <= status < 500 and status not in _PASSING:
            raise ProviderRefused(
                f"{fact}, so it refuses the change; what was there before serves on. Mend what it "
                "names, or the rights of the credential."
            )
        raise ProviderUnreachable(
            f"{fact}; whether the change was made is not known. It is read anew and tried again.",
            _retry_after_s(response),
        )

    def not_its_own(self, path: str) -> ProviderUnreachable:
        """Return the error for an answer that is not of the form that this API gives."""
        return ProviderUnreachable(
            f"{self._place(path)} gives an answer that is not of this API; nothing is known of "
            "its state. See what listens there."
        )

    # --- inside --------------------------------------------------------------------------------

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Any,
        headers: Mapping[str, str],
    ) -> tuple[requests.Response, bytes]:
        try:
            with (
                self._asking,
                self._http.request(
                    method,
                    f"{self._base_url}{path}",
                    params=query,
                    data=None if body is None else json.dumps(body).encode(),
                    headers=headers,
                    timeout=self._timeout_s,
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                return response, self._content(path, response)
        except requests.RequestException as error:
            self._silent(method, path, type(error).__name__)

    def _content(self, path: str, response: requests.Response) -> bytes:
        ends, content = time.monotonic() + CALL_TIMEOUT_S, bytearray()
        for chunk in response.iter_content(_CHUNK_BYTES):
            content += chunk
            if len(content) > MAX_ANSWER_BYTES:
                raise self.not_its_own(path)
            if time.monotonic() > ends:
                self._silent(str(response.request.method), path, "its answer takes too long")
        return bytes(content)

    def _silent(self, method: str, path: str, how: str) -> NoReturn:
        unknown = "nothing is known of its state"
        if method != "GET":
            unknown = "whether the change was made is not known; it is read anew and tried again"
        raise ProviderUnreachable(
            f"{self._place(path)} gives no answer ({how}); {unknown}. See whether it runs and can "
            "be reached from here."
        ) from None

    def _json(self, path: str, content: bytes) -> Any:
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise self.not_its_own(path) from None

    def _place(self, path: str) -> str:
        return self._safe(f"{self._what} of gateway {self._gateway} at {self.shown_url}{path}")

    def _said(self, response: requests.Response, content: bytes) -> str:
        try:
            reason = self._reason(json.loads(content))
        except (ValueError, RecursionError):
            reason = ""
        words = " ".join(self._safe(reason).split())[:MAX_REASON_CHARS]
        return f"{response.status_code} ({words})" if words else str(response.status_code)

    def _safe(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text


def _retry_after_s(response: requests.Response) -> float | None:
    """Return Retry-After, if it is a number of seconds (RFC 9110, 10.2.3)."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None
