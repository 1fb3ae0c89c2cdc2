"""Taking out of untrusted text what a reader cannot see but a program obeys."""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = frozenset("\u034f\u115f\u1160\u3164\uffa0")
"""Letters and marks, by Unicode's categories, that show nothing."""

_DROPPED = frozenset({"Cc", "Cf", "Cn", "Co", "Cs"})
"""Controls, formats (bidi overrides and zero-width characters are among them), unassigned, private
use, halves of surrogates."""

CUT = " […]"


def clean_line(text: str, limit: int = 200) -> str:
    """Return text as one visible line of at most ``limit`` characters."""
    return _cut(" ".join(_visible(text).split()), limit)


def clean_text(text: str, limit: int = 2000) -> str:
    """Return text with its line breaks, at most one empty line in a row, cut at ``limit``."""
    lines = [" ".join(line.split()) for line in _visible(text).split("\n")]
    return _cut(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip(), limit)


def _visible(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character == "\n" or character in "\u2028\u2029\x0b\x0c\x85":
        return "\n"
    category = unicodedata.category(character)
    if category == "Zs" or character == "\t":
        return " "
    return "" if category in _DROPPED or character in _INVISIBLE else character


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - len(CUT)] + CUT
