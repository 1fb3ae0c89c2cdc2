"""What every chat holds to: the fake, and Slack's Web API as the stand-in speaks it."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from bot.errors import ProviderRefused, ProviderUnreachable
from bot.model.message import Button, Message, MessageRef
from bot.ports import Chat
from bot.sandbox.slack_standin import arguments
from bot.sandbox.slack_standin.client import Control
from bot.slack.chat import SlackChat
from bot.testing import FakeChat

TOKEN = "xoxb-contract-token"
PEOPLE = [{"id": "U0SAM", "name": "sam", "display": "Sam Okafor", "role": "security on-call"}]


class Subject(Protocol):
    """A chat, and what a person sees in it."""

    chat: Chat

    def title(self, ref: MessageRef) -> str | None:
        """Return the title of a message as it is now, or None."""

    def count(self, channel: str) -> int:
        """Return how many messages a channel holds."""

    def lose_next_answer(self) -> None:
        """Let the next post take effect, and lose its answer."""


class Fake:
    """The fake."""

    def __init__(self) -> None:
        self.chat = FakeChat()

    def title(self, ref: MessageRef) -> str | None:
        message = self.chat.messages.get(ref)
        return message.title if message else None

    def count(self, channel: str) -> int:
        return sum(ref.channel == channel for ref in self.chat.messages)

    def lose_next_answer(self) -> None:
        self.chat.lose = 1


class Slack:
    """The real adapter, on the stand-in."""

    def __init__(self, url: str) -> None:
        self.chat = SlackChat(TOKEN, f"{url}/api/")
        self.control = Control(url)

    def title(self, ref: MessageRef) -> str | None:
        for message in self._history(ref.channel):
            if message["ts"] == ref.ts:
                return str(message["blocks"][0]["text"]["text"])
        return None

    def count(self, channel: str) -> int:
        return sum("subtype" not in message for message in self._history(channel))

    def lose_next_answer(self) -> None:
        self.control.add_fault("lost_response", "chat.postMessage")

    def _history(self, channel: str) -> list[dict[str, Any]]:
        found = self.chat.client.conversations_history(channel=channel, limit=100)
        return list(found["messages"])


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A stand-in as a process of its own; gives its address."""
    directory: Path = tmp_path_factory.mktemp("standin")
    files = {
        "bot-token": TOKEN,
        "app-token": "xapp-contract-token",
        "people.json": json.dumps(PEOPLE),
    }
    for name, content in files.items():
        (directory / name).write_text(content)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    argv = arguments(port, directory / "state", *(directory / name for name in files))
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bot.sandbox.slack_standin", *argv], stdout=log, stderr=log
        )
    try:
        _wait_ready(f"http://127.0.0.1:{port}", process, directory / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            Control(url).health()
        except ProviderUnreachable:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        else:
            return


@pytest.fixture
def slack(standin: str) -> Iterator[Slack]:
    made = Slack(standin)
    yield made
    made.control.clear_faults()
    made.control.go_offline(False)


@pytest.fixture(params=["fake", pytest.param("slack", marks=pytest.mark.live)])
def subject(request: pytest.FixtureRequest) -> Subject:
    """Each chat in turn."""
    if request.param == "fake":
        return Fake()
    made: Slack = request.getfixturevalue("slack")
    return made


@pytest.fixture
def channel(subject: Subject, request: pytest.FixtureRequest) -> str:
    """A channel of its own for every test."""
    return subject.chat.open_channel(_name(request), "A test.")


def _name(request: pytest.FixtureRequest) -> str:
    return f"inc-{abs(hash(request.node.nodeid)) % 10**9}"


def message(title: str = "INC-1: approve close?", **fields: Any) -> Message:
    return Message.model_validate({"title": title} | fields)


WHOLE = message(
    paragraphs=("Closes <GET /api/orders/{order_id}> & more.",),
    facts=(("Needs", "1 of security"),),
    code="- open\n+ closed",
    buttons=(Button(label="Approve", verb="approve", token="t" * 32, style="primary"),),
    context="An approval holds for exactly this plan.",
)


class TestChannels:
    def test_opening_twice_gives_the_same(self, subject, request):
        """
        A channel that was made just before a crash is adopted, not doubled.
        """
        name = _name(request)

        first = subject.chat.open_channel(name, "A topic.", ["U0SAM"])

        assert subject.chat.open_channel(name, "A topic.", ["U0SAM"]) == first

    def test_another_name_is_another_channel(self, subject, request, channel):
        """
        Every incident has its own.
        """
        assert subject.chat.open_channel(f"{_name(request)}-b", "x") != channel

    def test_one_who_cannot_be_invited_keeps_nobody_out(self, subject, request, caplog):
        """
        Someone who left the company is no reason to have no channel.
        """
        with caplog.at_level(logging.CRITICAL):
            channel = subject.chat.open_channel(_name(request), "x", ["U0GONE", "U0SAM"])

        assert subject.chat.post(channel, message(), "k").channel == channel


class TestPosts:
    def test_a_post_is_found_by_its_key(self, subject, channel):
        """
        Where it is, is where it was sent.
        """
        ref = subject.chat.post(channel, WHOLE, "INC-1-R1:close:ask")

        assert subject.chat.find(channel, "INC-1-R1:close:ask") == ref
        assert subject.title(ref) == WHOLE.title

    def test_what_was_not_sent_is_not_found(self, subject, channel):
        """
        Neither another key, nor a part of one.
        """
        subject.chat.post(channel, message(), "INC-1-R1:card")

        assert subject.chat.find(channel, "INC-1-R1:car") is None
        assert subject.chat.find(channel, "") is None

    def test_it_is_looked_for_where_it_belongs(self, subject, request, channel):
        """
        The same key in another channel is another message.
        """
        other = subject.chat.open_channel(f"{_name(request)}-b", "x")
        subject.chat.post(channel, message(), "k")

        assert subject.chat.find(other, "k") is None

    def test_each_key_finds_its_own(self, subject, channel):
        """
        Among many messages.
        """
        refs = [subject.chat.post(channel, message(f"m{n}"), f"k{n}") for n in range(5)]

        assert [subject.chat.find(channel, f"k{n}") for n in range(5)] == refs

    def test_one_whose_answer_was_lost_is_found(self, subject, channel):
        """
        It is not known whether it arrived, so the caller is told that nothing answered; looking
        tells.
        """
        subject.lose_next_answer()
        with pytest.raises(ProviderUnreachable):
            subject.chat.post(channel, message("lost"), "k")

        ref = subject.chat.find(channel, "k")

        assert ref is not None
        assert subject.title(ref) == "lost"
        assert subject.count(channel) == 1


class TestUpdates:
    def test_an_update_changes_the_message_and_adds_none(self, subject, channel):
        """
        The live card is one message.
        """
        ref = subject.chat.post(channel, WHOLE, "k")

        subject.chat.update(ref, message("decided"))

        assert subject.title(ref) == "decided"
        assert subject.count(channel) == 1

    def test_it_is_still_found_by_its_key(self, subject, channel):
        """
        What was posted once is posted, however it looks by now.
        """
        ref = subject.chat.post(channel, WHOLE, "k")
        subject.chat.update(ref, message("decided"))

        assert subject.chat.find(channel, "k") == ref


class TestCheck:
    def test_it_says_what_it_is(self, subject):
        """
        For whoever asks the doctor.
        """
        assert subject.chat.check()


@pytest.mark.live
class TestHowSlackSaysNo:
    """Every way in which Slack says no, or nothing, is one of our errors."""

    @pytest.fixture
    def channel(self, slack: Slack, request: pytest.FixtureRequest) -> str:
        return slack.chat.open_channel(_name(request), "A test.")

    def test_429_says_when_to_come_back(self, slack, channel):
        """
        Unreachable for as long as Slack says; nothing was posted.
        """
        slack.control.add_fault("rate_limited", "chat.postMessage", retry_after_s=7)

        with pytest.raises(ProviderUnreachable) as caught:
            slack.chat.post(channel, message(), "k")

        assert caught.value.retry_after_s == 7
        assert slack.chat.find(channel, "k") is None

    @pytest.mark.parametrize(
        ("kind", "more"),
        [
            pytest.param("status", {"status": 500}, id="500"),
            pytest.param("status", {"status": 503}, id="503"),
            pytest.param("error", {"error": "internal_error"}, id="internal-error"),
            pytest.param("error", {"error": "fatal_error"}, id="fatal-error"),
            pytest.param("error", {"error": "service_unavailable"}, id="service-unavailable"),
        ],
    )
    def test_what_passes_is_unreachable(self, slack, channel, kind, more):
        """
        It is tried again, and then works.
        """
        slack.control.add_fault(kind, "chat.postMessage", **more)
        with pytest.raises(ProviderUnreachable):
            slack.chat.post(channel, message(), "k")

        assert slack.chat.post(channel, message(), "k")

    def test_no_connection_is_unreachable(self, slack, channel):
        """
        So is a Slack that is not there at all.
        """
        slack.control.go_offline(True)
        with pytest.raises(ProviderUnreachable):
            slack.chat.post(channel, message(), "k")

        nowhere = SlackChat(TOKEN, "http://127.0.0.1:9/api/")
        with pytest.raises(ProviderUnreachable):
            nowhere.check()

    @pytest.mark.parametrize("code", ["not_in_channel", "is_archived", "no_text"])
    def test_a_refusal_is_refused_and_named(self, slack, channel, code):
        """
        A repeat is useless; the code says what to mend.
        """
        slack.control.add_fault("error", "chat.postMessage", error=code)

        with pytest.raises(ProviderRefused, match=code):
            slack.chat.post(channel, message(), "k")

    @pytest.mark.parametrize("code", ["missing_scope", "token_revoked", "account_inactive"])
    def test_trouble_with_the_connection_keeps_the_message(self, slack, channel, code):
        """
        A token or a scope can be mended, and then the message goes through: it is not refused.
        """
        slack.control.add_fault("error", "chat.postMessage", error=code)

        with pytest.raises(ProviderUnreachable, match=code):
            slack.chat.post(channel, message(), "k")

    def test_a_wrong_token_is_named_and_not_shown(self, standin):
        """
        The doctor says that the token is wrong, and not what it is.
        """
        chat = SlackChat("xoxb-wrong-canary", f"{standin}/api/")

        with pytest.raises(ProviderUnreachable, match="invalid_auth") as caught:
            chat.check()

        assert "canary" not in str(caught.value)

    def test_an_unknown_channel_is_refused(self, slack):
        """
        With what to do about it.
        """
        with pytest.raises(ProviderRefused, match="invite the bot"):
            slack.chat.post("#nowhere", message(), "k")

    def test_a_known_channel_is_found_by_its_name(self, slack, channel, request):
        """
        Stakeholders are configured by name.
        """
        ref = slack.chat.post(f"#{_name(request)}", message(), "k")

        assert ref.channel == channel
        assert slack.chat.find(f"#{_name(request)}", "k") == ref
