"""What Traefik says of itself, over its API and its metrics."""

from __future__ import annotations

import re
import threading
from typing import Any

import requests

from actions.gateway.adapters.traefik.operators import Operators, operators_of
from bot.errors import ProviderUnreachable

HTTP_TIMEOUT_S = 2.0

_REQUESTS = re.compile(r'^traefik_router_requests_total\{(?:[^}]*,)?router="([^"]*)"[^}]*\} (\S+)$')


class TraefikApi:
    """
    Raises ProviderUnreachable from all calls, if there is no answer or none of Traefik's.

    Args:
        gateway: Name of the gateway, for messages.

        url: Of the API, without ``/api``.
    """

    def __init__(self, gateway: str, url: str, metrics_url: str | None) -> None:
        self._gateway, self._metrics_url = gateway, metrics_url
        self.url = url.rstrip("/")
        self._asking = threading.Lock()
        self._http = requests.Session()
        self._http.trust_env = False  # an API of this kind is never behind a proxy

    def rawdata(self) -> dict[str, Any]:
        """Return all routers, middlewares and services, as they run."""
        url = f"{self.url}/api/rawdata"
        found = self._json(url)
        if not isinstance(found, dict) or not isinstance(found.get("routers"), dict):
            raise self._not_traefik(url)
        return found

    def operators(self, rawdata: dict[str, Any]) -> Operators:
        """Return what operators route, by what was just read and the entry points."""
        url = f"{self.url}/api/entrypoints"
        try:
            return operators_of(rawdata, self._json(url))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._not_traefik(url) from None

    def requests_of(self, part_of_name: str) -> int:
        """Return how many requests the routers with this in their name have had."""
        url = str(self._metrics_url)
        total = 0
        for line in self._ask(url).text.splitlines():
            if (counted := _REQUESTS.match(line)) and part_of_name in counted[1]:
                try:
                    total += int(float(counted[2]))
                except ValueError:
                    raise self._not_traefik(url) from None
        return total

    def _json(self, url: str) -> Any:
        try:
            return self._ask(url).json()
        except ValueError:
            raise self._not_traefik(url) from None

    def _not_traefik(self, url: str) -> ProviderUnreachable:
        return ProviderUnreachable(
            f"The API of gateway {self._gateway} at {url} gives an answer that is not Traefik's; "
            "nothing is known of its routers. See what listens there."
        )

    def _ask(self, url: str) -> requests.Response:
        try:
            with self._asking:
                response = self._http.get(url, timeout=HTTP_TIMEOUT_S, allow_redirects=False)
        except requests.RequestException as error:
            raise ProviderUnreachable(
                f"The API of gateway {self._gateway} at {url} gives no answer "
                f"({type(error).__name__}); nothing is known of its routers. See whether Traefik "
                "runs."
            ) from None
        if response.status_code != 200:
            raise ProviderUnreachable(
                f"The API of gateway {self._gateway} at {url} answers {response.status_code}; "
                "nothing is known of its routers. See whether that is Traefik's API."
            )
        return response
