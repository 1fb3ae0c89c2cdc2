"""The order of steps: one after the other, conditions, what later steps may read, endings."""

from __future__ import annotations

import pytest

from bot.action import Effect
from bot.engine import StepStatus, advance
from bot.language.runbook import Input, InputType
from bot.model import events
from bot.model.commands import (
    ApplyStep,
    AskDecision,
    AskPerson,
    Finish,
    PlanStep,
    RunStep,
    VerifyStep,
    Wait,
)
from bot.model.incident import RunStatus
from tests.unit.engine.rehearsal import (
    NOON,
    SAM,
    Rehearsal,
    book,
    change,
    expression,
    manual,
    plan_of,
    step,
)


class TestOrder:
    def test_steps_run_one_after_the_other_to_the_end(self):
        """
        A step begins when the one before it is done, and the run is done with the last.
        """
        run = Rehearsal(book(step("look"), step("tell", Effect.NOTIFY), step("again")))
        assert [run.at(id_).is_under_way for id_ in ("look", "tell")] == [True, False]
        begun = [run.last.step]

        while not isinstance(run.applied(begun[-1]), Finish):
            begun.append(run.last.step)

        assert begun == ["look", "tell", "again"]
        assert run.last == Finish(status=RunStatus.DONE)
        assert run.state.status is RunStatus.DONE

    def test_a_change_is_planned_applied_and_verified_in_this_order(self):
        """
        A change is done only once it is proven from outside.
        """
        run = Rehearsal(book(change("close", ttl_s=60.0)))

        kinds = [
            type(run.last),
            type(run.planned("close")),
            type(run.applied("close", containment="c1")),
            type(run.verified("close")),
        ]

        assert kinds == [PlanStep, ApplyStep, VerifyStep, Finish]
        assert run.at("close").facts == {"containment": "c1"}
        assert run.status("close") is StepStatus.DONE

    def test_apply_gets_the_plan_the_ttl_and_who_is_answerable(self):
        """
        Without an approval, who started the run is answerable for the change.
        """
        run = Rehearsal(book(change("close", ttl_s=60.0, timeout_s=9.0)))

        command = run.planned("close")

        assert isinstance(command, ApplyStep)
        assert command.plan == plan_of("close")
        assert (command.ttl_s, command.timeout_s, command.actor) == (60.0, 9.0, SAM.actor)

    def test_a_runbook_without_steps_is_done_at_once(self):
        """
        Nothing to do is not a failure.
        """
        assert Rehearsal(book()).last == Finish(status=RunStatus.DONE)


class TestConditions:
    @pytest.mark.parametrize(
        ("condition", "status"),
        [
            pytest.param("inputs.count > 0", StepStatus.SKIPPED, id="false-skips"),
            pytest.param("inputs.count == 0", StepStatus.RUNNING, id="true-runs"),
        ],
    )
    def test_a_step_runs_only_if_its_condition_holds(self, condition, status):
        """
        ``if`` that does not hold skips the step, and says why.
        """
        run = Rehearsal(book(step("look", condition=expression(condition))), inputs={"count": 0})

        assert run.status("look") is status
        assert bool(run.at("look").note) is (status is StepStatus.SKIPPED)

    def test_several_skipped_steps_are_passed_over_at_once(self):
        """
        A skipped step costs no event.
        """
        never = expression("1 > 2")
        run = Rehearsal(book(step("a", condition=never), step("b", condition=never), step("c")))

        assert run.last == RunStep(step="c", action="logs.look", params={}, attempt=1)

    def test_facts_of_a_skipped_step_are_null(self):
        """
        A later step may read a skipped one with ``default``; it need not know that it was skipped.
        """
        skipped = step("a", condition=expression("1 > 2"), fact_names=("count",))
        reader = step("b", params={"n": expression("steps.a.count | default(7)")})
        run = Rehearsal(book(skipped, reader))

        assert run.last.params == {"n": 7}

    def test_facts_of_a_done_step_are_read_by_later_ones(self):
        """
        ``steps.<id>.<fact>`` is what that step left.
        """
        run = Rehearsal(book(step("a"), step("b", params={"n": expression("steps.a.count + 1")})))

        assert run.applied("a", count=4).params == {"n": 5}

    def test_now_is_the_time_of_the_event(self):
        """
        The engine has no clock: ``now()`` is when the event happened that begins the step.
        """
        run = Rehearsal(book(step("a", params={"at": expression("now()")})))

        assert run.last.params["at"].startswith("2026-01-02T12:00:00")


class TestExpressionThatFails:
    broken = expression("steps.a.count + 1")

    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param({"params": {"n": broken}}, id="in-the-parameters"),
            pytest.param({"condition": expression("steps.a.count > 1")}, id="in-the-condition"),
        ],
    )
    def test_only_skip_and_stop_are_offered(self, fields):
        """
        A step whose parameters do not exist cannot be tried again: it was never begun.
        """
        run = Rehearsal(book(step("a"), step("b", **fields)))

        ask = run.applied("a", count="many")

        assert isinstance(ask, AskDecision)
        assert ask.choices == ("skip", "stop")
        assert "not begun" in ask.message

    @pytest.mark.parametrize("choice", ["retry", "done"])
    def test_what_is_not_offered_changes_nothing(self, choice):
        """
        The engine does not trust a door: a choice that was not offered does not count.
        """
        run = Rehearsal(book(step("a"), step("b", params={"n": self.broken}), step("c")))
        run.applied("a", count="many")
        run.asked("b")
        before = run.state

        command = run.decided("b", choice)

        assert run.state == before
        assert command == Wait()

    def test_skip_goes_on_with_the_next_step(self):
        """
        The rest of the runbook may still be worth running.
        """
        run = Rehearsal(book(step("a"), step("b", params={"n": self.broken}), step("c")))
        run.applied("a", count="many")

        command = run.decided("b", "skip")

        assert command == RunStep(step="c", action="logs.look", params={}, attempt=1)

    def test_on_failure_continue_is_followed_without_asking(self):
        """
        ``on_failure: continue`` is for this failure too.
        """
        run = Rehearsal(
            book(
                step("a"),
                step("b", params={"n": self.broken}, on_failure="continue"),
                step("c"),
            )
        )

        assert run.applied("a", count="many").step == "c"
        assert run.status("b") is StepStatus.FAILED


