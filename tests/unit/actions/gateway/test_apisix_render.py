"""APISIX's overlays for a set of controls, their conditions tried as lua-resty-expr reads them."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import pytest

from actions.gateway.adapters.apisix.render import Base, marker_body, render, window
from actions.gateway.rules import rules_of
from bot.errors import ProviderRefused
from bot.model.answers import CLOSED, REFUSED, THROTTLED
from bot.model.containment import ANY_METHOD, Control, ControlKind, Principal, PrincipalKind
from tests.gateways.standins.apisix import check_expression

ORDER = "/api/orders/{order_id}"
KNOWN = ("GET /api/orders", "GET /api/orders/export", f"GET {ORDER}", f"DELETE {ORDER}")
ROUTE: dict[str, Any] = {
    "id": "orders",
    "name": "orders",
    "uri": "/api/*",
    "hosts": ["api.example.com"],
    "priority": 3,
    "service_id": "orders",
    "plugins": {"key-auth": {"header": "apikey"}},
    "create_time": 1,
    "update_time": 2,
    "modifiedIndex": 3,
    "status": 1,
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


LIMIT = control(ControlKind.THROTTLE, rate_per_s=5.0)


def rendered(
    *controls: Control,
    routes: Sequence[Mapping[str, Any]] = (ROUTE,),
    known: Sequence[str] = (),
    **parts: Any,
) -> list[dict[str, Any]]:
    base = Base(routes, **parts)
    return list(render("edge", rules_of(controls, known), base).values())


def plugins(*controls: Control, **more: Any) -> dict[str, Any]:
    (overlay,) = rendered(*controls, **more)
    return {name: conf for name, conf in overlay["plugins"].items() if name != "key-auth"}


# --- lua-resty-expr ------------------------------------------------------------------------------


def evaluate(rules: list[Any], variables: Mapping[str, str]) -> bool:
    if isinstance(rules[0], list):
        return all(evaluate(rule, variables) for rule in rules)
    match rules[0].upper():
        case "AND":
            return all(evaluate(rule, variables) for rule in rules[1:])
        case "OR":
            return any(evaluate(rule, variables) for rule in rules[1:])
        case "!AND":
            return not all(evaluate(rule, variables) for rule in rules[1:])
        case "!OR":
            return not any(evaluate(rule, variables) for rule in rules[1:])
    left, value = variables.get(rules[0]), rules[-1]
    found = (
        left is not None
        and {
            "==": lambda: left == value or left == str(value),
            "~~": lambda: bool(re.search(re.sub(r"\\z$", r"\\Z", value), left)),
            "~*": lambda: bool(re.search(value, left, re.IGNORECASE)),
            "in": lambda: left in value,
            "ipmatch": lambda: any(
                ipaddress.ip_address(left) in ipaddress.ip_network(net) for net in value
            ),
        }[rules[-2]]()
    )
    return not found if len(rules) == 4 else bool(found)


def request(method: str, sent: str, **headers: str) -> dict[str, str]:
    """Return nginx's variables for a request without a need to tidy its path."""
    names = {f"http_{name}": value for name, value in headers.items()}
    uri = unquote(sent.partition("?")[0])
    return {"request_method": method, "request_uri": sent, "uri": uri, **names}


def takes(overlay: Mapping[str, Any], method: str, sent: str, **headers: str) -> bool:
    check_expression(overlay["vars"], "vars")
    return evaluate(overlay["vars"], request(method, sent, **headers))


