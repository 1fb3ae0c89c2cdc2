"""The gateway's actions at the real desk of containments, with a gateway in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from actions.gateway import ACTIONS, BlockPrincipal, Close, Lift, Throttle
from actions.gateway.params import rate_per_s
from bot.action import ChangeAction, Effect, Support
from bot.errors import BadInput, NotAllowed, NotFound, ProviderUnreachable, UndoConflict
from bot.model.containment import Control, ControlKind, subject
from bot.model.endpoint import Endpoint
from bot.model.plan import Plan
from bot.service.containments import ContainmentDesk
from bot.service.context import ActionContext, Connections
from bot.store import SqlStore
from bot.testing import FakeClock, FakeGateway

ORDER = "GET /api/orders/{order_id}"
ME = "GET /api/customers/me"
ENDPOINTS = {
    ORDER: Endpoint(method="GET", path="/api/orders/{order_id}", example_path="/api/orders/1"),
    ME: Endpoint(method="GET", path="/api/customers/me", example_path="/api/customers/me"),
}


class Desk:
    def __init__(self, folder: Path) -> None:
        self.clock, self.gateway = FakeClock(), FakeGateway()
        self.store = SqlStore(f"sqlite:///{folder / 'firedoor.sqlite'}")
        self.store.migrate()
        self.containments = ContainmentDesk(self.store, {"edge": self.gateway}, self.clock)

    def context(self, run: str = "INC-1-R1", step: str = "close") -> ActionContext:
        unused: Any = None
        return ActionContext(
            incident_id=run.partition("-R")[0],
            incident_title="Cross-owner reads",
            run_id=run,
            step_id=step,
            actor="slack:U0IRIS",
            ttl_s=3600.0,
            endpoints=ENDPOINTS,
            containments=self.containments,
            evidence=unused,
            notes=unused,
            postmortem=unused,
            clock=self.clock,
            connections=Connections({}),
        )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.store.close()


def planned(action: ChangeAction[Any], ctx: ActionContext, **params: Any) -> Plan:
    read = action.read_params(params)
    return action.plan(read, action.observe(read, ctx))


def done(action: ChangeAction[Any], ctx: ActionContext, **params: Any) -> dict[str, Any]:
    return action.apply(planned(action, ctx, **params), ctx).facts


class TestContract:
    @pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
    def test_what_runbooks_rely_on(self, action: ChangeAction[Any]) -> None:
        """
        All but the reading of a count and of a patch are changes; what holds needs a time to live.
        """
        reads = action.name in ("gateway.shadow_hits", "gateway.hand_off")
        assert action.effect is (Effect.READ if reads else Effect.CHANGE)
        assert action.contains is (action.name != "gateway.lift" and not reads)

    def test_actions_of_the_design_are_there(self) -> None:
        """
        Runbooks know these names.
        """
        assert {action.name for action in ACTIONS} == {
            "gateway.shadow",
            "gateway.shadow_hits",
            "gateway.hand_off",
            "gateway.throttle",
            "gateway.block",
            "gateway.block_principal",
            "gateway.allow_only",
            "gateway.close",
            "gateway.lift",
        }


class TestRate:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [("1/s", 1.0), ("30/m", 0.5), ("90/h", 0.025), ("2.5/s", 2.5), (" 1/s ", 1.0)],
    )
    def test_rates_a_second(self, text: str, expected: float) -> None:
        """
        Rates are a number a second, minute or hour.
        """
        assert rate_per_s(text) == expected

    @pytest.mark.parametrize(
        "text", ["0/s", "-1/s", "1", "1/d", "s", "1e9/s", "9999999/s", "1/s;x"]
    )
    def test_no_rate(self, text: str) -> None:
        """
        What is no rate, or nothing, or more than a gateway can count, is refused.
        """
        with pytest.raises(ValidationError, match="1/s, 30/m, 100/h"):
            Throttle().read_params({"endpoint": ORDER, "rate": text})


class TestHold:
    def test_plan_says_what_would_change(self, desk: Desk) -> None:
        """
        A plan holds what is in force there, and what would be added, readable by a person.
        """
        done(Throttle(), desk.context(step="throttle"), endpoint=ORDER, rate="1/s")

        plan = planned(Close(), desk.context(), endpoint=ORDER)

        throttle = {"containment": "INC-1-R1.throttle", "kind": "throttle", "rate_per_s": 1.0}
        assert plan.before == {"gateway": "edge", "controls": [throttle]}
        assert plan.after["controls"] == [
            throttle,
            {"containment": "(this step's)", "kind": "close"},
        ]
        assert plan.summary == (
            "Close GET /api/orders/{order_id} at gateway edge: every request gets 503. "
            "1 in force there already."
        )

    def test_containment_says_who_why_and_how_long(self, desk: Desk) -> None:
        """
        A containment has an owner, a reason and an end.
        """
        facts = done(
            BlockPrincipal(), desk.context(step="block"), endpoint=ORDER, principal="c-mallory"
        )

        held = desk.containments.get(facts["containment"])
        assert held is not None
        assert (held.owner, held.reason) == ("slack:U0IRIS", "Cross-owner reads")
        assert (held.expires_at - held.since).total_seconds() == 3600
        assert held.control == Control(
            kind=ControlKind.BLOCK,
            method="GET",
            path="/api/orders/{order_id}",
            principals=(subject("c-mallory"),),
        )
        assert facts["version"] == desk.gateway.observe()

    def test_unknown_endpoint_is_refused(self, desk: Desk) -> None:
        """
        Only endpoints of the inventory can be contained; a typing error closes nothing.
        """
        with pytest.raises(BadInput, match="no endpoint 'GET /api/order'"):
            planned(Close(), desk.context(), endpoint="GET /api/order")

    def test_unknown_gateway_is_refused(self, desk: Desk) -> None:
        """
        A gateway that is not configured is named, with those that are.
        """
        with pytest.raises(BadInput, match="inner"):
            planned(Close(), desk.context(), endpoint=ORDER, gateway="inner")

    def test_gateway_that_cannot_is_not_asked(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A control that a gateway does not have is refused at planning, before anybody approves.
        """
        monkeypatch.setattr(
            desk.gateway,
            "supports",
            lambda _control: Support(ok=False, why="it is asleep", nearest=ControlKind.THROTTLE),
        )

        with pytest.raises(
            BadInput,
            match=r"cannot do gateway.close .*: it is asleep.*nearest .*: gateway.throttle",
        ):
            planned(Close(), desk.context(), endpoint=ORDER)

    def test_containment_without_an_end_is_refused(self, desk: Desk) -> None:
        """
        A step without `ttl` holds nothing.
        """
        ctx = replace(desk.context(), ttl_s=None)

        with pytest.raises(BadInput, match="no `ttl`"):
            done(Close(), ctx, endpoint=ORDER)
        assert desk.containments.in_force("edge") == ()

    def test_attempt_that_met_a_dead_gateway_goes_on(self, desk: Desk) -> None:
        """
        After a failed attempt the step takes up its own containment, with its own expiry.
        """
        action, ctx = Close(), desk.context()
        plan = planned(action, ctx, endpoint=ORDER)
        desk.gateway.down = True
        with pytest.raises(ProviderUnreachable):
            action.apply(plan, ctx)
        first = desk.containments.in_force("edge")
        desk.gateway.down = False
        desk.clock.advance(minutes=10)

        observed = action.observe(action.read_params(plan.params), ctx)
        assert action.plan(action.read_params(plan.params), observed).digest != plan.digest
        assert action.in_progress(plan, observed, ctx)
        action.apply(plan, ctx)

        assert desk.containments.in_force("edge") == first
        assert desk.gateway.observe() == desk.gateway.version_of([first[0].control])

    def test_others_containment_is_not_progress(self, desk: Desk) -> None:
        """
        What another step holds there voids the plan: its approval was for something else.
        """
        action, ctx = Close(), desk.context()
        plan = planned(action, ctx, endpoint=ORDER)
        done(Throttle(), desk.context("INC-2-R1", "t"), endpoint=ORDER, rate="1/s")

        observed = action.observe(action.read_params(plan.params), ctx)

        assert not action.in_progress(plan, observed, ctx)

    def test_undo_twice_is_undo_once(self, desk: Desk) -> None:
        """
        An undo that was cut off can be repeated.
        """
        action, ctx = Close(), desk.context()
        plan = planned(action, ctx, endpoint=ORDER)
        action.apply(plan, ctx)

        action.undo(plan, ctx)
        action.undo(plan, ctx)

        assert desk.containments.in_force("edge") == ()
        assert desk.gateway.controls == ()

    def test_undo_that_met_a_dead_gateway_goes_on(self, desk: Desk) -> None:
        """
        A containment that was lifted while its gateway was down is no other hand's change.
        """
        action, ctx = Close(), desk.context()
        plan = planned(action, ctx, endpoint=ORDER)
        facts = action.apply(plan, ctx).facts
        desk.gateway.down = True
        with pytest.raises(ProviderUnreachable):
            desk.containments.lift([facts["containment"]], "slack:U0IRIS")
        desk.gateway.down = False
        desk.containments.gateways.reconcile("edge")

        assert action.undo(plan, ctx).proof.ok

    def test_undo_refuses_another_hands_change(self, desk: Desk) -> None:
        """
        What nobody here made is not overwritten; the message shows what should be there.
        """
        action, ctx = Close(), desk.context()
        plan = planned(action, ctx, endpoint=ORDER)
        action.apply(plan, ctx)
        elsewhere = Control(kind=ControlKind.CLOSE, method="GET", path="/elsewhere")
        desk.gateway.controls = (elsewhere,)

        with pytest.raises(UndoConflict, match=r"GET /api/orders/\{order_id\} closed \(503\)"):
            action.undo(plan, ctx)

    def test_what_a_person_lifted_is_not_held_again(self, desk: Desk) -> None:
        """
        An attempt that goes on later, after a crash or by itself, does not take the decision back.
        """
        action, ctx = Close(), desk.context()
        plan = planned(action, ctx, endpoint=ORDER)
        held = action.apply(plan, ctx).facts["containment"]
        desk.containments.lift([held], "cli:kim")

        with pytest.raises(BadInput, match=r"cli:kim lifted INC-1-R1\.close at .*not put in force"):
            action.apply(plan, ctx)

        assert not desk.gateway.controls

    def test_what_expired_meanwhile_is_held_anew(self, desk: Desk) -> None:
        """
        That was nobody's decision, and the plan is approved.
        """
        action, ctx = Close(), desk.context()
        plan = planned(action, ctx, endpoint=ORDER)
        action.apply(plan, ctx)
        desk.clock.advance(hours=2)
        desk.containments.expire_due()

        assert action.apply(plan, ctx).facts["containment"] == "INC-1-R1.close.2"

    def test_undo_leaves_what_was_handed_over(self, desk: Desk) -> None:
        """
        Whoever took it over decides when it ends.
        """
        action, ctx = Close(), desk.context()
        plan = planned(action, ctx, endpoint=ORDER)
        held = action.apply(plan, ctx).facts["containment"]
        desk.containments.hand_over(held, "slack:U0SAM", "slack:U0IRIS")

        with pytest.raises(UndoConflict, match="slack:U0SAM by slack:U0IRIS"):
            action.undo(plan, ctx)

        assert len(desk.containments.in_force("edge")) == 1

    def test_proof_without_a_probe_fails(self, desk: Desk) -> None:
        """
        The gateway's own word is a check, but no proof.
        """
        action, ctx = Close(), desk.context()
        plan = planned(action, ctx, endpoint=ORDER)
        action.apply(plan, ctx)

        version, outside = action.verify(plan, ctx).checks

        assert (version.ok, outside.ok) == (True, False)
        assert outside.name == "a look from outside"


