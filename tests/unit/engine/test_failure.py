"""What happens after a failure: retry, on_failure, decisions of people, undo."""

from __future__ import annotations

import pytest

from bot.action import Effect
from bot.engine import StepStatus
from bot.engine.failing import LONGEST_DELAY_S
from bot.language.runbook import Approval, Retry
from bot.model.commands import (
    ApplyStep,
    AskDecision,
    Finish,
    PlanStep,
    RunStep,
    UndoStep,
    VerifyStep,
    Wait,
)
from bot.model.incident import RunStatus
from tests.unit.engine.rehearsal import Rehearsal, book, change, parallel, step


def failing_change(phase: str, **fields: object) -> Rehearsal:
    """Return a run whose one change is about to fail in ``phase``, with a step after it."""
    run = Rehearsal(book(change("close", **fields), step("after")))
    if phase == "plan":
        return run
    run.planned("close")
    if phase in ("verify", "undo"):
        run.applied("close")
    return run


class TestRetry:
    def test_the_delay_doubles(self):
        """
        ``delay_s`` is before the second attempt, and doubles before each further one.
        """
        run = Rehearsal(book(step("look", retry=Retry(attempts=4, delay_s=5.0))))
        delays = []

        for _ in range(3):
            failed_at = run.now
            wait = run.failed("look")
            delays.append((wait.until - failed_at).total_seconds())
            run.timer(seconds=delays[-1])

        assert delays == [5.0, 10.0, 20.0]
        assert run.last == RunStep(step="look", action="logs.look", params={}, attempt=4)

    def test_the_delay_has_an_end(self):
        """
        However often it doubled, the next attempt is minutes away and not hours.
        """
        run = Rehearsal(book(step("look", retry=Retry(attempts=20, delay_s=5.0))))
        for _ in range(12):
            failed_at = run.now
            wait = run.failed("look")
            run.timer(seconds=LONGEST_DELAY_S)

        assert (wait.until - failed_at).total_seconds() == LONGEST_DELAY_S

    def test_retry_after_of_the_other_system_is_kept(self):
        """
        A system that says when to come back is not asked before.
        """
        run = Rehearsal(book(step("look", retry=Retry(attempts=2, delay_s=5.0))))
        failed_at = run.now

        wait = run.failed("look", retry_after_s=42.0)

        assert (wait.until - failed_at).total_seconds() == 42

    def test_a_shorter_retry_after_does_not_hurry(self):
        """
        Our own delay is the least.
        """
        run = Rehearsal(book(step("look", retry=Retry(attempts=2, delay_s=5.0))))
        failed_at = run.now

        assert (run.failed("look", retry_after_s=0.1).until - failed_at).total_seconds() == 5

    @pytest.mark.parametrize("error", ["unreachable", "timeout"])
    @pytest.mark.parametrize(
        ("phase", "again"),
        [
            pytest.param("plan", PlanStep, id="plan"),
            pytest.param("apply", ApplyStep, id="apply"),
            pytest.param("verify", VerifyStep, id="verify"),
        ],
    )
    def test_what_failed_is_what_is_tried_again(self, phase, again, error):
        """
        A change whose proof failed is not made a second time, only proven.
        """
        run = failing_change(phase, retry=Retry(attempts=2, delay_s=5.0))
        run.failed("close", phase, error)
        assert run.status("close") is StepStatus.AWAITING_RETRY

        assert isinstance(run.timer(seconds=5), again)

    def test_a_proof_that_does_not_hold_yet_is_tried_again(self):
        """
        ``unverified`` may pass: gateways take a moment.
        """
        run = failing_change("verify", retry=Retry(attempts=2, delay_s=5.0))
        run.failed("close", "verify", "unverified")

        assert isinstance(run.timer(seconds=5), VerifyStep)

    @pytest.mark.parametrize("error", ["refused", "failed", "ambiguous"])
    def test_what_a_repeat_cannot_mend_is_not_repeated(self, error):
        """
        A refusal stays one, and what may have happened is not done blindly again.
        """
        run = failing_change("apply", retry=Retry(attempts=9, delay_s=5.0))

        assert isinstance(run.failed("close", "apply", error), AskDecision)

    def test_proving_has_its_own_attempts(self):
        """
        Attempts used up by making the change are not missing for proving it.
        """
        run = failing_change("apply", retry=Retry(attempts=2, delay_s=5.0))
        run.failed("close", "apply")
        run.timer(seconds=5)
        run.applied("close")

        assert run.failed("close", "verify") == Wait(until=run.at("close").deadline)

    def test_approvals_hold_over_a_retry(self):
        """
        The plan is the same, so nobody is asked again.
        """
        run = Rehearsal(
            book(
                change("close", approval=Approval(groups=("oncall",)), retry=Retry(2, delay_s=5.0))
            )
        )
        run.planned("close")
        run.asked("close")
        run.approved("close", "slack:U1")
        run.failed("close", "apply")

        command = run.timer(seconds=5)

        assert isinstance(command, ApplyStep)
        assert (command.attempt, command.actor) == (2, "slack:U1")


