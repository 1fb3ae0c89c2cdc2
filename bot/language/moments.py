"""Moments and durations, from and to their text.

Inside expressions a moment is an aware ``datetime`` in UTC and a duration a ``timedelta``. In JSON
a moment is ISO 8601 text ending in ``Z`` and a duration is a number of seconds.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

LONGEST_DURATION_S = 10 * 366 * 86_400
"""Ten years: longer is a slip, and dates must not overflow."""

_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_duration(text: str) -> float:
    """Return the seconds of ``90s``, ``15m``, ``4h`` or ``2d``.

    Raises:
        ValueError: It is not of this form, or longer than ten years.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("a duration is a whole number and s, m, h or d, such as 90s, 15m, 4h, 2d")
    seconds = int(match[1]) * _UNITS_S[match[2]]
    if seconds > LONGEST_DURATION_S:
        raise ValueError("a duration is at most ten years")
    return float(seconds)


def parse_moment(text: str) -> datetime:
    """Return the moment of an ISO 8601 text, in UTC.

    Raises:
        ValueError: It is not ISO 8601, or has no offset, so that nobody can say when it is.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(
            "a moment is ISO 8601 with an offset, such as 2026-03-01T12:30:00Z"
        ) from error
    return to_utc(moment)


def to_utc(moment: datetime) -> datetime:
    """Return the same moment in UTC. Raises ValueError for one that has no offset."""
    if moment.utcoffset() is None:
        raise ValueError("a moment needs an offset; for UTC write a Z at its end")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a moment lies between the years 1 and 9999 in UTC") from error


def moment_text(moment: datetime) -> str:
    """Return the one text of a moment in JSON, the same that models write: ``…T12:30:00Z``."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def seconds_of(duration: timedelta) -> int | float:
    """Return a duration's seconds: whole ones as an integer."""
    seconds = duration.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds
