"""Which requests are of a path template, however they spell it: matchers of Caddy's. Pure.

Caddy offers two views of a path. ``path_regexp`` sees it decoded wholly, without dot segments and
repeated slashes: there ``/orders/a%2Fb`` has three segments. ``{http.request.uri}`` is the request
as it goes on to the service, hardly tidied at all. A service may take a request for what either
view says, so there are two questions:

- `may_be`: could any service take it for this endpoint? For what is refused.
- `is_surely`: would every service do so? For what is let past a less specific endpoint's rules.

A matcher set is a JSON object whose matchers must all match; of a list of sets one is enough.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from actions.gateway.templates import PARAMETER, decoded_regex, path_regex, segments_of

MatcherSet = dict[str, Any]
AnyOf = list[MatcherSet]

URI = "{http.request.uri}"

_SLASH = "(?:[/\\\\]|%2f|%5c)"
_DOTS = f"{_SLASH}(?:\\.|%2e){{1,2}}(?:{_SLASH}|[;?]|%3b|$)"
_MATRIX = "(?:;[^/]*)?"

NOT_PLAIN = f"(?i)^[^?]*(?:%2f|%5c|\\\\|{_DOTS})"
"""A request as it was sent, if services may differ in what they take its segments to be."""

DOTS_WITH_PARAMETERS = "/\\.\\.?;"
"""In a decoded path: some frameworks drop path parameters first, and then walk (``/x/..;/y``)."""


def may_be(template: str) -> AnyOf:
    """
    Return what matches each request that some service may take for the template's.

    Case is not looked at, as Caddy's own ``path`` matcher does not look at it. A backslash counts
    as a slash. A parameter may hold an encoded slash: then its text has a slash in the decoded
    path, and what tells the request from one of a longer path is the count of segments as they
    were sent; unless it walks about with dot segments, when nothing tells them apart.
    """
    segments = segments_of(template)
    found: AnyOf = [
        {"path_regexp": {"pattern": _decoded(segments, "[^/]+")}},
        {"path_regexp": {"pattern": DOTS_WITH_PARAMETERS}},
    ]
    if PARAMETER.search(template):
        count = f"(?:/+[^/?]+){{{len(segments)}}}/*(?:\\?|$)"
        walks = f"[^?]*(?:%2f[^?]*{_DOTS}|{_DOTS}[^?]*%2f)"
        found.append(
            {
                "path_regexp": {"pattern": _decoded(segments, ".+")},
                "vars_regexp": {URI: {"pattern": f"(?i)^(?:{count}|{walks})"}},
            }
        )
    return found


def is_surely(template: str) -> AnyOf:
    """Return what matches a request only if every service takes it for the template's."""
    plain: MatcherSet = {"vars_regexp": {URI: {"pattern": NOT_PLAIN}}}
    found: AnyOf = [
        {"path_regexp": {"pattern": f"^{decoded_regex(template)}$"}, "not": [plain]},
    ]
    if PARAMETER.search(template):
        found.append(
            {
                "path_regexp": {"pattern": _decoded(segments_of(template), ".+")},
                "vars_regexp": {URI: {"pattern": f"^{path_regex(template)}$"}},
            }
        )
    return found


def _decoded(segments: list[str], parameter: str) -> str:
    """Return an expression for a decoded path, in which a parameter is ``parameter``."""
    texts = [parameter.join(map(_literal, PARAMETER.split(segment))) for segment in segments]
    return "(?is)^" + "".join(f"[/\\\\]+{text}{_MATRIX}" for text in texts) + "[/\\\\]*$"


def _literal(text: str) -> str:
    return re.escape(unquote_to_bytes(text).decode("utf-8", "replace"))
