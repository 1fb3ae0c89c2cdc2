"""What holds where: controls of several incidents, put together by endpoint."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.gateway.rules import Rules, rules_of
from bot.errors import BadInput
from bot.model.containment import ANY_METHOD, Control, ControlKind, Principal, PrincipalKind

ORDER = "/api/orders/{order_id}"
EXPORT = "/api/orders/export"


def control(
    kind: ControlKind = ControlKind.CLOSE, path: str = ORDER, method: str = "GET", **more: Any
) -> Control:
    return Control(kind=kind, method=method, path=path, **more)


def address(value: str) -> Principal:
    return Principal(kind=PrincipalKind.IP, value=value)


def one(*controls: Control, known: tuple[str, ...] = ()) -> Rules:
    (rules,) = rules_of(controls, known)
    return rules


class TestRule1OnOneEndpoint:
    def test_the_lowest_rate_wins(self):
        """
        The strictest incident decides.
        """
        rates = [control(ControlKind.THROTTLE, rate_per_s=rate) for rate in (5.0, 0.5, 2.0)]

        assert one(*rates).rate_per_s == 0.5

    def test_every_block_holds(self):
        """
        Blocked by one incident is blocked.
        """
        blocks = [
            control(ControlKind.BLOCK, principals=(address(each),))
            for each in ("10.0.0.2", "10.0.0.1", "10.0.0.2")
        ]

        assert one(*blocks).blocked == (address("10.0.0.1"), address("10.0.0.2"))

    def test_every_list_of_allowed_holds_for_itself(self):
        """
        A caller must be on each, so they are not thrown together.
        """
        lists = [
            control(ControlKind.ALLOW_ONLY, principals=(address(each),))
            for each in ("10.0.0.2", "10.0.0.1")
        ]

        assert one(*lists).allowed == ((address("10.0.0.1"),), (address("10.0.0.2"),))

    def test_closing_does_not_forget_the_rest(self):
        """
        What else holds is there when the close is lifted.
        """
        rules = one(control(), control(ControlKind.THROTTLE, rate_per_s=1.0))

        assert (rules.closed, rules.rate_per_s) == (True, 1.0)
        assert rules.name == f"close GET {ORDER}"


class TestRule2AWholeRoute:
    def test_it_holds_for_each_method_too(self):
        """
        A method's own rules come first, so they must hold what the route's do.
        """
        limit = control(ControlKind.THROTTLE, rate_per_s=1.0)
        route = control(method=ANY_METHOD)

        method, whole = rules_of([limit, route])

        assert (method.method, method.closed, method.rate_per_s) == ("GET", True, 1.0)
        assert (whole.method, whole.closed, whole.rate_per_s) == (ANY_METHOD, True, None)

    def test_it_is_about_every_method(self):
        """
        No method is listed, so none is forgotten.
        """
        assert one(control(method=ANY_METHOD)).methods == ()


class TestRule3TheMostSpecificTemplate:
    def test_a_known_one_is_kept_out(self):
        """
        It comes first, with nothing on it.
        """
        export, order = rules_of([control()], [f"GET {EXPORT}", f"GET {ORDER}", "GET /health"])

        assert (export.path, export.is_contained) == (EXPORT, False)
        assert (order.path, order.closed) == (ORDER, True)

    def test_only_of_the_methods_that_are_caught(self):
        """
        Another method on the more specific path is not caught, and needs no rule.
        """
        assert len(rules_of([control()], [f"POST {EXPORT}"])) == 1
        assert len(rules_of([control(method=ANY_METHOD)], [f"POST {EXPORT}"])) == 2

    def test_one_that_is_contained_itself_is_not_kept_out(self):
        """
        Its own controls hold.
        """
        export, order = rules_of([control(), control(path=EXPORT)], [f"GET {EXPORT}"])

        assert (export.closed, order.closed) == (True, True)


class TestRule4HeadGoesWithGet:
    @pytest.mark.parametrize(
        ("method", "expected"), [("GET", ("GET", "HEAD")), ("POST", ("POST",))]
    )
    def test_methods(self, method, expected):
        """
        A closed GET is not answered by HEAD.
        """
        assert one(control(method=method)).methods == expected


class TestRefused:
    @pytest.mark.parametrize(
        "bad",
        [
            pytest.param(control(ControlKind.THROTTLE), id="no-rate"),
            pytest.param(control(ControlKind.THROTTLE, rate_per_s=1e7), id="huge-rate"),
            pytest.param(control(ControlKind.BLOCK), id="blocks-nobody"),
            pytest.param(control(ControlKind.ALLOW_ONLY), id="allows-nobody"),
            pytest.param(control(ControlKind.SHADOW), id="shadow-of-nothing"),
            pytest.param(
                control(ControlKind.SHADOW, would=ControlKind.THROTTLE, rate_per_s=1.0),
                id="shadow-of-a-throttle",
            ),
            pytest.param(
                control(ControlKind.SHADOW, would=ControlKind.BLOCK), id="shadow-of-no-block"
            ),
        ],
    )
    def test_control_that_would_do_nothing(self, bad):
        """
        A control without what makes it one is never made to something harmless.
        """
        with pytest.raises(BadInput, match="nothing was done"):
            rules_of([bad])


principals = st.sampled_from(
    [address("10.0.0.1"), address("10.0.0.0/24"), Principal(kind=PrincipalKind.CLAIM, value="c-1")]
)


@st.composite
def controls(draw: st.DrawFn) -> Control:
    kind = draw(st.sampled_from(ControlKind))
    would = None
    if kind is ControlKind.SHADOW:
        would = draw(st.sampled_from([ControlKind.CLOSE, ControlKind.BLOCK]))
    names = (would or kind) in (ControlKind.BLOCK, ControlKind.ALLOW_ONLY)
    return Control(
        kind=kind,
        method=draw(st.sampled_from(["GET", "POST", ANY_METHOD])),
        path=draw(st.sampled_from([ORDER, EXPORT, "/api/{a}/{b}", "/health"])),
        rate_per_s=draw(st.sampled_from([0.5, 2.0])) if kind is ControlKind.THROTTLE else None,
        principals=tuple(draw(st.sets(principals, min_size=1))) if names else (),
        would=would,
    )


class TestAnySet:
    @given(st.lists(controls(), max_size=8), st.randoms())
    def test_order_and_repetition_are_irrelevant(
        self, given_controls: list[Control], chance: random.Random
    ):
        """
        A set has one meaning, whoever held what first, and how often.
        """
        shuffled = [*given_controls, *given_controls[:3]]
        chance.shuffle(shuffled)

        assert rules_of(shuffled) == rules_of(given_controls)

    @given(st.lists(controls(), max_size=8))
    def test_nothing_is_lost(self, given_controls: list[Control]):
        """
        Every control is in the rules of its own method and path.
        """
        found = {(rules.method, rules.path): rules for rules in rules_of(given_controls)}

        for each in given_controls:
            rules = found[each.method, each.path]
            match each.kind:
                case ControlKind.CLOSE:
                    assert rules.closed
                case ControlKind.THROTTLE:
                    assert rules.rate_per_s is not None
                    assert rules.rate_per_s <= (each.rate_per_s or 0)
                case ControlKind.BLOCK:
                    assert set(each.principals) <= set(rules.blocked)
                case ControlKind.ALLOW_ONLY:
                    assert each.principals in rules.allowed
                case ControlKind.SHADOW:
                    assert each in rules.shadows
