"""Requests from outside, as two test customers: one owns the example objects, one is a stranger.

Paths go out byte for byte as given. Libraries such as requests tidy a path before they send it,
which would hide exactly the spellings that get past a closed endpoint; so this is http.client.
"""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from bot.errors import BadInput, ProviderRefused, ProviderUnreachable

Who = Literal["owner", "stranger", "nobody"]
"""Whose token goes with a request; ``nobody`` sends none."""

Via = Literal["gateway", "upstream"]
"""Through the gateway as everybody does, or past it straight to the service."""

TIMEOUT_S = 5.0
MAX_BODY_BYTES = 1 << 20
REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Answer:
    """What came back. Header names are in lower case. ``body`` may hold personal data, so it is
    not shown and must not be written anywhere."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class Prober:
    """
    Asks an API as its customers do. Tokens are kept in memory only. May be used from threads.

    Args:
        public_url: Of the gateway; ``upstream_url``: of the service behind it.

        login_path: Answers ``POST {"username", "password"}`` with ``{"token"}``. It is asked at
            the service itself, so that a closed login does not blind the probe.

        owner: User name and password of who owns the inventory's example objects;
            ``stranger``: of somebody who owns none of them.

        gateway: Name of the gateway that ``public_url`` leads to, if it is known.
    """

    def __init__(
        self,
        *,
        name: str,
        public_url: str,
        upstream_url: str,
        login_path: str,
        owner: tuple[str, str],
        stranger: tuple[str, str],
        gateway: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.name, self.gateway = name, gateway
        self._urls: dict[Via, str] = {"gateway": public_url, "upstream": upstream_url}
        self._login_path = login_path
        self._users: dict[Who, tuple[str, str]] = {"owner": owner, "stranger": stranger}
        self._timeout_s = timeout_s
        self._tokens: dict[Who, str] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Prober({self.name!r}, {self._urls['gateway']!r})"

    def check(self) -> str:
        """Log both users in anew and say so, for ``firedoor doctor``."""
        for who in self._users:
            self._token(who, stale=self._tokens.get(who))
        return "both test customers can log in"

    def get(self, path: str, who: Who, via: Via = "gateway") -> Answer:
        """GET a path on a fresh connection. Raises as `request` does."""
        return self.request("GET", path, who, via)

    def request(
        self,
        method: str,
        path: str,
        who: Who,
        via: Via = "gateway",
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """
        Send one request on a fresh connection. Redirects are not followed.

        A token that is refused with 401 is renewed once by a new login.

        Raises:
            ProviderUnreachable: No answer, or none that is HTTP.

            ProviderRefused: The user's login is refused.
        """
        with self.connection(via) as line:
            return line.request(method, path, who, headers=headers, body=body)

    @contextmanager
    def connection(self, via: Via = "gateway") -> Iterator[Line]:
        """Open a connection that is kept open for several requests."""
        address = urlsplit(self._urls[via])
        if address.scheme not in ("http", "https") or not address.hostname:
            raise BadInput(
                f"Probe {self.name} has no usable address for the {via} "
                f"({self._urls[via]!r}); nothing was asked. Mend it in firedoor.yaml."
            )
        secure = address.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(address.hostname, address.port, timeout=self._timeout_s)
        try:
            yield Line(self, connection, self._urls[via])
        finally:
            connection.close()

    def same_host_path(self, answer: Answer, via: Via = "gateway") -> str | None:
        """Return where a redirect leads, if it is one and stays on this host."""
        location = answer.headers.get("location", "")
        if answer.status not in REDIRECTS or not location:
            return None
        target, own = urlsplit(location), urlsplit(self._urls[via])
        if target.netloc and target.netloc != own.netloc:
            return None
        return (target.path or "/") + (f"?{target.query}" if target.query else "")

    def subject(self, who: Who) -> str | None:
        """Return the ``sub`` of a user's token, if it is a JWT that has one; unverified."""
        subject = self.claims(who).get("sub")
        return subject if isinstance(subject, str) else None

    def claims(self, who: Who) -> Mapping[str, Any]:
        """Return the claims of a user's token, if it is a JWT; unverified, as it is our own."""
        try:
            payload = self.token(who).split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        except (IndexError, ValueError):
            return {}
        return claims if isinstance(claims, dict) else {}

    def token(self, who: Who) -> str:
        """Return a user's token, logging in if there is none yet. Raises as `request` does."""
        return self._token(who, stale=None)

    def renewed(self, who: Who, stale: str) -> str:
        """Return a newer token than one that was refused."""
        return self._token(who, stale=stale)

    def _token(self, who: Who, stale: str | None) -> str:
        with self._lock:
            kept = self._tokens.get(who)
            if kept is None or kept == stale:
                kept = self._tokens[who] = self._log_in(who)
            return kept

    def _log_in(self, who: Who) -> str:
        username, password = self._users[who]
        body = json.dumps({"username": username, "password": password}).encode()
        headers = {"Content-Type": "application/json"}
        answer = self.request(
            "POST", self._login_path, "nobody", "upstream", headers=headers, body=body
        )
        if answer.status >= 500 or answer.status == 429:
            raise ProviderUnreachable(
                f"Probe {self.name} cannot log in as {who} ({self._login_path} answers "
                f"{answer.status}), so nothing can be proven. Try again later."
            )
        token = _token_in(answer)
        if token is None:
            raise ProviderRefused(
                f"Probe {self.name} cannot log in as {who} ({self._login_path} answers "
                f"{answer.status} without a token), so nothing can be proven. Mend the probe's "
                "user name and password in firedoor.yaml."
            )
        return token


