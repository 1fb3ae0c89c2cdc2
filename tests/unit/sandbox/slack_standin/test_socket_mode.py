"""The unmodified slack-bolt talks to the stand-in over Socket Mode."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time

import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.models.blocks import (
    ActionsBlock,
    ButtonElement,
    HeaderBlock,
    InputBlock,
    Option,
    PlainTextInputElement,
    SectionBlock,
    StaticSelectElement,
)
from slack_sdk.models.views import View
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as websocket

from bot.errors import NotFound

from .conftest import APP_TOKEN

pytestmark = pytest.mark.live

MODAL = {
    "type": "modal",
    "callback_id": "run",
    "title": {"type": "plain_text", "text": "Run a runbook"},
    "submit": {"type": "plain_text", "text": "Plan"},
    "private_metadata": "INC-1",
    "notify_on_close": True,
    "blocks": [
        {
            "type": "input",
            "block_id": "endpoint",
            "label": {"type": "plain_text", "text": "Endpoint"},
            "element": {"type": "plain_text_input", "action_id": "value", "min_length": 3},
        },
        {
            "type": "input",
            "block_id": "severity",
            "optional": True,
            "label": {"type": "plain_text", "text": "Severity"},
            "element": {
                "type": "static_select",
                "action_id": "value",
                "options": [
                    {"text": {"type": "plain_text", "text": "Severity 1"}, "value": "sev1"},
                    {"text": {"type": "plain_text", "text": "Severity 2"}, "value": "sev2"},
                ],
            },
        },
    ],
}


def card(*labels):
    return [
        HeaderBlock(text="Close GET /api/orders/{order_id}"),
        SectionBlock(text="Needs *1* approval."),
        ActionsBlock(
            block_id="approval",
            elements=[
                ButtonElement(text=label, action_id=f"verb-{label.lower()}", value=f"t-{label}")
                for label in labels
            ],
        ),
    ]


class TestCommand:
    def test_command_reaches_the_app_as_slack_sends_it_and_its_answer_comes_back(
        self, server, bolt
    ):
        """A command carries who, where and what; the text of the ack is shown to that person."""
        got = queue.Queue()

        @bolt.app.command("/firedoor")
        def handle(ack, body):
            got.put(body)
            ack(text="Which *runbook*?")

        bolt.connect()
        sam = server.person("U0SAM")

        delivery = sam.command("/firedoor run api1-bola a<b", "incidents")

        assert delivery.outcome == "acked"
        body = got.get(timeout=5)
        assert body["command"] == "/firedoor"
        assert body["text"] == "run api1-bola a&lt;b"
        assert (body["user_id"], body["user_name"]) == ("U0SAM", "sam")
        assert body["channel_id"] == sam.channel("incidents").id
        assert body["channel_name"] == "incidents"
        assert body["response_url"].startswith(server.url)
        assert body["token"] == ""
        answer = sam.wait_for_message(lambda m: m.text == "Which *runbook*?")
        assert answer.is_ephemeral
        iris = server.person("U0IRIS")
        assert all(m.text != "Which *runbook*?" for m in iris.messages("incidents"))

    def test_who_is_named_in_it_comes_with_their_id(self, server, bolt):
        """With the handle beside it; a name of nobody stays a word."""
        got = queue.Queue()

        @bolt.app.command("/firedoor")
        def handle(ack, body):
            got.put(body["text"])
            ack()

        bolt.connect()

        server.person("U0SAM").command("/firedoor handover X @iris @nobody sam@iris", "incidents")

        assert got.get(timeout=5) == "handover X <@U0IRIS|iris> @nobody sam@iris"

    def test_unknown_command_never_reaches_the_app(self, server, bolt):
        """Slack itself refuses a command that no app registered."""
        bolt.connect()
        before = len(server.control.deliveries())

        delivery = server.person().command("/nonsense now")

        assert delivery.outcome == "refused"
        assert "/nonsense is not a valid command" in delivery.message
        assert len(server.control.deliveries()) == before

    def test_response_url_answers_five_times_and_no_more(self, server, bolt):
        """A response URL takes five answers, for everybody or for the person alone."""
        statuses = queue.Queue()

        @bolt.app.command("/firedoor")
        def handle(ack, respond):
            ack()
            for number in range(6):
                where = "in_channel" if number == 0 else "ephemeral"
                statuses.put(respond(text=f"answer {number}", response_type=where).status_code)

        bolt.connect()
        iris = server.person("U0IRIS")

        iris.command("/firedoor status", "general")

        assert [statuses.get(timeout=10) for _ in range(6)] == [200, 200, 200, 200, 200, 404]
        answers = {m.text: m.is_ephemeral for m in iris.messages("general")}
        assert not answers["answer 0"]
        assert answers["answer 4"]
        assert "answer 5" not in answers


class TestModal:
    @pytest.fixture
    def opened(self, server, bolt):
        """A person opened the modal; what was submitted arrives in the queue."""
        got = queue.Queue()
        answers = {}

        @bolt.app.command("/firedoor")
        def handle(ack, body, client):
            ack()
            client.views_open(trigger_id=body["trigger_id"], view=MODAL)

        @bolt.app.view("run")
        def submitted(ack, body):
            got.put(body)
            ack(**answers)

        @bolt.app.view_closed("run")
        def closed(ack, body):
            got.put(body)
            ack()

        bolt.connect()
        sam = server.person("U0SAM")
        sam.command("/firedoor run")
        return sam, sam.wait_for_view(), got, answers

    def test_submitted_values_have_the_shapes_of_slack(self, opened):
        """``view.state.values`` holds each input under block and action id, typed."""
        sam, view, got, _ = opened

        delivery = sam.submit(
            view, {"endpoint": {"value": "GET /api/a"}, "severity": {"value": "sev2"}}
        )

        assert delivery.outcome == "acked"
        body = got.get(timeout=5)
        assert body["type"] == "view_submission"
        assert body["user"]["id"] == "U0SAM"
        assert body["view"]["private_metadata"] == "INC-1"
        values = body["view"]["state"]["values"]
        assert values["endpoint"]["value"] == {"type": "plain_text_input", "value": "GET /api/a"}
        severity = values["severity"]["value"]
        assert severity["type"] == "static_select"
        assert severity["selected_option"]["value"] == "sev2"
        assert sam.open_view() is None

    def test_errors_of_the_app_keep_the_modal_open_with_what_was_entered(self, opened):
        """An ack with response_action errors leaves the modal and what was typed."""
        sam, view, _, answers = opened
        answers |= {"response_action": "errors", "errors": {"endpoint": "No such endpoint."}}

        delivery = sam.submit(view, {"endpoint": {"value": "GET /nowhere"}})

        assert delivery.outcome == "errors"
        assert delivery.errors == {"endpoint": "No such endpoint."}
        still = sam.open_view()
        assert still["state"]["values"]["endpoint"]["value"]["value"] == "GET /nowhere"

    def test_errors_for_an_unknown_block_are_a_bad_response(self, opened):
        """Slack takes errors for input blocks only; an app that names another gets nowhere."""
        sam, view, _, answers = opened
        answers |= {"response_action": "errors", "errors": {"nonsense": "?"}}

        delivery = sam.submit(view, {"endpoint": {"value": "GET /api/a"}})

        assert delivery.outcome == "bad_response"
        assert sam.open_view() is not None

    @pytest.mark.parametrize(
        ("given", "sentence"),
        [
            pytest.param({}, "Please complete this required field.", id="required"),
            pytest.param(
                {"endpoint": {"value": "x"}}, "Please enter at least 3 characters.", id="short"
            ),
        ],
    )
    def test_what_slack_checks_itself_never_reaches_the_app(self, opened, given, sentence):
        """Required fields and lengths are checked before the app hears of it."""
        sam, view, got, _ = opened

        delivery = sam.submit(view, given)

        assert delivery.outcome == "errors"
        assert delivery.errors == {"endpoint": sentence}
        assert got.empty()

    def test_update_keeps_what_was_entered_and_push_stacks(self, opened):
        """response_action update replaces the view, push puts one on top, clear removes all."""
        sam, view, _, answers = opened
        answers |= {
            "response_action": "update",
            "view": {**MODAL, "title": {"type": "plain_text", "text": "Once more"}},
        }
        sam.submit(view, {"endpoint": {"value": "GET /api/a"}})
        updated = sam.open_view()
        assert updated["title"]["text"] == "Once more"
        assert updated["state"]["values"]["endpoint"]["value"]["value"] == "GET /api/a"

        answers |= {"response_action": "push"}
        sam.submit(updated)
        assert sam.state()["view_depth"] == 2

        answers |= {"response_action": "clear"}
        sam.submit(sam.open_view(), {"endpoint": {"value": "GET /api/b"}})
        assert sam.open_view() is None

    def test_closing_is_told_if_asked_for(self, opened):
        """notify_on_close sends view_closed."""
        sam, view, got, _ = opened

        delivery = sam.close_view(view)

        assert delivery.outcome == "acked"
        assert got.get(timeout=5)["type"] == "view_closed"
        assert sam.open_view() is None

    def test_trigger_opens_one_modal(self, server, bolt):
        """A trigger id is used once, and an invented one never."""
        errors = queue.Queue()

        @bolt.app.command("/firedoor")
        def handle(ack, body, client):
            ack()
            client.views_open(trigger_id=body["trigger_id"], view=MODAL)
            for trigger_id in (body["trigger_id"], "1.2.abc"):
                try:
                    client.views_open(trigger_id=trigger_id, view=MODAL)
                except SlackApiError as error:
                    errors.put(error.response["error"])

        bolt.connect()
        server.person().command("/firedoor run")

        assert errors.get(timeout=5) == "exchanged_trigger_id"
        assert errors.get(timeout=5) == "invalid_trigger_id"

    def test_late_trigger_is_refused(self, impatient_server, bolt_on):
        """A trigger id is good for a short time only (Slack: 3 s)."""
        errors = queue.Queue()
        bolt = bolt_on(impatient_server)

        @bolt.app.command("/firedoor")
        def handle(ack, body, client):
            ack()
            with pytest.raises(SlackApiError) as caught:
                client.views_open(trigger_id=body["trigger_id"], view=MODAL)
            errors.put(caught.value.response["error"])

        bolt.connect()
        impatient_server.person().command("/firedoor run")

        assert errors.get(timeout=5) == "expired_trigger_id"

    def test_update_by_hash_notices_another_update(self, opened, server):
        """views.update with the hash of an older state is refused."""
        _, view, _, _ = opened
        client = server.client()
        client.views_update(view_id=view["id"], view=MODAL, hash=view["hash"])

        with pytest.raises(SlackApiError, match="hash_conflict"):
            client.views_update(view_id=view["id"], view=MODAL, hash=view["hash"])

    def test_view_built_with_the_sdk_models_is_taken(self, server, bolt):
        """What the models of slack_sdk write is valid here."""

        @bolt.app.command("/firedoor")
        def handle(ack, body, client):
            ack()
            view = View(
                type="modal",
                title="Answer",
                submit="Send",
                blocks=[
                    InputBlock(label="Version", element=PlainTextInputElement(action_id="v")),
                    InputBlock(
                        label="Mode",
                        element=StaticSelectElement(
                            action_id="m", options=[Option(text="fast", value="fast")]
                        ),
                    ),
                ],
            )
            client.views_open(trigger_id=body["trigger_id"], view=view)

        bolt.connect()
        sam = server.person()
        sam.command("/firedoor answer")

        assert sam.wait_for_view()["title"]["text"] == "Answer"


class TestClick:
    def test_click_is_delivered_as_slack_sends_it_and_an_update_removes_the_buttons(
        self, server, bolt
    ):
        """A click names action, value, message and person; the app then takes the buttons away."""
        got = queue.Queue()

        @bolt.app.action("verb-approve")
        def handle(ack, body, client):
            ack()
            got.put(body)
            client.chat_update(
                channel=body["channel"]["id"],
                ts=body["message"]["ts"],
                text="Approved by Sam",
                blocks=[SectionBlock(text=f"Approved by <@{body['user']['id']}>")],
            )

        bolt.connect()
        sam = server.person("U0SAM")
        bolt.app.client.chat_postMessage(
            channel="#incidents", text="Approve?", blocks=card("Approve", "Reject")
        )
        message = sam.wait_for_message(lambda m: m.has_button("Approve"))

        delivery = sam.press(message, "Approve")

        assert delivery.outcome == "acked"
        body = got.get(timeout=5)
        assert body["type"] == "block_actions"
        assert body["actions"][0]["action_id"] == "verb-approve"
        assert body["actions"][0]["block_id"] == "approval"
        assert body["actions"][0]["value"] == "t-Approve"
        assert body["actions"][0]["text"]["text"] == "Approve"
        assert float(body["actions"][0]["action_ts"]) > 0
        assert body["container"] == {
            "type": "message",
            "message_ts": message.ts,
            "channel_id": message.channel,
            "is_ephemeral": False,
        }
        assert body["message"]["ts"] == message.ts
        assert body["message"]["text"] == "Approve?"
        assert body["user"]["team_id"] == body["team"]["id"]
        assert body["api_app_id"]
        assert body["is_enterprise_install"] is False
        after = sam.wait_for_message(lambda m: m.ts == message.ts and not m.buttons)
        assert after.all_text == "Approved by <@U0SAM>"
        with pytest.raises(NotFound):
            sam.press(after, "Approve")

    def test_stale_screen_may_still_click_what_is_gone(self, server, bolt):
        """A person whose screen has not caught up can press a button that an update removed."""
        got = queue.Queue()

        @bolt.app.action("verb-approve")
        def handle(ack, body):
            ack()
            got.put(body["message"]["text"])

        bolt.connect()
        client = bolt.app.client
        posted = client.chat_postMessage(channel="#incidents", text="Old", blocks=card("Approve"))
        sam = server.person()
        message = sam.wait_for_message(lambda m: m.ts == posted["ts"])
        client.chat_update(channel=posted["channel"], ts=posted["ts"], text="New")

        delivery = sam.click(message, message.buttons[0], stale=True)

        assert delivery.outcome == "acked"
        assert got.get(timeout=5) == "New"

    def test_while_no_connection_is_open_a_person_is_told(self, server):
        """Without the app, a click reports that the app is not reachable, at once."""
        posted = server.client().chat_postMessage(
            channel="#incidents", text="Approve?", blocks=card("Approve")
        )
        sam = server.person()
        message = sam.wait_for_message(lambda m: m.ts == posted["ts"])

        delivery = sam.press(message, "Approve")

        assert delivery.outcome == "no_connection"
        assert "not reachable" in delivery.message
        assert sam.command("/firedoor status").outcome == "no_connection"
        told = sam.wait_for_message(lambda m: "dispatch_failed" in m.text)
        assert told.user == "USLACKBOT"

    def test_menu_carries_the_chosen_option(self, server, bolt):
        """A select in a message sends selected_option and is part of state.values."""
        got = queue.Queue()

        @bolt.app.action("pick")
        def handle(ack, body):
            ack()
            got.put(body)

        bolt.connect()
        select = StaticSelectElement(
            action_id="pick",
            options=[Option(text="Edge", value="edge"), Option(text="Inner", value="inner")],
        )
        posted = bolt.app.client.chat_postMessage(
            channel="#incidents", text="?", blocks=[ActionsBlock(block_id="b", elements=[select])]
        )
        sam = server.person()
        message = sam.wait_for_message(lambda m: m.ts == posted["ts"])

        sam.click(message, "pick", value="inner")

        body = got.get(timeout=5)
        assert body["actions"][0]["selected_option"]["value"] == "inner"
        assert body["state"]["values"]["b"]["pick"]["selected_option"]["value"] == "inner"


class TestDelivery:
    def test_not_acknowledged_is_sent_again(self, impatient_server, bolt_on):
        """Without an ack in time the person sees a time-out, and the app gets it again."""
        got = queue.Queue()
        bolt = bolt_on(impatient_server)

        @bolt.app.action("verb-approve")
        def handle(ack, body, req):
            retry = req.headers.get("x-slack-retry-num", ["0"])[0]
            got.put((body["actions"][0]["action_ts"], retry))
            if retry != "0":
                ack()
            else:
                time.sleep(1.0)  # longer than this stand-in waits

        bolt.connect()
        sam = impatient_server.person()
        posted = bolt.app.client.chat_postMessage(
            channel="#incidents", text="?", blocks=card("Approve")
        )
        message = sam.wait_for_message(lambda m: m.ts == posted["ts"])

        delivery = sam.press(message, "Approve")

        assert delivery.outcome == "timeout"
        assert "did not answer" in delivery.message
        first, second = got.get(timeout=5), got.get(timeout=5)
        assert first[0] == second[0], "the same click"
        assert (first[1], second[1]) == ("0", "1")
        log = wait_for(lambda: acked_delivery(impatient_server, delivery))
        assert log["outcome"] == "timeout"
        assert len({attempt["envelope_id"] for attempt in log["attempts"]}) >= 2

    def test_given_up_after_three_more_tries(self, impatient_server, bolt_on):
        """What is never acknowledged is sent four times in all; a command says so in Slack."""
        seen = []
        bolt = bolt_on(impatient_server)

        @bolt.app.command("/firedoor")
        def handle(body):
            seen.append(body["trigger_id"])  # and no ack

        bolt.connect()
        sam = impatient_server.person()

        delivery = sam.command("/firedoor status")

        assert delivery.outcome == "timeout"
        sam.wait_for_message(lambda m: "operation_timeout" in m.text)
        wait_for(lambda: len(seen) == 4)
        assert len(set(seen)) == 1

    def test_what_a_lost_connection_carried_is_sent_over_the_next(self, server, bolt):
        """A click that was under way when the connection broke arrives once more."""
        got, go_on = queue.Queue(), threading.Event()

        @bolt.app.action("verb-approve")
        def handle(ack, req):
            retry = req.headers.get("x-slack-retry-reason", [None])[0]
            got.put(retry)
            if retry is None:
                go_on.wait(10)
            ack()

        bolt.connect()
        sam = server.person()
        posted = bolt.app.client.chat_postMessage(
            channel="#incidents", text="?", blocks=card("Approve")
        )
        message = sam.wait_for_message(lambda m: m.ts == posted["ts"])
        outcomes = queue.Queue()
        clicking = threading.Thread(target=lambda: outcomes.put(sam.press(message, "Approve")))
        clicking.start()
        assert got.get(timeout=5) is None

        server.control.disconnect()

        assert got.get(timeout=10) == "connection_failed"
        delivery = outcomes.get(timeout=5)
        assert delivery.outcome == "timeout"
        clicking.join()
        log = wait_for(lambda: acked_delivery(server, delivery))
        assert [attempt["failure"] for attempt in log["attempts"]] == ["connection_lost", ""]
        go_on.set()

    def test_app_reconnects_after_a_drop(self, server, bolt):
        """A dropped app comes back by itself and gets what people do afterwards."""
        connected_again(server, bolt, warning=False)

    def test_app_moves_over_after_a_warning(self, server, bolt):
        """After a warning the app opens a new connection before the old one is dropped."""
        connected_again(server, bolt, warning=True)

    def test_each_envelope_goes_to_one_of_several_connections(self, server, bolt):
        """With two connections open, each click is delivered once."""
        got = queue.Queue()

        @bolt.app.command("/firedoor")
        def handle(ack, body):
            ack()
            got.put(body["text"])

        bolt.connect(connections=2)
        sam = server.person()
        for number in range(4):
            assert sam.command(f"/firedoor {number}").outcome == "acked"

        assert sorted(got.get(timeout=5) for _ in range(4)) == ["0", "1", "2", "3"]
        assert got.empty()

    def test_while_offline_neither_calls_nor_connections_work(self, server, bolt):
        """Slack can be down: calls get no answer, connections are refused, and all comes back."""
        bolt.app.command("/firedoor")(lambda ack: ack())
        bolt.connect()
        server.control.go_offline(True)

        with pytest.raises(OSError):
            server.client().auth_test()
        assert server.control.health()["connections"] == 0
        assert server.person().command("/firedoor x").outcome == "no_connection"

        server.control.go_offline(False)
        assert server.client().auth_test()["ok"]
        server.control.wait_connected()
        assert server.person().command("/firedoor x").outcome == "acked"

    def test_events_tell_of_mentions_messages_and_joins(self, server, bolt):
        """The app hears what people write in its channels, and who joins."""
        got = queue.Queue()
        bolt.app.event("app_mention")(lambda ack, event: got.put(event))
        bolt.app.event("message")(lambda ack, event: got.put(event))
        bolt.app.event("member_joined_channel")(lambda ack, event: got.put(event))
        bolt.connect()
        client = bolt.app.client
        channel = client.conversations_create(name=f"inc-{time.time_ns()}")["channel"]["id"]
        client.conversations_invite(channel=channel, users=["U0IRIS"])
        joined = got.get(timeout=5)
        assert (joined["type"], joined["user"]) == ("member_joined_channel", "U0IRIS")

        server.person("U0IRIS").say("@firedoor what is <here> & there?", channel)

        events = {event["type"]: event for event in (got.get(timeout=5), got.get(timeout=5))}
        assert events["app_mention"]["text"] == "<@U0FIREDOOR> what is &lt;here&gt; &amp; there?"
        assert events["message"]["channel_type"] == "channel"
        assert events["message"]["user"] == "U0IRIS"


def connected_again(server, bolt, *, warning):
    bolt.app.command("/firedoor")(lambda ack: ack())
    bolt.connect()
    assert server.person().command("/firedoor 1").outcome == "acked"

    assert server.control.disconnect(warning=warning, after_s=0.5) == 1

    server.control.wait_connected()
    assert server.person().command("/firedoor 2").outcome == "acked"


def acked_delivery(server, delivery):
    for each in server.control.deliveries():
        if each["number"] == delivery.delivery and each["is_acked"]:
            return each
    return None


def wait_for(look, timeout_s=10.0):
    deadline_s = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline_s, "it did not happen"
        threading.Event().wait(0.05)
    return found


def test_eleventh_connection_is_turned_away(server):
    """An app may hold ten connections; the next is told so and closed."""
    with contextlib.ExitStack() as stack:
        hellos = []
        for _ in range(11):
            url = server.client().apps_connections_open(app_token=APP_TOKEN)["url"]
            connection = stack.enter_context(websocket(url, proxy=None))
            hellos.append(json.loads(connection.recv(timeout=5)))

        assert [hello["type"] for hello in hellos] == ["hello"] * 10 + ["disconnect"]
        assert hellos[9]["num_connections"] == 10
        assert hellos[10]["reason"] == "too_many_websockets"
    server.control.wait_connected(0)


def test_ticket_opens_one_connection(server):
    """The address of a connection is good once, and an invented one never."""
    url = server.client().apps_connections_open(app_token=APP_TOKEN)["url"]
    with websocket(url, proxy=None) as connection:
        connection.recv(timeout=5)

    for spent in (url, f"{url}x"):
        with pytest.raises(InvalidStatus):
            websocket(spent, proxy=None)
    server.control.wait_connected(0)
