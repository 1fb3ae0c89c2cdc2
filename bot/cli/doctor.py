"""``firedoor doctor``: test every connection and say what to mend."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import click

from bot.cli.common import attached, chat_of, json_option, print_json, settings_of
from bot.cli.show import console, table
from bot.errors import FiredoorError


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Test every connection. Exits 5 if one gives no answer, 4 if one refuses."""
    settings = settings_of(ctx)
    with attached(ctx) as service:
        checks = dict(service.checks)
        chat = chat_of(settings)
        if chat is not None:
            checks["slack"] = chat.check
        with ThreadPoolExecutor(max_workers=8) as pool:
            results = list(pool.map(_try, checks.items()))
    if as_json:
        print_json([{"connection": n, "ok": code == 0, "says": said} for n, code, said in results])
    else:
        rows = [("ok" if code == 0 else "NOT OK", n, said) for n, code, said in results]
        console.print(table(("", "Connection", "What it says"), rows))
    worst = max((code for _, code, _ in results), default=0)
    ctx.exit(worst)


def _try(item: tuple[str, object]) -> tuple[str, int, str]:
    name, check = item
    assert callable(check)  # noqa: S101  # wiring makes nothing else
    try:
        return name, 0, str(check())
    except FiredoorError as error:
        return name, error.exit_code, str(error)
