"""Commands that act on a run as a whole: cancel, pause, resume, skip, retry, rerun, undo."""

from __future__ import annotations

import click

from bot.cli.common import attached, me

_reason = click.option("--reason", default="", help="Shown to everyone, kept in the journal.")


@click.command()
@click.argument("run")
@_reason
@click.option("--undo", is_flag=True, help="Take its changes back; else they stay as they are.")
@click.pass_context
def cancel(ctx: click.Context, run: str, reason: str, undo: bool) -> None:
    """End RUN once its current effect is done. Its `always` steps still run.

    Called again, nobody is waited for any more: what is left of `always` is not run.
    """
    with attached(ctx) as service:
        click.echo(service.people.cancel(run, me(service), reason, undo=undo))


@click.command()
@click.argument("run")
@_reason
@click.pass_context
def undo(ctx: click.Context, run: str, reason: str) -> None:
    """Take every change of RUN back, the last one first; also after its end."""
    with attached(ctx) as service:
        click.echo(service.people.undo(run, me(service), reason))


@click.command()
@click.argument("run")
@_reason
@click.pass_context
def pause(ctx: click.Context, run: str, reason: str) -> None:
    """Hold RUN: its current effect is brought to its end, nothing more begins."""
    with attached(ctx) as service:
        click.echo(service.people.pause(run, me(service), reason))


@click.command()
@click.argument("run")
@click.pass_context
def resume(ctx: click.Context, run: str) -> None:
    """Let a paused RUN go on."""
    with attached(ctx) as service:
        click.echo(service.people.resume(run, me(service)))


@click.command()
@click.argument("run")
@click.argument("step")
@_reason
@click.pass_context
def skip(ctx: click.Context, run: str, step: str, reason: str) -> None:
    """Pass over a STEP of RUN that has not begun, or that waits."""
    with attached(ctx) as service:
        click.echo(service.people.skip(run, step, me(service), reason))


@click.command()
@click.argument("run")
@click.argument("step")
@click.pass_context
def retry(ctx: click.Context, run: str, step: str) -> None:
    """Try the failed STEP of RUN again now."""
    with attached(ctx) as service:
        click.echo(service.people.retry(run, step, me(service)))


@click.command()
@click.argument("run")
@click.argument("step")
@click.pass_context
def rerun(ctx: click.Context, run: str, step: str) -> None:
    """Start a new run from STEP of RUN on, keeping what the steps before it left.

    A live RUN is ended for it, with its changes as they are.
    """
    with attached(ctx) as service:
        click.echo(f"{service.incidents.rerun(run, step, me(service)).id} is running.")