class TestRetrySettings:
    def delays(self, retry: Retry, run_id: str = "INC-1-R1") -> list[float]:
        run = Rehearsal(book(step("look", retry=retry)), run_id=run_id)
        delays = []
        for _ in range(retry.attempts - 1):
            failed_at = run.now
            wait = run.failed("look")
            delays.append((wait.until - failed_at).total_seconds())
            run.timer(seconds=delays[-1])
        return delays

    @pytest.mark.parametrize(
        ("backoff", "delays"), [(1.0, [4.0, 4.0, 4.0]), (3.0, [4.0, 12.0, 36.0])]
    )
    def test_each_delay_is_backoff_times_the_one_before(self, backoff, delays):
        """
        ``backoff: 1`` repeats at an even pace.
        """
        assert self.delays(Retry(4, delay_s=4.0, backoff=backoff)) == delays

    def test_jitter_varies_a_delay_by_its_part(self):
        """
        No delay is further from the plain one than that part of it.
        """
        delays = self.delays(Retry(4, delay_s=100.0, backoff=1.0, jitter=0.5))

        assert len(set(delays)) == 3
        assert all(50.0 <= each <= 150.0 for each in delays)

    def test_jitter_is_the_same_in_a_replay_and_another_in_another_run(self):
        """
        It follows from the run, the step and the attempt: no die is cast.
        """
        retry = Retry(3, delay_s=100.0, jitter=1.0)

        assert self.delays(retry) == self.delays(retry)
        assert self.delays(retry) != self.delays(retry, "INC-1-R2")

    def test_jitter_does_not_exceed_the_longest_delay(self):
        """
        The bound is for what is waited in the end.
        """
        assert max(self.delays(Retry(9, delay_s=300.0, jitter=1.0))) <= LONGEST_DELAY_S

    @pytest.mark.parametrize(("error", "again"), [("refused", True), ("unreachable", False)])
    def test_on_names_what_is_tried_again(self, error, again):
        """
        By the class of the error, never by its words.
        """
        run = Rehearsal(book(step("look", retry=Retry(2, on=("refused",)))))

        run.failed("look", error=error)

        assert (run.status("look") is StepStatus.AWAITING_RETRY) is again


class TestOnFailure:
    def test_ask_waits_for_a_person(self):
        """
        The default: a person decides between retry, skip and stop.
        """
        run = Rehearsal(book(step("look")))

        ask = run.failed("look")

        assert isinstance(ask, AskDecision)
        assert ask.choices == ("retry", "skip", "stop")
        assert ask.message == "It did not work."

    def test_stop_ends_the_run(self):
        """
        ``stop``: the run failed, and says of which step.
        """
        run = Rehearsal(book(step("look", on_failure="stop"), step("after")))

        command = run.failed("look")

        assert isinstance(command, Finish)
        assert command.status is RunStatus.FAILED
        assert "look" in command.reason

    def test_continue_goes_on_and_the_run_ends_failed(self):
        """
        ``continue``: the rest runs, but nobody is told that all was well.
        """
        run = Rehearsal(book(step("look", on_failure="continue"), step("after")))
        assert run.failed("look").step == "after"

        command = run.applied("after")

        assert command.status is RunStatus.FAILED
        assert "look" in command.reason

    @pytest.mark.parametrize("phase", ["apply", "verify"])
    def test_undo_takes_the_change_back_and_stops(self, phase):
        """
        ``undo``: what may have been changed is restored, then the run ends.
        """
        run = failing_change(phase, on_failure="undo")

        assert isinstance(run.failed("close", phase, "refused"), UndoStep)
        command = run.undone("close")

        assert run.status("close") is StepStatus.UNDONE
        assert command.status is RunStatus.FAILED
        assert command.reason == "step close failed: It did not work.; taken back: close"

    def test_undo_of_what_was_never_planned_is_a_stop(self):
        """
        There is nothing to take back when planning failed.
        """
        run = failing_change("plan", on_failure="undo")

        assert isinstance(run.failed("close", "plan", "refused"), Finish)

    def test_an_undo_that_fails_asks(self):
        """
        Half restored is for a person to look at, whatever the policy.
        """
        run = failing_change("apply", on_failure="undo")
        run.failed("close", "apply", "refused")

        ask = run.failed("close", "undo", "refused")

        assert isinstance(ask, AskDecision)
        run.asked("close")
        assert isinstance(run.decided("close", "retry"), UndoStep)


