"""What runbooks may say of callers and of what a shadow would do."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from actions.gateway import AllowOnly, Block, Close, Shadow
from bot.model.containment import ANY_METHOD, ControlKind, Principal, PrincipalKind, subject

ORDER = "GET /api/orders/{order_id}"
ROOM = {"endpoint": ORDER}


class TestCaller:
    @pytest.mark.parametrize(
        ("caller", "expected"),
        [
            ({"ip": "203.0.113.7/24"}, Principal(kind=PrincipalKind.IP, value="203.0.113.0/24")),
            ({"api_key": "partner-7"}, Principal(kind=PrincipalKind.API_KEY, value="partner-7")),
            ({"subject": "c-1"}, subject("c-1")),
            (
                {"claim": "tenant", "value": "acme"},
                Principal(kind=PrincipalKind.CLAIM, claim="tenant", value="acme"),
            ),
        ],
    )
    def test_four_ways_to_name_one(self, caller, expected):
        """
        An address, a key's name, a subject, another claim.
        """
        params = Block().read_params({**ROOM, "principal": caller})

        assert params.principal.principal() == expected

    @pytest.mark.parametrize(
        "caller",
        [
            {},
            {"ip": "10.0.0.1", "subject": "c-1"},
            {"claim": "tenant"},
            {"value": "acme"},
            {"ip": "everybody"},
            {"subject": ""},
            {"user": "c-1"},
            "c-1",
        ],
    )
    def test_what_names_none_or_two_is_refused(self, caller):
        """
        Nobody is blocked by mistake.
        """
        with pytest.raises(ValidationError):
            Block().read_params({**ROOM, "principal": caller})


class TestAllowOnly:
    def test_somebody_must_be_let_through(self):
        """
        An empty list would be a close that is not called one.
        """
        with pytest.raises(ValidationError):
            AllowOnly().read_params({**ROOM, "principals": []})


class TestShadow:
    def test_it_is_of_a_close_by_default(self):
        """
        The question before a close is whom it would hit.
        """
        assert Shadow().read_params(ROOM).would is ControlKind.CLOSE

    @pytest.mark.parametrize(
        "more",
        [
            {"would": "block"},
            {"would": "allow_only"},
            {"would": "close", "principals": [{"subject": "c-1"}]},
            {"would": "throttle"},
            {"would": "shadow"},
        ],
    )
    def test_it_says_whom(self, more):
        """
        A block and an allow-only name callers, a close none; nothing else can be tried.
        """
        with pytest.raises(ValidationError):
            Shadow().read_params({**ROOM, **more})


class TestScope:
    def test_a_route_is_every_method(self):
        """
        The control is on the path, and the sentence says so.
        """
        action = Close()
        params = action.read_params({**ROOM, "scope": "route"})

        plan = action.plan(params, {"gateway": "edge", "controls": []})

        assert action.holds(plan).method == ANY_METHOD
        assert plan.summary == (
            "Close every method of /api/orders/{order_id} at gateway edge: every request gets 503."
        )
