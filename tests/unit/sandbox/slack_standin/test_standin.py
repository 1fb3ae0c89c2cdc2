"""Faults on demand, what a restart and a dump keep, and who is turned away."""

from __future__ import annotations

import json
import re
import signal
import time
from urllib.error import HTTPError

import pytest
import requests
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler
from slack_sdk.web import WebClient

from bot.errors import ProviderUnreachable, TimedOut
from bot.sandbox.slack_standin.client import Control

from .conftest import APP_TOKEN, BOT_TOKEN, start_server

pytestmark = pytest.mark.live

SECTION = {"type": "section", "text": {"type": "mrkdwn", "text": "*hello*"}}


@pytest.fixture
def channel(server):
    return server.client().conversations_create(name=f"inc-{time.time_ns()}")["channel"]["id"]


def code_of(caught):
    return caught.value.response["error"]


class TestFaults:
    def test_rate_limit_and_success_after_the_wait(self, server, channel):
        """429 with Retry-After; the SDK's handler waits and the second try succeeds."""
        server.control.add_fault("rate_limited", "chat.postMessage", retry_after_s=1)
        client = server.client(retry_handlers=[RateLimitErrorRetryHandler(max_retry_count=1)])

        client.chat_postMessage(channel=channel, text="after all")

        statuses = [
            call["status"]
            for call in server.control.calls("chat.postMessage")
            if call["args"].get("text") == "after all"
        ]
        assert statuses == [429, 200]
        assert len(client.conversations_history(channel=channel)["messages"]) == 1

    def test_rate_limit_without_a_handler_is_an_error(self, server, channel):
        """The error names itself and says how long to wait."""
        server.control.add_fault("rate_limited", "chat.postMessage", retry_after_s=7)

        with pytest.raises(SlackApiError) as caught:
            server.client().chat_postMessage(channel=channel, text="x")

        assert code_of(caught) == "ratelimited"
        assert caught.value.response.headers["Retry-After"] == "7"

    def test_server_error_and_refusal(self, server, channel):
        """A status and an error code, as often as ordered and no more."""
        client = server.client()
        server.control.add_fault("status", "chat.postMessage", status=503, times=1)
        server.control.add_fault("error", "chat.postMessage", error="fatal_error", times=1)

        with pytest.raises((SlackApiError, HTTPError)) as first:
            client.chat_postMessage(channel=channel, text="x")
        assert "503" in str(first.value)
        with pytest.raises(SlackApiError, match="fatal_error"):
            client.chat_postMessage(channel=channel, text="x")
        assert client.chat_postMessage(channel=channel, text="x")["ok"]

    def test_lost_response_has_taken_effect(self, server, channel):
        """The message is there, though the caller got no answer."""
        server.control.add_fault("lost_response", "chat.postMessage")

        with pytest.raises(OSError):
            server.client().chat_postMessage(channel=channel, text="lost but kept")

        (message,) = server.client().conversations_history(channel=channel)["messages"]
        assert message["text"] == "lost but kept"

    def test_default_retry_of_the_sdk_doubles_a_message_whose_response_is_lost(
        self, server, channel
    ):
        """slack_sdk repeats on connection errors unless told not to: then it is there twice."""
        server.control.add_fault("lost_response", "chat.postMessage")
        client = WebClient(token=BOT_TOKEN, base_url=f"{server.url}/api/")

        client.chat_postMessage(channel=channel, text="twice")

        assert len(client.conversations_history(channel=channel)["messages"]) == 2

    def test_hanging_call_has_no_effect(self, server, channel):
        """The caller waits in vain, and nothing was posted."""
        server.control.add_fault("hang", "chat.postMessage")

        with pytest.raises(TimeoutError):
            server.client(timeout=1).chat_postMessage(channel=channel, text="x")

        assert server.client().conversations_history(channel=channel)["messages"] == []

    def test_fault_for_another_method_does_not_strike(self, server, channel):
        """A fault is for its method."""
        server.control.add_fault("status", "views.open", times=None)

        assert server.client().chat_postMessage(channel=channel, text="x")["ok"]


