"""Calling actions: what comes of a call, whatever the action does, becomes one event."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from bot.action import Context, Facts, Params, ReadAction
from bot.engine import StepStatus
from bot.errors import (
    Ambiguous,
    BadInput,
    Failed,
    ProviderRefused,
    ProviderUnreachable,
    Refused,
    TimedOut,
    UndoConflict,
    VerificationFailed,
)
from bot.model.events import StepFailed
from bot.model.incident import RunStatus
from bot.model.outcome import Outcome, Proof
from tests.scenario.company import IRIS, SAM, Company, text_of

SET = """
- id: set
  uses: acme.set
  with: {key: door, value: shut}
"""
LOOK = """
- id: look
  uses: acme.look
  with: {key: door}
"""


INPUT = "inputs:\n  endpoint: {type: endpoint}\n"


def failure(company: Company, step: str = "set") -> StepFailed:
    """Return the last failure of a step, as the journal holds it."""
    for record in reversed(company.world.service.reports.records("INC-1")):
        if record.kind == "step_failed" and record.step_id == step:
            return StepFailed.model_validate(record.body["event"])
    raise AssertionError(f"{step} did not fail")


class OddParams(Params):
    count: int


class OddFacts(Facts):
    value: str | None = None


class Odd(ReadAction[OddParams]):
    """Does what a test wants."""

    name = "acme.odd"
    params = OddParams
    facts = OddFacts

    def __init__(self, run: Any) -> None:
        self._run = run

    def run(self, params: OddParams, ctx: Context) -> Outcome:
        return self._run(params, ctx)


ODD = """
- id: odd
  uses: acme.odd
  with: {count: 1}
