"""Regular expressions for paths that PCRE and Rust's regex crate read alike. Pure.

Rust's knows no look-around, and refuses to escape what has no meaning; of ``<`` and ``>`` an
escape means something else (https://docs.rs/regex/latest/regex/#escape-sequences).

They are for a path without its query, once dot segments are gone, repeated slashes are one, and
needless encodings (RFC 3986, 6.2.2.2) are decoded; a gateway may have decoded more.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from urllib.parse import unquote

from actions.gateway.templates import PARAMETER, segments_of

UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~")  # RFC 3986, 2.3

_META = frozenset("\\.+*?()|[]{}^$#&-~")
"""What both engines let be escaped, and take for themselves if it is not."""

_TEXT = "[^/]+"
_MATRIX = "(?:(?:;|%3[Bb])[^/]*)?"
"""A path parameter (RFC 3986, 3.3) after a segment: some frameworks drop it before they route."""

_SLASH = "(?:/|%2[Ff])"
"""Between segments: a service that decodes an encoded slash takes it for one."""


def path_expression(template: str) -> str:
    """Return an expression that matches the whole path of a template, without anchors."""
    return joined(map(segment_expression, segments_of(template)))


def joined(parts: Iterable[str]) -> str:
    """Return the expression for a path of these segments."""
    found = _SLASH.join(f"{part}{_MATRIX}" for part in parts)
    return f"/{found}/?" if found else "/"


def segment_expression(segment: str) -> str:
    """Return the expression for a segment of a template: a parameter is any text without a slash;
    everything else is literal, in both spellings."""
    texts = PARAMETER.split(segment)
    return _TEXT.join("".join(map(_char, unquote(text))) for text in texts)


def _char(char: str) -> str:
    escaped = f"\\{char}" if char in _META else char
    if char in UNRESERVED:
        return escaped
    encoded = "".join(f"%{_digit(byte >> 4)}{_digit(byte & 15)}" for byte in char.encode())
    return f"(?:{escaped}|{encoded})"


def _digit(value: int) -> str:
    digit = f"{value:X}"
    return f"[{digit}{digit.lower()}]" if digit > "9" else digit
