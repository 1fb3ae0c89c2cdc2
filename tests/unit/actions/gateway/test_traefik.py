"""Rendering: what operators route and a set of controls make Firedoor's file for Traefik."""

from __future__ import annotations

import copy
import ipaddress
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from actions.gateway.adapters.traefik import TraefikGateway, document, parts
from actions.gateway.adapters.traefik.callers import Settings
from actions.gateway.adapters.traefik.matchers import (
    NOBODY,
    networks,
    others_than,
    path_regex,
    quoted,
)
from actions.gateway.adapters.traefik.operators import (
    Listener,
    Operators,
    Route,
    may_serve,
    operators_of,
)
from actions.gateway.adapters.traefik.render import FIRST_PRIORITY, render
from bot.errors import BadInput
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind, subject

ORDER = "/api/orders/{order_id}"
EXPORT = "GET /api/orders/export"
WEB, SECURE, PRIVATE = Listener("web", False), Listener("secure", True), Listener("api", False)
SETTINGS = Settings(
    responder_url="http://127.0.0.1:8085",
    identity="auth@file",
    claim_headers={"sub": "X-Auth-Sub"},
    own_paths=("/api/rawdata",),
)
AUTH = {"forwardAuth": {"address": "http://auth", "authResponseHeaders": ["x-auth-sub"]}}

ROUTER = {"status": "enabled", "priority": 19, "rule": "PathPrefix(`/api/`)"}
RAWDATA = {
    "routers": {
        "orders@docker": {
            **ROUTER,
            "entryPoints": ["web"],
            "service": "orders",
            "middlewares": ["every@file", "auth@file"],
        },
        "shop@file": {**ROUTER, "entryPoints": ["secure"], "tls": {}, "middlewares": ["both@file"]},
        "shop-all@file": {**ROUTER, "parentRefs": ["shop@file"], "service": "orders@docker"},
        "broken@file": {**ROUTER, "status": "disabled", "service": "nowhere"},
        "private@file": {**ROUTER, "entryPoints": ["api"], "service": "api@internal"},
        "ping@internal": {**ROUTER, "entryPoints": ["api"], "service": "ping@internal"},
        "firedoor-x@file": {**ROUTER, "entryPoints": ["web"], "service": "noop@internal"},
    },
    "middlewares": {
        "auth@file": AUTH,
        "both@file": {"chain": {"middlewares": ["other", "auth"]}},
        "every@file": {"headers": {}},
    },
}
ENTRY_POINTS = [
    {"name": "web", "address": ":80", "http": {"middlewares": ["every@file"]}},
    {"name": "secure", "address": ":443", "http": {"tls": {}}},
    {"name": "api", "address": "127.0.0.1:8082", "http": {}},
    {"name": "dns", "address": ":53/udp", "http": {}},
]
OPERATORS = operators_of(RAWDATA, ENTRY_POINTS)


def control(kind: ControlKind = ControlKind.CLOSE, **more: Any) -> Control:
    return Control(**{"kind": kind, "method": "GET", "path": ORDER, **more})


def address(value: str) -> Principal:
    return Principal(kind=PrincipalKind.IP, value=value)


def rendered(
    *controls: Control,
    known: tuple[str, ...] = (),
    operators: Operators = OPERATORS,
    settings: Settings = SETTINGS,
) -> dict[str, Any]:
    return render(controls, known, operators, settings)


def routers(*controls: Control, **more: Any) -> dict[str, dict[str, Any]]:
    """Return those for endpoints."""
    found: dict[str, dict[str, Any]] = rendered(*controls, **more)["routers"]
    odd = parts.name_of("* /;")
    return {name: router for name, router in found.items() if not name.startswith(odd)}


def ending(found: dict[str, dict[str, Any]], end: str) -> dict[str, Any]:
    (one,) = (router for name, router in found.items() if name.endswith(end))
    return one


