"""A person and an operator of the Slack stand-in, for tests and the demo."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import requests

from bot.errors import BadInput, NotFound, ProviderUnreachable, TimedOut

Json = dict[str, Any]
Outcome = Literal[
    "acked", "timeout", "no_connection", "errors", "refused", "bad_response", "not_sent"
]

POLL_S = 0.05
LONG_POLL_S = 2.0
HTTP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Delivery:
    """
    What a person gets to know of what they did.

    ``outcome``: acked; timeout and no_connection (the app did not answer, is not there); errors
    (the modal stays open; ``errors`` says why by block id); refused (Slack itself says no);
    bad_response (Slack does not take the app's answer); not_sent (nothing to tell the app).
    """

    outcome: Outcome
    elapsed_ms: float | None = None
    message: str = ""
    errors: dict[str, str] = field(default_factory=dict)
    delivery: int | None = None
    ts: str | None = None

    @property
    def is_acked(self) -> bool:
        return self.outcome == "acked"


@dataclass(frozen=True)
class Button:
    """A button, or another element that can be used in a message."""

    action_id: str
    block_id: str
    type: str
    label: str
    value: str
    style: str | None


@dataclass(frozen=True)
class Channel:
    """A channel that the person can read."""

    id: str
    name: str
    topic: str
    members: tuple[str, ...]
    is_archived: bool


@dataclass(frozen=True)
class Message:
    """A message as the person sees it. ``raw`` is Slack's JSON with what the page shows."""

    channel: str
    ts: str
    user: str
    text: str
    is_ephemeral: bool
    thread_ts: str | None
    blocks: tuple[Json, ...]
    raw: Json

    @property
    def buttons(self) -> tuple[Button, ...]:
        """The elements that the person can use, in reading order."""
        return tuple(_buttons(self.blocks))

    @property
    def all_text(self) -> str:
        """All text of the blocks, or of the message if it has none, one text a line."""
        texts = [node["text"] for node in _walk(list(self.blocks)) if _has_text(node)]
        return "\n".join(texts) or self.text

    def has_button(self, label: str) -> bool:
        """Say whether the message shows a button with this label."""
        return any(button.label == label for button in self.buttons)


class Person:
    """
    One person at the stand-in's page, in code.

    Args:
        url: The stand-in's address, ``http://127.0.0.1:PORT``.

        user: The person's Slack user id.

    Every method raises ProviderUnreachable if the stand-in does not answer, NotFound if there is
    no such channel, message, element or modal, and BadInput for what cannot be asked.
    """

    def __init__(self, url: str, user: str) -> None:
        self.url = url.rstrip("/")
        self.user = user
        self._http = _Http(self.url)

    def state(self, channel: str | None = None) -> Json:
        """Return all that the person sees; with a channel (id or name), its messages only."""
        query = {"user": self.user} | ({"channel": channel} if channel else {})
        return self._http.get("/person/state", query)

    def channels(self) -> list[Channel]:
        """Return the channels that the person can read."""
        return [
            Channel(c["id"], c["name"], c["topic"], tuple(c["members"]), c["is_archived"])
            for c in self.state()["channels"]
        ]

    def channel(self, name: str) -> Channel:
        """Return one channel by id, name or ``#name``."""
        for channel in self.channels():
            if name in (channel.id, channel.name, f"#{channel.name}"):
                return channel
        raise NotFound(f"{self.user} sees no channel {name} in the Slack stand-in.")

    def messages(self, channel: str | None = None) -> list[Message]:
        """Return the messages of a channel (id or name) or of all channels, oldest first."""
        return self._messages_in(self.state(channel), channel)

    def wait_for_message(
        self,
        predicate: Callable[[Message], bool],
        timeout_s: float = 10.0,
        channel: str | None = None,
    ) -> Message:
        """
        Return the newest message for which ``predicate`` holds, as soon as there is one.

        Raises:
            TimedOut: There was none in time; the message says what there was instead.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            state = self.state(channel)
            messages = self._messages_in(state, channel)
            for message in reversed(messages):
                if predicate(message):
                    return message
            if not self._await_change(state, deadline_s):
                seen = "\n".join(f"  {m.channel} {m.user}: {m.all_text[:200]!r}" for m in messages)
                raise TimedOut(
                    f"The message that {self.user} waits for did not come within {timeout_s:g} s. "
                    f"These did:\n{seen or '  (none)'}"
                )

    def _messages_in(self, state: Json, channel: str | None) -> list[Message]:
        found = [each for each in state["channels"] if _is_named(each, channel)]
        if not found:
            raise NotFound(f"{self.user} sees no channel {channel} in the Slack stand-in.")
        messages = [_message(each["id"], raw) for each in found for raw in each["messages"]]
        return sorted(messages, key=lambda message: message.ts)

    def _await_change(self, state: Json, deadline_s: float) -> bool:
        """Wait until something may be new. Returns False once it is too late to look again."""
        left_s = deadline_s - time.monotonic()
        if left_s > 0:
            query = {"after": str(state["version"]), "wait_s": str(min(left_s, LONG_POLL_S))}
            self._http.get("/person/version", query)
        return left_s > 0

    def command(self, text: str, channel: str = "incidents") -> Delivery:
        """Type a slash command, such as ``/firedoor status``."""
        return self._act("command", {"channel": channel, "text": text})

    def say(self, text: str, channel: str, thread_ts: str | None = None) -> Delivery:
        """Post a message. ``@name`` mentions somebody."""
        body: Json = {"channel": channel, "text": text}
        return self._act("message", body | ({"thread_ts": thread_ts} if thread_ts else {}))

    def click(
        self,
        message: Message,
        action: str | Button,
        *,
        value: Any = None,
        stale: bool = False,
    ) -> Delivery:
        """
        Use an element of a message.

        Args:
            action: An element of ``message.buttons``, or its ``action_id``.

            value: What to choose, for a menu (see `values.entered`). None for a button.

            stale: The person's screen has not caught up: use what an update has removed.
        """
        body: Json = {"channel": message.channel, "ts": message.ts, "value": value, "stale": stale}
        return self._act("click", body | _named(action))

    def press(self, message: Message, label: str) -> Delivery:
        """Click the button that bears a label. Raises NotFound if the message has none such."""
        for button in message.buttons:
            if button.label == label:
                return self.click(message, button)
        labels = ", ".join(button.label for button in message.buttons) or "none"
        raise NotFound(f"The message has no button {label!r}; it has: {labels}.")

    def open_view(self) -> Json | None:
        """Return the modal that is open for the person, or None."""
        view: Json | None = self.state()["view"]
        return view

    def wait_for_view(
        self, predicate: Callable[[Json], bool] = lambda _: True, timeout_s: float = 10.0
    ) -> Json:
        """Return the open modal as soon as one is open for which ``predicate`` holds."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            state = self.state()
            view: Json | None = state["view"]
            if view is not None and predicate(view):
                return view
            if not self._await_change(state, deadline_s):
                raise TimedOut(f"No such modal opened for {self.user} within {timeout_s:g} s.")

    def click_in_view(self, view: Json, action: str | Button, *, value: Any = None) -> Delivery:
        """Use an element of the open modal that acts at once."""
        return self._act("click", {"view_id": view["id"], "value": value} | _named(action))

    def submit(self, view: Json, values: dict[str, dict[str, Any]] | None = None) -> Delivery:
        """
        Send the open modal.

        Args:
            values: ``{block_id: {action_id: value}}``; what is not named keeps what it shows.
        """
        return self._act("submit", {"view_id": view["id"], "values": values or {}})

    def close_view(self, view: Json, *, clear: bool = False) -> Delivery:
        """Close the open modal without sending it; ``clear``: all on the stack."""
        return self._act("close_view", {"view_id": view["id"], "clear": clear})

    def _act(self, what: str, body: Json) -> Delivery:
        return Delivery(**self._http.post(f"/person/{what}", {"user": self.user, **body}))


class Control:
    """The operator of the stand-in: faults, disconnections and logs."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._http = _Http(self.url)

    def add_fault(self, kind: str, method: str = "*", times: int | None = 1, **more: Any) -> None:
        """Order a fault (see `faults.Fault`): rate_limited, status, error, hang, lost_response."""
        body = {"kind": kind, "method": method, "times": times, **more}
        self._http.post("/control/faults", body)

    def clear_faults(self) -> None:
        """Take all faults back."""
        self._http.delete("/control/faults")

    def disconnect(self, *, warning: bool = False, after_s: float = 1.0) -> int:
        """Drop the app's WebSockets; return how many there were."""
        body = {"warning": warning, "after_s": after_s}
        return int(self._http.post("/control/disconnect", body)["dropped"])

    def go_offline(self, seconds: float | bool = True) -> None:
        """Be unreachable for the app: for some seconds, until told (True), no more (False)."""
        self._http.post("/control/offline", {"seconds": seconds})

    def calls(self, method: str | None = None) -> list[Json]:
        """Return the log of Web API calls, oldest first."""
        query = {"method": method} if method else {}
        return list(self._http.get("/control/calls", query)["calls"])

    def deliveries(self) -> list[Json]:
        """Return the log of envelopes with all their attempts, oldest first."""
        return list(self._http.get("/control/deliveries", {})["deliveries"])

    def health(self) -> Json:
        """Return ``{"ok", "connections", "is_offline"}``."""
        return self._http.get("/control/health", {})

    def wait_connected(self, connections: int = 1, timeout_s: float = 15.0) -> None:
        """Wait until the app holds so many WebSockets open. Raises TimedOut."""
        deadline_s = time.monotonic() + timeout_s
        while self.health()["connections"] != connections:
            if time.monotonic() > deadline_s:
                raise TimedOut(f"The app did not open its WebSocket within {timeout_s:g} s.")
            time.sleep(POLL_S)

    def dump(self) -> str:
        """Return everything that the stand-in ever got, as JSON lines: for the canary test."""
        return self._http.text("/control/dump")


class _Http:
    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        # A proxy of the environment is for other places than loopback.
        self._session.trust_env = False

    def get(self, path: str, query: dict[str, str]) -> Json:
        return _answer(self._send("GET", path, params=query))

    def post(self, path: str, body: Json) -> Json:
        return _answer(self._send("POST", path, json=body))

    def delete(self, path: str) -> Json:
        return _answer(self._send("DELETE", path))

    def text(self, path: str) -> str:
        return self._send("GET", path).content.decode("utf-8")

    def _send(self, method: str, path: str, **more: Any) -> requests.Response:
        try:
            return self._session.request(
                method, f"{self._url}{path}", timeout=HTTP_TIMEOUT_S, **more
            )
        except requests.RequestException as error:
            raise ProviderUnreachable(
                f"The Slack stand-in at {self._url} does not answer ({type(error).__name__}), so "
                f"nothing was done. Look whether it runs."
            ) from error


def _answer(response: requests.Response) -> Json:
    try:
        body: Json = response.json()
    except ValueError:
        body = {"error": response.text[:200]}
    if response.status_code == 404:
        raise NotFound(body["error"])
    if response.status_code != 200:
        raise BadInput(f"The Slack stand-in answers {response.status_code}: {body.get('error')}")
    return body


def _is_named(channel: Json, name: str | None) -> bool:
    return name in (None, channel["id"], channel["name"], f"#{channel['name']}")


def _message(channel: str, raw: Json) -> Message:
    return Message(
        channel=channel,
        ts=raw["ts"],
        user=raw["user"],
        text=raw["text"],
        is_ephemeral=raw["is_ephemeral"],
        thread_ts=raw.get("thread_ts"),
        blocks=tuple(raw.get("blocks", ())),
        raw=raw,
    )


def _buttons(blocks: tuple[Json, ...]) -> Iterator[Button]:
    for block in blocks:
        elements = block["elements"] if block["type"] == "actions" else []
        elements = [*elements, *(block[key] for key in ("accessory", "element") if key in block)]
        for element in elements:
            if "action_id" in element:
                yield Button(
                    element["action_id"],
                    block["block_id"],
                    element["type"],
                    element.get("text", {}).get("text", ""),
                    element.get("value", ""),
                    element.get("style"),
                )


def _named(action: str | Button) -> Json:
    if isinstance(action, str):
        return {"action_id": action}
    return {"action_id": action.action_id, "block_id": action.block_id}


def _has_text(node: Json) -> bool:
    return isinstance(node.get("text"), str)


def _walk(node: Any) -> Iterator[Json]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from _walk(value)
