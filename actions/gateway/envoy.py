"""Envoy, with its routes in a file that it watches (RDS from the file system).

Firedoor is the only writer of that file. It holds one DiscoveryResponse: the operator's routes
with what the containments ask for in front, and as ``version_info`` a hash over them. Writing
proves nothing, as Envoy ignores a bad file in silence; what counts is the version that its admin
interface reports afterwards.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import requests

from actions.gateway.routes import render, version_of
from bot.errors import BadInput, ProviderRefused, ProviderUnreachable
from bot.model.containment import Control, ControlKind

log = logging.getLogger(__name__)

ROUTE_CONFIGURATION = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"

TAKE_TIMEOUT_S = 4.0
"""How long Envoy may need to report a written version. It needs some 2 ms; a restart, 100."""

HTTP_TIMEOUT_S = 2.0
FIRST_POLLS_S = 0.05
FIRST_POLL_S = 0.001
LATER_POLL_S = 0.02

_REFUSALS = ("update_failure", "update_rejected")


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
    """

    def __init__(
        self,
        *,
        name: str,
        base_routes: Path,
        rds_file: Path,
        admin_url: str,
        endpoints: Iterable[str] = (),
        take_timeout_s: float = TAKE_TIMEOUT_S,
    ) -> None:
        self._name = name
        self._base_file, self._rds_file = base_routes, rds_file
        self._drafts = rds_file.parent / ".firedoor"
        self._before = self._drafts / f"{rds_file.name}.before"
        self._admin_url = admin_url.rstrip("/")
        self._known = tuple(sorted(endpoints))
        self._take_timeout_s = take_timeout_s
        self._base: tuple[tuple[int, int], dict[str, Any]] | None = None
        self._writing = threading.Lock()
        self._asking = threading.Lock()
        self._http = requests.Session()
        self._http.trust_env = False  # an admin interface is never behind a proxy

    @property
    def name(self) -> str:
        return self._name

    def supports(self, control: Control) -> bool:
        return control.kind in ControlKind

    def version_of(self, controls: Sequence[Control]) -> str:
        """
        Return the version that stands for this set of controls; order is irrelevant.

        Raises:
            BadInput: The base routes cannot be read, or cannot be used.
        """
        return version_of(self._rendered(controls))

    def response(self, controls: Sequence[Control]) -> dict[str, Any]:
        """Return the DiscoveryResponse that is written for this set of controls."""
        config = self._rendered(controls)
        resource = {"@type": ROUTE_CONFIGURATION, **config}
        return {"version_info": version_of(config), "resources": [resource]}

    def prepare(self) -> None:
        """Write the routes without any control if there are none yet: Envoy does not start
        without its file."""
        if not self._rds_file.exists():
            self._rds_file.parent.mkdir(parents=True, exist_ok=True)
            self._write(_text(self.response(())))

    def observe(self) -> str:
        """Return the version that Envoy reports now; empty if it has no routes yet."""
        query = {"resource": "dynamic_route_configs", "mask": "version_info,route_config.name"}
        wanted = self._route_config_name()
        for config in self._ask("/config_dump", query).json().get("configs", []):
            if config.get("route_config", {}).get("name") == wanted:
                return str(config.get("version_info", ""))
        return ""

    def converge(self, controls: Sequence[Control]) -> str:
        """
        Bring Envoy to exactly this set and return the version that it reports.

        If Envoy is down the file is written all the same, so that it starts with the set.

        Raises:
            ProviderUnreachable: No usable answer, the version was not taken in time, or the file
                cannot be written.

            ProviderRefused: Envoy refuses the routes; the earlier ones serve on, and are back in
                the file.

            BadInput: The base routes cannot be read, or cannot be used; nothing was written.
        """
        response = self.response(controls)
        wanted, text = str(response["version_info"]), _text(response)
        with self._writing:
            on_disk = self._on_disk()
            refusals_before: int | None = None
            with contextlib.suppress(ProviderUnreachable):
                if self._is_served(on_disk) and on_disk == text:
                    return wanted
                refusals_before = self._refusals()
            try:
                self._keep_before(on_disk)
                self._write(text)
            except OSError as error:
                raise ProviderUnreachable(
                    f"The routes of gateway {self._name} cannot be written to {self._rds_file} "
                    f"({error.strerror}); the gateway was not changed. Mend the disk or its rights."
                ) from None
            try:
                self._wait_taken(wanted, refusals_before)
            except ProviderRefused:
                self._put_back()
                raise
            self._before.unlink(missing_ok=True)
            if on_disk is not None and not _is_ours(on_disk):
                log.warning(
                    "Drift: %s was changed by another hand (its version was not the hash of its "
                    "content) and is overwritten. Make lasting changes in %s.",
                    self._rds_file,
                    self._base_file,
                )
            return wanted

    # --- the base ------------------------------------------------------------------------------

    def _rendered(self, controls: Sequence[Control]) -> dict[str, Any]:
        return render(self._base_routes(), controls, self._known)

    def _route_config_name(self) -> str:
        return str(self._base_routes()["name"])

    def _base_routes(self) -> dict[str, Any]:
        """Return the operator's routes. A broken edit must not keep a containment from being made,
        so the last good ones go on until it is mended."""
        try:
            status = self._base_file.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if self._base is None or self._base[0] != stamp:
                self._base = (stamp, _read_base(self._base_file))
        except (OSError, BadInput) as error:
            if self._base is None:
                raise BadInput(
                    f"The base routes of gateway {self._name} cannot be read from "
                    f"{self._base_file} ({error}); nothing was done. Mend the file."
                ) from None
            log.warning("%s: %s; the routes read before are used.", self._base_file, error)
        return self._base[1]

    # --- the file ------------------------------------------------------------------------------

    def _on_disk(self) -> bytes | None:
        try:
            return self._rds_file.read_bytes()
        except OSError:
            return None  # writing it says what is wrong, if it still is

    def _is_served(self, on_disk: bytes | None) -> bool:
        """Tell whether Envoy serves what is in the file; then nothing older is kept any more."""
        version = _version_in(on_disk)
        if version is None or self.observe() != version:
            return False
        self._before.unlink(missing_ok=True)
        return True

    def _write(self, text: bytes) -> None:
        """Replace the file in one step that Envoy sees once, and that survives a power cut."""
        self._drafts.mkdir(mode=0o700, exist_ok=True)
        draft = self._drafts / self._rds_file.name
        with draft.open("wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._rds_file)

    def _keep_before(self, on_disk: bytes | None) -> None:
        """Keep what Envoy last took, unless an interrupted attempt has kept it already."""
        self._drafts.mkdir(mode=0o700, exist_ok=True)
        if on_disk is not None and not self._before.exists():
            self._before.write_bytes(on_disk)

    def _put_back(self) -> None:
        if self._before.exists():
            self._before.replace(self._rds_file)
        else:
            self._rds_file.unlink(missing_ok=True)

    # --- Envoy ---------------------------------------------------------------------------------

    def _wait_taken(self, wanted: str, refusals_before: int | None) -> None:
        began = time.monotonic()
        seen = "gives no answer"
        while (waited := time.monotonic() - began) < self._take_timeout_s:
            with contextlib.suppress(ProviderUnreachable):
                reported = self.observe()
                if reported == wanted:
                    return
                seen = f"reports version {reported or '(none)'}"
                if refusals_before is not None and self._refusals() > refusals_before:
                    raise ProviderRefused(
                        f"Gateway {self._name} refuses routes {wanted} and serves on with "
                        f"{reported or 'none'}; the containment was not made. Envoy's own log "
                        f"says why; look at {self._base_file} first."
                    )
            time.sleep(FIRST_POLL_S if waited < FIRST_POLLS_S else LATER_POLL_S)
        raise ProviderUnreachable(
            f"Gateway {self._name} {seen} {self._take_timeout_s:g} s after routes {wanted} were "
            f"written to {self._rds_file}; the containment may not be in force. They are taken as "
            f"soon as Envoy runs and watches the file; look at it and at {self._admin_url}."
        )

    def _refusals(self) -> int:
        """Count the route updates that Envoy refused since its start."""
        names = "|".join(_REFUSALS)
        pattern = rf"\.rds\.{re.escape(self._route_config_name())}\.({names})$"
        lines = self._ask("/stats", {"filter": pattern}).text.splitlines()
        return sum(int(line.rpartition(":")[2]) for line in lines if ":" in line)

    def _ask(self, path: str, query: dict[str, str]) -> requests.Response:
        try:
            with self._asking:
                response = self._http.get(
                    f"{self._admin_url}{path}",
                    params=query,
                    timeout=HTTP_TIMEOUT_S,
                    allow_redirects=False,
                )
        except requests.RequestException as error:
            raise ProviderUnreachable(
                f"The admin interface of gateway {self._name} at {self._admin_url} gives no answer "
                f"({type(error).__name__}); nothing is known of its routes. See whether Envoy runs."
            ) from None
        if response.status_code != 200:
            raise ProviderUnreachable(
                f"The admin interface of gateway {self._name} at {self._admin_url}{path} answers "
                f"{response.status_code}; nothing is known of its routes. See whether it is Envoy."
            )
        return response


def _text(response: dict[str, Any]) -> bytes:
    # Compact: with an indent Python encodes it some twenty times as slowly.
    return (json.dumps(response, sort_keys=True) + "\n").encode()


def _read_base(file: Path) -> dict[str, Any]:
    try:
        base = json.loads(file.read_bytes())
    except ValueError as error:
        raise BadInput(f"not JSON: {error}") from None
    if not isinstance(base, dict) or not base.get("name") or not base.get("virtual_hosts"):
        raise BadInput("not a RouteConfiguration with a name and virtual_hosts")
    base.pop("@type", None)
    return base


def _version_in(content: bytes | None) -> str | None:
    try:
        return str(json.loads(content or b"")["version_info"])
    except (ValueError, TypeError, KeyError):
        return None


def _is_ours(content: bytes) -> bool:
    """Tell whether a file's version is the hash of its content, as Firedoor writes it."""
    try:
        response = json.loads(content)
        config = dict(response["resources"][0])
        version = response["version_info"]
    except (ValueError, TypeError, KeyError, IndexError):
        return False
    config.pop("@type", None)
    return bool(version == version_of(config))