class TestPath:
    @pytest.mark.parametrize(
        "path",
        [
            pytest.param("/api/orders/4001", id="plain"),
            pytest.param("/api/orders/4001/", id="slash-behind"),
            pytest.param("/api%2Forders/4001", id="encoded-slash"),
            pytest.param("/api/orders\\4001", id="backslash"),
            pytest.param("/api/orders;v=1/4001", id="path-parameter"),
            pytest.param("/api/orders%3Bv=1/4001;w", id="encoded-path-parameter"),
            pytest.param("/api/orders/4001%3Fx/y", id="encoded-question-mark"),
            pytest.param("/api/orders/4001\x00x/y", id="null"),
            pytest.param("/api/orders/a%2Fb", id="slash-in-the-id"),
        ],
    )
    def test_every_spelling_is_the_endpoint(self, path: str) -> None:
        """
        What a service behind Traefik may take for the endpoint's path matches.
        """
        assert re.match(path_regex(ORDER), path)

    @pytest.mark.parametrize(
        "path", ["/api/orders", "/api/orders/", "/api/orders/1/items", "/v2/api/orders/1"]
    )
    def test_neighbours_are_not(self, path: str) -> None:
        """
        Neither what is shorter nor what is longer matches.
        """
        assert not re.match(path_regex(ORDER), path)

    @given(
        literal=st.text(
            st.characters(exclude_characters="/{}%", exclude_categories=["Cs"]), min_size=1
        )
    )
    def test_literal_text_matches_as_traefik_sees_it(self, literal: str) -> None:
        """
        Reserved characters arrive as they were sent, all others decoded (RFC 3986, 2.2).
        """
        template = f"/{quote(literal, safe='')}/{{id}}"
        reserved = ":/?#[]@!$&'()*+,;=%"
        kept = "".join(quote(c, safe="") if c in reserved else c for c in literal)

        assert re.match(path_regex(template), f"/{kept}/1")
        assert re.match(path_regex(template), f"/{literal}/1")

    def test_root(self) -> None:
        """
        The root is a template without segments.
        """
        assert re.match(path_regex("/"), "/")
        assert not re.match(path_regex("/"), "/x")

    @pytest.mark.parametrize(
        ("text", "expected"),
        [("/a", "`/a`"), ("a`b", '"a`b"'), ("a\rb", '"a\\rb"'), ('a"b\\', '`a"b\\`')],
    )
    def test_quoted_as_go_reads_it(self, text: str, expected: str) -> None:
        """
        Nothing in a text ends its quotes.
        """
        assert quoted(text) == expected


class TestNetworks:
    @given(
        blocked=st.lists(
            st.one_of(
                st.ip_addresses(v=4, network="10.0.0.0/29").map(lambda a: f"{a}/30"),
                st.ip_addresses(v=6, network="2001:db8::/126").map(lambda a: f"{a}/127"),
            ),
            min_size=1,
            max_size=4,
        ),
        at=st.integers(0, 15),
    )
    def test_others_are_all_but_the_blocked(self, blocked: list[str], at: int) -> None:
        """
        An address is in what is left if, and only if, it is in no blocked network.
        """
        given_networks = networks(map(address, blocked))
        left = [ipaddress.ip_network(each) for each in others_than(given_networks)]
        for start in ("10.0.0.0", "2001:db8::"):
            one = ipaddress.ip_address(start) + at
            is_out = any(one in ipaddress.ip_network(each) for each in given_networks)
            assert any(one in each for each in left) is not is_out

    def test_nobody_is_left(self) -> None:
        """
        Traefik refuses an empty list, so one that nobody is in stands for it.
        """
        assert others_than(["0.0.0.0/0", "::/0"]) == [NOBODY]

    def test_address_in_the_form_of_the_other_family(self) -> None:
        """
        To Traefik ``::ffff:192.0.2.1`` is ``192.0.2.1``.
        """
        assert networks([address("::ffff:192.0.2.0/120")]) == ["192.0.2.0/24"]


