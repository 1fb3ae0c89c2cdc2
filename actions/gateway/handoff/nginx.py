"""A patch for nginx: maps for its ``http`` block, and rules for a ``server`` block. Pure.

An nginx condition looks at one thing only, so maps do the choosing: some find the endpoint of a
request (the first expression that matches), one says what the request gets. A server's rewrite
rules are looked at before its locations, so the operator's locations stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from actions.gateway.handoff.cases import Case, Draft, Language, Rendered, by_kind, place
from actions.gateway.handoff.texts import (
    ODD_PATHS,
    decoded_regex,
    exactly,
    literal_bytes,
    one_line,
    raw_regex,
)
from actions.gateway.rules import OVERRIDE_HEADERS
from actions.gateway.templates import ODD_SEGMENT
from bot.model.answers import CLOSED, REFUSED, THROTTLED, ControlAnswer
from bot.model.containment import Principal, PrincipalKind

HTTP = "# --- 1. in http { } ---"
SERVER = "# --- 2. in server { } ---"

KEY = "$api_client"
"""Where Firedoor's example configuration keeps the name of a checked key."""

_MINUTE_S = 60

# Seen with 1.22. https://nginx.org/en/CHANGES says of 1.23.0 that it combines them.
_FIRST = (
    "Of several method override headers of one name, nginx before 1.23 looks at the first only."
)


def render(draft: Draft) -> Rendered:
    """Return what belongs into ``http`` and into ``server``."""
    contained = draft.contained()
    if not contained:
        return Rendered("", ())
    limited = [case for case in contained if case.rules.rate_per_s is not None]
    numbered = [f"# Endpoint {c.number}: {one_line(c.rules.name)}" for c in draft.cases]
    lines = [HTTP, *numbered, *_odd(draft), *_overrides(draft), *_endpoints(draft)]
    lines += _verdict(draft)
    lines += [line for case in limited for line in _zone(draft, case)]
    lines += ["", SERVER, *_answers(draft), *_limits(draft, limited)]
    named = [p for c in contained for group in (c.rules.blocked, *c.rules.allowed) for p in group]
    return Rendered(
        "".join(f"{line}\n" for line in lines),
        _how(bool(limited), any(map(_has_key, named))),
        (
            *(s for case in limited for s in _rounded(case)),
            *([_FIRST] if _overridden(draft) else []),
        ),
    )


def _how(has_limits: bool, has_keys: bool) -> tuple[str, ...]:
    lines = [
        "Part 1: put it into http { }. Part 2: put it into the server { } of the API, before any",
        "other if, rewrite or return of it.",
        *ODD_PATHS,
    ]
    if has_keys:
        lines += [
            f"{KEY} must hold the name of the API key that nginx has checked, as in Firedoor's",
            "example configuration: write your own variable's name in its place.",
        ]
    if has_limits:
        lines += [
            "A location with limit_req, limit_req_status or error_page of its own does not take",
            "those of the server: repeat the ones of part 2 there. If there is a limit_req_status",
            "in the server already, leave out the one here: nginx takes only one.",
        ]
    return tuple(lines)


# --- http: which endpoint ------------------------------------------------------------------------


def _odd(draft: Draft) -> list[str]:
    """Return maps that tell what services may read as a path of any template, by the decoded path
    and by the one that was sent: some segments are gone from either."""
    name = f"{_var(draft)}_odd"
    decoded = [(f"~{ODD_SEGMENT}", CLOSED.mark)]
    sent = [(f"~^[^?]*{ODD_SEGMENT}", CLOSED.mark)]
    return [
        *_map("$uri", f"{name}_decoded", '""', decoded),
        *_map("$request_uri", name, f"{name}_decoded", sent),
    ]


def _overrides(draft: Draft) -> list[str]:
    """Return maps that tell whether a method override asks for what is closed."""
    headers = ",".join(f"$http_{name.replace('-', '_')}" for name in OVERRIDE_HEADERS)
    lines = []
    for position, methods in enumerate(_overridden(draft)):
        words = "|".join(map(literal_bytes, methods))
        asks = f"~*(?:^|,) *(?:{words}) *(?:,|$)"
        lines += _map(headers, f"{_var(draft)}_override{position}", "0", [(asks, "1")])
    return lines


