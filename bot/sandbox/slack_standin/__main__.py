"""``python -m bot.sandbox.slack_standin``: serves one workspace on loopback until it is stopped."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import uvicorn

from bot.errors import BadInput
from bot.sandbox.files import read_secret
from bot.sandbox.slack_standin.app import create_app
from bot.sandbox.slack_standin.archive import Archive
from bot.sandbox.slack_standin.connections import Protocol
from bot.sandbox.slack_standin.faults import Faults
from bot.sandbox.slack_standin.people import read_people
from bot.sandbox.slack_standin.socket_mode import ACK_TIMEOUT_S, Sockets
from bot.sandbox.slack_standin.standin import EVENTS, TRIGGER_LIFE_S, Standin
from bot.sandbox.slack_standin.workspace import Workspace

HOST = "127.0.0.1"


def build(options: argparse.Namespace) -> Standin:
    """
    Return the stand-in that the command line describes.

    Raises:
        BadInput: The file of people is not one, or a token file is empty or missing.
    """
    clock = time.time
    workspace = Workspace(Archive(options.state_dir), read_people(options.people), clock)
    return Standin(
        workspace=workspace,
        sockets=Sockets(workspace, options.ack_timeout_s),
        faults=Faults(clock),
        base_url=f"http://{HOST}:{options.port}",
        bot_token=_token(options.bot_token_file),
        app_token=_token(options.app_token_file),
        clock=clock,
        commands=_words(options.commands),
        events=_words(options.events),
        trigger_life_s=options.trigger_life_s,
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _token(path: Path) -> str:
    try:
        token = read_secret(path)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read ({error.strerror}), so the Slack stand-in was not started. "
            "Write the token into it."
        ) from error
    if not token:
        raise BadInput(f"{path} is empty, so the Slack stand-in was not started. Write a token.")
    return token


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bot.sandbox.slack_standin")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--bot-token-file", type=Path, required=True)
    parser.add_argument("--app-token-file", type=Path, required=True)
    parser.add_argument("--people", type=Path, required=True, help="JSON list of people")
    parser.add_argument("--commands", default="/firedoor", help="slash commands, comma-separated")
    parser.add_argument("--events", default=",".join(EVENTS), help="events the app subscribes to")
    parser.add_argument("--ack-timeout-s", type=float, default=ACK_TIMEOUT_S)
    parser.add_argument("--trigger-life-s", type=float, default=TRIGGER_LIFE_S)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns 2 if it could not be started."""
    options = _parser().parse_args(argv)
    try:
        standin = build(options)
    except BadInput as error:
        print(error, file=sys.stderr)
        return error.exit_code
    servers: list[uvicorn.Server] = []
    app = create_app(standin, is_stopping=lambda: any(each.should_exit for each in servers))
    config = uvicorn.Config(
        app,
        host=HOST,
        port=options.port,
        http=Protocol,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        lifespan="off",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )
    servers.append(uvicorn.Server(config))
    try:
        servers[0].run()
    except KeyboardInterrupt:  # asked for; uvicorn hands the signal on after it has stopped
        pass
    finally:
        standin.workspace.archive.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
