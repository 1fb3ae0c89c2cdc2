"""``firedoor containments``: list, extend, lift, hand over."""

from __future__ import annotations

import click

from bot.cli.common import attached, json_option, me, print_json, settings_of
from bot.cli.driving import driving_lock, is_driven
from bot.cli.show import console, table
from bot.errors import ProviderUnreachable


@click.group()
def containments() -> None:
    """What is in force at the gateways."""


@containments.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that ended.")
@json_option
@click.pass_context
def list_(ctx: click.Context, everything: bool, as_json: bool) -> None:
    """List containments, oldest first."""
    with attached(ctx) as service:
        found = service.reports.containments(in_force=not everything)
    if as_json:
        print_json([containment.model_dump(mode="json") for containment in found])
        return
    if not found:
        console.print("Nothing is in force.")
        return
    rows = [
        (
            c.id,
            c.gateway,
            c.control.kind.value,
            c.control.endpoint,
            f"{c.expires_at:%Y-%m-%d %H:%M:%S}",
            c.owner,
            f"lifted by {c.lifted_by}" if c.lifted_by else "in force",
        )
        for c in found
    ]
    headings = ("Containment", "Gateway", "Control", "Endpoint", "Expires (UTC)", "Owner", "State")
    console.print(table(headings, rows))


@containments.command()
@click.argument("containment")
@click.argument("ttl")
@click.pass_context
def extend(ctx: click.Context, containment: str, ttl: str) -> None:
    """Let CONTAINMENT expire TTL (such as 2h) from now."""
    with attached(ctx) as service:
        extended = service.custody.extend(containment, ttl, me(service))
    console.print(f"{containment} expires at {extended.expires_at:%Y-%m-%d %H:%M:%S} UTC.")


@containments.command()
@click.argument("containment")
@click.argument("to")
@click.pass_context
def handover(ctx: click.Context, containment: str, to: str) -> None:
    """Make TO (an id of firedoor.yaml, such as U0SAM) answerable for CONTAINMENT."""
    with attached(ctx) as service:
        owner = service.custody.hand_over(containment, to, me(service)).owner
    console.print(f"{owner} is answerable for {containment} now.")


@containments.command()
@click.argument("containment")
@click.pass_context
def lift(ctx: click.Context, containment: str) -> None:
    """End CONTAINMENT now and reopen what only it held."""
    with attached(ctx) as service:
        gateways = service.custody.lift(containment, me(service))
        if is_driven(settings_of(ctx)):
            console.print(f"{containment} is lifted; the serving process converges the gateway.")
            return
        with driving_lock(settings_of(ctx)):
            answers = [service.desk.gateways.reconcile(name) for name in gateways]
            reached = all(answers)
    if not reached:
        raise ProviderUnreachable(
            f"{containment} is lifted, but its gateway could not be brought there; it still holds "
            "the old controls. `firedoor doctor` says why. Start `firedoor serve`, which goes on "
            "trying."
        )
    console.print(f"{containment} is lifted, and the gateway reports it.")
