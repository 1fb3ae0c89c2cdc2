"""What holds for every runbook and every sequence of events, found by trying."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.action import Effect
from bot.engine import RunState, StepStatus, advance
from bot.language.runbook import Approval, Retry, Runbook, Step
from bot.model.commands import (
    COMMAND,
    ApplyStep,
    AskApproval,
    AskDecision,
    AskPerson,
    Command,
    Finish,
    PlanStep,
    RunStep,
    UndoStep,
    VerifyStep,
    Wait,
)
from bot.model.events import EVENT
from tests.unit.engine.rehearsal import (
    ALERT,
    SAM,
    Rehearsal,
    book,
    expression,
    manual,
    plan_of,
    step,
)

PEOPLE = {
    "slack:U0SAM": ("security",),
    "slack:U1": ("security",),
    "slack:U2": ("security", "oncall"),
    "slack:U3": ("legal",),
}
IDS = ("a", "b", "c")
POLICIES = st.sampled_from(["skip", "stop"])
TIMES = st.none() | st.just(60.0)

APPROVALS = st.builds(
    Approval,
    groups=st.sampled_from([("security",), ("oncall", "security")]),
    required=st.integers(1, 2),
    timeout_s=TIMES,
    on_timeout=POLICIES,
)


@st.composite
def steps(draw: st.DrawFn, id_: str) -> Step:
    if draw(st.integers(0, 4)) == 0:
        return manual(id_, timeout_s=draw(TIMES), on_timeout=draw(POLICIES))
    conditions = st.sampled_from([None, None, None, expression("1 > 2"), expression("inputs.no")])
    return step(
        id_,
        draw(st.sampled_from(Effect)),
        condition=draw(conditions),
        approval=draw(st.none() | APPROVALS),
        retry=Retry(draw(st.integers(1, 3)), delay_s=5.0),
        on_failure=draw(st.sampled_from(["ask", "stop", "continue", "undo"])),
    )


@st.composite
def books(draw: st.DrawFn) -> Runbook:
    return book(*(draw(steps(id_)) for id_ in IDS[: draw(st.integers(1, 3))]))


def move(run: Rehearsal, draw: Any) -> None:
    """Give one event, mostly one that fits where the run stands."""
    fits = {
        StepStatus.PLANNING: ["planned", "failed"],
        StepStatus.AWAITING_APPROVAL: ["asked", "approved", "approved", "rejected", "timer"],
        StepStatus.AWAITING_ANSWER: ["asked", "answered", "timer"],
        StepStatus.AWAITING_DECISION: ["asked", "decided"],
        StepStatus.AWAITING_RETRY: ["timer"],
        StepStatus.RUNNING: ["applied", "applied", "drifted", "failed"],
        StepStatus.VERIFYING: ["verified", "failed"],
        StepStatus.UNDOING: ["undone", "failed"],
    }
    everything = sorted({name for names in fits.values() for name in names})
    ids = [each.id for each in run.runbook.steps]
    at = ids[min(run.state.cursor, len(ids) - 1)]
    fitting = fits.get(run.status(at), everything)
    name = draw(st.sampled_from([*fitting * 3, *everything, "cancelled", "start"]))
    target = draw(st.sampled_from([at] * 6 + ids))
    plans = st.sampled_from([plan_of(target), plan_of(target, before="ajar")])
    match name:
        case "planned" | "drifted":
            getattr(run, name)(target, draw(plans))
        case "approved" | "rejected":
            who = draw(st.sampled_from(sorted(PEOPLE)))
            getattr(run, name)(target, who, *PEOPLE[who])
        case "decided":
            run.decided(target, draw(st.sampled_from(["retry", "skip", "stop", "done"])))
        case "failed":
            phases = st.sampled_from(["plan", "apply", "verify", "undo", "run"])
            errors = st.sampled_from(["unreachable", "refused", "ambiguous", "unverified"])
            run.failed(target, draw(phases), draw(errors))
        case "timer":
            run.timer(seconds=draw(st.sampled_from([1, 400])))
        case "cancelled" if draw(st.integers(0, 5)):
            run.timer()
        case "cancelled":
            run.cancelled()
        case "start":
            run.give(run.given[0])
        case _:
            getattr(run, name)(target)


DOING = {
    StepStatus.PLANNING: (PlanStep,),
    StepStatus.RUNNING: (RunStep, ApplyStep),
    StepStatus.VERIFYING: (VerifyStep,),
    StepStatus.UNDOING: (UndoStep,),
    StepStatus.AWAITING_APPROVAL: (AskApproval, Wait),
    StepStatus.AWAITING_ANSWER: (AskPerson, Wait),
    StepStatus.AWAITING_DECISION: (AskDecision, Wait),
    StepStatus.AWAITING_RETRY: (Wait,),
}


def check_commands(run: Rehearsal, before: RunState) -> None:
    """One command, of the kind that goes with where the run stands; an end only once."""
    if before.status.is_final:
        assert run.commands == ()
        assert run.state == before
        return
    assert len(run.commands) == 1
    if run.state.status.is_final:
        assert isinstance(run.last, Finish)
        assert run.last.status is run.state.status
    else:
        at = run.runbook.steps[run.state.cursor].id
        assert isinstance(run.last, DOING[run.status(at)])
        assert run.last == COMMAND.validate_python(run.last.model_dump(mode="json"))


def check_progress(run: Rehearsal, before: RunState) -> None:
    """A run goes forwards only, and what is over stays as it is."""
    assert run.state.cursor >= before.cursor
    for id_, old in before.steps.items():
        if old.status.is_final:
            assert run.state.steps[id_] == old


def check_approvals(run: Rehearsal) -> None:
    """Only people of the groups, each once, never who started the run; and no act without them."""
    for each in run.runbook.steps:
        current = run.at(each.id)
        groups = set(each.approval.groups if each.approval else run.runbook.owners)
        assert len(set(current.approvals)) == len(current.approvals)
        assert all(groups & set(PEOPLE[by]) for by in current.approvals)
        assert run.state.origin.actor not in current.approvals
    command = run.last
    if isinstance(command, ApplyStep | RunStep):
        acting = run.runbook.step(command.step)
        if acting.approval is not None and acting.effect is not Effect.READ:
            assert len(run.at(acting.id).approvals) >= acting.approval.required
        if isinstance(command, ApplyStep):
            assert command.plan == run.at(acting.id).plan


class TestEveryRun:
    @settings(max_examples=150, deadline=None)
    @given(books(), st.sampled_from([SAM, ALERT]), st.data())
    def test_any_events_keep_the_invariants(self, runbook, origin, data):
        """
        One command at a time that fits the state; forwards only; approvals only of those who may;
        one end; and the state survives the journal's JSON.
        """
        run = Rehearsal(runbook, origin=origin, inputs={"no": False})
        finishes = sum(isinstance(command, Finish) for command in run.commands)
        for _ in range(data.draw(st.integers(0, 25))):
            before = run.state

            move(run, data.draw)

            check_commands(run, before)
            check_progress(run, before)
            check_approvals(run)
            finishes += sum(isinstance(command, Finish) for command in run.commands)
            assert RunState.model_validate(run.state.model_dump(mode="json")) == run.state
        assert finishes == int(run.state.status.is_final)

    @settings(max_examples=60, deadline=None)
    @given(books(), st.sampled_from([SAM, ALERT]), st.data())
    def test_a_run_can_be_replayed_from_its_events(self, runbook, origin, data):
        """
        The same runbook and events, read back from JSON, give the same states and commands.
        """
        run = Rehearsal(runbook, origin=origin, inputs={"no": False})
        seen = [(run.state, run.commands)]
        for _ in range(data.draw(st.integers(0, 15))):
            move(run, data.draw)
            seen.append((run.state, run.commands))

        assert replayed(runbook, run) == seen


def replayed(runbook: Runbook, run: Rehearsal) -> list[tuple[RunState, tuple[Command, ...]]]:
    state: RunState | None = None
    states = []
    for event in run.given:
        state, commands = advance(runbook, state, EVENT.validate_json(event.model_dump_json()))
        states.append((state, commands))
    return states
