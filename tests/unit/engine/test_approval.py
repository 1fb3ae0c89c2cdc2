"""Whose yes is needed, and whose counts: rules 1 to 7 of ``bot.engine.policy``."""

from __future__ import annotations

import pytest

from bot.action import Effect
from bot.engine import StepStatus
from bot.engine.failing import MAX_DRIFTS
from bot.engine.places import find
from bot.engine.policy import approval_needed
from bot.language.runbook import Approval, Retry
from bot.model.commands import (
    ApplyStep,
    AskApproval,
    AskDecision,
    AskPerson,
    Finish,
    PlanStep,
    RunStep,
    Wait,
)
from bot.model.incident import Origin, RunStatus
from bot.model.plan import Brief, Plan
from tests.unit.engine.rehearsal import (
    ALERT,
    SAM,
    Rehearsal,
    book,
    call,
    change,
    manual,
    parallel,
    plan_of,
    step,
)

ONE = Approval(groups=("security",))
TWO = Approval(groups=("security", "commanders"), required=2)


class TestRule1ReadsNeedNoYes:
    @pytest.mark.parametrize("origin", [SAM, ALERT], ids=["by-a-person", "by-an-alert"])
    def test_a_read_runs_at_once(self, origin):
        """
        Looking harms nobody, whoever started the run.
        """
        run = Rehearsal(book(step("look")), origin=origin)

        assert isinstance(run.last, RunStep)

    @pytest.mark.parametrize("origin", [SAM, ALERT], ids=["by-a-person", "by-an-alert"])
    def test_also_with_an_approval(self, origin):
        """
        There is nothing in it to say yes to.
        """
        run = Rehearsal(book(step("look", approval=ONE)), origin=origin)
        place = find(run.runbook, run.state, "look")

        assert isinstance(run.last, RunStep)
        assert approval_needed(run.runbook, run.state, place) is None


class TestRule2ApprovalIsAlwaysNeededWhereItIsDeclared:
    @pytest.mark.parametrize(
        ("origin", "auto"),
        [
            pytest.param(SAM, (), id="by-a-person"),
            pytest.param(ALERT, (), id="by-an-alert"),
            pytest.param(ALERT, ("close",), id="by-an-alert-and-listed-under-auto"),
        ],
    )
    def test_a_step_with_approval_asks(self, origin, auto):
        """
        ``approval`` is stronger than ``auto`` and than a person's start.
        """
        run = Rehearsal(book(change("close", approval=ONE)), origin=origin, auto=auto)

        ask = run.planned("close")

        assert isinstance(ask, AskApproval)
        assert ask.groups == ("security",)
        assert ask.plan == plan_of("close")

    def test_notices_wait_for_approval_too(self):
        """
        What was told cannot be untold: a NOTIFY with ``approval`` asks before it composes.
        """
        run = Rehearsal(book(step("tell", Effect.NOTIFY, approval=ONE)))
        assert isinstance(run.last, AskApproval)

        run.asked("tell")

        assert isinstance(run.approved("tell", "slack:U1", "security"), RunStep)


