"""One card for several steps: rules 1 to 4 of ``bot.engine.cards``."""

from __future__ import annotations

import pytest

from bot.action import Effect
from bot.engine import StepStatus
from bot.model import events
from bot.model.commands import ApplyStep, AskApproval, AskDecision, Finish, PlanStep, RunStep, Wait
from bot.model.incident import RunStatus
from tests.unit.engine.rehearsal import (
    Rehearsal,
    book,
    change,
    expression,
    parallel,
    plan_of,
    shared,
    step,
)

CARD = shared()


def asked(*steps: object, **fields: object) -> Rehearsal:
    """Return a run whose card with ``a`` and ``b`` is before people."""
    made = steps or (change("a", approval=CARD), change("b", approval=CARD), step("after"))
    run = Rehearsal(book(*made, **fields))
    run.planned("a")
    run.planned("b")
    run.asked("a")
    return run


class TestRule1TheCardShowsEveryPlan:
    def test_it_is_asked_once_all_plans_are_there(self):
        """
        The others are planned for the card, before their turn.
        """
        run = Rehearsal(book(change("a", approval=CARD), change("b", approval=CARD)))
        run.planned("a")
        assert run.commands == (PlanStep(step="b", action="gateway.close", params={}, brief=True),)

        ask = run.planned("b")

        assert isinstance(ask, AskApproval)
        assert (ask.step, ask.plan, ask.also) == ("a", plan_of("a"), {"b": plan_of("b")})
        assert run.status("b") is StepStatus.PENDING

    def test_a_yes_is_bound_to_all_of_them(self):
        """
        With another plan on it, it is another card.
        """
        one = asked().at("a").card
        other = Rehearsal(book(change("a", approval=CARD), change("b", approval=CARD)))
        other.planned("a")
        other.planned("b", plan_of("b", before="ajar"))

        assert other.at("a").card != one

    @pytest.mark.parametrize("digest", [plan_of("a").digest, "none", ""])
    def test_before_it_is_asked_nobody_says_yes(self, digest):
        """
        A word that names a plan and not the card is about no card.
        """
        run = Rehearsal(book(change("a", approval=CARD), change("b", approval=CARD)))
        run.planned("a")
        before = run.state

        said = {"at": run.now, "step": "a", "by": "slack:U1", "groups": ("security",)}
        run.give(events.Approved(digest=digest, **said))

        assert run.state == before


class TestRule2TheOthersArePlannedForIt:
    def test_a_notice_stands_on_it_with_its_parameters(self):
        """
        A NOTIFY needs no call to be planned.
        """
        tell = step("tell", Effect.NOTIFY, params={"to": "#all"}, approval=CARD)
        run = Rehearsal(book(change("a", approval=CARD), tell))

        ask = run.planned("a")

        assert ask.also["tell"].params == {"to": "#all"}
        run.approved("a", "slack:U1", "security")
        run.applied("a")
        assert isinstance(run.verified("a"), RunStep)

    def test_one_whose_parameters_are_not_known_is_left_out(self):
        """
        It is asked about by itself when they are.
        """
        late = change("b", approval=CARD, params={"n": expression("steps.a.n + 1")})
        run = Rehearsal(book(change("a", approval=CARD, fact_names=("n",)), late))
        ask = run.planned("a")
        assert ask.also == {}
        run.approved("a", "slack:U1", "security")
        run.applied("a", n=1)
        run.verified("a")

        assert isinstance(run.planned("b"), AskApproval)

    def test_one_that_cannot_be_planned_is_left_out(self):
        """
        A failure to plan for the card is not yet a failure of the step.
        """
        run = Rehearsal(book(change("a", approval=CARD), change("b", approval=CARD)))
        run.planned("a")

        ask = run.failed("b", "plan", "unreachable")

        assert isinstance(ask, AskApproval)
        assert ask.also == {}
        assert run.status("b") is StepStatus.PENDING

    def test_its_plan_for_the_card_may_come_late(self):
        """
        After the card is gone, nothing waits for it.
        """
        run = asked()
        before = run.state

        run.planned("b", plan_of("b", before="ajar"))
        run.failed("b", "plan", "refused")

        assert run.state == before

    def test_steps_with_another_approval_are_not_on_it(self):
        """
        Sharing is by name.
        """
        run = Rehearsal(book(change("a", approval=CARD), change("b", approval=shared("legal"))))

        assert run.planned("a").also == {}


