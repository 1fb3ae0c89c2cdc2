"""Rendering: a set of controls makes Caddy's one route of Firedoor's own."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from actions.gateway.adapters.caddy.render import (
    PASSED,
    Verifier,
    is_own,
    render,
    version_in,
    version_of,
)
from bot.errors import BadInput
from bot.model.answers import CLOSED
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind
from bot.model.containment import subject as subject_is

ORDER = "/api/orders/{order_id}"
EXPORT = "GET /api/orders/export"
VERIFIER = Verifier("https://who.internal/check?a={b}", {"sub": "x-sub"}, "x-key")


def close(path: str = ORDER, method: str = "GET") -> Control:
    return Control(kind=ControlKind.CLOSE, method=method, path=path)


def block(*principals: Principal, path: str = ORDER) -> Control:
    return Control(kind=ControlKind.BLOCK, method="GET", path=path, principals=principals)


def inner(*controls: Control, known: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Return the routes in Firedoor's."""
    route = render(controls, known, VERIFIER)
    assert route is not None
    found: list[dict[str, Any]] = route["handle"][1]["routes"]
    return found


def handlers(routes: list[dict[str, Any]]) -> list[str]:
    return [handler["handler"] for route in routes for handler in route["handle"]]


class TestRender:
    def test_no_control_is_no_route(self) -> None:
        """
        With nothing in force there is nothing of Firedoor's, whatever endpoints there are.
        """
        assert render([], [EXPORT]) is None

    def test_close_says_what_every_gateway_says(self) -> None:
        """
        The answer is the one of `answers`, headers and all; no text in it is a placeholder.
        """
        (route,) = inner(close())
        (answer,) = route["handle"]

        assert answer["status_code"] == CLOSED.status
        assert answer["headers"] == {name: [value] for name, value in CLOSED.headers.items()}
        assert answer["body"].replace("\\{", "{") == CLOSED.body
        assert "{" not in answer["body"].replace("\\{", "")

    def test_more_specific_endpoint_is_let_past_first(self) -> None:
        """
        A known endpoint that a closed template would match too ends the rules before it.
        """
        passing, closing = inner(close(), known=(EXPORT,))

        assert passing["handle"] == [{"handler": "vars", PASSED: "yes"}]
        assert closing["handle"][0]["handler"] == "static_response"
        assert json.dumps({"vars": {PASSED: ["yes"]}}) in json.dumps(closing["match"])

    def test_addresses_come_before_the_verifier(self) -> None:
        """
        The verifier is asked only of whom their address does not say enough.
        """
        address = Principal(kind=PrincipalKind.IP, value="198.51.100.0/24")

        routes = inner(block(address, subject_is("c-1")))

        assert handlers(routes) == ["static_response", "reverse_proxy", "vars"]
        assert "198.51.100.0/24" in json.dumps(routes[0])
        assert "198.51.100.0/24" not in json.dumps(routes[1])

    def test_verifier_is_asked_where_its_url_says(self) -> None:
        """
        Over TLS if it says so, with its own query, in which nothing is a placeholder.
        """
        (asking,) = inner(block(subject_is("c-1")))[0]["handle"]

        assert asking["upstreams"] == [{"dial": "who.internal:443"}]
        assert asking["transport"]["tls"] == {}
        assert asking["rewrite"] == {"method": "GET", "uri": "/check?a=\\{b}"}

    @pytest.mark.parametrize(
        ("url", "dial"),
        [
            ("http://who.internal/", "who.internal:80"),
            ("http://[::1]:8200", "[::1]:8200"),
            ("http://127.0.0.1:81/x", "127.0.0.1:81"),
        ],
    )
    def test_address_of_the_verifier(self, url: str, dial: str) -> None:
        """
        Caddy dials a host and a port.
        """
        route = render([block(subject_is("c-1"))], (), Verifier(url, {"sub": "x-sub"}))

        assert f'"dial": "{dial}"' in json.dumps(route)

    @pytest.mark.parametrize(
        "control",
        [
            Control(kind=ControlKind.THROTTLE, method="GET", path=ORDER, rate_per_s=1.0),
            Control(kind=ControlKind.SHADOW, method="GET", path=ORDER, would=ControlKind.CLOSE),
            block(Principal(kind=PrincipalKind.CLAIM, claim="role", value="x")),
        ],
        ids=lambda control: control.kind.value,
    )
    def test_what_caddy_cannot_is_refused(self, control: Control) -> None:
        """
        Nothing is left out in silence.
        """
        with pytest.raises(BadInput, match="nothing was done"):
            render([control], (), VERIFIER)

    @pytest.mark.parametrize("kind", [PrincipalKind.CLAIM, PrincipalKind.API_KEY])
    def test_without_a_verifier_nobody_is_known(self, kind: PrincipalKind) -> None:
        """
        A claim or a key that nobody has checked is no basis for anything.
        """
        with pytest.raises(BadInput, match="has no verifier"):
            render([block(Principal(kind=kind, value="x"))])


class TestVersion:
    def test_what_was_rendered_is_known_again(self) -> None:
        """
        A route that comes back as it was sent has its version.
        """
        route = render([close()])

        again = json.loads(json.dumps(route))

        assert version_in(again) == version_of(route)
        assert version_of(route) != version_of(None)

    def test_each_edit_of_it_is_seen(self) -> None:
        """
        Not one value can be changed, taken out or added without the version's being lost.
        """
        route = render([close(), block(subject_is("c-1"), path="/x")], (), VERIFIER)
        assert route is not None
        edits = [copy.deepcopy(route) for _ in range(5)]
        edits[0]["handle"][1]["routes"].pop()
        edits[1]["handle"].insert(0, {"handler": "vars"})
        edits[2]["terminal"] = True
        edits[3]["handle"][1]["errors"] = {}
        edits[4]["handle"][0]["firedoor_version"] = "0" * 12

        assert [version_in(edit) for edit in edits] == [None] * 5
        assert all(is_own(edit, "firedoor") for edit in edits)

    @pytest.mark.parametrize(
        "route", [None, [], {}, {"handle": None}, {"handle": [1, 2]}, {"@id": 1, "handle": [{}]}]
    )
    def test_other_routes_are_not_ours(self, route: Any) -> None:
        """
        Whatever stands in the routes, it is not taken for Firedoor's.
        """
        assert version_in(route) is None
        assert not is_own(route, "firedoor")
