"""Which requests Caddy's matchers take for an endpoint's, and which services do."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.gateway.adapters.caddy.paths import URI, AnyOf, is_surely, may_be

ORDER = "/api/orders/{order_id}"

PIECES = (
    *("api", "orders", "4001", "x", "%61pi", "ORDERS", "a%2fb", "items"),
    *("..", ".", "%2e%2e", "%2E", "..;", ".;v=1", "orders;v=1", "%3bv", "x%2f..", "..%2f.."),
)
paths = st.lists(
    st.tuples(
        st.sampled_from(("/", "/", "/", "//", "%2f", "%2F", "\\", "%5c")), st.sampled_from(PIECES)
    ),
    min_size=1,
    max_size=7,
).map(lambda parts: "/" + "".join(slash + piece for slash, piece in parts).lstrip("/"))


# --- Caddy, as it was seen to match --------------------------------------------------------------


def cleaned(path: str) -> str:
    """Return a path as ``path_regexp`` sees it."""
    decoded = unquote(path)
    tidy = "/" + "/".join(resolved(decoded.split("/")))
    return tidy + "/" if decoded.endswith("/") and tidy != "/" else tidy


def matches(sets: AnyOf, path: str) -> bool:
    return any(all(_matches(kind, value, path) for kind, value in each.items()) for each in sets)


def _matches(kind: str, value: Any, path: str) -> bool:
    match kind:
        case "path_regexp":
            return re.search(value["pattern"], cleaned(path)) is not None
        case "vars_regexp":
            return re.search(value[URI]["pattern"], path) is not None
        case "not":
            return not matches(value, path)
    raise AssertionError(kind)


# --- services ------------------------------------------------------------------------------------


def resolved(segments: list[str]) -> list[str]:
    """Return segments without empty ones and without dot segments (RFC 3986, 5.2.4)."""
    found: list[str] = []
    for segment in segments:
        if segment == "..":
            del found[-1:]
        elif segment not in ("", "."):
            found.append(segment)
    return found


def bare(segments: list[str]) -> list[str]:
    return [segment.partition(";")[0] for segment in segments]


def readings(path: str) -> list[list[str]]:
    """Return the segments that services may see: they decode first or last, drop path parameters
    first or last, and take a backslash for a slash or not."""
    decoded = unquote(path)
    split = path.split("/")
    return [
        bare(resolved(decoded.split("/"))),
        resolved(bare(decoded.split("/"))),
        bare(resolved(decoded.replace("\\", "/").split("/"))),
        [unquote(each) for each in bare(resolved([_dots(each) for each in split]))],
        [unquote(each) for each in resolved([_dots(each) for each in bare(split)])],
    ]


def _dots(segment: str) -> str:
    return re.sub("%2e", ".", segment, flags=re.IGNORECASE)


def is_order(segments: list[str]) -> bool:
    return len(segments) == 3 and [each.lower() for each in segments[:2]] == ["api", "orders"]


class TestMayBe:
    @given(paths)
    def test_no_service_is_reached_past_it(self, path: str) -> None:
        """
        A request that any service takes for the endpoint is matched.
        """
        if any(is_order(reading) for reading in readings(path)):
            assert matches(may_be(ORDER), path), readings(path)

    @pytest.mark.parametrize(
        "path",
        [
            "/api/orders",
            "/api/orders/",
            "/api/orders/4001/items",
            "/api/orders/4001/a%2fb",
            "/api/customers/4001",
            "/api/customers/a%2fb",
            "/v2/api/orders/4001",
            "/api/orders/4001//items",
            "/",
        ],
    )
    def test_neighbours_are_left_alone(self, path: str) -> None:
        """
        What is plainly of another endpoint is not matched.
        """
        assert not matches(may_be(ORDER), path)

    @pytest.mark.parametrize(
        ("template", "path"),
        [
            ("/", "/"),
            ("/a.b/{x}", "/a.b/1"),
            ("/a b/{x}", "/a%20b/1"),
            ("/caf%C3%A9/{x}", "/caf%c3%a9/1"),
            ("/v1/{x}:cancel", "/v1/7%3Acancel"),
            ("/a/{x}-{y}", "/a/1-2"),
            ("/a/", "/a"),
        ],
    )
    def test_template_is_literal_but_for_its_parameters(self, template: str, path: str) -> None:
        """
        Whatever characters a template has, it stands for itself, in both spellings.
        """
        assert matches(may_be(template), path)
        assert matches(is_surely(template), path)
        assert not matches(may_be(template), "/axb/1")


class TestIsSurely:
    @given(paths)
    def test_every_service_agrees(self, path: str) -> None:
        """
        A request that is let past other endpoints' rules is this one's for every service.
        """
        if matches(is_surely(ORDER), path):
            assert all(is_order(reading) for reading in readings(path)), readings(path)

    @pytest.mark.parametrize(
        "path", ["/api/orders/4001", "/api/orders/4001/", "/api/%6frders/4%3001", "/api//orders/1"]
    )
    def test_usual_spellings_are_sure(self, path: str) -> None:
        """
        What differs in spelling only is sure.
        """
        assert matches(is_surely(ORDER), path)