class TestRule3OneYesIsForAll:
    def test_the_others_go_on_without_another_question_if_their_plan_is_the_same(self):
        """
        When its turn comes, a step is planned anew; people had said yes to just that.
        """
        run = asked()
        assert isinstance(run.approved("a", "slack:U1", "security"), ApplyStep)
        run.applied("a")
        run.verified("a")
        assert isinstance(run.of("b"), PlanStep)

        command = run.planned("b")

        assert isinstance(command, ApplyStep)
        assert command.actor == "slack:U1"

    def test_a_changed_plan_is_asked_about_by_itself(self):
        """
        The yes was for another.
        """
        run = asked()
        run.approved("a", "slack:U1", "security")
        run.applied("a")
        run.verified("a")

        ask = run.planned("b", plan_of("b", before="ajar"))

        assert isinstance(ask, AskApproval)
        assert (ask.step, ask.also) == ("b", {})

    def test_a_drift_voids_the_yes_of_that_step_only(self):
        """
        The others keep theirs.
        """
        run = asked()
        run.approved("a", "slack:U1", "security")
        ask = run.drifted("a", plan_of("a", before="ajar"))
        assert (ask.step, ask.also) == ("a", {})
        run.approved("a", "slack:U2", "security")
        run.applied("a")
        run.verified("a")

        assert isinstance(run.planned("b"), ApplyStep)

    def test_breaking_the_glass_is_for_all_too(self):
        """
        It is noted at each step.
        """
        card = shared(break_glass="commanders", required=2)
        run = asked(change("a", approval=card), change("b", approval=card))

        run.overridden("a", "slack:U0SAM", "commanders", reason="It burns.")
        run.applied("a")
        run.verified("a")

        assert isinstance(run.planned("b"), ApplyStep)
        assert run.at("b").overridden
        assert run.at("b").note == "glass broken by slack:U0SAM: It burns."

    def test_but_not_for_a_plan_that_changed_since(self):
        """
        That one is asked about, and carries no note of it any more.
        """
        card = shared(break_glass="commanders")
        run = asked(change("a", approval=card), change("b", approval=card))
        run.overridden("a", "slack:U0SAM", "commanders")
        run.applied("a")
        run.verified("a")

        run.planned("b", plan_of("b", before="ajar"))

        assert run.status("b") is StepStatus.AWAITING_APPROVAL
        assert (run.at("b").overridden, run.at("b").note) == (False, "")


class TestRule4OneNoIsForAll:
    @pytest.mark.parametrize(
        ("policy", "status", "last"),
        [("stop", RunStatus.STOPPED, StepStatus.STOPPED), ("skip", RunStatus.DONE, "skipped")],
    )
    @pytest.mark.parametrize("how", ["rejected", "in silence"])
    def test_a_rejection_and_silence_end_it_for_every_step(self, how, policy, status, last):
        """
        ``on_timeout`` says whether the run goes on without them.
        """
        card = shared(on_timeout=policy, timeout_s=60.0)
        run = asked(change("a", approval=card), change("b", approval=card))

        if how == "rejected":
            run.rejected("a", "slack:U1", "security")
        else:
            run.timer(seconds=60)

        assert isinstance(run.last, Finish)
        assert run.state.status is status
        assert run.status("b") is StepStatus(last)


