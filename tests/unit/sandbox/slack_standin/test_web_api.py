"""The unmodified slack_sdk calls the Web API."""

from __future__ import annotations

import json
import time

import pytest
import requests
from slack_sdk.errors import SlackApiError
from slack_sdk.models.metadata import Metadata
from slack_sdk.web import WebClient

from .conftest import APP_TOKEN, BOT_TOKEN

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
