"""Puts runbooks together that call each other, and checks what only shows then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from bot.language.document import Draft
from bot.language.fields import Section
from bot.language.given import check_given
from bot.language.hints import did_you_mean, which
from bot.language.references import fact_fault
from bot.language.runbook import Parallel, Runbook, Step, within
from bot.language.scope import Called
from bot.language.triggers import auto_fault

MAX_CALLS_DEEP = 5
MAX_STEPS_TOGETHER = 1_000
"""Of a runbook and of all that it calls, counted at each call."""

Books = Mapping[str, Draft]
"""Drafts by the id of their runbook."""


def check_links(books: Books, *, is_all: bool) -> None:
    """
    Report what is wrong between runbooks, each at its own file.

    Args:
        is_all: Whether every id is known; else an unknown one may be in a file that is broken.
    """
    good = {name: draft for name, draft in books.items() if draft.runbook is not None}
    for name, draft in books.items():
        for call in draft.calls:
            callee = books.get(call.runbook)
            if callee is not None:
                _check_given(call, callee, draft)
            elif is_all:
                hint = which(call.runbook, [other for other in books if other != name])
                message = f"No runbook is called '{call.runbook}'.{hint}"
                draft.reading.add(call.mark, call.where, message)
        _check_reads(draft, books)
        for auto in draft.auto:
            fault = _auto_fault(auto.path, 0, draft, books)
            if fault:
                draft.reading.add(auto.mark, auto.where, fault)
    _check_circles(good)
    _check_sizes(good)


def _check_given(call: Called, callee: Draft, draft: Draft) -> None:
    if callee.runbook is None:
        return
    inputs = callee.runbook.inputs
    given = Section(call.given, call.given_where, draft.reading, inputs)
    lacking = check_given(given, inputs)
    if lacking:
        names = ", ".join(lacking)
        message = (
            f"Runbook '{call.runbook}' needs {names}. Give it under 'with'; nobody is asked for it."
        )
        draft.reading.add(call.given.mark, call.given_where, message)


def _check_reads(draft: Draft, books: Books) -> None:
    """Check what is read of the outputs of other runbooks."""
    runbooks = {call.step_id: call.runbook for call in draft.calls}
    for located, path in draft.reads:
        callee = books.get(runbooks[path[1]])
        if callee is None or callee.runbook is None:
            continue
        fault = fact_fault(path, dict.fromkeys(callee.runbook.outputs, Any))
        if fault:
            draft.reading.add(located.mark_of(path), located.where, fault)


def _auto_fault(path: tuple[str, ...], depth: int, draft: Draft | None, books: Books) -> str:
    """Return what is wrong with a step of a called runbook under ``auto``; empty if nothing is.

    Args:
        depth: The step of ``path`` that stands in ``draft``.
    """
    if draft is None or draft.runbook is None:
        return ""
    steps = {each.id: each for each in within(draft.runbook.steps)}
    step = steps.get(path[depth])
    if step is None:
        hint = did_you_mean(path[depth], steps)
        return f"Runbook '{draft.runbook.id}' has no step '{path[depth]}' under 'steps'.{hint}"
    name = ".".join(path[: depth + 1])
    if depth == len(path) - 1:
        return auto_fault(name, step)
    if step.call is None:
        return f"Step '{name}' calls no runbook, so there is no '{'.'.join(path)}'."
    return _auto_fault(path, depth + 1, books.get(step.call.runbook), books)


def _callees(draft: Draft, books: Books) -> dict[str, Called]:
    """The runbooks that one calls, each with its first call."""
    first: dict[str, Called] = {}
    for call in draft.calls:
        if call.runbook in books:
            first.setdefault(call.runbook, call)
    return first


def _check_circles(books: Books) -> None:
    for name, draft in books.items():
        circle = _circle(name, books)
        if circle:
            call = _callees(draft, books)[circle[1]]
            message = (
                f"The runbook calls itself: {' -> '.join(circle)}. A run would never end; take one "
                "of the calls out."
            )
            draft.reading.add(call.mark, call.where, message)


def _circle(start: str, books: Books) -> list[str]:
    """Return a shortest way of calls from a runbook to itself, or nothing."""
    came_from: dict[str, str] = {}
    waiting = [start]
    for name in waiting:
        for callee in _callees(books[name], books):
            if callee == start:
                way = [start, name]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return way[::-1]
            if callee not in came_from:
                came_from[callee] = name
                waiting.append(callee)
    return []


def _check_sizes(books: Books) -> None:
    """Report the runbook at which calls become too deep, or steps too many."""
    depths: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for name, draft in _callees_first(books):
        callees = _callees(draft, books)
        deepest = max(callees, key=lambda each: depths[each], default=None)
        depths[name] = 0 if deepest is None else depths[deepest] + 1
        called = [call.runbook for call in draft.calls if call.runbook in books]
        sizes[name] = min(draft.size + sum(sizes[each] for each in called), MAX_STEPS_TOGETHER + 1)
        if deepest is None:
            continue
        call, message = callees[deepest], ""
        if depths[name] == MAX_CALLS_DEEP + 1:
            message = f"Runbooks call each other at most {MAX_CALLS_DEEP} deep, and this is deeper."
        elif sizes[name] > MAX_STEPS_TOGETHER >= max(sizes[each] for each in called):
            message = f"With all that it calls, the runbook has over {MAX_STEPS_TOGETHER} steps."
        if message:
            draft.reading.add(call.mark, call.where, f"{message} Call less from here.")


def _callees_first(books: Books) -> Iterator[tuple[str, Draft]]:
    """Yield runbooks after those that they call; none that leads into a circle."""
    waiting = {name: set(_callees(draft, books)) for name, draft in books.items()}
    done: set[str] = set()
    while ready := [name for name, callees in waiting.items() if callees <= done]:
        for name in ready:
            del waiting[name]
            done.add(name)
            yield name, books[name]


def linked(books: Books) -> dict[str, Runbook]:
    """Return the runbooks with every call leading to its runbook. Nothing may be wrong with them.

    In the order of the books.
    """
    found = {name: draft.runbook for name, draft in books.items() if draft.runbook is not None}
    for name, _ in _callees_first(books):
        one = found[name]
        steps, always = _linked(one.steps, found), _linked(one.always, found)
        found[name] = replace(one, steps=steps, always=always)
    return found


def _linked(steps: tuple[Step, ...], done: Mapping[str, Runbook]) -> tuple[Step, ...]:
    return tuple(_linked_step(step, done) for step in steps)


def _linked_step(step: Step, done: Mapping[str, Runbook]) -> Step:
    if step.call is not None:
        book = done[step.call.runbook]
        return replace(step, call=replace(step.call, book=book), fact_names=tuple(book.outputs))
    if step.parallel is not None:
        branches = tuple(_linked(branch, done) for branch in step.parallel.branches)
        return replace(step, parallel=Parallel(branches, step.parallel.join))
    if step.foreach is not None:
        steps = _linked(step.foreach.steps, done)
        return replace(step, foreach=replace(step.foreach, steps=steps))
    return step
