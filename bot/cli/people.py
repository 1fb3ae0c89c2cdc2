"""Commands by which a person answers a run's questions."""

from __future__ import annotations

from typing import Literal, cast

import click

from bot.cli.common import attached, me
from bot.errors import BadInput

_step = click.option("--step", metavar="STEP", help="Needed only if several steps ask.")


@click.command()
@click.argument("run")
@_step
@click.pass_context
def approve(ctx: click.Context, run: str, step: str | None) -> None:
    """Approve the plan that RUN waits for."""
    with attached(ctx) as service:
        ask = service.people.ask_of_step(run, step, "approval")
        click.echo(service.people.approve(ask.token, me(service)))


@click.command()
@click.argument("run")
@_step
@click.option("--reason", default="", help="Shown to everyone, kept in the journal.")
@click.pass_context
def reject(ctx: click.Context, run: str, step: str | None, reason: str) -> None:
    """Reject the plan that RUN waits for."""
    with attached(ctx) as service:
        ask = service.people.ask_of_step(run, step, "approval")
        click.echo(service.people.reject(ask.token, me(service), reason))


@click.command()
@click.argument("run")
@click.argument("values", nargs=-1, metavar="[NAME=VALUE]...")
@_step
@click.pass_context
def answer(ctx: click.Context, run: str, values: tuple[str, ...], step: str | None) -> None:
    """Answer the question that RUN waits for."""
    with attached(ctx) as service:
        ask = service.people.ask_of_step(run, step, "answer")
        click.echo(service.people.answer(ask.token, me(service), pairs(values)))


@click.command()
@click.argument("run")
@click.argument("choice", type=click.Choice(["retry", "skip", "stop", "done"]))
@_step
@click.pass_context
def decide(ctx: click.Context, run: str, choice: str, step: str | None) -> None:
    """Decide what to do about the step of RUN that failed."""
    with attached(ctx) as service:
        ask = service.people.ask_of_step(run, step, "decision")
        chosen = cast("Literal['retry', 'skip', 'stop', 'done']", choice)
        click.echo(service.people.decide(ask.token, me(service), chosen))


@click.command()
@click.argument("run")
@_step
@click.option("--reason", required=True, help="Why it cannot wait. Announced, and reviewed.")
@click.pass_context
def override(ctx: click.Context, run: str, step: str | None, reason: str) -> None:
    """Break the glass: let RUN go on without the approval it waits for."""
    with attached(ctx) as service:
        ask = service.people.ask_of_step(run, step, "approval")
        click.echo(service.people.override(ask.token, me(service), reason))


@click.command()
@click.argument("run")
@click.argument("step")
@click.option("--finding", required=True, help="Was it right, and what is to change?")
@click.pass_context
def review(ctx: click.Context, run: str, step: str, finding: str) -> None:
    """Review the glass that somebody broke at STEP of RUN."""
    with attached(ctx) as service:
        ask = service.people.review_of_step(run, step)
        click.echo(service.people.review(ask.token, me(service), finding))


def pairs(values: tuple[str, ...]) -> dict[str, str]:
    """Read ``NAME=VALUE`` words.

    Raises:
        BadInput: Names every word that is not one.
    """
    wrong = [value for value in values if "=" not in value]
    if wrong:
        raise BadInput(f"Not NAME=VALUE: {', '.join(wrong)}; nothing was done.")
    return dict(value.split("=", 1) for value in values)
