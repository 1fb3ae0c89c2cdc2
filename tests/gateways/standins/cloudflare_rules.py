"""A reader of the part of Cloudflare's Rules language that Firedoor writes.

It parses an expression as a whole, and tells whether a request matches it. Grammar after
https://developers.cloudflare.com/ruleset-engine/rules-language/.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(
    r"""\s*(?:
        r(?P<marks>\#*)"(?P<raw>.*?)"(?P=marks)
      | "(?P<quoted>(?:[^"\\]|\\.)*)"
      | (?P<address>[0-9a-f.:]+/\d+)
      | (?P<word>[a-z_]+(?:\.[a-z_]+)*|\d+|==|[(){}\[\],*])
    )""",
    re.VERBOSE | re.DOTALL,
)


class SyntaxWrong(Exception):
    """The expression cannot be read."""


@dataclass(frozen=True)
class Token:
    """``kind`` is string, address or word."""

    kind: str
    text: str


@dataclass(frozen=True)
class Call:
    """A request, as the Rules language sees it."""

    method: str = "GET"
    path: str = "/"
    host: str = "api.example.com"
    source: str = "198.51.100.1"
    headers: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By token configuration, of a verified token."""


def tokens_of(expression: str) -> list[Token]:
    found, position = [], 0
    while position < len(expression.rstrip()):
        match = _TOKEN.match(expression, position)
        if match is None:
            raise SyntaxWrong(f"at {position}: {expression[position : position + 20]!r}")
        position = match.end()
        if match["raw"] is not None or match["quoted"] is not None:
            found.append(
                Token(
                    "string",
                    match["raw"]
                    if match["raw"] is not None
                    else re.sub(r"\\(.)", r"\1", match["quoted"]),
                )
            )
        elif match["address"]:
            found.append(Token("address", match["address"]))
        else:
            found.append(Token("word", match["word"]))
    return found


def matches(expression: str, call: Call) -> bool:
    """Tell whether a request matches. Raises SyntaxWrong."""
    reader = _Reader(tokens_of(expression), call)
    value = reader.either()
    if reader.left:
        raise SyntaxWrong(f"{reader.left[0]} is left over")
    return value


class _Reader:
    """Reads and evaluates, without short cuts: all of an expression is read."""

    def __init__(self, tokens: list[Token], call: Call) -> None:
        self.left = tokens
        self.call = call

    def either(self) -> bool:
        value = self.both()
        while self.takes("or"):
            value = self.both() or value
        return value

    def both(self) -> bool:
        value = self.one()
        while self.takes("and"):
            value = self.one() and value
        return value

    def one(self) -> bool:
        if self.takes("not"):
            return not self.one()
        if self.takes("("):
            value = self.either()
            self.must("(", ")")
            return value
        if self.takes("any"):
            self.must("any", "(")
            found = self.comparison()
            self.must("any(", ")")
            return any(found)
        (value,) = self.comparison() or [False]
        return value

    def comparison(self) -> list[bool]:
        """Return the result for each value on the left; a missing one has none."""
        values = self.operand()
        operator = self.next("word").text
        match operator:
            case "==":
                wanted = self.next("string").text
                return [value == wanted for value in values]
            case "matches":
                regex = self.next("string").text
                return [bool(re.search(regex, value)) for value in values]
            case "in":
                items = self.items()
                return [any(_is(value, item) for item in items) for value in values]
        raise SyntaxWrong(f"no operator: {operator}")

    def items(self) -> list[Token]:
        self.must("in", "{")
        found = []
        while not self.takes("}"):
            if not self.left or self.left[0].kind == "word":
                raise SyntaxWrong("no literal in a list")
            found.append(self.left.pop(0))
        return found

    def operand(self) -> list[str]:
        name = self.next("word").text
        if name == "lower":
            self.must(name, "(")
            values = [value.lower() for value in self.operand()]
            self.must(name, ")")
            self.star()
            return values
        if name == "lookup_json_string":
            self.must(name, "(")
            values = self.operand()
            self.must(name, ",")
            key = self.next("string").text
            self.must(name, ")")
            found = [json.loads(value).get(key) for value in values]
            return [value for value in found if isinstance(value, str)]
        fields = {
            "http.host": self.call.host,
            "http.request.method": self.call.method,
            "http.request.uri.path": self.call.path,
            "ip.src": self.call.source,
        }
        if name in fields:
            return [fields[name]]
        if name == "http.request.headers":
            value = self.call.headers.get(self.key())
            self.star()
            return [value] if value is not None else []
        if name == "http.request.jwt.claims":
            claims = self.call.claims.get(self.key())
            for part in ("[", "0", "]"):
                self.must(name, part)
            return [json.dumps(claims)] if claims is not None else []
        raise SyntaxWrong(f"no field: {name}")

    def key(self) -> str:
        self.must("a map", "[")
        text = self.next("string").text
        self.must("a map", "]")
        return text

    def star(self) -> None:
        for part in ("[", "*", "]"):
            self.must("an array", part)

    # --- tokens ------------------------------------------------------------------------------

    def takes(self, text: str) -> bool:
        if self.left and self.left[0] == Token("word", text):
            self.left.pop(0)
            return True
        return False

    def must(self, where: str, text: str) -> None:
        if not self.takes(text):
            raise SyntaxWrong(f"{where}: {text!r} is missing before {self.left[:1]}")

    def next(self, kind: str) -> Token:
        if not self.left or self.left[0].kind != kind:
            raise SyntaxWrong(f"a {kind} is missing before {self.left[:1]}")
        return self.left.pop(0)


def _is(value: str, item: Token) -> bool:
    if item.kind == "string":
        return value == item.text
    return ipaddress.ip_address(value) in ipaddress.ip_network(item.text)
