"""``firedoor audit``: the journal's hash chain."""

from __future__ import annotations

import click

from bot.cli.common import attached, json_option, print_json
from bot.cli.show import console
from bot.errors import JournalBroken


@click.group()
def audit() -> None:
    """Check the journal."""


@audit.command()
@json_option
@click.pass_context
def verify(ctx: click.Context, as_json: bool) -> None:
    """Check every record's hash and its link to the one before; name the first bad one."""
    with attached(ctx) as service:
        try:
            count = service.reports.audit()
        except JournalBroken as error:
            if as_json:
                print_json({"ok": False, "first_bad": error.seq, "message": str(error)})
                ctx.exit(error.exit_code)
            raise
        records = service.reports.records()
    head = records[-1].hash if records else ""
    if as_json:
        print_json({"ok": True, "records": count, "head": head})
    else:
        console.print(f"The journal holds: {count} records, head {head[:16] or '(empty)'}.")
