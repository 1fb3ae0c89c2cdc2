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
import re
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import requests

from actions.gateway.adapters.envoy.routes import render, shadow_id, version_of
from actions.gateway.own_file import OwnFile
from bot.action import SILENT, Support, Writing
from bot.errors import BadInput, Conflict, ProviderRefused, ProviderUnreachable
from bot.model.containment import Control, ControlKind, PrincipalKind

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
        self._base_file, self._rds_file = base_routes, rds_file
        self._file = OwnFile(name, rds_file)
        self._api_key_header = api_key_header
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

    def supports(self, control: Control) -> Support:
        kinds = {principal.kind for principal in control.principals}
        if PrincipalKind.API_KEY in kinds and self._api_key_header is None:
            return Support(
                ok=False,
                why="it is not said to check API keys (`api_key_header` in firedoor.yaml)",
                nearest=ControlKind.THROTTLE,
            )
        return Support(ok=True)

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
            with contextlib.suppress(Conflict):  # then another process has just written it
                self._file.replace(_text(self.response(())), None, None)

    def observe(self) -> str:
        """Return the version that Envoy reports now; empty if it has no routes yet. Marked as
        edited if the file is not as Firedoor writes it: the version in it may be anything then."""
        reported = self._reported()
        on_disk = self._file.read()
        return reported if on_disk is None or _is_ours(on_disk) else f"{reported}, edited"

    def shadow_hits(self, control: Control) -> int:
        """Return how many requests a shadow has counted; Envoy counts from its start."""
        if control.kind is not ControlKind.SHADOW:
            raise BadInput(
                f"{control.kind.value} of {control.endpoint} is no shadow; it counts none."
            )
        pattern = rf"rbac\.policy\.firedoor-([0-9a-f]+\+)*{shadow_id(control)}(\+[0-9a-f]+)*\."
        return self._counted(rf"{pattern}shadow_denied$")

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
        wanted, text = str(response["version_info"]), _text(response)
        with self._writing:
            on_disk = self._file.read()
            refusals_before: int | None = None
            with contextlib.suppress(ProviderUnreachable):
                # What is kept of before an interrupted attempt matters only while it is there.
                looks = on_disk == text or self._before.exists()
                if looks and self._is_served(on_disk) and on_disk == text:
                    return wanted
                refusals_before = self._refusals()
            self._keep_before(on_disk)
            self._file.replace(text, on_disk, writing)
            if on_disk is not None and not _is_ours(on_disk):
                kept = self._file.set_aside(on_disk)
                writing.displaced(
                    f"{self._rds_file} had been changed by another hand and was replaced; what it "
                    f"held is in {kept}. Make lasting changes in {self._base_file}."
                )
            try:
                self._wait_taken(wanted, refusals_before)
            except ProviderRefused:
                self._put_back(text)
                raise
            self._before.unlink(missing_ok=True)
            return wanted

    # --- the base ------------------------------------------------------------------------------

    def _rendered(self, controls: Sequence[Control]) -> dict[str, Any]:
        return render(self._base_routes(), controls, self._known, self._api_key_header)

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

    @property
    def _before(self) -> Path:
        return self._file.beside("before")

    def _is_served(self, on_disk: bytes | None) -> bool:
        """Tell whether Envoy serves what is in the file; then nothing older is kept any more."""
        version = _version_in(on_disk)
        if version is None or self._reported() != version:
            return False
        self._before.unlink(missing_ok=True)
        return True

    def _keep_before(self, on_disk: bytes | None) -> None:
        """Keep what Envoy last took, unless an interrupted attempt has kept it already."""
        if on_disk is None or self._before.exists():
            return
        try:
            self._before.write_bytes(on_disk)
        except OSError as error:
            raise ProviderUnreachable(
                f"The routes of gateway {self._name} cannot be kept in {self._before} "
                f"({error.strerror}); the gateway was not changed. Mend the disk or its rights."
            ) from None

    def _put_back(self, refused: bytes) -> None:
        before = self._before.read_bytes() if self._before.exists() else None
        if before is None:
            self._file.remove()
        else:
            self._file.replace(before, refused, None)
            self._before.unlink()

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

    def _reported(self) -> str:
        query = {"resource": "dynamic_route_configs", "mask": "version_info,route_config.name"}
        wanted = self._route_config_name()
        answer = self._ask("/config_dump", query)
        try:
            found = {
                config["route_config"]["name"]: str(config.get("version_info", ""))
                for config in answer.json().get("configs", [])
                if "route_config" in config
            }
        except (ValueError, TypeError, KeyError, AttributeError):
            raise self._not_envoy("/config_dump") from None
        return found.get(wanted, "")

    def _refusals(self) -> int:
        """Count the route updates that Envoy refused since its start."""
        names = "|".join(_REFUSALS)
        return self._counted(rf"\.rds\.{re.escape(self._route_config_name())}\.({names})$")

    def _counted(self, pattern: str) -> int:
        lines = self._ask("/stats", {"filter": pattern}).text.splitlines()
        try:
            return sum(int(line.rpartition(":")[2]) for line in lines if ":" in line)
        except ValueError:
            raise self._not_envoy("/stats") from None

    def _not_envoy(self, path: str) -> ProviderUnreachable:
        return ProviderUnreachable(
            f"The admin interface of gateway {self._name} at {self._admin_url}{path} gives an "
            "answer that is not Envoy's; nothing is known of its routes. See what listens there."
        )

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
