"""Rehearses a runbook: the real engine, with made-up outcomes and people. Calls nothing outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bot.action import Action
from bot.engine.advance import advance
from bot.engine.state import RunState
from bot.errors import BadInput, Problem, RunbookInvalid
from bot.language.inputs import bind, match
from bot.language.load import load_folder
from bot.language.rehearsal import Act, Case, Fails, Gives, Rehearsal, load_rehearsal
from bot.language.runbook import Runbook
from bot.model import commands, events
from bot.model.commands import Command
from bot.model.events import Event, Phase
from bot.model.incident import Origin
from bot.model.outcome import Outcome
from bot.model.plan import Plan

ENDING = ".rehearsal.yaml"
MAX_EVENTS = 1_000
"""A case that goes on for longer goes round in circles."""


@dataclass(frozen=True)
class Rehearsed:
    """What came of one case; it passed if there are no ``differences``."""

    runbook: str
    case: str
    differences: tuple[str, ...]


def rehearse_folder(folder: Path, actions: Mapping[str, Action[Any]]) -> list[Rehearsed]:
    """
    Run every case of every rehearsal in a folder.

    Raises:
        RunbookInvalid: A runbook or a rehearsal breaks the language, or a runbook has no
            rehearsal.
    """
    runbooks = load_folder([folder], actions)
    results: list[Rehearsed] = []
    rehearsed: set[str] = set()
    for file in sorted(folder.glob(f"*{ENDING}")):
        rehearsal = load_rehearsal(file.read_text(encoding="utf-8"), str(file), runbooks)
        rehearsed.add(rehearsal.runbook)
        runbook = runbooks[rehearsal.runbook]
        results += [rehearse(runbook, rehearsal, case) for case in rehearsal.cases]
    missing = sorted(set(runbooks) - rehearsed)
    if missing:
        message = f"No rehearsal for {', '.join(missing)}. Write NAME{ENDING} beside the runbook."
        raise RunbookInvalid(str(folder), [Problem(1, 1, "", message)])
    return results


def rehearse(runbook: Runbook, rehearsal: Rehearsal, case: Case) -> Rehearsed:
    """Run one case and compare where it ends with what it expects."""
    try:
        player = _Player(runbook, rehearsal, case)
        player.play()
    except BadInput as error:
        return Rehearsed(runbook.id, case.name, (str(error),))
    return Rehearsed(runbook.id, case.name, tuple(player.differences()))


class _Player:
    """Plays the outside world of one case."""

    def __init__(self, runbook: Runbook, rehearsal: Rehearsal, case: Case) -> None:
        self._runbook, self._rehearsal, self._case = runbook, rehearsal, case
        self._at = case.now
        self._acts = list(case.people)
        self._outcomes = {step: list(given) for step, given in case.outcomes.items()}
        self._ended: list[str] = []
        self._state: RunState | None = None

    def play(self) -> None:
        """Go on until the run is over, or waits and nobody does anything."""
        event: Event | None = self._start()
        for _ in range(MAX_EVENTS):
            if event is None:
                return
            self._state, todo = advance(self._runbook, self._state, event)
            self._ended += [
                step_id
                for step_id, step in self._state.steps.items()
                if step.status.is_final and step_id not in self._ended
            ]
            event = self._answer(todo[-1]) if todo else None
        raise BadInput(f"The case is not over after {MAX_EVENTS} events; it goes in circles.")

    def _start(self) -> events.RunStarted:
        case, endpoints = self._case, self._rehearsal.endpoints
        auto: tuple[str, ...] = ()
        given = case.inputs
        if case.alert is not None:
            matched = match(self._runbook, case.alert, case.now)
            if matched is None:
                raise BadInput("No trigger of the runbook takes this alert; nothing was started.")
            trigger, given = matched
            auto = trigger.auto
        kind = "alert" if case.alert else "person"
        actor = f"alert:{case.alert.source}" if case.alert else _actor(case.start_by)
        return events.RunStarted(
            at=self._at,
            incident_id="INC-1",
            run_id="INC-1-R1",
            inputs=bind(self._runbook, given, endpoints, case.now),
            origin=Origin(kind=kind, actor=actor),
            alert=case.alert,
            endpoints=dict(endpoints),
            auto=auto,
        )

    def _answer(self, command: Command) -> Event | None:
        self._at += timedelta(seconds=1)
        match command:
            case commands.Finish():
                return None
            case commands.Wait():
                return self._next_act(command.until)
            case commands.AskApproval() | commands.AskPerson() | commands.AskDecision():
                return events.Asked(at=self._at, step=command.step)
            case commands.PlanStep():
                failed = self._failure(command.step, "plan")
                plan = Plan(
                    action=command.action,
                    params=command.params,
                    summary="A rehearsed plan.",
                    before=None,
                    after=None,
                )
                return failed or events.Planned(at=self._at, step=command.step, plan=plan)
            case commands.RunStep():
                return self._failure(command.step, "run") or self._applied(command.step)
            case commands.ApplyStep():
                return self._failure(command.step, "apply") or self._applied(command.step)
            case commands.VerifyStep():
                failed = self._failure(command.step, "verify")
                return failed or events.Verified(at=self._at, step=command.step, outcome=Outcome())
            case commands.UndoStep():
                failed = self._failure(command.step, "undo")
                return failed or events.Undone(at=self._at, step=command.step, outcome=Outcome())

    def _failure(self, step: str, phase: Phase) -> events.StepFailed | None:
        """Return the step's next outcome if it is a failure of this phase, and use it up."""
        given = self._outcomes.get(step, [])
        if not given or not isinstance(given[0], Fails):
            return None
        fails = given[0]
        acting = ("run", "apply")
        if phase != fails.phase and not (fails.phase is None and phase in acting):
            return None
        if len(given) > 1:
            given.pop(0)
        return events.StepFailed(
            at=self._at,
            step=step,
            phase=phase,
            error=fails.error,
            message=fails.message,
            retry_after_s=fails.retry_after_s,
        )

    def _applied(self, step: str) -> events.Applied:
        given = self._outcomes.get(step, [])
        facts = next((dict(g.facts) for g in given if isinstance(g, Gives)), {})
        names = self._runbook.step(step).fact_names
        return events.Applied(
            at=self._at, step=step, outcome=Outcome(facts={**dict.fromkeys(names), **facts})
        )

    def _next_act(self, until: datetime | None) -> Event | None:
        if not self._acts:
            return None
        act = self._acts.pop(0)
        if act.kind == "wait":
            self._at = max(self._at, until) if until else self._at
            return events.TimerFired(at=self._at)
        return self._event_of(act)

    def _event_of(self, act: Act) -> Event:
        at, by = self._at, _actor(act.by)
        step = self._state.steps.get(act.step) if self._state else None
        digest = step.plan.digest if step and step.plan else ""
        match act.kind:
            case "approve":
                return events.Approved(
                    at=at, step=act.step, digest=digest, by=by, groups=act.groups
                )
            case "reject":
                return events.Rejected(
                    at=at, step=act.step, digest=digest, by=by, groups=act.groups, reason=act.reason
                )
            case "answer":
                return events.Answered(at=at, step=act.step, by=by, values=dict(act.values))
            case "decide":
                return events.Decided(at=at, step=act.step, by=by, choice=act.choice or "stop")
            case _:
                return events.Cancelled(at=at, by=by, reason=act.reason)

    def differences(self) -> list[str]:
        """Say where the run does not stand where the case expects it."""
        assert self._state is not None  # noqa: S101  # play() makes it
        expect, found = self._case.expect, []
        if self._state.status is not expect.status:
            why = f" ({self._state.reason})" if self._state.reason else ""
            found.append(f"the run is {self._state.status.value}{why}, not {expect.status.value}")
        for step_id, wanted in expect.steps.items():
            status = self._state.steps[step_id].status.value
            if status != wanted:
                found.append(f"{step_id} is {status}, not {wanted}")
        order = [step_id for step_id in self._ended if step_id in expect.order]
        if expect.order and tuple(order) != expect.order:
            found.append(f"the order is {', '.join(order)}, not {', '.join(expect.order)}")
        if expect.reason and expect.reason not in self._state.reason:
            found.append(f"the reason is {self._state.reason!r}")
        if self._acts:
            left = ", ".join(f"{act.kind} {act.step}".strip() for act in self._acts)
            found.append(f"the run never came to: {left}")
        return found


def _actor(name: str) -> str:
    return name if ":" in name else f"slack:{name}"