"""


def odd(company_of, run: Any, steps: str = ODD) -> Company:
    """Return a company after a run in which an action did something odd."""
    company = company_of()
    company.more_actions = [Odd(run)]
    company.texts = [text_of(steps)]
    company.start(IRIS)
    return company


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            pytest.param(ProviderUnreachable("No answer."), "unreachable", id="no-answer"),
            pytest.param(TimedOut("Too long."), "timeout", id="too-long"),
            pytest.param(ProviderRefused("No."), "refused", id="refused"),
            pytest.param(Refused("Not this."), "refused", id="against-a-rule"),
            pytest.param(BadInput("What?"), "refused", id="bad-input"),
            pytest.param(VerificationFailed("Open still."), "unverified", id="unproven"),
            pytest.param(Ambiguous("Perhaps."), "ambiguous", id="ambiguous"),
            pytest.param(Failed("Broken."), "failed", id="failed"),
        ],
    )
    def test_their_class_says_what_may_be_done_next(self, company_of, error, kind):
        """
        The caller picks by class, never by reading a message; the message stands in the journal.
        """
        company = company_of(text_of(SET))
        company.outside.fail["set.apply"] = [error]
        company.start(IRIS)

        failed = failure(company)
        assert (failed.error, failed.phase, failed.message) == (kind, "apply", str(error))

    def test_retry_after_is_kept(self, company_of):
        """
        The other system's own delay reaches the engine.
        """
        company = company_of(text_of(SET))
        company.outside.fail["set.observe"] = [ProviderUnreachable("Later.", 42.0)]
        company.start(IRIS)

        assert failure(company).retry_after_s == 42.0

    @pytest.mark.parametrize("error", [RuntimeError("boom"), KeyError("x"), TimeoutError()])
    def test_an_unforeseen_one_is_ambiguous(self, company_of, error, caplog):
        """
        It says nothing about what the action did before, so a person decides; its text, which may
        hold anything, is not shown.
        """
        company = company_of(text_of(SET))
        company.outside.fail["set.apply"] = [error]
        with caplog.at_level(logging.CRITICAL):
            company.start(IRIS)

        failed = failure(company)
        assert failed.error == "ambiguous"
        assert type(error).__name__ in failed.message
        assert "boom" not in failed.message
        assert company.ask().body["choices"] == ["done", "retry", "skip", "stop"]

    def test_an_undo_that_meets_anothers_change_asks(self, company_of):
        """
        The difference is put before a person; nothing of the other's is overwritten.
        """
        company = company_of(text_of(SET + "  on_failure: undo\n"))
        company.outside.fail["set.verify"] = [VerificationFailed("Open still.")]
        company.outside.fail["set.undo"] = [UndoConflict("Someone else set door.")]
        company.start(IRIS)

        assert (failure(company).phase, failure(company).error) == ("undo", "refused")
        assert company.ask().kind == "decision"


class TestParameters:
    def test_what_the_action_cannot_take_is_refused_before_it_is_called(self, company_of):
        """
        A value that an expression gave wrongly is said with its place.
        """
        called = []
        steps = LOOK + ODD.replace("count: 1", 'count: "{{ steps.look.value }}"')
        company = odd(company_of, lambda *_: called.append(1), steps)
        company.state()

        failed = failure(company, "odd")
        assert failed.error == "refused"
        assert "count" in failed.message
        assert "was not called" in failed.message
        assert called == []

    def test_a_mistake_of_the_action_is_not_taken_for_one_of_the_runbook(self, company_of):
        """
        An action that fails to read an answer has already called: that it was not called would
        be a lie.
        """

        def run(params: OddParams, ctx: Context) -> Outcome:
            OddParams.model_validate({"count": "what the other system said"})
            return Outcome()

        failed = failure(odd(company_of, run), "odd")

        assert failed.error == "ambiguous"
        assert "was not called" not in failed.message


class TestOutcomes:
    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(object(), id="an-object"),
            pytest.param(b"\xff", id="bytes"),
        ],
    )
    def test_what_the_journal_cannot_hold_is_the_actions_fault(self, company_of, value):
        """
        The run asks a person; it neither crashes for ever nor loses its place.
        """
        company = odd(company_of, lambda *_: Outcome(facts={"value": value}))

        assert failure(company, "odd").error == "ambiguous"
        assert company.ask().kind == "decision"
        company.world.service.reports.audit()

    def test_half_a_character_is_not_kept(self, company_of):
        """
        What no file and no database can hold is replaced, and the run goes on.
        """
        company = odd(company_of, lambda *_: Outcome(facts={"value": "a\ud800b"}))

        assert company.state().steps["odd"].facts["value"] == "a?b"
        company.world.service.reports.audit()

    def test_nothing_instead_of_an_outcome_too(self, company_of):
        """
        An action that returns None is a mistake of its author, seen at once.
        """
        company = odd(company_of, lambda *_: None)

        assert failure(company, "odd").error == "ambiguous"

    def test_known_secrets_are_taken_out(self, company_of):
        """
        The last line of defence: an outcome or error that holds one is journaled without.
        """
        company = company_of()
        company.secrets = ["canary-secret-1"]
        company.more_actions = [
            Odd(lambda *_: Outcome(facts={"value": "it is canary-secret-1, really"}))
        ]
        company.texts = [text_of(ODD + SET)]
        company.outside.fail["set.observe"] = [ProviderRefused("Login canary-secret-1 refused.")]
        company.start(IRIS)

        assert company.state().steps["odd"].facts["value"] == "it is [redacted], really"
        assert failure(company).message == "Login [redacted] refused."
        raw = (company.folder / "firedoor.sqlite-wal").read_bytes()
        raw += (company.folder / "firedoor.sqlite").read_bytes()
        assert b"canary-secret" not in raw


class TestProof:
    def test_one_that_looked_at_nothing_is_none(self, company_of, monkeypatch):
        """
        A change is never done without a check that holds.
        """
        company = company_of(text_of(SET))
        monkeypatch.setattr("tests.scenario.company.Set.verify", lambda *_: Proof())
        company.start(IRIS)

        assert failure(company).error == "unverified"
        assert "looked at nothing" in failure(company).message

    def test_one_that_does_not_hold_says_what_was_seen(self, company_of):
        """
        Expected and seen, for whoever has to decide.
        """
        company = company_of(text_of(SET))
        company.outside.on_call = lambda what: (
            company.outside.values.update(door="ajar") if what == "set.verify" else None
        )
        company.start(IRIS)

        assert "expected shut, saw ajar" in failure(company).message


class TestTime:
    def test_a_call_that_takes_too_long_is_given_up_and_not_doubled(self, company_of, monkeypatch):
        """
        A second call is not started while the first still runs: two would race each other.
        """
        release, started = threading.Event(), []

        def run(params: OddParams, ctx: Context) -> Outcome:
            started.append(1)
            release.wait(60)
            return Outcome()

        monkeypatch.setattr(Odd, "timeout_s", 0.1)
        company = odd(company_of, run)
        assert failure(company, "odd").error == "timeout"
        people = company.world.service.people
        people.decide(company.ask().token, SAM, "retry")
        assert failure(company, "odd").error == "unreachable"
        assert "still runs" in failure(company, "odd").message
        assert started == [1]

        release.set()
        monkeypatch.setattr(Odd, "timeout_s", 60.0)
        while company.state().status is RunStatus.RUNNING:
            people.decide(company.ask().token, SAM, "retry")
        assert company.state().status is RunStatus.DONE
        assert started == [1, 1]


class TestContext:
    def test_the_approver_is_answerable(self, company_of):
        """
        What an action does in someone's name is in the name of who approved it.
        """
        close = """
        - id: close
          uses: acme.close
          with: {endpoint: "{{ inputs.endpoint }}"}
          ttl: 4h
          approval: {from: [security]}
        """
        company = company_of(text_of(close.replace("\n        ", "\n"), more=INPUT))
        company.start(IRIS, endpoint="POST /api/login")
        company.world.service.people.approve(company.ask().token, SAM)

        (containment,) = company.world.service.reports.containments()
        assert containment.owner == SAM.actor
        assert (containment.incident_id, containment.step_id) == ("INC-1", "close")

    def test_notes_of_earlier_attempts_are_there(self, company_of):
        """
        A step reads its own notes of this and earlier attempts, and nobody else's.
        """
        seen: list[list[Any]] = []

        def run(params: OddParams, ctx: Context) -> Outcome:
            seen.append(list(ctx.notes.read()))
            ctx.notes.write({"attempt": len(seen)})
            if len(seen) == 1:
                raise ProviderRefused("No.")
            return Outcome()

        company = odd(company_of, run, SET + ODD)
        company.world.service.people.decide(company.ask().token, SAM, "retry")

        assert seen == [[], [{"attempt": 1}]]

    def test_a_run_without_the_action_says_so(self, company_of):
        """
        A connection that is not configured is named, with what there is.
        """
        failed = failure(odd(company_of, lambda _p, ctx: ctx.connection(dict, "main")), "odd")

        assert failed.error == "refused"
        assert "dict" in failed.message


class TestForesight:
    def test_it_plans_what_is_known_and_changes_nothing(self, company_of):
        """
        ``firedoor plan``: the exact before and after, where it does not depend on earlier steps.
        """
        dependent = SET.replace("id: set", "id: later").replace("shut", '"{{ steps.look.value }}"')
        company = company_of(text_of(LOOK + SET + dependent))

        look, change, later = company.world.service.foresee(company.runbooks[0], {}, IRIS)

        assert (look.effect, look.plan) == ("read", None)
        assert (change.plan.before, change.plan.after) == (None, "shut")
        assert later.plan is None
        assert later.later == "depends on what look leaves"
        assert company.outside.effects == []
        assert company.kinds(None) == []

    def test_what_cannot_be_looked_at_now_says_why(self, company_of):
        """
        A system that is down does not keep the rest of the plan from being shown.
        """
        company = company_of(text_of(SET + LOOK))
        company.outside.fail["set.observe"] = [ProviderUnreachable("No answer.")]

        change, look = company.world.service.foresee(company.runbooks[0], {}, IRIS)

        assert "No answer." in change.unreachable
        assert look.unreachable == ""


class TestUnknownAction:
    def test_a_pinned_runbook_whose_action_is_gone_does_not_lose_the_run(self, company_of):
        """
        The step that waits is still there after a restart with the same actions.
        """
        company = company_of(text_of(SET + "  approval: {from: [security]}\n"))
        company.start(IRIS)
        company.restart()

        assert company.state().steps["set"].status is StepStatus.AWAITING_APPROVAL
        company.world.service.people.approve(company.ask().token, SAM)
        assert company.state().status is RunStatus.DONE
