"""Kong's overlays for a set of controls, without a Kong."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from actions.gateway.adapters.kong.names import NAMESPACE, nowhere
from actions.gateway.adapters.kong.plugins import limit_config
from actions.gateway.adapters.kong.render import Base, Overlay, render
from actions.gateway.rules import rules_of
from bot.errors import ProviderRefused
from bot.model.answers import CLOSED, REFUSED
from bot.model.containment import ANY_METHOD, Control, ControlKind, Principal, PrincipalKind

ORDER = "/api/orders/{order_id}"
KNOWN = ("GET /api/orders", "GET /api/orders/export", f"GET {ORDER}", f"DELETE {ORDER}")
SERVICE = {"id": "s-orders"}
ROUTE: dict[str, Any] = {
    "id": "r-orders",
    "name": "orders",
    "protocols": ["https"],
    "hosts": ["api.example.com"],
    "paths": ["/"],
    "strip_path": True,
    "preserve_host": True,
    "regex_priority": 7,
    "service": SERVICE,
}


def control(kind: ControlKind = ControlKind.CLOSE, method: str = "GET", **more: Any) -> Control:
    return Control(kind=kind, method=method, path=ORDER, **more)


def address(value: str) -> Principal:
    return Principal(kind=PrincipalKind.IP, value=value)


def key(name: str) -> Principal:
    return Principal(kind=PrincipalKind.API_KEY, value=name)


def block(*principals: Principal) -> Control:
    return control(ControlKind.BLOCK, principals=principals)


def allow(*principals: Principal) -> Control:
    return control(ControlKind.ALLOW_ONLY, principals=principals)


def rendered(
    *controls: Control,
    routes: Sequence[Mapping[str, Any]] = (ROUTE,),
    plugins: Sequence[Mapping[str, Any]] = (),
    known: Sequence[str] = (),
) -> list[Overlay]:
    names = {p.value for c in controls for p in c.principals}
    base = Base(routes, plugins, {name: f"c-{name}" for name in names})
    return render("edge", rules_of(controls, known), base, marks_throttled=True)


def plugin(overlay: Overlay, name: str, consumer: str | None = None) -> dict[str, Any]:
    (found,) = (
        dict(p)
        for p in overlay.plugins
        if p["name"] == name and (p.get("consumer") or {}).get("id") == consumer
    )
    return found


def names(overlay: Overlay) -> list[str]:
    return [p["name"] for p in overlay.plugins]


def matches(overlay: Overlay, path: str) -> bool:
    return any(re.match(each.removeprefix("~"), path) for each in overlay.route["paths"])


class TestClosed:
    def test_it_answers_as_every_gateway_does(self) -> None:
        """
        Status, body and headers are those of a closed endpoint, on a service that leads nowhere.
        """
        overlay = next(o for o in rendered(control()) if "methods" in o.route)

        ending = plugin(overlay, "request-termination")["config"]
        assert (ending["status_code"], ending["body"]) == (503, CLOSED.body)
        headers = plugin(overlay, "response-transformer")["config"]["add"]["headers"]
        assert {"x-firedoor:closed", "retry-after:120"} <= set(headers)
        assert overlay.route["service"] == {"id": nowhere("edge")["id"]}
        assert not overlay.passes

    def test_it_wins_over_the_operators_route(self) -> None:
        """
        It asks for all that the operator's route asks for, and more, with a higher priority.
        """
        overlay = next(o for o in rendered(control()) if "methods" in o.route)

        assert overlay.route["hosts"] == ROUTE["hosts"]
        assert overlay.route["protocols"] == ROUTE["protocols"]
        assert overlay.route["methods"] == ["GET", "HEAD"]
        assert overlay.route["regex_priority"] > ROUTE["regex_priority"]

    def test_method_override_counts(self) -> None:
        """
        A request that only says that it is a GET is held as one, whatever its method.
        """
        overrides = [o.route for o in rendered(control()) if "headers" in o.route]

        assert {header for route in overrides for header in route["headers"]} == {
            "x-http-method",
            "x-http-method-override",
            "x-method-override",
        }
        assert {tuple(v) for r in overrides for v in r["headers"].values()} == {("get", "head")}
        assert all("methods" not in route for route in overrides)

    def test_odd_paths_are_closed_with_it(self) -> None:
        """
        A service that drops path parameters before it walks reads them as any other path.
        """
        overlay = next(o for o in rendered(control()) if "methods" in o.route)

        assert matches(overlay, "/api/x/..;/orders/4001")
        assert matches(overlay, "/;v=1/api/orders/4001")
        assert not matches(overlay, "/api/other;v=1/4001")

    def test_closed_route_has_every_method(self) -> None:
        """
        Without a method there is nothing to override, and one overlay.
        """
        (overlay,) = rendered(control(method=ANY_METHOD))
        assert "methods" not in overlay.route
        assert "headers" not in overlay.route

    def test_methods_of_the_operators_route_stay(self) -> None:
        """
        A route for some methods is covered for those: it would win over one that names none.
        """
        route = {**ROUTE, "methods": ["GET", "POST"]}
        (overlay,) = rendered(control(method=ANY_METHOD), routes=[route])
        assert overlay.route["methods"] == ["GET", "POST"]

    def test_each_shape_of_route_is_covered(self) -> None:
        """
        Routes of several hosts, by a prefix or an expression, all get an overlay; one that cannot
        serve the endpoint gets none.
        """
        routes = [
            ROUTE,
            {**ROUTE, "id": "r2", "hosts": ["b.example.com"], "paths": ["/api/orders"]},
            {**ROUTE, "id": "r3", "hosts": ["c.example.com"], "paths": ["~/x"]},
            {**ROUTE, "id": "r4", "hosts": ["d.example.com"], "paths": ["/shop"]},
            {**ROUTE, "id": "r5", "hosts": ["e.example.com"], "protocols": ["tcp"]},
        ]
        overlays = rendered(control(method=ANY_METHOD), routes=routes)
        hosts = sorted(o.route["hosts"][0] for o in overlays)
        assert hosts == ["api.example.com", "b.example.com", "c.example.com"]

    def test_stripped_path_does_not_matter(self) -> None:
        """
        Closing works on routes that nothing else can be put in front of.
        """
        route = {**ROUTE, "paths": ["/api"], "strip_path": True}
        assert rendered(control(), routes=[route])

    def test_no_route_of_the_operators(self) -> None:
        """
        An endpoint that nobody serves is closed all the same.
        """
        (overlay,) = rendered(control(method=ANY_METHOD), routes=[])
        assert matches(overlay, "/api/orders/1")

    def test_known_neighbour_stays_open(self) -> None:
        """
        An endpoint of the inventory that the template catches is not closed with it, in its own
        methods.
        """
        overlays = rendered(control(method=ANY_METHOD), known=KNOWN)

        wide, narrow = sorted(overlays, key=lambda o: len(o.route.get("methods", ())))
        assert matches(wide, "/api/orders/4001")
        assert not matches(wide, "/api/orders/export")
        assert matches(narrow, "/api/orders/export")
        assert "POST" in narrow.route["methods"]
        assert not {"GET", "HEAD"} & set(narrow.route["methods"])

    def test_closing_beats_all_else(self) -> None:
        """
        A closed endpoint is only closed.
        """
        overlays = rendered(control(), block(address("203.0.113.7")))
        assert not any(overlay.passes for overlay in overlays)


class TestPassing:
    def test_operators_plugins_go_along(self) -> None:
        """
        Whatever checks callers on the operator's route checks them on the overlay.
        """
        plugins = [
            {"id": "p1", "name": "key-auth", "route": {"id": "r-orders"}, "config": {"a": 1}},
            {"id": "p2", "name": "cors", "route": {"id": "r-other"}, "config": {}},
            {"id": "p3", "name": "jwt", "route": {"id": "r-orders"}, "enabled": False},
            {"id": "p4", "name": "acl", "service": SERVICE, "config": {}},
        ]
        (overlay,) = rendered(block(address("203.0.113.7")), plugins=plugins)

        assert names(overlay) == ["key-auth", "ip-restriction"]
        copied = plugin(overlay, "key-auth")
        assert copied["config"] == {"a": 1}
        assert copied["route"] == {"id": overlay.id}
        assert copied["id"] not in {"p1", "p2"}

    def test_it_leads_where_the_operators_leads(self) -> None:
        """
        Service and handling are the operator's.
        """
        (overlay,) = rendered(block(address("203.0.113.7")))
        assert overlay.passes
        assert overlay.route["service"] == SERVICE
        assert overlay.route["preserve_host"] is True
        assert overlay.route["strip_path"] is False

    def test_stripped_path_is_refused(self) -> None:
        """
        Where the service would get another path than before, nothing is done, and closing is named.
        """
        route = {**ROUTE, "paths": ["/api"], "strip_path": True}
        with pytest.raises(ProviderRefused, match=r"takes its path off.*Close the endpoint"):
            rendered(block(address("203.0.113.7")), routes=[route])

    def test_expression_is_refused(self) -> None:
        """
        A route whose match cannot be read is not guessed at.
        """
        route = {"id": "r", "name": "x", "expression": 'http.path ^= "/"', "service": SERVICE}
        with pytest.raises(ProviderRefused, match="expression"):
            rendered(control(), routes=[route])


class TestAddresses:
    def test_blocked(self) -> None:
        """
        Blocked networks are refused with 403.
        """
        (overlay,) = rendered(block(address("203.0.113.7"), address("2001:db8::/32")))
        restriction = plugin(overlay, "ip-restriction")
        assert restriction["config"] == {
            "allow": None,
            "deny": ["2001:db8::/32", "203.0.113.7/32"],
            "status": 403,
            "message": REFUSED.detail,
        }
        assert restriction["service"] == SERVICE

    def test_allowed_by_every_list(self) -> None:
        """
        Of several lists only what is on all of them is let through; of nothing, nobody.
        """
        one, other = allow(address("10.0.0.0/8")), allow(address("10.1.0.0/16"))
        (overlay,) = rendered(one, other)
        assert plugin(overlay, "ip-restriction")["config"]["allow"] == ["10.1.0.0/16"]

        (overlay,) = rendered(one, allow(address("192.0.2.0/24")))
        assert names(overlay) == ["request-termination"]

    @pytest.mark.parametrize(
        "scope", [{"route": {"id": "r-orders"}}, {"service": SERVICE}, {}], ids=str
    )
    def test_operators_own_list_goes_on(self, scope: dict[str, Any]) -> None:
        """
        Kong runs one restriction for a request; what the operator's refuses stays refused.
        """
        theirs = {"allow": ["10.0.0.0/8"], "deny": ["10.9.0.0/16"]}
        plugins = [{"id": "p", "name": "ip-restriction", "config": theirs, **scope}]
        (overlay,) = rendered(allow(address("10.1.0.0/16")), plugins=plugins)
        ours = next(p for p in overlay.plugins if p.get("service"))
        assert ours["config"]["allow"] == ["10.1.0.0/16"]
        assert ours["config"]["deny"] == ["10.9.0.0/16"]

    def test_list_for_single_consumers_is_refused(self) -> None:
        """
        What ours would put out of force for some callers cannot be kept, so nothing is done.
        """
        theirs = {"id": "p", "name": "ip-restriction", "config": {}, "consumer": {"id": "c"}}
        with pytest.raises(ProviderRefused, match="single consumers"):
            rendered(block(address("203.0.113.7")), plugins=[theirs])


class TestKeys:
    def test_blocked_by_consumer(self) -> None:
        """
        A consumer is refused in the words of every gateway, whoever else is served.
        """
        (overlay,) = rendered(block(key("partner-7")))
        ending = plugin(overlay, "request-termination", "c-partner-7")
        assert ending["config"]["body"] == REFUSED.body
        assert "trigger" not in ending["config"]
        mark = plugin(overlay, "response-transformer", "c-partner-7")
        assert mark["config"]["add"]["headers"] == ["x-firedoor:refused"]
        assert len(overlay.plugins) == 2

    def test_allowed_by_consumer(self) -> None:
        """
        Everybody is refused but the consumers on every list, who are not blocked either.
        """
        (overlay,) = rendered(
            allow(key("a"), key("b"), key("c")), allow(key("b"), key("c")), block(key("c"))
        )
        assert plugin(overlay, "request-termination")["config"]["status_code"] == 403
        assert "trigger" in plugin(overlay, "request-termination", "c-b")["config"]
        assert "trigger" not in plugin(overlay, "request-termination", "c-c")["config"]
        assert len([n for n in names(overlay) if n == "request-termination"]) == 3

    def test_nobody_on_all_lists(self) -> None:
        """
        Two lists with nobody in common let nobody through, by address or by key.
        """
        (overlay,) = rendered(allow(key("a")), allow(key("b")))
        assert names(overlay) == ["request-termination"]
        (overlay,) = rendered(
            allow(key("a")), allow(address("10.0.0.0/8")), allow(address("192.0.2.0/24"))
        )
        assert names(overlay) == ["request-termination"]

    def test_both_lists_hold(self) -> None:
        """
        A list of addresses and one of keys must both let a caller through.
        """
        (overlay,) = rendered(allow(key("a")), allow(address("10.0.0.0/8")))
        assert sorted(names(overlay)) == [
            "ip-restriction",
            "request-termination",
            "request-termination",
        ]


class TestThrottle:
    def test_limit_over_all_callers(self) -> None:
        """
        It counts the service's requests on a node, answers 429, and marks it.
        """
        (overlay,) = rendered(control(ControlKind.THROTTLE, rate_per_s=5.0))
        limit = plugin(overlay, "rate-limiting")["config"]
        assert (limit["second"], limit["limit_by"], limit["policy"]) == (5, "service", "local")
        assert limit["error_code"] == 429
        (code,) = plugin(overlay, "post-function")["config"]["header_filter"]
        assert 'set_header("x-firedoor", "throttled")' in code

    @pytest.mark.parametrize(
        ("rate", "limits"),
        [
            (5.0, {"second": 5}),
            (1.5, {"second": 2, "minute": 90}),
            (0.1, {"second": 1, "minute": 6}),
            (0.01, {"second": 1, "minute": 1, "hour": 36}),
            (1 / 3, {"second": 1, "minute": 20}),
            (1e-6, {"second": 1, "minute": 1, "hour": 1}),
        ],
    )
    def test_windows(self, rate: float, limits: dict[str, int]) -> None:
        """
        A rate that is no whole number a second is held by the longer windows, which Kong wants
        not to be lower than the shorter ones.
        """
        config = limit_config(rate)
        found = {w: config[w] for w in ("second", "minute", "hour") if w in config}
        assert found == limits
        assert list(found.values()) == sorted(found.values())

    def test_operators_limit_is_not_put_out_of_force(self) -> None:
        """
        Kong runs one limit for a request: where there is one, nothing is done.
        """
        theirs = {"id": "p", "name": "rate-limiting", "config": {"minute": 5}}
        with pytest.raises(ProviderRefused, match="is limited already"):
            rendered(control(ControlKind.THROTTLE, rate_per_s=5.0), plugins=[theirs])

    def test_operators_lua_is_not_put_out_of_force(self) -> None:
        """
        Where the operator runs code of their own, ours is left out.
        """
        theirs = {"id": "p", "name": "post-function", "config": {}}
        (overlay,) = rendered(control(ControlKind.THROTTLE, rate_per_s=5.0), plugins=[theirs])
        assert names(overlay) == ["rate-limiting"]


class TestNames:
    def test_equal_content_has_equal_names(self) -> None:
        """
        Identifiers are made from what the objects are, as version 5 of their names.
        """
        one, other = rendered(control()), rendered(control())
        assert one == other
        for overlay in one:
            assert overlay.id == str(uuid.uuid5(NAMESPACE, overlay.route["name"]))

    def test_other_content_has_other_names(self) -> None:
        """
        An object is never changed into another one: it is made beside it.
        """
        ids = [
            {o.id for o in rendered(*controls)}
            for controls in (
                [block(address("203.0.113.7"))],
                [block(address("203.0.113.8"))],
                [control(ControlKind.THROTTLE, rate_per_s=1.0)],
            )
        ]
        assert not ids[0] & ids[1]
        assert not ids[1] & ids[2]

    def test_no_two_plugins_of_one_scope(self) -> None:
        """
        Kong lets a plugin be once on a route, service and consumer.
        """
        theirs = [
            {"id": "p1", "name": "ip-restriction", "route": {"id": "r-orders"}, "service": SERVICE},
            {
                "id": "p2",
                "name": "request-termination",
                "route": {"id": "r-orders"},
                "service": SERVICE,
                "consumer": {"id": "c-a"},
            },
        ]
        (overlay,) = rendered(block(key("a"), address("203.0.113.7")), plugins=theirs)
        scopes = [
            json.dumps([p["name"], p.get("service"), p.get("consumer")]) for p in overlay.plugins
        ]
        assert len(scopes) == len(set(scopes))
        assert len({p["id"] for p in overlay.plugins}) == len(scopes)

    def test_tags_are_of_a_form_that_kong_takes(self) -> None:
        """
        A tag has neither comma nor slash, whatever the gateway and the endpoint are called.
        """
        base = Base([ROUTE])
        overlays = render("a,b/c ü", rules_of([control()]), base, marks_throttled=True)
        for tag in overlays[0].route["tags"]:
            assert re.fullmatch(r"[\x20-\x2b\x2d\x2e\x30-\x7e]+", tag)
