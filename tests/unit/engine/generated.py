"""Runbooks of every shape, and runs of them with events that mostly fit, made by hypothesis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from bot.action import Effect
from bot.engine import StepStatus
from bot.engine.places import every
from bot.language.runbook import Approval, Foreach, Manual, Retry, Runbook, Step
from bot.model import events
from bot.model.commands import (
    ApplyStep,
    AskApproval,
    AskDecision,
    AskPerson,
    Command,
    PlanStep,
    Remind,
    RunStep,
    UndoStep,
    VerifyStep,
    Wait,
)
from bot.model.events import Event
from bot.model.outcome import Outcome
from bot.model.plan import Plan
from tests.unit.engine.rehearsal import (
    ALERT,
    SAM,
    Rehearsal,
    book,
    call,
    expression,
    foreach,
    named,
    parallel,
    plan_of,
    shared,
    step,
)

PEOPLE = {
    "slack:U0SAM": ("security", "commanders"),
    "slack:U1": ("security",),
    "slack:U2": ("security", "oncall"),
    "slack:U3": ("legal",),
    "slack:U4": ("commanders",),
    "slack:U5": ("oncall", "security"),
}
TIMES = st.sampled_from([None, None, 60.0])
POLICIES = st.sampled_from(["skip", "stop"])
ERRORS = st.sampled_from(["unreachable", "refused", "ambiguous", "unverified", "timeout"])
CONDITIONS = [None] * 6 + [expression("1 > 2"), expression("inputs.no"), expression("steps.s1.n")]
PARAMS: list[dict[str, Any]] = [
    {},
    {},
    {"n": expression("steps.s1.n | default(0)")},
    {"n": expression("steps.s1.n + 1")},
]
ITEMS = [[], [1], [1, 2], [1, 2, 3], expression("inputs.no"), expression("inputs.list")]

OWN = st.builds(
    Approval,
    groups=st.sampled_from([("security",), ("oncall", "security")]),
    required=st.integers(1, 2),
    timeout_s=TIMES,
    on_timeout=POLICIES,
    break_glass=st.sampled_from([None, "commanders"]),
)
RETRIES = st.builds(Retry, st.integers(1, 3), delay_s=st.just(5.0), jitter=st.sampled_from([0, 1]))


class Maker:
    """Makes the steps of one runbook; ids are its own."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw, self.made = draw, 0
        card = draw(OWN)
        self.approvals = [
            None,
            None,
            draw(OWN),
            shared("security", required=card.required, on_timeout=card.on_timeout),
        ]

    def sequence(self, depth: int, most: int = 3) -> tuple[Step, ...]:
        return tuple(self.step(depth) for _ in range(self.draw(st.integers(1, most))))

    def step(self, depth: int) -> Step:
        self.made += 1
        id_ = f"s{self.made}"
        kind = self.draw(st.integers(0, 12 if depth else 8))
        fields: dict[str, Any] = {"condition": self.draw(st.sampled_from(CONDITIONS))}
        if kind == 0:
            return Step(id=id_, line=1, manual=self.manual(), **fields)
        if kind <= 8:
            return step(
                id_,
                self.draw(st.sampled_from([*Effect, Effect.CHANGE])),
                params=self.draw(st.sampled_from(PARAMS)),
                approval=self.draw(st.sampled_from(self.approvals)),
                retry=self.draw(RETRIES),
                on_failure=self.draw(st.sampled_from(["ask", "stop", "continue", "undo"])),
                fact_names=("n",),
                **fields,
            )
        fields["on_failure"] = self.draw(st.sampled_from(["stop", "continue", "undo"]))
        if kind <= 10:
            count = self.draw(st.integers(2, 3))
            branches = [self.sequence(depth - 1, 2) for _ in range(count)]
            join = self.draw(st.sampled_from(["all", "any"]))
            return parallel(*branches, id_=id_, join=join, **fields)
        if kind == 11:
            return foreach(
                *self.sequence(depth - 1, 2),
                items=self.draw(st.sampled_from(ITEMS)),
                id_=id_,
                concurrency=self.draw(st.integers(1, 2)),
                outputs=self.draw(st.sampled_from([{}, {"i": named("item")}])),
                **fields,
            )
        return call(self.draw(books(depth - 1)), id_, **fields)

    def manual(self) -> Manual:
        return Manual(
            ask="Sure?",
            assignee=self.draw(st.sampled_from([None, "legal"])),
            due_s=self.draw(TIMES),
            remind_s=self.draw(st.sampled_from([None, 40.0])),
            timeout_s=self.draw(st.sampled_from([None, 200.0])),
            on_timeout=self.draw(POLICIES),
        )


