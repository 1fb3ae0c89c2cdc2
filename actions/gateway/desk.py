"""What the gateway's actions share: endpoints, containments of a step, and other hands' changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bot.action import Context
from bot.errors import BadInput, UndoConflict
from bot.model.containment import Containment, Control, ControlKind, Principal
from bot.model.endpoint import Endpoint

LOOKS = 3
"""How often to look again when another containment came or went while we looked."""


def endpoint_of(key: str, ctx: Context) -> Endpoint:
    """Return the inventory's entry. Raises BadInput if there is none."""
    endpoint = ctx.endpoints.get(key)
    if endpoint is None:
        raise BadInput(
            f"The inventory has no endpoint {key!r}; nothing was done. Write it as the inventory "
            "does: `GET /api/orders/{order_id}`."
        )
    return endpoint


def describe(control: Control) -> str:
    """Say in a few words what a control does."""
    match control.kind:
        case ControlKind.CLOSE:
            return "closed (503)"
        case ControlKind.THROTTLE:
            return f"throttled to {control.rate_per_s:g} a second (429)"
        case ControlKind.BLOCK:
            return f"refused to {listed(control.principals)} (403)"
        case ControlKind.ALLOW_ONLY:
            return f"open to {listed(control.principals)} only (403 to others)"
        case ControlKind.SHADOW:
            return f"watched: what a {str(control.would).replace('_', '-')} would refuse is counted"


def listed(principals: Sequence[Principal], most: int = 3) -> str:
    """Name principals, not more than a line can take."""
    named = [str(principal) for principal in principals[:most]]
    if len(principals) > most:
        named.append(f"{len(principals) - most} more")
    return ", ".join(named)


def as_json(control: Control, containment_id: str) -> dict[str, Any]:
    """Return what a plan says of one containment: what its kind has, and nothing empty."""
    said = control.model_dump(mode="json", exclude={"method", "path"})
    return {"containment": containment_id, **{k: v for k, v in said.items() if v}}


def own(ctx: Context, gateway: str) -> list[Containment]:
    """Return what this step of this run holds at a gateway."""
    return [
        containment
        for containment in ctx.containments.in_force(gateway)
        if (containment.run_id, containment.step_id) == (ctx.run_id, ctx.step_id)
    ]


def next_id(ctx: Context) -> str:
    """
    Return an id for what this step is to hold.

    Raises:
        BadInput: Somebody has lifted what the step had put in force. An attempt after that
            (Firedoor was restarted in between, or tries again by itself) must not take the
            decision back. Its own undo and an expiry are nobody's decision.
    """
    held = _held_before(ctx)
    last = held[-1] if held else None
    if last and last.lifted_at and last.lifted_by not in ("expiry", "firedoor"):
        raise BadInput(
            f"{last.lifted_by} lifted {last.id} at {last.lifted_at:%H:%M} UTC, after step "
            f"{ctx.step_id} had put it in force; it was not put in force again. If it is to be, "
            "start a new run."
        )
    return _nth_id(ctx, len(held) + 1)


def fresh_id(ctx: Context) -> str:
    """Return an id that no containment has: ``<run>.<step>``, with a number if the step has held
    before. What was lifted stays lifted in the record, under its own."""
    return _nth_id(ctx, len(_held_before(ctx)) + 1)


def _held_before(ctx: Context) -> list[Containment]:
    """Return what this step has ever held, the oldest first."""
    found: list[Containment] = []
    while (one := ctx.containments.get(_nth_id(ctx, len(found) + 1))) is not None:
        found.append(one)
    return found


def _nth_id(ctx: Context, number: int) -> str:
    stem = f"{ctx.run_id}.{ctx.step_id}"
    return stem if number == 1 else f"{stem}.{number}"


def settled_version(ctx: Context, gateway: str) -> tuple[str, str]:
    """Return the version that a gateway reports, and the one that the containments make.

    They are read one after the other; if they differ because of a change in between, again.
    """
    reported = wanted = ""
    for _ in range(LOOKS):
        wanted = _version(ctx, gateway, ctx.containments.in_force(gateway))
        reported = ctx.containments.gateway(gateway).observe()
        if reported == wanted:
            break
    return reported, wanted


def refuse_if_handed_over(ours: Sequence[Containment]) -> None:
    """
    Check that what a step holds is still its own to give back.

    Raises:
        UndoConflict: Some of it was handed over; says to whom.
    """
    others = [containment for containment in ours if containment.handed_over_by is not None]
    if others:
        named = "; ".join(f"{c.id} to {c.owner} by {c.handed_over_by}" for c in others)
        raise UndoConflict(
            f"Handed over: {named}. Whoever took it over decides when it ends, so nothing was "
            "undone. They lift it, or it expires."
        )


def refuse_if_drifted(ctx: Context, gateway: str, ours: Sequence[Containment]) -> None:
    """
    Check that what a gateway serves is what containments made, with or without ours.

    Raises:
        UndoConflict: It is something else, so somebody else changed it.
    """
    own_ids = {containment.id for containment in ours}
    reported, held = "", tuple[Containment, ...]()
    for _ in range(LOOKS):
        held = ctx.containments.in_force(gateway)
        without = [containment for containment in held if containment.id not in own_ids]
        reported = ctx.containments.gateway(gateway).observe()
        explained = (held, without, [*without, *ours])
        if reported in {_version(ctx, gateway, some) for some in explained}:
            return
    lines = [f"{c.control.place} {describe(c.control)}" for c in held] or ["no control at all"]
    raise UndoConflict(
        f"Gateway {gateway} serves routes {reported or '(none)'}, but the containments in force "
        f"make {_version(ctx, gateway, held)} ({'; '.join(lines)}): somebody else "
        "changed the gateway. Nothing was undone. Compare the gateway's routes with the base "
        "routes; Firedoor brings it back to the containments, then undo again."
    )


def _version(ctx: Context, gateway: str, held: Iterable[Containment]) -> str:
    controls = [containment.control for containment in held]
    return ctx.containments.gateway(gateway).version_of(controls)
