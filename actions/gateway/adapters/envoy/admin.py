"""Envoy's admin interface, read only."""

from __future__ import annotations

import re
import threading

import requests

from actions.gateway.adapters.envoy.routes import shadow_id
from bot.errors import BadInput, ProviderUnreachable
from bot.model.containment import Control, ControlKind

HTTP_TIMEOUT_S = 2.0

_REFUSALS = ("update_failure", "update_rejected")


class Admin:
    """
    May be used from several threads.

    Args:
        gateway: Name of the gateway, for messages.

        url: The admin interface, which must be closed to everybody else.
    """

    def __init__(self, gateway: str, url: str) -> None:
        self._gateway, self.url = gateway, url.rstrip("/")
        self._asking = threading.Lock()
        self._http = requests.Session()
        self._http.trust_env = False  # an admin interface is never behind a proxy

    def reported(self, route_name: str) -> str:
        """Return the version of the routes in force; empty if there are none."""
        query = {"resource": "dynamic_route_configs", "mask": "version_info,route_config.name"}
        answer = self._ask("/config_dump", query)
        try:
            found = {
                config["route_config"]["name"]: str(config.get("version_info", ""))
                for config in answer.json().get("configs", [])
                if "route_config" in config
            }
        except (ValueError, TypeError, KeyError, AttributeError):
            raise self._not_envoy("/config_dump") from None
        return found.get(route_name, "")

    def refusals(self, route_name: str) -> int:
        """Count the route updates that Envoy refused since its start."""
        names = "|".join(_REFUSALS)
        return self._counted(rf"\.rds\.{re.escape(route_name)}\.({names})$")

    def shadow_hits(self, control: Control) -> int:
        """Return how many requests a shadow has counted; Envoy counts from its start."""
        if control.kind is not ControlKind.SHADOW:
            raise BadInput(
                f"{control.kind.value} of {control.endpoint} is no shadow; it counts none."
            )
        pattern = rf"rbac\.policy\.firedoor-([0-9a-f]+\+)*{shadow_id(control)}(\+[0-9a-f]+)*\."
        return self._counted(rf"{pattern}shadow_denied$")

    def _counted(self, pattern: str) -> int:
        lines = self._ask("/stats", {"filter": pattern}).text.splitlines()
        try:
            return sum(int(line.rpartition(":")[2]) for line in lines if ":" in line)
        except ValueError:
            raise self._not_envoy("/stats") from None

    def _not_envoy(self, path: str) -> ProviderUnreachable:
        return ProviderUnreachable(
            f"The admin interface of gateway {self._gateway} at {self.url}{path} gives an "
            "answer that is not Envoy's; nothing is known of its routes. See what listens there."
        )

    def _ask(self, path: str, query: dict[str, str]) -> requests.Response:
        try:
            with self._asking:
                response = self._http.get(
                    f"{self.url}{path}",
                    params=query,
                    timeout=HTTP_TIMEOUT_S,
                    allow_redirects=False,
                )
        except requests.RequestException as error:
            raise ProviderUnreachable(
                f"The admin interface of gateway {self._gateway} at {self.url} gives no answer "
                f"({type(error).__name__}); nothing is known of its routes. See whether Envoy runs."
            ) from None
        if response.status_code != 200:
            raise ProviderUnreachable(
                f"The admin interface of gateway {self._gateway} at {self.url}{path} answers "
                f"{response.status_code}; nothing is known of its routes. See whether it is Envoy."
            )
        return response
