"""The unmodified slack_sdk calls the Web API."""

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
from slack_sdk.models.metadata import Metadata
from slack_sdk.web import WebClient

from bot.errors import ProviderUnreachable, TimedOut
from bot.sandbox.slack_standin.client import Control

from .conftest import APP_TOKEN, BOT_TOKEN, start_server

pytestmark = pytest.mark.live

SECTION = {"type": "section", "text": {"type": "mrkdwn", "text": "*hello*"}}


def fresh_name(prefix="inc"):
    return f"{prefix}-{time.time_ns()}"


@pytest.fixture
def channel(server):
    return server.client().conversations_create(name=fresh_name())["channel"]["id"]


def code_of(caught):
    return caught.value.response["error"]


class TestAuthentication:
    def test_right_token_says_who_we_are(self, server):
        """auth.test, which slack_sdk sends as JSON with an empty body, names team and bot."""
        answer = server.client().auth_test()

        assert answer["ok"]
        assert (answer["user_id"], answer["bot_id"]) == ("U0FIREDOOR", "B0FIREDOOR")

    @pytest.mark.parametrize(
        ("token", "error"),
        [
            ("xoxb-wrong", "invalid_auth"),
            ("", "not_authed"),
            (APP_TOKEN, "not_allowed_token_type"),
        ],
    )
    def test_other_tokens_are_refused(self, server, token, error):
        """Without the bot's own token nothing is done."""
        client = WebClient(token=token, base_url=f"{server.url}/api/", retry_handlers=[])

        with pytest.raises(SlackApiError) as caught:
            client.chat_postMessage(channel="#general", text="x")

        assert code_of(caught) == error

    def test_socket_mode_takes_the_app_token_only(self, server):
        """apps.connections.open refuses the bot's token."""
        with pytest.raises(SlackApiError) as caught:
            server.client().apps_connections_open(app_token=BOT_TOKEN)

        assert code_of(caught) == "not_allowed_token_type"

    def test_unknown_method(self, server):
        """A method that the stand-in does not have is refused in Slack's words."""
        with pytest.raises(SlackApiError) as caught:
            server.client().api_call("apps.nonsense")

        assert code_of(caught) == "unknown_method"


class TestChannels:
    @pytest.mark.parametrize(
        ("name", "error"),
        [
            ("", "invalid_name_required"),
            ("Upper", "invalid_name_specials"),
            ("with space", "invalid_name_specials"),
            ("---", "invalid_name_punctuation"),
            ("x" * 81, "invalid_name_maxlength"),
            ("general", "name_taken"),
        ],
    )
    def test_name_rules(self, server, name, error):
        """Lower case, digits, - and _, at most 80 characters, and not taken."""
        with pytest.raises(SlackApiError) as caught:
            server.client().conversations_create(name=name)

        assert code_of(caught) == error

    def test_channel_of_an_incident(self, server):
        """Created, invited to, given a topic, found by listing."""
        client = server.client()
        name = fresh_name()
        created = client.conversations_create(name=name)["channel"]
        client.conversations_invite(channel=created["id"], users=["U0SAM", "U0IRIS"])
        client.conversations_setTopic(channel=created["id"], topic="sev1: orders")

        info = client.conversations_info(channel=created["id"])["channel"]
        assert info["topic"]["value"] == "sev1: orders"
        assert info["is_member"]
        assert name in [each["name"] for each in client.conversations_list()["channels"]]
        assert server.person("U0SAM").channel(name).members == ("U0FIREDOOR", "U0SAM", "U0IRIS")

    @pytest.mark.parametrize(
        ("users", "error"),
        [
            ("U0NOBODY", "user_not_found"),
            ("U0FIREDOOR", "cant_invite_self"),
            ("U0SAM", "already_in_channel"),
        ],
    )
    def test_invitations_that_slack_refuses(self, server, channel, users, error):
        """Nobody unknown, not the app itself, nobody twice."""
        client = server.client()
        client.conversations_invite(channel=channel, users="U0SAM")

        with pytest.raises(SlackApiError) as caught:
            client.conversations_invite(channel=channel, users=users)

        assert code_of(caught) == error

    def test_unknown_channel(self, server):
        """Nothing can be said where nothing is."""
        with pytest.raises(SlackApiError) as caught:
            server.client().chat_postMessage(channel="C0NOWHERE", text="x")

        assert code_of(caught) == "channel_not_found"

    def test_people_and_groups(self, server):
        """People are listed with their roles; each role is a user group."""
        client = server.client()

        assert client.users_info(user="U0IRIS")["user"]["real_name"] == "Iris Brandt"
        assert "U0TARIQ" in [member["id"] for member in client.users_list()["members"]]
        groups = {group["handle"]: group["id"] for group in client.usergroups_list()["usergroups"]}
        users = client.usergroups_users_list(usergroup=groups["security-on-call"])["users"]
        assert users == ["U0SAM", "U0TARIQ"]


