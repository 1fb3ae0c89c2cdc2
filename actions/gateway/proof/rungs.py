"""What each rung of the ladder looks like from outside."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from actions.gateway.desk import listed
from actions.gateway.proof.target import MADE_UP, Target, said, send
from actions.gateway.variants import SAFE_METHODS, Variant, variants
from actions.probe import Answer, Prober, Via, Who
from bot.action import Context, Gateway, Support
from bot.errors import BadInput
from bot.model.answers import CLOSED, MARK_HEADER, REFUSED, THROTTLED
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind
from bot.model.outcome import Check

BURST_WORKERS = 4
BURST_TIMEOUT_S = 10.0
MAX_BURST = 300

REJECTED = (400, 409, 415, 422)
"""What a handler says to a body or an id that it cannot take: then it was reached."""

USERS: tuple[Who, ...] = ("owner", "stranger")


# --- closed --------------------------------------------------------------------------------------


def closed(target: Target, own: int | None, prober: Prober, ctx: Context) -> list[Check]:
    """
    Ask on fresh and on kept connections from every vantage point, then by every spelling.

    Args:
        own: The status of a gateway that can only give an answer of its own.
    """
    checks = []
    for via in prober.vantages:
        at = "" if via == "gateway" else f", from {via}"
        fresh = [send(target, prober, "owner", via) for _ in range(prober.repeats)]
        with prober.connection(via) as line:
            kept = [
                line.request(
                    target.method, target.path, "owner", headers=target.headers, body=target.body
                )
                for _ in range(prober.repeats)
            ]
        checks.append(_repeated(f"{target} on fresh connections{at}", fresh, own))
        checks.append(_repeated(f"{target} on one connection{at}", kept, own))
    path = target.endpoint.path
    there = [e.method for e in ctx.endpoints.values() if e.path == path]
    spelled = variants(target.method, target.path, there)
    return checks + [_not_around(variant, target, prober) for variant in spelled]


def _repeated(name: str, answers: Sequence[Answer], own: int | None) -> Check:
    return Check(
        name=name,
        ok=all(is_closed(answer, own) for answer in answers),
        expected=f"{own or CLOSED.status} by the gateway, {len(answers)} times",
        seen=", ".join(said(answer) for answer in answers),
    )


def is_closed(answer: Answer, own: int | None) -> bool:
    """Tell whether an answer is that of a closed endpoint; ``own`` as for `closed`."""
    if own is not None:
        return answer.status == own
    return answer.status == CLOSED.status and answer.headers.get(MARK_HEADER) == CLOSED.mark


def _not_around(variant: Variant, target: Target, prober: Prober) -> Check:
    """Try one spelling, and where it is redirected to on the same host, as a client would."""
    answer = _spelled(variant, variant.path, target, prober)
    words, path = said(answer), variant.path
    onward = prober.same_host_path(answer)
    if onward is not None:
        answer, path = _spelled(variant, onward, target, prober), onward
        words = f"{words}, then {said(answer)}"
    return Check(
        name=f"not around it by {variant.name}: {variant.method} {variant.path}",
        ok=not _has_reached(answer, variant, path, target, prober),
        expected="no answer of the endpoint itself",
        seen=words,
    )


def _spelled(
    variant: Variant, path: str, target: Target, prober: Prober, via: Via = "gateway"
) -> Answer:
    if variant.body is not None:
        body: bytes | None = variant.body.encode()
    elif variant.method.upper() in SAFE_METHODS:
        body = target.body
    else:
        body = MADE_UP.encode()  # what a handler of the method that carries an override refuses
    headers = {**target.headers, **variant.headers}
    return prober.request(variant.method, path, "owner", via, headers=headers, body=body)


def _has_reached(
    answer: Answer, variant: Variant, path: str, target: Target, prober: Prober
) -> bool:
    """Tell whether an answer is of the endpoint itself.

    A made-up object is refused by a handler, and a bad path by the gateway, maybe with the same
    status. Then it is the service's if the service itself, asked directly, says it in that form.
    """
    if answer.is_success and variant.rewrites:
        plain = prober.request(variant.method, path, "owner", headers=target.headers)
        return _form(plain) != _form(answer)
    if answer.is_success:
        return True
    if target.is_real or answer.status not in REJECTED or MARK_HEADER in answer.headers:
        return False
    direct = _spelled(variant, path, target, prober, "upstream")
    return _form(direct) == _form(answer)


def _form(answer: Answer) -> tuple[int, str | None]:
    return answer.status, answer.headers.get("content-type")


# --- throttled -----------------------------------------------------------------------------------


def throttled(
    control: Control,
    every: Sequence[Control],
    target: Target,
    prober: Prober,
    support: Support,
    version: Check,
) -> list[Check]:
    """Ask more often than the rate allows, from every vantage point: each node limits by itself. A
    limit that is approximate by its maker's word need not show within one burst."""
    burst = min(2 * math.ceil(control.rate_per_s or 0.0) + BURST_WORKERS, MAX_BURST)
    checks = []
    for via in prober.vantages:
        at = "" if via == "gateway" else f", from {via}"
        name = f"{target}, up to {burst} times at once{at}"
        who = _let_through(every, prober, via)
        if who is None:
            why = "other controls refuse every caller that Firedoor can be"
            checks.append(_not_seen(name, version, why))
            continue
        passed, is_throttled = _burst(target, support.own_status, prober, burst, who, via)
        expected = "429 by the gateway at least once"
        if support.best_effort:
            expected = f"{expected}, or none, as this limit is approximate and no block"
        checks.append(
            Check(
                name=name,
                ok=is_throttled or support.best_effort,
                expected=expected,
                seen=f"429 after {passed} others"
                if is_throttled
                else f"never 429 in {passed} answers",
            )
        )
    return checks


