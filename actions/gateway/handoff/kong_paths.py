"""Expressions for the paths of a Kong route, with other endpoints' paths kept out. Pure.

A Kong route has no "but not", and its regular expressions (Rust's ``regex`` crate) look neither
ahead nor behind. But what is not a word can be said letter by letter, and so one expression says
"a path of this template and of none of those".

Kong makes a path one before it compares: it decodes everything but reserved characters, resolves
dot segments and merges slashes (``kong/tools/uri.lua``). The query is no part of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote_to_bytes

from actions.gateway.templates import PARAMETER, segments_of

_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]+")
_MATRIX = "(?:;[^/]*)?"
_END = "/?$"

MOST_LETTERS = 80
"""Of a word that is kept out: each is a level of nesting, and Rust's limit is 250."""


class CannotKeepOut(Exception):
    """The message says why."""


def path_regex(template: str, kept_out: Iterable[str] = ()) -> str | None:
    """
    Return an expression for the whole path of a request to a template; None if the kept out leave
    nothing of it.

    Raises:
        CannotKeepOut: Something of the kept out is neither a plain word nor a parameter.
    """
    segments = segments_of(template)
    if not segments:
        return "/$"
    return _rest(segments, [segments_of(each) for each in kept_out])


def _rest(segments: Sequence[str], kept_out: Sequence[Sequence[str]]) -> str | None:
    """Return an expression for the rest of a path; None if all of it is kept out."""
    if not kept_out:
        return "".join(f"/{_segment(segment)}" for segment in segments) + _END
    if not segments:
        return None
    first, others = segments[0], segments[1:]
    heads = {each[0] for each in kept_out}
    if all(head == first or _is_parameter(head) for head in heads):
        rest = _rest(others, [each[1:] for each in kept_out])
        return None if rest is None else f"/{_segment(first)}{rest}"
    words = sorted(head for head in heads if not _is_parameter(head))
    if not _is_parameter(first) or not all(map(_is_plain, words)):
        raise CannotKeepOut("Kong cannot keep the other endpoints' paths out of its own")
    ways = []
    for word in words:
        rest = _rest(others, [e[1:] for e in kept_out if e[0] == word or _is_parameter(e[0])])
        if rest is not None:
            ways.append(f"{_segment(word)}{rest}")
    rest = _rest(others, [each[1:] for each in kept_out if _is_parameter(each[0])])
    if rest is not None:
        ways.append(f"{no_word_of(words)}{rest}")
    if not ways:
        return None
    # The slash stands in front: a path of a Kong route must begin with one.
    return f"/{ways[0]}" if len(ways) == 1 else f"/(?:{'|'.join(ways)})"


def _is_parameter(segment: str) -> bool:
    return PARAMETER.fullmatch(segment) is not None


def _is_plain(segment: str) -> bool:
    return _UNRESERVED.fullmatch(segment) is not None and len(segment) <= MOST_LETTERS


def no_word_of(words: Iterable[str]) -> str:
    """Return an expression for a segment that is, before its path parameters, none of the words."""
    return _other(sorted(set(words)), is_start=True)


def _other(endings: Sequence[str], *, is_start: bool = False) -> str:
    """Return an expression for what may follow, so that none of the endings is what follows."""
    ends_here = "" in endings
    letters = sorted({ending[0] for ending in endings if ending})
    ways = [
        re.escape(letter) + _other([e[1:] for e in endings if e.startswith(letter)])
        for letter in letters
    ]
    never = "".join(map(re.escape, letters)) + (";" if ends_here else "")
    ways.append(f"[^/{never}][^/]*")
    either = f"(?:{'|'.join(ways)})"
    return either if ends_here or is_start else f"{either}?"


def _segment(segment: str) -> str:
    """A parameter at the end takes path parameters with it."""
    texts = PARAMETER.split(segment)
    return "[^/]+".join(map(_literal, texts)) + (_MATRIX if texts[-1] else "")


def _literal(text: str) -> str:
    """Return an expression for a text in every spelling that Kong leaves of it."""
    content = unquote_to_bytes(text)
    try:
        characters = content.decode()
    except UnicodeDecodeError:
        return "".join(f"(?:%{byte:02X}|%{byte:02x})" for byte in content)
    return "".join(map(_character, characters))


def _character(character: str) -> str:
    if _UNRESERVED.fullmatch(character):
        return re.escape(character)
    encoded = "".join(f"%{byte:02X}" for byte in character.encode())
    # In hexadecimal, as Rust takes `\\<` and the like for something else than `<`.
    plain = f"\\x{ord(character):02x}" if character.isascii() else character
    return f"(?:{plain}|{encoded})"