class Line:
    """One connection of a `Prober`; its requests go one after the other."""

    def __init__(
        self, prober: Prober, connection: http.client.HTTPConnection, base_url: str
    ) -> None:
        self._prober, self._connection, self._url = prober, connection, base_url

    def request(
        self,
        method: str,
        path: str,
        who: Who,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Send one request. Raises as `Prober.request` does."""
        if who == "nobody":
            return self._send(method, path, dict(headers or {}), body)
        token = self._prober.token(who)
        answer = self._send(method, path, _with_token(headers, token), body)
        if answer.status != 401:
            return answer
        renewed = self._prober.renewed(who, token)
        return self._send(method, path, _with_token(headers, renewed), body)

    def _send(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        if not path.isascii() or not path.isprintable() or " " in path:
            raise BadInput(
                f"The path {path!r} cannot stand in a request line; nothing was asked. Write what "
                "is not printable ASCII percent-encoded (the inventory's examples too)."
            )
        has_host = any(name.lower() == "host" for name in headers)
        try:
            self._connection.putrequest(method, path, skip_host=has_host, skip_accept_encoding=True)
            for name, value in headers.items():
                self._connection.putheader(name, value)
            self._connection.putheader("User-Agent", "firedoor-probe")
            if body is not None:
                self._connection.putheader("Content-Length", str(len(body)))
            self._connection.endheaders(body)
            response = self._connection.getresponse()
            content = response.read(MAX_BODY_BYTES)
            if not response.isclosed():
                self._connection.close()  # the rest of a huge body is not waited for
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise ProviderUnreachable(
                f"Probe {self._prober.name} got no answer from {self._url} "
                f"({type(error).__name__}), so nothing can be proven. See whether it runs and "
                "can be reached from here."
            ) from None
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, content)


def _with_token(headers: Mapping[str, str] | None, token: str) -> dict[str, str]:
    return {**(headers or {}), "Authorization": f"Bearer {token}"}


def _token_in(answer: Answer) -> str | None:
    if not answer.is_success:
        return None
    try:
        token = json.loads(answer.body).get("token")
    except (ValueError, AttributeError):
        return None
    return token if isinstance(token, str) and token else None