class TestInParallel:
    def both(self, *more: object) -> Rehearsal:
        return Rehearsal(
            book(parallel(change("a", approval=CARD), change("b", approval=CARD), *more))
        )

    def test_two_branches_wait_on_one_card(self):
        """
        The first one that has its plan leads; the other joins with its own.
        """
        run = self.both()
        run.planned("b")
        assert isinstance(run.of("a"), PlanStep)

        run.planned("a")

        ask = run.of("b")
        assert isinstance(ask, AskApproval)
        assert ask.also == {"a": plan_of("a")}
        assert run.doing == ["b"]
        run.asked("b")
        run.approved("b", "slack:U1", "security")
        assert [type(each) for each in run.commands] == [ApplyStep, ApplyStep]
        assert run.state.applied == ("b", "a")

    def test_a_word_about_a_member_is_about_no_card(self):
        """
        The card is the leader's.
        """
        run = self.both()
        run.planned("b")
        run.planned("a")
        before = run.state

        run.approved("a", "slack:U1", "security", digest=plan_of("a").digest)

        assert run.state == before

    def test_a_leader_that_is_passed_over_leaves_the_others_to_be_asked_anew(self):
        """
        Their card is another then; a yes to the old one does not count.
        """
        run = self.both()
        run.planned("b")
        run.planned("a")
        run.asked("b")
        old = run.at("b").card

        ask = run.skipped("b")

        assert isinstance(ask, AskApproval)
        assert (ask.step, ask.also) == ("a", {})
        run.approved("a", "slack:U1", "security", digest=old)
        assert run.status("a") is StepStatus.AWAITING_APPROVAL

    def test_a_leader_that_is_passed_over_while_plans_are_gathered_leaves_no_call(self):
        """
        A member whose turn has not come is not planned for a card that is gone.
        """
        run = Rehearsal(book(change("a", approval=CARD), step("b"), change("c", approval=CARD)))
        run.planned("a")
        assert run.doing == ["c"]

        run.skipped("a")

        assert run.doing == ["b"]
        run.applied("b")
        assert isinstance(run.of("c"), PlanStep)

    def test_a_member_that_is_passed_over_leaves_the_card(self):
        """
        It is asked about anew, without it.
        """
        run = self.both()
        run.planned("b")
        run.planned("a")
        run.asked("b")

        ask = run.skipped("a")

        assert isinstance(ask, AskApproval)
        assert (ask.step, ask.also) == ("b", {})

    def test_a_member_whose_condition_does_not_hold_leaves_the_card_at_once(self):
        """
        Nobody waits for the plan of a step that does not run.
        """
        never = change("b", approval=CARD, condition=expression("steps.look.n > 1"))
        run = Rehearsal(book(parallel(change("a", approval=CARD), (step("look"), never))))
        run.planned("a")
        assert run.doing == ["look", "b"]

        run.applied("look", n=1)

        assert run.doing == ["a"]
        assert isinstance(run.of("a"), AskApproval)
        assert run.of("a").also == {}

    def test_a_step_that_is_not_needed_any_more_is_on_no_card(self):
        """
        Nobody is asked about what never comes, nor is it planned.
        """
        lost = (step("slow"), change("b", approval=CARD))
        any_ = parallel(step("look"), lost, id_="first", join="any")
        run = Rehearsal(book(parallel(any_, change("a", approval=CARD))))
        run.planned("a")
        run.planned("b")
        assert run.of("a").also == {"b": plan_of("b")}

        run.applied("look")

        assert run.doing == ["slow", "a"]
        assert run.of("a").also == {}

    def test_a_card_that_is_opened_later_leaves_it_out_from_the_first(self):
        """
        It will not begin.
        """
        lost = (step("slow"), change("b", approval=CARD))
        any_ = parallel(step("look"), lost, id_="first", join="any")
        run = Rehearsal(book(parallel(any_, change("a", approval=CARD))))
        run.applied("look")

        run.planned("a")

        assert run.doing == ["slow", "a"]

    def test_a_leader_whose_branch_is_not_needed_any_more_leaves_the_others_too(self):
        """
        They are asked about at once.
        """
        any_ = parallel(step("look"), change("a", approval=CARD), id_="first", join="any")
        run = Rehearsal(book(parallel(any_, change("b", approval=CARD))))
        run.planned("a")
        run.planned("b")
        run.asked("a")

        run.applied("look")

        assert run.doing == ["b"]
        assert isinstance(run.of("b"), AskApproval)

    def test_a_member_that_cannot_be_planned_in_its_turn_leaves_the_card(self):
        """
        The others do not wait for it.
        """
        run = self.both()
        run.planned("b")

        run.failed("a", "plan", "refused")

        assert isinstance(run.of("a"), AskDecision)
        assert isinstance(run.of("b"), AskApproval)
        assert run.of("b").also == {}

    def test_a_new_plan_of_a_member_makes_it_a_new_card(self):
        """
        Yeses so far were for another; the time begins anew.
        """
        card = shared(required=2, timeout_s=60.0)
        run = Rehearsal(
            book(parallel(change("a", approval=card), (step("look"), change("b", approval=card))))
        )
        run.planned("a")
        run.planned("b")
        first = run.of("a")
        run.asked("a")
        run.approved("a", "slack:U1", "security")
        run.applied("look")
        assert isinstance(run.of("b"), PlanStep)

        run.planned("b", plan_of("b", before="ajar"))

        ask = run.of("a")
        assert isinstance(ask, AskApproval)
        assert ask.also == {"b": plan_of("b", before="ajar")}
        assert run.at("a").approvals == ()
        assert ask.expires_at > first.expires_at

    def test_the_same_plan_of_a_member_leaves_the_card_as_it_is(self):
        """
        Yeses so far count.
        """
        card = shared(required=2)
        run = Rehearsal(
            book(parallel(change("a", approval=card), (step("look"), change("b", approval=card))))
        )
        run.planned("a")
        run.planned("b")
        run.asked("a")
        run.approved("a", "slack:U1", "security")
        run.applied("look")

        run.planned("b")

        assert run.commands == (Wait(),)
        assert run.at("a").approvals == ("slack:U1",)

    def test_a_step_stands_on_one_card_only(self):
        """
        A second leader does not gather what the first one has.
        """
        late = change("b", approval=CARD, params={"n": expression("steps.look.n + 1")})
        look = step("look", fact_names=("n",))
        run = Rehearsal(
            book(
                parallel(
                    change("a", approval=CARD),
                    (look, late),
                    (step("wait"), change("c", approval=CARD)),
                )
            )
        )
        run.planned("a")
        assert run.at("a").members == ("c",)
        run.applied("look", n=1)

        run.planned("b")

        assert run.at("b").members == ()
        assert isinstance(run.of("b"), AskApproval)
        run.planned("c")
        assert isinstance(run.of("a"), AskApproval)

    def test_a_yes_acts_on_who_waits_and_counts_for_who_does_not_yet(self):
        """
        Each in its own time.
        """
        run = Rehearsal(
            book(parallel(change("a", approval=CARD), (step("look"), change("b", approval=CARD))))
        )
        run.planned("a")
        run.planned("b")
        run.approved("a", "slack:U1", "security")
        assert isinstance(run.of("a"), ApplyStep)
        run.applied("look")

        run.planned("b")

        assert isinstance(run.of("b"), ApplyStep)
