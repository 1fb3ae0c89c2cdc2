"""Words that several messages share; above all, did you mean."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST_NAME = 80
"""Longer texts are not compared: comparing costs the square of their length."""

MOST_NAMES_LISTED = 16

MIXED_TEXT = (
    "A value is either plain text or exactly one {{ expression }}, never a mix. To build text, use "
    "one expression: {{ ['a', inputs.b] | join(' ') }}."
)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that ``name`` is most likely a slip of, or None."""
    if len(name) > LONGEST_NAME:
        return None
    by_folded = {known_name.casefold(): known_name for known_name in known}
    begun = [each for each in by_folded if len(name) > 2 and each.startswith(name.casefold())]
    if len(begun) == 1:
        return by_folded[begun[0]]
    matches = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.7)
    return by_folded[matches[0]] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` with its leading space, or nothing."""
    match = nearest(name, known)
    return f" Did you mean '{match}'?" if match is not None else ""


def which(name: str, known: Iterable[str]) -> str:
    """Return what may have been meant by a wrong name, as a sentence with its leading space: the
    near name, or all that there are."""
    names = list(known)
    return did_you_mean(name, names) or (
        f" There are {listed(names)}." if names else " There is none."
    )


def listed(names: Iterable[str]) -> str:
    """Return names as ``a, b, c``, cut where the list gets too long to read."""
    every = sorted(names)
    shown = ", ".join(shortened(name) for name in every[:MOST_NAMES_LISTED])
    more = len(every) - MOST_NAMES_LISTED
    return f"{shown} and {more} more" if more > 0 else shown or "nothing"


def shortened(text: str, length: int = 60) -> str:
    """Return a text fit for one line of a message: printable, and cut."""
    clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return clean if len(clean) <= length else f"{clean[: length - 1]}…"