class TestClosed:
    def test_it_answers_as_every_gateway_does(self) -> None:
        """
        Status, body and headers are those of a closed endpoint.
        """
        abort = plugins(control())["fault-injection"]["abort"]
        assert abort == {
            "http_status": 503,
            "body": CLOSED.body,
            "headers": dict(CLOSED.headers),
        }

    def test_no_answer_has_what_apisix_reads_as_a_variable(self) -> None:
        """
        The plugin replaces ``$name`` in what it answers.
        """
        for answer in (CLOSED, REFUSED, THROTTLED):
            assert "$" not in answer.body + json.dumps(dict(answer.headers))

    def test_it_stands_where_the_operators_route_stands(self) -> None:
        """
        APISIX compares priorities among routes of one host and uri only, so it has the same.
        """
        (overlay,) = rendered(control())
        assert (overlay["uri"], overlay["hosts"]) == (ROUTE["uri"], ROUTE["hosts"])
        assert overlay["priority"] > ROUTE["priority"]
        assert "service_id" not in overlay

    def test_hosts_of_the_service_are_kept(self) -> None:
        """
        A route without hosts of its own has its service's.
        """
        route = {k: v for k, v in ROUTE.items() if k != "hosts"}
        (overlay,) = rendered(control(), routes=[route])
        assert overlay["service_id"] == "orders"

    @pytest.mark.parametrize(
        ("method", "sent", "expected"),
        [
            ("GET", "/api/orders/4001", True),
            ("HEAD", "/api/orders/4001", True),
            ("DELETE", "/api/orders/4001", False),
            ("GET", "/api/orders/4001?x=1", True),
            ("GET", "/api/orders/4001;v=1", True),
            ("GET", "/api/%6frders/4001", True),
            ("GET", "/api/orders%2f4001", True),
            ("GET", "/api/orders/a%2fb", True),
            ("GET", "/api/orders/4001/items", False),
            ("GET", "/api/orders/4001%0a", True),
            ("GET", "/api/x/..;/orders/4001", True),
            ("GET", "/;v=1/api/orders/4001", True),
            ("GET", "/api/orders", False),
            ("GET", "/other", False),
        ],
    )
    def test_conditions(self, method: str, sent: str, expected: bool) -> None:
        """
        The endpoint is found by its decoded path and by the path as it was sent.
        """
        (overlay,) = rendered(control())
        assert takes(overlay, method, sent) is expected

    def test_method_override_counts(self) -> None:
        """
        A request that only says that it is a GET is held as one.
        """
        (overlay,) = rendered(control())
        for name in ("x_http_method_override", "x_http_method", "x_method_override"):
            assert takes(overlay, "POST", "/api/orders/1", **{name: "get"})
            assert takes(overlay, "POST", "/api/orders/1", **{name: "POST, GET"})
            assert not takes(overlay, "POST", "/api/orders/1", **{name: "DELETE"})

    def test_known_neighbour_stays_open(self) -> None:
        """
        An endpoint of the inventory that the template catches is not closed with it, in its own
        methods.
        """
        (overlay,) = rendered(control(method=ANY_METHOD), known=KNOWN)
        assert takes(overlay, "GET", "/api/orders/4001")
        assert not takes(overlay, "GET", "/api/orders/export")
        assert takes(overlay, "POST", "/api/orders/export")

    @pytest.mark.parametrize(
        "theirs",
        [
            [["arg_v", "==", "2"]],
            ["OR", ["arg_v", "==", "2"], ["arg_v", "==", "3"]],
        ],
        ids=["list", "logic"],
    )
    def test_operators_conditions_hold_too(self, theirs: list[Any]) -> None:
        """
        An overlay takes no request that the operator's route would not take.
        """
        (overlay,) = rendered(control(), routes=[{**ROUTE, "vars": theirs}])
        variables = request("GET", "/api/orders/1")
        check_expression(overlay["vars"], "vars")
        assert not evaluate(overlay["vars"], variables)
        assert evaluate(overlay["vars"], {**variables, "arg_v": "2"})

    def test_routes_that_cannot_serve_it(self) -> None:
        """
        A route elsewhere, or switched off, gets no overlay; one by a parameter does.
        """
        routes = [
            {**ROUTE, "uri": "/shop/*"},
            {**ROUTE, "status": 0},
            {**ROUTE, "uri": "/api/:kind/:id"},
            {**ROUTE, "uri": "/api/orders/4001"},
        ]
        uris = {overlay["uri"] for overlay in rendered(control(), routes=routes)}
        assert uris == {"/api/:kind/:id", "/api/orders/4001"}

    def test_specific_endpoints_overlay_is_first(self) -> None:
        """
        Among the overlays of one route, that of the more specific template has the priority, and
        the operator's own order holds within one endpoint.
        """
        second = {**ROUTE, "id": "b", "priority": 9, "vars": [["arg_v", "==", "2"]]}
        other = Control(kind=ControlKind.CLOSE, method="GET", path="/api/orders/export")
        overlays = rendered(control(), other, routes=[ROUTE, second])
        order = sorted(overlays, key=lambda each: -each["priority"])
        assert [o["desc"].split()[-1] for o in order] == [
            "/api/orders/export",
            "/api/orders/export",
            ORDER,
            ORDER,
        ]
        assert ["arg_v" in json.dumps(o["vars"]) for o in order] == [True, False, True, False]
        assert min(o["priority"] for o in overlays) > 9


