"""What holds of every adapter that writes several objects over an API without transactions:
whatever goes wrong, and wherever, nothing is lost and nothing is there twice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.action import Writing
from bot.errors import BadInput, Conflict, LeaseLost, ProviderRefused, ProviderUnreachable
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind
from tests.gateways import STANDINS
from tests.gateways.killed import killed_after_write
from tests.gateways.standins.server import Response
from tests.gateways.standins.subject import StandIn

ORDER = "/api/orders/{order_id}"
CLOSE = Control(kind=ControlKind.CLOSE, method="GET", path=ORDER)
OTHER = Control(kind=ControlKind.CLOSE, method="GET", path="/api/customers/me")
ADDRESS = Principal(kind=PrincipalKind.IP, value="203.0.113.7")
BLOCK = Control(kind=ControlKind.BLOCK, method="GET", path=ORDER, principals=(ADDRESS,))
LIMIT = Control(kind=ControlKind.THROTTLE, method="GET", path="/api/orders", rate_per_s=2.0)


OBJECTS = {each.kind: each for each in STANDINS if issubclass(each, StandIn)}
"""Those that hold controls as several objects."""


@pytest.fixture(params=sorted(OBJECTS))
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StandIn]:
    made = OBJECTS[request.param](tmp_path)
    yield made
    made.close()


def written(subject: StandIn) -> int:
    return len([call for call in subject.api.calls if call.is_write])


class TestCredential:
    def test_it_is_in_a_header_and_nowhere_else(self, subject: StandIn) -> None:
        """
        The credential goes with every call in one header, and never into an address or a body.
        """
        secret = subject.arguments()[subject.credential]
        subject.gateway.converge([CLOSE])

        for call in subject.api.calls:
            assert [secret in value for value in call.headers.values()].count(True) == 1
            assert secret not in f"{call.path}{call.query}{call.body}"

    def test_a_wrong_one_says_nothing_of_the_state(self, subject: StandIn) -> None:
        """
        Who may not read does not know what is in force; the message has no credential.
        """
        gateway = subject.adapter(**{subject.credential: "wr0ng-s3cret"})
        for call in (gateway.observe, lambda: gateway.converge([CLOSE])):
            with pytest.raises(ProviderUnreachable, match=r"40[13]") as caught:
                call()
            assert "wr0ng" not in str(caught.value)
        assert written(subject) == 0

    def test_no_representation_holds_it(self, subject: StandIn) -> None:
        """
        Printing an adapter prints no credential.
        """
        secret = subject.arguments()[subject.credential]
        assert secret not in repr(subject.gateway)
        assert secret not in repr(vars(subject.gateway)["_api"])


class TestInterrupted:
    @pytest.mark.parametrize("after", [1, 2, 3])
    def test_killed_after_any_write_it_is_completed(self, subject: StandIn, after: int) -> None:
        """
        Wherever a process dies, the next one brings the gateway to the same objects.
        """
        controls = [CLOSE, OTHER, LIMIT]
        subject.gateway.converge(controls)
        whole = subject.export()
        subject.gateway.converge([BLOCK])

        killed_after_write(subject, controls, after)
        gateway = subject.adapter()

        assert gateway.observe() not in {gateway.version_of(c) for c in ((), [BLOCK], controls)}
        assert gateway.converge(controls) == gateway.observe() == gateway.version_of(controls)
        assert subject.export() == whole

    @pytest.mark.parametrize("write", range(1, 9))
    def test_refused_at_any_write_all_is_taken_back(self, subject: StandIn, write: int) -> None:
        """
        A refusal in the middle leaves what was there before, to the byte.
        """
        version = subject.gateway.converge([OTHER, BLOCK])
        before = subject.export()

        subject.refuse_making(write)
        try:
            subject.gateway.converge([CLOSE, OTHER, LIMIT])
        except ProviderRefused:
            assert subject.export() == before
            assert subject.gateway.observe() == version
        else:
            # There were fewer writes than that.
            assert subject.api.instead == []
            assert write > 3

    def test_what_cannot_be_taken_back_is_said(self, subject: StandIn) -> None:
        """
        If that is refused too, the message says that something is left, and the next round
        brings it right.
        """
        subject.gateway.converge([OTHER])
        seen = 0

        def refusing(request: object) -> None:
            nonlocal seen
            seen += getattr(request, "is_write", False)
            if seen > 1 and getattr(request, "is_write", False):
                subject.api.instead = [subject.refusal]

        subject.api.sees = refusing
        with pytest.raises(ProviderRefused, match="could not be taken back"):
            subject.gateway.converge([CLOSE, OTHER, LIMIT])
        subject.accept()

        assert subject.gateway.converge([OTHER]) == subject.gateway.observe()

    def test_lease_lost_in_the_middle(self, subject: StandIn) -> None:
        """
        Who loses the right to write stops at once; who has it completes the work.
        """
        left = 3

        def losing() -> None:
            nonlocal left
            left -= 1
            if not left:
                raise LeaseLost("Another worker drives the run.")

        with pytest.raises(LeaseLost):
            subject.gateway.converge([CLOSE, OTHER, LIMIT], Writing(begin=losing))
        assert written(subject) == 2

        version = subject.adapter().converge([CLOSE, OTHER, LIMIT])
        assert subject.gateway.observe() == version

    def test_right_to_write_is_asked_for_each_write(self, subject: StandIn) -> None:
        """
        No write goes out without the right being looked at before it.
        """
        asked = 0

        def begin() -> None:
            nonlocal asked
            assert written(subject) == asked
            asked += 1

        subject.gateway.converge([CLOSE, LIMIT], Writing(begin=begin))
        subject.gateway.converge((), Writing(begin=begin))

        assert written(subject) == asked

    def test_change_between_two_writes_is_a_conflict(self, subject: StandIn) -> None:
        """
        Another hand that comes in the middle stops the writing, and the next round completes it.
        """
        subject.gateway.converge([OTHER])
        left = 2

        def second() -> None:
            nonlocal left
            left -= 1
            if not left:
                subject.edit_ours()

        with pytest.raises(Conflict):
            subject.gateway.converge([CLOSE, OTHER, LIMIT], Writing(begin=second))

        version = subject.gateway.converge([CLOSE, OTHER, LIMIT])
        assert subject.gateway.observe() == version

    @pytest.mark.parametrize("status", [502, 429, 302])
    @pytest.mark.parametrize("call", [1, 3, 5, 7, 9, 12])
    def test_no_answer_at_any_call(self, subject: StandIn, call: int, status: int) -> None:
        """
        An answer that is lost is told as such, whichever it was, and the work is completed later.
        """
        subject.api.instead = [*[None] * (call - 1), Response(status, {"message": "no"})]
        with pytest.raises(ProviderUnreachable, match=subject.gateway.name):
            subject.gateway.converge([CLOSE, OTHER, LIMIT])
        subject.api.instead = []

        version = subject.gateway.converge([CLOSE, OTHER, LIMIT])
        assert subject.gateway.observe() == version

    @pytest.mark.parametrize("call", [1, 2, 3, 4, 6])
    @pytest.mark.parametrize("body", [None, [], "x", 5, {}, {"data": 1}, {"result": []}], ids=str)
    def test_answer_of_another_form(self, subject: StandIn, call: int, body: object) -> None:
        """
        JSON that is none of the API's own never gets through raw.
        """
        subject.api.instead = [*[None] * (call - 1), Response(200, body)]
        with contextlib.suppress(ProviderUnreachable):
            subject.gateway.converge([CLOSE])
        subject.api.instead = []
        assert subject.gateway.converge([CLOSE]) == subject.gateway.observe()


class TestUnserved:
    def test_endpoint_that_nobody_serves(self, subject: StandIn) -> None:
        """
        A control on an endpoint that no route of the operator's leads to is held all the same:
        a route that comes later is covered.
        """
        for route in list(getattr(subject.api, "tables", {}).get("routes", ())):
            subject.api.tables["routes"].pop(route)  # type: ignore[attr-defined]
        version = subject.gateway.converge([LIMIT])
        assert subject.gateway.observe() == version == subject.gateway.version_of([LIMIT])
        assert subject.gateway.converge(()) == subject.gateway.observe()


class TestAside:
    def test_what_cannot_be_kept_is_not_replaced(self, subject: StandIn, tmp_path: Path) -> None:
        """
        Another hand's edit is kept before it is replaced, or not replaced.
        """
        if "set_aside" not in subject.arguments():
            pytest.skip("the gateway itself keeps what was there")
        subject.gateway.converge([CLOSE])
        subject.edit_ours()
        edited = subject.export()
        (tmp_path / "file").write_text("not a folder")

        gateway = subject.adapter(set_aside=tmp_path / "file")
        with pytest.raises(ProviderUnreachable, match="cannot be kept"):
            gateway.converge([CLOSE])

        assert subject.export() == edited


class TestHonest:
    def test_limits_are_called_approximate(self, subject: StandIn) -> None:
        """
        None of these gateways counts exactly.
        """
        assert subject.gateway.supports(LIMIT).best_effort

    def test_shadows_are_not_counted_as_nothing(self, subject: StandIn) -> None:
        """
        What is not counted has no count of zero.
        """
        shadow = Control(kind=ControlKind.SHADOW, method="GET", path=ORDER, would=ControlKind.CLOSE)
        assert not subject.gateway.supports(shadow).ok
        with pytest.raises(BadInput):
            subject.gateway.shadow_hits(shadow)

    def test_constructing_calls_nothing(self, subject: StandIn) -> None:
        """
        A start of Firedoor does not wait for a gateway that is down.
        """
        subject.adapter().prepare()
        assert subject.api.calls == []
