"""Envoy, with its routes in a file that it watches (RDS from the file system).

Firedoor is the only writer of that file. It holds one DiscoveryResponse: the operator's routes
with what the containments ask for in front, and as ``version_info`` a hash over them. Writing
proves nothing, as Envoy ignores a bad file in silence; what counts is the version that its admin
interface reports afterwards.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from actions.gateway.adapters.envoy.admin import Admin
from actions.gateway.adapters.envoy.rendering import Rendering
from actions.gateway.adapters.envoy.response_file import (
    ResponseFile,
    is_ours,
    text_of,
    version_in,
)
from bot.action import SILENT, Support, Writing
from bot.errors import Conflict, ProviderRefused, ProviderUnreachable
from bot.model.containment import Control

TAKE_TIMEOUT_S = 4.0
"""How long Envoy may need to report a written version. It needs some 2 ms; a restart, 100."""

FIRST_POLLS_S = 0.05
FIRST_POLL_S = 0.001
LATER_POLL_S = 0.02


class EnvoyGateway:
    """
    Implements ``bot.action.Gateway``. May be used from several threads.

    Args:
        base_routes: The operator's RouteConfiguration, in proto3 JSON. Read again when it
            changes; never written. Its ``name`` is the listener's ``route_config_name``.

        rds_file: What Envoy watches, through its directory. Its directory gets a directory
            ``.firedoor`` for drafts, which must be on the same file system.

        admin_url: Envoy's admin interface, which must be closed to everybody else.

        endpoints: Keys of all known endpoints; see ``known`` of `routes.render`.

        api_key_header: Where the listener's api_key_auth filter puts the name of a checked key,
            after the listener took it off what callers send. None: it checks none.
    """

    def __init__(
        self,
        *,
        name: str,
        base_routes: Path,
        rds_file: Path,
        admin_url: str,
        endpoints: Iterable[str] = (),
        api_key_header: str | None = None,
        take_timeout_s: float = TAKE_TIMEOUT_S,
    ) -> None:
        self._name = name
        self._routes = Rendering(name, base_routes, endpoints, api_key_header)
        self._file = ResponseFile(name, rds_file)
        self._admin = Admin(name, admin_url)
        self._take_timeout_s = take_timeout_s
        self._writing = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    def supports(self, control: Control) -> Support:
        return self._routes.supports(control)

    def version_of(self, controls: Sequence[Control]) -> str:
        """
        Return the version that stands for this set of controls; order is irrelevant.

        Raises:
            BadInput: The base routes cannot be read, or cannot be used.
        """
        return self._routes.version_of(controls)

    def response(self, controls: Sequence[Control]) -> dict[str, Any]:
        """Return the DiscoveryResponse that is written for this set of controls."""
        return self._routes.response(controls)

    def prepare(self) -> None:
        """Write the routes without any control if there are none yet: Envoy does not start
        without its file."""
        if not self._file.path.exists():
            self._file.make_folder()
            with contextlib.suppress(Conflict):  # then another process has just written it
                self._file.replace(text_of(self.response(())), None, None)

    def observe(self) -> str:
        """Return the version that Envoy reports now; empty if it has no routes yet. Marked as
        edited if the file is not as Firedoor writes it: the version in it may be anything then."""
        reported = self._reported()
        on_disk = self._file.read()
        return reported if on_disk is None or is_ours(on_disk) else f"{reported}, edited"

    def shadow_hits(self, control: Control) -> int:
        """Return how many requests a shadow has counted; Envoy counts from its start."""
        return self._admin.shadow_hits(control)

    def converge(self, controls: Sequence[Control], writing: Writing = SILENT) -> str:
        """
        Bring Envoy to exactly this set and return the version that it reports.

        If Envoy is down the file is written all the same, so that it starts with the set.

        Raises:
            Conflict: Another writer changed the file meanwhile; nothing was written.

            ProviderUnreachable: No usable answer, the version was not taken in time, or the file
                cannot be written.

            ProviderRefused: Envoy refuses the routes; the earlier ones serve on, and are back in
                the file.

            BadInput: The base routes cannot be read, or cannot be used; nothing was written.
        """
        response = self.response(controls)
        wanted, text = str(response["version_info"]), text_of(response)
        with self._writing:
            on_disk = self._file.read()
            refusals_before: int | None = None
            with contextlib.suppress(ProviderUnreachable):
                # What is kept of before an interrupted attempt matters only while it is there.
                looks = on_disk == text or self._file.before.exists()
                if looks and self._is_served(on_disk) and on_disk == text:
                    return wanted
                refusals_before = self._refusals()
            self._file.keep_before(on_disk)
            if on_disk is None or is_ours(on_disk):
                self._file.replace(text, on_disk, writing)
            else:
                instead = str(self._routes.base_file)
                self._file.replace_others(text, on_disk, writing, instead)
            try:
                self._wait_taken(wanted, refusals_before)
            except ProviderRefused:
                self._put_back(text)
                raise
            self._file.forget_before()
            return wanted

    # --- the file ------------------------------------------------------------------------------

    def _is_served(self, on_disk: bytes | None) -> bool:
        """Tell whether Envoy serves what is in the file; then nothing older is kept any more."""
        version = version_in(on_disk)
        if version is None or self._reported() != version:
            return False
        self._file.forget_before()
        return True

    def _put_back(self, refused: bytes) -> None:
        before = self._file.read_before()
        if before is None:
            self._file.remove()
        else:
            self._file.replace(before, refused, None)
            self._file.forget_before()

    # --- Envoy ---------------------------------------------------------------------------------

    def _wait_taken(self, wanted: str, refusals_before: int | None) -> None:
        began = time.monotonic()
        seen = "gives no answer"
        while (waited := time.monotonic() - began) < self._take_timeout_s:
            with contextlib.suppress(ProviderUnreachable):
                reported = self._reported()
                if reported == wanted:
                    return
                seen = f"reports version {reported or '(none)'}"
                # Mostly it is taken by the next look; what is refused stays refused.
                is_late = waited >= FIRST_POLLS_S
                if is_late and refusals_before is not None and self._refusals() > refusals_before:
                    raise ProviderRefused(
                        f"Gateway {self._name} refuses routes {wanted} and serves on with "
                        f"{reported or 'none'}; the containment was not made. Envoy's own log "
                        f"says why; look at {self._routes.base_file} first."
                    )
            time.sleep(FIRST_POLL_S if waited < FIRST_POLLS_S else LATER_POLL_S)
        raise ProviderUnreachable(
            f"Gateway {self._name} {seen} {self._take_timeout_s:g} s after routes {wanted} were "
            f"written to {self._file.path}; the containment may not be in force. They are taken as "
            f"soon as Envoy runs and watches the file; look at it and at {self._admin.url}."
        )

    def _reported(self) -> str:
        return self._admin.reported(self._routes.route_name)

    def _refusals(self) -> int:
        return self._admin.refusals(self._routes.route_name)
