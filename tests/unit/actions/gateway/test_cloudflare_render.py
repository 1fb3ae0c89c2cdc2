"""Cloudflare's rules for a set of controls, their expressions read as Cloudflare reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.gateway.adapters.cloudflare.render import (
    BLOCKING,
    LIMITING,
    Rule,
    Zone,
    quoted,
    render,
    window,
)
from actions.gateway.rules import rules_of
from bot.errors import ProviderRefused
from bot.model.answers import REFUSED, THROTTLED
from bot.model.containment import ANY_METHOD, Control, ControlKind, Principal, PrincipalKind
from bot.model.containment import subject as subject_is
from tests.gateways.standins.cloudflare_rules import Call, SyntaxWrong, matches, tokens_of

ORDER = "/api/orders/{order_id}"
KNOWN = ("GET /api/orders", "GET /api/orders/export", f"GET {ORDER}", f"DELETE {ORDER}")
CONFIGURATION = "52973293-cb04-4a97-8f55-e7d2ad1107dd"
ZONE = Zone(hosts=("api.example.com",), token_configuration=CONFIGURATION)


def control(kind: ControlKind = ControlKind.CLOSE, method: str = "GET", **more: Any) -> Control:
    return Control(kind=kind, method=method, path=ORDER, **more)


def address(value: str) -> Principal:
    return Principal(kind=PrincipalKind.IP, value=value)


def block(*principals: Principal) -> Control:
    return control(ControlKind.BLOCK, principals=principals)


def allow(*principals: Principal) -> Control:
    return control(ControlKind.ALLOW_ONLY, principals=principals)


def limit(rate_per_s: float = 5.0) -> Control:
    return control(ControlKind.THROTTLE, rate_per_s=rate_per_s)


def rendered(*controls: Control, zone: Zone = ZONE, known: tuple[str, ...] = ()) -> list[Rule]:
    return render(rules_of(controls, known), zone)


def takes(rule: Rule, method: str = "GET", path: str = "/api/orders/1", **more: Any) -> bool:
    return matches(rule.body["expression"], Call(method=method, path=path, **more))


def by(name: str, claim: str = "sub") -> dict[str, Any]:
    return {"claims": {CONFIGURATION: {claim: name}}}


class TestClosed:
    def test_answer(self) -> None:
        """
        Cloudflare answers no 503 of its own: 403 it is, and the document says that it is closed.
        """
        (rule,) = rendered(control())
        response = rule.body["action_parameters"]["response"]
        assert (rule.phase, rule.body["action"], rule.body["enabled"]) == (BLOCKING, "block", True)
        assert 400 <= response["status_code"] <= 499
        assert response["content_type"] == "application/json"
        problem = json.loads(response["content"])
        assert problem["code"] == "endpoint_closed"
        assert problem["status"] == response["status_code"]

    @pytest.mark.parametrize(
        ("method", "path", "expected"),
        [
            ("GET", "/api/orders/4001", True),
            ("HEAD", "/api/orders/4001", True),
            ("DELETE", "/api/orders/4001", False),
            ("GET", "/api/orders/4001/", True),
            ("GET", "/api/orders/4001;v=1", True),
            ("GET", "/api/orders%2F4001", True),
            ("GET", "/api/orders/a%2Fb", True),
            ("GET", "/api/x/..;/orders/4001", True),
            ("GET", "/;v=1/api/orders/4001", True),
            ("GET", "/api/orders/4001%3Bv=1", True),
            ("GET", "/api/orders/4001/items", False),
            ("GET", "/api/orders", False),
            ("GET", "/x/api/orders/4001", False),
        ],
    )
    def test_requests(self, method: str, path: str, expected: bool) -> None:
        """
        The endpoint's requests are blocked, and no others.
        """
        (rule,) = rendered(control())
        assert takes(rule, method, path) is expected

    def test_other_hosts_of_the_zone(self) -> None:
        """
        Only the API's hosts are touched; without any named, all of the zone's.
        """
        (rule,) = rendered(control())
        assert not takes(rule, host="shop.example.com")
        (rule,) = rendered(control(), zone=Zone())
        assert takes(rule, host="shop.example.com")

    def test_method_override_counts(self) -> None:
        """
        A request that only says that it is a GET is held as one.
        """
        (rule,) = rendered(control())
        for name in ("x-http-method-override", "x-http-method", "x-method-override"):
            assert takes(rule, "POST", headers={name: "GET"})
            assert takes(rule, "POST", headers={name: "head"})
            assert not takes(rule, "POST", headers={name: "PUT"})

    def test_known_neighbour_stays_open(self) -> None:
        """
        An endpoint of the inventory that the template catches is not closed with it, in its own
        methods.
        """
        (rule,) = rendered(control(method=ANY_METHOD), known=KNOWN)
        assert takes(rule, "GET", "/api/orders/4001")
        assert not takes(rule, "GET", "/api/orders/export")
        assert takes(rule, "POST", "/api/orders/export")

    def test_more_specific_endpoint_has_its_own_controls_only(self) -> None:
        """
        A limit of the export is no reason to close it with the orders.
        """
        more = Control(
            kind=ControlKind.THROTTLE, method="GET", path="/api/orders/export", rate_per_s=5.0
        )
        close, limiting = rendered(control(), more, known=KNOWN)

        assert takes(close, "GET", "/api/orders/4001")
        assert not takes(close, "GET", "/api/orders/export")
        assert takes(limiting, "GET", "/api/orders/export")

    def test_closing_beats_all_else(self) -> None:
        """
        A closed endpoint is only closed, and comes first.
        """
        other = Control(
            kind=ControlKind.BLOCK,
            method="GET",
            path="/api/customers/me",
            principals=(address("203.0.113.7"),),
        )
        rules = rendered(other, control(), limit(), block(address("203.0.113.7")))
        assert [rule.name.partition(" ")[0] for rule in rules] == ["close", "block"]


class TestRefused:
    def test_addresses(self) -> None:
        """
        Who is blocked, or on not every list, gets 403.
        """
        (rule,) = rendered(
            block(address("203.0.113.0/24")),
            allow(address("203.0.0.0/16"), address("10.0.0.0/8")),
            allow(address("203.0.0.0/8"), address("2001:db8::/32")),
        )
        refused = {ip: takes(rule, source=ip) for ip in ("203.0.113.7", "203.0.7.7", "10.1.1.1")}
        assert refused == {"203.0.113.7": True, "203.0.7.7": False, "10.1.1.1": True}
        assert not takes(rule, "DELETE", source="203.0.113.7")
        assert rule.body["action_parameters"]["response"]["content"] == REFUSED.body

    def test_claims(self) -> None:
        """
        A claim counts that Cloudflare has verified by the operator's configuration, and no other.
        """
        (rule,) = rendered(block(subject_is("c-mallory")))
        assert takes(rule, **by("c-mallory"))
        assert not takes(rule, **by("c-owner"))
        assert not takes(rule)
        assert not takes(rule, claims={"another": {"sub": "c-mallory"}})

        role = Principal(kind=PrincipalKind.CLAIM, claim="role", value="support")
        (rule,) = rendered(allow(role, address("10.0.0.0/8")))
        assert not takes(rule, **by("support", "role"))
        assert not takes(rule, source="10.1.1.1")
        assert takes(rule, **by("customer", "role"))
        assert takes(rule)

    def test_long_expression_is_refused_here(self) -> None:
        """
        What Cloudflare would not take is named before anything is written.
        """
        nets = [address(f"203.{a}.{b}.0/24") for a in range(4) for b in range(80)]
        with pytest.raises(ProviderRefused, match="fewer principals"):
            rendered(block(*nets))


class TestLimit:
    def test_limit(self) -> None:
        """
        A limit is a rule of its own phase that answers 429.
        """
        (rule,) = rendered(limit())
        assert rule.phase == LIMITING
        assert rule.body["ratelimit"] == {
            "characteristics": ["cf.colo.id", "ip.src"],
            "period": 10,
            "requests_per_period": 50,
            "mitigation_timeout": 10,
            "requests_to_origin": False,
        }
        assert rule.body["action_parameters"]["response"]["content"] == THROTTLED.body
        assert takes(rule)
        assert "headers" not in rule.body["expression"]

    def test_enterprise(self) -> None:
        """
        There only what exceeds the rate is refused, and all callers can be counted together.
        """
        zone = Zone(plan="enterprise", limits_by="data_centre")
        (rule,) = rendered(limit(), zone=zone)
        assert rule.body["ratelimit"]["characteristics"] == ["cf.colo.id"]
        assert rule.body["ratelimit"]["mitigation_timeout"] == 0

    @pytest.mark.parametrize(
        ("rate", "count", "period"),
        [
            (5.0, 50, 10),
            (0.1, 1, 10),
            (0.05, 1, 20),
            (1.23, 12, 10),
            (0.123, 5, 45),
            (1 / 600, 1, 600),
            (0.0123, 1, 90),
            (0.0018, 1, 600),
        ],
    )
    def test_windows(self, rate: float, count: int, period: int) -> None:
        """
        A rate is held by a period that the plan has; what does not fit is rounded down.
        """
        assert window(rate, "business") == (count, period)
        assert count / period <= rate + 1e-9

    def test_beside_a_block(self) -> None:
        """
        Both hold, each in its phase.
        """
        rules = rendered(block(address("203.0.113.7")), limit())
        assert [rule.phase for rule in rules] == [BLOCKING, LIMITING]


HOSTILE = [
    '" or true or "',
    '"#',
    '"##) or (http.host == "x',
    "\\",
    'r#"x"#',
    "a\\b",
    "(.*)",
    "x|y",
    "$",
    "}",
    "*",
    "'",
    "a b",
    "ü",
]


class TestHostile:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_template(self, text: str) -> None:
        """
        No text of a template ends its string or means anything in the expression.
        """
        hostile = Control(kind=ControlKind.CLOSE, method="GET", path=f"/api/{text}/{{id}}")
        (rule,) = rendered(hostile)
        assert takes(rule, path=f"/api/{text}/1")
        assert not takes(rule, path="/api/anything/1")
        assert not takes(rule, path="/other")
        assert not takes(rule, "DELETE", f"/api/{text}/1")

    @pytest.mark.parametrize("text", HOSTILE)
    def test_principal(self, text: str) -> None:
        """
        No claim's value reaches beyond itself.
        """
        (rule,) = rendered(block(subject_is(text)))
        assert takes(rule, **by(text))
        assert not takes(rule, **by("c-owner"))
        assert not takes(rule, path="/other", **by(text))

    @pytest.mark.parametrize("text", HOSTILE)
    def test_settings(self, text: str) -> None:
        """
        Nor does a host name or a token configuration.
        """
        zone = Zone(hosts=(text,), token_configuration=text)
        (rule,) = rendered(block(subject_is("c-1")), zone=zone)
        claims = {"claims": {text: {"sub": "c-1"}}}
        assert takes(rule, host=text, **claims)
        assert not takes(rule, host="other", **claims)

    @given(text=st.text(alphabet='"#r\\ax', max_size=12))
    def test_quoting(self, text: str) -> None:
        """
        A quoted text is one string with just that text.
        """
        (token,) = tokens_of(quoted(text))
        assert (token.kind, token.text) == ("string", text)

    def test_reader_would_see_an_injection(self) -> None:
        """
        The reader that these tests lean on tells what is left over, and what is no value.
        """
        with pytest.raises(SyntaxWrong):
            matches('http.host == "a" "b"', Call())
        with pytest.raises(SyntaxWrong):
            matches("http.host == a", Call())
        assert matches('http.host == "x" or http.host in {"api.example.com"}', Call())
