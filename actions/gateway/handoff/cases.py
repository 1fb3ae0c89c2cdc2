"""What a patch says, endpoint by endpoint, before any format says it. Pure.

Configuration languages differ in how they choose: some take the first rule that matches, some have
no order at all. So each endpoint comes with the more specific ones that take their requests before
it, and a format keeps those out in the way that it has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from actions.gateway.desk import listed
from actions.gateway.rules import Rules
from actions.gateway.templates import PARAMETER, segments_of
from bot.errors import BadInput
from bot.model.base import digest_of
from bot.model.containment import Principal, PrincipalKind

_METHOD = re.compile(
    r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}|\*"
)  # RFC 9110, 5.6.2; a longer one is none


@dataclass(frozen=True)
class Requests:
    """
    Those of one endpoint with some methods, less those of other path templates.

    ``methods`` are the ones meant, or with ``any_but`` the ones not meant; so with ``any_but`` and
    none, every method.
    """

    methods: tuple[str, ...]
    any_but: bool
    kept_out: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """
    One endpoint. ``number`` is from 1 and unique in the patch. ``before`` are those that come
    before it and whose paths its template would match too, whatever their methods.
    """

    number: int
    rules: Rules
    before: tuple[Rules, ...] = ()

    def requests(self) -> list[Requests]:
        """Return what its requests are, as sets that have no request in common."""
        own = self.rules.methods
        named = own or tuple(dict.fromkeys(m for rules in self.before for m in rules.methods))
        by_paths: dict[tuple[str, ...], list[str]] = {}
        for method in named:
            by_paths.setdefault(self._kept_out(method), []).append(method)
        rest = self._kept_out(None)
        if not own:
            by_paths.pop(rest, None)
        apart = [m for methods in by_paths.values() for m in methods]
        found = [Requests(tuple(methods), False, paths) for paths, methods in by_paths.items()]
        if not own:
            found.append(Requests(tuple(apart), True, rest))
        return [each for each in found if self.rules.path not in each.kept_out]

    def _kept_out(self, method: str | None) -> tuple[str, ...]:
        taking = (r for r in self.before if not r.methods or method in r.methods)
        return tuple(dict.fromkeys(rules.path for rules in taking))


@dataclass(frozen=True)
class Draft:
    """
    Cases, the most specific first. ``tag`` (8 hexadecimal digits) makes the names in a patch its
    own: two patches can stand in one configuration.
    """

    tag: str
    cases: tuple[Case, ...]

    def contained(self) -> list[Case]:
        return [case for case in self.cases if case.rules.is_contained]


@dataclass(frozen=True)
class Rendered:
    """
    ``body`` is empty if nothing can be said. ``how`` tells, line by line, where it goes;
    ``unsupported`` what it does not say.
    """

    body: str
    how: tuple[str, ...]
    unsupported: tuple[str, ...] = ()


@dataclass(frozen=True)
class Language:
    """
    What a format is like.

    Attributes:
        title: What people call it.

        suffix: Of the file's name.

        cannot_tell: Says why it cannot tell a caller from others; empty if it can.

        cannot_list: Says why it cannot let a caller through alone, though it can refuse them.

        most_regex: How many characters an expression may have, if that is limited.

        reads: What it would read even in a comment.
    """

    title: str
    suffix: str
    media_type: str
    render: Callable[[Draft], Rendered]
    cannot_tell: Callable[[Principal], str]
    cannot_list: Callable[[Principal], str] = lambda _principal: ""
    most_regex: int | None = None
    reads: tuple[str, ...] = ()


def by_kind(reasons: Mapping[PrincipalKind, str]) -> Callable[[Principal], str]:
    """Return a function that says why a caller of a kind is not told, or not let through."""
    return lambda principal: reasons.get(principal.kind, "")


def draft_of(rules: Sequence[Rules]) -> Draft:
    """
    Raises:
        BadInput: A method is none that a request could have.
    """
    for each in rules:
        if not _METHOD.fullmatch(each.method):
            raise BadInput(
                f"{each.method!r} on {each.path} is no HTTP method; nothing was rendered. Mend "
                "the inventory."
            )
    cases = tuple(
        Case(number, each, _before(each, rules[: number - 1]))
        for number, each in enumerate(rules, start=1)
    )
    said = [[c.rules.name, _of(c.rules.blocked), *map(_of, c.rules.allowed)] for c in cases]
    return Draft(digest_of([said, [c.rules.rate_per_s for c in cases]])[:8], cases)


def _of(principals: Iterable[Principal]) -> list[str]:
    return [f"{p.kind.value} {p.claim} {p.value}" for p in principals]


def _before(rules: Rules, earlier: Iterable[Rules]) -> tuple[Rules, ...]:
    return tuple(each for each in earlier if _overlap(each.path, rules.path))


def _overlap(one: str, other: str) -> bool:
    """Tell whether a path could match both templates; in doubt, that it could."""
    mine, theirs = segments_of(one), segments_of(other)
    return len(mine) == len(theirs) and all(
        a == b or PARAMETER.search(a) or PARAMETER.search(b)
        for a, b in zip(mine, theirs, strict=True)
    )


# --- what a format cannot say --------------------------------------------------------------------


def sayable(
    rules: Rules, language: Language, too_long: str | None = None
) -> tuple[Rules, list[str]]:
    """
    Return rules without what a format cannot say, and a sentence about each thing left out.

    A patch never refuses anybody whom Firedoor lets through. So a list of allowed callers is left
    out as a whole if one of them cannot be told.

    Args:
        too_long: Why nothing can be said of the endpoint, if so.
    """
    where, told = place(rules), []
    if rules.shadows:
        told.append(
            f"The shadow on {where} is left out: it changes nothing, and counts in Firedoor."
        )
    left = replace(rules, shadows=())
    if left.is_contained and too_long is not None:
        return Rules(rules.method, rules.path), [*told, left_out(left, too_long)]
    if left.closed:
        return replace(left, rate_per_s=None, blocked=(), allowed=()), told
    blocked, allowed = [], []
    for principal in left.blocked:
        why = language.cannot_tell(principal)
        if why:
            told.append(f"The block of {principal} on {where} is left out: {why}.")
        else:
            blocked.append(principal)
    for group in left.allowed:
        reasons = (language.cannot_tell(p) or language.cannot_list(p) for p in group)
        why = next(filter(None, reasons), "")
        if why:
            told.append(f"Letting only {listed(group)} through to {where} is left out: {why}.")
        else:
            allowed.append(group)
    return replace(left, blocked=tuple(blocked), allowed=tuple(allowed)), told


def left_out(rules: Rules, why: str) -> str:
    what = rules.name.partition(" ")[0].replace("+", " and ")
    return f"The {what} of {place(rules)} is left out: {why}."


def place(rules: Rules) -> str:
    """Return what it is about, for people."""
    return f"{rules.method} {rules.path}" if rules.methods else f"every method of {rules.path}"
