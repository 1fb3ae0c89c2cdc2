"""Caddy, with a route of Firedoor's own in front of a server's routes.

Caddy keeps its configuration in memory and takes changes over its administration API. Firedoor
writes one route, known by its ``@id``, and nothing else; with no control in force there is none.

What Caddy must be for that:

- It runs with ``--resume``, or a restart opens what is closed until Firedoor looks again. Loading
  a whole configuration (``caddy reload``, ``POST /load``) does so at any time.
- It is not configured by ``admin.config.load`` with an interval: what is loaded so serves, while
  the API goes on to show what was there before.
- A caller's address is ``client_ip``. Behind other proxies the server needs ``trusted_proxies``,
  or all callers have the last proxy's address, and with it ``trusted_proxies_strict``.

Each change restarts Caddy's listeners: connections that wait for a request are ended, and a few
that are just being opened are reset. Requests that are being answered go on to their end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from actions.gateway.adapters.caddy.admin import AdminApi
from actions.gateway.adapters.caddy.render import (
    Route,
    Verifier,
    is_own,
    render,
    version_in,
    version_of,
)
from actions.gateway.own_file import OwnFile
from bot.action import SILENT, Support, Writing
from bot.errors import BadInput, ProviderUnreachable
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind

TAKE_TIMEOUT_S = 4.0
"""How long Caddy may need to report a version that it has accepted. It needs none."""

POLL_S = 0.02


class CaddyGateway:
    """
    Implements ``bot.action.Gateway``. May be used from several threads.

    Args:
        admin_url: Caddy's ``admin.listen``, which must be closed to everybody else, as it has no
            password; or its ``admin.remote``, which knows Firedoor by ``client_certificate``.

        server: Key of the server under ``apps.http.servers``.

        kept_dir: A folder for what other hands wrote into Firedoor's route, before it is replaced;
            made if it is not there.

        endpoints: Keys of all known endpoints; see ``known`` of `render.render`.

        verifier: URL of a service that says who sent a request: asked with GET and the request's
            headers, it answers 2xx if it has verified what they hold, and 401 or 403 if not. None:
            nobody is known by a claim or an API key. Every request to an endpoint that is held by
            one is asked about, and refused with 502 if the verifier gives no answer.

        claim_headers: In which header of its answer each claim is. The operator promises that the
            verifier has checked the token's signature, sends the claim's text and nothing else in
            the header, once, and repeats no header of the caller's.

        api_key_header: In which one the name of a key is that the verifier has checked. The same
            promise. None: it checks none.

        client_certificate: PEM file with the certificate and the key that ``admin.remote`` knows
            Firedoor by; ``ca_file``: with what signed Caddy's own certificate there.
    """

    def __init__(
        self,
        *,
        name: str,
        admin_url: str,
        server: str,
        kept_dir: Path,
        endpoints: Iterable[str] = (),
        verifier: str | None = None,
        claim_headers: Mapping[str, str] | None = None,
        api_key_header: str | None = None,
        client_certificate: Path | None = None,
        ca_file: Path | None = None,
        take_timeout_s: float = TAKE_TIMEOUT_S,
    ) -> None:
        self._name, self._server = name, server
        self._route_id = f"firedoor-{server}"
        self._known = tuple(sorted(endpoints))
        self._verifier = (
            Verifier(verifier, dict(claim_headers or {}), api_key_header) if verifier else None
        )
        self._kept = OwnFile(name, kept_dir / f"{name}.json", drafts=kept_dir)
        self._take_timeout_s = take_timeout_s
        self._admin = AdminApi(
            name,
            admin_url,
            server,
            client_certificate=client_certificate,
            ca_file=ca_file,
        )

    @property
    def name(self) -> str:
        return self._name

    def supports(self, control: Control) -> Support:
        """Tell whether Caddy can do what a control asks for: close; block and allow only by
        address, and by what the verifier tells."""
        match control.kind:
            case ControlKind.THROTTLE:
                return Support(
                    ok=False,
                    why="stock Caddy has no limit of rates",
                    nearest=ControlKind.BLOCK,
                )
            case ControlKind.SHADOW:
                return Support(ok=False, why="stock Caddy counts nothing by route")
        for principal in control.principals:
            why = self._unknown(principal)
            if why:
                return Support(ok=False, why=why, nearest=ControlKind.CLOSE)
        return Support(ok=True)

    def version_of(self, controls: Sequence[Control]) -> str:
        return version_of(self._route(controls))

    def prepare(self) -> None:
        """Caddy starts without anything of Firedoor's."""

    def observe(self) -> str:
        """
        Return the version of the route that Caddy has; without one, that of no controls.

        Marked as edited if the route is not as Firedoor writes it, or not the first one: then an
        operator's route may answer before it.
        """
        routes, _ = self._admin.routes()
        return self._reported(routes)

    def shadow_hits(self, control: Control) -> int:
        raise BadInput(
            f"Gateway {self._name} is a Caddy, which counts nothing by route; there is no shadow "
            f"of {control.endpoint}."
        )

    def converge(self, controls: Sequence[Control], writing: Writing = SILENT) -> str:
        """
        Bring Caddy to exactly this set and return the version that it reports.

        Raises:
            Conflict: The server's routes were changed meanwhile; nothing was written.

            ProviderUnreachable: No usable answer, or the version was not reported in time.

            ProviderRefused: Caddy refuses the configuration; the one before serves on.

            BadInput: The set cannot be done here, or the server believes any caller about its
                address; nothing was written.
        """
        route = self._route(controls)
        wanted = version_of(route)
        routes, etag = self._admin.routes()
        if self._reported(routes) == wanted:
            return wanted
        if any(p.kind is PrincipalKind.IP for control in controls for p in control.principals):
            self._check_addresses()
        edits = self._edits(routes)
        kept = [self._keep(each) for each in edits]
        writing.begin()
        self._write(route, routes, etag)
        if kept:
            writing.displaced(
                f"The route {self._route_id} of gateway {self._name} had been changed by another "
                f"hand and was replaced; what it held is in {', '.join(map(str, kept))}. Make "
                "lasting changes in routes of your own."
            )
        self._wait_reported(wanted)
        return wanted

    # --- the route -----------------------------------------------------------------------------

    def _route(self, controls: Sequence[Control]) -> Route | None:
        return render(controls, self._known, self._verifier, self._route_id)

    def _unknown(self, principal: Principal) -> str:
        """Return why nobody is known as this principal here; empty if somebody may be."""
        if principal.kind is PrincipalKind.IP:
            return ""
        if self._verifier is None:
            return "stock Caddy verifies neither tokens nor keys (`verifier` in firedoor.yaml)"
        if self._verifier.header_of(principal) is None:
            what = "API keys" if principal.claim is None else f"the claim {principal.claim}"
            return f"its verifier is not said to tell {what} (firedoor.yaml)"
        return ""

    def _own(self, routes: Sequence[Any]) -> list[int]:
        return [at for at, route in enumerate(routes) if is_own(route, self._route_id)]

    def _reported(self, routes: Sequence[Any]) -> str:
        own = self._own(routes)
        if not own:
            return version_of(None)
        version = version_in(routes[own[0]])
        if own == [0] and version is not None:
            return version
        return f"{version or 'unknown'}, edited"

    def _edits(self, routes: Sequence[Any]) -> list[Any]:
        """Return Firedoor's routes that another hand has changed, moved or doubled."""
        own = self._own(routes)
        if own == [0] and version_in(routes[0]) is not None:
            return []
        return [routes[at] for at in own]

    def _write(self, route: Route | None, routes: Sequence[Any], etag: str) -> None:
        own = self._own(routes)
        if own not in ([], [0]):
            theirs = [each for at, each in enumerate(routes) if at not in own]
            whole = theirs if route is None else [route, *theirs]
            self._admin.write("PATCH", "routes", whole, etag)
        elif route is None:
            self._admin.write("DELETE", "routes/0", None, etag)
        else:
            self._admin.write("PATCH" if own else "PUT", "routes/0", route, etag)

    def _keep(self, route: Any) -> Path:
        return self._kept.set_aside((json.dumps(route, indent=1) + "\n").encode())

    def _check_addresses(self) -> None:
        """
        Refuse to go by addresses that callers choose.

        With ``trusted_proxies`` Caddy takes the address that stands first in X-Forwarded-For, which
        a caller may have written; with ``trusted_proxies_strict`` the last that no trusted proxy
        has. https://caddyserver.com/docs/json/apps/http/servers/trusted_proxies_strict/
        """
        trusted = self._admin.setting("trusted_proxies")
        if trusted is not None and not self._admin.setting("trusted_proxies_strict"):
            raise BadInput(
                f"Server {self._server!r} of gateway {self._name} has `trusted_proxies` without "
                "`trusted_proxies_strict`, so callers can choose the address that they are known "
                "by; nothing was done. Set `trusted_proxies_strict` to 1."
            )

    def _wait_reported(self, wanted: str) -> None:
        deadline = time.monotonic() + self._take_timeout_s
        while (seen := self.observe()) != wanted:
            if time.monotonic() > deadline:
                raise ProviderUnreachable(
                    f"Gateway {self._name} reports version {seen} {self._take_timeout_s:g} s after "
                    f"it took {wanted}; the containment may not be in force. Somebody else changes "
                    "its configuration; see who."
                )
            time.sleep(POLL_S)
