"""Spellings of a request."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.gateway.variants import NOWHERE, variants

PATH = "/api/orders/4001"


class TestVariants:
    def test_known_ways_around_are_all_tried(self) -> None:
        """
        The ways around that gateways are known to let through are each tried.
        """
        paths = {variant.path for variant in variants("GET", PATH, ["GET"])}

        assert {
            "/api/orders/4001/",
            "/api/orders/./4001",
            "/api/orders//4001",
            "/api/orders%2f4001",
            "/api/orders%252f4001",
            "/api/orders;v=1/4001",
            "/api/orders/4001;v=1",
            "/api/%6frders/4001",
            "/api/%256frders/4001",
            "/api/orders/%34001",
            "/api/ORDERS/4001",
            "/x/%2e%2e/api/orders/4001",
            "/x/..;/api/orders/4001",
            "/api/orders/x/..;v=1/4001",
            "/api/orders/x/%2e%2e%3b/4001",
            "/api/orders/;v=1/4001",
            "/api/orders/.;v=1/4001",
            "/api/orders/4001/;v=1",
            "/api/orders/4001%3bv=1",
            "/api/orders/4001%3f/x",
            "/api/orders/4001#/x",
            "/api/orders%c0%af4001",
            "api/orders/4001",
            "http://other.invalid/api/orders/4001",
        } <= paths

    def test_what_is_malformed_goes_without_a_body(self) -> None:
        """
        A server that hangs up on it would else reset the connection, and nothing would be proven.
        """
        for method in ("POST", "DELETE"):
            found = variants(method, PATH, [method])

            assert all(v.path.startswith("/") and "#" not in v.path for v in found)
            assert all(v.method.isupper() for v in found)

    def test_overrides_are_tried_in_lists_too(self) -> None:
        """
        Of several values services take the first, or the last.
        """
        said = {v.headers.get("X-HTTP-Method") for v in variants("GET", PATH, ["GET"])}

        assert {"GET", "GET, POST", "POST, GET"} <= said

    def test_paths_in_headers_are_tried_where_reading_does_no_harm(self) -> None:
        """
        Beside a path of nobody, below the closed one; for no method that changes data.
        """
        found = [v for v in variants("GET", PATH, ["GET"]) if v.rewrites]

        assert {v.path for v in found} == {f"{PATH}/{NOWHERE}"}
        assert [v.headers for v in found] == [{"X-Original-URL": PATH}, {"X-Rewrite-URL": PATH}]
        assert not [v for v in variants("DELETE", PATH, ["DELETE"]) if v.rewrites]

    def test_head_goes_with_get_only(self) -> None:
        """
        HEAD asks for what GET would show.
        """
        assert [v for v in variants("GET", PATH, ["GET"]) if v.method == "HEAD"]
        assert not [v for v in variants("DELETE", PATH, ["DELETE"]) if v.method == "HEAD"]

    @pytest.mark.parametrize(
        ("there", "carrier"),
        [
            pytest.param(["GET"], "POST", id="nothing-else"),
            pytest.param(["GET", "POST"], "PUT", id="a-real-post"),
            pytest.param(["GET", "POST", "PUT", "PATCH"], None, id="all-are-real"),
        ],
    )
    def test_override_never_rides_on_a_method_that_exists(
        self, there: list[str], carrier: str | None
    ) -> None:
        """
        A service that ignores the override would do what the method says; so it must not exist.
        """
        riding = {v.method for v in variants("GET", PATH, there) if "verride" in str(v.headers)}

        assert riding == ({carrier} if carrier else set())

    @given(st.lists(st.from_regex(r"[a-z0-9._~-]{1,8}", fullmatch=True), max_size=6))
    def test_any_path_can_be_spelled(self, segments: list[str]) -> None:
        """
        Every path gives spellings that can stand in a request line and differ from each other.
        """
        path = "/" + "/".join(segments)

        found = variants("GET", path, [])

        assert all(v.path and v.path.isascii() and " " not in v.path for v in found)
        assert len({v.name for v in found}) == len(found)
        encoded = [v for v in found if v.name == "encoded last segment"]
        assert all(unquote(v.path) == path for v in encoded)