def _overridden(draft: Draft) -> list[tuple[str, ...]]:
    closed = (case.rules.methods for case in draft.contained() if case.rules.closed)
    return list(dict.fromkeys(methods for methods in closed if methods))


def _endpoints(draft: Draft) -> list[str]:
    """Return a map for the decoded path, one for the path as it was sent, and one that joins them:
    whoever gets past one of them by a spelling is found by the other."""
    overrides = "".join(f"{_var(draft)}_override{n}" for n in range(len(_overridden(draft))))
    lines = []
    for kind, path, regex in (
        ("decoded", "$uri", decoded_regex),
        ("sent", "$request_uri", raw_regex),
    ):
        found = []
        for case in draft.cases:
            whole = regex(case.rules.path, backtracking=True).removeprefix("^")
            found.append((f"~^{_method(draft, case)} {whole}", str(case.number)))
        source = f"$request_method {overrides} {path}"
        lines += _map(source, f"{_var(draft)}_{kind}", "0", found)
    strictest = sorted(draft.contained(), key=lambda case: not case.rules.closed)
    either = [(f"~^(?:{c.number}:|[0-9]+:{c.number}$)", str(c.number)) for c in strictest]
    joined = f"{_var(draft)}_decoded:{_var(draft)}_sent"
    return [*lines, *_map(joined, _var(draft), "0", either)]


def _method(draft: Draft, case: Case) -> str:
    """Return an expression for a method, a space, and a digit for each override."""
    if not case.rules.methods:
        return "[^ ]+ [01]*"
    methods = f"(?:{'|'.join(map(literal_bytes, case.rules.methods))}) [01]*"
    if not case.rules.closed:
        return methods
    position = _overridden(draft).index(case.rules.methods)
    return f"(?:{methods}|[^ ]+ [01]{{{position}}}1[01]*)"


# --- http: what it gets --------------------------------------------------------------------------


def _verdict(draft: Draft) -> list[str]:
    """Return who is refused where, and a map that says what a request gets."""
    lines: list[str] = []
    lists: list[str] = []
    said: list[tuple[str, str]] = []
    for case in draft.contained():
        if case.rules.closed:
            said.append((f"~^{case.number}:", CLOSED.mark))
        first = len(lists)
        lists += _telling(draft, first, case.rules.blocked, lines)
        for digit in range(first, len(lists)):
            said.append((f"~^{case.number}:[01]{{{digit}}}1", REFUSED.mark))
        for callers in case.rules.allowed:
            first = len(lists)
            lists += _telling(draft, first, callers, lines)
            none = "0" * (len(lists) - first)
            said.append((f"~^{case.number}:[01]{{{first}}}{none}", REFUSED.mark))
    return [*lines, *_map(f"{_var(draft)}:{''.join(lists)}", f"{_var(draft)}_gets", '""', said)]


def _telling(draft: Draft, first: int, callers: Iterable[Principal], lines: list[str]) -> list[str]:
    """Add what tells callers apart, by address and by key; return the variables that are 1 for
    one of them."""
    variables = []
    addresses = [c.value for c in callers if c.kind is PrincipalKind.IP]
    if addresses:
        variables.append(f"{_var(draft)}_from{first}")
        lines += _geo(variables[-1], addresses)
    # Not a plain word: nginx takes no notice of its case.
    keys = [(f"~^{exactly(c.value.encode())}$", "1") for c in callers if _has_key(c)]
    if keys:
        variables.append(f"{_var(draft)}_key{first}")
        lines += _map(KEY, variables[-1], "0", keys)
    return variables


def _has_key(caller: Principal) -> bool:
    return caller.kind is PrincipalKind.API_KEY


def _geo(variable: str, addresses: Iterable[str]) -> list[str]:
    rows = [f"    {address} 1;" for address in addresses]
    return ["", f"geo {variable} {{", "    default 0;", *rows, "}"]


