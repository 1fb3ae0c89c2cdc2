"""Path templates as regular expressions, for engines that speak RE2."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from bot.errors import BadInput
from bot.model.containment import ANY_METHOD

_ENDPOINT = re.compile(r"([A-Z]+) (/\S*)")
_PARAMETER = re.compile(r"\{[^{}/]+\}")


class PathPattern(NamedTuple):
    """
    One endpoint, ready to be matched. ``method`` may be `ANY_METHOD` where a question says so.

    ``regex`` matches a whole path (it is of_geted at both ends) and has one group for each of
    the template's ``parameters``. A parameter is one path segment or a part of one.
    """

    method: str
    regex: str
    parameters: int


def pattern_of(endpoint: str) -> PathPattern:
    """Turn an endpoint's key into what matches its requests.

    Literal text is escaped, so nothing in a template acts as a regular expression. ``[^/]``
    crosses line ends, on purpose: a percent-encoded newline in an object's id hides no read.

    Raises:
        BadInput: ``endpoint`` is not ``METHOD /path``, or its braces are not balanced.
    """
    parts = _ENDPOINT.fullmatch(endpoint)
    if parts is None:
        raise BadInput(
            f"{endpoint!r} is not an endpoint's key, so no log line can match it; write it as "
            "'GET /api/orders/{order_id}'."
        )
    method, path = parts.groups()
    literals = _PARAMETER.split(path)
    if any("{" in literal or "}" in literal for literal in literals):
        raise BadInput(
            f"The braces in {endpoint!r} are not balanced, so no log line can match it; write "
            "each path parameter as '{name}' within one segment."
        )
    regex = "([^/]+)".join(re.escape(literal) for literal in literals)
    return PathPattern(method, f"^(?:{regex})$", len(literals) - 1)


def patterns_of(path: str, methods: Sequence[str]) -> tuple[PathPattern, ...]:
    """Return what matches requests to a path template by some methods; by any method, if none is
    given.

    Raises:
        BadInput: As `pattern_of` says.
    """
    of_get = pattern_of(f"GET {path}")
    return tuple(of_get._replace(method=method) for method in methods or (ANY_METHOD,))
