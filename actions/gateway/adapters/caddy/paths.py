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

from actions.gateway.templates import PARAMETER, decoded_regex, segments_of

MatcherSet = dict[str, Any]
AnyOf = list[MatcherSet]

URI = "{http.request.uri}"

_ENCODED = "(?:%2f|%5c|\\\\)"
_DOTS = "(?:[/\\\\]|%2f|%5c)(?:\\.|%2e){1,2}(?:[/\\\\;?]|%2f|%5c|%3b|$)"
_MATRIX = "(?:;[^/]*)?"
_CUT = "(?:[\\x00?#].*)?"

ENCODED_SLASH = f"(?i)^[^?]*{_ENCODED}"
DOT_SEGMENT = f"(?i)^[^?]*{_DOTS}"
NOT_PLAIN = f"(?i)^[^?]*(?:{_ENCODED}|;|%3b|{_DOTS})"
"""In a request as it was sent: that services may differ in what they take its segments to be. A
backslash is a slash for some."""

DOTS_WITH_PARAMETERS = "[/\\\\]\\.\\.?;"
"""In a decoded path: some frameworks drop path parameters first, and then walk (``/x/..;/y``)."""


def may_be(template: str) -> AnyOf:
    """
    Return what matches each request that some service may take for the template's.

    Case is not looked at, as Caddy's own ``path`` matcher does not look at it. A parameter may
    hold an encoded slash: then its text has a slash in the decoded path, and what tells the request
    from one of a longer path is the count of segments as they were sent. One that has dot segments
    too may lead anywhere, so it is matched whatever the template; no client means well by that.
    """
    segments = segments_of(template)
    encoded: MatcherSet = {"vars_regexp": {URI: {"pattern": ENCODED_SLASH}}}
    dots: MatcherSet = {"vars_regexp": {URI: {"pattern": DOT_SEGMENT}}}
    found: AnyOf = [
        {"path_regexp": {"pattern": _decoded(segments, "[^/]+")}},
        {"path_regexp": {"pattern": DOTS_WITH_PARAMETERS}},
        all_of([encoded], [dots]),
    ]
    if PARAMETER.search(template):
        count = f"(?i)^(?:{_sent('/+')}[^/?]+){{{len(segments)}}}{_sent('/*')}(?:\\?|$)"
        found.append(
            {
                "path_regexp": {"pattern": _decoded(segments, ".+")},
                "vars_regexp": {URI: {"pattern": count}},
            }
        )
    return found


def is_surely(template: str) -> AnyOf:
    """
    Return what matches a request only if every service takes it for the template's.

    One with an encoded slash is never sure: behind ``/orders/{id}`` the service may have a
    ``/orders/{id}/items``, and take ``/orders/1%2Fitems`` for that.
    """
    not_plain: MatcherSet = {"vars_regexp": {URI: {"pattern": NOT_PLAIN}}}
    pattern = {"pattern": f"^{decoded_regex(template)}$"}
    return [{"path_regexp": pattern, "not": [not_plain]}]


def _decoded(segments: list[str], parameter: str) -> str:
    """Return an expression for a decoded path, in which a parameter is ``parameter``. In a NUL, a
    question mark or a hash a service that decodes may see the end of it."""
    texts = [parameter.join(map(_literal, PARAMETER.split(segment))) for segment in segments]
    slash, end = (f"[/\\\\]{times}(?:;[^/]*[/\\\\]{times})*" for times in "+*")
    return "(?is)^" + "".join(f"{slash}{text}{_MATRIX}" for text in texts) + f"{end}{_CUT}$"


def _sent(slashes: str) -> str:
    """Return what stands between segments as they were sent: one that is nothing but a path
    parameter is none (``/orders/;v=1/4001``)."""
    return f"{slashes}(?:(?:;|%3b)[^/?]*{slashes})*"


def _literal(text: str) -> str:
    return re.escape(unquote_to_bytes(text).decode("utf-8", "replace"))


def all_of(*alternatives: AnyOf) -> MatcherSet:
    """Return a set that matches if one of each alternatives does. Of sets Caddy can say "one of
    these" and "none of these", so it is said as: none of them has none."""
    return {"not": [none_of(each) for each in alternatives]}


def none_of(sets: AnyOf) -> MatcherSet:
    return {"not": sets}