class TestRule3AlertsStartOnlyWhatIsListed:
    def test_a_step_under_auto_acts_at_once(self):
        """
        What the trigger lists runs before anybody answered.
        """
        run = Rehearsal(book(change("throttle")), origin=ALERT, auto=("throttle",))

        command = run.planned("throttle")

        assert isinstance(command, ApplyStep)
        assert command.actor == "alert:alertmanager"

    @pytest.mark.parametrize("effect", [Effect.CHANGE, Effect.IRREVERSIBLE, Effect.NOTIFY])
    def test_any_other_step_asks_the_owners(self, effect):
        """
        A step that is not listed needs one yes of the runbook's owners.
        """
        run = Rehearsal(
            book(step("act", effect), owners=("oncall", "leads")), origin=ALERT, auto=("other",)
        )

        ask = run.last if effect is Effect.NOTIFY else run.planned("act")

        assert isinstance(ask, AskApproval)
        assert (ask.groups, ask.required, ask.expires_at) == (("oncall", "leads"), 1, None)
        assert ask.excluded == ()

    def test_once_a_person_approved_later_steps_need_no_owner(self):
        """
        The rule ends when a person is engaged.
        """
        run = Rehearsal(book(change("first"), change("second")), origin=ALERT)
        run.planned("first")
        run.asked("first")
        run.approved("first", "slack:U1", "oncall")
        run.applied("first")
        run.verified("first")

        assert isinstance(run.planned("second"), ApplyStep)

    def test_once_a_person_answered_later_steps_need_no_owner(self):
        """
        An owner's answer to a manual step is a person standing behind the run.
        """
        run = Rehearsal(book(manual("sure"), change("close")), origin=ALERT)
        run.asked("sure")
        run.answered("sure", groups=("oncall",))

        assert isinstance(run.planned("close"), ApplyStep)

    def test_silence_engages_nobody(self):
        """
        A question that was skipped because nobody answered does not open the way.
        """
        run = Rehearsal(
            book(manual("sure", timeout_s=60.0, on_timeout="skip"), change("close")), origin=ALERT
        )
        run.asked("sure")
        run.timer(seconds=60)

        assert isinstance(run.planned("close"), AskApproval)

    def test_half_an_approval_engages_nobody(self):
        """
        The first of two approvals is not yet an answer.
        """
        run = Rehearsal(book(change("close", approval=TWO)), origin=ALERT)
        run.planned("close")
        run.asked("close")

        run.approved("close", "slack:U1", "security")

        assert run.state.person_engaged is False

    def test_a_person_who_started_the_run_is_engaged(self):
        """
        A run of a person needs no owner for what has no ``approval``.
        """
        run = Rehearsal(book(change("close")), origin=SAM)

        assert isinstance(run.planned("close"), ApplyStep)


class TestRule4WhoStartsDoesNotApprove:
    def waiting(self) -> Rehearsal:
        run = Rehearsal(book(change("close", approval=ONE)), origin=SAM)
        run.planned("close")
        run.asked("close")
        return run

    def test_the_question_names_who_is_excluded(self):
        """
        The doors can say it before a click.
        """
        run = Rehearsal(book(change("close", approval=ONE)), origin=SAM)

        assert run.planned("close").excluded == (SAM.actor,)

    def test_their_own_yes_does_not_count(self):
        """
        Four eyes: the one who started a run is in the group and still cannot approve.
        """
        run = self.waiting()

        assert run.approved("close", SAM.actor, "security") == Wait()
        assert run.at("close").approvals == ()

    def test_their_own_no_does_not_count_either(self):
        """
        Who wants to stop their own run cancels it.
        """
        run = self.waiting()
        before = run.state

        run.rejected("close", SAM.actor, "security")

        assert run.state == before


class TestRule5AYesCountsForOnePlanOncePerPerson:
    def waiting(self, approval: Approval = ONE) -> Rehearsal:
        run = Rehearsal(book(change("close", approval=approval)))
        run.planned("close")
        run.asked("close")
        return run

    def test_the_approver_is_answerable_for_the_change(self):
        """
        The last one who approved is the actor of the change.
        """
        command = self.waiting().approved("close", "slack:U1", "security")

        assert isinstance(command, ApplyStep)
        assert command.actor == "slack:U1"

    @pytest.mark.parametrize(
        "groups", [pytest.param((), id="none"), pytest.param(("legal",), id="another")]
    )
    def test_someone_of_another_group_does_not_count(self, groups):
        """
        A yes of someone who is in none of the groups changes nothing.
        """
        run = self.waiting()
        before = run.state

        run.approved("close", "slack:U9", *(groups or ("strangers",)))

        assert run.state == before

    def test_a_yes_to_another_plan_does_not_count(self):
        """
        An approval binds to the digest of the plan that the person saw.
        """
        run = self.waiting()

        run.approved("close", "slack:U1", "security", digest="f" * 64)

        assert run.at("close").approvals == ()

    def test_two_distinct_people_are_two(self):
        """
        ``required: 2`` acts on the second person's yes, and not before.
        """
        run = self.waiting(TWO)

        first = run.approved("close", "slack:U1", "security")
        second = run.approved("close", "slack:U2", "commanders")

        assert first == Wait()
        assert isinstance(second, ApplyStep)
        assert second.actor == "slack:U2"

    def test_a_second_click_of_one_person_counts_once(self):
        """
        Slack may deliver one click twice; one person is still one.
        """
        run = self.waiting(TWO)

        run.approved("close", "slack:U1", "security")
        run.approved("close", "slack:U1", "security", "commanders")

        assert run.at("close").approvals == ("slack:U1",)
        assert run.status("close") is StepStatus.AWAITING_APPROVAL

    def test_a_late_approval_after_the_change_changes_nothing(self):
        """
        A click that comes while the change is made neither repeats nor forgets it.
        """
        run = self.waiting()
        doing = run.approved("close", "slack:U1", "security")

        assert run.approved("close", "slack:U2", "security") == doing


