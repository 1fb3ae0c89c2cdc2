"""Proof from outside: what callers get at an endpoint, at its neighbours, and around it.

Every request goes through the gateway's public address with a valid token, so that it is the
control that answers and not the token check before it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from actions.gateway.answers import CLOSED, MARK_HEADER, REFUSED, THROTTLED
from actions.gateway.desk import describe, endpoint_of, listed, settled_version
from actions.gateway.variants import Variant, variants
from actions.probe import Answer, Prober, Who
from bot.action import Context
from bot.errors import BadInput
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind
from bot.model.endpoint import Endpoint
from bot.model.outcome import Check, Proof

REPEATS = 3
NEIGHBOURS = 12
"""The nearest ones by path; an inventory may hold hundreds."""

BURST_WORKERS = 4
BURST_TIMEOUT_S = 10.0
MAX_BURST = 300
MADE_UP = "firedoor-probe"
"""Stands for a path parameter when no real object may be touched."""

USERS: tuple[Who, ...] = ("owner", "stranger")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
REJECTED = (400, 409, 415, 422)
"""What a handler says to a body or an id that it cannot take: then it was reached."""

UPSTREAM_HEADER = "x-envoy-upstream-service-time"


@dataclass(frozen=True)
class _Target:
    """What to send to an endpoint without doing harm should it be open.

    For a method that changes data: an object that does not exist and a body that is not JSON.
    """

    endpoint: Endpoint
    path: str
    is_real: bool
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None

    @property
    def method(self) -> str:
        return self.endpoint.method

    @property
    def is_harmless(self) -> bool:
        """A DELETE without a path parameter would hit something real, and looks at no body."""
        return self.method in SAFE_METHODS or self.body is not None or "{" in self.endpoint.path

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def held(control: Control, key: str, *, gateway: str, probe: str | None, ctx: Context) -> Proof:
    """
    Prove a control that was just put in force, or the stricter one that hides it.

    Args:
        key: Of the endpoint to ask; of a control on a whole route, one of its methods.
    """
    endpoint = endpoint_of(key, ctx)
    version = version_check(gateway, ctx)
    checks = [version]
    prober = _prober(gateway, probe, ctx)
    if isinstance(prober, Check):
        return Proof(checks=(version, prober))
    target = _target(endpoint)
    in_force = [c.control for c in ctx.containments.in_force(gateway, endpoint.key)]
    if not target.is_harmless or not (version.ok or target.method in SAFE_METHODS):
        checks.append(_not_tried(target))
    elif closing := [c for c in [control, *in_force] if c.kind is ControlKind.CLOSE]:
        checks += _closed(target, _own_status(closing[0], gateway, ctx), prober, ctx)
    elif control.kind is ControlKind.THROTTLE:
        checks.append(_throttled(control, target, _own_status(control, gateway, ctx), prober))
    else:
        checks += _refusing(control, target, prober, version)
    return Proof(checks=(*checks, *_neighbours([endpoint], gateway, prober, ctx)))


def lifted(places: Iterable[tuple[str, str]], *, probe: str | None, ctx: Context) -> Proof:
    """
    Prove that endpoints answer again.

    Args:
        places: Gateway and endpoint key of each.
    """
    by_gateway: dict[str, list[str]] = {}
    for gateway, key in sorted(places):
        by_gateway.setdefault(gateway, []).append(key)
    checks: list[Check] = []
    for gateway, keys in by_gateway.items():
        checks.append(version_check(gateway, ctx))
        prober = _prober(gateway, probe, ctx)
        if isinstance(prober, Check):
            checks.append(prober)
            continue
        endpoints = [endpoint_of(key, ctx) for key in keys]
        checks += [_answers_again(endpoint, gateway, prober, ctx) for endpoint in endpoints]
        checks += _neighbours(endpoints, gateway, prober, ctx)
    if not by_gateway:
        checks.append(Check(name="lifted", ok=True, expected="nothing", seen="nothing"))
    return Proof(checks=tuple(checks))


def version_check(gateway: str, ctx: Context) -> Check:
    """Check that a gateway reports the version that the containments in force make."""
    reported, wanted = settled_version(ctx, gateway)
    return Check(
        name=f"routes that gateway {gateway} reports",
        ok=reported == wanted,
        expected=f"version {wanted}",
        seen=f"version {reported or '(none)'}",
    )


def _own_status(control: Control, gateway: str, ctx: Context) -> int | None:
    return ctx.containments.gateway(gateway).supports(control).own_status


# --- the endpoint ------------------------------------------------------------------------------


def _closed(target: _Target, own: int | None, prober: Prober, ctx: Context) -> list[Check]:
    fresh = [_send(target, prober) for _ in range(REPEATS)]
    with prober.connection() as line:
        kept = [
            line.request(
                target.method, target.path, "owner", headers=target.headers, body=target.body
            )
            for _ in range(REPEATS)
        ]
    checks = [
        _repeated(f"{target} on fresh connections", fresh, own),
        _repeated(f"{target} on one connection", kept, own),
    ]
    path = target.endpoint.path
    there = [e.method for e in ctx.endpoints.values() if e.path == path]
    spelled = variants(target.method, target.path, there)
    return checks + [_not_around(variant, target, prober) for variant in spelled]


def _repeated(name: str, answers: Sequence[Answer], own: int | None) -> Check:
    return Check(
        name=name,
        ok=all(_is_closed(answer, own) for answer in answers),
        expected=f"{own or CLOSED.status} by the gateway, {len(answers)} times",
        seen=", ".join(_said(answer) for answer in answers),
    )


def _is_closed(answer: Answer, own: int | None) -> bool:
    if own is not None:
        return answer.status == own
    return answer.status == CLOSED.status and answer.headers.get(MARK_HEADER) == CLOSED.mark


def _not_around(variant: Variant, target: _Target, prober: Prober) -> Check:
    """Try one spelling, and where it is redirected to on the same host, as a client would."""
    headers = {**target.headers, **variant.headers}
    answer = prober.request(
        variant.method, variant.path, "owner", headers=headers, body=_body(variant, target)
    )
    said = _said(answer)
    onward = prober.same_host_path(answer)
    if onward is not None:
        answer = prober.request(
            variant.method, onward, "owner", headers=headers, body=_body(variant, target)
        )
        said = f"{said}, then {_said(answer)}"
    return Check(
        name=f"not around it by {variant.name}: {variant.method} {variant.path}",
        ok=not _has_reached(answer, target),
        expected="no answer of the endpoint itself",
        seen=said,
    )


def _body(variant: Variant, target: _Target) -> bytes | None:
    """A method that carries an override needs a body that a handler of its own would refuse."""
    return target.body if variant.method in SAFE_METHODS else MADE_UP.encode()


def _has_reached(answer: Answer, target: _Target) -> bool:
    if answer.is_success:
        return True
    return not target.is_real and answer.status in REJECTED and UPSTREAM_HEADER in answer.headers


def _throttled(control: Control, target: _Target, own: int | None, prober: Prober) -> Check:
    burst = min(2 * math.ceil(control.rate_per_s or 0.0) + BURST_WORKERS, MAX_BURST)
    passed, throttled = _burst(target, own, prober, burst)
    return Check(
        name=f"{target}, up to {burst} times at once",
        ok=throttled,
        expected="429 by the gateway at least once",
        seen=f"429 after {passed} others" if throttled else f"never 429 in {passed} answers",
    )


def _burst(target: _Target, own: int | None, prober: Prober, count: int) -> tuple[int, bool]:
    """Ask on several connections at once, as a slow service would never be asked too often by
    one; return how many answers were no 429 of ours, and whether one was."""
    left = iter(range(count))
    passed: list[Answer] = []
    throttled = threading.Event()
    deadline = time.monotonic() + BURST_TIMEOUT_S

    def ask() -> None:
        with prober.connection() as line:
            while not throttled.is_set() and time.monotonic() < deadline:
                if next(left, None) is None:
                    return
                answer = line.request(
                    target.method, target.path, "owner", headers=target.headers, body=target.body
                )
                if _is_throttled(answer, own):
                    throttled.set()
                else:
                    passed.append(answer)

    with ThreadPoolExecutor(max_workers=BURST_WORKERS) as pool:
        for future in [pool.submit(ask) for _ in range(BURST_WORKERS)]:
            future.result()
    return len(passed), throttled.is_set()


def _is_throttled(answer: Answer, own: int | None) -> bool:
    if own is not None:
        return answer.status == own
    return answer.status == THROTTLED.status and answer.headers.get(MARK_HEADER) == THROTTLED.mark


def _refusing(control: Control, target: _Target, prober: Prober, version: Check) -> list[Check]:
    """Ask as both probes: who is refused gets 403, who is not is served."""
    checks = []
    for who in USERS:
        matched = _is_one_of(control.principals, prober.claims(who))
        refused = matched if control.kind is ControlKind.BLOCK else not matched
        answer = _send(target, prober, who)
        checks.append(
            Check(
                name=f"{target} as {prober.subject(who) or who}",
                ok=answer.status == REFUSED.status if refused else _is_let_through(answer),
                expected="403" if refused else "not refused",
                seen=_said(answer),
            )
        )
    if not any(check.expected == "403" for check in checks):
        checks.append(
            Check(
                name=f"refusal of {listed(control.principals)}",
                ok=version.ok,
                expected="a rule for it in the routes that the gateway reports",
                seen=f"{version.seen}; not tried from outside, as Firedoor has no token of a "
                "principal that it refuses",
            )
        )
    return checks


def _is_let_through(answer: Answer) -> bool:
    return answer.status != REFUSED.status and answer.status < 500


def _is_one_of(principals: Sequence[Principal], claims: Mapping[str, Any]) -> bool:
    """Tell whether a token's claims make its bearer one of these."""
    return any(
        each.kind is PrincipalKind.CLAIM and each.value in _texts(claims.get(each.claim or ""))
        for each in principals
    )


