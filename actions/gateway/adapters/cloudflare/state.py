"""What a zone's phases hold, read over the Rulesets API, and what of it is Firedoor's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actions.gateway.adapters.cloudflare.render import BLOCKING, PHASES, Rule
from actions.gateway.adapters.http_api import HttpApi
from bot.model.base import digest_of

NO_ENTRY_POINT = 10003
"""Cloudflare's code for a phase without rules so far."""

_LIMIT = (
    "characteristics",
    "period",
    "requests_per_period",
    "mitigation_timeout",
    "requests_to_origin",
)
_LABEL = re.compile(r"Firedoor ([0-9a-f]{12}) (\d+) ")


@dataclass(frozen=True)
class Label:
    """What the description of each rule says of the set that it is one of."""

    version: str
    count: int

    def of(self, name: str) -> str:
        return f"Firedoor {self.version} {self.count} {name}"[:200]


@dataclass(frozen=True)
class Phase:
    """A phase's entry point ruleset, if it has one. ``rules`` are all of them, in order."""

    name: str
    id: str | None
    version: str
    rules: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class State:
    """``own`` are Firedoor's rules by their ``ref``."""

    phases: Mapping[str, Phase]
    own: Mapping[str, Mapping[str, Any]]

    def phase_of(self, ref: str) -> Phase:
        return next(
            phase
            for phase in self.phases.values()
            if any(rule.get("ref") == ref for rule in phase.rules)
        )

    @property
    def passed_over(self) -> frozenset[str]:
        """The blocking rules of Firedoor's that come after a rule of the operator's which may skip
        them."""
        found, skipped = set(), False
        for rule in self.phases[BLOCKING].rules:
            if rule.get("ref") in self.own:
                if skipped:
                    found.add(str(rule["ref"]))
            elif rule.get("action") == "skip" and rule.get("enabled", True):
                skipped = True
        return frozenset(found)


def ref_start(gateway: str) -> str:
    return f"firedoor-{digest_of(gateway)[:8]}-"


def ref_of(gateway: str, rule: Rule) -> str:
    """Return the reference of a rule: equal content, equal reference."""
    return f"{ref_start(gateway)}{rule.digest}"


def version_of_refs(refs: list[str]) -> str:
    return digest_of(sorted(refs))[:12]


def label_of(rule: Mapping[str, Any]) -> Label | None:
    found = _LABEL.match(str(rule.get("description", "")))
    return Label(found[1], int(found[2])) if found else None


def is_as_written(gateway: str, phase: str, rule: Mapping[str, Any]) -> bool:
    """Tell whether a rule's reference is that of its content."""
    body = {
        key: rule[key]
        for key in ("action", "action_parameters", "expression", "enabled")
        if key in rule
    }
    limit = rule.get("ratelimit")
    if limit is not None:
        if not isinstance(limit, dict) or limit.get("counting_expression"):
            return False
        body["ratelimit"] = {"requests_to_origin": False} | {
            key: limit[key] for key in _LIMIT if key in limit
        }
    return bool(ref_of(gateway, Rule(phase, "", body)) == rule.get("ref"))


class CloudflareState:
    """Reads. All errors are those of `HttpApi`."""

    def __init__(self, gateway: str, zone_path: str, api: HttpApi) -> None:
        self._gateway, self._zone_path, self._api = gateway, zone_path, api

    def look(self) -> State:
        phases = {name: self.phase(name) for name in PHASES}
        start = ref_start(self._gateway)
        own = {
            str(rule["ref"]): rule
            for phase in phases.values()
            for rule in phase.rules
            if str(rule.get("ref", "")).startswith(start)
        }
        return State(phases, own)

    def phase(self, name: str) -> Phase:
        path = f"{self._zone_path}/rulesets/phases/{name}/entrypoint"
        answer = self._api.read(path, missing_ok=_says_no_entry_point)
        if answer is None:
            return Phase(name, None, "0", ())
        result = answer.get("result") if isinstance(answer, dict) else None
        if not isinstance(result, dict) or not isinstance(result.get("id"), str):
            raise self._api.not_its_own(path)
        rules = result.get("rules") or []
        if not isinstance(rules, list) or not all(map(_is_rule, rules)):
            raise self._api.not_its_own(path)
        return Phase(name, result["id"], str(result.get("version", "")), tuple(rules))


def reason_of(body: Any) -> str:
    """Return what an error's envelope says: its messages, in order."""
    errors = body.get("errors") if isinstance(body, dict) else None
    if not isinstance(errors, list):
        return ""
    return "; ".join(str(each["message"]) for each in errors if _has_message(each))


def _has_message(error: Any) -> bool:
    return isinstance(error, dict) and isinstance(error.get("message"), str)


def _says_no_entry_point(body: Any) -> bool:
    errors = body.get("errors") if isinstance(body, dict) else None
    return isinstance(errors, list) and any(
        isinstance(error, dict) and error.get("code") == NO_ENTRY_POINT for error in errors
    )


def _is_rule(rule: Any) -> bool:
    return (
        isinstance(rule, dict)
        and isinstance(rule.get("id"), str)
        and isinstance(rule.get("ref") or "", str)
        and isinstance(rule.get("description") or "", str)
    )
