"""Overlapping containments on every real gateway, looked at from outside after each change.

What callers must get is worked out here from the controls in force, one request at a time; not by
what adapters put controls together with.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bot.model.answers import MARK_HEADER
from bot.model.containment import (
    ANY_METHOD,
    Containment,
    Control,
    ControlKind,
    Principal,
    PrincipalKind,
    subject,
)
from tests.gateways.rig import Rig

pytestmark = pytest.mark.live

INCIDENTS = ("INC-1", "INC-2", "INC-3")
HOW_MANY = 10
ORDERS = "/api/orders/{order_id}"
SLOW, FAST = 1 / 3600, 100_000.0
"""So few a second that the second request is too many, and so many that none ever is."""


@dataclass(frozen=True)
class Caller:
    username: str
    source: str

    @property
    def claims(self) -> dict[str, str]:
        subject_of = {"probe-owner": "c-owner", "mallory": "c-mallory"}
        return {"sub": subject_of[self.username], "role": "customer"}


@dataclass(frozen=True)
class Request:
    """``key`` is the endpoint's in the inventory; ``served`` the status of the service itself."""

    method: str
    path: str
    key: str
    served: int = 200


CALLERS = [
    Caller(username, source)
    for username in ("probe-owner", "mallory")
    for source in ("127.0.0.1", "127.0.0.2")
]
REQUESTS = [
    Request("GET", "/api/orders/4001", f"GET {ORDERS}"),
    Request("HEAD", "/api/orders/4001", f"GET {ORDERS}"),
    Request("DELETE", "/api/orders/4001", f"DELETE {ORDERS}", served=405),
    Request("GET", "/api/orders", "GET /api/orders"),
    Request("GET", "/api/orders/export", "GET /api/orders/export"),
    Request("GET", "/api/customers/me", "GET /api/customers/me"),
]
"""The last one is never contained."""

PLACES = [
    ("GET", ORDERS),
    (ANY_METHOD, ORDERS),
    ("DELETE", ORDERS),
    ("GET", "/api/orders"),
    ("GET", "/api/orders/export"),
]


def address(value: str) -> Principal:
    return Principal(kind=PrincipalKind.IP, value=value)


WHOM = [
    (address("127.0.0.2"),),
    (address("127.0.0.0/31"),),
    (address("127.0.0.0/30"), address("198.51.100.7")),
    (subject("c-mallory"),),
    (subject("c-owner"), address("127.0.0.2")),
    (Principal(kind=PrincipalKind.CLAIM, claim="role", value="customer"),),
]


def possible(rig: Rig) -> list[Control]:
    """Return every control of these that the gateway supports."""
    found = []
    for method, path in PLACES:
        at = {"method": method, "path": path}
        found += [Control(kind=ControlKind.THROTTLE, rate_per_s=r, **at) for r in (SLOW, FAST)]
        found.append(Control(kind=ControlKind.CLOSE, **at))
        found.append(Control(kind=ControlKind.SHADOW, would=ControlKind.CLOSE, **at))
        for whom in WHOM:
            kinds = (ControlKind.BLOCK, ControlKind.ALLOW_ONLY)
            found += [Control(kind=kind, principals=whom, **at) for kind in kinds]
    return [control for control in found if rig.gateway.supports(control).ok]


# --- what must be answered -----------------------------------------------------------------------


def is_one(caller: Caller, principal: Principal) -> bool:
    if principal.kind is PrincipalKind.IP:
        return ipaddress.ip_address(caller.source) in ipaddress.ip_network(principal.value)
    return caller.claims.get(principal.claim or "") == principal.value


def answers(controls: Sequence[Control], request: Request, caller: Caller) -> set[tuple[int, str]]:
    """Return the statuses, and the marks of whose answer it is, that a caller may get."""
    method, _, path = request.key.partition(" ")
    holding = [c for c in controls if c.path == path and c.method in (method, ANY_METHOD)]
    if any(c.kind is ControlKind.CLOSE for c in holding):
        return {(503, "closed")}
    # Whether a limit counts whom another control refuses is a gateway's own affair.
    slow = any(c.kind is ControlKind.THROTTLE and c.rate_per_s == SLOW for c in holding)
    limited = {(429, "throttled")} if slow else set()
    for c in holding:
        named = any(is_one(caller, principal) for principal in c.principals)
        if (c.kind is ControlKind.BLOCK and named) or (
            c.kind is ControlKind.ALLOW_ONLY and not named
        ):
            return {(403, "refused")} | limited
    return {(request.served, "")} | limited