class TestRule5AYesCountsForOneVersionOfTheRunbook:
    def asking(self, digest: str = "0" * 64, other: str = "1" * 64) -> Rehearsal:
        called = book(step("look"), id="other", digest=other)
        made = book(change("close", approval=ONE), call(called), digest=digest)
        run = Rehearsal(made)
        run.planned("close")
        return run

    @pytest.mark.parametrize("changed", ["digest", "other"])
    def test_the_card_is_bound_to_it_and_to_those_that_it_calls(self, changed):
        """
        People say yes to what the whole text makes of it.
        """
        run, other = self.asking(), self.asking(**{changed: "f" * 64})

        assert run.last.digest == run.at("close").card
        assert other.last.digest != run.last.digest
        run.approved("close", "slack:U1", "security", digest=other.last.digest)
        assert run.status("close") is StepStatus.AWAITING_APPROVAL


GLASS = Approval(groups=("security",), required=2, break_glass="commanders")


def guarded(step_id: str, approvers: int) -> Plan:
    """Return a plan that guard rails want so many people for."""
    brief = Brief(approvers=approvers, guards=("It is about most of the traffic.",))
    return plan_of(step_id).model_copy(update={"brief": brief})


class TestRule6AGuardedPlanNeedsMorePeople:
    def test_more_than_the_step_says(self):
        """
        The greater number holds, of the same groups.
        """
        run = Rehearsal(book(change("a", approval=ONE)))

        ask = run.planned("a", guarded("a", 2))

        assert isinstance(ask, AskApproval)
        assert (ask.required, ask.groups) == (2, ("security",))
        run.asked("a")
        run.approved("a", "slack:U1", "security")
        assert run.status("a") is StepStatus.AWAITING_APPROVAL
        assert isinstance(run.approved("a", "slack:U2", "security"), ApplyStep)

    def test_fewer_than_the_step_says_change_nothing(self):
        """
        A guard rail never takes away what a runbook asks for.
        """
        run = Rehearsal(book(change("a", approval=TWO)))

        assert run.planned("a", guarded("a", 1)).required == 2

    def test_also_where_the_step_needs_none(self):
        """
        A person behind the run, or a trigger's ``auto``, is not enough: the owners are asked.
        """
        by_person = Rehearsal(book(change("a")))
        by_alert = Rehearsal(book(change("a")), origin=ALERT, auto=("a",))

        for run in (by_person, by_alert):
            ask = run.planned("a", guarded("a", 2))
            assert (ask.required, ask.groups) == (2, ("oncall",))

    def test_an_unguarded_plan_goes_on(self):
        """
        A brief without approvers only informs.
        """
        run = Rehearsal(book(change("a")))

        assert isinstance(run.planned("a", guarded("a", 0)), ApplyStep)

    def test_it_stands_on_no_card_that_asks_fewer(self):
        """
        A yes to a shared card counts for what it asks; a step that needs more is asked about alone.
        """
        card = Approval(groups=("security",), card="all-of-it")
        run = Rehearsal(book(change("a", approval=card), change("b", approval=card)))
        run.planned("a")
        ask = run.planned("b", guarded("b", 2))
        assert (ask.step, ask.also) == ("a", {})
        run.asked("a")
        run.approved("a", "slack:U1", "security")
        run.changed("a")

        ask = run.planned("b", guarded("b", 2))

        assert (ask.step, ask.required) == ("b", 2)

    def test_a_branch_that_needs_more_joins_no_card_that_asks_fewer(self):
        """
        Its plan may come while another branch's card waits: it is asked about alone.
        """
        card = Approval(groups=("security",), card="all-of-it")
        both = parallel(change("a", approval=card), change("b", approval=card))
        run = Rehearsal(book(both))
        run.planned("a")

        run.planned("b", guarded("b", 2))

        assert (run.of("a").also, run.of("a").required) == ({}, 1)
        assert run.of("b").required == 2
        run.asked("a")
        run.asked("b")
        run.approved("a", "slack:U1", "security")
        assert isinstance(run.of("a"), ApplyStep)
        assert run.status("b") is StepStatus.AWAITING_APPROVAL

    def test_a_plan_that_comes_to_need_more_leaves_the_card(self):
        """
        It was on the card with a plan that needed no more; planned anew in its turn, it does.
        """
        card = Approval(groups=("security",), card="all-of-it")
        later = (step("look"), change("b", approval=card))
        run = Rehearsal(book(parallel(change("a", approval=card), later)))
        run.planned("a")
        run.planned("b")
        run.asked("a")
        run.applied("look")

        run.planned("b", guarded("b", 2))

        assert run.of("a").also == {}
        assert run.of("b").required == 2

    def test_what_needs_more_by_its_turn_is_asked_again(self):
        """
        An earlier yes to the same plan, by fewer than are needed by now, is not enough.
        """
        card = Approval(groups=("security",), card="all-of-it")
        run = Rehearsal(book(change("a", approval=card), change("b", approval=card)))
        run.planned("a")
        run.planned("b")
        run.asked("a")
        run.approved("a", "slack:U1", "security")
        run.changed("a")

        ask = run.planned("b", guarded("b", 2))

        assert isinstance(ask, AskApproval)
        assert ask.required == 2

    def test_who_is_asked_is_briefed(self):
        """
        Only a step that people are asked about is briefed: what may run at once does not wait.
        """
        asked = Rehearsal(book(change("a", approval=ONE)))
        by_alert = Rehearsal(book(change("a")), origin=ALERT)
        at_once = Rehearsal(book(change("a")), origin=ALERT, auto=("a",))

        assert [run.last.brief for run in (asked, by_alert, at_once)] == [True, True, False]


