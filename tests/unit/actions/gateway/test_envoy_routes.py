"""Rendering: the operator's routes and a set of controls make Envoy's routes."""

from __future__ import annotations

import copy
import json
import random
import re
import string
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.gateway.adapters.envoy.routes import (
    BLOCK_FILTER,
    LIMIT_FILTER,
    render,
    version_of,
)
from actions.gateway.templates import path_regexes
from bot.errors import BadInput
from bot.model.containment import Control, ControlKind, subject

ORDER = "/api/orders/{order_id}"
ODD = "firedoor odd paths"
TO_ORDERS = {"cluster": "orders", "prefix_rewrite": "/v2/", "timeout": "15s"}
BASE = {
    "name": "edge",
    "virtual_hosts": [
        {
            "name": "public",
            "domains": ["*"],
            "routes": [
                {"name": "api", "match": {"prefix": "/api/"}, "route": TO_ORDERS},
                {"name": "health", "match": {"path": "/health"}, "route": {"cluster": "orders"}},
            ],
        }
    ],
}


def close(path: str = ORDER, method: str = "GET") -> Control:
    return Control(kind=ControlKind.CLOSE, method=method, path=path)


def throttle(rate_per_s: float = 1.0, path: str = ORDER) -> Control:
    return Control(kind=ControlKind.THROTTLE, method="GET", path=path, rate_per_s=rate_per_s)


def block(principal: str = "mallory", path: str = ORDER) -> Control:
    return Control(
        kind=ControlKind.BLOCK, method="GET", path=path, principals=(subject(principal),)
    )


def added(*controls: Control, base: dict[str, Any] = BASE, known: tuple[str, ...] = ()) -> Any:
    """Return the routes for endpoints in front of the base's, of the only virtual host."""
    host = render(base, controls, known)["virtual_hosts"][0]
    own = base["virtual_hosts"][0]["routes"]
    assert host["routes"][len(host["routes"]) - len(own) :] == own
    front = host["routes"][: len(host["routes"]) - len(own)]
    return [route for route in front if route["name"] != ODD]


def regexes(route: dict[str, Any], header: str) -> list[str]:
    return [
        h["string_match"]["safe_regex"]["regex"]
        for h in route["match"]["headers"]
        if h["name"] == header
    ]


def matches(template: str, path: str) -> bool:
    return all(re.fullmatch(regex, path) for regex in path_regexes(template))


