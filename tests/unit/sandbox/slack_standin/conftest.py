"""A stand-in as a process of its own, and a real slack-bolt app that talks to it."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from slack_bolt import App
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler
from slack_sdk.web import WebClient

from bot.errors import ProviderUnreachable
from bot.sandbox.slack_standin import arguments
from bot.sandbox.slack_standin.client import Control, Person

BOT_TOKEN = "xoxb-canary-bot-5f1c"
APP_TOKEN = "xapp-canary-app-91aa"
PEOPLE = [
    {"id": "U0SAM", "name": "sam", "display": "Sam Okafor", "role": "security on-call"},
    {"id": "U0IRIS", "name": "iris", "display": "Iris Brandt", "role": "incident commander"},
    {"id": "U0TARIQ", "name": "tariq", "display": "Tariq Aziz", "role": "security on-call"},
]


@dataclass
class Server:
    """A running stand-in."""

    port: int
    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def control(self) -> Control:
        return Control(self.url)

    def person(self, user: str = "U0SAM") -> Person:
        return Person(self.url, user)

    def client(self, **more: object) -> WebClient:
        """A client that tries a call once, unless told otherwise."""
        more.setdefault("retry_handlers", [])
        return WebClient(token=BOT_TOKEN, base_url=f"{self.url}/api/", **more)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def start_server(directory: Path, port: int, *more: str) -> Server:
    directory.mkdir(parents=True, exist_ok=True)
    bot_token, app_token = directory / "bot-token", directory / "app-token"
    people = directory / "people.json"
    bot_token.write_text(f"{BOT_TOKEN}\n")
    app_token.write_text(f"{APP_TOKEN}\n")
    people.write_text(json.dumps(PEOPLE))
    argv = arguments(port, directory / "state", bot_token, app_token, people)
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bot.sandbox.slack_standin", *argv, *more],
            stdout=log,
            stderr=log,
        )
    server = Server(port, directory, process)
    deadline_s = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline_s:
        with contextlib.suppress(ProviderUnreachable):
            server.control.health()
            return server
        time.sleep(0.05)
    process.kill()
    process.wait()
    raise AssertionError((directory / "log").read_text())


@pytest.fixture(scope="session")
def main_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = start_server(tmp_path_factory.mktemp("standin"), _free_port())
    yield server
    server.stop()


@pytest.fixture(scope="session")
def impatient_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A stand-in that waits 0.4 s for an acknowledgement, and forgets triggers at once."""
    directory = tmp_path_factory.mktemp("impatient")
    more = ("--ack-timeout-s", "0.4", "--trigger-life-s", "0")
    server = start_server(directory, _free_port(), *more)
    yield server
    server.stop()


@pytest.fixture
def server(main_server: Server) -> Iterator[Server]:
    """The shared stand-in, with no modal open, and without faults before and after."""
    for person in (main_server.person(each["id"]) for each in PEOPLE):
        if (view := person.open_view()) is not None:
            person.close_view(view, clear=True)
    yield main_server
    main_server.control.clear_faults()
    main_server.control.go_offline(False)


@pytest.fixture
def free_port() -> int:
    return _free_port()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Bolt:
    """An app on the real slack-bolt, with all that it got."""

    app: App
    server: Server
    handlers: list[SocketModeHandler] = field(default_factory=list)

    def connect(self, connections: int = 1) -> None:
        for _ in range(connections):
            handler = SocketModeHandler(self.app, APP_TOKEN, ping_interval=0.5)
            handler.connect()
            self.handlers.append(handler)
        self.server.control.wait_connected(connections)


def make_bolt(server: Server) -> Bolt:
    quiet = logging.getLogger("bolt-under-test")
    quiet.setLevel(logging.CRITICAL)
    client = server.client(retry_handlers=[RateLimitErrorRetryHandler(max_retry_count=2)])
    return Bolt(App(client=client, logger=quiet), server)


@pytest.fixture(scope="session")
def closing() -> Iterator[list[threading.Thread]]:
    """Apps on their way out, which takes a second each; waited for at the very end."""
    threads: list[threading.Thread] = []
    yield threads
    for thread in threads:
        thread.join(20)


@pytest.fixture
def bolt_on(closing: list[threading.Thread]) -> Iterator[Callable[[Server], Bolt]]:
    """Makes apps on a given stand-in, and takes them down again."""
    made: list[Bolt] = []

    def make(server: Server) -> Bolt:
        made.append(make_bolt(server))
        return made[-1]

    yield make
    for bolt in made:
        for handler in bolt.handlers:
            handler.client.auto_reconnect_enabled = False
        # Dropped from the other side first: a client that closes waits for its own read, 3 s.
        bolt.server.control.disconnect()
        for handler in bolt.handlers:
            closing.append(threading.Thread(target=_close, args=(handler,)))
            closing[-1].start()
        bolt.server.control.wait_connected(0)


def _close(handler: SocketModeHandler) -> None:
    try:
        handler.close()
    except AttributeError:
        # slack_sdk's reader and this thread closed one socket at the same time; the rest is left.
        handler.close()


@pytest.fixture
def bolt(server: Server, bolt_on: Callable[[Server], Bolt]) -> Bolt:
    return bolt_on(server)
