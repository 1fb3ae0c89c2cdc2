"""Reads an nginx configuration as nginx does, as far as Firedoor's file goes: so that tests can ask
what it would decide about a request."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
    | "(?P<double>(?:[^"\\]|\\.)*)"
    | '(?P<single>(?:[^'\\]|\\.)*)'
    | (?P<mark>[{};])
    | (?P<word>[^\s{};"']+)""",
    re.DOTALL | re.VERBOSE,
)
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n"}


def tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield what each token is (``mark`` or ``word``) and its text, without quotes and escapes."""
    for match in _TOKEN.finditer(text):
        if match.lastgroup in ("double", "single"):
            yield "word", _unescaped(match[match.lastgroup])
        elif match.lastgroup in ("mark", "word"):
            yield match.lastgroup, match[match.lastgroup]


def _unescaped(text: str) -> str:
    def plain(match: re.Match[str]) -> str:
        char = match.group(1)
        return _ESCAPES.get(char, char if char in "\\\"'" else f"\\{char}")

    return re.sub(r"\\(.)", plain, text, flags=re.DOTALL)


@dataclass
class Directive:
    words: list[str]
    block: list[Directive] = field(default_factory=list)


def parsed(text: str) -> list[Directive]:
    stack: list[list[Directive]] = [[]]
    words: list[str] = []
    for kind, token in tokens(text):
        if kind == "word":
            words.append(token)
        elif token == "}":
            stack.pop()
        else:
            stack[-1].append(Directive(words))
            if token == "{":
                stack.append(stack[-1][-1].block)
            words = []
    assert len(stack) == 1
    return stack[0]


class Decisions:
    """Values of a file's variables for one request."""

    def __init__(self, text: str) -> None:
        self.directives = parsed(text)
        self._of = {d.words[-1][1:]: d for d in self.directives if d.words[0] in ("map", "geo")}

    def named(self, name: str) -> list[Directive]:
        return [each for each in self.directives if each.words[0] == name]

    def value(self, name: str, request: Mapping[str, str]) -> str:
        if name in request or name not in self._of:
            return request.get(name, "")
        made = self._of[name]
        entries = [(entry.words[0], entry.words[1]) for entry in made.block]
        if made.words[0] == "geo":
            return _nearest(entries, request["remote_addr"])
        looked_up = self._expanded(made.words[1], request)
        return self._expanded(_looked_up(entries, looked_up), request)

    def _expanded(self, text: str, request: Mapping[str, str]) -> str:
        return re.sub(r"\$(\w+)", lambda match: self.value(match.group(1), request), text)


def request(
    method: str, path: str, *, address: str = "192.0.2.1", **variables: str
) -> dict[str, str]:
    """Return the variables of a request, with the path as it is sent."""
    decoded = re.sub("/+", "/", unquote(path.partition("?")[0]))
    return {
        "request_method": method,
        "request_uri": path,
        "uri": decoded,
        "remote_addr": address,
        **variables,
    }


def _looked_up(entries: list[tuple[str, str]], text: str) -> str:
    """The exact text first, in any case; then the first expression that matches; else default."""
    keyed = {key.lower(): value for key, value in entries if not key.startswith("~")}
    if text.lower() in keyed and text != "default":
        return keyed[text.lower()]
    for key, value in entries:
        if key.startswith("~"):
            fold = key.startswith("~*")
            regex = key[1 + fold :].replace(r"\z", r"\Z")
            if re.search(regex, text, re.IGNORECASE if fold else 0):
                return value
    return keyed.get("default", "")


def _nearest(entries: list[tuple[str, str]], address: str) -> str:
    caller = ipaddress.ip_address(address)
    found = [
        (network.prefixlen, value)
        for key, value in entries
        if key != "default" and caller in (network := ipaddress.ip_network(key))
    ]
    return max(found)[1] if found else dict(entries)["default"]
