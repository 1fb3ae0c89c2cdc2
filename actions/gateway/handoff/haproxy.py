"""A patch for HAProxy: lines of a frontend, and tables to count in. Pure.

Which endpoint a request is of is kept in a variable, the first that matches; the rules look at
that. HAProxy cuts a line into words, so words of others stand in single quotes, within which only
the quote itself has a meaning. https://docs.haproxy.org/2.8/configuration.html#2.2
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from actions.gateway.handoff.cases import Case, Draft, Language, Rendered, by_kind
from actions.gateway.handoff.texts import ODD_PATHS, decoded_regex, one_line, raw_regex
from actions.gateway.rules import OVERRIDE_HEADERS
from actions.gateway.templates import ODD_SEGMENT
from bot.model.answers import CLOSED, REFUSED, THROTTLED, ControlAnswer
from bot.model.containment import Principal, PrincipalKind

FRONTEND = "# --- 1. in the frontend ---"
TABLES = "# --- 2. after the frontend ---"

COUNTER = 2
"""Number of the sticky counter. HAProxy has 0 to 2 unless told otherwise."""

LONGEST_MS = 1_000_000_000
"""Of a time that is counted in, some 11 days. HAProxy takes up to 2**31 - 1, for twice of it."""

KEY, CLAIM = "txn.caller_key", "txn.caller_"
"""Where Firedoor's example configuration keeps the name of a checked key, and verified claims."""

# To many services x_http_method_override is x-http-method-override.
_OVERRIDES = (*OVERRIDE_HEADERS, *(name.replace("-", "_") for name in OVERRIDE_HEADERS))

_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")

_WORDS = 32
"""Of others in one line; HAProxy takes 64 words."""


def render(draft: Draft) -> Rendered:
    """Return the lines of a frontend, and the sections of the tables that they count in."""
    contained = draft.contained()
    if not contained:
        return Rendered("", ())
    lines = [FRONTEND, *_odd(draft), *_choosing(draft)]
    lines += [line for case in contained for line in _acting(draft, case)]
    limited = [case for case in contained if case.rules.rate_per_s is not None]
    if limited:
        lines += ["", TABLES]
        lines += [line for case in limited for line in _table(draft, case)]
    told = {_sample(p) for case in contained for p in case.rules.blocked} - {"src"}
    return Rendered("".join(f"{line}\n" for line in lines), _how(bool(limited), sorted(told)))


def _how(has_tables: bool, told: Sequence[str]) -> tuple[str, ...]:
    lines = [
        "Part 1: put it into the frontend (HAProxy 2.4 or newer, built with PCRE), after the rules",
        "that make paths one (normalize-uri: percent-decode-unreserved, path-merge-slashes,",
        "path-strip-dot, path-strip-dotdot) or set the caller's address, before all others.",
        *ODD_PATHS,
    ]
    if told:
        names = ", ".join(sample[4 : sample.index(")")] for sample in told)
        lines += [
            f"It refuses callers by {names}, so it goes after what sets that, as",
            "Firedoor's example configuration does: from a checked key, from a token whose",
            "signature was verified, and from nothing else. Where nothing sets it, nobody is",
            "refused.",
        ]
    if has_tables:
        lines += [
            f"Part 2: put it after the frontend. A limit counts on sticky counter {COUNTER}, which"
            " counts in",
            "one table only: if yours does too, write another number in part 1.",
        ]
    return tuple(lines)


# --- which endpoint ------------------------------------------------------------------------------


def _odd(draft: Draft) -> list[str]:
    """Close what services may read as a path of any template, and what has no slash at its begin:
    HAProxy sees no path in it, while some services do. OPTIONS has ``*``."""
    odd, usual = f"firedoor_{draft.tag}_odd", f"firedoor_{draft.tag}_usual"
    return [
        "",
        f"    acl {odd} path -m reg -- {quoted(ODD_SEGMENT)}",
        f"    acl {odd} path,url_dec -m reg -- {quoted(ODD_SEGMENT)}",
        _answering(CLOSED, odd),
        f"    acl {usual} path -m beg -- /",
        f"    acl {usual} method -m str -- OPTIONS",
        _answering(CLOSED, f"!{usual}"),
    ]


def _choosing(draft: Draft) -> list[str]:
    lines = []
    for case in draft.cases:
        name, rules = _name(draft, case), case.rules
        sent = raw_regex(rules.path, backtracking=True)
        read = decoded_regex(rules.path, backtracking=True)
        lines += [
            "",
            f"    # {one_line(rules.name)}",
            f"    acl {name}_path path -m reg -- {quoted(sent)}",
            f"    acl {name}_path path,url_dec -m reg -- {quoted(read)}",
        ]
        wanted = f"{name}_path"
        if rules.methods:
            methods = " ".join(map(quoted, rules.methods))
            lines.append(f"    acl {name}_method method -m str -- {methods}")
            if rules.closed:
                lines += [
                    f"    acl {name}_method req.hdr({header}) -m str -i -- {methods}"
                    for header in _OVERRIDES
                ]
            wanted += f" {name}_method"
        lines += [
            f"    http-request set-var({_variable(draft)}) int({case.number}) if {wanted} "
            f"!{{ var({_variable(draft)}) -m found }}",
            f"    acl {name} var({_variable(draft)}) -m int {case.number}",
        ]
    return lines


