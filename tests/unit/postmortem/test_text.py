"""Texts from outside become one line that reads as it looks."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.postmortem.text import (
    counted,
    duration,
    facts_text,
    listed,
    plain,
    sentence,
    size,
    value_text,
)


class TestPlain:
    @given(st.text())
    def test_nothing_hidden_is_left(self, value: str) -> None:
        """No control, direction override, surrogate or private character survives, and no line
        break."""
        line = plain(value)

        left = {unicodedata.category(c) for c in line if c not in "\u200c\u200d"}
        assert left.isdisjoint({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
        assert "\n" not in line
        line.encode()

    @given(st.text(), st.integers(min_value=1, max_value=50))
    def test_it_is_never_longer_than_the_limit(self, value: str, limit: int) -> None:
        """A long text cannot push everything else off the page."""
        assert len(plain(value, limit)) <= limit

    @given(st.text())
    def test_cleaning_twice_is_cleaning_once(self, value: str) -> None:
        """A text may pass through several models."""
        assert plain(plain(value)) == plain(value)

    def test_a_direction_override_becomes_visible(self) -> None:
        """What is shown is in the order in which it is stored."""
        assert plain("ab\u202ecd") == "ab\\u202ecd"

    def test_words_in_any_script_stay(self) -> None:
        """Only what deceives is changed."""
        text = "Zürich, 東京, العربية, می‌خواهم, e\u0301"
        assert plain(text) == text

    def test_stacked_marks_cannot_paint_over_other_lines(self) -> None:
        """A letter keeps its first marks; the rest is spelled out."""
        assert plain("a" + "\u0301" * 50).count("\u0301") == 4


class TestNumbers:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0 s"),
            (0.84, "840 ms"),
            (0.9999, "1 s"),
            (4.2, "4.2 s"),
            (41, "41 s"),
            (59.97, "1 min"),
            (243, "4 min 3 s"),
            (3600, "1 h"),
            (4502.4, "1 h 15 min 2 s"),
            (183_840, "2 d 3 h 4 min"),
        ],
    )
    def test_durations(self, seconds: float, text: str) -> None:
        """Two or three units, the last rounded, none that is zero."""
        assert duration(seconds) == text

    @pytest.mark.parametrize(
        ("size_bytes", "text"),
        [(0, "0 B"), (999, "999 B"), (48_213, "48.2 kB"), (10**10, "10.0 GB")],
    )
    def test_sizes(self, size_bytes: int, text: str) -> None:
        """Powers of 1,000, as the unit says."""
        assert size(size_bytes) == text

    def test_counts_agree_with_their_noun(self) -> None:
        """One record, two records."""
        assert counted(1, "record") == "1 record"
        assert counted(1_214, "person", "people") == "1,214 people"

    def test_lists_read_as_a_sentence(self) -> None:
        """a, b and c."""
        assert [listed("abc"), listed("ab", "or"), listed("a"), listed("")] == [
            "a, b and c",
            "a or b",
            "a",
            "",
        ]

    def test_a_sentence_ends_once(self) -> None:
        """A message that brings its own full stop gets no second one."""
        assert [sentence("Done"), sentence("Done."), sentence("“Done?” ")] == [
            "Done.",
            "Done.",
            "“Done?”.",
        ]


class TestFacts:
    def test_what_matters_comes_first(self) -> None:
        """The journal sorts facts by name; a sentence begins with what was found."""
        facts = {"anonymous": 0, "first_seen": "2026-03-14T10:47:12.5Z", "records": 3}

        assert facts_text(facts, most=2) == "records = 3, anonymous = 0 and 1 more"
        assert facts_text({"first_seen": facts["first_seen"]}) == (
            "first_seen = 2026-03-14 10:47:12 UTC"
        )

    def test_lists_are_counted_and_not_shown(self) -> None:
        """A fact may hold hundreds of identifiers; a sentence says how many more there are."""
        text = facts_text({"records": 3, "ids": ["a"] * 500, "none": None})

        assert text == "records = 3 and 2 more"
        assert value_text(["a"] * 500) == "500 items"