class TestOnFailureOfAGroup:
    def test_undo_takes_back_the_changes_of_the_run(self):
        """
        As it does for a step.
        """
        group = parallel(step("look", on_failure="stop"), on_failure="undo")
        run = Rehearsal(book(change("close"), group, step("after")))
        run.changed("close")

        run.failed("look", error="refused")
        assert run.doing == ["close"]
        run.undone("close")

        assert run.state.reason == (
            "step both failed: 1 of 1 branches did not work (look: It did not work.); "
            "taken back: close"
        )

    def test_stop_and_ask_end_the_sequence_that_it_stands_in(self):
        """
        A group that began has nothing to ask about: its steps did.
        """
        for policy in ("stop", "ask"):
            group = parallel(step("look", on_failure="stop"), on_failure=policy)
            run = Rehearsal(book(group, step("after")))

            run.failed("look", error="refused")

            assert run.state.status is RunStatus.FAILED


class TestAmbiguous:
    @pytest.mark.parametrize("policy", ["ask", "stop", "continue", "undo"])
    def test_it_always_asks_and_offers_done(self, policy):
        """
        What may have happened is never guessed: a person looks, and may say that it did happen.
        """
        run = failing_change("apply", on_failure=policy)

        ask = run.failed("close", "apply", "ambiguous")

        assert isinstance(ask, AskDecision)
        assert ask.choices == ("done", "retry", "skip", "stop")

    def test_done_is_proven_like_any_change(self):
        """
        A person's word that it happened is verified from outside.
        """
        run = failing_change("apply")
        run.failed("close", "apply", "ambiguous")
        run.asked("close")

        assert isinstance(run.decided("close", "done"), VerifyStep)
        assert run.verified("close").step == "after"
        assert run.status("close") is StepStatus.DONE

    def test_done_is_not_offered_for_what_was_only_read(self):
        """
        A READ leaves facts; nobody can answer for them.
        """
        run = Rehearsal(book(step("look")))

        assert run.failed("look", "run", "ambiguous").choices == ("retry", "skip", "stop")


class TestDecision:
    def asked(self, effect: Effect = Effect.READ) -> Rehearsal:
        run = Rehearsal(book(step("look", effect), step("after")))
        run.failed("look", "run", "refused")
        run.asked("look")
        return run

    def test_retry_begins_the_attempts_anew(self):
        """
        A person's retry is a first attempt again.
        """
        command = self.asked().decided("look", "retry")

        assert command == RunStep(step="look", action="logs.look", params={}, attempt=1)

    def test_skip_goes_on_and_the_run_ends_failed(self):
        """
        A skipped failure is still a failure in the end.
        """
        run = self.asked()
        assert run.decided("look", "skip").step == "after"
        assert run.at("look").note == "skip decided by slack:U1"

        assert run.applied("after").status is RunStatus.FAILED

    def test_stop_ends_the_run_as_stopped(self):
        """
        The end was wanted: stopped, not failed.
        """
        command = self.asked().decided("look", "stop", by="slack:U2")

        assert command == Finish(
            status=RunStatus.STOPPED, reason="step look: stop decided by slack:U2"
        )

    def test_done_that_was_not_offered_changes_nothing(self):
        """
        ``done`` counts only where it may have happened.
        """
        run = self.asked()
        before = run.state

        run.decided("look", "done")

        assert run.state == before

    def test_no_timer_decides(self):
        """
        A decision has no deadline: the run waits.
        """
        run = self.asked()
        before = run.state

        assert run.timer(hours=100) == Wait()
        assert run.state == before

    def test_a_step_that_works_in_the_end_shows_no_failure(self):
        """
        Once done, the step's failure is history, and stands in the journal only.
        """
        run = self.asked()
        run.decided("look", "retry")
        run.applied("look")
        run.applied("after")

        assert run.at("look").failure is None
        assert run.state.status is RunStatus.DONE
