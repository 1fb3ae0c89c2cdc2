"""Crashes at every point where a run touches anything that lasts, found by counting them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bot.testing import World
from tests.scenario.company import GROUPS, Company


class Crash(BaseException):
    """The process is gone, here."""


@dataclass
class Tripwire:
    """
    Passes a number of points, and crashes once at the one that ``at`` names (from 0).

    A point counts only if something that lasts has changed since the one before (``lasting``
    counts these changes): a crash at either would leave the same behind.
    """

    at: int | None = None
    passed: list[str] = field(default_factory=list)
    lasting: int = 0
    _at_last_point: int = -1

    def changed(self, name: str) -> None:
        """Something that lasts has changed; the process may be gone right after."""
        self.lasting += 1
        self.point(name)

    def point(self, name: str) -> None:
        if self.lasting == self._at_last_point:
            return
        self._at_last_point = self.lasting
        self.passed.append(name)
        if len(self.passed) - 1 == self.at:
            raise Crash(name)

    @property
    def crashed_at(self) -> str:
        return "nowhere" if self.at is None else f"point {self.at}: {self.passed[self.at]}"


def wired(company: Company, trip: Tripwire) -> Company:
    """Make a company crash at the tripwire's point: around commits, effects, messages and
    rounds of a drive."""

    def prepare(world: World) -> None:
        real = world.store.begin

        @contextmanager
        def begin() -> Iterator[Any]:
            with real() as tx:
                yield tx
                trip.point("before a commit")
            trip.changed("after a commit")

        world.store.begin = begin  # type: ignore[method-assign]
        world.runner.before_go = lambda: trip.point("before going on")

    company.prepare = prepare
    company.outside.then = lambda what: trip.changed(f"after the effect: {what}")
    for thing, names in (
        (company.chat, ("open_channel", "post", "update")),
        (company.mail, ("send",)),
        (company.gateway, ("converge",)),
    ):
        for name in names:
            setattr(thing, name, _watched(getattr(thing, name), trip))
    return company


def _watched(call: Callable[..., Any], trip: Tripwire) -> Callable[..., Any]:
    def watched(*args: Any) -> Any:
        result = call(*args)
        trip.changed(f"after {call.__name__}")
        return result

    return watched


def play(company: Company, begin: Callable[[Company], Any]) -> None:
    """Bring the company's one run to its end, with people who answer and a process that is started
    again whenever it crashed."""
    for _ in range(100):
        try:
            if _round(company, begin):
                return
        except Crash:
            company.restart()
    raise AssertionError("The run did not come to its end.")


def _round(company: Company, begin: Callable[[Company], Any]) -> bool:
    runs = company.world.service.reports.runs()
    if not runs:
        begin(company)
    company.resume()
    company.world.send()
    asks = company.open_asks()
    if asks:
        answer(company, asks[0])
        return False
    state = company.state()
    if state.status.is_final:
        return company.world.send() == 0
    deadlines = [step.deadline for step in state.steps.values() if step.deadline is not None]
    wait_s = (min(deadlines) - company.clock.now()).total_seconds()
    company.clock.advance(seconds=max(wait_s, 0.0))
    return False


def answer(company: Company, ask: Any) -> None:
    """Let the people who may answer a question do so."""
    people = company.world.service.people
    match ask.kind:
        case "answer":
            people.answer(ask.token, _person("U0SAM"), {"version": "1.2.3"})
        case "decision":
            # A person takes a minute; the same one when they click again after a crash.
            later_s = (ask.asked_at - company.clock.now()).total_seconds() + 60
            company.clock.advance(seconds=max(later_s, 0.0))
            people.decide(ask.token, _person("U0SAM"), "retry")
        case _:
            members = sorted({m for group in ask.groups for m in GROUPS[group]})
            approved = company.state(ask.run_id).steps[ask.step_id].approvals
            allowed = [f"slack:{m}" for m in members]
            free = [a for a in allowed if a not in approved and a not in ask.excluded]
            people.approve(ask.token, _person(free[0].removeprefix("slack:")))


def _person(user: str) -> Any:
    from bot.service.people import Person

    return Person(actor=f"slack:{user}")
