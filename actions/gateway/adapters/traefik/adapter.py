"""Traefik, with Firedoor's routers in a file that it watches (its file provider).

Firedoor is the only writer of that file. Writing proves nothing: Traefik goes on with what it has
if it cannot read the file, and drops single routers that it cannot build. What counts is what its
API reports afterwards, of the version and of every object.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from actions.gateway.adapters.traefik import document
from actions.gateway.adapters.traefik.api import TraefikApi
from actions.gateway.adapters.traefik.callers import Settings, shadow_id
from actions.gateway.adapters.traefik.document import Document
from actions.gateway.adapters.traefik.matchers import is_address
from actions.gateway.adapters.traefik.operators import Operators
from actions.gateway.adapters.traefik.render import render
from actions.gateway.own_file import OwnFile
from actions.gateway.rules import rules_of
from bot.action import SILENT, Support, Writing
from bot.errors import BadInput, Conflict, ProviderRefused, ProviderUnreachable
from bot.model.containment import Control, ControlKind, PrincipalKind

log = logging.getLogger(__name__)

TAKE_TIMEOUT_S = 8.0
"""How long Traefik may need to report a written version. By default it takes changes up once in
two seconds (``providersThrottleDuration``)."""

POLL_S = 0.005

SETTLE_S = 0.01
"""Traefik switches its entry points one after the other, in no order; the one of its API may be
the first. That takes microseconds."""

ROUNDS = 3
"""How often what operators route is read anew if it changed while Firedoor wrote."""


class TraefikGateway:
    """
    Implements ``bot.action.Gateway``. May be used from several threads.

    Args:
        dynamic_file: Firedoor's own, in the folder that Traefik's file provider watches. Its name
            ends in ``.yml``.

        drafts: A folder outside of the watched one, on the same file system: what is half written
            must not be read, as Traefik then drops every router of the file.

        api_url: Traefik's API, without ``/api``. It must be closed to everybody else, on an entry
            point of its own.

        responder_url: A service that answers ``GET /answers/closed``, ``/answers/throttled`` and
            ``/answers/refused`` with the headers and bodies of ``bot.model.answers``; without
            a path. Traefik has no answers of its own. While it is down callers get the right
            status without that body.

        endpoints: Keys of all known endpoints.

        metrics_url: Traefik's metrics for Prometheus, with ``addRoutersLabels``. None: a SHADOW is
            not supported.

        forwarded_depth: Which address of ``X-Forwarded-For`` is the caller's, from the right,
            beginning at 1. For a Traefik behind a load balancer. None: the connection's own.

        identity: The operator's middleware (``auth@file``) that says who a caller is. The operator
            promises of it: it verifies the signature of a token, or checks a key, before it says
            so; and it takes the headers below off what callers send, if it does not set them. A
            forwardAuth middleware does the second for all of its ``authResponseHeaders``. None:
            callers are told by their address only.

        claim_headers: In which header it puts which claim: ``{"sub": "X-Auth-Sub"}``. Of a claim
            with several values, a header line for each.

        api_key_header: In which header it puts the name of a checked API key.
    """

    def __init__(
        self,
        *,
        name: str,
        dynamic_file: Path,
        drafts: Path,
        api_url: str,
        responder_url: str,
        endpoints: Iterable[str] = (),
        metrics_url: str | None = None,
        forwarded_depth: int | None = None,
        identity: str | None = None,
        claim_headers: Mapping[str, str] | None = None,
        api_key_header: str | None = None,
        take_timeout_s: float = TAKE_TIMEOUT_S,
    ) -> None:
        self._name = name
        self._path = dynamic_file
        self._file = OwnFile(name, dynamic_file, drafts)
        self._api = TraefikApi(name, api_url, metrics_url)
        self._can_count = metrics_url is not None
        self._known = tuple(sorted(endpoints))
        base = urlsplit(api_url).path.rstrip("/")
        self._settings = Settings(
            responder_url=responder_url,
            forwarded_depth=forwarded_depth,
            identity=identity,
            claim_headers=dict(claim_headers or {}),
            api_key_header=api_key_header,
            own_paths=(f"{base}/api/rawdata", f"{base}/api/entrypoints"),
        )
        self._take_timeout_s = take_timeout_s
        self._operators: Operators | None = None
        self._writing = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    def supports(self, control: Control) -> Support:
        why = self._why_not(control)
        return Support(ok=True) if why is None else Support(False, why, ControlKind.THROTTLE)

    def version_of(self, controls: Sequence[Control]) -> str:
        """
        Return the version that stands for this set of controls; order is irrelevant.

        What operators route is read from Traefik; while it gives no answer, what was read last
        goes on.

        Raises:
            BadInput: What operators route cannot be worked with.

            ProviderUnreachable: It was never read, and Traefik gives no answer.
        """
        return self._document(controls).version

    def prepare(self) -> None:
        """Write the file without any control if there is none yet."""
        if not self._path.exists():
            self._file.make_folder()
            with contextlib.suppress(Conflict):  # then another process has just written it
                self._file.replace(document.document({}, ()).text, None, None)

    def observe(self) -> str:
        """Return the version that Traefik reports now; empty if it has none yet. Marked if it has
        not all of it, or if the file is not as Firedoor writes it."""
        rawdata = self._api.rawdata()
        reported = ", ".join(document.versions_in(rawdata))
        on_disk = self._file.read()
        ours = document.read(on_disk)
        if on_disk is not None and ours is None:
            return f"{reported}, edited"
        if ours is not None and ours.version == reported and ours.faults(rawdata):
            return f"{reported}, not all of it"
        return reported

    def shadow_hits(self, control: Control) -> int:
        """Return how many requests a shadow has counted; Traefik counts from its start, and
        anew when the shadow was lifted in between."""
        if control.kind is not ControlKind.SHADOW:
            raise BadInput(
                f"{control.kind.value} of {control.endpoint} is no shadow; it counts none."
            )
        if not self._can_count:
            raise BadInput(f"Gateway {self._name} counts none: {self._why_not(control)}.")
        return self._api.requests_of(shadow_id(control))

    def converge(self, controls: Sequence[Control], writing: Writing = SILENT) -> str:
        """
        Bring Traefik to exactly this set and return the version that it reports.

        If Traefik is down the file is written all the same, as far as it is known what operators
        route, so that it starts with the set.

        Raises:
            Conflict: Another writer changed the file meanwhile, and nothing was written; or what
                operators route keeps changing.

            ProviderUnreachable: No usable answer, the version was not taken in time, or the file
                cannot be written.

            ProviderRefused: Traefik cannot build a router; the earlier file is back. Until then
                an endpoint that was closed stayed closed, by the router without an answer.

            BadInput: What operators route cannot be worked with; nothing was written.
        """
        with self._writing:
            wanted = self._document(controls)
            for _ in range(ROUNDS):
                reported = self._bring_to(wanted, writing)
                written, wanted = wanted, self._document(controls, reported)
                if wanted.version == written.version:
                    return wanted.version
        raise Conflict(
            f"What operators route at gateway {self._name} changed {ROUNDS} times while Firedoor "
            f"wrote {self._path}; its controls may not hold for what came last. It is read and "
            "tried again."
        )

    def _why_not(self, control: Control) -> str | None:
        kinds = {principal.kind for principal in control.principals}
        depth = self._settings.forwarded_depth
        if control.kind is ControlKind.SHADOW and not self._can_count:
            return "nothing counts requests of its routers (`metrics_url` in firedoor.yaml)"
        if control.kind is ControlKind.SHADOW and PrincipalKind.IP in kinds and depth is not None:
            return "its rules cannot look at a forwarded address (`forwarded_depth`)"
        for principal in control.principals:
            if not is_address(principal) and self._settings.header_of(principal) is None:
                return (
                    f"it verifies no tokens and no keys, and no middleware is said to know "
                    f"{principal} (`identity` and its headers in firedoor.yaml)"
                )
        if depth is not None and PrincipalKind.IP in kinds and len(kinds) > 1:
            return "its rules cannot look at a forwarded address beside other principals"
        return None

    # --- the file ------------------------------------------------------------------------------

    def _document(
        self, controls: Sequence[Control], rawdata: dict[str, Any] | None = None
    ) -> Document:
        """Return what the file is to hold; by what Traefik now reports, or by ``rawdata``."""
        if not controls:
            return document.document({}, ())  # whatever operators route
        operators = self._now_routed(rawdata)
        http = render(controls, self._known, operators, self._settings)
        held = [rule.name for rule in rules_of(controls, self._known) if rule.is_contained]
        return document.document(http, held)

    def _bring_to(self, wanted: Document, writing: Writing) -> dict[str, Any]:
        """Return what Traefik reports then."""
        on_disk = self._file.read()
        if on_disk == wanted.text and (rawdata := self._has_taken(wanted)):
            self._before.unlink(missing_ok=True)
            return rawdata
        self._keep_before(on_disk)
        if on_disk is None or document.read(on_disk) is not None:
            self._file.replace(wanted.text, on_disk, writing)
        else:
            instead = "a file of your own beside it"
            self._file.replace_others(wanted.text, on_disk, writing, instead)
        try:
            rawdata = self._wait_taken(wanted)
        except ProviderRefused:
            self._put_back(wanted.text)
            raise
        self._before.unlink(missing_ok=True)
        return rawdata

    @property
    def _before(self) -> Path:
        return self._file.beside("before")

    def _keep_before(self, on_disk: bytes | None) -> None:
        """Keep what Traefik last took, unless an interrupted attempt has kept it already."""
        if on_disk is None or self._before.exists():
            return
        try:
            self._before.write_bytes(on_disk)
        except OSError as error:
            raise ProviderUnreachable(
                f"The file of gateway {self._name} cannot be kept in {self._before} "
                f"({error.strerror}); the gateway was not changed. Mend the disk or its rights."
            ) from None

    def _put_back(self, refused: bytes) -> None:
        before = self._before.read_bytes() if self._before.exists() else None
        if before is None:
            self._file.remove()
            return
        self._file.replace(before, refused, None)
        self._before.unlink()
        earlier = document.read(before)
        if earlier is not None:
            with contextlib.suppress(ProviderUnreachable, ProviderRefused):
                self._wait_taken(earlier)

    # --- Traefik -------------------------------------------------------------------------------

    def _now_routed(self, rawdata: dict[str, Any] | None = None) -> Operators:
        try:
            if rawdata is None:
                rawdata = self._api.rawdata()
                self._check_started(rawdata)
            self._operators = self._api.operators(rawdata)
        except ProviderUnreachable as error:
            if self._operators is None:
                raise
            log.warning("%s What operators route is as it was read before.", error)
        return self._operators

    def _check_started(self, rawdata: Mapping[str, Any]) -> None:
        """Refuse to believe a Traefik that has not read its files yet: it knows no router."""
        ours = document.read(self._file.read())
        if ours is not None and not document.versions_in(rawdata):
            raise ProviderUnreachable(
                f"Gateway {self._name} does not report {self._path}, though it is there: it has "
                "just started, or does not watch that folder. Nothing is known of its routers. "
                "See `providers.file.directory` if this goes on."
            )

    def _has_taken(self, wanted: Document) -> dict[str, Any] | None:
        """Return what Traefik reports if it has all of a version; None if not."""
        with contextlib.suppress(ProviderUnreachable):
            rawdata = self._api.rawdata()
            if document.versions_in(rawdata) == [wanted.version] and not wanted.faults(rawdata):
                return rawdata
        return None

    def _wait_taken(self, wanted: Document) -> dict[str, Any]:
        """Wait until Traefik reports a version; return all that it reports then. Raises
        ProviderRefused, ProviderUnreachable."""
        ends = time.monotonic() + self._take_timeout_s
        seen = "gives no answer"
        while time.monotonic() < ends:
            with contextlib.suppress(ProviderUnreachable):
                rawdata = self._api.rawdata()
                versions = document.versions_in(rawdata)
                if versions == [wanted.version]:
                    self._check_whole(wanted, rawdata)
                    time.sleep(SETTLE_S)
                    return rawdata
                seen = f"reports version {', '.join(versions) or '(none)'}"
            time.sleep(POLL_S)
        raise ProviderUnreachable(
            f"Gateway {self._name} {seen} {self._take_timeout_s:g} s after version "
            f"{wanted.version} was written to {self._path}; the containment may not be in force. "
            "It is taken as soon as Traefik runs and watches the folder; look at its log, at "
            f"`providersThrottleDuration` and at {self._api.url}."
        )

    def _check_whole(self, wanted: Document, rawdata: Mapping[str, Any]) -> None:
        faults = wanted.faults(rawdata)
        if faults:
            raise ProviderRefused(
                f"Gateway {self._name} refuses a part of {self._path} ({faults[0]}"
                f"{f'; and {len(faults) - 1} more' if faults[1:] else ''}); the file before it is "
                "put back, and the containment was not made. Look at that object in Traefik's "
                "dashboard or log, and at the gateway's settings in firedoor.yaml."
            )