class TestOperators:
    def test_routes_that_are_in_force_and_theirs(self) -> None:
        """
        What is broken serves nothing; what is Traefik's own or Firedoor's is not the operators',
        and customers do not come by the API's entry point.
        """
        assert [route.name for route in OPERATORS.routes] == [
            "orders@docker",
            "shop-all@file",
            "shop@file",
        ]

    def test_middlewares_of_the_entry_point_are_not_a_routes_own(self) -> None:
        """
        Traefik puts them before every router on it, Firedoor's too: a copy of them would run
        twice.
        """
        orders = next(r for r in OPERATORS.routes if r.name == "orders@docker")
        assert orders.middlewares == ("auth@file",)
        assert orders.service == "orders@docker"

    def test_listeners_are_where_customers_come_in(self) -> None:
        """
        The API's own entry point is none of them; those with TLS take no others.
        """
        assert OPERATORS.listeners == (SECURE, WEB)
        assert OPERATORS.api_listeners == (PRIVATE,)

    def test_entry_point_counts_before_a_router_uses_it(self) -> None:
        """
        Right after its start Traefik does not report all routers yet.
        """
        assert operators_of({"routers": {}}, ENTRY_POINTS).listeners == (
            PRIVATE,
            SECURE,
            WEB,
        )

    def test_who_passes_a_middleware(self) -> None:
        """
        Through a chain, through what is above, and through the entry point's own.
        """
        by_name = {route.name: route for route in OPERATORS.routes}
        assert OPERATORS.passes(by_name["orders@docker"], "auth@file")
        assert OPERATORS.passes(by_name["shop-all@file"], "auth@file")
        assert OPERATORS.passes(by_name["orders@docker"], "every@file")
        assert not OPERATORS.passes(by_name["shop-all@file"], "every@file")
        assert not OPERATORS.passes(by_name["orders@docker"], "other@file")

    @pytest.mark.parametrize(
        ("rule", "expected"),
        [
            ("PathPrefix(`/api/`)", True),
            ("PathPrefix(`/api/orders/4`)", True),
            ("Host(`a`) && Path(`/health`)", False),
            ("Host(`a`) || Path(`/health`)", True),
            ("!Path(`/health`)", True),
            ("Host(`a`)", True),
        ],
    )
    def test_what_may_serve(self, rule: str, expected: bool) -> None:
        """
        Only what surely cannot is left out.
        """
        assert may_serve(Route("x@file", rule, 1), ORDER) is expected

    def test_old_syntax_may_serve_anything(self) -> None:
        """
        There ``PathPrefix`` takes several paths.
        """
        assert may_serve(Route("x@file", "PathPrefix(`/x`)", 1, "v2"), ORDER)


class TestClose:
    def test_closed_in_front_of_everything(self) -> None:
        """
        On each listener one router answers, and one without an answer is behind it.
        """
        found = routers(control())

        assert len(found) == 4
        closed = ending(found, "closed-web")
        bare = ending(found, "closed-web-bare")
        assert closed["priority"] == FIRST_PRIORITY == bare["priority"] + 1
        assert closed["rule"] == bare["rule"]
        assert closed["service"] == "noop@internal"
        assert "middlewares" not in bare
        assert sorted(json.dumps(r.get("tls")) for r in found.values()) == ["null"] * 2 + ["{}"] * 2

    def test_odd_paths_are_closed_before_all_else(self) -> None:
        """
        A service that drops path parameters before it walks reads them as any other path.
        """
        found = rendered(control(ControlKind.THROTTLE, rate_per_s=1.0), known=(EXPORT,))["routers"]

        first = max(found.values(), key=lambda router: router["priority"])
        assert first["service"] == "noop@internal"
        assert first["middlewares"] == list(parts.CLOSED_BY)
        assert first["rule"] == "PathRegexp(`/\\.{0,2}(?:;|%3[Bb])`)"

    def test_override_of_a_method_is_closed_too(self) -> None:
        """
        A POST that asks to be taken for a GET is a GET to some services; HEAD goes with GET.
        """
        rule = ending(routers(control()), "closed-web")["rule"]

        assert rule.startswith("(Method(`GET`) || Method(`HEAD`) || HeaderRegexp(`x-http-method-")
        assert "HeaderRegexp" not in ending(routers(control(method="*")), "closed-web")["rule"]

    def test_more_specific_endpoint_is_left_out(self) -> None:
        """
        A known endpoint that the template matches, too, stays with the operators' routers, in its
        plain spelling.
        """
        rule = ending(routers(control(), known=(EXPORT,)), "closed-web")["rule"]

        _, _, but = rule.partition(" && !(")
        assert but.startswith("(Method(`GET`) || Method(`HEAD`)) && PathRegexp(`^/api")
        assert "%2[Ff]" not in but

    def test_responder_gets_no_header_of_the_request(self) -> None:
        """
        Else it would get the callers' tokens.
        """
        answer = rendered(control())["middlewares"]["firedoor-answer-closed"]["errors"]

        assert answer["errorRequestHeaders"] == ["Accept"]
        assert answer["statusRewrites"] == {"418": 503}