@st.composite
def books(draw: st.DrawFn, depth: int = 3) -> Runbook:
    maker = Maker(draw)
    steps = maker.sequence(depth)
    always = draw(st.booleans())
    return book(
        *steps,
        id=f"book{depth}",
        always=maker.sequence(max(depth - 2, 0), 2) if always else (),
        deadline_s=draw(st.sampled_from([None, None, None, 300.0])),
        outputs=draw(st.sampled_from([{}, {}, {"n": expression("steps.s1.n + 1")}])),
    )


@st.composite
def runs(draw: st.DrawFn) -> Rehearsal:
    """A run that has just begun, of a person or of an alert."""
    origin, auto = draw(st.sampled_from([(SAM, ()), (ALERT, ()), (ALERT, ("s1", "s2.s1"))]))
    return Rehearsal(draw(books()), origin=origin, auto=auto, inputs={"no": False, "list": [7, 8]})


# --- events --------------------------------------------------------------------------------------

PHASES = {PlanStep: "plan", RunStep: "run", ApplyStep: "apply", VerifyStep: "verify"}


def works(run: Rehearsal, command: Command, plan: Plan | None = None) -> Event:
    """Return what comes of a command that works."""
    at = run.now
    match command:
        case PlanStep():
            made = plan or plan_of(command.step)
            return events.Planned(at=at, step=command.step, plan=made)
        case RunStep() | ApplyStep():
            return events.Applied(at=at, step=command.step, outcome=Outcome(facts={"n": 1}))
        case VerifyStep():
            return events.Verified(at=at, step=command.step, outcome=Outcome())
        case UndoStep():
            return events.Undone(at=at, step=command.step, outcome=Outcome())
        case Remind():
            return events.Reminded(at=at, step=command.step)
        case AskApproval() | AskPerson() | AskDecision():
            return events.Asked(at=at, step=command.step)
        case _:
            return events.TimerFired(at=at)


def comes(run: Rehearsal, draw: Any) -> Event:
    """Return the next event: mostly a result or a word that is waited for, sometimes rubbish."""
    kind = draw(st.integers(0, 99))
    if kind < 50 and run.doing:
        return _result(run, draw)
    waiting = [key for key, each in run.state.steps.items() if each.is_waiting]
    if kind < 80 and waiting:
        return _word(run, draw, draw(st.sampled_from(waiting)))
    if kind < 86:
        return events.TimerFired(at=run.now)
    return _verb(run, draw) if kind < 95 else _rubbish(run, draw)


def _result(run: Rehearsal, draw: Any) -> Event:
    command = draw(st.sampled_from([c for c in run.commands if not isinstance(c, Wait)]))
    how = draw(st.integers(0, 9))
    plan = plan_of(command.step, before=draw(st.sampled_from(["open", "ajar"])))
    if isinstance(command, ApplyStep) and how == 0:
        return events.PlanDrifted(at=run.now, step=command.step, plan=plan)
    if isinstance(command, (UndoStep, *PHASES)) and how <= 3:
        return events.StepFailed(
            at=run.now,
            step=command.step,
            phase=PHASES.get(type(command), "undo"),
            error=draw(ERRORS),
            message="No.",
        )
    return works(run, command, plan)


