"""People played by a program: they click through the Slack stand-in, as its page does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from bot.errors import Failed, TimedOut
from bot.sandbox.slack_standin.client import Message, Person

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
        delivery = person.submit(view, filled)
        if not delivery.is_acked:
            raise Failed(f"The answer was not taken: {delivery.outcome} {delivery.errors}")

    def click(self, user: str, title: str, action_id: str) -> Person:
        """Click a button of the newest message with this title, again while nobody answers.

        Raises:
            TimedOut: Firedoor never acknowledged the click.
        """
        person = Person(self._url, user)
        message = self.wait_for_card(user, title)
        until(lambda: person.click(message, action_id).is_acked, f"Firedoor to hear {action_id}")
        return person

    def wait_for_card(self, user: str, title: str) -> Message:
        """Return the newest message with this title and buttons, once there is one."""
        return Person(self._url, user).wait_for_message(
            lambda message: title in message.all_text and bool(message.buttons), TIMEOUT_S
        )

    def cards(self, title: str, user: str = "U0SAM") -> list[Message]:
        """Return all messages with this text, with or without buttons."""
        return [m for m in Person(self._url, user).messages() if title in m.all_text]


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