class TestHold:
    def test_operators_routers_are_copied_below(self) -> None:
        """
        Rule, priority and middlewares of each are the operator's; services too, where nothing
        stands between.
        """
        found = routers(control(ControlKind.BLOCK, principals=(address("192.0.2.1"),)))

        at = ending(found, "at-web")
        assert (at["entryPoints"], at["priority"]) == (["web"], FIRST_PRIORITY)
        assert at["middlewares"][0] == "firedoor-answer-outside"
        meant = ending(found, "meant-web")
        assert meant["middlewares"] == at["middlewares"]
        assert meant["priority"] < at["priority"]
        above = [name for name in found if name.endswith(("at-web", "meant-web"))]
        copied = next(r for r in found.values() if r.get("parentRefs") == above)
        assert copied == {
            "parentRefs": above,
            "rule": "PathPrefix(`/api/`)",
            "priority": 19,
            "middlewares": ["auth@file"],
            "service": "orders@docker",
        }

    def test_one_limit_for_all_ways_to_a_service(self) -> None:
        """
        Each router has a bucket of its own, so there is one router for all of them.
        """
        found = routers(control(ControlKind.THROTTLE, rate_per_s=1.5))

        (limit,) = (
            router for router in found.values() if "limit" in str(router.get("middlewares"))
        )
        assert len(limit["parentRefs"]) == 2

    @pytest.mark.parametrize(
        ("rate_per_s", "average", "period"),
        [
            pytest.param(1.0, 1, "1.000000s", id="one-a-second"),
            pytest.param(0.5, 1, "2.000000s", id="thirty-a-minute"),
            pytest.param(1.5, 2, "1.333333s", id="a-fraction"),
            pytest.param(250.0, 250, "1.000000s", id="many"),
        ],
    )
    def test_rate(self, rate_per_s: float, average: int, period: str) -> None:
        """
        Whole tokens, filled so that the average is the rate.
        """
        made = rendered(control(ControlKind.THROTTLE, rate_per_s=rate_per_s))["middlewares"]

        (limit,) = (each["rateLimit"] for each in made.values() if "rateLimit" in each)
        assert (limit["average"], limit["period"], limit["burst"]) == (average, period, average)
        assert limit["sourceCriterion"] == {"requestHeaderName": "X-Firedoor-Bucket"}

    def test_unknown_callers_are_nobody(self) -> None:
        """
        Where the middleware that knows callers is not passed, nobody is on a list of subjects.
        """
        operators = Operators(
            routes=(Route("open@file", "PathPrefix(`/`)", 1, service="x@file", listeners=(WEB,)),),
            listeners=(WEB,),
            middlewares={"auth@file": AUTH},
        )
        only = control(ControlKind.ALLOW_ONLY, principals=(subject("c-owner"),))
        blocked = control(ControlKind.BLOCK, principals=(subject("c-owner"),))

        refused = ending(routers(only, operators=operators), "-refused")
        assert refused["rule"] == "PathPrefix(`/`)"
        assert not [n for n in routers(blocked, operators=operators) if n.endswith("-refused")]

    def test_refused_before_limited_before_served(self) -> None:
        """
        Whom a control refuses uses up nothing of the limit.
        """
        found = routers(
            control(ControlKind.BLOCK, principals=(subject("c-mallory"),)),
            control(ControlKind.THROTTLE, rate_per_s=1.0),
        )

        refused, limited = ending(found, "known-refused"), ending(found, "known-limit")
        assert refused["parentRefs"] == limited["parentRefs"]
        assert refused["priority"] > limited["priority"]
        assert refused["rule"] == "Header(`X-Auth-Sub`, `c-mallory`)"
        assert ending(found, "known")["service"] == "orders@docker"

    def test_shadows_make_one_router_for_each_combination(self) -> None:
        """
        Traefik counts a request for one router only.
        """
        shadows = [
            control(
                ControlKind.SHADOW, would=ControlKind.BLOCK, principals=(address(f"192.0.2.{n}"),)
            )
            for n in range(5)
        ]

        assert len([n for n in routers(*shadows[:2]) if "-shadow-" in n]) == 3
        with pytest.raises(BadInput, match="at most 4"):
            rendered(*shadows)

    def test_arguments_are_left_alone(self) -> None:
        """
        What was read from Traefik is used again.
        """
        before = copy.deepcopy(OPERATORS)

        rendered(control(ControlKind.THROTTLE, rate_per_s=1.0))

        assert before == OPERATORS