def _zone(draft: Draft, case: Case) -> list[str]:
    key, number = f"{_var(draft)}_limit{case.number}", str(case.number)
    zone = f"{_zone_name(draft, case)}:32k"
    return [
        *_map(_var(draft), key, '""', [(number, "1")]),
        f"limit_req_zone {key} zone={zone} rate={_per_minute(case)}r/m;",
    ]


def _zone_name(draft: Draft, case: Case) -> str:
    return f"firedoor_{draft.tag}_{case.number}"


def _per_minute(case: Case) -> int:
    """Return a whole number, as nginx takes no other."""
    assert case.rules.rate_per_s is not None  # noqa: S101  # only limited ones come here
    return max(1, math.ceil(round(case.rules.rate_per_s * _MINUTE_S, 6)))


def _rounded(case: Case) -> list[str]:
    rate_per_s = case.rules.rate_per_s or 0.0
    if math.isclose(_per_minute(case), rate_per_s * _MINUTE_S):
        return []
    return [
        f"The limit of {rate_per_s:g} a second on {place(case.rules)} is "
        f"{_per_minute(case)} a minute here: nginx counts in whole requests a minute."
    ]


# --- server --------------------------------------------------------------------------------------


def _answers(draft: Draft) -> list[str]:
    closed, refused = (f"/.firedoor/{draft.tag}/{each.mark}" for each in (CLOSED, REFUSED))
    lines = [_rewriting(f"{_var(draft)}_odd", CLOSED, closed)]
    if any(case.rules.closed for case in draft.contained()):
        lines.append(_rewriting(f"{_var(draft)}_gets", CLOSED, closed))
    lines += _location(closed, CLOSED)
    if any(case.rules.blocked or case.rules.allowed for case in draft.contained()):
        lines.append(_rewriting(f"{_var(draft)}_gets", REFUSED, refused))
        lines += _location(refused, REFUSED)
    return lines


def _rewriting(variable: str, answer: ControlAnswer, path: str) -> str:
    return f"if ({variable} = {answer.mark}) {{ rewrite ^ {path} last; }}"


def _location(path: str, answer: ControlAnswer) -> list[str]:
    return [f"location = {path} {{", "    internal;", *_answering(answer), "}"]


def _limits(draft: Draft, limited: Sequence[Case]) -> list[str]:
    if not limited:
        return []
    name = f"@firedoor_{draft.tag}"
    lines = []
    for case in limited:
        burst = max(1, math.ceil(case.rules.rate_per_s or 0.0)) - 1
        held = f" burst={burst} nodelay" if burst else ""
        lines.append(f"limit_req zone={_zone_name(draft, case)}{held};")
    return [
        *lines,
        f"limit_req_status {THROTTLED.status};",
        f"error_page {THROTTLED.status} {name};",
        f"location {name} {{",
        *_answering(THROTTLED),
        "}",
    ]


def _answering(answer: ControlAnswer) -> list[str]:
    headers = dict(answer.headers)
    type_ = headers.pop("content-type")
    return [
        "    types { }",
        f"    default_type {type_};",
        *(f"    add_header {name} {quoted(value)} always;" for name, value in headers.items()),
        f"    return {answer.status} {quoted(answer.body)};",
    ]


# --- words ---------------------------------------------------------------------------------------


def _var(draft: Draft) -> str:
    return f"$firedoor_{draft.tag}"


def _map(source: str, variable: str, default: str, rows: Iterable[tuple[str, str]]) -> list[str]:
    written = [f"    {quoted(pattern)} {value};" for pattern, value in rows]
    return ["", f'map "{source}" {variable} {{', f"    default {default};", *written, "}"]


def quoted(text: str) -> str:
    """Return a word that stands for this text where nginx puts in no variables: of a backslash and
    a quote, or two backslashes, it reads the second."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


LANGUAGE = Language(
    title="nginx",
    suffix="nginx.conf",
    media_type="text/plain",
    render=render,
    cannot_tell=by_kind(
        {PrincipalKind.CLAIM: "nginx itself verifies no tokens, so it cannot tell whose they are"}
    ),
    # A word has at most 4,096 characters, and quoting may double it.
    most_regex=1500,
)