def _let_through(every: Sequence[Control], prober: Prober, via: Via) -> Who | None:
    """Return a user whom no control is known to refuse, as only such a one meets the limit."""
    for who in USERS:
        if not _is_refused(every, prober.claims(who), prober.seen_as(via)):
            return who
    return None


def _burst(
    target: Target, own: int | None, prober: Prober, count: int, who: Who, via: Via
) -> tuple[int, bool]:
    """Ask on several connections at once, as a slow service would never be asked too often by
    one; return how many answers were no 429 of ours, and whether one was."""
    left = iter(range(count))
    passed: list[Answer] = []
    throttled = threading.Event()
    deadline = time.monotonic() + BURST_TIMEOUT_S

    def ask() -> None:
        with prober.connection(via) as line:
            while not throttled.is_set() and time.monotonic() < deadline:
                if next(left, None) is None:
                    return
                answer = line.request(
                    target.method, target.path, who, headers=target.headers, body=target.body
                )
                if _is_throttled(answer, own):
                    throttled.set()
                else:
                    passed.append(answer)

    with ThreadPoolExecutor(max_workers=BURST_WORKERS) as pool:
        for future in [pool.submit(ask) for _ in range(BURST_WORKERS)]:
            future.result()
    return len(passed), throttled.is_set()


def _is_throttled(answer: Answer, own: int | None = None) -> bool:
    if own is not None:
        return answer.status == own
    return answer.status == THROTTLED.status and answer.headers.get(MARK_HEADER) == THROTTLED.mark


# --- refused to some -----------------------------------------------------------------------------


def refusing(
    control: Control,
    every: Sequence[Control],
    target: Target,
    own: int | None,
    prober: Prober,
    version: Check,
) -> list[Check]:
    """
    Ask as both probes from every vantage point: who is refused gets 403, who is not is served.

    Args:
        every: All controls on the endpoint: another one may refuse whom this one lets through.

        own: The status of a gateway that can only give an answer of its own.
    """
    checks = []
    is_seen = False
    for via in prober.vantages:
        for who in USERS:
            expected = _is_refused(every, prober.claims(who), prober.seen_as(via))
            if expected is None:
                continue
            is_seen |= bool(_is_refused([control], prober.claims(who), prober.seen_as(via)))
            checks.append(_asked(target, own, prober, who, via, is_refused=expected))
    if not is_seen:
        whom = listed(control.principals)
        what = (
            f"refusal of {whom}" if control.kind is ControlKind.BLOCK else f"refusal but of {whom}"
        )
        why = "Firedoor has no token and no vantage point of a caller that it refuses"
        checks.append(_not_seen(what, version, why))
    return checks


