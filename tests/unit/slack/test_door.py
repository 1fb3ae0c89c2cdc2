"""What a person types, clicks and fills in in Slack, as calls of the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from slack_bolt import BoltRequest
from slack_sdk import WebClient
from slack_sdk.web import SlackResponse

from bot.engine import StepStatus
from bot.model.containment import Containment, Control, ControlKind
from bot.model.incident import RunStatus
from bot.slack import blocks
from bot.slack.door import HELP, SlackDoor
from bot.testing import START
from tests.scenario.company import IRIS, SAM, TARIQ, Company, text_of

RUN = "INC-1-R1"
STEPS = """
- id: a
  uses: acme.set
  with: {key: a, value: new}
- id: b
  uses: acme.set
  with: {key: b, value: new}
  approval: {from: [security], break_glass: oncall}
"""
HELD = Containment(
    id="INC-1-R1.close",
    incident_id="INC-1",
    run_id=RUN,
    step_id="close",
    gateway="edge",
    control=Control(kind=ControlKind.CLOSE, method="GET", path="/api/orders"),
    owner=SAM.actor,
    reason="Cross-owner reads",
    since=START,
    expires_at=START + timedelta(hours=4),
)


class Client(WebClient):
    """Keeps what Slack would show: answers to one person, and forms."""

    def __init__(self) -> None:
        super().__init__(token="xoxb-test")
        self.said: list[str] = []
        self.forms: list[dict[str, Any]] = []

    def chat_postEphemeral(self, *, text: str, **_fields: Any) -> Any:  # Slack's
        self.said.append(text)

    def views_open(self, *, view: Any, **_fields: Any) -> Any:
        self.forms.append(view)


class Slack:
    """A door on a company, used as Bolt uses it."""

    def __init__(self, company: Company) -> None:
        self.company, self.client = company, Client()

    def _with(self, call: Callable[[SlackDoor], None]) -> None:
        door = SlackDoor(self.company.world.service, client=self.client, app_token="xapp-test")
        call(door)
        door._workers.shutdown(wait=True)

    def type(self, text: str, user: str = "U0SAM") -> str:
        """Type ``/firedoor`` and something; return the answer."""
        body = {"text": text, "user_id": user, "channel_id": "C1"}
        self._with(lambda door: door._on_command(lambda **_kw: None, body))
        return self.client.said[-1]

    def click(self, verb: str, token: str, user: str = "U0SAM") -> None:
        action = {"action_id": f"{blocks.ACTION_PREFIX}{verb}", "value": token}
        body = {
            "user": {"id": user},
            "channel": {"id": "C1"},
            "trigger_id": "1",
            "actions": [action],
        }
        forms = ("answer", "reject", "override", "review")
        name = "_on_form_button" if verb in forms else "_on_button"
        self._with(lambda door: getattr(door, name)(lambda **_kw: None, body))

    def fill(self, listener: str, words: dict[str, str], user: str = "U0SAM") -> dict[str, Any]:
        """Send the form that was opened last; return what Slack was told of it."""
        view = self.client.forms[-1]
        element = "plain_text_input"
        values = {k: {"value": {"type": element, "value": v}} for k, v in words.items()}
        body = {"user": {"id": user}, "view": {**view, "state": {"values": values}}}
        told: dict[str, Any] = {}
        self._with(lambda door: getattr(door, listener)(told.update, body))
        return told


@pytest.fixture
def slack(tmp_path: Path) -> Iterator[Slack]:
    """A run of Sam that waits for security at its second step."""
    company = Company(tmp_path, [text_of(STEPS)])
    company.start(SAM)
    yield Slack(company)
    company.restart()


class TestWhoSpeaks:
    def test_who_began_a_run_by_another_door_does_not_approve_it(self, tmp_path):
        """
        One human is one person, whichever door they use.
        """
        company = Company(tmp_path, [text_of(STEPS)], people={"tariq": ["U0TARIQ", "cli:tariq"]})
        company.start(company.world.service.groups.person("cli:tariq"))
        slack = Slack(company)

        slack.click("approve", company.ask().token, "U0TARIQ")

        assert "started" in slack.client.said[-1]
        assert company.state().step("b").status is StepStatus.AWAITING_APPROVAL


class TestClosing:
    def test_what_comes_while_it_closes_is_not_acknowledged(self, slack, monkeypatch):
        """
        It would be lost: nobody is left to do it, and Slack would take it for done.
        """
        us = SlackResponse(
            client=slack.client,
            http_verb="POST",
            api_url="",
            req_args={},
            data={"ok": True, "user_id": "U0BOT", "bot_id": "B1", "team_id": "T1"},
            headers={},
            status_code=200,
        )
        monkeypatch.setattr(WebClient, "auth_test", lambda _client, **_fields: us)
        door = SlackDoor(slack.company.world.service, client=slack.client, app_token="xapp-test")
        payload = {"command": "/firedoor", "text": "status", "user_id": "U0SAM"}
        request = BoltRequest(mode="socket_mode", body=payload)
        assert door._app.dispatch(request).status == 200

        door.close()

        request = BoltRequest(mode="socket_mode", body=payload | {"text": f"cancel {RUN}"})
        assert door._app.dispatch(request).status == 503
        assert slack.company.state().status is RunStatus.RUNNING


class TestVerbs:
    def test_every_verb_reaches_the_run(self, slack):
        """
        Pause, resume, skip, undo: with a reason of several words.
        """
        state = slack.company.state
        assert slack.type(f"pause {RUN} back in an hour").startswith(f"{RUN} is being paused")
        assert state().paused_by == SAM.actor
        assert slack.type(f"resume {RUN}") == f"{RUN} goes on."
        assert slack.type(f"skip {RUN} b not needed today") == f"b of {RUN} is being skipped."
        assert state().step("b").note == f"skipped by {SAM.actor}: not needed today"
        assert slack.type(f"undo {RUN} a drill") == (
            f"The changes of {RUN} are being taken back: a."
        )
        assert state().status is RunStatus.UNDONE

    def test_a_reason_is_kept_as_it_was_typed(self, slack):
        """
        Slack makes references of names and addresses; the journal is for people.
        """
        slack.type(
            f"skip {RUN} b ask <@U0IRIS|iris> in <#C1|general>, "
            "see <https://acme.example/a|acme.example/a> and <mailto:a@acme.example|mail>"
        )

        assert slack.company.state().step("b").note == (
            f"skipped by {SAM.actor}: ask @iris in #general, "
            "see https://acme.example/a and mailto:a@acme.example"
        )

    def test_cancel_and_rerun(self, slack):
        """
        The new run is named.
        """
        assert "Containments stay" in slack.type(f"cancel {RUN} over")
        assert slack.type(f"rerun {RUN} b") == "INC-1-R2 is running."
        assert slack.company.outside.effects == ["a=new"]

    def test_retry_says_why_not(self, slack):
        """
        Nothing has failed here.
        """
        assert "has not failed" in slack.type(f"retry {RUN} b")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "help",
            "pause",
            "resume",
            "cancel",
            "undo",
            "skip",
            f"skip {RUN}",
            "retry",
            f"retry {RUN}",
            f"rerun {RUN}",
            "timeline",
            f"explode {RUN}",
        ],
    )
    def test_missing_or_unknown_words_are_answered_with_help(self, slack, text):
        """
        And nothing is done.
        """
        before = slack.company.kinds()

        assert slack.type(text) == blocks.escape(HELP)
        assert slack.company.kinds() == before

    @pytest.mark.parametrize(
        "text", [f"pause {RUN}", f"undo {RUN}", f"skip {RUN} b", f"rerun {RUN} b"]
    )
    def test_a_stranger_does_nothing(self, slack, text):
        """
        Typing a command is no right to it.
        """
        assert "in no group" in slack.type(text, user="U0EVE")
        assert slack.company.state().paused is None
        assert slack.company.state().step("b").status is StepStatus.AWAITING_APPROVAL

    def test_a_name_that_calls_everybody_is_only_text(self, slack):
        """
        What a person typed comes back to them escaped.
        """
        assert "&lt;!channel&gt;" in slack.type(f"skip {RUN} <!channel>")

    def test_status_says_who_is_waited_for(self, slack):
        """
        And by whom a run is held.
        """
        assert slack.type("status") == f"{RUN} book: b: awaiting approval of security"
        slack.type(f"pause {RUN}")
        assert slack.type("status").startswith(f"{RUN} book: paused by {SAM.actor}; b: ")


class TestContainments:
    @pytest.fixture
    def slack(self, slack: Slack) -> Slack:
        """Sam's endpoint is closed."""
        slack.company.world.service.desk.hold(HELD)
        return slack

    def held(self, slack: Slack) -> Containment | None:
        return slack.company.world.service.desk.get(HELD.id)

    def test_they_are_extended_handed_over_and_lifted(self, slack):
        """
        Each answer says how it is now.
        """
        assert slack.type(f"extend {HELD.id} 2h") == (
            f"{HELD.id} expires at 2026-01-02 05:04:05 UTC."
        )
        assert slack.type(f"handover {HELD.id} <@U0IRIS|iris>") == (
            f"slack:U0IRIS is answerable for {HELD.id} now."
        )
        assert slack.type(f"lift {HELD.id}", user="U0IRIS") == (
            f"{HELD.id} is lifted; edge is brought there within a second."
        )
        ended = self.held(slack)
        assert (ended.owner, ended.lifted_by) == (IRIS.actor, IRIS.actor)
        assert ended.expires_at == START + timedelta(hours=2)
        assert slack.type("containments") == "Nothing is in force."

    @pytest.mark.parametrize(
        "to", ["<@U0IRIS>", "<@U0IRIS|iris>", "<@U0IRIS|Iris of the Night>", "U0IRIS"]
    )
    def test_a_mention_is_whom_it_names(self, slack, to):
        """
        As Slack hands it on, with a name or without one; or an id as in the settings.
        """
        slack.type(f"handover {HELD.id} {to}")

        assert self.held(slack).owner == IRIS.actor

    @pytest.mark.parametrize("to", ["@iris", "<@U0EVE|iris>", "<!channel>", "U0IRIS please"])
    def test_to_nobody_it_is_refused(self, slack, to):
        """
        A name that Slack did not resolve is nobody; the answer calls nobody either.
        """
        said = slack.type(f"handover {HELD.id} {to}")

        assert "nothing was handed over" in said
        assert "<" not in said
        assert self.held(slack) == HELD

    @pytest.mark.parametrize(
        "text", [f"extend {HELD.id} 2h", f"lift {HELD.id}", f"handover {HELD.id} U0IRIS"]
    )
    def test_a_stranger_does_nothing(self, slack, text):
        """
        Typing a command is no right to it.
        """
        assert "in no group" in slack.type(text, user="U0EVE")
        assert self.held(slack) == HELD

    @pytest.mark.parametrize(
        "text",
        [
            "extend",
            f"extend {HELD.id}",
            f"extend {HELD.id} 2 h",
            "lift",
            f"lift {HELD.id} now",
            "handover",
            f"handover {HELD.id}",
        ],
    )
    def test_missing_or_further_words_are_answered_with_help(self, slack, text):
        """
        And nothing is done.
        """
        assert slack.type(text) == blocks.escape(HELP)
        assert self.held(slack) == HELD

    @pytest.mark.parametrize("text", ["extend X 2h", "lift X", "handover X U0IRIS"])
    def test_an_unknown_id_is_said(self, slack, text):
        """
        With where ids are listed.
        """
        assert "`firedoor containments list`" in slack.type(text)

    def test_a_time_that_is_none_is_said(self, slack):
        """
        With what one looks like.
        """
        assert "such as 90s, 15m, 4h, 2d" in slack.type(f"extend {HELD.id} &lt;2h&gt;")

    def test_an_unforeseen_error_is_not_leaked(self, slack, monkeypatch, caplog):
        """
        The person hears that it did not work; the log has the rest.
        """

        def broken() -> None:
            raise RuntimeError("password=hunter2-canary")

        monkeypatch.setattr(slack.company.world.store, "begin", broken)

        said = slack.type(f"lift {HELD.id}")

        assert said == "This could not be carried out; the reason is in Firedoor's log."
        assert "canary" in caplog.text


