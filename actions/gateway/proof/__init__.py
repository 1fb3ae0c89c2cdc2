"""Proof from outside: what callers get at an endpoint, at its neighbours, and around it.

Every request goes through the gateway's public address with a valid token, so that it is the
control that answers and not the token check before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from actions.gateway.desk import describe, endpoint_of, settled_version
from actions.gateway.proof import rungs
from actions.gateway.proof.neighbours import alive, neighbours
from actions.gateway.proof.target import Target, said, send, target_of
from actions.probe import Prober
from bot.action import Context, Gateway
from bot.errors import BadInput
from bot.model.containment import ANY_METHOD, Control, ControlKind
from bot.model.endpoint import Endpoint, shape_of
from bot.model.outcome import Check, Proof


def held(control: Control, key: str, *, gateway: str, probe: str | None, ctx: Context) -> Proof:
    """
    Prove a control that was just put in force, or the stricter one that hides it.

    Args:
        key: Of the endpoint that the step names. Of a control on a whole route, every endpoint of
            the inventory on that path is asked.
    """
    endpoint_of(key, ctx)
    version = version_check(gateway, ctx)
    prober = _prober(gateway, probe, ctx)
    if isinstance(prober, Check):
        return Proof(checks=(version, prober))
    endpoints = _endpoints(control.endpoint, ctx)
    checks = [version]
    for endpoint in endpoints:
        checks += _held_at(endpoint, control, version, gateway, prober, ctx)
    return Proof(checks=(*checks, *neighbours(endpoints, gateway, prober, ctx)))


def _held_at(
    endpoint: Endpoint,
    control: Control,
    version: Check,
    gateway: str,
    prober: Prober,
    ctx: Context,
) -> list[Check]:
    target = target_of(endpoint)
    in_force = [c.control for c in ctx.containments.in_force(gateway, endpoint.key)]
    every = [control, *in_force]
    if not target.is_harmless or not (version.ok or target.is_safe):
        return [_not_tried(target)]
    adapter = ctx.containments.gateway(gateway)
    if closing := [each for each in every if each.kind is ControlKind.CLOSE]:
        return rungs.closed(target, adapter.supports(closing[0]).own_status, prober, ctx)
    match control.kind:
        case ControlKind.THROTTLE:
            support = adapter.supports(control)
            return rungs.throttled(control, every, target, prober, support, version)
        case ControlKind.SHADOW:
            own = _own_refusal(every, adapter)
            return rungs.shadowed(control, every, target, own, prober, adapter)
        case _:
            own = _own_refusal(every, adapter)
            return rungs.refusing(control, every, target, own, prober, version)


def _own_refusal(every: Sequence[Control], adapter: Gateway) -> int | None:
    """Return the status by which a gateway refuses callers, if it can only give one of its own."""
    refusing = [c for c in every if c.kind in (ControlKind.BLOCK, ControlKind.ALLOW_ONLY)]
    return adapter.supports(refusing[0]).own_status if refusing else None


def lifted(places: Iterable[tuple[str, str]], *, probe: str | None, ctx: Context) -> Proof:
    """
    Prove that endpoints answer again.

    Args:
        places: Gateway and endpoint of each, as the controls have it.
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
        by_key = {key: _endpoints(key, ctx) for key in keys}
        checks += [_not_known(key) for key, there in by_key.items() if not there]
        found = {e.key: e for there in by_key.values() for e in there}
        endpoints = list(found.values())
        checks += [_answers_again(endpoint, gateway, prober, ctx) for endpoint in endpoints]
        checks += neighbours(endpoints, gateway, prober, ctx)
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


def _endpoints(key: str, ctx: Context) -> Sequence[Endpoint]:
    """Return the inventory's endpoint of a key, or all on a path of a key for every method; none
    if they are no longer in the inventory."""
    method, _, path = key.partition(" ")
    if method != ANY_METHOD:
        return [ctx.endpoints[key]] if key in ctx.endpoints else []
    shape = shape_of(path)
    return [each for _, each in sorted(ctx.endpoints.items()) if shape_of(each.path) == shape]


def _answers_again(endpoint: Endpoint, gateway: str, prober: Prober, ctx: Context) -> Check:
    still = [c.control for c in ctx.containments.in_force(gateway, endpoint.key)]
    target = target_of(endpoint)
    if not target.is_harmless:
        return _not_tried(target)
    if still:
        answer = send(target, prober)
        adapter = ctx.containments.gateway(gateway)
        closing = [control for control in still if control.kind is ControlKind.CLOSE]
        own = adapter.supports(closing[0]).own_status if closing else None
        return Check(
            name=f"{target} is still held by another containment",
            ok=rungs.is_closed(answer, own) == bool(closing),
            expected="; ".join(describe(control) for control in still),
            seen=said(answer),
        )
    return alive(f"{target} answers again", target, prober)


def _not_tried(target: Target) -> Check:
    return Check(
        name=f"{target.endpoint.key} from outside",
        ok=False,
        expected="to be tried",
        seen="not tried: if it is open, trying would change data; prove it by hand",
    )


def _not_known(key: str) -> Check:
    return Check(
        name=f"{key} from outside",
        ok=False,
        expected="to be tried",
        seen="not tried: the inventory has no such endpoint any more; prove it by hand",
    )


def _prober(gateway: str, probe: str | None, ctx: Context) -> Prober | Check:
    """Return what to look with; or, that nothing can be seen from outside, as a failed check."""
    try:
        prober = ctx.connection(Prober, probe)
    except BadInput:
        missing = (
            f"no {probe!r} there" if probe else "none there, or several and the step names none"
        )
        why = f"not looked at, as a look needs one of `probes` in firedoor.yaml: {missing}"
    else:
        if prober.gateway in (None, gateway):
            return prober
        why = f"not looked at: probe {prober.name} looks through gateway {prober.gateway}"
    return Check(name="a look from outside", ok=False, expected="one, with a probe", seen=why)
