"""The operator's routes, read from their file, and what is made of them for a set of controls."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from actions.gateway.adapters.envoy.routes import render, version_of
from bot.action import Support
from bot.errors import BadInput
from bot.model.containment import Control, ControlKind, PrincipalKind

log = logging.getLogger(__name__)

ROUTE_CONFIGURATION = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"


class Rendering:
    """
    Args:
        base_routes: The operator's RouteConfiguration, in proto3 JSON. Read again when it
            changes; never written.

        endpoints: Keys of all known endpoints; see ``known`` of `routes.render`.

        api_key_header: Where the listener's api_key_auth filter puts the name of a checked key.
            None: it checks none.
    """

    def __init__(
        self,
        gateway: str,
        base_routes: Path,
        endpoints: Iterable[str] = (),
        api_key_header: str | None = None,
    ) -> None:
        self._gateway = gateway
        self.base_file = base_routes
        self._known = tuple(sorted(endpoints))
        self._api_key_header = api_key_header
        self._base: tuple[tuple[int, int], dict[str, Any]] | None = None

    def supports(self, control: Control) -> Support:
        """Tell whether these routes can do what a control asks for. Pure."""
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
        """Return the DiscoveryResponse for this set of controls. Raises BadInput."""
        config = self._rendered(controls)
        resource = {"@type": ROUTE_CONFIGURATION, **config}
        return {"version_info": version_of(config), "resources": [resource]}

    @property
    def route_name(self) -> str:
        """Name of the RouteConfiguration. Raises BadInput."""
        return str(self._base_routes()["name"])

    def _rendered(self, controls: Sequence[Control]) -> dict[str, Any]:
        return render(self._base_routes(), controls, self._known, self._api_key_header)

    def _base_routes(self) -> dict[str, Any]:
        """Return the operator's routes. A broken edit must not keep a containment from being made,
        so the last good ones go on until it is mended."""
        try:
            status = self.base_file.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if self._base is None or self._base[0] != stamp:
                self._base = (stamp, _read_base(self.base_file))
        except (OSError, BadInput) as error:
            if self._base is None:
                raise BadInput(
                    f"The base routes of gateway {self._gateway} cannot be read from "
                    f"{self.base_file} ({error}); nothing was done. Mend the file."
                ) from None
            log.warning("%s: %s; the routes read before are used.", self.base_file, error)
        return self._base[1]


def _read_base(file: Path) -> dict[str, Any]:
    try:
        base = json.loads(file.read_bytes())
    except ValueError as error:
        raise BadInput(f"not JSON: {error}") from None
    if not isinstance(base, dict) or not base.get("name") or not base.get("virtual_hosts"):
        raise BadInput("not a RouteConfiguration with a name and virtual_hosts")
    base.pop("@type", None)
    return base
