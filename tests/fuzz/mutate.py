"""Mutations that know lines, indents, brackets and words, so that many results are nearly good."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

_TOKEN = re.compile(r"\w+|\s+|.", re.DOTALL)
_PAIR = re.compile(
    r"""(?P<key>\w+):\ (?P<value>
        "[^"\n]*" | '[^'\n]*' | \{[^{}\n]*\} | \[[^][\n]*\] | [^][{},\n]+ )""",
    re.VERBOSE,
)


def text_of(content: bytes) -> str:
    """Return any bytes as text; what is not UTF-8 becomes halves of characters."""
    return content.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """Return any text as bytes, halves of characters too."""
    return text.encode("utf-8", "surrogatepass")


def mutated(text: str, chance: random.Random, words: Sequence[str], others: Sequence[str]) -> str:
    """Return the text with one to three things changed.

    Args:
        words: What may be put in.

        others: Texts of which parts may be put in.
    """
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        kind = chance.choice(_KINDS)
        text = kind(text, chance, words, others)
    return text


def _lines(text: str, chance: random.Random, words: Sequence[str], others: Sequence[str]) -> str:
    """Cut out, double, move, indent, or take from another text, some lines."""
    lines = text.splitlines(keepends=True)
    start = chance.randint(0, len(lines))
    end = min(len(lines), start + chance.choice((1, 1, 1, 2, 3, 8)))
    part = lines[start:end]
    match chance.randint(0, 5):
        case 0:
            made = lines[:start] + lines[end:]
        case 1:
            made = lines[:end] + part + lines[end:]
        case 2:
            rest = lines[:start] + lines[end:]
            at = chance.randint(0, len(rest))
            made = rest[:at] + part + rest[at:]
        case 3:
            made = lines[:start] + [f"  {line}" for line in part] + lines[end:]
        case 4:
            made = lines[:start] + [line.replace("  ", "", 1) for line in part] + lines[end:]
        case _:
            foreign = chance.choice(others).splitlines(keepends=True) or [""]
            at = chance.randrange(len(foreign))
            made = lines[:start] + foreign[at : at + chance.randint(1, 6)] + lines[start:]
    return "".join(made)


def _token(text: str, chance: random.Random, words: Sequence[str], others: Sequence[str]) -> str:
    """Replace, cut out, double, or swap a token, or put a word beside it."""
    tokens = _TOKEN.findall(text) or [""]
    at = chance.randrange(len(tokens))
    match chance.randint(0, 5):
        case 0:
            tokens[at] = ""
        case 1:
            tokens[at] *= chance.choice((2, 2, 3, 50))
        case 2:
            other = chance.randrange(len(tokens))
            tokens[at], tokens[other] = tokens[other], tokens[at]
        case 3:
            tokens[at] = chance.choice(tokens)
        case 4:
            tokens[at] = chance.choice(words)
        case _:
            tokens.insert(at, chance.choice((" ", "")) + chance.choice(words))
    return "".join(tokens)


def _wrap(text: str, chance: random.Random, words: Sequence[str], others: Sequence[str]) -> str:
    """Put brackets, quotes or braces around a part."""
    start = chance.randint(0, len(text))
    end = min(len(text), start + chance.choice((0, 1, 5, 30)))
    left, right = chance.choice(("[]", "{}", "()", '""', "''", ("{{ ", " }}"), ("a: ", "\n")))
    return text[:start] + left + text[start:end] + right + text[end:]


def _bytes(text: str, chance: random.Random, words: Sequence[str], others: Sequence[str]) -> str:
    """Change one byte, whatever becomes of the characters."""
    content = bytearray(bytes_of(text))
    if content:
        content[chance.randrange(len(content))] = chance.randrange(256)
    return text_of(bytes(content))


def _value(text: str, chance: random.Random, words: Sequence[str], others: Sequence[str]) -> str:
    """Give a key a value that it, or another, has in one of the texts: often still good."""
    mine = list(_PAIR.finditer(text))
    if not mine:
        return _token(text, chance, words, others)
    old = chance.choice(mine)
    foreign = list(_PAIR.finditer(chance.choice((text, *others))))
    same = [each for each in foreign if each["key"] == old["key"]]
    made = (same or foreign) if chance.random() < 0.9 else foreign
    if not made:
        return text
    return text[: old.start("value")] + chance.choice(made)["value"] + text[old.end("value") :]


_KINDS = (_value, _value, _value, _value, _lines, _lines, _token, _token, _wrap, _bytes)