class TestBreakGlass:
    def test_a_form_asks_why_and_another_asks_what_was_found(self, slack):
        """
        The whole way by buttons: broken by one, reviewed by another.
        """
        company = slack.company
        slack.click("override", company.ask().token)
        assert slack.client.forms[-1]["callback_id"] == blocks.OVERRIDE_FORM
        assert slack.fill("_on_override", {"reason": "nobody\nanswers"}) == {}
        assert company.outside.effects == ["a=new", "b=new"]

        token = company.world.service.people.review_of_step(RUN, "b").token
        slack.click("review", token)
        form = slack.client.forms[-1]
        assert form["callback_id"] == blocks.REVIEW_FORM
        assert "slack:U0SAM broke the glass at b: nobody answers" in str(form)
        told = slack.fill("_on_review", {"finding": "fine"})
        assert "cannot review it" in told["errors"]["finding"]
        assert slack.fill("_on_review", {"finding": "fine"}, user="U0TARIQ") == {}
        slack.click("review", token)
        assert slack.client.said[-1] == "This is decided already: Reviewed by slack:U0TARIQ."

    def test_who_may_not_hears_it_in_the_form(self, slack):
        """
        Nothing is done, and what they wrote is still before them.
        """
        slack.click("override", slack.company.ask().token, user="U0TARIQ")
        told = slack.fill("_on_override", {"reason": "now"}, user="U0TARIQ")

        assert told["response_action"] == "errors"
        assert "Only oncall may break the glass" in told["errors"]["reason"]
        assert slack.company.outside.effects == ["a=new"]

    def test_without_a_reason_it_is_not_broken(self, slack):
        """
        A field that was left empty is said to be.
        """
        slack.click("override", slack.company.ask().token)

        assert "needs a reason" in slack.fill("_on_override", {})["errors"]["reason"]

    def test_two_clicks_on_approve_count_once(self, slack):
        """
        The second hears how it was decided.
        """
        token = slack.company.ask().token
        slack.click("approve", token, user="U0TARIQ")
        slack.click("approve", token, user="U0TARIQ")

        assert slack.company.kinds().count("approved") == 1
        assert "decided already: Approved by slack:U0TARIQ." in slack.client.said[-1]
        assert {IRIS.actor, TARIQ.actor}.isdisjoint(slack.client.said)