class TestRender:
    def test_no_control_is_the_base_itself(self) -> None:
        """
        Without controls the operator's routes are served, not an equivalent of them.
        """
        assert render(BASE, []) == BASE

    def test_base_is_not_changed(self) -> None:
        """
        Rendering leaves its arguments alone.
        """
        before = copy.deepcopy(BASE)

        render(BASE, [close(), throttle(), block()])

        assert before == BASE

    def test_closed_endpoint_answers_by_itself(self) -> None:
        """
        A closed endpoint needs no upstream: a route of its own answers 503.
        """
        route = added(close())[0]

        assert route["name"] == "firedoor close GET /api/orders/{order_id}"
        assert route["direct_response"]["status"] == 503
        body = json.loads(route["direct_response"]["body"]["inline_string"])
        assert body["code"] == "endpoint_closed"
        headers = {
            h["header"]["key"]: h["header"]["value"] for h in route["response_headers_to_add"]
        }
        assert headers["retry-after"] == str(body["retry_after_s"])
        assert headers["x-firedoor"] == "closed"
        assert "route" not in route

    def test_head_is_closed_with_get_and_overrides_with_both(self) -> None:
        """
        HEAD tells what GET would; a method override makes a GET of a POST.
        """
        routes = added(close())

        assert regexes(routes[0], ":method") == ["GET|HEAD"]
        names = [route["match"]["headers"][0]["name"] for route in routes[1:]]
        assert names == ["x-http-method-override", "x-http-method", "x-method-override"]
        assert regexes(added(close(method="POST"))[0], ":method") == ["POST"]

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("GET", True),
            ("get", True),
            ("POST, GET", True),
            ("GET,GET", True),
            ('"head"', True),
            ("POST", False),
            ("TARGET", False),
            ("", False),
        ],
    )
    def test_override_is_closed_wherever_it_names_the_method(
        self, value: str, expected: bool
    ) -> None:
        """
        Envoy joins several headers of one name by commas, and services take any of them.
        """
        (regex,) = regexes(added(close())[1], "x-http-method-override")

        assert bool(re.fullmatch(regex, value)) is expected

    @pytest.mark.parametrize("control", [close(), throttle(), block()])
    def test_odd_paths_are_closed_before_all_else(self, control: Control) -> None:
        """
        A service that drops path parameters before it walks reads them as any other path.
        """
        first = render(BASE, [control], ["GET /api/orders/export"])["virtual_hosts"][0]["routes"][0]

        (regex,) = regexes(first, ":path")
        assert first["direct_response"]["status"] == 503
        for odd in ("/api/x/..;/orders/4001", "/;v=1/a", "/a/.;?b", "/a/%3bv/b", "/a/..%3B/b?c"):
            assert re.fullmatch(regex, odd)
        for plain in ("/api/orders;v=1/4001;w", "/a?x=/;y", "/a/...;b/c", "/a/b;/c"):
            assert not re.fullmatch(regex, plain)

    def test_a_shadow_closes_nothing(self) -> None:
        """
        It only counts; odd paths go on as before.
        """
        shadow = Control(kind=ControlKind.SHADOW, method="GET", path=ORDER, would=ControlKind.CLOSE)
        routes = render(BASE, [shadow])["virtual_hosts"][0]["routes"]

        assert ODD not in [route.get("name") for route in routes]

    def test_throttled_route_keeps_what_the_operator_set(self) -> None:
        """
        A throttled endpoint goes to the same cluster, with the same rewrite and timeout.
        """
        (route,) = added(throttle())

        assert route["route"] == TO_ORDERS
        assert route["match"]["prefix"] == "/api/"
        assert route["name"] == "firedoor throttle GET /api/orders/{order_id} (api)"
        assert list(route["typed_per_filter_config"]) == [LIMIT_FILTER]

    @pytest.mark.parametrize(
        ("rate_per_s", "tokens", "interval"),
        [
            pytest.param(1.0, 1, "1.000000s", id="one-a-second"),
            pytest.param(0.5, 1, "2.000000s", id="thirty-a-minute"),
            pytest.param(1.5, 2, "1.333333s", id="a-fraction"),
            pytest.param(250.0, 250, "1.000000s", id="many"),
        ],
    )
    def test_tokens_fill_at_the_rate(self, rate_per_s: float, tokens: int, interval: str) -> None:
        """
        Whole tokens, at least one, filled so that the average is the rate.
        """
        (route,) = added(throttle(rate_per_s))

        limit = route["typed_per_filter_config"][LIMIT_FILTER]
        assert limit["token_bucket"] == {
            "max_tokens": tokens,
            "tokens_per_fill": tokens,
            "fill_interval": interval,
        }

    def test_blocked_subjects_are_one_rule(self) -> None:
        """
        All blocked principals of an endpoint are in one route, each by its exact subject.
        """
        route, *meant = added(block("b"), block("a"), block("b"))

        policy = route["typed_per_filter_config"][BLOCK_FILTER]["rbac"]["rules"]
        principals = policy["policies"]["firedoor"]["principals"]
        exact = [
            p["sourced_metadata"]["metadata_matcher"]["value"]["string_match"]["exact"]
            for p in principals
        ]
        assert (policy["action"], exact) == ("DENY", ["a", "b"])
        names = [each["match"]["headers"][0]["name"] for each in meant]
        assert names == ["x-http-method-override", "x-http-method", "x-method-override"]
        assert all(each["typed_per_filter_config"].keys() == {BLOCK_FILTER} for each in meant)

    def test_override_opens_no_closed_method(self) -> None:
        """
        A POST that says it is a blocked GET is a POST first.
        """
        post = Control(kind=ControlKind.CLOSE, method="POST", path="/api/{any}/{order_id}")

        names = [route["name"] for route in added(block(), post)]

        meant = "firedoor block GET /api/orders/{order_id} (api)"
        assert names.index("firedoor close POST /api/{any}/{order_id}") < len(names) - 3
        assert names[-3:] == [meant] * 3

    def test_closing_beats_and_the_lowest_rate_wins(self) -> None:
        """
        On one endpoint the strictest holds, whoever asked for it.
        """
        assert added(throttle(), close(), block()) == added(close())
        assert added(throttle(5.0), throttle(0.5)) == added(throttle(0.5))
        both = added(throttle(), block())[0]["typed_per_filter_config"]
        assert set(both) == {LIMIT_FILTER, BLOCK_FILTER}

    def test_every_virtual_host_is_closed(self) -> None:
        """
        Another host name is no way around.
        """
        other = {**BASE["virtual_hosts"][0], "name": "partner", "domains": ["partner.example"]}
        base = {**BASE, "virtual_hosts": [*BASE["virtual_hosts"], other]}

        hosts = render(base, [close()])["virtual_hosts"]

        assert [host["routes"][0]["direct_response"]["status"] for host in hosts] == [503, 503]

    def test_routes_that_cannot_serve_the_endpoint_are_not_copied(self) -> None:
        """
        Only routes that may serve the endpoint are copied; in doubt they are.
        """
        routes = [
            {"match": {"prefix": "/"}, "route": {"cluster": "a"}},
            {"match": {"prefix": "/api/orders/vip"}, "route": {"cluster": "b"}},
            {"match": {"safe_regex": {"regex": ".*"}}, "route": {"cluster": "c"}},
            {"match": {"path": "/api/orders"}, "route": {"cluster": "d"}},
            {"match": {"prefix": "/API/", "case_sensitive": False}, "route": {"cluster": "e"}},
            {"match": {"prefix": "/shop"}, "route": {"cluster": "f"}},
        ]
        base = {
            "name": "edge",
            "virtual_hosts": [{"name": "a", "domains": ["*"], "routes": routes}],
        }

        clusters = [route["route"]["cluster"] for route in added(throttle(), base=base)]

        assert set("abce") <= set(clusters)
        assert "f" not in clusters

    def test_own_settings_of_a_route_are_kept(self) -> None:
        """
        What the operator set for other filters, or asks of headers, holds on the copy too.
        """
        route = {
            "match": {"prefix": "/api/", "headers": [{"name": "x-tenant", "present_match": True}]},
            "route": {"cluster": "orders"},
            "typed_per_filter_config": {"envoy.filters.http.cors": {"@type": "…"}},
        }
        base = {
            "name": "edge",
            "virtual_hosts": [{"name": "a", "domains": ["*"], "routes": [route]}],
        }

        (copied,) = added(throttle(), base=base)

        assert set(copied["typed_per_filter_config"]) == {"envoy.filters.http.cors", LIMIT_FILTER}
        assert copied["match"]["headers"][0]["name"] == "x-tenant"

    def test_more_specific_known_endpoint_passes(self) -> None:
        """
        A known endpoint that a closed template would match gets its way in front of it.
        """
        known = (
            "GET /api/orders/export",
            "POST /api/orders/export",
            "GET /api/orders",
            "GET /x/{y}",
        )

        routes = added(close(), known=known)

        assert routes[0]["name"] == "firedoor pass GET /api/orders/export (api)"
        assert routes[0]["route"] == TO_ORDERS
        assert "typed_per_filter_config" not in routes[0]
        assert len(routes) == 1 + len(added(close()))

    def test_more_specific_control_is_in_front(self) -> None:
        """
        Where two contained templates overlap, the more specific one decides.
        """
        names = [route["name"] for route in added(close(), throttle(path="/api/orders/export"))]

        assert names[0].startswith("firedoor throttle GET /api/orders/export")

    def test_matcher_hosts_are_refused(self) -> None:
        """
        Routes in a form that nothing can be put in front of are no place for a control.
        """
        base = {"name": "edge", "virtual_hosts": [{"name": "a", "domains": ["*"], "matcher": {}}]}

        with pytest.raises(BadInput, match="matcher"):
            render(base, [close()])

    @pytest.mark.parametrize(
        "control",
        [
            pytest.param(throttle().model_copy(update={"rate_per_s": None}), id="no-rate"),
            pytest.param(throttle(1e7), id="huge-rate"),
            pytest.param(block().model_copy(update={"principals": ()}), id="no-principal"),
        ],
    )
    def test_control_that_would_do_nothing_is_refused(self, control: Control) -> None:
        """
        A control without what makes it one is not rendered to something harmless.
        """
        with pytest.raises(BadInput, match="nothing was done"):
            render(BASE, [control])


