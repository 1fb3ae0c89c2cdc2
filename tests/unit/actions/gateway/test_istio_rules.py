"""What a set of controls is as an AuthorizationPolicy, read as Istio's documentation says."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from actions.gateway.adapters.kubernetes.istio_rules import (
    Target,
    paths_of,
    render,
    why_no_caller,
    why_no_path,
)
from actions.gateway.rules import OVERRIDE_HEADERS
from bot.model.containment import ANY_METHOD, Control, ControlKind, Principal, PrincipalKind
from bot.model.containment import subject as subject_is

ORDER = "/api/orders/{order_id}"
KNOWN = ("GET /api/orders/{order_id}", "GET /api/orders/export", "POST /api/orders/export")
ISSUER = "https://login.acme.example"
TARGET = Target({"istio": "ingressgateway"}, (8080,), ISSUER, "ipBlocks")


@dataclass(frozen=True)
class Request:
    """``claims`` are those of a verified token; none if there is no token."""

    path: str
    method: str = "GET"
    address: str = "192.0.2.1"
    port: int = 8080
    claims: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def denies(spec: dict[str, Any] | None, request: Request) -> bool:
    """Read a policy: it denies what any rule matches, by one of its sources and operations, and
    all of its conditions."""
    return spec is not None and any(_matches(rule, request) for rule in spec["rules"])


def _matches(rule: dict[str, Any], request: Request) -> bool:
    sources = rule.get("from", [{"source": {}}])
    return (
        any(_is_from(each["source"], request) for each in sources)
        and any(_is_to(each["operation"], request) for each in rule["to"])
        and all(_is_when(each, request) for each in rule.get("when", []))
    )


def _is_from(source: dict[str, list[str]], request: Request) -> bool:
    def at(blocks: list[str]) -> bool:
        address = ipaddress.ip_address(request.address)
        return any(address in ipaddress.ip_network(block) for block in blocks)

    assert set(source) <= {"ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"}
    wanted = source.get("ipBlocks") or source.get("remoteIpBlocks")
    but = source.get("notIpBlocks") or source.get("notRemoteIpBlocks")
    return (wanted is None or at(wanted)) and (but is None or not at(but))


def _is_to(operation: dict[str, list[str]], request: Request) -> bool:
    def of(paths: list[str]) -> bool:
        expressions = [re.escape(path).replace(re.escape("{*}"), "[^/]+") for path in paths]
        return any(re.fullmatch(expression, request.path) for expression in expressions)

    return (
        str(request.port) in operation["ports"]
        and of(operation["paths"])
        and not of(operation.get("notPaths", []))
        and request.method in operation.get("methods", [request.method])
        and request.method not in operation.get("notMethods", [])
    )


def _is_when(condition: dict[str, Any], request: Request) -> bool:
    found = re.fullmatch(r"request\.(headers|auth\.claims)\[(.+)\]", condition["key"])
    assert found
    seen = (request.headers if found[1] == "headers" else request.claims).get(found[2])
    values, but = condition.get("values"), condition.get("notValues", [])
    is_wanted = values is None or (seen is not None and (values == ["*"] or seen in values))
    return is_wanted and seen not in but


def control(kind: ControlKind, path: str = ORDER, method: str = "GET", **more: Any) -> Control:
    return Control(kind=kind, method=method, path=path, **more)


def address(*values: str) -> tuple[Principal, ...]:
    return tuple(Principal(kind=PrincipalKind.IP, value=value) for value in values)


def rendered(*controls: Control) -> dict[str, Any] | None:
    return render(controls, KNOWN, TARGET)


CLOSE = control(ControlKind.CLOSE)
OWNER = {"iss": ISSUER, "sub": "c-owner", "role": "customer"}


class TestClose:
    def test_method_is_denied_and_the_rest_is_not(self) -> None:
        """
        A closed method is denied with and without a slash at the end; other methods, neighbours,
        more specific endpoints and other ports are not.
        """
        spec = rendered(CLOSE)

        assert denies(spec, Request("/api/orders/4001"))
        assert denies(spec, Request("/api/orders/4001/"))
        assert denies(spec, Request("/api/orders/4001", "HEAD"))
        for free in (
            Request("/api/orders/4001", "DELETE"),
            Request("/api/orders"),
            Request("/api/orders/export"),
            Request("/api/orders/export/"),
            Request("/api/orders/4001/lines"),
            Request("/api/orders/4001", port=5432),
        ):
            assert not denies(spec, free)

    def test_route_is_denied_for_every_method(self) -> None:
        """
        Of a closed route only what a more specific endpoint serves stays open.
        """
        spec = rendered(control(ControlKind.CLOSE, method=ANY_METHOD))

        for method in ("GET", "POST", "DELETE", "PATCH"):
            assert denies(spec, Request("/api/orders/4001", method))
        assert not denies(spec, Request("/api/orders/export", "GET"))
        assert not denies(spec, Request("/api/orders/export", "POST"))
        assert denies(spec, Request("/api/orders/export", "DELETE"))

    @pytest.mark.parametrize("header", OVERRIDE_HEADERS)
    def test_method_override_counts(self, header: str) -> None:
        """
        A POST that says it is a GET, however it spells that, is denied; one that says it is a PUT
        is not, nor is one that says nothing.
        """
        spec = rendered(CLOSE)

        for value in ("GET", "get", "GeT", "HEAD", "anything"):
            assert denies(spec, Request("/api/orders/1", "POST", headers={header: value}))
        assert not denies(spec, Request("/api/orders/1", "POST", headers={header: "PUT"}))
        assert not denies(spec, Request("/api/orders/1", "POST"))

    def test_every_operation_names_ports(self) -> None:
        """
        Without one, a rule of HTTP would deny whatever comes on a port of TCP.
        """
        spec = rendered(
            CLOSE,
            control(ControlKind.BLOCK, path="/a", principals=address("203.0.113.7")),
            control(ControlKind.ALLOW_ONLY, path="/b", principals=(subject_is("c-owner"),)),
        )

        assert spec is not None
        operations = [each["operation"] for rule in spec["rules"] for each in rule["to"]]
        assert operations
        assert all(operation["ports"] == ["8080"] for operation in operations)

    def test_nothing_to_deny_is_no_policy(self) -> None:
        """
        With nothing in force there is no object.
        """
        assert rendered() is None


class TestCallers:
    def test_block_of_addresses_and_subjects(self) -> None:
        """
        Each of the blocked is denied, by address or by token, and nobody else.
        """
        spec = rendered(
            control(ControlKind.BLOCK, principals=address("203.0.113.0/24")),
            control(ControlKind.BLOCK, principals=(subject_is("c-mallory"),)),
        )
        mallory = {**OWNER, "sub": "c-mallory"}

        assert denies(spec, Request("/api/orders/1", address="203.0.113.9"))
        assert denies(spec, Request("/api/orders/1", claims=mallory))
        assert not denies(spec, Request("/api/orders/1", claims=OWNER))
        assert not denies(spec, Request("/api/orders/1"))
        assert not denies(spec, Request("/api/orders", claims=mallory))

    def test_same_subject_of_another_issuer_is_somebody_else(self) -> None:
        """
        A subject is one of its issuer.
        """
        spec = rendered(control(ControlKind.BLOCK, principals=(subject_is("c-mallory"),)))
        other = {"iss": "https://elsewhere.example", "sub": "c-mallory"}

        assert not denies(spec, Request("/api/orders/1", claims=other))

    def test_allow_only_denies_who_is_not_named(self) -> None:
        """
        Who is at one of the addresses, or has a token of the issuer with one of the claims, is let
        through; without a token nobody is.
        """
        role = Principal(kind=PrincipalKind.CLAIM, claim="role", value="support")
        principals = (*address("10.0.0.0/8"), subject_is("c-owner"), role)
        spec = rendered(control(ControlKind.ALLOW_ONLY, principals=principals))

        def let(**more: Any) -> bool:
            return not denies(spec, Request("/api/orders/1", **more))

        assert let(address="10.1.2.3")
        assert let(claims=OWNER)
        assert let(claims={"iss": ISSUER, "sub": "c-other", "role": "support"})
        assert not let()
        assert not let(claims={"iss": ISSUER, "sub": "c-other", "role": "customer"})
        assert not let(claims={"iss": "https://elsewhere.example", "sub": "c-owner"})

    def test_two_lists_let_through_who_is_on_both(self) -> None:
        """
        Each control that allows only some holds.
        """
        spec = rendered(
            control(ControlKind.ALLOW_ONLY, principals=address("10.0.0.1", "10.0.0.2")),
            control(ControlKind.ALLOW_ONLY, principals=address("10.0.0.2", "10.0.0.3")),
        )

        found = [denies(spec, Request("/api/orders/1", address=f"10.0.0.{n}")) for n in (1, 2, 3)]
        assert found == [True, False, True]

    def test_address_behind_proxies_is_the_callers(self) -> None:
        """
        Behind proxies that Istio trusts it is the address that they say.
        """
        behind = Target({"a": "b"}, (80,), None, "remoteIpBlocks")
        block = control(ControlKind.BLOCK, principals=address("203.0.113.7"))
        allow = control(ControlKind.ALLOW_ONLY, principals=address("10.0.0.1"))

        spec = render([block, allow], (), behind)

        assert spec is not None
        names = {name for rule in spec["rules"] for each in rule["from"] for name in each["source"]}
        assert names == {"remoteIpBlocks", "notRemoteIpBlocks"}


class TestWhatCannotBeSaid:
    @pytest.mark.parametrize("path", ["/files/{name}.pdf", "/v1/orders:export", "/a%20b", "/a*"])
    def test_paths(self, path: str) -> None:
        """
        A segment that is in part a parameter, or that has two spellings, has no path in Istio.
        """
        assert "segment" in why_no_path(path)

    def test_template_has_one_segment_for_a_parameter(self) -> None:
        """
        Istio's own templates say it, from version 1.22 on.
        """
        assert paths_of("/api/{a}/lines/{b}") == ["/api/{*}/lines/{*}", "/api/{*}/lines/{*}/"]
        assert paths_of("/") == ["/"]

    @pytest.mark.parametrize("value", ["c-*", "*"])
    def test_value_that_would_be_many(self, value: str) -> None:
        """
        Istio takes an asterisk at either end for anything.
        """
        assert "for many" in why_no_caller((subject_is(value),), TARGET)

    def test_claims_need_an_issuer(self) -> None:
        """
        Without a RequestAuthentication a claim is just what the caller writes.
        """
        nobody = Target({"a": "b"}, (80,), None, "ipBlocks")

        assert "issuer" in why_no_caller((subject_is("c-1"),), nobody)
        assert why_no_caller((subject_is("c-1"),), TARGET) == ""