class TestLift:
    def test_plan_names_what_opens(self, desk: Desk) -> None:
        """
        A person sees which endpoints open again.
        """
        facts = done(Close(), desk.context(), endpoint=ORDER)

        plan = planned(Lift(), desk.context(step="reopen"), containments=[facts["containment"]])

        assert plan.summary == (
            "Lift INC-1-R1.close; what reopens: GET /api/orders/{order_id} at gateway edge."
        )
        assert [state["in_force"] for state in plan.before] == [True]
        assert [state["in_force"] for state in plan.after] == [False]

    def test_skipped_steps_have_held_nothing(self, desk: Desk) -> None:
        """
        A step that was skipped left no containment; lifting nothing is done at once.
        """
        action, ctx = Lift(), desk.context(step="reopen")
        plan = planned(action, ctx, containments=[None, ""])

        assert action.apply(plan, ctx).facts == {"lifted": [], "reopened_exactly": True}
        assert action.verify(plan, ctx).ok

    def test_unknown_and_foreign_containments_are_refused(self, desk: Desk) -> None:
        """
        A run lifts what its own incident holds, and nothing else.
        """
        theirs = done(Close(), desk.context("INC-2-R1"), endpoint=ORDER)
        ctx = desk.context(step="reopen")

        with pytest.raises(NotFound, match=r"INC-1-R1\.nothing"):
            planned(Lift(), ctx, containments=["INC-1-R1.nothing"])
        with pytest.raises(NotAllowed, match="INC-2"):
            planned(Lift(), ctx, containments=[theirs["containment"]])

    def test_expiry_meanwhile_does_not_void_the_plan(self, desk: Desk) -> None:
        """
        A containment that expires while its lift waits for approval leaves less to do.
        """
        close = done(Close(), desk.context(), endpoint=ORDER)
        throttle = done(Throttle(), desk.context(step="t"), endpoint=ORDER, rate="1/s")
        action, ctx = Lift(), desk.context(step="reopen")
        ids = [close["containment"], throttle["containment"]]
        plan = planned(action, ctx, containments=ids)
        desk.containments.lift([ids[1]], "expiry")

        observed = action.observe(action.read_params(plan.params), ctx)

        assert action.in_progress(plan, observed, ctx)
        assert action.apply(plan, ctx).facts == {"lifted": ids, "reopened_exactly": True}
        assert desk.gateway.controls == ()

    def test_drifted_gateway_is_not_reopened_exactly(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        What a gateway reports after the lift is compared, not assumed.
        """
        close = done(Close(), desk.context(), endpoint=ORDER)
        action, ctx = Lift(), desk.context(step="reopen")
        plan = planned(action, ctx, containments=[close["containment"]])
        monkeypatch.setattr(desk.gateway, "observe", lambda: "another")

        assert action.apply(plan, ctx).facts["reopened_exactly"] is False
        assert not action.verify(plan, ctx).ok
