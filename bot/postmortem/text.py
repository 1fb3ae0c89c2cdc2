"""Words, numbers and moments as sentences write them. Text from outside is made harmless here,
independently of any format; each format escapes for its own markup at its edge."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator

from bot.model.base import canonical_json

MAX_TEXT = 2_000
"""Characters of any one text of a document. The whole is in the journal."""

MAX_QUOTE = 300
"""Characters of a person's or an alert's text inside a sentence."""

MAX_MARKS = 4
"""Combining marks on one letter; more would paint over the lines above and below."""

UNKNOWN = "UNKNOWN"

_JOINERS = "\u200c\u200d"
"""Invisible, but part of how Persian, Indic scripts and emoji are spelled."""

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co"})


def plain(value: str, limit: int = MAX_TEXT) -> str:
    """
    Return one line that reads as it looks.

    White space becomes single spaces. Characters that are invisible or reorder what is shown
    (controls, direction overrides, lone surrogates, private use) become visible escapes such as
    ``\\u202e``. Text beyond ``limit`` characters is cut and ends with ``…``.
    """
    line = " ".join(value[: limit * 4].split())
    parts: list[str] = []
    marks = 0
    for character in line:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        hidden = category in _HIDDEN and character not in _JOINERS
        parts.append(_visible(character) if hidden or marks > MAX_MARKS else character)
    return clip("".join(parts), limit)


def _visible(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\u{{{code:x}}}"


def clip(text: str, limit: int) -> str:
    """Cut a text to at most ``limit`` characters, the last of them an ellipsis if it was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


Text = Annotated[str, AfterValidator(plain)]
"""A text of the document: one line, without invisible characters, of bounded length."""


def quoted(value: object, limit: int = MAX_QUOTE) -> str:
    """Return someone's own words between quotation marks."""
    return f"“{plain(str(value), limit)}”"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return ``1 record``, ``2 records``, ``1,214 records``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listed(words: Iterable[str], joint: str = "and") -> str:
    """Return ``a``, ``a and b``, ``a, b and c``."""
    items = list(words)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {joint} {items[-1]}"


def sentence(text: str) -> str:
    """End a text with a full stop, unless it ends with its own mark."""
    stripped = text.strip()
    return stripped if stripped.endswith((".", "!", "?", "…", ".”")) else stripped + "."


def starting(text: str) -> str:
    """Begin a sentence: an article becomes capital, the name of a person or a role does not."""
    return text[0].upper() + text[1:] if text.startswith(("a ", "an ")) else text


def day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")


def clock(moment: datetime) -> str:
    return moment.strftime("%H:%M:%S")


def full_moment(moment: datetime) -> str:
    """Return ``2026-03-14 12:00:05 UTC``."""
    return f"{day(moment)} {clock(moment)} UTC"


def moment_of(value: Any) -> datetime | None:
    """Return an ISO 8601 moment with an offset as UTC; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo is not None else None


def moment_near(moment: datetime, near: datetime) -> str:
    """Return the time of day, with the date if it is not the day of ``near``."""
    return f"{clock(moment)} UTC" if moment.date() == near.date() else full_moment(moment)


def duration(seconds: float) -> str:
    """Return ``840 ms``, ``41.2 s``, ``4 min 3 s``, ``1 h 2 min 3 s``, ``2 d 3 h 4 min``."""
    if 0 < seconds < 0.9995:
        return f"{round(seconds * 1_000)} ms"
    if round(seconds, 1) < 60:
        return f"{round(seconds, 1):g} s"
    whole = round(seconds)
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, left = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (0 if days else left, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def size(size_bytes: int) -> str:
    """Return ``812 B``, ``12.4 kB``, ``3.1 MB`` (powers of 1,000)."""
    if size_bytes < 1_000:
        return f"{size_bytes} B"
    number = float(size_bytes)
    for unit in ("kB", "MB", "GB"):
        number /= 1_000
        if number < 1_000 or unit == "GB":
            return f"{number:.1f} {unit}"
    raise AssertionError


def short(digest: str) -> str:
    """Return the first 12 digits of a digest, as every message of Firedoor shows it."""
    return plain(digest, 64)[:12]


def value_text(value: Any, limit: int = 120) -> str:
    """Return a fact's value in a sentence. Lists and objects are only counted: they may be long."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return counted(len(value), "item")
    if isinstance(value, dict):
        inner = ", ".join(f"{plain(str(k), 40)} {value_text(v, 40)}" for k, v in value.items())
        return clip(inner, limit) or "none"
    moment = moment_of(value)
    return full_moment(moment) if moment else plain(str(value), limit)


_LEADING_FACTS = ("records", "people", "principals", "reads", "credential", "old", "new")
"""Facts that a sentence begins with. The journal keeps them in the order of the alphabet."""


def facts_text(facts: dict[str, Any], most: int = 6) -> str:
    """Return ``records = 214, people = 97``: at most ``most`` plain values, the rest counted."""
    first = [name for name in _LEADING_FACTS if name in facts]
    shown = [
        f"{plain(name, 40)} = {value_text(facts[name])}"
        for name in [*first, *(name for name in facts if name not in first)]
        if isinstance(facts[name], str | int | float) and facts[name] != ""
    ][:most]
    left = len(facts) - len(shown)
    if not shown:
        return counted(left, "value") if left else ""
    return ", ".join(shown) + (f" and {left} more" if left else "")


def json_text(value: Any, limit: int = MAX_QUOTE) -> str:
    """Return a JSON value as one line, cut to ``limit`` characters."""
    try:
        return plain(canonical_json(value), limit)
    except (TypeError, ValueError):  # a NaN, or something that was never JSON
        return plain(repr(value), limit)
