"""``make bench``: measure, print a table, write ``bench-results.json`` (name to number).

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
from tests.bench.steps import measure_steps

RESULTS = Path(__file__).resolve().parents[2] / "bench-results.json"

GOALS = {
    "containment_vs_script_ratio": 10.0,
    "serve_rss_mb": 200.0,
    "cli_version_vs_python_ratio": 12.0,
}
"""At most."""


def main() -> None:
    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="firedoor-bench-") as folder:
        results |= measure_command_line()
        results |= measure_steps(Path(folder) / "steps")
        results |= measure_containment(Path(folder) / "containment")
    results = {name: round(value, 3) for name, value in sorted(results.items())}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    table = Table("Figure", "Value", "Goal", box=None)
    for name, value in results.items():
        goal = GOALS.get(name)
        shown = "" if goal is None else f"at most {goal:g}: {'met' if value <= goal else 'NOT MET'}"
        table.add_row(name, f"{value:g}", shown)
    Console().print(table)


main()