def _not_seen(name: str, version: Check, why: str) -> Check:
    """Say that only the gateway's word stands for it."""
    return Check(
        name=name,
        ok=version.ok,
        expected="a rule for it in the routes that the gateway reports",
        seen=f"{version.seen}; not tried from outside, as {why}",
    )


def _asked(
    target: Target, own: int | None, prober: Prober, who: Who, via: Via, *, is_refused: bool
) -> Check:
    answer = send(target, prober, who, via)
    by_us = _is_refusal(answer, own)
    if by_us and not is_refused and own is not None and target.is_safe:
        # Without a mark it may be the service's own answer; then the service itself says the same.
        by_us = send(target, prober, who, "upstream").status != own
    let_through = not by_us and (answer.status < 500 or _is_throttled(answer))
    at = "" if via == "gateway" else f" from {via}"
    return Check(
        name=f"{target} as {prober.subject(who) or who}{at}",
        ok=by_us if is_refused else let_through,
        expected=f"{own or REFUSED.status} by the gateway"
        if is_refused
        else "not refused by the gateway",
        seen=said(answer),
    )


def _is_refusal(answer: Answer, own: int | None) -> bool:
    """Tell whether an answer is that to a caller whom a control refuses; ``own`` as for `refusing`.

    The service refuses callers too: a 403 of its own is neither our refusal nor in its way.
    """
    if own is not None:
        return answer.status == own
    return answer.status == REFUSED.status and answer.headers.get(MARK_HEADER) == REFUSED.mark


def _is_refused(
    controls: Sequence[Control], claims: Mapping[str, Any], address: str | None
) -> bool | None:
    """Tell whether a caller is refused by any of the controls; None if that cannot be known."""
    known: list[bool | None] = []
    for control in controls:
        matched = _is_one_of(control.principals, claims, address)
        if control.kind is ControlKind.BLOCK:
            known.append(matched)
        elif control.kind is ControlKind.ALLOW_ONLY:
            known.append(None if matched is None else not matched)
    if True in known:
        return True
    return None if None in known else False


def _is_one_of(
    principals: Sequence[Principal], claims: Mapping[str, Any], address: str | None
) -> bool | None:
    found = [_is(principal, claims, address) for principal in principals]
    if True in found:
        return True
    return None if None in found else False


def _is(principal: Principal, claims: Mapping[str, Any], address: str | None) -> bool | None:
    match principal.kind:
        case PrincipalKind.CLAIM:
            value = claims.get(principal.claim or "")
            return principal.value in (value if isinstance(value, list) else [value])
        case PrincipalKind.IP if address is None:
            return None  # nobody said as whom the gateway sees the probe
        case PrincipalKind.IP:
            return ipaddress.ip_address(address or "") in ipaddress.ip_network(principal.value)
        case PrincipalKind.API_KEY:
            return False  # probes send none


# --- watched -------------------------------------------------------------------------------------


def shadowed(
    control: Control,
    every: Sequence[Control],
    target: Target,
    own: int | None,
    prober: Prober,
    gateway: Gateway,
) -> list[Check]:
    """Ask as both probes: each is served as before, and those that would be refused are counted."""
    would = control.model_copy(update={"kind": control.would})
    counts = []
    checks = []
    try:
        before = gateway.shadow_hits(control)
    except BadInput as error:
        return [Check(name="the count", ok=False, expected="one", seen=str(error))]
    for who in USERS:
        claims, address = prober.claims(who), prober.seen_as("gateway")
        is_close = would.kind is ControlKind.CLOSE
        counts.append(True if is_close else _is_refused([would], claims, address))
        refused = _is_refused(every, claims, address)
        if refused is not None:
            checks.append(_asked(target, own, prober, who, "gateway", is_refused=refused))
        else:
            send(target, prober, who)
    counted = gateway.shadow_hits(control) - before
    least = counts.count(True)
    return [
        *checks,
        Check(
            name=f"requests to {target} that are counted",
            ok=counted >= least,
            expected=f"at least {least} more",
            seen=f"{counted} more",
        ),
    ]
