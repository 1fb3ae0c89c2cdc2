"""``firedoor demo``: the main job once, by itself, and what came of it."""

from __future__ import annotations

from pathlib import Path

import click

from bot.cli.common import json_option, print_json
from bot.cli.driving import end_on_terminate
from bot.cli.sandbox import need_sandbox
from bot.cli.show import console, errors, table
from bot.errors import Failed
from bot.settings import ROOT


@click.command()
@click.option("--out", metavar="FOLDER", default="demo-out", show_default=True)
@json_option
def demo(out: str, as_json: bool) -> None:
    """Run the main job once on real parts. Exits 0 only if every step was proven."""
    need_sandbox()
    from bot.sandbox.company import Company  # checked just above
    from bot.sandbox.main_job import MainJob, fresh_folder

    end_on_terminate()
    teller = errors if as_json else console
    folder = fresh_folder(Path(out))
    teller.print("Starting a small company: orders API, Envoy, OpenBao, AWS, mail, Slack ...")
    with Company(folder / "company", runbooks=ROOT / "runbooks") as company:
        teller.print(f"It is up after {company.started_in_s:.1f} s.", markup=False)
        result = MainJob(company, say=lambda text: teller.print(text, markup=False)).run()
    if as_json:
        print_json(result.as_json())
    else:
        console.print()
        rows = [(s["step"], s["status"], f"{s['took_s']} s") for s in result.steps]
        console.print(table(("Step", "Status", "Took"), rows))
        console.print()
        marks = [("ok" if f.ok else "NOT OK", f.name, f.seen) for f in result.findings]
        console.print(table(("", "Proven", "Seen"), marks))
        console.print()
        made = [(form, path) for form, path in sorted(result.postmortem.items())]
        made.append(("all", str(folder)))
        console.print(table(("Postmortem", "Path"), made))
        console.print(f"\n{result.incident}, {result.run}: {result.status}, {result.took_s:.0f} s")
    if not result.ok:
        failed = [finding.name for finding in result.findings if not finding.ok]
        raise Failed(
            f"Not proven: {'; '.join(failed)}. Everything is kept in {folder}; look at its logs."
        )
