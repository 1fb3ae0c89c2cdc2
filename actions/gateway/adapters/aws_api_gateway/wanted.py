"""What controls ask of a REST API: limits of its methods, and API keys to disable. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actions.gateway.adapters.aws_api_gateway.stage import Limit, method_key
from actions.gateway.rules import Rules, rules_of
from bot.errors import ProviderRefused
from bot.model.base import digest_of
from bot.model.containment import Control

EVERY_METHOD = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
"""What ``ANY`` of a resource stands for: there are no settings of ``ANY`` itself."""


@dataclass(frozen=True)
class Wanted:
    """
    ``limited`` are the rules that set a limit, the most specific first. ``blocked`` are the names
    of API keys, with the rules that ask for each to be disabled.
    """

    limited: tuple[Rules, ...]
    blocked: Mapping[str, tuple[Rules, ...]]

    @property
    def is_empty(self) -> bool:
        return not (self.limited or self.blocked)

    @property
    def version(self) -> str:
        limits = [[r.method, r.path, str(Limit.of(r.rate_per_s or 0.0))] for r in self.limited]
        return digest_of({"limits": limits, "keys": sorted(self.blocked)})[:12]


def wanted_of(controls: Iterable[Control]) -> Wanted:
    """
    Return what a set of controls asks for.

    Raises:
        BadInput: A control lacks what its kind needs.
    """
    rules = rules_of(controls, by_path=False)
    names = {principal.value for rule in rules for principal in rule.blocked}
    return Wanted(
        limited=tuple(rule for rule in rules if rule.rate_per_s is not None),
        blocked={
            name: tuple(rule for rule in rules if name in {p.value for p in rule.blocked})
            for name in sorted(names)
        },
    )


class Api:
    """
    The methods of a REST API.

    Args:
        gateway: Name of the gateway, for messages.

        resources: As ``GetResources`` lists them, with their methods.

        base_path: What stands before the paths of the inventory, and not before the API's own.
    """

    def __init__(
        self, gateway: str, resources: Sequence[Mapping[str, Any]], base_path: str
    ) -> None:
        self._gateway, self._base_path = gateway, base_path.rstrip("/")
        self._by_shape = {_shape(each["path"]): each for each in resources}

    def limits(self, wanted: Wanted) -> dict[str, Limit]:
        """Return the limit of each method. Raises ProviderRefused if the API has no such method."""
        limits: dict[str, Limit] = {}
        for rules in wanted.limited:
            path, methods = self._methods(rules)
            for method in methods:
                # The more specific rule came first, and has the lower of both limits.
                limits.setdefault(method_key(path, method), Limit.of(rules.rate_per_s or 0.0))
        return limits

    def refuse_keyless(self, wanted: Wanted) -> None:
        """Refuse to disable an API key for the sake of a method that asks for none."""
        for name, rules in wanted.blocked.items():
            for each in rules:
                path, methods = self._methods(each)
                there = self._by_shape[_shape(path)]["resourceMethods"]
                if not all(_asks_for_key(there, method) for method in methods):
                    raise ProviderRefused(
                        f"{each.method} {each.path} takes calls without an API key at gateway "
                        f"{self._gateway}, so disabling {name} would not keep its holder out; "
                        "nothing was written. Set `apiKeyRequired`, or throttle."
                    )

    def _methods(self, rules: Rules) -> tuple[str, list[str]]:
        """Return the API's own path of an endpoint, and which of its methods there are."""
        path = rules.path.removeprefix(self._base_path) or "/"
        resource = self._by_shape.get(_shape(path))
        there = set((resource or {}).get("resourceMethods") or {})
        if "ANY" in there:
            there |= set(EVERY_METHOD)
        found = sorted((there - {"ANY"}) & set(rules.methods or EVERY_METHOD))
        if resource is None or not found:
            raise ProviderRefused(
                f"The REST API of gateway {self._gateway} has no method {rules.method} "
                f"{rules.path}; nothing was written. One that is served by a greedy path "
                "({proxy+}) has no settings of its own; if it has another base path, set "
                "`base_path`."
            )
        return str(resource["path"]), found


def _asks_for_key(methods: Mapping[str, Any], method: str) -> bool:
    return bool((methods.get(method) or methods.get("ANY") or {}).get("apiKeyRequired"))


def _shape(path: str) -> str:
    """Return a path without the names of its parameters; a greedy one is another shape."""
    return re.sub(r"\{[^{}/]*?(\+?)\}", r"{\1}", path)