class TestMessages:
    def test_metadata_comes_back_when_asked_for(self, server, channel):
        """Metadata survives a round trip; history leaves it out unless told."""
        client = server.client()
        metadata = Metadata(event_type="plan_posted", event_payload={"run": "r1", "step": 2})
        posted = client.chat_postMessage(channel=channel, text="Plan", metadata=metadata)

        (found,) = client.conversations_history(channel=channel, include_all_metadata=True)[
            "messages"
        ]
        assert found["ts"] == posted["ts"]
        assert found["metadata"] == {
            "event_type": "plan_posted",
            "event_payload": {"run": "r1", "step": 2},
        }
        (bare,) = client.conversations_history(channel=channel)["messages"]
        assert "metadata" not in bare
        client.chat_update(channel=channel, ts=posted["ts"], text="Plan 2")
        (kept,) = client.conversations_history(channel=channel, include_all_metadata=True)[
            "messages"
        ]
        assert kept["metadata"]["event_type"] == "plan_posted"

    def test_history_is_newest_first_and_bounded(self, server, channel):
        """limit, oldest and latest bound what history returns."""
        client = server.client()
        sent = [client.chat_postMessage(channel=channel, text=str(n))["ts"] for n in range(4)]

        page = client.conversations_history(channel=channel, limit=2)
        assert [message["text"] for message in page["messages"]] == ["3", "2"]
        assert page["has_more"]
        later = client.conversations_history(channel=channel, oldest=sent[1])["messages"]
        assert [message["text"] for message in later] == ["3", "2"]
        earlier = client.conversations_history(channel=channel, latest=sent[1], inclusive=True)
        assert [message["text"] for message in earlier["messages"]] == ["1", "0"]

    def test_threads(self, server, channel):
        """Answers in a thread are in replies, not in history."""
        client = server.client()
        parent = client.chat_postMessage(channel=channel, text="Plan")["ts"]
        client.chat_postMessage(channel=channel, text="Detail", thread_ts=parent)

        history = client.conversations_history(channel=channel)["messages"]
        assert [message["text"] for message in history] == ["Plan"]
        assert history[0]["reply_count"] == 1
        replies = client.conversations_replies(channel=channel, ts=parent)["messages"]
        assert [message["text"] for message in replies] == ["Plan", "Detail"]

    def test_update_with_text_alone_removes_the_blocks(self, server, channel):
        """Slack's rule: previous blocks stay only if neither text nor blocks are given."""
        client = server.client()
        posted = client.chat_postMessage(channel=channel, text="a", blocks=[SECTION])
        updated = client.chat_update(channel=channel, ts=posted["ts"], text="b")

        assert updated["message"]["blocks"] == []
        assert updated["text"] == "b"

    def test_message_of_another_cannot_be_updated(self, server, channel):
        """The app changes its own messages only."""
        sent = server.person("U0SAM").say("mine", channel)

        with pytest.raises(SlackApiError) as caught:
            server.client().chat_update(channel=channel, ts=sent.ts, text="yours")

        assert code_of(caught) == "cant_update_message"

    def test_invalid_blocks_are_refused_as_slack_refuses_them(self, server, channel):
        """Nothing is posted; the answer says what is wrong and where."""
        client = server.client()
        blocks = [{**SECTION, "colour": "red"}]

        with pytest.raises(SlackApiError) as caught:
            client.chat_postMessage(channel=channel, text="x", blocks=blocks)

        assert code_of(caught) == "invalid_blocks"
        assert caught.value.response["response_metadata"]["messages"] == [
            "[ERROR] invalid additional property: colour [json-pointer:/blocks/0]"
        ]
        assert client.conversations_history(channel=channel)["messages"] == []

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            pytest.param({}, "no_text", id="nothing-to-say"),
            pytest.param({"text": "x" * 40_001}, "msg_too_long", id="text-too-long"),
            pytest.param({"text": "x", "blocks": "[{"}, "invalid_blocks_format", id="no-json"),
            pytest.param({"text": "x", "blocks": "{}"}, "invalid_blocks_format", id="no-list"),
            pytest.param(
                {"text": "x", "metadata": {"event_type": "x"}},
                "invalid_metadata_format",
                id="metadata",
            ),
            pytest.param({"attachments": [{"text": "x"}]}, "invalid_attachments", id="attachments"),
            pytest.param({"text": "x", "thread_ts": "1.000001"}, "thread_not_found", id="thread"),
        ],
    )
    def test_messages_that_slack_refuses(self, server, channel, arguments, error):
        """What Slack does not take is not posted."""
        with pytest.raises(SlackApiError) as caught:
            server.client().api_call("chat.postMessage", json={"channel": channel, **arguments})

        assert code_of(caught) == error

    def test_blocks_may_come_in_a_form(self, server, channel):
        """Fields of a form hold JSON as text."""
        client = server.client()
        form = {"channel": channel, "text": "x", "blocks": json.dumps([SECTION])}

        posted = client.api_call("chat.postMessage", data=form, http_verb="POST")

        assert posted["message"]["blocks"][0]["text"]["text"] == "*hello*"

    def test_ephemeral_messages_are_for_one_person(self, server):
        """Only the named member sees it, and history does not hold it."""
        client = server.client()
        client.chat_postEphemeral(channel="#general", user="U0SAM", text="for Sam's eyes")

        def is_it(message):
            return message.text == "for Sam's eyes"

        assert server.person("U0SAM").wait_for_message(is_it).is_ephemeral
        assert not any(map(is_it, server.person("U0IRIS").messages()))

    def test_direct_messages_are_private(self, server):
        """A message to a person's id opens direct messages, which nobody else reads."""
        posted = server.client().chat_postMessage(channel="U0SAM", text="just you")

        assert posted["channel"].startswith("D")
        assert any(m.text == "just you" for m in server.person("U0SAM").messages())
        assert not any(m.text == "just you" for m in server.person("U0IRIS").messages())

    def test_reactions_and_pins(self, server, channel):
        """Each once."""
        client = server.client()
        ts = client.chat_postMessage(channel=channel, text="Plan")["ts"]
        client.reactions_add(channel=channel, timestamp=ts, name="eyes")
        client.pins_add(channel=channel, timestamp=ts)

        (message,) = client.conversations_history(channel=channel)["messages"]
        assert message["reactions"] == [{"name": "eyes", "users": ["U0FIREDOOR"], "count": 1}]
        with pytest.raises(SlackApiError, match="already_reacted"):
            client.reactions_add(channel=channel, timestamp=ts, name="eyes")
        with pytest.raises(SlackApiError, match="already_pinned"):
            client.pins_add(channel=channel, timestamp=ts)

    def test_files_are_shared_in_three_steps(self, server, channel):
        """files_upload_v2 works; a person can fetch the file, as a download only."""
        client = server.client()
        client.files_upload_v2(
            channel=channel,
            filename="post mortem.html",
            content="<script>alert(1)</script>",
            title="Postmortem",
            initial_comment="The draft",
        )

        message = server.person().wait_for_message(lambda m: m.text == "The draft")
        (file,) = message.raw["files"]
        assert file["title"] == "Postmortem"
        response = requests.get(file["url_private_download"], timeout=5)
        assert response.text == "<script>alert(1)</script>"
        assert response.headers["content-type"] == "application/octet-stream"
        assert response.headers["content-disposition"] == 'attachment; filename="post_mortem.html"'


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
