"""Moments, durations and the words of messages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bot.language.hints import did_you_mean, listed, nearest, shortened
from bot.language.moments import moment_text, parse_duration, parse_moment, seconds_of
from bot.model.alert import Alert


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("90s", 90.0), ("15m", 900.0), ("4h", 14_400.0), ("2d", 172_800.0), ("0s", 0.0)],
    )
    def test_a_number_and_a_unit(self, text: str, seconds: float):
        """
        Whole numbers of seconds, minutes, hours or days.
        """
        assert parse_duration(text) == seconds

    @pytest.mark.parametrize("text", ["", "5", "s", "1.5h", "-1s", "1 h", "1H", "1w", "٣s", "1s\n"])
    def test_nothing_else(self, text: str):
        """
        Anything else is refused.
        """
        with pytest.raises(ValueError, match="such as 90s, 15m, 4h, 2d"):
            parse_duration(text)

    def test_ten_years_at_most(self):
        """
        A longer one is a slip.
        """
        assert parse_duration("3660d") == 3660 * 86_400
        with pytest.raises(ValueError, match="at most ten years"):
            parse_duration("3661d")

    def test_whole_seconds_are_integers(self):
        """
        In JSON a duration is a number of seconds.
        """
        assert (seconds_of(timedelta(minutes=1)), seconds_of(timedelta(milliseconds=500))) == (
            60,
            0.5,
        )
        assert isinstance(seconds_of(timedelta(minutes=1)), int)


class TestMoments:
    def test_text_is_the_same_that_models_write(self):
        """
        A moment has one text, wherever it was written.
        """
        for moment in (
            datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
            datetime(2026, 1, 2, 3, 4, 5, 120_000, tzinfo=UTC),
        ):
            alert = Alert(source="x", fingerprint="y", starts_at=moment)
            assert moment_text(moment) == alert.model_dump(mode="json")["starts_at"]
            assert parse_moment(moment_text(moment)) == moment


class TestHints:
    def test_near_names(self):
        """
        A slip of a letter or two, another case, or a name cut short.
        """
        known = ["endpoint", "since", "starts_at", "status"]

        assert nearest("endpiont", known) == "endpoint"
        assert nearest("SINCE", known) == "since"
        assert nearest("start", known) == "starts_at"
        assert nearest("s", known) is None
        assert nearest("x" * 100_000, known) is None
        assert nearest("anything", []) is None
        assert did_you_mean("sinse", known) == " Did you mean 'since'?"
        assert did_you_mean("zzz", known) == ""

    def test_long_lists_are_cut(self):
        """
        A message lists 16 names at most.
        """
        assert listed([]) == "nothing"
        assert listed(["b", "a"]) == "a, b"
        assert listed([f"n{i:02}" for i in range(20)]).endswith("n15 and 4 more")

    def test_texts_are_made_fit_to_show(self):
        """
        Control characters are replaced, and long texts cut.
        """
        assert shortened("a\x1b[0m\nb") == "a\ufffd[0m\ufffdb"
        assert shortened("x" * 100, 10) == "x" * 9 + "…"
