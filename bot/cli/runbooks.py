"""Commands about runbooks: check, plan, schema, rehearse."""

from __future__ import annotations

from pathlib import Path

import click
from rich.text import Text

from bot import wiring
from bot.cli.common import attached, json_option, me, print_json, settings_of
from bot.cli.people import pairs
from bot.cli.show import clean, console, errors, line, table
from bot.errors import BadInput, Problem, Refused, Unreachable
from bot.folders import read_text
from bot.language.inputs import bind
from bot.language.load import check_files
from bot.language.schema import schema as schema_of
from bot.service.cards import plan_text
from bot.service.preview import Foreseen
from bot.settings import DEFAULT_FILE, default_file


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
@click.pass_context
def check(ctx: click.Context, files: tuple[Path, ...], as_json: bool) -> None:
    """Check runbook FILES and say every problem. Needs no settings and calls nothing.

    A runbook that calls another is checked together with it: name both.
    """
    texts: dict[str, str] = {}
    found: dict[str, tuple[Problem, ...]] = {}
    for path in files:
        try:
            text, problems = read_text(path)
        except OSError as error:
            raise BadInput(
                f"{path} cannot be read ({error.strerror}); nothing was checked."
            ) from None
        if text is None:
            found[str(path)] = problems
        else:
            texts[str(path)] = text
    found |= check_files(texts, wiring.actions())
    count = sum(len(problems) for problems in found.values())
    if as_json:
        print_json(
            [
                {"file": file, "line": p.line, "column": p.column, "at": p.where, "says": p.message}
                for file, problems in found.items()
                for p in problems
            ]
        )
    else:
        for file, problems in found.items():
            for p in problems:
                place = f" {p.where}:" if p.where else ""
                errors.print(
                    f"{file}:{p.line}:{p.column}:{place} {p.message}", markup=False, soft_wrap=True
                )
            if not problems:
                console.print(f"{file}: no problems", markup=False, soft_wrap=True)
    ctx.exit(BadInput.exit_code if count else 0)


@click.command()
@click.argument("runbook")
@click.argument("inputs", nargs=-1, metavar="[NAME=VALUE]...")
@json_option
@click.pass_context
def plan(ctx: click.Context, runbook: str, inputs: tuple[str, ...], as_json: bool) -> None:
    """Show what RUNBOOK would do with these inputs. Looks at the real systems, changes nothing.

    Exits 3 if anything would be refused as things stand, and 5 if that cannot be told because a
    system gives no answer.
    """
    with attached(ctx) as service:
        book = service.incidents.runbook(runbook)
        now = service.clock.now()
        bound = bind(book, pairs(inputs), service.incidents.endpoints, now)
        steps = service.foresee(book, bound, me(service))
    if as_json:
        print_json(
            {
                "runbook": book.id,
                "version": book.version,
                "inputs": bound,
                "steps": [step.model_dump(mode="json") for step in steps],
            }
        )
    else:
        console.print(f"{book.name} ({book.version[:12]})", markup=False)
        for step in steps:
            _print_step(step)
        refused = sum(bool(step.refused) for step in steps)
        unknown = sum(bool(step.unreachable) for step in steps)
        later = sum(bool(step.later) for step in steps)
        console.print(
            f"{len(steps)} steps; {refused} would be refused, {later} known only at the run, "
            f"{unknown} could not be looked at. Nothing was changed."
        )
    if any(step.refused for step in steps):
        ctx.exit(Refused.exit_code)
    ctx.exit(Unreachable.exit_code if any(step.unreachable for step in steps) else 0)


def _print_step(step: Foreseen) -> None:
    """Print one step: what it does, on what conditions, and the difference that it would make."""
    depth = "  " * step.step.count(".")
    head = f"{step.step}  {step.does}"
    effect = f"  [{step.effect}]" if step.effect else ""
    console.print(f"{depth}{line(head)}{effect}", markup=False)
    lines = [
        ("if", "" if step.when == "yes" else step.when),
        ("approval", step.approval),
        ("expires after", f"{step.ttl_s:g} s" if step.ttl_s else ""),
        ("plan", f"{step.plan.summary} ({step.plan.digest[:12]})" if step.plan else ""),
        ("known later", step.later),
        ("REFUSED", step.refused),
        ("NO ANSWER", step.unreachable),
    ]
    for name, text in lines:
        if text:
            console.print(f"{depth}    {name}: {line(text)}", markup=False, soft_wrap=True)
    if step.plan is not None:
        for each in plan_text(step.plan).splitlines():
            console.print(f"{depth}      {clean(each)}", markup=False, soft_wrap=True)


@click.command()
def schema() -> None:
    """Print the JSON Schema of the runbook language, for editors."""
    print_json(schema_of(wiring.actions()))


@click.command()
@click.argument("runbooks", nargs=-1, metavar="[FOLDER]...", type=click.Path(path_type=Path))
@click.option("--junit", metavar="FILE", help="Also write JUnit XML, for CI.")
@json_option
@click.pass_context
def rehearse(
    ctx: click.Context, runbooks: tuple[Path, ...], junit: str | None, as_json: bool
) -> None:
    """Run the rehearsals beside the runbooks of FOLDERs. Nothing outside is called.

    Without a FOLDER those of the settings are taken; without settings, those of ./runbooks.
    """
    from bot.cli.junit import junit_xml  # only this command
    from bot.folders import rehearse_folder

    folders = list(runbooks) or _folders(ctx)
    results = [r for folder in folders for r in rehearse_folder(folder, wiring.actions())]
    if junit is not None:
        try:
            Path(junit).write_bytes(junit_xml(results))
        except OSError as error:
            raise BadInput(
                f"{junit} cannot be written ({error.strerror}). Name another file with --junit."
            ) from None
    failed = [r for r in results if r.differences]
    if as_json:
        print_json(
            [
                {
                    "runbook": r.runbook,
                    "case": r.case,
                    "file": r.file,
                    "line": r.line,
                    "ok": not r.differences,
                    "says": r.differences,
                    "diff": r.diff,
                }
                for r in results
            ]
        )
    else:
        rows = [("ok" if not r.differences else "FAILED", r.runbook, r.case) for r in results]
        console.print(table(("", "Runbook", "Case"), rows))
        for r in failed:
            head = f"\n{r.file}:{r.line}: {r.case}"
            console.print(Text(clean(head), style="bold"), soft_wrap=True)
            for line in r.differences:
                console.print(Text(clean(f"  {line}")), soft_wrap=True)
            for line in r.diff.splitlines():
                style = _DIFF_STYLES.get(line[:1], "") if line[:3] not in ("---", "+++") else "bold"
                console.print(Text(clean(f"  {line}"), style=style), soft_wrap=True)
        console.print(f"{len(results)} cases, {len(failed)} failed")
    ctx.exit(4 if failed else 0)


_DIFF_STYLES = {"-": "red", "+": "green", "@": "cyan"}


def _folders(ctx: click.Context) -> list[Path]:
    here, settings = Path("runbooks"), default_file()
    unnamed = ctx.obj is None and settings == Path(DEFAULT_FILE)
    if unnamed and not settings.exists() and here.is_dir():
        return [here]
    return [Path(folder) for folder in settings_of(ctx).runbooks]
