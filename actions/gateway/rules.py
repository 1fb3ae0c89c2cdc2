"""What holds where: a set of controls, put together by endpoint. Pure, and the same for every
gateway.

Rule 1: on one endpoint closing beats everything, the lowest rate wins, every blocked principal is
    blocked, and a caller must be among the allowed of each control that allows only some.
Rule 2: a control on a whole route holds for each of its methods too.
Rule 3: a request is of the most specific template that matches its path. So a known endpoint
    that a less specific contained template would match too (``GET /orders/export`` beside
    ``GET /orders/{id}``) is kept out of that one's containment.
Rule 4: HEAD goes with GET: it tells whether an object exists, and how long it is. So what holds on
    GET holds on HEAD too, whatever else holds there.
Rule 5: templates are one if they differ only in the names of parameters, or in a slash at the end.
Rule 6: paths that two contained templates match, of which neither is within the other
    (``/a/{x}/c`` and ``/a/b/{y}``), have the controls of both: else a mere limit on one of them
    would open what a close of the other holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from actions.gateway.templates import common_template, example_of, openness, path_regex
from bot.errors import BadInput
from bot.model.containment import ANY_METHOD, Control, ControlKind, Principal
from bot.model.endpoint import shape_of, shape_of_key

MAX_RATE_PER_S = 1_000_000.0

SHADOWED = (ControlKind.BLOCK, ControlKind.ALLOW_ONLY, ControlKind.CLOSE)
"""What a shadow can stand for."""

OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
OVERRIDE_HEADERS = tuple(name.lower() for name in OVERRIDES)
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
    def without_counts(self) -> Rules:
        """Whom it refuses alone, without limit and shadows: what holds of a request that is of
        another method, and says that it is of this one (`OVERRIDE_HEADERS`)."""
        return replace(self, rate_per_s=None, shadows=())

    @property
    def refuses_some(self) -> bool:
        """Whether some callers are refused, and not all."""
        return not self.closed and bool(self.blocked or self.allowed)

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


def rules_of(
    controls: Iterable[Control], known: Iterable[str] = (), *, by_path: bool = True
) -> list[Rules]:
    """
    Return what holds on each endpoint, the most specific first: the first that matches a request
    is the one for it.

    The order of ``controls`` and repetitions are irrelevant.

    Args:
        known: Keys of all endpoints there are; see rule 3.

        by_path: False for a gateway that has an object for each endpoint and tells by itself
            which one a path is of: then there are no rules for what two templates share (rule 6).

    Raises:
        BadInput: A control lacks what its kind needs.
    """
    names: dict[str, str] = {}
    grouped: _Grouped = {}
    for control in sorted(controls, key=lambda control: control.path):
        _check(control)
        path = names.setdefault(shape_of(control.path), control.path)
        grouped.setdefault((control.method.upper(), path), set()).add(control)
    known = sorted(set(known))
    if by_path:
        _add_shared(
            grouped, {(method.upper(), shape) for method, shape in map(shape_of_key, known)}
        )
    for (method, path), group in grouped.items():
        for wider in _wider(method):
            group |= grouped.get((wider, path), set())
    rules = [_together(method, path, group) for (method, path), group in grouped.items()]
    return sorted(rules + _exempt(rules, known), key=_specific_first)


_Grouped = dict[tuple[str, str], set[Control]]
"""Controls by method and path."""


def _wider(method: str) -> tuple[str, ...]:
    """Return the methods whose controls hold for this one too."""
    if method == ANY_METHOD:
        return ()
    return ("GET", ANY_METHOD) if method == "HEAD" else (ANY_METHOD,)


def _add_shared(grouped: _Grouped, known: set[tuple[str, str]]) -> None:
    """Add groups for the paths that two templates share; see rule 6. An endpoint that is known by
    itself is of neither template (rule 3)."""
    names = {shape_of(path): path for _, path in grouped}
    # Of two templates one of which has no parameter, one is within the other or they share nothing.
    left = sorted(path for shape, path in names.items() if "{" in shape)
    done: list[str] = []
    while left:
        one = left.pop()
        for other in done:
            shared = common_template(one, other)
            if shared is None or shape_of(shared) in (shape_of(one), shape_of(other)):
                continue  # the more specific one is tried first, and holds by itself
            shape = shape_of(shared)
            if shape not in names:
                names[shape] = shared
                left.append(shared)
            for method, controls in list(_shared(grouped, one, other)):
                if not {(each, shape) for each in (method, *_wider(method))} & known:
                    grouped.setdefault((method, names[shape]), set()).update(controls)
        done.append(one)


def _shared(grouped: _Grouped, one: str, other: str) -> Iterator[tuple[str, set[Control]]]:
    """Yield what two templates hold together, by method."""
    here, there = (
        [(method, group) for (method, path), group in grouped.items() if path == each]
        for each in (one, other)
    )
    for (method, controls), (its, more) in product(here, there):
        if its in (method, *_wider(method)):
            yield method, controls | more
        elif method in _wider(its):
            yield its, controls | more


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


ODD_PATHS = Rules(method=ANY_METHOD, path="/;", closed=True)
"""In whose name `templates.ODD_SEGMENT` is closed."""


def hold_back(rules: Iterable[Rules]) -> bool:
    """Tell whether any of the rules does more than count."""
    return any(replace(rule, shadows=()).is_contained for rule in rules)


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
    held = {(rule.method, shape_of(rule.path)) for rule in rules}
    found = []
    for key in known:
        method, _, path = key.partition(" ")
        candidate = Rules(method=method.upper(), path=path)
        example = example_of(path)
        caught = any(
            _have_common(rule.method, candidate.method)
            and openness(path) < openness(rule.path)
            and re.fullmatch(path_regex(rule.path), example)
            for rule in rules
        )
        methods = (candidate.method, *_wider(candidate.method))
        if caught and not {(each, shape_of(path)) for each in methods} & held:
            found.append(candidate)
    return found


def _have_common(method: str, other: str) -> bool:
    """Tell whether rules of both methods may be about one request."""
    return bool(
        ANY_METHOD in (method, other)
        or method == other
        or {method, other} == {"GET", "HEAD"}  # rule 4
    )


def _specific_first(rules: Rules) -> tuple[tuple[int, ...], str, bool, bool, str]:
    is_any, is_head = rules.method == ANY_METHOD, rules.method == "HEAD"
    # HEAD before GET, whose rules are about it too.
    return openness(rules.path), rules.path, is_any, not is_head, rules.method
