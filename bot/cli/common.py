"""What commands share: settings, the service for reading and for writing, and printing."""

from __future__ import annotations

import json
import logging
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from bot import wiring
from bot.ports import Chat
from bot.service.app import Service
from bot.service.people import Person
from bot.service.redact import SecretRedactor
from bot.settings import Settings, default_file, load_settings

F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def settings_of(ctx: click.Context) -> Settings:
    """Read the settings file that the call names.

    Raises:
        SettingsInvalid: With every problem.
    """
    return load_settings(Path(ctx.obj) if ctx.obj else default_file())


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def me(service: Service) -> Person:
    """Who runs this process, by its user id: names in the environment could be anybody's."""
    return service.groups.person(f"cli:{pwd.getpwuid(os.getuid()).pw_name}")


def chat_of(settings: Settings) -> Chat | None:
    """Make the Slack connection, if one is configured."""
    if settings.slack is None:
        return None
    from bot.slack.chat import SlackChat  # only where Slack is used

    return SlackChat(settings.slack.bot_token.reveal(), settings.slack.api_url)


@contextmanager
def attached(ctx: click.Context) -> Iterator[Service]:
    """Open the service beside a serving process: it reads, and leaves messages; runs
    are driven by ``firedoor serve`` (or the next one to start)."""
    from bot.durable import LeftToOthers  # slow to import, only where runs are

    settings = settings_of(ctx)
    store = wiring.open_store(settings)
    try:
        yield wiring.build(settings, store, LeftToOthers())
    finally:
        store.close()


class _RedactingFormatter(logging.Formatter):
    def __init__(self, redactor: SecretRedactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        # CR and LF in a message could forge a line of the log.
        head, *rest = self._redactor.text(super().format(record)).replace("\r", "\\r").split("\n")
        return "\n".join([head, *(f"    {line}" for line in rest)])


def log_to_stderr(settings: Settings, level: int = logging.INFO) -> None:
    """Send the log to standard error, with every known secret taken out."""
    handler = logging.StreamHandler()
    handler.setFormatter(_RedactingFormatter(SecretRedactor(settings.secrets())))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("slack_sdk", "slack_bolt", "urllib3", "botocore", "alembic", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
