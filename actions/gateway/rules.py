"""What holds where: a set of controls, put together by endpoint. Pure, and the same for every
gateway.

Rule 1: on one endpoint closing beats everything, the lowest rate wins, every blocked principal is
    blocked, and a caller must be among the allowed of each control that allows only some.
Rule 2: a control on a whole route holds for each of its methods too.
Rule 3: a request is of the most specific template that matches its path. So a known endpoint
    that a less specific contained template would match too (``GET /orders/export`` beside
    ``GET /orders/{id}``) is kept out of that one's containment.
Rule 4: HEAD goes with GET: it tells whether an object exists, and how long it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from actions.gateway.templates import example_of, openness, path_regex
from bot.errors import BadInput
from bot.model.containment import ANY_METHOD, Control, ControlKind, Principal

MAX_RATE_PER_S = 1_000_000.0

SHADOWED = (ControlKind.BLOCK, ControlKind.ALLOW_ONLY, ControlKind.CLOSE)
"""What a shadow can stand for."""

OVERRIDE_HEADERS = ("x-http-method-override", "x-http-method", "x-method-override")
"""By these an upstream's framework may take a POST for another method."""


@dataclass(frozen=True)
class Rules:
    """
    What holds on one endpoint, all of its controls taken together.

    ``allowed`` holds a group of principals for each control that allows only some; a caller must
    be in every group. ``shadows`` are what is counted. With nothing in it, the endpoint is known
    to be free, and named only to be kept out of a less specific one's rules.
    """

    method: str
    path: str
    closed: bool = False
    rate_per_s: float | None = None
    blocked: tuple[Principal, ...] = ()
    allowed: tuple[tuple[Principal, ...], ...] = ()
    shadows: tuple[Control, ...] = ()

    @property
    def is_contained(self) -> bool:
        """Whether any control, a shadow too, is on it."""
        return bool(
            self.closed
            or self.rate_per_s is not None
            or self.blocked
            or self.allowed
            or self.shadows
        )

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods of requests that it is about; empty for all."""
        if self.method == ANY_METHOD:
            return ()
        return (self.method, "HEAD") if self.method == "GET" else (self.method,)

    @property
    def name(self) -> str:
        """In words of the ladder: ``throttle+block GET /orders/{id}``."""
        words = [
            *(["close"] if self.closed else []),
            *(["throttle"] if self.rate_per_s is not None and not self.closed else []),
            *(["block"] if self.blocked and not self.closed else []),
            *(["allow-only"] if self.allowed and not self.closed else []),
            *(["shadow"] if self.shadows and not self.closed else []),
        ]
        return f"{'+'.join(words) or 'pass'} {self.method} {self.path}"


def rules_of(controls: Iterable[Control], known: Iterable[str] = ()) -> list[Rules]:
    """
    Return what holds on each endpoint, the most specific first: the first that matches a request
    is the one for it.

    The order of ``controls`` and repetitions are irrelevant.

    Args:
        known: Keys of all endpoints there are; see rule 3.

    Raises:
        BadInput: A control lacks what its kind needs.
    """
    grouped: dict[tuple[str, str], set[Control]] = {}
    for control in controls:
        _check(control)
        grouped.setdefault((control.method.upper(), control.path), set()).add(control)
    for (method, path), group in grouped.items():
        if method != ANY_METHOD:
            group |= grouped.get((ANY_METHOD, path), set())
    rules = [_together(method, path, group) for (method, path), group in grouped.items()]
    return sorted(rules + _exempt(rules, known), key=_specific_first)


def _together(method: str, path: str, group: Iterable[Control]) -> Rules:
    by_kind: dict[ControlKind, list[Control]] = {kind: [] for kind in ControlKind}
    for control in sorted(group, key=lambda c: c.model_dump_json()):
        by_kind[control.kind].append(control)
    blocked = {p for control in by_kind[ControlKind.BLOCK] for p in control.principals}
    allowed = {control.principals for control in by_kind[ControlKind.ALLOW_ONLY]}
    rates = [c.rate_per_s for c in by_kind[ControlKind.THROTTLE] if c.rate_per_s is not None]
    return Rules(
        method=method,
        path=path,
        closed=bool(by_kind[ControlKind.CLOSE]),
        rate_per_s=min(rates, default=None),
        blocked=tuple(sorted(blocked, key=_order)),
        allowed=tuple(sorted(allowed, key=lambda each: [_order(p) for p in each])),
        shadows=tuple(by_kind[ControlKind.SHADOW]),
    )


def _order(principal: Principal) -> tuple[str, str, str]:
    return principal.kind.value, principal.claim or "", principal.value


def _check(control: Control) -> None:
    kind = control.would if control.kind is ControlKind.SHADOW else control.kind
    rate = control.rate_per_s
    if kind is ControlKind.THROTTLE and (rate is None or rate > MAX_RATE_PER_S):
        raise BadInput(
            f"A throttle of {control.endpoint} needs a rate of at most {MAX_RATE_PER_S:g} requests "
            f"a second, not {rate}; nothing was done."
        )
    if kind in (ControlKind.BLOCK, ControlKind.ALLOW_ONLY) and not control.principals:
        raise BadInput(
            f"A {kind.value} on {control.endpoint} names no principal, so it would be about "
            "nobody; nothing was done. Give an address, an API key's name or a claim."
        )
    if control.kind is ControlKind.SHADOW and kind not in SHADOWED:
        raise BadInput(
            f"A shadow on {control.endpoint} does not say what it would do; nothing was done. "
            "Give `would`: block, allow_only or close."
        )


def _exempt(rules: Sequence[Rules], known: Iterable[str]) -> list[Rules]:
    """Return the known endpoints that must not be caught by a less specific template."""
    held = {(rule.method, rule.path) for rule in rules}
    found = []
    for key in sorted(set(known)):
        method, _, path = key.partition(" ")
        candidate = Rules(method=method.upper(), path=path)
        example = example_of(path)
        caught = any(
            rule.method in (ANY_METHOD, candidate.method)
            and rule.path != path
            and openness(path) < openness(rule.path)
            and re.fullmatch(path_regex(rule.path), example)
            for rule in rules
        )
        is_held = {(candidate.method, path), (ANY_METHOD, path)} & held
        if caught and not is_held:
            found.append(candidate)
    return found


def _specific_first(rules: Rules) -> tuple[tuple[int, ...], str, bool, str]:
    return openness(rules.path), rules.path, rules.method == ANY_METHOD, rules.method