class TestRefused:
    def test_router_that_would_stand_before_firedoors(self) -> None:
        """
        A closed endpoint that an operator's router serves all the same is not closed.
        """
        high = Route("high@file", "PathPrefix(`/`)", FIRST_PRIORITY, listeners=(WEB,))

        with pytest.raises(BadInput, match="high@file has priority"):
            rendered(control(), operators=Operators((high,), (WEB,)))

    def test_header_that_callers_could_write(self) -> None:
        """
        A middleware that does not set the header does not take it off either.
        """
        settings = Settings("http://x", None, "auth@file", {"sub": "X-Other"})

        with pytest.raises(BadInput, match="callers could write it"):
            rendered(
                control(ControlKind.BLOCK, principals=(subject("c-mallory"),)), settings=settings
            )

    def test_middleware_that_is_not_there(self) -> None:
        """
        A slip in the settings must not make everybody unknown.
        """
        settings = Settings("http://x", None, "gone@file", {"sub": "X-Auth-Sub"})

        with pytest.raises(BadInput, match="no middleware 'gone@file'"):
            rendered(
                control(ControlKind.BLOCK, principals=(subject("c-mallory"),)), settings=settings
            )


class TestDocument:
    def test_traefik_reads_what_was_meant(self) -> None:
        """
        The file is a Go template and YAML: neither may take a text for more than a text.
        """
        text = "{{ env `HOME` }} {{{ \x7f\u0085\u2028\ufeff\U0001f600 \\u007b"
        made = document.document({"routers": {"x": {"rule": text}}}, [text])

        assert b"{{" not in made.text
        assert yaml.safe_load(made.text)["http"]["routers"]["x"]["rule"] == text
        assert document.read(made.text) == made

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda text: text.replace(b"503", b"200"), id="another-answer"),
            pytest.param(lambda text: text + b"\n", id="a-line"),
            pytest.param(lambda text: text.replace(b"close GET", b"close PUT"), id="words"),
            pytest.param(lambda _: b"", id="empty"),
            pytest.param(lambda _: b"http: {}", id="yaml"),
            pytest.param(lambda _: b"[1]", id="a-list"),
        ],
    )
    def test_edit_is_seen(self, change: Any) -> None:
        """
        A file is Firedoor's only if its version is that of its content.
        """
        made = document.document(rendered(control()), ["close GET"])
        assert document.read(made.text) == made

        assert document.read(change(made.text)) is None

    def test_faults(self) -> None:
        """
        Each object must be there, in force, and as it was written; and no other of Firedoor's.
        """
        made = document.document(
            {"routers": {"firedoor-a": {"rule": "R", "service": "s", "priority": 7}}}, ()
        )
        good = {"rule": "R", "service": "s@file", "priority": 7, "status": "enabled"}

        def faults(**found: Any) -> list[str]:
            named = {f"firedoor-{name}@file": router for name, router in found.items()}
            return made.faults({"routers": named})

        assert faults(a=good) == []
        assert faults() == ["firedoor-a@file is missing"]
        assert faults(a={**good, "status": "disabled", "error": ["no"]}) == ["firedoor-a@file: no"]
        assert faults(a={**good, "rule": "Q"}) == ["firedoor-a@file has another rule"]
        assert faults(a=good, b=good) == ["firedoor-b@file is of another file"]

    def test_control_without_any_router_makes_another_version(self) -> None:
        """
        No control can be missing unseen, even where operators route nothing to it.
        """
        nothing = Operators((), ())
        limited = render([control(ControlKind.THROTTLE, rate_per_s=1.0)], (), nothing, SETTINGS)

        assert (
            document.document(limited, ["throttle GET"]).version
            != document.document({}, ()).version
        )


