"""Other ways to write a request, which must not get past a closed endpoint.

Gateways compare text; the service behind one may decode, tidy or fold a path before it routes.
Wherever the two differ there is a way around. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from actions.gateway.rules import OVERRIDES

_LETTER = re.compile("[A-Za-z]")
_OVERRIDE_CARRIERS = ("POST", "PUT", "PATCH")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
"""Those that only read (RFC 9110, 9.2.1), and go without a body."""
_REWRITES = ("X-Original-URL", "X-Rewrite-URL")
_FORM = "application/x-www-form-urlencoded"
NOWHERE = "firedoor-nowhere"
"""A path that no service knows, below the closed one: it goes to the same service."""


@dataclass(frozen=True)
class Variant:
    """
    One spelling of a request. ``path`` goes out byte for byte.

    ``rewrites`` says that a header alone names the closed path. Then an answer says something only
    if it is another one than without the header: there are services that answer any path.
    """

    name: str
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    rewrites: bool = False


def variants(method: str, path: str, methods_there: Iterable[str]) -> list[Variant]:
    """
    Return spellings of a request that a service may take for ``method path``.

    Args:
        path: A concrete path without a query, percent-encoded as needed.

        methods_there: Other methods that exist on the path. A method override is not tried with
            one of these, as a service that ignores the override would do what it says.
    """
    segments = [segment for segment in path.split("/") if segment]
    found = [Variant(name, method, spelled) for name, spelled in _paths(path, segments)]
    if method in SAFE_METHODS:
        found += [
            Variant(name, word, spelled)
            for name, word, spelled in _malformed(method, path)
            if spelled
        ]
        nowhere = f"{path.rstrip('/')}/{NOWHERE}"
        found += [Variant(name, method, nowhere, {name: path}, rewrites=True) for name in _REWRITES]
    found.append(Variant("another host", method, path, {"Host": "other.invalid"}))
    if method == "GET":
        found.append(Variant("HEAD", "HEAD", path))
    carrier = next((m for m in _OVERRIDE_CARRIERS if m not in {*methods_there, method}), None)
    if carrier is not None:
        found += [
            Variant(f"{carrier} with {name}", carrier, path, {name: method})
            for name in (*OVERRIDES, *(each.replace("-", "_") for each in OVERRIDES))
        ]
        found += [
            Variant(f"{carrier} with {value} in {name}", carrier, path, {name: value})
            for name in OVERRIDES
            for value in (f"{method}, {carrier}", f"{carrier}, {method}")
        ]
        asked = f"_method={method}"
        found += [
            Variant(f"{carrier} with ?{asked}", carrier, f"{path}?{asked}"),
            Variant(
                f"{carrier} with {asked} in a form", carrier, path, {"Content-Type": _FORM}, asked
            ),
        ]
    return found


def _malformed(method: str, path: str) -> list[tuple[str, str, str]]:
    """Return names, methods and paths of requests that many a server refuses and hangs up on at
    once. Without a body: to one that is sent it would answer with a reset, not with a status."""
    return [
        ("fragment", method, f"{path}#/x"),
        ("absolute form", method, f"http://other.invalid{path}"),
        ("no slash at the start", method, path.lstrip("/")),
        ("lower-case method", method.lower(), path),
    ]


def _paths(path: str, segments: list[str]) -> list[tuple[str, str]]:
    found = [
        ("trailing slash", f"{path}/"),
        ("trailing dot segment", f"{path}/."),
        ("suffix of a format", f"{path}.json"),
        ("query", f"{path}?firedoor=1"),
        ("path parameter at the end", f"{path};v=1"),
        ("encoded end of text", f"{path}%00"),
        ("encoded path parameter at the end", f"{path}%3bv=1"),
        ("path parameter in a segment of its own at the end", f"{path}/;v=1"),
        ("encoded question mark", f"{path}%3f"),
        ("encoded question mark and more", f"{path}%3f/x"),
        ("encoded hash and more", f"{path}%23/x"),
        ("dot segment walk", f"/x/..{path}"),
        ("encoded dot segment walk", f"/x/%2e%2e{path}"),
        ("walk past a path parameter from the start", f"/x/..;{path}"),
        ("path parameter in a segment of its own at the start", f"/;v=1{path}"),
        ("double slash at the start", f"/{path}"),
    ]
    if not segments:
        return found
    last = segments[-1]
    if len(segments) > 1:
        # Between the last two: the further left, the sooner another route than the closed one
        # takes it, and the less it says of the closed one.
        head = "/" + "/".join(segments[:-1])
        found += [
            ("double slash", f"{head}//{last}"),
            ("dot segment", f"{head}/./{last}"),
            ("encoded dot segment", f"{head}/%2e/{last}"),
            ("walk inside", f"{head}/x/../{last}"),
            ("encoded slash", f"{head}%2f{last}"),
            ("encoded backslash", f"{head}%5c{last}"),
            ("backslash", f"{head}\\{last}"),
            ("double encoded slash", f"{head}%252f{last}"),
            ("path parameter in between", f"{head};v=1/{last}"),
            ("path parameter in a segment of its own", f"{head}/;v=1/{last}"),
            ("dot segment with a path parameter", f"{head}/.;v=1/{last}"),
            ("walk past a path parameter", f"{head}/x/..;v=1/{last}"),
            ("encoded walk past a path parameter", f"{head}/x/%2e%2e%3b/{last}"),
            ("encoded walk in one segment", f"{head}/x%2f%2e%2e%2f{last}"),
            ("overlong slash", f"{head}%c0%af{last}"),
        ]
    # The last literal-looking segment: the one whose text tells endpoints apart.
    position = max((i for i, s in enumerate(segments) if _LETTER.search(s)), default=None)
    if position is not None:
        found += [
            ("encoded letter", _with(segments, position, _encode_letter)),
            ("double encoded letter", _with(segments, position, _encode_letter_twice)),
            ("upper case", _with(segments, position, str.upper)),
        ]
    found.append(("encoded last segment", _with(segments, len(segments) - 1, _encode_first)))
    return found


def _with(segments: list[str], position: int, change: Callable[[str], str]) -> str:
    changed = [change(s) if i == position else s for i, s in enumerate(segments)]
    return "/" + "/".join(changed)


def _encode_letter(segment: str) -> str:
    return _LETTER.sub(lambda match: f"%{ord(match.group()):02x}", segment, count=1)


def _encode_letter_twice(segment: str) -> str:
    return _LETTER.sub(lambda match: f"%25{ord(match.group()):02x}", segment, count=1)


def _encode_first(segment: str) -> str:
    return segment if segment.startswith("%") else f"%{ord(segment[0]):02x}{segment[1:]}"