def _word(run: Rehearsal, draw: Any, key: str) -> Event:
    current = run.at(key)
    at, by = run.now, draw(st.sampled_from(sorted(PEOPLE)))
    said: dict[str, Any] = {"at": at, "step": key, "by": by, "groups": PEOPLE[by]}
    match current.status:
        case StepStatus.AWAITING_APPROVAL:
            bare = current.plan.digest if current.plan else ""
            digest = draw(st.sampled_from([current.card] * 6 + [bare, "f" * 64]))
            word = draw(st.integers(0, 9))
            if word == 0:
                return events.Rejected(digest=digest, **said)
            if word == 1:
                reason = draw(st.sampled_from(["It burns.", " "]))
                return events.Overridden(digest=digest, reason=reason, **said)
            return events.Approved(digest=digest, **said)
        case StepStatus.AWAITING_ANSWER:
            return events.Answered(values={"n": 1}, **said)
        case StepStatus.AWAITING_DECISION:
            choice = draw(st.sampled_from(["retry", "retry", "skip", "stop", "done"]))
            return events.Decided(choice=choice, **said)
        case _:
            return events.TimerFired(at=at)


def _keys(run: Rehearsal) -> list[str]:
    return [place.key for place in every(run.runbook, run.state)]


def _verb(run: Rehearsal, draw: Any) -> Event:
    at, by = run.now, "slack:U2"
    key = draw(st.sampled_from([*_keys(run), "nowhere", "s1.9.s1"]))
    match draw(st.integers(0, 11)):
        case 0 | 1 | 2:
            return events.Skipped(at=at, step=key, by=by)
        case 3 | 4 | 5:
            return events.Retried(at=at, step=key, by=by, groups=PEOPLE[by])
        case 6 | 7:
            return events.Paused(at=at, by=by)
        case 8 | 9:
            return events.Resumed(at=at, by=by)
        case 10:
            return events.Cancelled(at=at, by=by, undo=draw(st.booleans()))
        case _:
            return events.UndoAsked(at=at, by=by)


def _rubbish(run: Rehearsal, draw: Any) -> Event:
    """Return something that came before, or that fits no place where the run may stand."""
    key = draw(st.sampled_from(_keys(run)))
    at = run.now
    said = {"at": at, "step": key, "by": "slack:U1", "groups": ("security",)}
    odd: list[Event] = [
        events.Planned(at=at, step=key, plan=plan_of(key)),
        events.PlanDrifted(at=at, step=key, plan=plan_of(key, before="new")),
        events.Applied(at=at, step=key, outcome=Outcome()),
        events.Verified(at=at, step=key, outcome=Outcome()),
        events.Undone(at=at, step=key, outcome=Outcome()),
        events.Reminded(at=at, step=key),
        events.Answered(**said),
        events.Decided(choice="retry", **said),
        events.Approved(digest="none", **said),
        events.StepFailed(at=at, step=key, phase="plan", error="failed", message="No."),
        draw(st.sampled_from(run.given)),
    ]
    again = draw(st.sampled_from(odd))
    return again.model_copy(update={"at": at})


# --- to the end ----------------------------------------------------------------------------------


def to_the_end(run: Rehearsal, bound: int = 1_500) -> Iterator[Event]:
    """Yield events that answer all that is outstanding, until the run is over."""
    for _ in range(bound):
        if run.state.status.is_final:
            return
        yield _answer(run)
    raise AssertionError("the run does not end")


def _answer(run: Rehearsal) -> Event:
    command = run.commands[0]
    if not isinstance(command, Wait):
        return works(run, command)
    if run.state.paused is not None:
        return events.Resumed(at=run.now, by="slack:U2")
    for key, current in run.state.steps.items():
        if current.status is StepStatus.AWAITING_APPROVAL and current.card:
            by = next(p for p in ("slack:U2", "slack:U5") if p not in current.approvals)
            said = {"at": run.now, "step": key, "by": by, "groups": PEOPLE[by]}
            return events.Approved(digest=current.card, **said)
        if current.status is StepStatus.AWAITING_ANSWER:
            said = {"at": run.now, "step": key, "by": "slack:U3", "groups": PEOPLE["slack:U3"]}
            return events.Answered(values={"n": 1}, **said)
        if current.status is StepStatus.AWAITING_DECISION:
            return events.Decided(at=run.now, step=key, by="slack:U3", choice="stop")
    assert command.until is not None, "nothing is waited for"
    return events.TimerFired(at=max(run.now, command.until))


def loops(run: Rehearsal) -> Iterator[tuple[str, Foreach]]:
    """Yield every foreach that goes on, by key."""
    for place in every(run.runbook, run.state):
        if place.step.foreach and run.status(place.key) is StepStatus.RUNNING:
            yield place.key, place.step.foreach