class TestRule7BreakingTheGlass:
    def waiting(self, origin: Origin = SAM) -> Rehearsal:
        run = Rehearsal(book(change("close", approval=GLASS), change("more")), origin=origin)
        run.planned("close")
        run.asked("close")
        return run

    def test_one_of_the_group_lets_it_go_on_alone_with_a_reason(self):
        """
        Also who started the run; it is noted at the step, for the review.
        """
        run = self.waiting()

        command = run.overridden("close", SAM.actor, "commanders", reason="It burns.")

        assert isinstance(command, ApplyStep)
        assert command.actor == SAM.actor
        assert run.at("close").overridden
        assert run.at("close").note == f"glass broken by {SAM.actor}: It burns."

    @pytest.mark.parametrize(
        ("groups", "fields"),
        [
            pytest.param(("security",), {}, id="of-another-group"),
            pytest.param(("commanders",), {"reason": " "}, id="without-a-reason"),
            pytest.param(("commanders",), {"digest": "f" * 64}, id="of-another-card"),
        ],
    )
    def test_nothing_else_does(self, groups, fields):
        """
        The step goes on waiting.
        """
        run = self.waiting()
        before = run.state

        run.overridden("close", "slack:U4", *groups, **fields)

        assert run.state == before

    def test_a_step_that_names_no_group_cannot_be_let_go_on(self):
        """
        There is glass only where the runbook has put it.
        """
        run = Rehearsal(book(change("close", approval=ONE)))
        run.planned("close")
        before = run.state

        run.overridden("close", "slack:U4", "commanders")

        assert run.state == before

    def test_the_question_names_the_group(self):
        """
        The doors show the way out.
        """
        run = Rehearsal(book(change("close", approval=GLASS)))

        assert run.planned("close").break_glass == "commanders"

    def test_who_breaks_it_stands_behind_the_run(self):
        """
        Rule 3: later steps without an approval need no owner.
        """
        run = self.waiting(ALERT)
        run.overridden("close", "slack:U4", "commanders")
        run.applied("close")
        run.verified("close")

        assert isinstance(run.planned("more"), ApplyStep)


