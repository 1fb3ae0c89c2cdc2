"""Ratios of figures taken in one run, and whether they are what they ought to be."""

from __future__ import annotations

import pytest

from tests.bench.ratios import GOALS, ratios, verdict

ALL = {
    "engine_sqlite_sequential_steps_per_s": 300.0,
    "engine_sqlite_parallel_steps_per_s": 200.0,
    "engine_postgres_sequential_steps_per_s": 60.0,
    "engine_postgres_parallel_steps_per_s": 120.0,
    "dbos_sqlite_sequential_steps_per_s": 300.0,
    "dbos_sqlite_parallel_steps_per_s": 250.0,
    "dbos_postgres_sequential_steps_per_s": 80.0,
    "dbos_postgres_parallel_steps_per_s": 120.0,
    "temporal_sequential_steps_per_s": 20.0,
    "temporal_parallel_steps_per_s": 40.0,
    "prefect_sequential_steps_per_s": 5.0,
    "prefect_parallel_steps_per_s": 2.0,
    "ansible_sequential_steps_per_s": 10.0,
    "ansible_parallel_steps_per_s": 10.0,
    "approval_sqlite_p50_ms": 15.0,
    "approval_postgres_p50_ms": 20.0,
    "dbos_sqlite_message_p50_ms": 30.0,
    "dbos_postgres_message_p50_ms": 10.0,
    "engine_sqlite_step_ms_with_100_runs": 4.0,
    "engine_sqlite_step_ms_with_100000_runs": 5.0,
    "engine_postgres_step_ms_with_100_runs": 10.0,
    "engine_postgres_step_ms_with_100000_runs": 10.5,
}


def without(*parts: str) -> dict[str, float | None]:
    return {name: None if any(p in name for p in parts) else v for name, v in ALL.items()}


class TestRatios:
    def test_each_is_the_worst_of_loads_and_stores(self):
        """
        One good figure does not make up for a bad one.
        """
        assert ratios(ALL) == {
            "engine_vs_dbos_ratio": 60 / 80,
            "engine_vs_temporal_ratio": 200 / 40,
            "engine_vs_prefect_ratio": 300 / 5,
            "engine_vs_ansible_ratio": 200 / 10,
            "approval_vs_dbos_ratio": 20 / 10,
            "engine_growth_ratio": 5 / 4,
        }

    def test_a_store_that_was_not_measured_does_not_count(self):
        """
        Without PostgreSQL the ratios are those on SQLite.
        """
        found = ratios(without("postgres"))

        assert found["engine_vs_dbos_ratio"] == 200 / 250
        assert found["approval_vs_dbos_ratio"] == 15 / 30
        assert found["engine_growth_ratio"] == 5 / 4

    @pytest.mark.parametrize("peer", ["dbos", "temporal", "prefect", "ansible"])
    def test_a_peer_that_is_missing_leaves_no_ratio(self, peer):
        """
        Also when only one of its two loads could not be measured; the other peers stay.
        """
        for gone in (without(peer), without(f"{peer}_parallel", f"{peer}_sqlite", "dbos_postgres")):
            found = ratios(gone)

            assert found[f"engine_vs_{peer}_ratio"] is None
            assert found["engine_growth_ratio"] == 5 / 4

    def test_no_figures_are_no_ratios(self):
        """
        Every name is there all the same, so that a missing one shows.
        """
        assert set(ratios({}).values()) == {None}
        assert set(ratios({})) <= set(GOALS)

    def test_nothing_is_divided_by_zero(self):
        """
        A peer that did no step in a second was not measured.
        """
        assert (
            ratios(ALL | {"temporal_parallel_steps_per_s": 0.0})["engine_vs_temporal_ratio"] is None
        )


class TestVerdict:
    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("engine_vs_dbos_ratio", 0.6, "at least 0.6: met"),
            ("engine_vs_dbos_ratio", 0.59, "at least 0.6: NOT MET"),
            ("engine_growth_ratio", 1.2, "at most 1.2: met"),
            ("engine_growth_ratio", 1.21, "at most 1.2: NOT MET"),
            ("engine_growth_ratio", None, "at most 1.2: NOT MEASURED"),
            ("serve_start_s", 1.0, ""),
            ("dbos_postgres_message_p50_ms", None, "not measured"),
        ],
    )
    def test_says_whether_the_goal_is_met(self, name, value, said):
        """
        What was not measured is never met.
        """
        assert verdict(name, value) == said
