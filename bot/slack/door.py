"""Bolt listeners: what a person types, clicks and fills in, as calls of the service.

Bolt loses an acknowledgement when a listener raises soon after it (slack-bolt 1.30, thread
runner). So every listener acknowledges, and then hands its work to ``_work``, which answers the
person whatever happens. Slack may deliver twice: the service counts a word once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from slack_bolt import Ack, App, BoltResponse
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.webhook import WebhookClient

from bot.errors import BadInput, FiredoorError, NotFound
from bot.model.incident import Origin, StartRun
from bot.service.app import Service
from bot.service.people import Person
from bot.slack import blocks

log = logging.getLogger(__name__)

CLOSE_S = 0.5
"""How long the library is waited for at the end."""

Body = dict[str, Any]

HELP = """Firedoor runs incident runbooks.
/firedoor run - choose a runbook and start it
/firedoor status - runs that are not over, and what they wait for
/firedoor incidents - incidents, newest first
/firedoor timeline INC-1 - what happened in an incident
/firedoor containments - what is in force at the gateways
/firedoor extend CONTAINMENT 2h - let it expire so long from now
/firedoor lift CONTAINMENT - end it now; what nothing else holds reopens
/firedoor handover CONTAINMENT @SOMEBODY - make somebody else answerable for it
/firedoor cancel INC-1-R1 [reason] - end a run; its changes stay as they are
/firedoor undo INC-1-R1 [reason] - take a run's changes back, the last one first; also after its end
/firedoor pause INC-1-R1 [reason], /firedoor resume INC-1-R1 - hold a run, and let it go on
/firedoor skip INC-1-R1 STEP [reason] - pass over a step that has not begun, or that waits
/firedoor retry INC-1-R1 STEP - try a failed step again now
/firedoor rerun INC-1-R1 STEP - a new run from a step on, keeping what earlier steps left"""


class SlackDoor:
    """Listens over Socket Mode. ``start`` connects and returns; ``close`` disconnects."""

    def __init__(self, service: Service, *, client: WebClient, app_token: str) -> None:
        self._service = service
        self._client = client
        self._workers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="slack")
        self._app = App(
            client=client,
            token_verification_enabled=False,
            # Requests come over a socket that we opened with the app token; there is no
            # signature to verify.
            request_verification_enabled=False,
        )
        self._handler = SocketModeHandler(self._app, app_token, web_client=client)
        self._is_closing = False
        self._app.middleware(self._unless_closing)
        self._listen()

    def start(self) -> None:
        """Connect in the background and keep connected; Slack being down is not an error here."""
        self._workers.submit(self._connect)

    def _connect(self) -> None:

        while True:
            try:
                self._handler.connect()  # type: ignore[no-untyped-call]  # Bolt says nothing
            except (SlackClientError, OSError) as error:
                log.warning("Slack cannot be reached (%s); trying again.", type(error).__name__)
                time.sleep(2.0)
            else:
                return

    def close(self) -> None:
        """Take nothing more, and disconnect.

        The library waits three seconds for its own reading of the socket, and may still hand on
        what comes meanwhile. Whoever ends the service does not wait for that, so nothing of it is
        acknowledged: Slack gives it to another worker, or tells the person that it did not work.
        """
        self._is_closing = True
        closing = threading.Thread(target=self._handler.close, name="slack-close", daemon=True)
        closing.start()
        closing.join(CLOSE_S)
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _unless_closing(self, next_: Callable[[], BoltResponse]) -> BoltResponse:
        return BoltResponse(status=503) if self._is_closing else next_()

    @property
    def is_connected(self) -> bool:
        client = self._handler.client
        return bool(client is not None and client.is_connected())

    # --- listeners -----------------------------------------------------------------------------

    def _listen(self) -> None:
        self._app.command("/firedoor")(self._on_command)
        for verb in ("approve", "retry", "skip", "stop", "done"):
            self._app.action(f"{blocks.ACTION_PREFIX}{verb}")(self._on_button)
        for verb in ("answer", "reject", "override", "review"):
            self._app.action(f"{blocks.ACTION_PREFIX}{verb}")(self._on_form_button)
        self._app.view(blocks.PICK_FORM)(self._on_pick)
        self._app.view(blocks.RUN_FORM)(self._on_run)
        self._app.view(blocks.ANSWER_FORM)(self._on_answer)
        self._app.view(blocks.REJECT_FORM)(self._on_reject)
        self._app.view(blocks.OVERRIDE_FORM)(self._on_override)
        self._app.view(blocks.REVIEW_FORM)(self._on_review)

    def _on_command(self, ack: Ack, body: Body) -> None:
        ack()
        words = (body.get("text") or "").split()
        verb = words[0] if words else "help"
        if verb == "run":
            self._work(body, lambda: self._open_run_form(body, words[1:]))
        else:
            self._work(body, lambda: self._say(body, self._command(verb, words[1:], body)))

    def _on_button(self, ack: Ack, body: Body) -> None:
        ack()
        action = body["actions"][0]
        verb = action["action_id"].removeprefix(blocks.ACTION_PREFIX)
        token, person = action["value"], self._person(body)
        if verb == "approve":
            self._work(body, lambda: self._say(body, self._service.people.approve(token, person)))
        else:
            self._work(
                body, lambda: self._say(body, self._service.people.decide(token, person, verb))
            )

    def _on_form_button(self, ack: Ack, body: Body) -> None:
        ack()
        action = body["actions"][0]
        self._work(body, lambda: self._open_ask_form(body, action))

    def _on_pick(self, ack: Ack, body: Body) -> None:
        values = blocks.form_values(body["view"])
        channel = body["view"]["private_metadata"]
        try:
            runbook = self._service.incidents.runbook(str(values.get("runbook", "")))
        except NotFound as error:
            ack(response_action="errors", errors={"runbook": str(error)})
            return
        form = blocks.run_form(runbook, sorted(self._service.incidents.endpoints), channel)
        ack(response_action="update", view=form)

    def _on_run(self, ack: Ack, body: Body) -> None:
        runbook_id, _, channel = body["view"]["private_metadata"].partition("|")
        wish = StartRun(
            runbook_id=runbook_id,
            inputs=blocks.form_values(body["view"]),
            origin=Origin(kind="person", actor=self._person(body).actor),
        )
        try:
            self._service.check_start(wish, self._person(body))
        except FiredoorError as error:
            ack(response_action="errors", errors={_first_input(body["view"]): str(error)})
            return
        ack()
        body = {**body, "channel": {"id": channel}}
        self._work(body, lambda: self._start(body, wish))

    def _on_answer(self, ack: Ack, body: Body) -> None:
        token, values = body["view"]["private_metadata"], blocks.form_values(body["view"])
        try:
            self._service.people.answer(token, self._person(body), values)
        except FiredoorError as error:
            ack(response_action="errors", errors={_first_input(body["view"]): str(error)})
        else:
            ack()

    def _on_reject(self, ack: Ack, body: Body) -> None:
        self._on_words(ack, body, "reason", self._service.people.reject)

    def _on_override(self, ack: Ack, body: Body) -> None:
        self._on_words(ack, body, "reason", self._service.people.override)

    def _on_review(self, ack: Ack, body: Body) -> None:
        self._on_words(ack, body, "finding", self._service.people.review)

    def _on_words(
        self, ack: Ack, body: Body, field: str, call: Callable[[str, Person, str], str]
    ) -> None:
        """Take a form of one text: by its token, from this person."""
        token, values = body["view"]["private_metadata"], blocks.form_values(body["view"])
        try:
            call(token, self._person(body), str(values.get(field, "")))
        except FiredoorError as error:
            ack(response_action="errors", errors={field: str(error)})
        else:
            ack()

    # --- the work behind them ------------------------------------------------------------------

    def _work(self, body: Body, call: Callable[[], None]) -> None:
        """Do it in a thread of ours, and tell the person if it cannot be done."""

        def do() -> None:
            try:
                call()
            except FiredoorError as error:
                self._say(body, str(error))
            except (SlackClientError, OSError) as error:
                log.warning("Slack did not take an answer (%s).", type(error).__name__)
            except Exception:
                # The edge of a thread: an error that nobody reads would leave the person waiting.
                log.exception("A request from Slack could not be carried out")
                self._say(body, "This could not be carried out; the reason is in Firedoor's log.")

        self._workers.submit(do)

    def _say(self, body: Body, text: str) -> None:
        """Answer only the person who asked, where they asked."""
        shown = blocks.cut(blocks.escape(text), blocks.TEXT_MAX)
        if body.get("response_url"):
            # Reaches the person even where neither they nor the bot is in the channel.
            hook = WebhookClient(body["response_url"])
            hook.send(text=shown, response_type="ephemeral", replace_original=False)
            return
        channel = (body.get("channel") or {}).get("id") or body.get("channel_id")
        user = (body.get("user") or {}).get("id") or body.get("user_id")
        if not channel or not user:
            return
        try:
            self._client.chat_postEphemeral(channel=channel, user=user, text=shown)
        except SlackApiError as error:
            log.warning("Slack did not take an answer: %s", error.response.get("error"))

    def _open_run_form(self, body: Body, words: list[str]) -> None:
        incidents, channel = self._service.incidents, body["channel_id"]
        if words:
            runbook = incidents.runbook(words[0])
            form = blocks.run_form(runbook, sorted(incidents.endpoints), channel)
        elif incidents.runbooks:
            form = blocks.pick_form(list(incidents.runbooks.values()), channel)
        else:
            raise BadInput("No runbooks are loaded. Add some under `runbooks` in firedoor.yaml.")
        self._client.views_open(trigger_id=body["trigger_id"], view=form)

    def _open_ask_form(self, body: Body, action: Body) -> None:
        ask = self._service.people.find_ask(action["value"])
        if ask.closed:
            self._say(body, f"This is decided already: {ask.closed}")
            return
        match action["action_id"].removeprefix(blocks.ACTION_PREFIX):
            case "reject":
                form = blocks.reject_form(ask)
            case "override":
                form = blocks.override_form(ask)
            case "review":
                form = blocks.review_form(ask)
            case _:
                form = blocks.answer_form(ask, self._service.fields_of(ask))
        self._client.views_open(trigger_id=body["trigger_id"], view=form)

    def _start(self, body: Body, wish: StartRun) -> None:
        started = self._service.incidents.start(wish)
        self._say(body, f"{started.run.id} is running in {started.incident.id}.")

    def _command(self, verb: str, words: list[str], body: Body) -> str:
        reports = self._service.reports
        match verb:
            case "status":
                return "\n".join(reports.status_lines()) or "No run is going on."
            case "incidents":
                return "\n".join(reports.incident_lines()) or "There are no incidents."
            case "containments":
                return "\n".join(reports.containment_lines()) or "Nothing is in force."
            case "timeline" if words:
                return "\n".join(reports.timeline_lines(words[0])[-30:])
            case "extend" | "lift" | "handover":
                return self._contain(verb, words, self._person(body))
            case _ if words:
                return self._verb(verb, words, self._person(body))
            case _:
                return HELP

    def _person(self, body: Body) -> Person:
        user = (body.get("user") or {}).get("id") or body.get("user_id")
        return self._service.groups.person(f"slack:{user}")

    def _contain(self, verb: str, words: list[str], person: Person) -> str:
        custody = self._service.custody
        match verb, words:
            case "extend", [containment_id, ttl]:
                extended = custody.extend(containment_id, ttl, person)
                return f"{containment_id} expires at {extended.expires_at:%Y-%m-%d %H:%M:%S} UTC."
            case "lift", [containment_id]:
                gateways = ", ".join(custody.lift(containment_id, person))
                return f"{containment_id} is lifted; {gateways} is brought there within a second."
            case "handover", [containment_id, *to] if to:
                # The name in a mention may have spaces in it.
                owner = custody.hand_over(containment_id, " ".join(to), person).owner
                return f"{owner} is answerable for {containment_id} now."
            case _:
                return HELP

    def _verb(self, verb: str, words: list[str], person: Person) -> str:
        """Say a verb to a run: ``RUN [reason]``, or ``RUN STEP [reason]``."""
        people, run_id = self._service.people, words[0]
        reason, rest = (blocks.as_typed(" ".join(words[n:])) for n in (1, 2))
        match verb, words:
            case "cancel", _:
                return people.cancel(run_id, person, reason)
            case "undo", _:
                return people.undo(run_id, person, reason)
            case "pause", _:
                return people.pause(run_id, person, reason)
            case "resume", _:
                return people.resume(run_id, person)
            case "skip", [_, step_id, *_]:
                return people.skip(run_id, step_id, person, rest)
            case "retry", [_, step_id, *_]:
                return people.retry(run_id, step_id, person)
            case "rerun", [_, step_id, *_]:
                return f"{self._service.incidents.rerun(run_id, step_id, person).id} is running."
            case _:
                return HELP


def _first_input(view: Body) -> str:
    inputs = [block["block_id"] for block in view["blocks"] if block["type"] == "input"]
    return cast("str", inputs[0]) if inputs else "value"
