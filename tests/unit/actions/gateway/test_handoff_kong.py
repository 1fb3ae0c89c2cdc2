"""The decK file: its fields are those of Kong's schemas, its paths those of the endpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from actions.gateway.adapters.kong.paths import ODD_PATHS
from actions.gateway.handoff.kong_paths import CannotKeepOut, no_word_of, path_regex
from bot.model.answers import CLOSED, REFUSED
from bot.model.containment import ANY_METHOD, ControlKind
from tests.gateways.containments import ORDER, address, api_key, control, rendered
from tests.gateways.hostile import TEMPLATES

# kong/db/schema/entities/routes.lua and plugins.lua; of Kong 3's plugins their schema.lua.
ROUTE_FIELDS = {
    "name": str,
    "methods": list,
    "paths": list,
    "headers": dict,
    "protocols": list,
    "regex_priority": int,
    "tags": list,
    "plugins": list,
}
PLUGIN_FIELDS = {"name": str, "config": dict, "route": str, "consumer": str, "tags": list}
CONFIG_FIELDS: Mapping[str, Mapping[str, type]] = {
    "request-termination": {"status_code": int, "content_type": str, "body": str},
    "response-transformer": {"add": dict},
    "ip-restriction": {"allow": list, "deny": list, "status": int},
    "rate-limiting": {
        "second": int,
        "minute": int,
        "hour": int,
        "day": int,
        "limit_by": str,
        "policy": str,
        "hide_client_headers": bool,
        "error_code": int,
        "error_message": str,
    },
}
ROUTE_NAME = re.compile(r"[a-zA-Z0-9.\-_~]{1,128}")


def document(*controls: Any, **more: Any) -> dict[str, Any]:
    """Read a patch as decK does, once variables are put in, after a look at its shape."""
    text = rendered("kong", controls, **more).text
    filled = re.sub(r'\$\{\{ env "(DECK_[A-Z0-9_]+)" \}\}', lambda m: f"value-of-{m[1]}", text)
    assert "${{" not in filled
    found = yaml.safe_load(filled)
    assert found.pop("_format_version") == "3.0"
    assert found.keys() <= {"routes", "plugins"}
    names = [route["name"] for route in found.get("routes", [])]
    assert len(set(names)) == len(names)
    for route in found.get("routes", []):
        has_shape(route, ROUTE_FIELDS)
        assert ROUTE_NAME.fullmatch(route["name"])
        assert all(path.startswith("~/") for path in route["paths"])
        assert all(re.fullmatch("[A-Z]+", method) for method in route.get("methods", ["GET"]))
    plugins = [p for route in found.get("routes", []) for p in route["plugins"]]
    for plugin in [*plugins, *found.get("plugins", [])]:
        has_shape(plugin, PLUGIN_FIELDS)
        has_shape(plugin["config"], CONFIG_FIELDS[plugin["name"]])
    scopes = [(p["name"], p["route"], p.get("consumer")) for p in found.get("plugins", [])]
    assert len(set(scopes)) == len(scopes), "a plugin is unique in its scope"
    return found


def has_shape(found: Mapping[str, Any], fields: Mapping[str, type]) -> None:
    for name, value in found.items():
        assert isinstance(value, fields[name]), name


class TestClose:
    def test_route_that_answers_by_itself(self) -> None:
        """
        It has no service, matches by method and by each override header, and answers as Firedoor
        does, marked. One more is for paths that servlet containers read in their own way.
        """
        routes = document(control())["routes"]

        assert [sorted(r.get("headers", {})) for r in routes] == [
            [],
            ["x-http-method-override"],
            ["x-http-method"],
            ["x-method-override"],
            [],
        ]
        assert routes[-1]["paths"] == [ODD_PATHS]
        assert routes[0]["methods"] == ["GET", "HEAD"]
        for route in routes:
            assert "service" not in route
            answer, added = route["plugins"]
            assert answer["config"] == {
                "status_code": 503,
                "content_type": "application/problem+json",
                "body": CLOSED.body,
            }
            assert added["config"]["add"]["headers"] == [
                "cache-control:no-store",
                "x-firedoor:closed",
                "retry-after:120",
            ]

    def test_whole_route(self) -> None:
        """
        Every usual method is named, as Kong prefers routes that name more; any other is closed
        too.
        """
        named, other, _odd = document(control(method=ANY_METHOD))["routes"]

        assert {"GET", "DELETE", "PATCH", "OPTIONS"} <= set(named["methods"])
        assert "methods" not in other
        assert named["paths"] == other["paths"]

    @pytest.mark.parametrize("template", TEMPLATES)
    def test_hostile_path_is_a_path(self, template: str) -> None:
        """
        Whatever a path holds, the file has the same shape.
        """
        assert len(document(control(path=template))["routes"]) == 5

    def test_what_cannot_be_kept_out_is_not_closed(self) -> None:
        """
        A patch closes nothing that Firedoor leaves open: rather it leaves the close out.
        """
        known = ["GET /api/orders/v{number}"]
        made = rendered("kong", [control(), control(path="/api/customers/me")], known=known)

        assert any(s.startswith(f"The close of GET {ORDER} is left out") for s in made.unsupported)
        assert "customers" in made.text.partition("routes:")[2]
        assert "orders" not in made.text.partition("routes:")[2]


class TestPlugins:
    def test_they_are_on_the_operators_own_route(self) -> None:
        """
        A route of Firedoor's would lack the plugins that check callers. Its name is asked for;
        decK refuses a file with a variable that is not set.
        """
        found = document(
            control(ControlKind.BLOCK, principals=(address("203.0.113.0/24"),)),
            control(ControlKind.THROTTLE, rate_per_s=5.0),
        )

        assert "routes" not in found
        routes = {plugin["route"] for plugin in found["plugins"]}
        assert len(routes) == 1
        assert re.fullmatch(r"value-of-DECK_FIREDOOR_[0-9A-F]{8}_ROUTE_1", routes.pop())

    def test_addresses(self) -> None:
        """
        Kong has one list of the allowed on a route, so it holds whom all lists have in common.
        """
        lists = [("203.0.113.0/24", "2001:db8::/32"), ("203.0.113.128/25", "198.51.100.1")]
        found = document(
            *(control(ControlKind.ALLOW_ONLY, principals=tuple(map(address, x))) for x in lists),
            control(ControlKind.BLOCK, principals=(address("203.0.113.200"),)),
        )

        (plugin,) = found["plugins"]
        assert plugin["config"] == {
            "allow": ["203.0.113.128/25"],
            "deny": ["203.0.113.200/32"],
            "status": 403,
        }

    def test_lists_with_nobody_in_common_let_nobody_through(self) -> None:
        """
        An empty list would let everybody through.
        """
        lists = [address("203.0.113.1"), address("203.0.113.2")]
        found = document(*(control(ControlKind.ALLOW_ONLY, principals=(x,)) for x in lists))

        (plugin,) = found["plugins"]
        assert plugin["config"] == {"deny": ["0.0.0.0/0", "::/0"], "status": 403}

    def test_api_key(self) -> None:
        """
        The name of a key is that of its consumer, whom the route's authentication has found.
        """
        found = document(control(ControlKind.BLOCK, principals=(api_key("partner-7"),)))

        (plugin,) = found["plugins"]
        assert (plugin["name"], plugin["consumer"]) == ("request-termination", "partner-7")
        assert plugin["config"]["status_code"] == 403
        assert plugin["config"]["body"] == REFUSED.body

    @pytest.mark.parametrize(
        ("rate_per_s", "limit", "is_exact"),
        [
            (5.0, {"second": 5}, True),
            (0.5, {"minute": 30}, True),
            (1.5, {"minute": 90}, True),
            (100 / 3600, {"hour": 100}, True),
            (1 / 86_400, {"day": 1}, True),
            (1 / 1_000_000, {"day": 1}, False),
        ],
    )
    def test_rate(self, rate_per_s: float, limit: dict[str, int], is_exact: bool) -> None:
        """
        It is whole requests in the shortest time that says it exactly; else that is told.
        """
        made = rendered("kong", [control(ControlKind.THROTTLE, rate_per_s=rate_per_s)])
        found = document(control(ControlKind.THROTTLE, rate_per_s=rate_per_s))

        (plugin,) = found["plugins"]
        config = plugin["config"]
        assert {
            k: v for k, v in config.items() if k in ("second", "minute", "hour", "day")
        } == limit
        assert any(s.startswith("The limit of") for s in made.unsupported) == (not is_exact)
        assert any("Kong's own answer" in s for s in made.unsupported)


class TestPaths:
    @given(
        words=st.lists(st.text("ab.", min_size=1, max_size=4), min_size=1, max_size=4),
        segment=st.text("ab.;c", min_size=1, max_size=6),
    )
    def test_no_word_of(self, words: list[str], segment: str) -> None:
        """
        It matches exactly the segments that are none of the words before their path parameters.
        """
        found = re.fullmatch(no_word_of(words), segment) is not None
        assert found == (segment.partition(";")[0] not in words)

    @given(
        template=st.sampled_from(["/{a}", "/o/{a}", "/{a}/{b}", "/o/{a}/{b}", "/{a}/x/{b}"]),
        kept_out=st.lists(
            st.sampled_from(["/o", "/{z}/x", "/o/x", "/x/x", "/o/x/{z}", "/o/{z}/x", "/o/x/y"]),
            max_size=3,
        ),
        path=st.lists(st.sampled_from(["o", "x", "y", "xy", "ox"]), min_size=1, max_size=3),
    )
    def test_kept_out(self, template: str, kept_out: list[str], path: list[str]) -> None:
        """
        An expression matches a path of the template, unless it is of one that is kept out.
        """
        like = [
            each
            for each in kept_out
            if each.count("/") == template.count("/")  # others cannot meet it
            and all(
                "{" in a or "{" in b or a == b
                for a, b in zip(each.split("/"), template.split("/"), strict=True)
            )
        ]

        def is_of(one: str) -> bool:
            parts = one.strip("/").split("/")
            return len(parts) == len(path) and all(
                "{" in part or part == word for part, word in zip(parts, path, strict=True)
            )

        regex = path_regex(template, like)
        found = regex is not None and re.match(regex, "/" + "/".join(path)) is not None
        assert found == (is_of(template) and not any(map(is_of, like)))

    def test_partly_a_parameter(self) -> None:
        """
        What is neither a word nor a parameter cannot be kept out, and that is said.
        """
        with pytest.raises(CannotKeepOut):
            path_regex("/o/{id}", ["/o/v{number}"])