class TestSideBySide:
    def waiting(self) -> Rehearsal:
        made = book(parallel(change("a"), change("b", approval=ONE), change("c"), manual("sure")))
        run = Rehearsal(made, origin=ALERT)
        for id_ in ("a", "b", "c"):
            run.planned(id_)
            run.asked(id_)
        run.asked("sure")
        return run

    @pytest.mark.parametrize(
        "say",
        [
            pytest.param(lambda run: run.approved("a", "slack:U1", "oncall"), id="a-yes"),
            pytest.param(lambda run: run.answered("sure", groups=("oncall",)), id="an-answer"),
        ],
    )
    def test_a_person_in_one_branch_lets_the_others_go_on(self, say):
        """
        Rule 3: once a person stands behind the run, what waited for that alone waits no more. What
        has an ``approval`` of its own does.
        """
        run = self.waiting()

        say(run)

        assert isinstance(run.of("a"), ApplyStep)
        assert isinstance(run.of("c"), ApplyStep)
        assert run.status("b") is StepStatus.AWAITING_APPROVAL

    def test_a_no_in_one_branch_lets_nothing_go_on(self):
        """
        The others still wait for the owners.
        """
        run = self.waiting()

        run.rejected("b", "slack:U1", "security")

        assert run.status("a") is StepStatus.AWAITING_APPROVAL


class TestDrift:
    drifted = plan_of("close", before="ajar")

    def approved(self, approval: Approval | None = TWO) -> Rehearsal:
        run = Rehearsal(book(change("close", approval=approval)))
        run.planned("close")
        if approval:
            run.asked("close")
            run.approved("close", "slack:U1", "security")
            run.approved("close", "slack:U2", "security")
        return run

    def test_it_voids_approvals_and_asks_anew_with_the_new_plan(self):
        """
        What would happen now is not what was approved, so nobody has approved it.
        """
        run = self.approved()

        ask = run.drifted("close", self.drifted)

        assert isinstance(ask, AskApproval)
        assert ask.plan == self.drifted
        assert run.at("close").approvals == ()

    def test_those_who_approved_before_may_approve_again(self):
        """
        One person's word counts once per plan, not once per run.
        """
        run = self.approved()
        run.drifted("close", self.drifted)
        run.asked("close")

        run.approved("close", "slack:U1", "security")
        command = run.approved("close", "slack:U2", "security")

        assert isinstance(command, ApplyStep)
        assert command.plan == self.drifted

    def test_an_approval_of_the_old_plan_is_late(self):
        """
        A click on the old message does not approve the new plan.
        """
        run = self.approved()
        run.drifted("close", self.drifted)
        run.asked("close")

        run.approved("close", "slack:U3", "security", digest=plan_of("close").digest)

        assert run.at("close").approvals == ()

    def test_without_approval_the_new_plan_is_applied(self):
        """
        A step that needs no yes follows the world by itself.
        """
        run = self.approved(approval=None)

        assert run.drifted("close", self.drifted).plan == self.drifted

    def test_a_no_after_a_failure_and_a_drift_stops_the_run(self):
        """
        The last word is that of the person; the failure before it is history.
        """
        run = Rehearsal(book(change("close", approval=ONE, retry=Retry(2, delay_s=5.0))))
        run.planned("close")
        run.approved("close", "slack:U1", "security")
        run.failed("close", "apply", "timeout")
        run.timer(seconds=5)
        run.drifted("close", self.drifted)

        run.rejected("close", "slack:U1", "security")

        assert run.ended == (RunStatus.STOPPED, "step close: rejected by slack:U1")

    def drifting(self, approval: Approval | None) -> Rehearsal:
        run = self.approved(approval)
        for number in range(MAX_DRIFTS + 1):
            run.drifted("close", plan_of("close", before=f"ajar {number}"))
            if approval and isinstance(run.last, AskApproval):
                run.asked("close")
                run.approved("close", "slack:U1", "security")
                run.approved("close", "slack:U2", "security")
        return run

    def test_a_world_that_never_holds_still_is_put_before_a_person(self):
        """
        After some drifts the run stops chasing and asks.
        """
        run = self.drifting(approval=None)

        assert isinstance(run.last, AskDecision)
        assert "changed 6 times" in run.last.message

    def test_retry_after_that_needs_the_approval_again(self):
        """
        A decision to retry is not an approval: the drifted plan has none yet.
        """
        run = self.drifting(TWO)
        run.asked("close")

        ask = run.decided("close", "retry")

        assert isinstance(ask, AskApproval)
        assert ask.plan == plan_of("close", before=f"ajar {MAX_DRIFTS}")


