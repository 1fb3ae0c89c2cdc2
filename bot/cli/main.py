"""``firedoor``: the entry point. It imports a command's module only when that command is called,
so that ``firedoor --version`` and completion stay quick."""

from __future__ import annotations

import importlib
import sys

import click

from bot import __version__

EXIT_INTERRUPTED = 130

_COMMANDS = {
    "answer": "bot.cli.people:answer",
    "approve": "bot.cli.people:approve",
    "audit": "bot.cli.audit:audit",
    "cancel": "bot.cli.verbs:cancel",
    "check": "bot.cli.runbooks:check",
    "containments": "bot.cli.containments:containments",
    "decide": "bot.cli.people:decide",
    "demo": "bot.cli.demo:demo",
    "doctor": "bot.cli.doctor:doctor",
    "graph": "bot.cli.graph:graph",
    "incidents": "bot.cli.incidents:incidents",
    "override": "bot.cli.people:override",
    "pause": "bot.cli.verbs:pause",
    "plan": "bot.cli.runbooks:plan",
    "postmortem": "bot.cli.incidents:postmortem",
    "rehearse": "bot.cli.runbooks:rehearse",
    "reject": "bot.cli.people:reject",
    "rerun": "bot.cli.verbs:rerun",
    "resume": "bot.cli.verbs:resume",
    "retry": "bot.cli.verbs:retry",
    "review": "bot.cli.people:review",
    "run": "bot.cli.run:run",
    "sandbox": "bot.cli.sandbox:sandbox",
    "schema": "bot.cli.runbooks:schema",
    "serve": "bot.cli.serve:serve",
    "skip": "bot.cli.verbs:skip",
    "status": "bot.cli.incidents:status",
    "timeline": "bot.cli.incidents:timeline",
    "undo": "bot.cli.verbs:undo",
}

_SUMMARIES = {
    "answer": "Answer a manual step's question.",
    "approve": "Approve the plan that a run waits for.",
    "audit": "Check the journal's hash chain.",
    "cancel": "End a run; its changes stay, or are taken back.",
    "check": "Check runbooks; say every problem.",
    "containments": "List, extend, hand over, lift or hand off what is in force.",
    "decide": "Decide what to do about a failed step.",
    "demo": "Run the main job once, on real parts, by itself.",
    "doctor": "Test every connection; say what to mend.",
    "graph": "Draw a runbook, or the way that a run took.",
    "incidents": "List incidents.",
    "override": "Break the glass: go on without an approval.",
    "pause": "Hold a run; nothing more begins.",
    "plan": "Show what a runbook would do; change nothing.",
    "postmortem": "Draft an incident's postmortem.",
    "rehearse": "Run runbooks' rehearsals.",
    "reject": "Reject the plan that a run waits for.",
    "rerun": "Start a new run from a step on.",
    "resume": "Let a paused run go on.",
    "retry": "Try a failed step again now.",
    "review": "Review a glass that somebody broke.",
    "run": "Start a run and follow it.",
    "sandbox": "Start a small company to try things on.",
    "schema": "Print the JSON Schema of the runbook language.",
    "serve": "Serve Slack and webhooks.",
    "skip": "Pass over a step of a run.",
    "status": "Show runs that are not over, and what they wait for.",
    "timeline": "Show what happened in an incident.",
    "undo": "Take a run's changes back, the last one first.",
}


class _LazyGroup(click.Group):
    """Knows its commands by name and imports only the one that is called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[name].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101  # our own table
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_SUMMARIES.items()))


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Exit codes: 0 done, 2 bad input, 3 refused, 4 failed, 5 unreachable, 130 interrupted."
    ),
)
@click.version_option(__version__, prog_name="firedoor")
@click.option(
    "--config",
    "config",
    metavar="FILE",
    help="Settings file. Default: $FIREDOOR_CONFIG, or firedoor.yaml here.",
)
@click.pass_context
def cli(ctx: click.Context, config: str | None) -> None:
    """Firedoor: incident response for APIs."""
    ctx.obj = config


def main() -> None:
    """Run the command line and exit with its code."""
    from bot.errors import FiredoorError

    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        code = done.exit_code
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("Interrupted.", err=True)
        code = EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except FiredoorError as error:
        from bot.cli.show import clean  # only where something went wrong

        # It may quote what somebody wrote as a reason.
        click.echo(clean(str(error)), err=True)
        code = error.exit_code
    except BrokenPipeError:
        code = 0
    sys.exit(code if isinstance(code, int) else 0)