class TestWhatIsKept:
    def test_restart_keeps_channels_and_messages(self, tmp_path, free_port):
        """After a kill -9 everything that was answered is still there, and time goes on."""
        server = start_server(tmp_path, free_port)
        try:
            client = server.client()
            channel = client.conversations_create(name="inc-1")["channel"]["id"]
            before = client.chat_postMessage(channel=channel, text="Plan", blocks=[SECTION])
            client.chat_update(channel=channel, ts=before["ts"], text="Plan 2", blocks=[SECTION])
            client.chat_postEphemeral(channel="#general", user="U0SAM", text="psst")
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()

            server = start_server(tmp_path, free_port)

            sam = server.person("U0SAM")
            assert sam.channel("inc-1").id == channel
            (message,) = sam.messages("inc-1")
            assert (message.ts, message.text) == (before["ts"], "Plan 2")
            assert [m.text for m in sam.messages("general")] == ["psst"]
            again = server.client().chat_postMessage(channel=channel, text="More")
            assert again["ts"] > before["ts"]
        finally:
            server.stop()

    def test_dump_holds_all_that_came_in_but_no_token(self, server, channel):
        """The canary test searches one text: calls, uploads and people's words; never tokens."""
        client = server.client()
        client.chat_postMessage(channel=channel, text="canary-in-a-message")
        client.api_call("chat.postMessage", params={"channel": channel, "text": "canary-in-a-form"})
        client.files_upload_v2(channel=channel, filename="a", content="canary-in-a-file")
        server.person().say("canary-of-a-person", channel)

        dump = server.control.dump()

        for canary in ("in-a-message", "in-a-form", "in-a-file", "of-a-person"):
            assert f"canary-{canary}" in dump
        kept = dump + json.dumps(server.control.calls()) + (server.directory / "log").read_text()
        assert BOT_TOKEN not in kept
        assert APP_TOKEN not in kept
        state = (server.directory / "state" / "workspace.jsonl").read_text()
        assert BOT_TOKEN not in state
        with open(f"/proc/{server.process.pid}/cmdline") as file:
            assert BOT_TOKEN not in file.read()

    def test_stops_at_once_though_pages_and_apps_are_connected(self, tmp_path, free_port):
        """A stop does not wait for open pages: they end with the server."""
        server = start_server(tmp_path, free_port)
        with requests.get(f"{server.url}/person/events", stream=True, timeout=10) as page:
            assert page.raw.readline().startswith(b"data:")

            server.stop()

        with pytest.raises(ProviderUnreachable):
            server.control.health()


class TestGuard:
    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param({"Host": "evil.example"}, id="dns-rebinding"),
            pytest.param({"Origin": "https://evil.example"}, id="another-site"),
        ],
    )
    def test_pages_of_other_sites_are_turned_away(self, server, headers):
        """A site that the operator has open in the browser cannot reach the doors."""
        response = requests.get(f"{server.url}/person/state?user=U0SAM", headers=headers, timeout=5)

        assert response.status_code == 403

    def test_forms_are_not_taken_for_orders(self, server):
        """Only JSON is an order, which a page of another site cannot send unasked."""
        response = requests.post(
            f"{server.url}/control/faults", data={"kind": "hang", "times": ""}, timeout=5
        )

        assert response.status_code == 422
        assert requests.get(f"{server.url}/control/faults", timeout=5).json() == {"faults": []}

    def test_page_runs_no_script_but_its_own(self, server):
        """The content security policy leaves an injected script nothing."""
        response = requests.get(f"{server.url}/", timeout=5)
        assert response.status_code == 200
        policy = response.headers["content-security-policy"]

        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "<script>" not in response.text, "no inline script"
        assert not re.search(r"\son\w+=", response.text), "no handlers in markup"
        assert "http://" not in response.text.replace("http://www.w3.org", "")
        assert "https://" not in response.text

    @pytest.mark.parametrize("script", ["page.js", "blocks.js"])
    def test_scripts_put_text_only_where_text_belongs(self, server, script):
        """No way from a string to markup or code."""
        response = requests.get(f"{server.url}/page/{script}", timeout=5)
        text = response.text

        assert response.status_code == 200
        assert "createElement" in text or "renderBlocks" in text
        for danger in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert danger not in text


class TestClient:
    def test_waiting_in_vain_says_what_there_was(self, server, channel):
        """The error of a missing message shows the messages that came instead."""
        server.client().chat_postMessage(channel=channel, text="something else")

        with pytest.raises(TimedOut, match="something else"):
            server.person().wait_for_message(lambda m: False, timeout_s=0.1, channel=channel)

    def test_no_server_is_unreachable(self, free_port):
        """An address where nothing listens is a clear error."""
        with pytest.raises(ProviderUnreachable, match="does not answer"):
            Control(f"http://127.0.0.1:{free_port}").health()
