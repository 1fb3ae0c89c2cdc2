"""What a set of closes is as an HTTPRoute, and which route a request goes to."""

from __future__ import annotations

from typing import Any

import pytest

from actions.gateway.adapters.kubernetes.route_rules import (
    MAX_MATCHES,
    problem_of,
    render,
    what_comes_before,
)
from bot.model.containment import ANY_METHOD, Control, ControlKind

PARENT = {
    "group": "gateway.networking.k8s.io",
    "kind": "Gateway",
    "name": "public",
    "namespace": "infra",
}
HOST = "api.acme.example"


def close(path: str, method: str = "GET") -> Control:
    return Control(kind=ControlKind.CLOSE, method=method, path=path)


def rendered(*controls: Control) -> dict[str, Any]:
    spec = render(controls, PARENT, (HOST,))
    assert spec is not None
    return spec


def matches(spec: dict[str, Any], method: str, path: str, **headers: str) -> bool:
    """Tell whether a rule of a route matches a request."""
    for match in (match for rule in spec["rules"] for match in rule["matches"]):
        wanted = {header["name"]: header["value"] for header in match.get("headers", [])}
        if (
            match["path"] == {"type": "Exact", "value": path}
            and match.get("method", method) == method
            and wanted.items() <= headers.items()
        ):
            return True
    return False


class TestClose:
    def test_method_is_matched_and_the_rest_is_not(self) -> None:
        """
        A closed method goes to the rule without a backend, with and without a slash at the end;
        others and the neighbours do not.
        """
        spec = rendered(close("/api/login", "POST"))

        assert all("backendRefs" not in rule for rule in spec["rules"])
        assert matches(spec, "POST", "/api/login")
        assert matches(spec, "POST", "/api/login/")
        assert not matches(spec, "GET", "/api/login")
        assert not matches(spec, "POST", "/api/login/more")
        assert not matches(spec, "POST", "/api/log")

    def test_get_goes_with_head(self) -> None:
        """
        HEAD tells what GET would.
        """
        assert matches(rendered(close("/api/me")), "HEAD", "/api/me")

    @pytest.mark.parametrize("value", ["GET", "get"])
    def test_method_override_counts(self, value: str) -> None:
        """
        A POST that says it is a GET goes to it too.
        """
        spec = rendered(close("/api/me"))

        assert matches(spec, "POST", "/api/me", **{"x-http-method-override": value})
        assert not matches(spec, "POST", "/api/me")

    def test_route_is_matched_for_every_method(self) -> None:
        """
        A closed route is closed for methods that HTTP does not know, too.
        """
        spec = rendered(close("/api/me", ANY_METHOD))

        for method in ("GET", "POST", "DELETE", "PURGE"):
            assert matches(spec, method, "/api/me")

    def test_nothing_closed_is_no_route(self) -> None:
        """
        With nothing in force there is no object.
        """
        assert render((), PARENT, (HOST,)) is None

    def test_what_the_server_would_fill_in_is_said(self) -> None:
        """
        Else it would be read back as another version.
        """
        spec = rendered(close("/api/me"))

        assert {"group", "kind"} <= set(spec["parentRefs"][0])
        for match in (match for rule in spec["rules"] for match in rule["matches"]):
            assert "path" in match
            assert all("type" in header for header in match.get("headers", []))

    def test_too_many_are_named(self) -> None:
        """
        An HTTPRoute takes so many matches.
        """
        few = [close(f"/api/{number}") for number in range(4)]
        more = [close(f"/api/{number}") for number in range(5)]

        assert problem_of(rendered(*few)) == ""
        assert problem_of(rendered(*more)) == f"140 matches, and an HTTPRoute takes {MAX_MATCHES}"


class TestOrder:
    """Across all routes of a Gateway: an exact path, then a method, then the most headers, then
    the most query parameters; of equal ones the older."""

    def before(self, *rules: dict[str, Any], **spec: Any) -> str:
        other = {
            "parentRefs": [{"name": "public", "namespace": "infra"}],
            "hostnames": [HOST],
            "rules": [{"matches": list(rules)}],
            **spec,
        }
        return what_comes_before(rendered(close("/api/me")), other, "orders", "orders")

    @pytest.mark.parametrize(
        "match",
        [
            {"path": {"type": "PathPrefix", "value": "/api/me"}, "method": "GET"},
            {"path": {"type": "Exact", "value": "/api/me"}},
            {"path": {"type": "Exact", "value": "/api/other"}, "method": "GET"},
            {"path": {"type": "RegularExpression", "value": "/v[0-9]+/.*"}},
        ],
    )
    def test_what_comes_after(self, match: dict[str, Any]) -> None:
        """
        Prefixes, other paths, and the path alone are looked at later, or for other requests.
        """
        assert self.before(match) == ""

    @pytest.mark.parametrize(
        "match",
        [
            {"path": {"type": "Exact", "value": "/api/me"}, "method": "GET"},
            {"path": {"type": "Exact", "value": "/api/me"}, "method": "POST"},
            {
                "path": {"type": "Exact", "value": "/api/me/"},
                "headers": [{"name": "version", "value": "2"}],
            },
            {"path": {"type": "RegularExpression", "value": "/api/[a-z]+"}},
            {"path": {"type": "RegularExpression", "value": "(?<bad"}},
        ],
    )
    def test_what_comes_before(self, match: dict[str, Any]) -> None:
        """
        An older match that is as specific goes on to get its requests; of a POST, those that say
        they are a GET; of an expression, nobody but the implementation knows.
        """
        assert "first" in self.before(match)

    def test_more_specific_hostname_comes_before(self) -> None:
        """
        Hostnames are compared before anything else.
        """
        wide = render([close("/api/me")], PARENT, ("*.acme.example",))
        assert wide is not None
        prefix = {"path": {"type": "PathPrefix", "value": "/"}}
        other = {
            "parentRefs": [PARENT],
            "hostnames": [HOST],
            "rules": [{"matches": [prefix]}],
        }

        assert HOST in what_comes_before(wide, other, "orders", "shop")
        assert self.before(prefix, hostnames=["shop.acme.example"]) == ""

    def test_routes_of_other_gateways_do_not_count(self) -> None:
        """
        Only routes of the same Gateway compete.
        """
        exact = {"path": {"type": "Exact", "value": "/api/me"}, "method": "GET"}

        assert self.before(exact, parentRefs=[{"name": "public"}]) == ""
