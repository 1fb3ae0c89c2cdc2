"""``make bench``: measure, print a table, write ``bench-results.json`` (name to number, or to null
for what could not be measured here).

    python -m tests.bench [--part NAME ...]

Figures of one machine at one moment: compare ratios, taken in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.command_line import measure_command_line
from tests.bench.containment import measure_containment
from tests.bench.engine import measure_engine, measure_growth
from tests.bench.fleet import measure_fleet
from tests.bench.gateways import measure_gateways
from tests.bench.peers import measure_peers, postgres
from tests.bench.ratios import ratios, verdict

ROUNDS = 3
RESULTS = Path(__file__).resolve().parents[2] / "bench-results.json"

Figures = dict[str, float | None]


def engine(folder: Path) -> Figures:
    """Measure ours and the peers in turns, so that the machine's moods fall on all of them. What
    is returned is the median of the rounds, for ratios that of each round's own."""
    rounds = []
    for number in range(ROUNDS):
        found = _engine(folder / str(number)) | measure_peers()
        rounds.append(found | {name: v for name, v in ratios(found).items() if v is not None})
    names = dict.fromkeys(name for found in rounds for name in found)
    return {name: _median([found.get(name) for found in rounds]) for name in names}


def _median(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def _engine(folder: Path) -> Figures:
    found: Figures = dict(measure_engine(folder / "sqlite", "sqlite"))
    with postgres() as server:
        url = server.url(server.create("engine"), driver="postgresql")
        found |= measure_engine(folder / "postgres", "postgres", url)
    return found


def growth(folder: Path) -> Figures:
    found: Figures = dict(measure_growth((folder / "few", folder / "many"), "sqlite"))
    with postgres() as server:
        few, many = (
            server.url(server.create(name), driver="postgresql") for name in ("few", "many")
        )
        folders = (folder / "few-postgres", folder / "many-postgres")
        found |= measure_growth(folders, "postgres", (few, many))
    return found


PARTS: dict[str, Callable[[Path], Figures]] = {
    "command-line": lambda _folder: dict(measure_command_line()),
    "containment": lambda folder: dict(measure_containment(folder)),
    "gateways": lambda folder: measure_gateways(folder) | measure_fleet(folder / "fleet"),
    "engine": engine,
    "growth": growth,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", action="append", choices=list(PARTS), help="Only this part.")
    chosen = parser.parse_args().part or list(PARTS)
    results: Figures = {}
    with tempfile.TemporaryDirectory(prefix="firedoor-bench-") as folder:
        for name in chosen:
            print(f"{name} ...", file=sys.stderr, flush=True)
            results |= PARTS[name](Path(folder) / name)
    results = ratios(results) | results
    results = {
        name: None if value is None else round(value, 3) for name, value in sorted(results.items())
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    table = Table("Figure", "Value", "Goal", box=None)
    for name, value in results.items():
        table.add_row(name, "" if value is None else f"{value:g}", verdict(name, value))
    Console().print(table)


main()