NAMING = (ControlKind.BLOCK, ControlKind.ALLOW_ONLY)

controls = st.builds(
    lambda kind, path, rate, principal: Control(
        kind=kind,
        method="GET",
        path=path,
        rate_per_s=rate if kind is ControlKind.THROTTLE else None,
        principals=(subject(principal),) if kind in NAMING else (),
        would=ControlKind.CLOSE if kind is ControlKind.SHADOW else None,
    ),
    st.sampled_from(ControlKind),
    st.sampled_from([ORDER, "/api/orders", "/api/customers/me", "/health", "/api/{a}/{b}"]),
    st.sampled_from([0.5, 1.0, 20.0]),
    st.sampled_from(["a", "b", 'q"\\']),
)


class TestVersion:
    @given(st.lists(controls, max_size=8), st.randoms())
    def test_order_and_repetition_are_irrelevant(
        self, held: list[Control], randomness: random.Random
    ) -> None:
        """
        A set of controls has one version, in whatever order it came about.
        """
        shuffled = [*held, *held[:2]]
        randomness.shuffle(shuffled)

        assert version_of(render(BASE, shuffled)) == version_of(render(BASE, held))

    @given(st.lists(controls, min_size=1, max_size=6, unique=True), st.randoms())
    def test_lifting_in_any_order_passes_the_same_versions(
        self, held: list[Control], randomness: random.Random
    ) -> None:
        """
        What is left decides, not how it got there; when all is lifted it is the base again.
        """
        left = list(held)
        randomness.shuffle(left)
        while left:
            left.pop()
            same = [control for control in held if control in left]
            assert render(BASE, left) == render(BASE, same)
        assert version_of(render(BASE, left)) == version_of(BASE)

    def test_version_tells_sets_apart(self) -> None:
        """
        Different sets, different versions.
        """
        sets = [
            [],
            [close()],
            [throttle()],
            [throttle(2.0)],
            [block()],
            [block("x")],
            [close("/x")],
        ]

        assert len({version_of(render(BASE, held)) for held in sets}) == len(sets)


