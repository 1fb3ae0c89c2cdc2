"""``firedoor containments``: list, extend, hand over, lift, patch."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from actions.gateway.handoff import FORMATS, Format, Patch, chosen
from actions.gateway.handoff import patch as render
from bot.cli.common import attached, json_option, me, print_json, settings_of
from bot.cli.driving import driving_lock, is_driven
from bot.cli.show import clean, console, errors, table
from bot.errors import BadInput, ProviderUnreachable


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
            c.control.place,
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
            left = [name for name in gateways if not service.desk.gateways.reconcile(name)]
    if left:
        raise ProviderUnreachable(
            f"{containment} is lifted, but gateway {', '.join(left)} could not be brought there "
            "and holds the old controls still. `firedoor doctor` says why. Start `firedoor serve`, "
            "which goes on trying."
        )
    console.print(f"{containment} is lifted, and the gateway reports it.")


@containments.command("patch")
@click.argument("containment", nargs=-1, required=True)
@click.option("--format", "format_", type=click.Choice(FORMATS), required=True, help="Of what.")
@click.option("--out", "file", metavar="FILE", help="Write it here instead of printing it.")
@click.pass_context
def patch_(
    ctx: click.Context, containment: tuple[str, ...], format_: str, file: str | None
) -> None:
    """Print CONTAINMENTs as a patch for the gateway's own configuration, for a pull request."""
    with attached(ctx) as service:
        found = chosen(containment, service.desk.get, service.clock.now())
        made = render(
            cast(Format, format_),
            [each.control for each in found],
            containments=found,
            known=service.incidents.endpoints,
        )
    if file is None:
        click.echo(made.text, nl=False)
    else:
        _write(made, file)
    for sentence in made.unsupported:
        errors.print(f"Not in the patch: {clean(sentence)}", markup=False, soft_wrap=True)


def _write(made: Patch, file: str) -> None:
    try:
        Path(file).write_text(made.text, encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"{file} cannot be written ({error.strerror}); nothing was rendered. Name another file "
            "with --out."
        ) from None
    console.print(file, markup=False, soft_wrap=True)
