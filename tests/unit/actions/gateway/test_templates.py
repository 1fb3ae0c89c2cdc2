"""Expressions for engines that backtrack: the same language, in linear time."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.gateway.templates import decoded_regex, path_regex

PIECES = st.sampled_from(["a", "b", "{x}", ".", ";", "-"])
TEMPLATES = st.lists(st.lists(PIECES, min_size=1, max_size=5).map("".join), max_size=3).map(
    lambda segments: "/" + "/".join(segments)
)
PATHS = st.text("ab.;-/?=", max_size=12).map(lambda text: f"/{text}")


class TestBacktracking:
    @given(TEMPLATES, PATHS)
    def test_same_paths_match(self, template: str, path: str) -> None:
        """
        What an engine is spared to try would not have matched either.
        """
        for regex_of in (path_regex, decoded_regex):
            expected = bool(re.fullmatch(regex_of(template), path))

            assert bool(re.fullmatch(regex_of(template, backtracking=True), path)) == expected

    @given(TEMPLATES, st.data())
    def test_paths_of_a_template_match(self, template: str, data: st.DataObject) -> None:
        """
        A parameter is any text without a slash, with path parameters or without.
        """
        text = st.text("ab.;-", min_size=1, max_size=4)
        path = re.sub(r"\{x\}", lambda _: data.draw(text), template)

        for regex_of in (path_regex, decoded_regex):
            assert re.fullmatch(regex_of(template, backtracking=True), path)

    @pytest.mark.parametrize(
        ("template", "part"),
        [
            ("/api/{a}/{b}/{c}/x", ";" * 2500),
            ("/api/{a}.{b}.{c}/x", "." * 7500),
            ("/api/{a}.json/x", ".json;" * 1200),
            ("/api/v1/x", "v1" + ";" * 7500),
        ],
    )
    def test_hostile_path_takes_no_time(self, template: str, part: str) -> None:
        """
        A path as long as gateways take, made to match in as many ways as possible and then not to
        match, is looked at in well under a second. It would take minutes with each way tried.
        """
        path = "/api" + f"/{part}" * (template.count("{") if "/{b}" in template else 1) + "/y"
        began = time.process_time()

        for regex_of in (path_regex, decoded_regex):
            assert re.fullmatch(regex_of(template, backtracking=True), path) is None

        assert time.process_time() - began < 0.5