class TestHeld:
    def test_it_is_a_copy_of_the_operators(self) -> None:
        """
        Whatever the route does it still does, and nothing that APISIX writes is sent back.
        """
        (overlay,) = rendered(block(address("203.0.113.7")))
        assert overlay["plugins"]["key-auth"] == ROUTE["plugins"]["key-auth"]
        assert overlay["service_id"] == "orders"
        assert not {"id", "create_time", "update_time", "modifiedIndex", "status"} & set(overlay)
        assert "fault-injection" not in ROUTE["plugins"]

    def test_addresses(self) -> None:
        """
        Who is blocked, or on not every list, is refused in the words of every gateway.
        """
        held = plugins(
            block(address("203.0.113.0/24")),
            allow(address("203.0.0.0/16"), address("10.0.0.0/8")),
            allow(address("203.0.0.0/8"), address("2001:db8::/32")),
        )
        abort = held["fault-injection"]["abort"]
        assert (abort["http_status"], abort["body"]) == (403, REFUSED.body)
        check_expression(abort["vars"], "vars")
        refused = {
            ip: evaluate(abort["vars"], {"remote_addr": ip})
            for ip in ("203.0.113.7", "203.0.7.7", "10.1.1.1", "198.51.100.1")
        }
        assert refused == {
            "203.0.113.7": True,
            "203.0.7.7": False,
            "10.1.1.1": True,
            "198.51.100.1": True,
        }

    @pytest.mark.parametrize("count", [1, 2])
    def test_one_expression_in_a_list(self, count: int) -> None:
        """
        Versions of APISIX differ in how they join several, so there is one.
        """
        nets = [address(f"203.0.{n}.0/24") for n in range(2)]
        held = plugins(block(nets[0]), *[allow(nets[1])][: count - 1])
        assert len(held["fault-injection"]["abort"]["vars"]) == 1

    def test_nobody_on_all_lists(self) -> None:
        """
        Lists with nobody in common let nobody through.
        """
        for pair in (
            (allow(address("10.0.0.0/8")), allow(address("192.0.2.0/24"))),
            (allow(key("a")), allow(key("b"))),
            (allow(key("a")), block(key("a"))),
        ):
            assert "vars" not in plugins(*pair)["fault-injection"]["abort"]

    def test_keys(self) -> None:
        """
        Consumers are blocked, or let through if they are on every list and not blocked.
        """
        (restriction,) = plugins(block(key("a"), key("b"))).values()
        assert restriction["blacklist"] == ["a", "b"]
        assert restriction["rejected_code"] == 403
        assert restriction["_meta"]["error_response"]["code"] == "caller_refused"

        (restriction,) = plugins(
            allow(key("a"), key("b"), key("c")), allow(key("b"), key("c")), block(key("c"))
        ).values()
        assert restriction["whitelist"] == ["b"]
        assert "blacklist" not in restriction

    def test_throttle(self) -> None:
        """
        All callers share one count; what exceeds it gets 429 in the words of every gateway, and
        a 429 of the service's own is not marked.
        """
        held = plugins(LIMIT)
        limit, marks = held["limit-count"], held["response-rewrite"]
        assert (limit["count"], limit["time_window"], limit["key_type"]) == (5, 1, "constant")
        assert (limit["rejected_code"], limit["policy"]) == (429, "local")
        assert limit["_meta"]["error_response"] == json.loads(THROTTLED.body)
        assert marks["headers"]["set"]["x-firedoor"] == "throttled"
        assert evaluate(marks["vars"], {"status": "429"})
        assert not evaluate(marks["vars"], {"status": "429", "upstream_status": "429"})
        assert not evaluate(marks["vars"], {"status": "200", "upstream_status": "200"})

    @pytest.mark.parametrize(
        ("rate", "count", "time_window"),
        [(5.0, 5, 1), (1.5, 3, 2), (0.5, 1, 2), (1 / 3, 1, 3), (1e-5, 1, 100_000), (1e6, 10**6, 1)],
    )
    def test_windows(self, rate: float, count: int, time_window: int) -> None:
        """
        Any rate is a whole number of requests in a whole number of seconds.
        """
        assert window(rate) == {"count": count, "time_window": time_window}

    @pytest.mark.parametrize("where", ["route", "service", "plugin_config"])
    @pytest.mark.parametrize(
        ("wanted", "name"),
        [
            (LIMIT, "limit-count"),
            (block(key("a")), "consumer-restriction"),
            (block(address("203.0.113.7")), "fault-injection"),
        ],
    )
    def test_operators_plugin_is_not_put_out_of_force(
        self, where: str, wanted: Control, name: str
    ) -> None:
        """
        APISIX runs one of a plugin for a request: where there is one, nothing is done.
        """
        there = {"plugins": {name: {}}}
        route = {**ROUTE, "plugin_config_id": "c", **(there if where == "route" else {})}
        parts = {
            "services": {"orders": there if where == "service" else {}},
            "plugin_configs": {"c": there if where == "plugin_config" else {}},
        }
        with pytest.raises(ProviderRefused, match=f"`{name}` of its own"):
            rendered(wanted, routes=[route], **parts)
        assert rendered(control(), routes=[route], **parts)

    def test_operators_rewriting_goes_on(self) -> None:
        """
        Where the operator rewrites answers, ours are not marked.
        """
        service = {"plugins": {"response-rewrite": {}}}
        assert "response-rewrite" not in plugins(LIMIT, services={"orders": service})

    def test_plugin_that_is_switched_off_does_not_count(self) -> None:
        """
        A disabled plugin is none.
        """
        route = {**ROUTE, "plugins": {"limit-count": {"_meta": {"disable": True}}}}
        assert "count" in plugins(LIMIT, routes=[route])["limit-count"]

    def test_script_is_refused(self) -> None:
        """
        Beside a script no plugin runs; closing still can.
        """
        route = {k: v for k, v in ROUTE.items() if k != "plugins"} | {"script": "return {}"}
        with pytest.raises(ProviderRefused, match="script"):
            rendered(LIMIT, routes=[route])
        assert rendered(control(), routes=[route])