def _variable(draft: Draft) -> str:
    return f"txn.firedoor_{draft.tag}"


def _name(draft: Draft, case: Case) -> str:
    return f"firedoor_{draft.tag}_{case.number}"


# --- what is done --------------------------------------------------------------------------------


def _acting(draft: Draft, case: Case) -> list[str]:
    name, rules = _name(draft, case), case.rules
    lines = ["", f"    # {one_line(rules.name)}"]
    if rules.closed:
        return [*lines, _answering(CLOSED, name)]
    if rules.blocked:
        lines += _from(f"{name}_blocked", rules.blocked)
        lines.append(_answering(REFUSED, f"{name} {name}_blocked"))
    for number, group in enumerate(rules.allowed, start=1):
        lines += _from(f"{name}_allowed{number}", group)
        lines.append(_answering(REFUSED, f"{name} !{name}_allowed{number}"))
    if rules.rate_per_s is not None:
        count, _ = _window(rules.rate_per_s)
        over = f"{{ sc_gpc0_rate({COUNTER},{name}) ge {count} }}"
        lines += [
            f"    http-request track-sc{COUNTER} int(1) table {name} if {name}",
            _answering(THROTTLED, f"{name} {over}"),
            f"    http-request sc-inc-gpc0({COUNTER}) if {name}",
        ]
    return lines


def _from(acl: str, callers: Sequence[Principal]) -> Iterable[str]:
    """Return lines of a list of callers; lines of one name are one list."""
    by_sample: dict[str, list[str]] = {}
    for caller in callers:
        by_sample.setdefault(_sample(caller), []).append(caller.value)
    for sample, values in by_sample.items():
        for first in range(0, len(values), _WORDS):
            words = " ".join(map(quoted, values[first : first + _WORDS]))
            yield f"    acl {acl} {sample} -- {words}"


def _sample(caller: Principal) -> str:
    match caller.kind:
        case PrincipalKind.IP:
            return "src"
        case PrincipalKind.API_KEY:
            return f"var({KEY}) -m str"
        case PrincipalKind.CLAIM:
            return f"var({CLAIM}{caller.claim}) -m str"


def _answering(answer: ControlAnswer, condition: str) -> str:
    headers = dict(answer.headers)
    type_ = headers.pop("content-type")
    named = " ".join(f"hdr {name} {quoted(value)}" for name, value in headers.items())
    return (
        f"    http-request return status {answer.status} content-type {quoted(type_)} {named} "
        f"string {quoted(answer.body)} if {condition}"
    )


def _table(draft: Draft, case: Case) -> list[str]:
    assert case.rules.rate_per_s is not None  # noqa: S101  # that is why it is here
    _, period_ms = _window(case.rules.rate_per_s)
    stored = f"gpc0,gpc0_rate({period_ms}ms)"
    return [
        f"backend {_name(draft, case)}",
        f"    stick-table type integer size 1 expire {2 * period_ms}ms store {stored}",
    ]


def _window(rate_per_s: float) -> tuple[int, int]:
    """Return how many requests in how many milliseconds.

    At least two: HAProxy rounds what it counts, so that a limit of one in a time would let through
    only half of that.
    """
    count = max(2, math.ceil(rate_per_s))
    return count, min(max(1, math.ceil(1000 * count / rate_per_s)), LONGEST_MS)


def quoted(text: str) -> str:
    """Return a word that stands for exactly this text."""
    return "'" + text.replace("'", "'\\''") + "'"


def _cannot_tell(principal: Principal) -> str:
    if principal.kind is PrincipalKind.CLAIM and not _NAME.fullmatch(principal.claim or ""):
        return f"a variable of HAProxy's cannot be called {principal.claim}"
    if principal.kind is PrincipalKind.CLAIM and not principal.value.isascii():
        # A token may hold such a character as `\uXXXX`, which HAProxy does not decode.
        return "HAProxy compares claims with ASCII text only"
    return ""


_NOBODY = "where the frontend does not tell callers apart, everybody would be refused"

LANGUAGE = Language(
    title="HAProxy",
    suffix="haproxy.cfg",
    media_type="text/plain",
    render=render,
    cannot_tell=_cannot_tell,
    cannot_list=by_kind({PrincipalKind.API_KEY: _NOBODY, PrincipalKind.CLAIM: _NOBODY}),
)
