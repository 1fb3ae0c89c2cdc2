"""States that version 0.1 wrote: one cursor, no groups. They are read, and go on to their end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bot.action import Effect
from bot.engine import RunState, StepStatus
from bot.language.runbook import Approval, Retry, Step
from bot.model.commands import (
    ApplyStep,
    AskApproval,
    AskDecision,
    Finish,
    RunStep,
    UndoStep,
    VerifyStep,
    Wait,
)
from bot.model.incident import RunStatus
from bot.model.plan import Plan
from tests.unit.engine.rehearsal import (
    NOON,
    Rehearsal,
    book,
    change,
    manual,
    plan_of,
    step,
)

AT = NOON.isoformat()
FAILED = {"phase": "apply", "error": "unreachable", "message": "It did not work."}


def old_step(status: str, plan: Plan | None = None, **fields: Any) -> dict[str, Any]:
    """Return a step as version 0.1 wrote it."""
    return {
        "status": status,
        "attempt": 0 if status == "pending" else 1,
        "drifts": 0,
        "params": {},
        "plan": plan.model_dump(mode="json") if plan else None,
        "approvals": [],
        "facts": {},
        "failure": None,
        "note": "",
        "deadline": None,
        "started_at": None if status == "pending" else AT,
        "ended_at": None,
    } | fields


def going_on(cursor: int, old: dict[str, dict[str, Any]], *steps: Step, **more: Any) -> Rehearsal:
    """Read such a state, and let nothing but time have happened."""
    state = {
        "incident_id": "INC-1",
        "run_id": "INC-1-R1",
        "status": "running",
        "reason": "",
        "cursor": cursor,
        "steps": old,
        "inputs": {},
        "origin": {"kind": "person", "actor": "slack:U0SAM"},
        "alert": None,
        "endpoints": {},
        "auto": [],
        "person_engaged": True,
        "engaged_by": "slack:U0SAM",
    } | more
    run = Rehearsal.going_on(book(*steps), RunState.model_validate_json(json.dumps(state)))
    run.timer()
    return run


class TestWhereItStood:
    def test_a_read_under_way_is_under_way(self):
        """
        The run goes on with what was being done, and then with the next step.
        """
        old = {"a": old_step("running"), "b": old_step("pending")}
        run = going_on(0, old, step("a"), step("b"))
        assert isinstance(run.last, RunStep)

        run.applied("a")
        run.applied("b")

        assert run.ended == (RunStatus.DONE, "")

    def test_a_failed_step_before_the_cursor_had_been_passed_over(self):
        """
        The run goes on after it, and is not said to have gone well.
        """
        old = {"a": old_step("failed", failure=FAILED), "b": old_step("running")}
        run = going_on(1, old, step("a", on_failure="continue"), step("b"))
        assert run.doing == ["b"]

        run.applied("b")

        assert run.ended == (RunStatus.FAILED, "went through all steps, but failed: a")

    def test_a_question_goes_on_waiting_for_its_time(self):
        """
        It is not asked again.
        """
        old = {"sure": old_step("awaiting_answer", deadline="2026-01-02T13:00:00Z")}
        run = going_on(0, old, manual("sure", timeout_s=3600.0))
        assert run.commands == (Wait(until=NOON.replace(hour=13)),)

        assert isinstance(run.answered("sure"), Finish)

    def test_a_decision_can_still_be_made(self):
        """
        As it was asked.
        """
        run = going_on(0, {"a": old_step("awaiting_decision", failure=FAILED)}, step("a"))
        assert run.commands == (Wait(),)

        run.decided("a", "skip")

        assert run.state.status is RunStatus.FAILED


class TestApprovals:
    def waiting(self, required: int) -> Rehearsal:
        approval = Approval(groups=("security",), required=required)
        old = {"a": old_step("awaiting_approval", plan_of("a"))}
        return going_on(0, old, change("a", approval=approval))

    def test_a_yes_to_the_plan_still_counts_while_its_question_is_open(self):
        """
        People click on what was posted before the update.
        """
        run = self.waiting(2)
        assert run.commands == (Wait(),)

        run.approved("a", "slack:U1", "security", digest=plan_of("a").digest)
        run.approved("a", "slack:U2", "security", digest=plan_of("a").digest)

        assert isinstance(run.last, ApplyStep)

    def test_a_yes_to_another_plan_does_not(self):
        """
        It never did.
        """
        run = self.waiting(1)
        before = run.state

        run.approved("a", "slack:U1", "security", digest="f" * 64)

        assert run.state == before

    def test_what_is_asked_from_now_on_is_bound_to_a_card(self):
        """
        A drift asks anew, and a yes to the plan alone is none.
        """
        run = self.waiting(1)
        run.approved("a", "slack:U1", "security", digest=plan_of("a").digest)
        drifted = plan_of("a", before="ajar")
        assert isinstance(run.drifted("a", drifted), AskApproval)

        run.approved("a", "slack:U1", "security", digest=drifted.digest)

        assert run.status("a") is StepStatus.AWAITING_APPROVAL


class TestTheWayBack:
    @pytest.mark.parametrize(
        ("old", "command"),
        [
            pytest.param(old_step("verifying", plan_of("b")), VerifyStep, id="verifying"),
            pytest.param(old_step("running", plan_of("b")), ApplyStep, id="applying"),
        ],
    )
    def test_changes_under_way_are_known(self, old, command):
        """
        They are finished, and then taken back with the others.
        """
        steps = {"a": old_step("done", plan_of("a")), "b": old}
        run = going_on(1, steps, change("a"), change("b"))
        run.undo_asked()
        assert isinstance(run.last, command)
        assert run.state.applied == ("a", "b")

        (run.verified if command is VerifyStep else run.applied)("b")

        assert run.commands == (UndoStep(step="b", plan=plan_of("b")),)
        run.undone("b")
        run.undone("a")
        assert run.state.status is RunStatus.UNDONE

    @pytest.mark.parametrize("status", ["awaiting_retry", "awaiting_decision"])
    def test_a_change_that_failed_and_waits_is_known_too(self, status):
        """
        It may have happened.
        """
        old = {"a": old_step(status, plan_of("a"), failure=FAILED)}
        run = going_on(0, old, change("a", retry=Retry(2)))

        run.undo_asked()

        assert isinstance(run.last, UndoStep)

    def test_what_was_only_planned_and_what_was_told_is_no_change(self):
        """
        A notice had a plan too, with nothing in it.
        """
        told = Plan(action="notify.tell", params={}, summary="", before=None, after=None)
        old = {
            "tell": old_step("done", told),
            "a": old_step("awaiting_approval", plan_of("a")),
        }
        run = going_on(
            1,
            old,
            step("tell", Effect.NOTIFY),
            change("a", approval=Approval(groups=("security",))),
        )

        run.undo_asked()

        assert run.ended == (RunStatus.UNDONE, "taken back by slack:U1")

    def test_a_finished_run_can_be_taken_back(self):
        """
        Also one that ended before the update.
        """
        old = {"a": old_step("done", plan_of("a"))}
        run = going_on(1, old, change("a"), status="done")
        assert run.commands == ()

        run.undo_asked()
        run.undone("a")

        assert run.ended == (RunStatus.UNDONE, "taken back by slack:U1; taken back: a")

    def test_an_undo_under_way_ends_the_run_as_failed(self):
        """
        As its step said then.
        """
        old = {"a": old_step("undoing", plan_of("a"), failure=FAILED), "b": old_step("pending")}
        run = going_on(0, old, change("a", on_failure="undo"), step("b"))
        assert isinstance(run.last, UndoStep)

        run.undone("a")

        assert run.ended == (
            RunStatus.FAILED,
            "step a failed: It did not work.; taken back: a",
        )

    def test_an_undo_that_fails_asks(self):
        """
        As it did.
        """
        old = {"a": old_step("undoing", plan_of("a"), failure=FAILED)}
        run = going_on(0, old, change("a", on_failure="undo"))

        assert isinstance(run.failed("a", "undo", "refused"), AskDecision)


def test_a_state_of_now_is_read_as_it_is():
    """
    Reading changes only what is old.
    """
    run = Rehearsal(book(change("a")))
    run.planned("a")

    assert RunState.model_validate(run.state.model_dump(mode="json")) == run.state
    assert RunState.model_validate(run.state) == run.state
