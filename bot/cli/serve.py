"""``firedoor serve``: Slack, webhooks, runs, the keeper and the senders in one process."""

from __future__ import annotations

import json
import logging
import os
import socket
from pathlib import Path

import click
import uvicorn

from bot.cli.common import log_to_stderr, settings_of
from bot.cli.driving import end_on_terminate, engine
from bot.errors import BadInput
from bot.service.app import Service
from bot.service.groups import actor_of
from bot.settings import Settings
from bot.slack.chat import SlackChat
from bot.slack.door import SlackDoor
from bot.web.app import create_app

log = logging.getLogger(__name__)


@click.command()
@click.option("--ready-file", metavar="FILE", help="Write the address here once alerts are taken.")
@click.pass_context
def serve(ctx: click.Context, ready_file: str | None) -> None:
    """Serve Slack and webhooks, and drive runs, until stopped."""
    settings = settings_of(ctx)
    log_to_stderr(settings)
    end_on_terminate()
    with engine(settings) as service, _listen(settings) as listener:
        door = _slack_door(settings, service)
        app = create_app(
            service,
            tokens={name: hook.token.reveal() for name, hook in settings.webhooks.items()},
            people={token.reveal(): actor_of(who) for who, token in settings.api_tokens.items()},
        )
        server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
        )
        host, port = listener.getsockname()[:2]
        log.info("Firedoor takes alerts at http://%s:%s", host, port)
        if ready_file:
            _write_ready(Path(ready_file), str(host), int(port))
        if door:
            door.start()
        try:
            server.run(sockets=[listener])
        finally:
            if door:
                door.close()


def _slack_door(settings: Settings, service: Service) -> SlackDoor | None:
    if settings.slack is None:
        return None
    chat = SlackChat(settings.slack.bot_token.reveal(), settings.slack.api_url)
    return SlackDoor(service, client=chat.client, app_token=settings.slack.app_token.reveal())


def _listen(settings: Settings) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in settings.http.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.http.host, settings.http.port))
    except OSError as error:
        raise BadInput(
            f"{settings.http.host}:{settings.http.port} cannot be listened on "
            f"({error.strerror}); nothing was started. Change `http` in firedoor.yaml."
        ) from None
    listener.listen(1024)
    return listener


def _write_ready(path: Path, host: str, port: int) -> None:
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps({"url": f"http://{host}:{port}", "pid": os.getpid()}))
    draft.replace(path)
