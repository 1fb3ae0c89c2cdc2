"""The command that draws: graph."""

from __future__ import annotations

import re
from pathlib import Path

import click

from bot import wiring
from bot.cli.common import attached, settings_of
from bot.cli.show import console
from bot.engine.graph import mermaid, svg
from bot.engine.state import RunState
from bot.errors import BadInput, NotFound, RunbookInvalid
from bot.folders import load_folder, read_text
from bot.language.hints import shortened, which
from bot.language.load import check
from bot.language.runbook import Runbook

_RUN = re.compile(r"INC-[0-9]+-R[0-9]+")


@click.command()
@click.argument("what", metavar="RUNBOOK|FILE|RUN")
@click.option("--svg", "file", metavar="FILE", help="Write a picture; - is standard output.")
@click.option("--mermaid", "as_mermaid", is_flag=True, help="Print Mermaid (the default).")
@click.pass_context
def graph(ctx: click.Context, what: str, file: str | None, as_mermaid: bool) -> None:
    """Draw a runbook, or the way that a run took.

    A FILE needs no settings. A RUN, such as INC-7-R1, is drawn in the picture with where it went.
    """
    runbook, state = _found(ctx, what)
    if file is not None:
        _write(file, svg(runbook, state))
    if as_mermaid or file is None:
        click.echo(mermaid(runbook), nl=False)


def _found(ctx: click.Context, what: str) -> tuple[Runbook, RunState | None]:
    path = Path(what)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return _in_file(path), None
    if _RUN.fullmatch(what):
        with attached(ctx) as service:
            with service.store.read() as tx:
                run = tx.run(what).run
            return service.recorder.runbook_of(run), service.reports.state(what)
    known = wiring.runbooks(settings_of(ctx))
    if what not in known:
        raise NotFound(f"No runbook is called '{shortened(what)}'.{which(what, known)}")
    return known[what], None


def _in_file(path: Path) -> Runbook:
    known = wiring.actions()
    try:
        text, problems = read_text(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}); nothing was drawn.") from None
    runbook = None
    if text is not None:
        runbook, problems = check(text, str(path), known)
    if runbook is None:
        raise RunbookInvalid(str(path), problems)
    calls = any(step.call is not None for step in runbook.every_step())
    # What it calls is in the files beside it.
    return load_folder([path.parent], known)[runbook.id] if calls else runbook


def _write(file: str, drawing: str) -> None:
    if file == "-":
        click.echo(drawing, nl=False)
        return
    try:
        Path(file).write_text(drawing, encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"{file} cannot be written ({error.strerror}); nothing was drawn. "
            "Name another file with --svg."
        ) from None
    console.print(file, markup=False, soft_wrap=True)