class TestNo:
    @pytest.mark.parametrize(
        ("policy", "status"),
        [
            pytest.param("stop", RunStatus.STOPPED, id="stop"),
            pytest.param("skip", RunStatus.DONE, id="skip"),
        ],
    )
    @pytest.mark.parametrize("how", ["rejected", "in-silence"])
    def test_rejection_and_silence_follow_on_timeout(self, how, policy, status):
        """
        Silence is not consent, and a no is a no; the runbook says whether the run goes on.
        """
        approval = Approval(groups=("security",), timeout_s=900.0, on_timeout=policy)
        run = Rehearsal(book(change("close", approval=approval)))
        run.planned("close")
        run.asked("close")

        if how == "rejected":
            run.rejected("close", "slack:U1", "security", reason="customers would notice")
        else:
            run.timer(minutes=15)

        assert isinstance(run.last, Finish)
        assert run.state.status is status
        note = {
            "rejected": "rejected by slack:U1: customers would notice",
            "in-silence": "nobody approved in time",
        }
        assert run.at("close").note == note[how]

    def test_one_no_outweighs_a_yes(self):
        """
        With two required, one rejection ends the question.
        """
        run = Rehearsal(book(change("close", approval=TWO)))
        run.planned("close")
        run.asked("close")
        run.approved("close", "slack:U1", "security")

        run.rejected("close", "slack:U2", "security")

        assert run.state.status is RunStatus.STOPPED

    def test_a_no_of_another_group_does_not_count(self):
        """
        Whose yes would not count, whose no does not either.
        """
        run = Rehearsal(book(change("close", approval=ONE)))
        run.planned("close")
        run.asked("close")

        assert run.rejected("close", "slack:U9", "legal") == Wait()

    def test_the_time_begins_anew_with_a_new_plan(self):
        """
        People get the whole time for what they are asked now.
        """
        approval = Approval(groups=("security",), timeout_s=900.0)
        run = Rehearsal(book(change("close", approval=approval)))
        first = run.planned("close")
        run.asked("close")
        run.approved("close", "slack:U1", "security")

        second = run.drifted("close", plan_of("close", before="ajar"))

        assert second.expires_at > first.expires_at

    def test_a_rejection_lets_nothing_else_run(self):
        """
        Who says no to one change has not said yes to the next: the owners are asked.
        """
        approval = Approval(groups=("security",), on_timeout="skip")
        run = Rehearsal(book(change("close", approval=approval), change("throttle")), origin=ALERT)
        run.planned("close")
        run.asked("close")
        run.rejected("close", "slack:U1", "security")
        assert isinstance(run.last, PlanStep)

        assert isinstance(run.planned("throttle"), AskApproval)

    def test_only_an_owners_answer_stands_behind_the_run(self):
        """
        Anybody of a group may answer, but later steps without an approval still need an owner.
        """
        run = Rehearsal(book(manual("sure"), change("close")), origin=ALERT)
        run.asked("sure")
        run.answered("sure", groups=("marketing",))

        assert isinstance(run.planned("close"), AskApproval)


class TestQuestionsKeepTheirOrder:
    def test_a_manual_step_after_a_rejected_one_is_asked(self):
        """
        ``on_timeout: skip`` goes on with the next step, whatever it is.
        """
        approval = Approval(groups=("security",), on_timeout="skip")
        run = Rehearsal(book(change("close", approval=approval), manual("sure")))
        run.planned("close")
        run.asked("close")

        assert isinstance(run.rejected("close", "slack:U1", "security"), AskPerson)
