"""What holds where: controls of several incidents, put together by endpoint."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.gateway.rules import Rules, rules_of
from actions.gateway.templates import path_regex
from bot.errors import BadInput
from bot.model.containment import ANY_METHOD, Control, ControlKind, Principal, PrincipalKind
from bot.model.endpoint import shape_of

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

    def test_a_limit_of_get_opens_no_closed_head(self):
        """
        The first that matches a request is the one for it, so HEAD's own come before GET's.
        """
        limit = control(ControlKind.THROTTLE, rate_per_s=1.0)

        first = next(
            rules for rules in rules_of([control(method="HEAD"), limit]) if "HEAD" in rules.methods
        )

        assert (first.method, first.closed) == ("HEAD", True)

    def test_what_holds_on_get_holds_on_head_too(self):
        """
        A limit of HEAD alone does not let it past the close of GET.
        """
        limit = control(ControlKind.THROTTLE, method="HEAD", rate_per_s=1.0)

        head, get = rules_of([control(), limit])

        assert (head.method, head.closed, head.rate_per_s) == ("HEAD", True, 1.0)
        assert (get.method, get.closed, get.rate_per_s) == ("GET", True, None)

    def test_known_head_of_a_closed_get_is_not_kept_out(self):
        """
        It is the same endpoint's.
        """
        rules = rules_of([control(), control(path=EXPORT)], [f"HEAD {EXPORT}", f"GET {EXPORT}"])

        assert all(each.closed for each in rules)

    def test_known_head_is_kept_out_of_a_less_specific_get(self):
        """
        Closing the orders closes no HEAD of the export.
        """
        export, order = rules_of([control()], [f"HEAD {EXPORT}"])

        assert (export.path, export.is_contained, order.closed) == (EXPORT, False, True)


class TestRule5OneTemplate:
    @pytest.mark.parametrize("other", ["/api/orders/{id}", f"{ORDER}/"])
    def test_the_name_of_a_parameter_makes_no_difference(self, other):
        """
        Two documents of one API may name it differently. Else the first one would win, and its
        limit would open what the other closes.
        """
        limit = control(ControlKind.THROTTLE, path=other, rate_per_s=1.0)

        rules = one(control(), limit)

        assert (rules.closed, rules.rate_per_s) == (True, 1.0)

    def test_known_twin_is_not_kept_out(self):
        """
        It is the contained endpoint itself.
        """
        assert one(control(), known=("GET /api/orders/{id}",)).closed

    def test_route_is_that_of_both_names(self):
        """
        A whole route holds for a method whose template is written differently.
        """
        put = control(ControlKind.THROTTLE, path="/api/orders/{id}", method="PUT", rate_per_s=1.0)

        method, whole = rules_of([control(method=ANY_METHOD), put])

        assert (method.method, method.closed, whole.closed) == ("PUT", True, True)


class TestRule6SharedPaths:
    STATUS = "/api/{kind}/status"
    THING = "/api/orders/{thing}"

    def test_a_limit_of_one_opens_nothing_that_a_close_of_the_other_holds(self):
        """
        ``/api/orders/status`` is of both templates: it stays closed.
        """
        close = control(path=self.STATUS)
        limit = control(ControlKind.THROTTLE, path=self.THING, rate_per_s=1.0)

        first = next(iter(rules_of([close, limit])))

        assert first.path == "/api/orders/status"
        assert (first.closed, first.rate_per_s) == (True, 1.0)

    @pytest.mark.parametrize(
        ("closed", "limited", "expected"),
        [
            pytest.param("GET", ANY_METHOD, ["GET"], id="route-limited"),
            pytest.param(ANY_METHOD, "GET", ["GET"], id="route-closed"),
            pytest.param("GET", "HEAD", ["HEAD"], id="head-limited"),
            pytest.param("GET", "POST", [], id="no-method-in-common"),
        ],
    )
    def test_only_of_methods_that_both_are_about(self, closed, limited, expected):
        """
        What only one of them is about, that one decides.
        """
        close = control(path=self.STATUS, method=closed)
        limit = control(ControlKind.THROTTLE, path=self.THING, method=limited, rate_per_s=1.0)

        shared = [r for r in rules_of([close, limit]) if r.path == "/api/orders/status"]

        assert [each.method for each in shared] == expected
        assert all(each.closed for each in shared)

    def test_known_endpoint_is_of_neither(self):
        """
        It is more specific than both; see rule 3.
        """
        close = control(path=self.STATUS)
        limit = control(ControlKind.THROTTLE, path=self.THING, rate_per_s=1.0)

        first = next(iter(rules_of([close, limit], ["GET /api/orders/status"])))

        assert (first.path, first.is_contained) == ("/api/orders/status", False)

    def test_not_where_the_gateway_has_an_object_for_each_endpoint(self):
        """
        It would be an endpoint that such a gateway does not have.
        """
        close = control(path=self.STATUS)
        limit = control(ControlKind.THROTTLE, path=self.THING, rate_per_s=1.0)

        assert len(rules_of([close, limit], by_path=False)) == 2


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
        method=draw(st.sampled_from(["GET", "HEAD", "POST", ANY_METHOD])),
        path=draw(st.sampled_from([ORDER, EXPORT, "/api/{a}/{b}", "/api/{a}/new", "/health"])),
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

    @given(
        st.lists(controls(), max_size=8),
        st.sampled_from(["GET", "HEAD", "POST", "PUT"]),
        st.sampled_from(["/api/orders/4001", "/api/orders/new", "/api/x/new", "/api/x/y"]),
    )
    def test_nothing_opens_what_another_one_closes(
        self, given_controls: list[Control], method: str, path: str
    ):
        """
        Whatever else is in force: a request that a close is about is closed, unless a template
        within that one is contained for itself (rule 3).
        """
        close = control(path="/api/{a}/new")
        inner = {shape_of(c.path) for c in given_controls} & {path}
        rules = rules_of([*given_controls, close])
        first = next(
            (
                each
                for each in rules
                if re.fullmatch(path_regex(each.path), path)
                and (not each.methods or method in each.methods)
            ),
            None,
        )

        if re.fullmatch(path_regex(close.path), path) and method in ("GET", "HEAD") and not inner:
            assert first is not None
            assert first.closed
