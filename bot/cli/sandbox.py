"""``firedoor sandbox``: a small company that stays up until it is stopped."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click

from bot.cli.driving import end_on_terminate
from bot.cli.show import console, table
from bot.errors import BadInput
from bot.settings import ROOT


@click.command()
@click.option("--dir", "folder", metavar="FOLDER", help="Keep its files here (must be empty).")
@click.option("--serve/--no-serve", default=True, help="Start `firedoor serve` in it, too.")
def sandbox(folder: str | None, serve: bool) -> None:
    """Start a small company on this machine: an orders API with a hole behind a real Envoy,
    OpenBao, an AWS stand-in, a mail server and a Slack stand-in with a web page."""
    company_type, start_firedoor = parts()
    end_on_terminate()
    with tempfile.TemporaryDirectory(prefix="firedoor-sandbox-") as scratch:
        where = Path(folder) if folder else Path(scratch) / "company"
        with company_type(where, runbooks=ROOT / "runbooks") as company:
            if serve:
                start_firedoor(company)
            console.print(table(("What", "Where"), company.urls().items()))
            console.print(f"\nSettings: {company.settings_file}", soft_wrap=True, markup=False)
            console.print("Open Slack in a browser and type /firedoor. Ctrl-C ends everything.")
            while True:
                time.sleep(3600)


def parts():  # type: ignore[no-untyped-def]  # classes of an extra that may not be installed
    """Import the sandbox.

    Raises:
        BadInput: Its extra is not installed.
    """
    try:
        from bot.sandbox.company import Company
        from bot.sandbox.main_job import start_firedoor
    except ModuleNotFoundError as error:
        raise BadInput(
            f"The sandbox needs the package {error.name}, which is not installed; nothing was "
            "started. Install the extra: pip install 'firedoor[sandbox]'."
        ) from None
    return Company, start_firedoor
