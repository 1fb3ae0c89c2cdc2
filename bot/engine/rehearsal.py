"""Rehearses runbooks: the real engine, with made-up outcomes and people. Calls nothing outside."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot.engine.player import Player
from bot.errors import BadInput
from bot.language.rehearsal import Case, Rehearsal
from bot.language.runbook import Runbook
from bot.model.events import Event


@dataclass(frozen=True)
class Rehearsed:
    """What came of one case; it passed if there are no ``differences``.

    ``diff`` shows them line by line where there are lists to compare. ``journal`` is what happened.
    """

    runbook: str
    case: str
    differences: tuple[str, ...]
    diff: str = ""
    file: str = ""
    line: int = 0
    journal: tuple[Event, ...] = ()

    @property
    def told(self) -> str:
        """The differences, and the diff below them."""
        return "\n".join([*self.differences, *([self.diff] if self.diff else [])])


def rehearse(runbook: Runbook, rehearsal: Rehearsal, case: Case, file: str = "") -> Rehearsed:
    """Run one case and compare where it ends with what it expects."""
    player = Player(runbook, rehearsal, case)
    differences: list[str] = []
    diff = ""
    try:
        player.play()
        differences, diff = _compare(case, player)
    except BadInput as error:
        differences = [str(error)]
    return Rehearsed(
        runbook.id, case.name, tuple(differences), diff, file, case.line, tuple(player.journal)
    )


def _compare(case: Case, player: Player) -> tuple[list[str], str]:
    """Say where the run does not stand where the case expects it."""
    expect, state, found, diffs = case.expect, player.state, [], []
    if state.status is not expect.status:
        why = f" ({state.reason})" if state.reason else ""
        found.append(f"the run is {state.status.value}{why}, not {expect.status.value}")
    actual = {
        key: state.steps[key].status.value if key in state.steps else "not there"
        for key in expect.steps
    }
    wrong = [key for key, wanted in expect.steps.items() if actual[key] != wanted]
    found += [f"{key} is {actual[key]}, not {expect.steps[key]}" for key in wrong]
    if wrong:
        diffs += _diff("steps", _pairs(expect.steps), _pairs(actual))
    order = [key for key in player.ended if key in expect.order]
    if expect.order and tuple(order) != expect.order:
        found.append(f"the order is {_listed(order)}, not {_listed(expect.order)}")
    if expect.undone is not None and tuple(player.undone) != expect.undone:
        found.append(f"undone are {_listed(player.undone)}, not {_listed(expect.undone)}")
    if expect.commands is not None and tuple(player.commands) != expect.commands:
        found.append("the commands are others")
        diffs += _diff("commands", expect.commands, player.commands)
    if expect.outputs is not None and state.outputs != expect.outputs:
        found.append("the outputs are others")
        diffs += _diff("outputs", _values(expect.outputs), _values(state.outputs))
    if expect.reason and expect.reason not in state.reason:
        found.append(f"the reason is {state.reason!r}")
    if player.left:
        left = ", ".join(f"{act.kind} {act.step}".strip() for act in player.left)
        found.append(f"the run never came to: {left}")
    return found, "\n".join(diffs)


def _diff(what: str, wanted: Sequence[str], actual: Sequence[str]) -> list[str]:
    """Return a unified diff."""
    names = (f"expected {what}", f"actual {what}")
    return list(difflib.unified_diff(wanted, actual, *names, lineterm="", n=3))


def _pairs(mapping: Mapping[str, str]) -> list[str]:
    return [f"{key}: {value}" for key, value in mapping.items()]


def _values(mapping: Mapping[str, Any]) -> list[str]:
    return [
        f"{key}: {json.dumps(value, ensure_ascii=False, sort_keys=True)}"
        for key, value in sorted(mapping.items())
    ]


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(keys) or "none"
