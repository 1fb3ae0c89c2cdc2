"""Which paths Kong's expressions match, tried with Python's engine."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.gateway.adapters.kong.paths import kong_paths
from bot.errors import ProviderRefused

WORDS = st.sampled_from(
    ["export", "exports", "expor", "e", "x", "import", "4001", "export.csv", "EXPORT", ";v=1", "-"]
)
PATHS = st.lists(WORDS, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))


def matches(template: str, path: str, without: tuple[str, ...] = ()) -> bool:
    """Match as Kong does: anchored at the start, anywhere else only by ``$``."""
    return any(re.match(each.removeprefix("~"), path) for each in kong_paths(template, without))


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("/orders/{id}", "/orders/4001", True),
        ("/orders/{id}", "/orders/4001/", True),
        ("/orders/{id}", "/orders/4001;v=1", True),
        ("/orders/{id}", "/orders;v=1/4001", True),
        ("/orders/{id}", "/orders/a%2Fb", True),
        ("/orders/{id}", "/orders%2F4001", True),
        ("/orders/{id}", "/orders%2f4001", True),
        ("/orders/{id}", "/orders", False),
        ("/orders/{id}", "/orders/", False),
        ("/orders/{id}", "/orders/4001/items", False),
        ("/orders/{id}", "/x/orders/4001", False),
        ("/orders/{id}", "/ordersX4001", False),
        ("/a.b/{id}", "/a.b/1", True),
        ("/a.b/{id}", "/aXb/1", False),
        ("/a:b", "/a:b", True),
        ("/a:b", "/a%3Ab", True),
        ("/a:b", "/a%3ab", True),
        ("/a%3Ab", "/a:b", True),
        ("/ü/{x}", "/ü/1", True),
        ("/ü/{x}", "/%C3%BC/1", True),
        ("/a b", "/a b", True),
        ("/a b", "/a%20b", True),
        ("/v1/{a}-{b}", "/v1/x-y", True),
        ("/v1/{a}-{b}", "/v1/xy", False),
        ("/", "/", True),
        ("/", "/x", False),
    ],
)
def test_template(template: str, path: str, expected: bool) -> None:
    """
    A parameter is any text without a slash; all else is literal, in both spellings that Kong may
    see of it.
    """
    assert matches(template, path) is expected


@pytest.mark.parametrize("text", ["(.*)", "[^/]+", "x|y", "$", "a\\b", '"#', "^a", "<b>"])
def test_hostile_text_is_literal(text: str) -> None:
    """
    What means something in an expression means itself in a template.
    """
    assert matches(f"/{text}", f"/{text}")
    assert not matches(f"/{text}", "/anything")
    assert not matches(f"/{text}", "/aa")


def test_nothing_that_rust_does_not_know() -> None:
    """
    No look-around, no group that captures, and no escape of a character that is none of its own.
    """
    template = "/" + "/".join(chr(code) for code in range(33, 127) if chr(code) not in "/{};?")
    (path,) = kong_paths(template + "/{id}")
    assert not re.search(r"\(\?[=!<]|\((?!\?:)", path.replace("\\(", ""))
    assert set(re.findall(r"\\(.)", path)) <= set("\\.+*?()|[]{}^$#&-~")


@given(path=PATHS)
def test_kept_out_by_one_word(path: str) -> None:
    """
    Every path of the template but those of the other is matched, and none of the other's.
    """
    plain, other = matches("/{a}", path), matches("/export", path)
    assert matches("/{a}", path, ("/export",)) is (plain and not other)


@given(path=PATHS)
def test_kept_out_by_several(path: str) -> None:
    """
    Several templates may be kept out, that differ in one segment or in several.
    """
    without = ("/export/x", "/export/{a}", "/{a}/expor", "/e/e")
    plain = matches("/{a}/{b}", path)
    other = any(matches(template, path) for template in without)
    assert matches("/{a}/{b}", path, without) is (plain and not other)


@given(path=PATHS)
def test_kept_out_behind_a_literal(path: str) -> None:
    """
    Segments that both have in common stay as they are.
    """
    without = ("/export/import", "/export/4001")
    plain = matches("/export/{b}", path)
    other = any(matches(template, path) for template in without)
    assert matches("/export/{b}", path, without) is (plain and not other)


@pytest.mark.parametrize("other", ["/orders/{id}.csv", "/orders/a:b"])
def test_what_cannot_be_told_apart_is_refused(other: str) -> None:
    """
    An endpoint that would be caught too is named, and not closed along.
    """
    with pytest.raises(ProviderRefused, match=r"tell .* apart"):
        kong_paths("/orders/{id}", [other])
