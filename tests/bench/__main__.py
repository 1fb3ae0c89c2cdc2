"""``make bench``: measure, print a table, write ``bench-results.json`` (name to number, or to null
for what could not be measured here).

Figures of one machine at one moment: compare ratios, taken in the same run.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.command_line import measure_command_line
from tests.bench.containment import measure_containment
from tests.bench.peers import measure_peers
from tests.bench.ratios import ratios, verdict
from tests.bench.steps import measure_steps

RESULTS = Path(__file__).resolve().parents[2] / "bench-results.json"


def main() -> None:
    results: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory(prefix="firedoor-bench-") as folder:
        results |= measure_command_line()
        results |= measure_steps(Path(folder) / "steps")
        results |= measure_containment(Path(folder) / "containment")
    results |= measure_peers()
    results |= ratios(results)
    results = {
        name: None if value is None else round(value, 3) for name, value in sorted(results.items())
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    table = Table("Figure", "Value", "Goal", box=None)
    for name, value in results.items():
        table.add_row(name, "" if value is None else f"{value:g}", verdict(name, value))
    Console().print(table)


main()
