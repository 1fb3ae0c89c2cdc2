"""Texts of a patch: the head that every format begins with, and text of others made harmless. Pure.

An owner, a reason, a path and a caller's name were written by others. In a comment they are one
line of what can be seen; as data each format quotes them in its own way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import unquote_to_bytes

import yaml

from actions.gateway import templates
from actions.gateway.desk import describe
from bot.model.containment import Containment

MOST_CHARACTERS = 300
"""Of one text of others in a comment."""

ODD_PATHS = (
    "Paths with a segment of nothing but a parameter (/;v=1, /..;), which servlet containers read",
    "as another path, are answered as closed, as Firedoor answers them.",
)
"""Says what `templates.ODD_SEGMENT` is for."""

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~/")


def one_line(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return a text of others as one line, with what cannot be seen (line ends, what steers a
    terminal or turns the direction of writing) written as ``\\uXXXX``."""
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return shown if len(shown) <= most else f"{shown[:most]}…"


def minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def head(
    containments: Sequence[Containment], what: str, how: Iterable[str], unsupported: Iterable[str]
) -> str:
    """
    Return the comment lines that a patch begins with.

    Args:
        what: Names the format: "nginx".

        how: Where it goes, line by line.

        unsupported: What it does not say.
    """
    incidents = ", ".join(dict.fromkeys(one_line(c.incident_id) for c in containments))
    gateways = ", ".join(dict.fromkeys(one_line(c.gateway) for c in containments))
    lines = [f"Firedoor: containment of {incidents} at gateway {gateways}, for {what}.", ""]
    for each in containments:
        control = f"{each.control.endpoint}: {describe(each.control)}"
        lines += [
            f"Containment {one_line(each.id)} of {one_line(each.incident_id)}",
            f"  Control:  {one_line(control)}",
            f"  Owner:    {one_line(each.owner)}",
            f"  Reason:   {one_line(each.reason)}",
            f"  Since:    {minute(each.since)}",
            f"  Expires:  {minute(each.expires_at)}",
        ]
    ends = min(c.expires_at for c in containments)
    lines += [
        "",
        f"Remove by: {ends:%Y-%m-%d}",
        f"Until {minute(ends)} Firedoor holds the same at the gateway: merging this changes",
        "nothing for callers, and no deploy forgets or undoes it. Then Firedoor lets go, and this",
        "file alone goes on holding it: remove it by then, or keep it on purpose.",
        "",
        *how,
    ]
    told = [one_line(sentence, 2 * MOST_CHARACTERS) for sentence in unsupported]
    if told:
        lines += ["", "Not said here, and held by Firedoor alone:", *(f"- {each}" for each in told)]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


# --- expressions for paths -----------------------------------------------------------------------


def raw_regex(template: str, *, backtracking: bool = False) -> str:
    """Return a PCRE for a whole path as it was sent, with its query if it has one: that of
    `templates.path_regex`. Printable ASCII."""
    return f"^{templates.path_regex(template, backtracking=backtracking)}$"


def decoded_regex(template: str, *, backtracking: bool = False) -> str:
    """Return a PCRE for a whole path that was decoded, byte by byte: that of
    `templates.decoded_regex`. Printable ASCII; each byte that could be of the configuration's
    language or of its expressions is in hexadecimal."""
    whole = templates.decoded_regex(template, spelled=literal_bytes, backtracking=backtracking)
    return f"^{whole}$"


def literal_bytes(text: str) -> str:
    """Return a PCRE and RE2 expression for a text once it is decoded."""
    return exactly(unquote_to_bytes(text))


def exactly(content: bytes) -> str:
    """Return a PCRE for these bytes. Printable ASCII."""
    return "".join(chr(byte) if byte in _PLAIN else f"\\x{byte:02x}" for byte in content)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out: not every reader of YAML knows anchors."""
        return True


def yaml_text(document: Mapping[str, Any]) -> str:
    """Return a mapping as YAML, in its own order; ASCII only."""
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100))


def name_of(text: str) -> str:
    """Return a text as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:60] or "unnamed"
