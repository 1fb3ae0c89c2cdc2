"""People played by a program: they click through the Slack stand-in, as its page does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from bot.errors import Failed, TimedOut
from bot.sandbox.slack_standin.client import Person

T = TypeVar("T")

TIMEOUT_S = 60.0
LOOK_S = 0.1


class Responders:
    """The members of the sandbox's Slack workspace."""

    def __init__(self, slack_url: str) -> None:
        self._url = slack_url

    def approve(self, user: str, step: str) -> None:
        """Click Approve on the open question about a step."""
        self.click(user, f"approve {step}?", "firedoor.approve")

    def answer(self, user: str, step: str, values: Mapping[str, str]) -> None:
        """Answer a manual step: open its form, fill it in, send it.

        Raises:
            Failed: The form was refused; the message holds what it said.
        """
        person = self.click(user, f"{step} needs an answer", "firedoor.answer")
        view = until(person.open_view, "the answer form")
        filled = {name: {"value": value} for name, value in values.items()}
        result = person.submit(view["id"], filled)
        if result.get("errors"):
            raise Failed(f"The answer was refused: {result['errors']}")

    def click(self, user: str, title: str, action_id: str) -> Person:
        """Click a button of the newest message with this title that has buttons."""
        person, message, channel = self.wait_for_card(user, title)
        value = next(b["value"] for b in buttons(message) if b["action_id"] == action_id)
        person.click(channel, message["ts"], action_id, value=value)
        return person

    def wait_for_card(self, user: str, title: str) -> tuple[Person, dict[str, Any], str]:
        """Return the person, the newest message with this title and buttons, and its channel."""
        person = Person(self._url, user)
        return until(lambda: self._find(person, title), f"a message with {title!r} in Slack")

    def cards(self, title: str, user: str = "U0SAM") -> list[dict[str, Any]]:
        """Return all messages whose blocks hold this text, with or without buttons."""
        person = Person(self._url, user)
        return [
            message
            for channel in person.channels()
            for message in person.messages(channel["id"])
            if title in _text(message)
        ]

    @staticmethod
    def _find(person: Person, title: str) -> tuple[Person, dict[str, Any], str] | None:
        for channel in reversed(person.channels()):
            for message in reversed(person.messages(channel["id"])):
                if title in _text(message) and buttons(message):
                    return person, message, channel["id"]
        return None


def _text(message: Mapping[str, Any]) -> str:
    return json.dumps(message.get("blocks", []), ensure_ascii=False)


def buttons(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the buttons of a message."""
    return [
        element
        for block in message.get("blocks", [])
        if block["type"] == "actions"
        for element in block["elements"]
    ]


def until(look: Callable[[], T | None], what: str, timeout_s: float = TIMEOUT_S) -> T:
    """
    Look until there is something (true) and return it.

    Raises:
        TimedOut: There was nothing after ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(LOOK_S)
    raise TimedOut(f"Waited {timeout_s:g} s for {what}; it did not come.")
