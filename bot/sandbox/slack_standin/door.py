"""What a person does: commands, clicks, modals, messages. The app gets each as Slack sends it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from bot.errors import BadInput, NotFound
from bot.sandbox.slack_standin import blockkit, methods_views, mrkdwn, payloads, values
from bot.sandbox.slack_standin.call import Call
from bot.sandbox.slack_standin.methods_chat import content_of
from bot.sandbox.slack_standin.people import APP, BOT_USER_ID, SLACKBOT, Member
from bot.sandbox.slack_standin.socket_mode import Delivery
from bot.sandbox.slack_standin.standin import SlackRefusal, Standin
from bot.sandbox.slack_standin.workspace import find_element, public

Json = dict[str, Any]

Outcome = Literal[
    "acked", "timeout", "no_connection", "errors", "refused", "bad_response", "not_sent"
]

_TIMEOUT = "The app did not answer in time (operation_timeout). Try again."
_NO_CONNECTION = "The app is not reachable (dispatch_failed). Try again later."
_BAD_RESPONSE = "The app answered something that Slack does not take"


@dataclass(frozen=True)
class Result:
    """
    What a person gets to know of what they did.

    ``outcome``: acked; timeout and no_connection (the app did not answer, is not there); errors
    (the modal stays open, ``errors`` says by block id why: from the app or from Slack's own
    checks); refused (Slack itself says no); bad_response (Slack does not take the app's answer);
    not_sent (there was nothing to tell the app).
    """

    outcome: Outcome
    elapsed_ms: float | None = None
    message: str = ""
    errors: dict[str, str] = field(default_factory=dict)
    delivery: int | None = None
    ts: str | None = None


class Door:
    """The people's side of one stand-in."""

    def __init__(self, standin: Standin) -> None:
        self._standin = standin
        self._workspace = standin.workspace

    # -- typing

    async def say(self, user: str, channel: str, text: str, thread_ts: str | None) -> Result:
        """Send what a person typed: a message, or a command if it begins with a slash."""
        if text.startswith("/"):
            return await self.command(user, channel, text)
        return self.message(user, channel, text, thread_ts)

    async def command(self, user: str, channel_id: str, text: str) -> Result:
        """Send a slash command."""
        member, channel = self._who_and_where(user, channel_id)
        command, _, rest = text.strip().partition(" ")
        if command not in self._standin.commands:
            return self._refuse(
                channel,
                member,
                f"{command} is not a valid command. In Slack, all messages that start with "
                'the "/" character are interpreted as commands.',
            )
        self._workspace.join(channel, user)
        delivery = await self._standin.sockets.deliver(
            "slash_commands",
            f"{command} {rest}".strip(),
            payloads.slash_command(
                member,
                channel,
                command,
                # The app's manifest says `should_escape`: names come with their ids.
                self._with_mentions(mrkdwn.escape(rest.strip()), is_named=True),
                self._standin.new_trigger(user),
                self._standin.new_response_url(channel["id"], user, None),
            ),
        )
        if delivery.outcome != "acked":
            code = "operation_timeout" if delivery.outcome == "timeout" else "dispatch_failed"
            self._tell(channel, member, f'{command} failed with the error "{code}"')
            return _result(delivery)
        return self._answer_of_command(channel, member, delivery)

    def _answer_of_command(self, channel: Json, member: Member, delivery: Delivery) -> Result:
        if not delivery.reply:
            return _result(delivery)
        try:
            content = content_of(Call(self._standin, delivery.reply))
        except SlackRefusal as refusal:
            self._tell(channel, member, 'The command failed with "invalid_command_response"')
            return _bad_response(delivery, str(refusal))
        if delivery.reply.get("response_type") == "in_channel":
            self._workspace.post(channel, APP, content)
        else:
            self._workspace.post_ephemeral(channel, APP, member.id, content)
        return _result(delivery)

    def message(self, user: str, channel_id: str, text: str, thread_ts: str | None) -> Result:
        """Post a message. The app gets an event if it is in the channel."""
        member, channel = self._who_and_where(user, channel_id)
        if not text.strip():
            raise BadInput("The message is empty; nothing was sent.")
        self._workspace.join(channel, user)
        content: Json = {"text": self._with_mentions(mrkdwn.escape(text))}
        if thread_ts:
            content["thread_ts"] = thread_ts
        message = self._workspace.post(channel, member, content)
        if BOT_USER_ID in channel["_members"]:
            event = public(message) | {
                "channel": channel["id"],
                "event_ts": message["ts"],
            }
            kind = "im" if channel["is_im"] else "group" if channel["is_private"] else "channel"
            self._standin.publish(event | {"channel_type": kind})
            if f"<@{BOT_USER_ID}>" in message["text"] and not channel["is_im"]:
                self._standin.publish(event | {"type": "app_mention"})
        return Result("acked", ts=message["ts"])

    def _with_mentions(self, text: str, *, is_named: bool = False) -> str:
        names = {member.name: member.id for member in self._workspace.members.values()}

        def mention(match: re.Match[str]) -> str:
            if match[1] in ("channel", "here", "everyone"):
                return f"<!{match[1]}>"
            label = f"|{match[1]}" if is_named else ""
            return f"<@{names[match[1]]}{label}>" if match[1] in names else match[0]

        return re.sub(r"(?<!\w)@([\w.-]*\w)", mention, text)

    # -- clicking

    async def click(
        self, user: str, place: Json, action_id: str, block_id: str | None, value: Any, stale: bool
    ) -> Result:
        """
        Use an element: press a button, choose in a menu.

        Args:
            place: ``{"channel", "ts"}`` of a message, or ``{"view_id"}`` of an open modal.

            value: For a menu or an input, as for `values.entered`; not for a button.

            stale: Also find an element that an update has removed, as on a screen that has not
                caught up.
        """
        member = self._member(user)
        if place.get("view_id"):
            return await self._click_in_view(member, place["view_id"], action_id, block_id, value)
        _, channel = self._who_and_where(user, place["channel"])
        message = self._workspace.find_message(channel["id"], place["ts"], user)
        if message is None:
            raise NotFound(f"There is no message {place['ts']} in that channel for this person.")
        shown = [message.get("blocks", [])]
        if stale:
            shown += reversed(message.get("_former_blocks", []))
        found = next(
            (f for blocks in shown if (f := find_element(blocks, action_id, block_id))), None
        )
        if found is None:
            raise NotFound(f"The message has no element {action_id} now; nothing was sent.")
        block, element = found
        action = self._action(block, element, value)
        state = self._remember(message, member, block, element, action)
        delivery = await self._standin.sockets.deliver(
            "interactive",
            f"click {action_id}",
            payloads.message_action(
                member,
                channel,
                public(message),
                action,
                state,
                is_ephemeral="_only_for" in message,
                trigger_id=self._standin.new_trigger(user),
                response_url=self._standin.new_response_url(channel["id"], user, message["ts"]),
            ),
        )
        return _result(delivery)

    async def _click_in_view(
        self, member: Member, view_id: str, action_id: str, block_id: str | None, value: Any
    ) -> Result:
        view = self._top_view(member.id, view_id)
        found = find_element(view["blocks"], action_id, block_id)
        if found is None:
            raise NotFound(f"The modal has no element {action_id}; nothing was sent.")
        block, element = found
        action = self._action(block, element, value)
        if values.is_input(element) and element["type"] != "overflow":
            entered = values.entered(element, value)
            view["state"]["values"].setdefault(block["block_id"], {})[action_id] = entered
        if block["type"] == "input" and not block.get("dispatch_action"):
            return Result("not_sent")
        trigger_id = self._standin.new_trigger(member.id)
        delivery = await self._standin.sockets.deliver(
            "interactive",
            f"click {action_id}",
            payloads.view_action(member, public(view), action, trigger_id),
        )
        return _result(delivery)

    def _action(self, block: Json, element: Json, value: Any) -> Json:
        action: Json = {
            "type": element["type"],
            "action_id": element["action_id"],
            "block_id": block["block_id"],
            "action_ts": self._workspace.new_ts(),
        }
        if values.is_input(element):
            return action | values.entered(element, value)
        shown = ("text", "value", "style", "url")
        return action | {key: element[key] for key in shown if key in element}

    def _remember(
        self, message: Json, member: Member, block: Json, element: Json, action: Json
    ) -> Json:
        """Return ``state.values`` of a message for a person, after this action."""
        chosen = message.setdefault("_state", {}).setdefault(member.id, {})
        if values.is_input(element) and element["type"] != "overflow":
            outside = ("action_id", "block_id", "action_ts")
            value = {key: each for key, each in action.items() if key not in outside}
            chosen.setdefault(block["block_id"], {})[element["action_id"]] = value
        state = methods_views.initial_values(message.get("blocks", []))
        for block_id, actions in state.items():
            actions |= chosen.get(block_id, {})
        return state

    # -- modals

    async def submit(self, user: str, view_id: str, given: Json) -> Result:
        """
        Send a modal.

        Args:
            given: ``{block_id: {action_id: value}}``, values as for `values.entered`. What is
                not named keeps what it shows.
        """
        member = self._member(user)
        view = self._top_view(user, view_id)
        errors = self._enter(view, given)
        if errors:
            return Result("errors", errors=errors, message="Slack asks to mend the modal.")
        trigger_id = self._standin.new_trigger(user)
        delivery = await self._standin.sockets.deliver(
            "interactive",
            f"submit {view['callback_id']}".strip(),
            payloads.view_submission(member, public(view), trigger_id),
        )
        if delivery.outcome != "acked":
            return _result(delivery)
        return await self._answer_of_modal(member, view, delivery)

    def _enter(self, view: Json, given: Json) -> dict[str, str]:
        """Put what was given into the view's state; return what Slack's own checks say."""
        errors: dict[str, str] = {}
        state = view["state"]["values"]
        for block in view["blocks"]:
            block_id = block["block_id"]
            for _, element in blockkit.elements_of(block):
                action_id = element["action_id"]
                if action_id not in state.get(block_id, {}):
                    continue
                try:
                    if action_id in given.get(block_id, {}):
                        state[block_id][action_id] = values.entered(
                            element, given[block_id][action_id]
                        )
                except values.InvalidValue as error:
                    errors[block_id] = str(error)
                    continue
                required = block["type"] == "input" and not block.get("optional")
                if required and values.is_empty(state[block_id][action_id]):
                    errors[block_id] = "Please complete this required field."
        unknown = set(given) - set(state)
        if unknown:
            raise NotFound(f"The modal has no input block {sorted(unknown)[0]}; nothing was sent.")
        return errors

    async def _answer_of_modal(self, member: Member, view: Json, delivery: Delivery) -> Result:
        reply = delivery.reply
        stack = self._workspace.views.get(member.id, [])
        try:
            match reply.get("response_action"):
                case None:
                    if view in stack:
                        stack.remove(view)
                case "clear":
                    stack.clear()
                case "errors":
                    return self._modal_errors(view, delivery)
                case "update":
                    content = methods_views.checked(reply.get("view"))
                    methods_views.replace_view(self._workspace, view, content)
                case "push":
                    content = methods_views.checked(reply.get("view"))
                    if len(stack) >= methods_views.STACK_MAX:
                        return _bad_response(delivery, "push_limit_reached")
                    methods_views.push_view(self._workspace, member.id, content)
                case unknown:
                    return _bad_response(delivery, f"response_action {unknown}")
        except SlackRefusal as refusal:
            return _bad_response(delivery, str(refusal))
        self._workspace.changed()
        return _result(delivery)

    def _modal_errors(self, view: Json, delivery: Delivery) -> Result:
        errors = delivery.reply.get("errors")
        inputs = {block["block_id"] for block in view["blocks"] if block["type"] == "input"}
        if not isinstance(errors, dict) or not errors or not set(errors) <= inputs:
            return _bad_response(delivery, "errors must name input blocks by their block_id")
        return Result(
            "errors",
            delivery.elapsed_ms,
            "The app asks to mend the modal.",
            {block_id: str(text) for block_id, text in errors.items()},
            delivery.number,
        )

    async def close_view(self, user: str, view_id: str, *, clear: bool) -> Result:
        """Close the open modal without sending it; ``clear``: all that are open."""
        member = self._member(user)
        view = self._top_view(user, view_id)
        stack = self._workspace.views[user]
        closed = [*reversed(stack)] if clear or view["clear_on_close"] else [view]
        for each in closed:
            stack.remove(each)
        self._workspace.changed()
        told = [each for each in closed if each["notify_on_close"]]
        result = Result("not_sent")
        for each in told:
            payload = payloads.view_closed(member, public(each), is_cleared=len(closed) > 1)
            subject = f"close {each['callback_id']}".strip()
            result = _result(await self._standin.sockets.deliver("interactive", subject, payload))
        return result

    # -- who and where

    def _member(self, user: str) -> Member:
        member = self._workspace.members.get(user)
        if member is None or member.is_bot:
            raise NotFound(f"Nobody here has the id {user}; nothing was done.")
        return member

    def _who_and_where(self, user: str, channel_id: str) -> tuple[Member, Json]:
        member = self._member(user)
        channel = self._workspace.find_channel(channel_id)
        if channel is None or channel not in self._workspace.visible_channels(user):
            raise NotFound(f"{member.display} sees no channel {channel_id}; nothing was done.")
        if channel["is_archived"]:
            raise BadInput(f"#{channel['name']} is archived; nothing was sent.")
        return member, channel

    def _top_view(self, user: str, view_id: str) -> Json:
        stack = self._workspace.views.get(user, [])
        if not stack or stack[-1]["id"] != view_id:
            raise NotFound("That modal is not open (any more); nothing was sent.")
        return stack[-1]

    def _tell(self, channel: Json, member: Member, text: str) -> None:
        content = {"text": mrkdwn.escape(text)}
        self._workspace.post_ephemeral(channel, SLACKBOT, member.id, content)

    def _refuse(self, channel: Json, member: Member, text: str) -> Result:
        self._tell(channel, member, text)
        return Result("refused", message=text)


def _result(delivery: Delivery) -> Result:
    words = {"timeout": _TIMEOUT, "no_connection": _NO_CONNECTION}
    return Result(
        delivery.outcome,
        delivery.elapsed_ms,
        words.get(delivery.outcome, ""),
        delivery=delivery.number,
    )


def _bad_response(delivery: Delivery, why: str) -> Result:
    text = f"{_BAD_RESPONSE}: {why}."
    return Result("bad_response", delivery.elapsed_ms, text, delivery=delivery.number)
