"""Everything that a whole incident says is something that Slack takes, whatever is in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bot.errors import ProviderRefused
from bot.model.message import Message
from bot.sandbox.slack_standin import mrkdwn
from bot.sandbox.slack_standin.blockkit import message_findings, view_findings, walk
from bot.service import cards
from bot.slack import blocks
from tests.scenario.company import (
    CLOSE,
    ENDPOINTS,
    IRIS,
    ORDERS,
    SAM,
    TARIQ,
    TRIGGER,
    Company,
    alert,
    text_of,
)

NASTY = "<!channel> <@U1> <https://evil.example|acme> ``` *b* _i_ \u202egnp.exe & é " * 60

STEPS = """
- id: look
  uses: acme.look
  with: {key: door}
- id: set
  uses: acme.set
  with: {key: door, value: shut}
  approval: {from: [security], required: 2}
- id: tell
  uses: acme.tell
  with: {text: "{{ steps.look.value }}"}
- id: fixed
  manual: {ask: "Is <!here> it & fixed?", fields: {version: {type: string}}}
"""


class Recording:
    """Keeps every message that a chat was given, also those that were rewritten later."""

    def __init__(self, company: Company) -> None:
        self.messages: list[Message] = []
        for name in ("post", "update"):
            setattr(company.chat, name, self._kept(getattr(company.chat, name)))

    def _kept(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def kept(where: Any, message: Message, *rest: Any) -> Any:
            self.messages.append(message)
            return call(where, message, *rest)

        return kept


@pytest.fixture
def said(tmp_path: Path, store_url_of) -> list[Message]:
    """All messages of an incident in which everything happens, with texts of the worst kind."""
    company = Company(
        tmp_path, [text_of(CLOSE + STEPS, more=TRIGGER)], store_url=store_url_of(tmp_path)
    )
    recording = Recording(company)
    company.outside.values["door"] = NASTY
    company.outside.fail["look.run"] = [ProviderRefused(f"It says: {NASTY}")]
    world = company.world
    world.service.incidents.take_alert(alert(annotations={"summary": NASTY}))
    people = world.service.people
    world.send()
    people.decide(company.ask().token, SAM, "retry")
    world.send()
    people.approve(company.ask().token, SAM)
    world.send()
    people.approve(company.ask().token, TARIQ)
    world.send()
    people.answer(company.ask().token, IRIS, {"version": NASTY[:2_000]})
    world.send()
    company.start(IRIS, endpoint=ORDERS.key)
    company.outside.values["door"] = NASTY
    company.resume()
    people.reject(company.ask("INC-2-R1").token, SAM, NASTY)
    world.send()
    incident, containment = world.service.reports.incidents()[0], None
    with world.store.read() as tx:
        containment = tx.containments()[0]
    company.restart()
    return [
        *recording.messages,
        cards.expired_card(containment),
        cards.opened_card(incident, "inc-1-book", IRIS.actor),
    ]


class TestMessages:
    def test_slack_takes_all_of_them(self, said):
        """
        Cards, questions, decisions, notices, their updates: none is refused.
        """
        assert len(said) > 15
        for message in said:
            assert message_findings(blocks.message_blocks(message)) == [], message.title

    def test_none_of_them_calls_or_links_anybody(self, said):
        """
        What a log, an alert or a person says is shown and does nothing.
        """
        for message in said:
            for node in walk(blocks.message_blocks(message)):
                if node.get("type") == "mrkdwn":
                    runs = walk(mrkdwn.parse(node["text"], verbatim=node.get("verbatim", False)))
                    kinds = {run["kind"] for run in runs if "kind" in run}
                    assert not kinds & {"user", "channel", "group", "broadcast", "link", "date"}

    def test_every_kind_of_message_is_among_them(self, said):
        """
        The test above is about all that Firedoor says.
        """
        titles = " ".join(message.title for message in said)

        for part in (
            "approve set?",
            "fixed needs an answer",
            "look did not work",
            "data was read",
            "Containment expired",
            "(sev1)",
            f"book: {ORDERS.key}",
        ):
            assert part in titles


class TestForms:
    def test_slack_takes_the_forms_of_a_real_runbook(self, tmp_path, store_url_of):
        """
        To choose one, to start it, to answer and to reject.
        """
        company = Company(
            tmp_path, [text_of(CLOSE + STEPS, more=TRIGGER)], store_url=store_url_of(tmp_path)
        )
        company.outside.values["door"] = NASTY
        company.start(IRIS, endpoint=ORDERS.key)
        (book,) = company.runbooks
        approval = company.ask()
        reject = blocks.reject_form(approval)
        company.world.service.people.approve(approval.token, SAM)
        company.world.service.people.approve(approval.token, TARIQ)
        answer = blocks.answer_form(company.ask(), company.world.service.fields_of(company.ask()))
        company.restart()

        for form in (
            blocks.pick_form([book], "C1"),
            blocks.run_form(book, sorted(ENDPOINTS), "C1"),
            answer,
            reject,
        ):
            assert view_findings(form) == []