class TestManualStep:
    def test_it_asks_with_its_fields_and_waits_for_its_time(self):
        """
        The question carries the declared fields and when it is given up.
        """
        fields = {
            "version": Input(name="version", type=InputType.STRING, description="Which?"),
            "sure": Input(name="sure", type=InputType.BOOLEAN, default=True, has_default=True),
        }
        run = Rehearsal(book(manual("fixed", fields=fields, timeout_s=60.0)))

        ask = run.last

        assert isinstance(ask, AskPerson)
        assert ask.ask == "Is it deployed?"
        assert ask.fields["version"] == {
            "type": "string",
            "description": "Which?",
            "required": True,
            "enum": [],
        }
        assert ask.fields["sure"]["required"] is False
        assert (ask.expires_at - NOON).total_seconds() == 60
        assert run.asked("fixed") == Wait(until=ask.expires_at)

    def test_its_answer_is_its_facts(self):
        """
        Later steps read the answer, and who gave it.
        """
        run = Rehearsal(book(manual("fixed"), step("b", params={"v": expression("steps.fixed.v")})))
        run.asked("fixed")

        command = run.answered("fixed", by="slack:U1", v="1.2.3")

        assert command.params == {"v": "1.2.3"}
        assert run.at("fixed").facts == {"v": "1.2.3", "answered_by": "slack:U1"}

    @pytest.mark.parametrize(
        ("policy", "status"),
        [
            pytest.param("skip", RunStatus.DONE, id="skip-goes-on"),
            pytest.param("stop", RunStatus.STOPPED, id="stop-ends-the-run"),
        ],
    )
    def test_silence_follows_on_timeout(self, policy, status):
        """
        When nobody answers in time, the runbook says what happens.
        """
        run = Rehearsal(book(manual("fixed", timeout_s=60.0, on_timeout=policy)))
        run.asked("fixed")

        run.timer(seconds=61)

        assert run.state.status is status
        assert run.at("fixed").note == "nobody answered in time"

    def test_a_timer_before_the_time_changes_nothing(self):
        """
        A wake-up that is too early is only a wake-up.
        """
        run = Rehearsal(book(manual("fixed", timeout_s=60.0)))
        wait = run.asked("fixed")
        before = run.state

        assert run.timer(seconds=30) == wait
        assert run.state == before


class TestEventsThatDoNotFit:
    @pytest.mark.parametrize(
        "give",
        [
            pytest.param(lambda run: run.applied("b"), id="of-a-later-step"),
            pytest.param(lambda run: run.answered("fixed"), id="of-an-earlier-step"),
            pytest.param(lambda run: run.approved("a", "slack:U1"), id="approval-of-no-question"),
            pytest.param(lambda run: run.rejected("a", "slack:U1"), id="rejection-of-no-question"),
            pytest.param(lambda run: run.decided("a", "stop"), id="decision-of-no-question"),
            pytest.param(lambda run: run.verified("a"), id="proof-before-the-change"),
            pytest.param(lambda run: run.undone("a"), id="undo-that-nobody-wanted"),
            pytest.param(lambda run: run.asked("a"), id="an-old-question"),
            pytest.param(lambda run: run.timer(hours=9), id="a-timer"),
            pytest.param(lambda run: run.give(run.given[0]), id="a-second-start"),
        ],
    )
    def test_they_change_nothing_and_what_is_being_done_is_still_to_be_done(self, give):
        """
        A late or foreign event neither moves the run nor makes it forget its command.
        """
        run = Rehearsal(book(manual("fixed"), change("a"), change("b")))
        run.answered("fixed")
        before, doing = run.state, run.last
        assert isinstance(doing, PlanStep)

        give(run)

        assert run.state == before
        assert run.last == doing

    def test_a_failure_reported_while_people_are_asked_changes_nothing(self):
        """
        Only a command that is under way can fail.
        """
        run = Rehearsal(book(manual("fixed")))
        run.asked("fixed")
        before = run.state

        run.failed("fixed")

        assert run.state == before

    def test_no_run_begins_with_another_event(self):
        """
        The first event is run_started; anything else is a mistake of the caller.
        """
        with pytest.raises(TypeError, match="run_started"):
            advance(book(step("a")), None, events.TimerFired(at=NOON))


class TestEnd:
    @pytest.mark.parametrize(
        "give",
        [
            pytest.param(lambda run: run.applied("a"), id="a-result"),
            pytest.param(lambda run: run.cancelled(), id="a-cancellation"),
            pytest.param(lambda run: run.timer(), id="a-timer"),
            pytest.param(lambda run: run.give(run.given[0]), id="a-start"),
        ],
    )
    def test_a_finished_run_stays_finished(self, give):
        """
        No event revives a run or ends it twice.
        """
        run = Rehearsal(book(step("a")))
        run.applied("a")
        before = run.state
        assert before.status is RunStatus.DONE

        assert give(run) is None
        assert run.state == before
