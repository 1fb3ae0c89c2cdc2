"""Requests from outside, as two test customers: one owns the example objects, one is a stranger.

Paths go out byte for byte as given. Libraries such as requests tidy a path before they send it,
which would hide exactly the spellings that get past a closed endpoint; so this is http.client.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal
from urllib.parse import urlsplit

from bot.errors import BadInput, ProviderRefused, ProviderUnreachable

Who = Literal["owner", "stranger", "nobody"]
"""Whose token goes with a request; ``nobody`` sends none."""

Via = str
"""``gateway``: through it as everybody does; ``upstream``: past it straight to the service; or the
name of a vantage point."""

TIMEOUT_S = 5.0
REPEATS = 3

AGENT = "firedoor-probe"
DIRECT_AGENT = "firedoor-probe (direct)"
"""What the service's own log shows of requests: those that went past the gateway say so."""
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


@dataclass(frozen=True)
class VantagePoint:
    """
    Another place to look from, or another node to look at.

    Args:
        connect_to: Host and port of one node; requests still name the gateway's public host. None:
            the public address.

        source: The local address to send from.

        seen_as: The address that the gateway sees, to tell whether a block is about us.
    """

    name: str
    connect_to: tuple[str, int] | None = None
    source: str | None = None
    seen_as: str | None = None


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

        vantage_points: Where else to look from; the public address is looked at in any case.

        seen_as: The address as which the gateway sees requests to its public address.

        repeats: How many equal answers in a row are believed.
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
        vantage_points: Sequence[VantagePoint] = (),
        seen_as: str | None = None,
        repeats: int = REPEATS,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.name, self.gateway, self.repeats = name, gateway, repeats
        self._points = {point.name: point for point in vantage_points}
        self._points["gateway"] = VantagePoint("gateway", seen_as=seen_as)
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
        point = self._points.get(via)
        url = self._urls["upstream" if via == "upstream" else "gateway"]
        scheme, host, port = self._parts(url, via)
        connection: _HttpConnection | _HttpsConnection
        if scheme == "https":
            connection = _HttpsConnection(host, port, self._timeout_s, self._tls)
        else:
            connection = _HttpConnection(host, port, timeout=self._timeout_s)
        if point is not None:
            connection.at, connection.source = point.connect_to, point.source
        try:
            agent = DIRECT_AGENT if via == "upstream" else AGENT
            said = url if via in self._urls else f"{url} ({via})"
            yield Line(self, connection, said, agent)
        finally:
            connection.close()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        # Reading all authorities takes longer than a request, and a proof makes many.
        return ssl.create_default_context()

    def _parts(self, url: str, via: Via) -> tuple[str, str, int | None]:
        try:
            address = urlsplit(url)
            host, port = address.hostname or "", address.port
        except ValueError:
            host, port = "", None
        if not host or address.scheme not in ("http", "https"):
            raise BadInput(
                f"Probe {self.name} has no usable address for the {via} "
                f"({url!r}); nothing was asked. Mend it in firedoor.yaml."
            )
        return address.scheme, host, port

    @property
    def vantages(self) -> tuple[Via, ...]:
        """The places to look at the gateway from, the public address first."""
        return ("gateway", *sorted(self._points.keys() - {"gateway"}))

    def seen_as(self, via: Via) -> str | None:
        """Return as which address the gateway sees us from a place, if that is known."""
        return self._points[via].seen_as

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


class _HttpConnection(http.client.HTTPConnection):
    """Connects to ``at`` instead of the host that it names, if that is set."""

    at: tuple[str, int] | None = None
    source: str | None = None

    def connect(self) -> None:
        self.sock = _connected(self.at or (self.host, self.port), self.timeout, self.source)


class _HttpsConnection(http.client.HTTPSConnection):
    """The same; the certificate is that of the host that it names."""

    at: tuple[str, int] | None = None
    source: str | None = None

    def __init__(
        self, host: str, port: int | None, timeout_s: float, context: ssl.SSLContext
    ) -> None:
        super().__init__(host, port, timeout=timeout_s, context=context)
        self._tls = context

    def connect(self) -> None:
        plain = _connected(self.at or (self.host, self.port), self.timeout, self.source)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


def _connected(at: tuple[str, int], timeout_s: float | None, source: str | None) -> socket.socket:
    connected = socket.create_connection(at, timeout_s, (source, 0) if source else None)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


class Line:
    """One connection of a `Prober`; its requests go one after the other."""

    def __init__(
        self,
        prober: Prober,
        connection: http.client.HTTPConnection,
        base_url: str,
        agent: str = AGENT,
    ) -> None:
        self._prober, self._connection, self._url = prober, connection, base_url
        self._agent = agent

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
            self._connection.putheader("User-Agent", self._agent)
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
