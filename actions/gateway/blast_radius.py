"""What people read about an endpoint before they approve a control on it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from actions.gateway.desk import describe
from actions.logs.traffic import TOP, Traffic
from bot.model.containment import Containment, Control, ControlKind
from bot.model.endpoint import Endpoint

WINDOW = timedelta(hours=1)
"""How far back the traffic is looked at."""

FEW_PRINCIPALS = 5
"""Callers that are worth blocking by name: each is a step, with a plan that a person reads."""

FEW_ADDRESSES = 3
"""The same for addresses; fewer, since an attacker who has more has still more."""

MOST_BYSTANDERS = 0.1
"""The part of the other callers that may come from addresses to block. Beyond it, an address is
that of a proxy or of a whole office, and a block of it is a close by another name."""

MANY_REQUESTS = 600
"""Requests in the hour, ten a minute, below which it means nothing that one caller makes most."""

BUSY = 0.5
"""The part of many requests from which on the caller who makes it is worth a look."""

MOST_UNREADABLE = 0.01
"""The part of a log's lines that may be unreadable while the rest still says how large a share of
all requests is: shares are compared with limits of some hundredths."""

QUIET = timedelta(minutes=5)
"""A log without a line for that long is said to end: it may be written elsewhere by now."""

MOST_NAMED = 3
MOST_CHARACTERS = 48
MOST_WHY = 200

Seen = Traffic | str
"""The traffic of the last hour, or why it is not known."""


class Advice(NamedTuple):
    """The least disruptive rung that would stop what is seen, and why, in one sentence."""

    kind: ControlKind
    sentence: str


def facts(
    seen: Seen,
    endpoints: Sequence[Endpoint],
    control: Control,
    in_force: Sequence[Containment],
) -> tuple[tuple[str, str], ...]:
    """Return the lines of a card, each a label and a short text.

    They name no person but suspects, whom plans of a block name too.

    Args:
        endpoints: Those that the control is about.

        in_force: The other containments at the gateway.
    """
    return (
        *_traffic(seen),
        ("Owner team", _known(each.owner for each in endpoints)),
        ("Data", _known(name for each in endpoints for name in each.data_classification)),
        ("Other containments", _containments(control, in_force)),
        *_advice(seen),
    )


def share(seen: Seen) -> float | None:
    """Return the part (0 to 1) of all requests in the log; None if the log cannot tell, which
    guard rails take for a large one."""
    if isinstance(seen, str) or not seen.covers_window or not seen.total:
        return None
    return None if _is_unreadable(seen) else seen.requests / seen.total


def least_disruptive(seen: Traffic) -> Advice:
    """Return the rung to take for what is seen."""
    if seen.reads:
        return _against_reads(seen)
    top = seen.busiest[0] if seen.busiest else None
    if top and seen.requests >= MANY_REQUESTS and top.requests >= BUSY * seen.requests:
        others = _count(seen.callers - 1, "other caller")
        return Advice(
            ControlKind.BLOCK,
            f"{_shown(top.principal)} makes {top.requests:,} of {seen.requests:,} requests, with "
            f"no read of others' objects seen: blocking it would leave {others} alone, and a "
            "throttle would slow all of them.",
        )
    return Advice(ControlKind.SHADOW, f"{_nothing(seen)}: a shadow first counts who is concerned.")


def _against_reads(seen: Traffic) -> Advice:
    others = seen.callers - seen.suspects_count
    reads = f"{seen.reads:,} of {seen.reads:,} reads of others' objects seen {_when(seen)}"
    if seen.suspects_count <= FEW_PRINCIPALS and not seen.anonymous_reads:
        names = _listed([_shown(each.principal) for each in seen.suspects])
        return Advice(
            ControlKind.BLOCK,
            f"Blocking {names} would stop {reads}; {_count(others, 'other caller')} would be "
            "served on.",
        )
    addresses = [each.address for each in seen.addresses if each.address is not None]
    are_few = len(addresses) == len(seen.addresses) <= FEW_ADDRESSES
    if are_few and seen.bystanders <= MOST_BYSTANDERS * others:
        return Advice(
            ControlKind.BLOCK,
            f"Blocking {_listed(addresses)} would stop {reads}, by {_readers(seen)}; "
            f"{seen.bystanders:,} of {_count(others, 'other caller')} would be refused too.",
        )
    return Advice(
        ControlKind.CLOSE,
        f"Only a close would stop {reads}: they are by {_readers(seen)} at {_places(seen)}; "
        f"{_count(others, 'other caller')} would be refused too.",
    )


def _traffic(seen: Seen) -> Iterable[tuple[str, str]]:
    label = "Requests in the last hour"
    if isinstance(seen, str):
        return [(label, f"not known: {_short(seen)}")]
    if not seen.total:
        return [(label, "not known: the log has no line of the last hour")]
    return [
        (label, _requests(seen)),
        ("Callers", _callers(seen)),
        ("Others' objects read", _reads(seen)),
    ]


def _requests(seen: Traffic) -> str:
    rate = f"{seen.requests:,} ({_rate(seen)} a minute)" if seen.requests else "none"
    notes = []
    if not seen.covers_window:
        rate += f" since {_clock(seen.begins)}"
        notes.append("the log begins then, so the hour and the share of all are not known")
    elif _is_unreadable(seen):
        notes.append("their share of all is not known")
    else:
        rate += f", {_percent(seen.requests / seen.total)} of {seen.total:,} at the gateway"
    if seen.unreadable:
        notes.append(f"{seen.unreadable:,} of {_count(seen.lines, 'line')} cannot be read")
    if seen.last_at is not None and seen.until - seen.last_at > QUIET:
        notes.append(f"the log ends at {_clock(seen.last_at)}")
    return "; ".join([rate, *notes])


def _callers(seen: Traffic) -> str:
    parts = [f"{seen.callers:,}"]
    if seen.tenants is not None:
        parts[0] += f", of {_count(seen.tenants, 'tenant')}"
    if seen.anonymous:
        parts.append(f"{_count(seen.anonymous, 'request')} without one")
    if seen.tenants is None:
        parts.append("tenants are not in the log")
    return "; ".join(parts)


def _reads(seen: Traffic) -> str:
    if seen.successes and seen.unknown_owner == seen.successes:
        return "not known: the log names no owner"
    named = [
        (each.reads, f"by {_shown(each.principal)} ({_count(each.addresses, 'address', 'es')})")
        for each in seen.suspects[:MOST_NAMED]
    ]
    parts = [f"{reads:,} {who}" for reads, who in named]
    if seen.suspects_count > MOST_NAMED:
        parts.append(f"others by {_count(seen.suspects_count - MOST_NAMED, 'more caller')}")
    if seen.anonymous_reads:
        parts.append(f"{seen.anonymous_reads:,} without a caller")
    is_by_one = len(named) == len(parts) == 1
    whom = f" {named[0][1]}" if is_by_one else f": {', '.join(parts)}"
    found = f"{_count(seen.reads, 'time')}{whom}" if seen.reads else "none seen"
    if seen.entitled_reads:
        found += f"; {seen.entitled_reads:,} by support and services"
    if seen.unknown_owner:
        found += f"; {_count(seen.unknown_owner, 'answer')} without an owner in the log"
    return found


def _containments(control: Control, in_force: Sequence[Containment]) -> str:
    here = [each for each in in_force if each.control.concerns(control.endpoint)]
    said = [
        f"{describe(each.control)} by {each.incident_id} until {_clock(each.expires_at)}"
        for each in here[:MOST_NAMED]
    ]
    if len(here) > MOST_NAMED:
        said.append(f"{len(here) - MOST_NAMED} more")
    elsewhere = len(in_force) - len(here)
    if elsewhere:
        said.append(f"{elsewhere:,} on other endpoints of the gateway")
    return "; ".join(said) or "none"


def _advice(seen: Seen) -> Iterable[tuple[str, str]]:
    if isinstance(seen, str) or not seen.total:
        return []
    advice = least_disruptive(seen)
    return [("Least disruptive", f"gateway.{advice.kind.value}. {advice.sentence}")]


def _nothing(seen: Traffic) -> str:
    if not seen.requests:
        return f"No request to it is seen {_when(seen)}"
    if seen.successes and seen.unknown_owner == seen.successes:
        return "Whose objects were read is not in the log"
    return f"Nothing unusual is seen {_when(seen)}"


def _readers(seen: Traffic) -> str:
    named = [_count(seen.suspects_count, "caller")] if seen.suspects_count else []
    return " and ".join([*named, *(["callers without a name"] if seen.anonymous_reads else [])])


def _places(seen: Traffic) -> str:
    """Where reads come from, and why that cannot be blocked."""
    if any(each.address is None for each in seen.addresses):
        return "addresses that are not in the log"
    if len(seen.addresses) >= TOP:
        return f"{TOP} addresses or more, too many to block"
    places = _count(len(seen.addresses), "address", "es")
    if len(seen.addresses) > FEW_ADDRESSES:
        return f"{places}, too many to block"
    return f"{places}, which {_count(seen.bystanders, 'other caller')} use as well"


def _is_unreadable(seen: Traffic) -> bool:
    return seen.unreadable > MOST_UNREADABLE * seen.lines


def _rate(seen: Traffic) -> str:
    begin = seen.since if seen.covers_window or seen.begins is None else seen.begins
    # Of a log that began a moment ago, what it holds is taken for a minute's.
    minutes = max((seen.until - begin) / timedelta(minutes=1), 1.0)
    rate = seen.requests / minutes
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def _percent(part: float) -> str:
    return "less than 1%" if 0 < part < 0.01 else f"{part:.0%}"


def _when(seen: Traffic) -> str:
    if seen.covers_window or seen.begins is None:
        return "in the last hour"
    return f"since {_clock(seen.begins)}"


def _clock(moment: datetime | None) -> str:
    return "an unknown time" if moment is None else f"{moment:%H:%M} UTC"


def _known(names: Iterable[str | None]) -> str:
    return ", ".join(sorted({name for name in names if name})) or "not in the inventory"


def _count(number: int, noun: str, ending: str = "s") -> str:
    return f"{number:,} {noun}{'' if number == 1 else ending}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _shown(name: str) -> str:
    """A caller chose its name perhaps: it stays on its line, and short."""
    return _cut("".join(c if c.isprintable() else " " for c in name), MOST_CHARACTERS)


def _short(why: str) -> str:
    """The fact of an error's message, without consequence and remedy."""
    return _cut(why.partition(", so ")[0].partition("; ")[0].rstrip("."), MOST_WHY)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
