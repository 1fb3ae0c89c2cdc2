"""Path templates: which is the more specific, and expressions that match their requests. Pure."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from bot.model.endpoint import PARAMETER as PARAMETER
from bot.model.endpoint import shape_of

_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~")  # RFC 3986, 2.3

# A path parameter (RFC 3986, 3.3) after a segment: some frameworks drop it before they route. A
# parameter of the template takes it with it. Were it named there too, an engine that backtracks
# would try each of its semicolons, for seconds.
_MATRIX = "(?:(?:;|%3[Bb])[^/?]*)?"
_MATRIX_SIZE = 12
# A service that decodes first may see the end of the path in an encoded question mark or hash.
_QUERY = "(?:(?:\\?|%3[Ff]|%23).*)?"
_CUT = "(?:[?#][\\s\\S]*)?"

ODD_SEGMENT = "/\\.{0,2}(?:;|%3[Bb])"
"""
An expression for a slash and the begin of a segment of nothing but a path parameter, or of dots
with one: ``/;v=1``, ``/..;``. Services that drop path parameters before they route, or before they
walk (Tomcat and what is built on it), read another path there than gateways do: any path may be of
any template, and no client means well by it. So where controls are in force it is answered as a
closed endpoint, whatever the rest of it says.
"""


def segments_of(template: str) -> list[str]:
    """Return the parts between the slashes, without empty ones."""
    return [segment for segment in template.split("/") if segment]


def openness(template: str) -> tuple[int, ...]:
    """Return for each segment how open it is: 0 literal, 1 partly a parameter, 2 a parameter.

    Of two templates that match one path, the lower one is the more specific.
    """
    return tuple(
        0 if not PARAMETER.search(segment) else 2 if PARAMETER.fullmatch(segment) else 1
        for segment in template.strip("/").split("/")
    )


def common_template(one: str, other: str) -> str | None:
    """
    Return a template of the paths that two templates both match; None if there are none.

    Of two segments that are partly parameters and differ (``v{x}`` and ``{y}-a``) it is taken that
    no text is of both.
    """
    pairs = segments_of(one), segments_of(other)
    if len(pairs[0]) != len(pairs[1]):
        return None
    common = [_common_segment(*pair) for pair in zip(*pairs, strict=True)]
    if None in common:
        return None
    return "/" + "/".join(map(str, common))


def _common_segment(one: str, other: str) -> str | None:
    if shape_of(one) == shape_of(other) or PARAMETER.fullmatch(other):
        return one
    if PARAMETER.fullmatch(one):
        return other
    for text, pattern in ((one, other), (other, one)):
        texts = map(re.escape, PARAMETER.split(pattern))
        if not PARAMETER.search(text) and re.fullmatch("[^/]+".join(texts), text):
            return text
    return None


def example_of(template: str) -> str:
    """Return a path of a template."""
    return PARAMETER.sub("x", template)


def path_regexes(
    template: str, size_limit: int | None = None, *, backtracking: bool = False
) -> list[str]:
    """
    Return RE2 and PCRE expressions that all match a request's path if it is of a template.

    They are for the path as it was sent, once equal spellings are made one (RFC 3986, 6.2.2: dot
    segments and needless encodings are gone, repeated slashes too). A parameter is any text
    without a slash. Everything else is taken literally, whatever characters it has, and in both
    spellings of those that stay encoded. One slash may follow, path parameters (``;v=1``) after
    any segment, and a query.

    Args:
        size_limit: Of the program that RE2 makes of one. A long template then makes several
            expressions, each for some of the segments. None: always one expression.

        backtracking: For an engine that backtracks (PCRE): the time that it takes is linear in the
            path's length, whoever wrote the path. RE2 knows no such expressions and needs none.
    """
    segments = segments_of(template)
    if not segments:
        return ["/" + _QUERY]
    parts = ["/" + _segment(segment, "[^/?]+", literal, backtracking) for segment in segments]
    regexes, first = [], 0
    for position, part in enumerate(parts):
        size = _size(first, [*parts[first:position], part])
        if size_limit is not None and position > first and size > size_limit:
            regexes.append(_skip(first) + "".join(parts[first:position]) + "/.*")
            first = position
    return [*regexes, _skip(first) + "".join(parts[first:]) + "/?" + _QUERY]


def path_regex(template: str, *, backtracking: bool = False) -> str:
    """Return the one expression of `path_regexes`."""
    return path_regexes(template, backtracking=backtracking)[0]


def _decoded(text: str) -> str:
    return re.escape(unquote_to_bytes(text).decode("utf-8", "replace"))


def decoded_regex(
    template: str, *, backtracking: bool = False, spelled: Callable[[str], str] = _decoded
) -> str:
    """
    Return an RE2 and PCRE expression for a path that the gateway has decoded wholly.

    A parameter whose text held an encoded slash does not match it any more: look at the path as
    it was sent too (`path_regex`). For ``backtracking`` see `path_regexes`.

    Args:
        spelled: Makes an expression of a literal text, for engines that want it another way.
    """
    segments = segments_of(template)
    if not segments:
        return "/" + _CUT
    parts = ["/" + _segment(segment, "[^/]+", spelled, backtracking) for segment in segments]
    return "".join(parts) + "/?" + _CUT


def literal(text: str) -> str:
    """Return an expression that matches a text as it is sent, in both spellings of what may be
    percent-encoded."""
    return "".join(_byte(byte) for byte in unquote_to_bytes(text))


def word_regex(words: str, letters: str = "A-Za-z") -> str:
    """
    Return an RE2 and PCRE expression that finds a whole word anywhere in a header: of several
    values services take the first, or the last, and trim it.

    Args:
        words: Expressions, with ``|`` between them.

        letters: What a word consists of.
    """
    return f"(?:^|[^{letters}])(?:{words})(?:[^{letters}]|$)"


def _segment(
    segment: str, parameter: str, spelled: Callable[[str], str], backtracking: bool
) -> str:
    """
    Return an expression for one segment, and path parameters after it.

    Args:
        parameter: An expression for a parameter's text.

        spelled: Makes one of a literal text.
    """
    first, *others = map(spelled, PARAMETER.split(segment))
    matrix = _MATRIX.replace("*", "*+") if backtracking else _MATRIX
    if not others:
        return first + matrix
    *between, last = others
    # Where the text between two parameters comes first is as good a place as any other one: the
    # second parameter can take the rest. So no other need be tried.
    passed = [f"(?>{parameter}?{text})" if backtracking else parameter + text for text in between]
    return first + "".join(passed) + parameter + last + (matrix if last else "")


def _byte(byte: int) -> str:
    """Needless encodings (``%6f``) are decoded when a path is tidied; ``%3A`` stays as it is."""
    char = chr(byte)
    if char in _UNRESERVED:
        return "\\." if char == "." else char
    high, low = (f"[{digit}{digit.lower()}]" if digit > "9" else digit for digit in f"{byte:02X}")
    encoded = f"%{high}{low}"
    return f"(?:\\{char}|{encoded})" if 0x20 < byte < 0x7F else encoded


def _skip(count: int) -> str:
    return f"(?:/[^/?]+){{{count}}}" if count else ""


def _size(skipped: int, parts: list[str]) -> int:
    """Return, rather too high, the size of the program that RE2 makes."""
    return 12 + 4 * skipped + sum(len(part.replace(_MATRIX, "")) + _MATRIX_SIZE for part in parts)