def gateway(**more: Any) -> TraefikGateway:
    return TraefikGateway(
        name="edge",
        dynamic_file=Path("/nowhere/firedoor.yml"),
        drafts=Path("/nowhere/drafts"),
        api_url="http://127.0.0.1:1",
        responder_url="http://127.0.0.1:2",
        **more,
    )


class TestSupports:
    @pytest.mark.parametrize(
        ("wanted", "more", "why"),
        [
            pytest.param(
                control(ControlKind.BLOCK, principals=(subject("c-mallory"),)),
                {},
                "verifies no tokens",
                id="subject",
            ),
            pytest.param(
                control(
                    ControlKind.BLOCK,
                    principals=(Principal(kind=PrincipalKind.API_KEY, value="partner-7"),),
                ),
                {"identity": "auth@file", "claim_headers": {"sub": "X-Auth-Sub"}},
                "verifies no tokens",
                id="key-without-a-header",
            ),
            pytest.param(
                control(ControlKind.SHADOW, would=ControlKind.CLOSE),
                {},
                "nothing counts",
                id="shadow",
            ),
            pytest.param(
                control(
                    ControlKind.SHADOW,
                    would=ControlKind.BLOCK,
                    principals=(address("192.0.2.1"),),
                ),
                {"metrics_url": "http://127.0.0.1:3", "forwarded_depth": 1},
                "forwarded address",
                id="shadow-of-a-forwarded-address",
            ),
            pytest.param(
                control(
                    ControlKind.ALLOW_ONLY, principals=(address("192.0.2.1"), subject("c-owner"))
                ),
                {
                    "identity": "auth@file",
                    "claim_headers": {"sub": "X-Auth-Sub"},
                    "forwarded_depth": 1,
                },
                "beside other principals",
                id="mixed-list",
            ),
        ],
    )
    def test_what_it_cannot(self, wanted: Control, more: dict[str, Any], why: str) -> None:
        """
        It says what it lacks, and that a throttle is possible all the same.
        """
        support = gateway(**more).supports(wanted)

        assert not support.ok
        assert why in support.why
        assert support.nearest is ControlKind.THROTTLE

    def test_no_controls_need_no_look_at_traefik(self) -> None:
        """
        The version of nothing does not depend on what operators route.
        """
        assert gateway().version_of(()) == document.document({}, ()).version

    def test_hits_of_what_does_not_count(self) -> None:
        """
        Only a shadow counts, and only where there are metrics.
        """
        shadow = control(ControlKind.SHADOW, would=ControlKind.CLOSE)

        for wanted in (control(), shadow):
            with pytest.raises(BadInput, match="counts none"):
                gateway().shadow_hits(wanted)