# What a path's literal text may hold once it is on the wire: never a slash, a brace of a parameter
# or a half escape.
literal_text = st.text(
    st.characters(codec="utf-8", exclude_characters="/{}%", exclude_categories=["Cs"]),
    min_size=1,
    max_size=12,
)


class TestPathRegexes:
    @given(literal_text, literal_text)
    def test_literal_text_matches_itself_and_nothing_else(self, text: str, other: str) -> None:
        """
        Whatever characters an inventory's paths have, they stand for themselves.
        """
        template = f"/api/{text}/{{id}}"

        assert matches(template, f"/api/{quote(text, safe='')}/1")
        same = other == text or other.partition(";")[0] == text
        assert matches(template, f"/api/{quote(other, safe=';')}/1") == same

    @given(st.text(string.printable.replace("/", ""), min_size=1, max_size=20))
    def test_every_template_makes_valid_expressions(self, text: str) -> None:
        """
        No path of an inventory makes an expression that cannot be compiled.
        """
        for regex in path_regexes(f"/api/{text}"):
            re.compile(regex)

    @pytest.mark.parametrize(
        "path",
        [
            "/api/orders/1",
            "/api/orders/1/",
            "/api/orders/1?x=/2",
            "/api/orders/1;v=1",
            "/api;a/orders;b/1",
            "/api/orders/%31",
            "/api/orders/a%2fb",
        ],
    )
    def test_spellings_of_one_endpoint(self, path: str) -> None:
        """
        A template matches all spellings that normalising leaves.
        """
        assert matches(ORDER, path)

    @pytest.mark.parametrize(
        "path",
        [
            "/api/orders",
            "/api/orders/",
            "/api/orders/1/invoice",
            "/api/orders?x=/1",
            "/api/ordersx/1",
            "/xapi/orders/1",
            "/API/orders/1",
            "/api/orders/1//",
        ],
    )
    def test_neighbours_are_not_matched(self, path: str) -> None:
        """
        A template matches no other endpoint, whatever a query says.
        """
        assert not matches(ORDER, path)

    @pytest.mark.parametrize(
        ("template", "path", "expected"),
        [
            pytest.param("/", "/", True, id="root"),
            pytest.param("/", "/x", False, id="not-all-under-the-root"),
            pytest.param("/a/", "/a", True, id="slash-of-the-template"),
            pytest.param("/f/{name}.json", "/f/a.b.json", True, id="part-of-a-segment"),
            pytest.param("/f/{name}.json", "/f/axjson", False, id="dot-is-a-dot"),
            pytest.param("/{a}-{b}/c", "/1-2/c", True, id="two-in-a-segment"),
            pytest.param("/a:b", "/a%3ab", True, id="encoded-colon"),
            pytest.param("/é", "/%C3%A9", True, id="not-ascii"),
            pytest.param("/é", "/%c3%a9", True, id="not-ascii-in-lower-case"),
            pytest.param("/a%20b", "/a%20b", True, id="encoded-in-the-template"),
        ],
    )
    def test_unusual_templates(self, template: str, path: str, expected: bool) -> None:
        """
        Templates as OpenAPI documents have them.
        """
        assert matches(template, path) is expected

    @given(
        st.lists(st.sampled_from(["customers", "{id}", "v1", "history-of-payments"]), max_size=20)
    )
    def test_split_expressions_mean_the_same(self, segments: list[str]) -> None:
        """
        A long template, in several expressions, matches its own paths and no shorter or longer one.
        """
        template = "/" + "/".join(segments)
        path = template.replace("{id}", "7")

        assert matches(template, path)
        assert not matches(template, path.rstrip("/") + "/more")
        if segments:
            assert not matches(template, path.rpartition("/")[0] + "?/x")