class TestHostile:
    @pytest.mark.parametrize(
        "text", ["(.*)", "x|y", "$", "a\\b", "^a", '"', "'", "a b", "%2e", "\\z", "<b>"]
    )
    def test_template_text_is_literal(self, text: str) -> None:
        """
        What means something in an expression means itself in a template.
        """
        hostile = Control(kind=ControlKind.CLOSE, method=ANY_METHOD, path=f"/api/{text}")
        (overlay,) = rendered(hostile)
        assert evaluate(overlay["vars"], {"uri": f"/api/{unquote(text)}", "request_uri": ""})
        assert not takes(overlay, "GET", "/api/anything")

    def test_names_stay_values(self) -> None:
        """
        A consumer's name is one element of a list, whatever is in it.
        """
        name = 'a", "b"], ["remote_addr", "=='
        (restriction,) = plugins(block(key(name))).values()
        assert restriction["blacklist"] == [name]

    def test_long_description_is_cut(self) -> None:
        """
        APISIX takes descriptions of up to 256 characters.
        """
        long = Control(kind=ControlKind.CLOSE, method="GET", path="/api/" + "x" * 500)
        (overlay,) = rendered(long)
        assert len(overlay["desc"]) == 256


def test_marker_matches_no_request() -> None:
    """
    What carries the version is switched off, and would answer as closed if it were not.
    """
    body = marker_body({"firedoor-version": "0123456789ab"})
    assert body["status"] == 0
    assert body["plugins"]["fault-injection"]["abort"]["http_status"] == 503
