"""What Firedoor's figures are beside those of other systems in the same run, and what they ought
to be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

Figures = Mapping[str, float | None]

STORES = ("sqlite", "postgres")
LOADS = ("sequential", "parallel")
FEW, MANY = 100, 100_000
"""Finished runs in the store, for the growth."""

GOALS: dict[str, tuple[float, Literal["at least", "at most"]]] = {
    "approval_vs_dbos_ratio": (2.0, "at most"),
    **{
        f"close_vs_script_{kind}_ratio": (1.5, "at most")
        for kind in ("envoy", "haproxy", "nginx", "traefik", "caddy")
    },
    "cli_version_vs_python_ratio": (12.0, "at most"),
    "containment_vs_script_ratio": (10.0, "at most"),
    "engine_growth_ratio": (1.2, "at most"),
    "engine_vs_ansible_ratio": (3.0, "at least"),
    "engine_vs_dbos_ratio": (0.6, "at least"),
    "engine_vs_prefect_ratio": (10.0, "at least"),
    "engine_vs_temporal_ratio": (10.0, "at least"),
    "serve_rss_mb": (200.0, "at most"),
}


def ratios(figures: Figures) -> dict[str, float | None]:
    """Return every ratio, and None for one whose figures are not all there.

    Ours are read from ``engine_<store>_<load>_steps_per_s``, ``approval_<store>_p50_ms`` and
    ``engine_<store>_step_ms_with_<runs>_runs``; theirs as ``measure_peers`` names them. Each is the
    worst over the loads, and over the stores that were measured. The peers that have one store only
    keep their state in a file or nowhere, so they are compared with ours on SQLite.
    """
    on_sqlite = [f"engine_sqlite_{load}_steps_per_s" for load in LOADS]
    found: dict[str, float | None] = {}
    for peer in ("temporal", "prefect", "ansible"):
        theirs = [f"{peer}_{load}_steps_per_s" for load in LOADS]
        found[f"engine_vs_{peer}_ratio"] = _worst(min, figures, on_sqlite, theirs)
    per_store: dict[str, list[float | None]] = {"steps": [], "approval": [], "growth": []}
    for store in STORES:
        ours = [f"engine_{store}_{load}_steps_per_s" for load in LOADS]
        theirs = [f"dbos_{store}_{load}_steps_per_s" for load in LOADS]
        approval, message = [f"approval_{store}_p50_ms"], [f"dbos_{store}_message_p50_ms"]
        many, few = ([f"engine_{store}_step_ms_with_{runs}_runs"] for runs in (MANY, FEW))
        per_store["steps"].append(_worst(min, figures, ours, theirs))
        per_store["approval"].append(_worst(max, figures, approval, message))
        per_store["growth"].append(_worst(max, figures, many, few))
    found["engine_vs_dbos_ratio"] = _of_those_there(min, per_store["steps"])
    found["approval_vs_dbos_ratio"] = _of_those_there(max, per_store["approval"])
    found["engine_growth_ratio"] = _of_those_there(max, per_store["growth"])
    return found


def verdict(name: str, value: float | None) -> str:
    """Return what the printout says of a figure; empty for one without a goal."""
    if name not in GOALS:
        return "" if value is not None else "not measured"
    goal, bound = GOALS[name]
    if value is None:
        said = "NOT MEASURED"
    else:
        said = "met" if (value >= goal if bound == "at least" else value <= goal) else "NOT MET"
    return f"{bound} {goal:g}: {said}"


Choose = Callable[[Iterable[float]], float]


def _worst(
    choose: Choose, figures: Figures, ours: Sequence[str], theirs: Sequence[str]
) -> float | None:
    """Return the worst of ours / theirs, or None if one of them is missing."""
    quotients = []
    for above, below in zip(ours, theirs, strict=True):
        numerator, denominator = figures.get(above), figures.get(below)
        if numerator is None or not denominator:
            return None
        quotients.append(numerator / denominator)
    return choose(quotients)


def _of_those_there(choose: Choose, values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return choose(there) if there else None
