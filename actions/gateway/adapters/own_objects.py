"""Changing several objects of Firedoor's own at a gateway that has no transaction for them.

Each object is one call. So that nobody's work is lost all the same: right before each call the
objects are read again, and after the last; they must differ from what was read before in nothing
but what the call in between was to change, or the writing stops. Another hand's change is not seen
between a read and the call right after it, nor, in the object that was just written, between the
call and the next read: some milliseconds, which no check on this side closes if the API takes no
precondition.

The order of the calls is the adapter's to choose, such that no endpoint is open between two of
them that is held both before and after.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actions.gateway.own_file import OwnFile
from bot.action import Writing
from bot.errors import Conflict, ProviderRefused, ProviderUnreachable

Objects = Mapping[str, Any]
"""By key, as the gateway returns them, with their time or number of change if they have one."""


@dataclass(frozen=True)
class Step:
    """
    One write.

    Attributes:
        do: Makes it.

        undo: Takes it back.

        touches: Keys of all objects that it makes, changes or removes.
    """

    do: Callable[[], object]
    undo: Callable[[], object]
    touches: frozenset[str]


def carry_out(
    steps: Sequence[Step],
    *,
    look: Callable[[], Objects],
    seen: Objects,
    writing: Writing,
    gateway: str,
) -> Objects:
    """
    Make the writes in turn and return the objects as they are afterwards.

    Args:
        look: Reads the objects.

        seen: The objects as they were when the steps were chosen.

    Raises:
        Conflict: Another hand changed them meanwhile. Of the steps, those after its change were
            not made; calling again with what is there now completes the work.

        ProviderRefused: A step was refused. Those before it were taken back.

        ProviderUnreachable: No usable answer; calling again completes the work.
    """
    done: list[Step] = []
    touched: frozenset[str] = frozenset()
    for step in steps:
        writing.begin()
        seen = _unchanged(look(), seen, touched, gateway)
        try:
            step.do()
        except ProviderRefused as refused:
            _take_back(done, writing, refused)
            raise
        done.append(step)
        touched = step.touches
    return _unchanged(look(), seen, touched, gateway)


def keep(aside: OwnFile, objects: Objects, gateway: str) -> Path:
    """Keep objects that another hand has changed, for their owner alone to read; return where.

    Raises:
        ProviderUnreachable: They cannot be kept.
    """
    try:
        kept = aside.set_aside(json.dumps(dict(objects), sort_keys=True).encode())
        kept.chmod(0o600)
    except OSError as error:
        raise ProviderUnreachable(
            f"What another hand made of Firedoor's part of gateway {gateway} cannot be kept beside "
            f"{aside.path} ({error.strerror}), so it was not replaced; the gateway was not "
            "changed. Mend the disk or its rights."
        ) from None
    return kept


def _unchanged(now: Objects, seen: Objects, touched: frozenset[str], gateway: str) -> Objects:
    """Return the objects as they are now, which differ in nothing but what was touched."""
    if _without(touched, now) == _without(touched, seen):
        return now
    raise Conflict(
        f"What Firedoor has at gateway {gateway} was changed by another writer just now, so no "
        "more was written. It is read anew and tried again."
    )


def _without(touched: frozenset[str], objects: Objects) -> dict[str, Any]:
    return {key: value for key, value in objects.items() if key not in touched}


def _take_back(done: Sequence[Step], writing: Writing, refused: ProviderRefused) -> None:
    try:
        for step in reversed(done):
            writing.begin()
            step.undo()
    except (ProviderRefused, ProviderUnreachable) as error:
        raise ProviderRefused(
            f"{refused} Some of what had been written before it could not be taken back: {error} "
            "The next round brings the gateway to the set that is wanted then."
        ) from None
