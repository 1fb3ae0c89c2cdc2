"""Commands that read incidents: incidents, status, timeline; and postmortem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bot.cli.common import attached, json_option, print_json
from bot.cli.show import clean, console, line, table
from bot.errors import BadInput
from bot.model.base import Frozen
from bot.postmortem.timeline import timeline as tell
from bot.service.reports import Waiting, in_order, standing


@click.command()
@json_option
@click.pass_context
def incidents(ctx: click.Context, as_json: bool) -> None:
    """List incidents, newest first."""
    with attached(ctx) as service:
        found = service.reports.incidents()
    if as_json:
        print_json([incident.model_dump(mode="json") for incident in found])
        return
    if not found:
        console.print("There are no incidents.")
        return
    rows = [
        (i.id, i.severity.value, i.status.value, f"{i.opened_at:%Y-%m-%d %H:%M:%S}", i.title)
        for i in found
    ]
    console.print(table(("Incident", "Severity", "Status", "Opened (UTC)", "Title"), rows))


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also runs that are over.")
@json_option
@click.pass_context
def status(ctx: click.Context, everything: bool, as_json: bool) -> None:
    """Show runs that are not over, what each waits for, and which reviews wait."""
    with attached(ctx) as service:
        runs = service.reports.to_show(everything=everything)
        states = {run.id: service.reports.state(run.id) for run in runs}
        waits = {run.id: service.reports.waiting(run.id) for run in runs}
    if as_json:
        print_json(
            [
                {
                    "run": run.id,
                    "incident": run.incident_id,
                    "runbook": run.runbook_id,
                    "status": run.status.value,
                    "reason": states[run.id].reason,
                    "paused_by": states[run.id].paused_by,
                    "ending": _json(states[run.id].ending),
                    "waits": [_json(each) for each in waits[run.id]],
                    "steps": {
                        step_id: step.model_dump(
                            mode="json", include={"status", "note", "failure", "deadline"}
                        )
                        for step_id, step in in_order(states[run.id])
                    },
                }
                for run in runs
            ]
        )
        return
    if not runs:
        console.print("No run is going on.")
    for run in runs:
        state = states[run.id]
        stands = standing(state) or run.status.value
        head = line(f"{run.id} {run.runbook_id}: {stands}")
        console.print(head, markup=False, soft_wrap=True)
        rows = [
            (
                "  " * step_id.count(".") + step_id,
                step.status.value.replace("_", " "),
                line(step.failure.message if step.failure else step.note),
            )
            for step_id, step in in_order(state)
        ]
        console.print(table(("Step", "Status", ""), rows))
        for each in waits[run.id]:
            _print_waiting(each)


def _json(model: Frozen | None) -> Any:
    return None if model is None else model.model_dump(mode="json")


def _print_waiting(each: Waiting) -> None:
    """Print what is waited for, of whom and until when, and the command that answers it."""
    parts = [line(each.what)]
    if each.kind != "retry":
        whom = ", ".join(each.groups) or "whoever may act"
        parts.append(f"of {whom}" if each.required == 1 else f"{each.required} of {whom}")
    if each.given:
        parts.append(f"given by {', '.join(each.given)}")
    if each.not_by:
        parts.append(f"not by {', '.join(each.not_by)}")
    if each.due:
        parts.append(f"due {each.due:%Y-%m-%d %H:%M:%S} UTC")
    if each.until:
        verb = "tried again at" if each.kind == "retry" else "until"
        parts.append(f"{verb} {each.until:%Y-%m-%d %H:%M:%S} UTC")
    text = f"  {each.step} waits: {'; '.join(parts)}"
    console.print(clean(text), markup=False, soft_wrap=True)
    console.print(f"      {line(each.command)}", markup=False, soft_wrap=True)


@click.command()
@click.argument("incident")
@click.option("--full", is_flag=True, help="Also timers, messages and notes.")
@json_option
@click.pass_context
def timeline(ctx: click.Context, incident: str, full: bool, as_json: bool) -> None:
    """Show what happened in INCIDENT, in the order of the journal."""
    with attached(ctx) as service:
        entries = tell(service.reports.records(incident), full=full)
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in entries])
        return
    rows = [(str(e.seq), f"{e.at:%H:%M:%S.%f}"[:-3], e.actor, e.text) for e in entries]
    console.print(table(("#", "UTC", "Who", "What"), rows))


@click.command()
@click.argument("incident")
@click.option("--out", metavar="FOLDER", default=".", show_default=True, help="Where to write it.")
@json_option
@click.pass_context
def postmortem(ctx: click.Context, incident: str, out: str, as_json: bool) -> None:
    """Draft INCIDENT's postmortem anew and write its three forms to a folder."""
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be made ({error.strerror}); nothing was written. "
            "Name another folder with --out."
        ) from None
    written: dict[str, str] = {}
    with attached(ctx) as service:
        for evidence in service.postmortems.draft(incident):
            ending = evidence.id.rpartition(".")[2]
            target = folder / f"{incident}-postmortem.{ending}"
            target.write_bytes(service.postmortems.read(evidence))
            written[ending] = str(target)
    if as_json:
        print_json(written)
    else:
        for path in written.values():
            console.print(path, soft_wrap=True)
