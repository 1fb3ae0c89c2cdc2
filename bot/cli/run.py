"""``firedoor run``: start a run and follow it to its end."""

from __future__ import annotations

import time

import click

from bot.cli.common import attached, json_option, log_to_stderr, me, print_json, settings_of
from bot.cli.driving import end_on_terminate, engine, is_driven
from bot.cli.people import pairs
from bot.cli.show import console
from bot.model.incident import Origin, RunStatus, StartRun
from bot.postmortem.timeline import timeline
from bot.service.app import Service
from bot.service.incidents import Started

FOLLOW_S = 0.2
"""How often the journal is looked at while a run is followed."""

TELL_S = 10.0
"""How long an ended run's last messages are waited for."""

EXIT_CODES = {
    RunStatus.DONE: 0,
    RunStatus.FAILED: 4,
    RunStatus.STOPPED: 3,
    RunStatus.CANCELLED: 3,
    RunStatus.UNDONE: 3,
}


@click.command()
@click.argument("runbook")
@click.argument("inputs", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--incident", metavar="INC-N", help="Run it in this incident, not in a new one.")
@click.option("--detach", is_flag=True, help="Do not follow; a serving process drives it.")
@json_option
@click.pass_context
def run(
    ctx: click.Context,
    runbook: str,
    inputs: tuple[str, ...],
    incident: str | None,
    detach: bool,
    as_json: bool,
) -> None:
    """Start RUNBOOK with its inputs and follow it.

    If `firedoor serve` runs, it drives the run; otherwise this command does, until the run is over
    or you interrupt it (then the next `firedoor serve` goes on).
    """
    settings = settings_of(ctx)
    log_to_stderr(settings, level=30)
    end_on_terminate()
    opened = attached(ctx) if detach or is_driven(settings) else engine(settings)
    with opened as service:
        wish = StartRun(
            runbook_id=runbook,
            inputs=pairs(inputs),
            origin=Origin(kind="person", actor=me(service).actor),
            incident_id=incident,
        )
        service.check_start(wish, me(service))
        started = service.incidents.start(wish)
        if detach:
            print_json({"incident": started.incident.id, "run": started.run.id})
            return
        status = _follow(service, started, quiet=as_json)
        _wait_until_told(service, started.incident.id)
        if as_json:
            state = service.reports.state(started.run.id)
            print_json(
                {
                    "incident": started.incident.id,
                    "run": started.run.id,
                    "status": status.value,
                    "reason": state.reason,
                    "outputs": state.outputs,
                    "steps": {name: s.status.value for name, s in state.steps.items()},
                }
            )
    ctx.exit(EXIT_CODES[status])


def _wait_until_told(service: Service, incident_id: str) -> None:
    """Give messages a moment to be sent; what is left is sent by the next `firedoor serve`."""
    deadline = time.monotonic() + TELL_S
    while service.reports.unsent(incident_id) and time.monotonic() < deadline:
        time.sleep(FOLLOW_S)


def _follow(service: Service, started: Started, *, quiet: bool) -> RunStatus:
    """Print what happens until the run is over; return how it ended."""
    shown = 0
    while True:
        status = next(
            r.status
            for r in service.reports.runs(incident_id=started.incident.id)
            if r.id == started.run.id
        )
        if not quiet:
            for entry in timeline(service.reports.records(started.incident.id)):
                if entry.seq > shown:
                    console.print(f"{entry.at:%H:%M:%S} {entry.text}", markup=False)
                    shown = entry.seq
        if status.is_final:
            return status
        time.sleep(FOLLOW_S)
