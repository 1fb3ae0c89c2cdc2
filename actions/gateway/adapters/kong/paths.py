"""Kong's regular expressions for path templates. Pure.

Kong matches a path after it has removed dot segments, merged slashes and decoded whatever is not
reserved; of the reserved characters an encoding stays (kong/tools/uri.lua). Of its two engines,
PCRE (router flavour ``traditional``) and Rust's regex crate (``traditional_compatible``), the
latter has no look-around: so some paths of a template are kept out by spelling the others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

from actions.gateway.adapters.expressions import UNRESERVED, joined, segment_expression
from actions.gateway.templates import ODD_SEGMENT, PARAMETER, segments_of
from bot.errors import ProviderRefused

ODD_PATHS = f"~/(?:.*/)?{ODD_SEGMENT.removeprefix('/')}"
"""An entry of a route's ``paths`` that matches what `ODD_SEGMENT` is in."""


def kong_paths(template: str, without: Sequence[str] = ()) -> list[str]:
    """
    Return entries of a route's ``paths`` that together match the paths of a template.

    Args:
        without: Templates with as many segments, of which no path is to be matched.

    Raises:
        ProviderRefused: One of those cannot be told apart without look-around.
    """
    segments = segments_of(template)
    kept = [_distinguished(template, segments, segments_of(other)) for other in without]
    return [f"~{joined(parts)}$" for parts in _spelled(segments, 0, kept)]


def _distinguished(template: str, ours: Sequence[str], theirs: Sequence[str]) -> list[str | None]:
    """Return, for each segment, the text that tells the other template apart; None if it does
    not."""
    words: list[str | None] = []
    for mine, other in zip(ours, theirs, strict=True):
        if mine == other or PARAMETER.fullmatch(other):
            words.append(None)
        elif PARAMETER.fullmatch(mine) and set(unquote(other)) <= UNRESERVED:
            words.append(unquote(other))
        else:
            raise ProviderRefused(
                f"Kong's routes cannot tell /{'/'.join(theirs)} apart from {template}, which it "
                "is to be kept out of; nothing was done. Contain both, or take another gateway."
            )
    return words


def _spelled(
    segments: Sequence[str], position: int, kept: Sequence[Sequence[str | None]]
) -> list[list[str]]:
    """Return sequences of expressions, one for each segment from a position on, that together
    match what is not kept out."""
    if not kept:
        return [[segment_expression(segment) for segment in segments[position:]]]
    if position == len(segments):
        return []
    same = [words for words in kept if words[position] is None]
    texts = sorted({word for words in kept if (word := words[position]) is not None})
    if not texts:
        own = segment_expression(segments[position])
        return [[own, *rest] for rest in _spelled(segments, position + 1, same)]
    other = _no_word(texts, at_start=True)
    found = [[other, *rest] for rest in _spelled(segments, position + 1, same)]
    for text in texts:
        still = [words for words in kept if words[position] in (None, text)]
        found += [[re.escape(text), *rest] for rest in _spelled(segments, position + 1, still)]
    return found


def _no_word(words: Sequence[str], *, at_start: bool) -> str:
    """Return an expression for every text up to a path parameter that is none of the words."""
    firsts = sorted({word[0] for word in words if word})
    choices = [f"[^{''.join(map(re.escape, firsts))}/;][^/]*"]
    for first in firsts:
        rests = [word[1:] for word in words if word.startswith(first)]
        choices.append(re.escape(first) + _no_word(rests, at_start=False))
    if at_start:
        choices.append(";[^/]*")
    elif "" not in words:
        choices.append("")
    return f"(?:{'|'.join(choices)})"
