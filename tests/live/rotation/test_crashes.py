"""A rotation that dies at any line is finished by the next attempt."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

pytestmark = pytest.mark.live

MODES = ["routine", "compromise"]


class Crash(BaseException):
    """``kill -9``: no handler of the action sees it."""


@dataclass(frozen=True)
class After:
    """The moment right after the first call of this name."""

    call: str


class Countdown:
    """Counts the moments at which a process could die, and dies at one of them."""

    def __init__(self, dies_at: int | After) -> None:
        self.moments, self._dies_at = 0, dies_at

    def tick(self, after: str = "") -> None:
        self.moments += 1
        if self._dies_at in (self.moments, After(after)):
            raise Crash


class Mortal:
    """Stands before an object: there is a moment to die before and after each of its calls."""

    def __init__(self, target: Any, countdown: Countdown) -> None:
        self._target, self._countdown = target, countdown

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            self._countdown.tick()
            answer = found(*arguments, **options)
            self._countdown.tick(after=name)
            return answer

        return call


def attempt(world: Any, doing: Callable[..., Any], plan: Any, dies_at: int | After) -> int | None:
    """Do it once; return None if it died, else how many moments it had."""
    countdown = Countdown(dies_at)
    mortal = world.through(Mortal(world.iam, countdown), Mortal(world.vault, countdown))
    notes, world.notes = world.notes, Mortal(world.notes, countdown)
    try:
        doing(plan, mortal)
    except Crash:
        return None
    finally:
        world.notes = notes
    return countdown.moments


def assert_rotated(world: Any) -> None:
    """One live key, delivered; the old one inactive; no orphan."""
    new = world.delivered()
    assert world.statuses() == {world.old: "Inactive", new: "Active"}
    assert new != world.old
    secret = world.vault.read(world.credential.path)
    assert secret.data["secret_access_key"] == world.secret_of(new)
    assert secret.data["team"] == "orders"


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_every_crash_is_finished_by_the_next_attempt(new_world, mode):
    """Whatever the first attempt did, the second ends with one live key and no orphan."""
    deaths = 0
    for dies_at in itertools.count(1):
        world = new_world()
        plan = world.plan(mode)

        is_through = attempt(world, world.apply, plan, dies_at) is not None
        facts = world.apply(plan).facts

        assert_rotated(world)
        assert facts["new"] == world.delivered()
        proof = world.verify(plan)
        assert proof.ok, proof
        if is_through:
            break
        deaths += 1
    assert deaths > 30


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_crash_while_cleaning_up_after_a_crash_is_finished(new_world, mode):
    """The hardest place to die is between making a key and delivering it; the attempt that mends
    that may die as well, at any line."""
    deaths = 0
    for dies_at in itertools.count(1, 2):
        world = new_world()
        plan = world.plan(mode)
        assert attempt(world, world.apply, plan, After("create_key")) is None
        is_through = attempt(world, world.apply, plan, dies_at) is not None

        world.apply(plan)

        assert_rotated(world)
        if is_through:
            break
        deaths += 1
    assert deaths > 15


@pytest.mark.parametrize("mode", MODES)
def test_every_crash_of_an_undo_is_finished_by_the_next_attempt(new_world, mode):
    """The old key ends active and delivered, the new one inactive."""
    deaths = 0
    for dies_at in itertools.count(1):
        world = new_world()
        plan = world.plan(mode)
        new = world.apply(plan).facts["new"]

        is_through = attempt(world, world.undo, plan, dies_at) is not None
        world.undo(plan)

        assert world.statuses() == {world.old: "Active", new: "Inactive"}
        assert world.delivered() == world.old
        if is_through:
            break
        deaths += 1
    assert deaths > 15


@pytest.mark.parametrize("mode", MODES)
def test_an_undo_after_any_crash_brings_the_old_key_back(new_world, mode):
    """Giving up half-way leaves the old key as it was, and nothing active besides."""
    for dies_at in itertools.count(1, 2):
        world = new_world()
        plan = world.plan(mode)
        is_through = attempt(world, world.apply, plan, dies_at) is not None

        world.undo(plan)

        statuses = world.statuses()
        assert statuses.pop(world.old) == "Active"
        assert set(statuses.values()) <= {"Inactive"}
        assert world.delivered() == world.old
        if is_through:
            break