def _texts(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _answers_again(endpoint: Endpoint, gateway: str, prober: Prober, ctx: Context) -> Check:
    still = [c.control for c in ctx.containments.in_force(gateway, endpoint.key)]
    target = _target(endpoint)
    if not target.is_harmless:
        return _not_tried(target)
    if still:
        answer = _send(target, prober)
        closing = [control for control in still if control.kind is ControlKind.CLOSE]
        own = _own_status(closing[0], gateway, ctx) if closing else None
        return Check(
            name=f"{target} is still held by another containment",
            ok=_is_closed(answer, own) == bool(closing),
            expected="; ".join(describe(control) for control in still),
            seen=_said(answer),
        )
    return _alive(f"{target} answers again", target, prober)


# --- its neighbours ----------------------------------------------------------------------------


def _neighbours(
    endpoints: Sequence[Endpoint], gateway: str, prober: Prober, ctx: Context
) -> list[Check]:
    """Ask the nearest endpoints that nobody holds back: they must answer as without us."""
    contained = {c.control.endpoint for c in ctx.containments.in_force(gateway)}
    contained |= {endpoint.key for endpoint in endpoints}
    free = [
        endpoint
        for endpoint in ctx.endpoints.values()
        if endpoint.method == "GET" and endpoint.example_path and endpoint.key not in contained
    ]
    nearest = sorted(free, key=lambda e: (-max(_shared(e, other) for other in endpoints), e.key))
    if not nearest:
        why = "the inventory has no other GET endpoint with an example path"
        return [Check(name="neighbours", ok=True, expected="as before", seen=f"none; {why}")]
    return [
        _alive(f"neighbour {endpoint.key} answers", _target(endpoint), prober)
        for endpoint in nearest[:NEIGHBOURS]
    ]


def _shared(one: Endpoint, other: Endpoint) -> int:
    pairs = zip(one.path.split("/"), other.path.split("/"), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _alive(name: str, target: _Target, prober: Prober) -> Check:
    """Check for an answer that is the service's own, and no worse than without the gateway."""
    answer = _send(target, prober)
    ok = answer.status < 500 and MARK_HEADER not in answer.headers
    expected, seen = "2xx", _said(answer)
    if ok and not answer.is_success and target.method in SAFE_METHODS:
        # Not everything is the probe's to read; then the service itself says the same.
        direct = prober.request(target.method, target.path, "owner", "upstream")
        ok = answer.status == direct.status
        expected = f"2xx, or what the service itself says ({direct.status})"
    elif not target.is_real:
        expected = "an answer of the service"
    return Check(name=name, ok=ok, expected=expected, seen=seen)


# --- asking ------------------------------------------------------------------------------------


def _prober(gateway: str, probe: str | None, ctx: Context) -> Prober | Check:
    """Return what to look with; or, that nothing can be seen from outside, as a failed check."""
    try:
        prober = ctx.connection(Prober, probe)
    except BadInput as error:
        why = f"not looked at: {error}"
    else:
        if prober.gateway in (None, gateway):
            return prober
        why = f"not looked at: probe {prober.name} looks through gateway {prober.gateway}"
    return Check(name="a look from outside", ok=False, expected="one, with a probe", seen=why)


def _target(endpoint: Endpoint) -> _Target:
    if endpoint.method in SAFE_METHODS and endpoint.example_path is not None:
        return _Target(endpoint, endpoint.example_path, is_real=True)
    path = "/".join(
        MADE_UP if part.startswith("{") else part.replace("{", "").replace("}", "")
        for part in endpoint.path.split("/")
    )
    if endpoint.method in SAFE_METHODS:
        return _Target(endpoint, path, is_real=False)
    headers = {"Content-Type": "application/json"}
    body = MADE_UP.encode() if endpoint.method != "DELETE" else None
    return _Target(endpoint, path, is_real=False, headers=headers, body=body)


def _not_tried(target: _Target) -> Check:
    return Check(
        name=f"{target.endpoint.key} from outside",
        ok=False,
        expected="to be tried",
        seen="not tried: if it is open, trying would change data; prove it by hand",
    )


def _send(target: _Target, prober: Prober, who: Who = "owner") -> Answer:
    return prober.request(target.method, target.path, who, headers=target.headers, body=target.body)


def _said(answer: Answer) -> str:
    mark = answer.headers.get(MARK_HEADER)
    return f"{answer.status} ({mark} by the gateway)" if mark else str(answer.status)