def looked(rig: Rig, controls: Sequence[Control]) -> list[str]:
    """Ask for everything as everybody; return what is not as it must be."""
    wrong = []
    for request in REQUESTS:
        got: list[tuple[int, str]] = []
        for caller in CALLERS:
            reply = rig.request(request.method, request.path, caller.username, source=caller.source)
            answer = reply.status, reply.headers.get(MARK_HEADER, "")
            got.append(answer)
            may = answers(controls, request, caller)
            if answer not in may:
                wrong.append(f"{request} {caller}: {answer}, not of {sorted(may)}")
        wrong += limit_that_does_not_hold(rig, controls, request, got)
    return wrong


def limit_that_does_not_hold(
    rig: Rig, controls: Sequence[Control], request: Request, got: Sequence[tuple[int, str]]
) -> list[str]:
    """After a slow limit has let one through, the next one is too many; unless the gateway's maker
    promises no such thing."""
    limits = [c for c in controls if c.kind is ControlKind.THROTTLE]
    if any(rig.gateway.supports(limit).best_effort for limit in limits):
        return []
    served = request.served, ""
    free = [c for c in CALLERS if {served, (429, "throttled")} == answers(controls, request, c)]
    if not free or (429, "throttled") in got:
        return []
    caller = free[0]
    again = [
        rig.request(request.method, request.path, caller.username, source=caller.source).status
        for _ in range(3)
    ]
    return [] if 429 in again else [f"{request} {caller}: {again} under a slow limit"]


# --- the property --------------------------------------------------------------------------------


def test_union_of_what_is_in_force(running: Rig) -> None:
    """
    Ten containments of three incidents, held one after the other and lifted in any order, with
    Firedoor restarted in between: after each hold and each lift every caller gets at every endpoint
    what the union of those in force says; after the last one, the gateway reports what it did
    before the first.
    """
    rig, number = running, 0
    lift_all(rig)
    base = rig.gateway.observe()
    by_kind: dict[ControlKind, list[Control]] = {}
    for control in possible(rig):
        by_kind.setdefault(control.kind, []).append(control)
    # Each rung as often: a close hides all others.
    some = st.one_of([st.sampled_from(each) for each in by_kind.values()])

    @settings(
        max_examples=3,
        phases=[Phase.generate],  # each try takes seconds; the first that fails says enough
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(
        wanted=st.lists(
            st.tuples(st.sampled_from(INCIDENTS), some), min_size=HOW_MANY, max_size=HOW_MANY
        ),
        order=st.permutations(range(HOW_MANY)),
        restarts=st.sets(st.integers(0, 2 * HOW_MANY - 1), max_size=4),
    )
    def hold_and_lift(
        wanted: list[tuple[str, Control]], order: list[int], restarts: set[int]
    ) -> None:
        nonlocal number
        number += 1
        lift_all(rig)  # what an example that failed has left
        made = [
            containment(rig, f"{incident}-R{number}", f"step-{step}", control)
            for step, (incident, control) in enumerate(wanted)
        ]
        held: dict[str, Control] = {}
        changes = [
            *(partial(hold, rig, held, each) for each in made),
            *(partial(lift, rig, held, made[at].id) for at in order),
        ]
        for at, change in enumerate(changes):
            if at in restarts:
                rig.restart_firedoor()
            change()
            wrong = looked(rig, list(held.values()))
            assert wrong == [], f"after change {at}, with {held}"
        assert rig.gateway.observe() == base

    try:
        hold_and_lift()
    finally:
        lift_all(rig)


def lift_all(rig: Rig) -> None:
    rig.desk.lift([c.id for c in rig.desk.in_force(rig.name)], "test")


def hold(rig: Rig, held: dict[str, Control], made: Containment) -> None:
    rig.desk.hold(made)
    held[made.id] = made.control


def lift(rig: Rig, held: dict[str, Control], id_: str) -> None:
    rig.desk.lift([id_], "slack:U0IRIS")
    del held[id_]


def containment(rig: Rig, run: str, step: str, control: Control) -> Containment:
    now = rig.clock.now()
    return Containment(
        id=f"{run}.{step}",
        incident_id=run.partition("-R")[0],
        run_id=run,
        step_id=step,
        gateway=rig.name,
        control=control,
        owner="slack:U0IRIS",
        reason="-",
        since=now,
        expires_at=now + timedelta(hours=4),
    )
