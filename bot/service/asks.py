"""Questions before people, and the messages that go with an event: rows and parcels, put into the
transaction that records it."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any

from bot.engine import RunState, StepStatus
from bot.model import events
from bot.model.ask import Ask, Parcel, live_key
from bot.model.commands import AskApproval, AskDecision, AskPerson, Remind
from bot.model.events import Event
from bot.model.incident import Incident, Run
from bot.model.message import Message
from bot.model.outcome import Notice
from bot.ports import Transaction
from bot.service import cards

_STATUS = {
    "approval": StepStatus.AWAITING_APPROVAL,
    "answer": StepStatus.AWAITING_ANSWER,
    "decision": StepStatus.AWAITING_DECISION,
}


def put_question(
    tx: Transaction,
    incident: Incident,
    run: Run,
    command: AskApproval | AskPerson | AskDecision,
    now: datetime,
) -> None:
    """Put a question before people."""
    ask = _ask_of(command, run, now)
    card = _card_of(incident, command, ask)
    ask = ask.model_copy(update={"body": {**ask.body, "card": card.model_dump()}})
    tx.add_ask(ask)
    tx.put_parcel(_about(ask, card), now)


def remind(tx: Transaction, incident: Incident, run: Run, command: Remind, now: datetime) -> None:
    """Say once more that a question waits. Without an open question there is nothing to say."""
    for ask in tx.open_asks(run.id):
        if ask.step_id == command.step and ask.kind == "answer":
            card = cards.reminder_card(incident, ask, command, now)
            tx.put_parcel(_about(ask, card, f":reminder:{command.number}"), now)


def close_asks(tx: Transaction, run: Run, state: RunState, event: Event) -> None:
    """Close every question that the run no longer waits for; show progress on the others."""
    for ask in tx.open_asks(run.id):
        if ask.kind == "review":
            continue  # it outlives the run
        step = state.step(ask.step_id)
        # Version 0.1 asked about the plan alone.
        digest = step.card or (step.plan.digest if step.plan else "")
        open_still = step.status is _STATUS[ask.kind] and (
            ask.kind != "approval" or digest == ask.digest
        )
        card = Message.model_validate(ask.body["card"])
        if open_still:
            if step.approvals and isinstance(event, events.Approved):
                text = (
                    f"{len(step.approvals)} of {ask.required} approved: {', '.join(step.approvals)}"
                )
                _update(tx, ask, cards.progress(card, text), event.at)
            continue
        text = _ending(event, step.note)
        tx.save_ask(ask.model_copy(update={"closed": text}))
        close_card(tx, ask, text, event.at)


def close_card(tx: Transaction, ask: Ask, text: str, at: datetime) -> None:
    """Let a question's message say how it ended."""
    card = Message.model_validate(ask.body["card"])
    _update(tx, ask, cards.closed(card, text), at)


def _update(tx: Transaction, ask: Ask, card: Message, at: datetime) -> None:
    update = {"kind": "update", "target_key": _key(ask)}
    tx.put_parcel(_about(ask, card, ":update").model_copy(update=update), at, replace=True)


def announce_override(
    tx: Transaction, incident: Incident, run: Run, event: events.Overridden, announce_in: str | None
) -> None:
    """Tell everybody that the glass was broken, and ask somebody else for a review."""
    asked = next(a for a in reversed(tx.asks(run.id)) if a.step_id == event.step)
    review = Ask(
        token=secrets.token_urlsafe(24),
        incident_id=incident.id,
        run_id=run.id,
        step_id=event.step,
        kind="review",
        groups=asked.groups,
        excluded=(event.by,),
        asked_at=event.at,
        body={"by": event.by, "reason": event.reason},
    )
    card = cards.review_card(incident, review, event)
    review = review.model_copy(update={"body": {**review.body, "card": card.model_dump()}})
    tx.add_ask(review)
    tx.put_parcel(_about(review, card), event.at)
    if announce_in is not None:
        announcement = _about(review, cards.override_card(incident, event), ":announced")
        tx.put_parcel(announcement.model_copy(update={"to": announce_in}), event.at)


def queue_notices(tx: Transaction, run: Run, event: Event) -> None:
    if isinstance(event, events.Applied):
        for notice in event.outcome.notices:
            tx.put_parcel(_notice_parcel(run, event.step, notice), event.at)


def queue_card(tx: Transaction, run: Run, card: Message, at: datetime) -> None:
    """Put the live message into the outbox, and what will rewrite it."""
    key = live_key(run.id)
    first = Parcel(key=key, incident_id=run.incident_id, run_id=run.id, kind="post", message=card)
    changes = {"key": f"{key}:update", "kind": "update", "target_key": key}
    tx.put_parcel(first, at)
    tx.put_parcel(first.model_copy(update=changes), at, sent=True)


def _about(ask: Ask, card: Message, suffix: str = "") -> Parcel:
    """Return a message about a question, for the incident's channel."""
    return Parcel(
        key=f"{_key(ask)}{suffix}",
        incident_id=ask.incident_id,
        run_id=ask.run_id,
        step_id=ask.step_id,
        kind="post",
        message=card,
    )


def _key(ask: Ask) -> str:
    """The outbox key of a question's message."""
    return f"{ask.run_id}:{ask.step_id}:ask:{ask.token[:8]}"


def _ask_of(command: AskApproval | AskPerson | AskDecision, run: Run, now: datetime) -> Ask:
    common: dict[str, Any] = {
        "token": secrets.token_urlsafe(24),
        "incident_id": run.incident_id,
        "run_id": run.id,
        "step_id": command.step,
        "asked_at": now,
    }
    match command:
        case AskApproval():
            return Ask(
                **common,
                kind="approval",
                digest=command.digest or command.plan.digest,
                groups=command.groups,
                excluded=command.excluded,
                required=command.required,
                expires_at=command.expires_at,
                body={"summary": command.plan.summary, "break_glass": command.break_glass},
            )
        case AskPerson():
            return Ask(
                **common,
                kind="answer",
                expires_at=command.expires_at,
                groups=(command.assignee,) if command.assignee else (),
                body={"ask": command.ask, "fields": command.fields},
            )
        case AskDecision():
            return Ask(**common, kind="decision", body={"choices": list(command.choices)})


def _card_of(
    incident: Incident, command: AskApproval | AskPerson | AskDecision, ask: Ask
) -> Message:
    match command:
        case AskApproval():
            return cards.approval_card(incident, command, ask)
        case AskPerson():
            return cards.answer_card(incident, command, ask)
        case AskDecision():
            return cards.decision_card(incident, command, ask)


def _notice_parcel(run: Run, step_id: str, notice: Notice) -> Parcel:
    return Parcel(
        key=f"{run.id}:{step_id}:notice:{notice.key}",
        incident_id=run.incident_id,
        run_id=run.id,
        step_id=step_id,
        kind="email" if notice.way == "email" else "post",
        to=notice.to,
        audience=notice.audience,
        message=Message(title=notice.subject, paragraphs=(notice.text,)),
    )


def _ending(event: Event, note: str) -> str:
    match event:
        case events.Approved():
            return f"Approved by {event.by}."
        case events.Rejected():
            return f"Rejected by {event.by}{': ' + event.reason if event.reason else ''}."
        case events.Answered():
            return f"Answered by {event.by}."
        case events.Decided():
            return f"Decided by {event.by}: {event.choice}."
        case events.Cancelled():
            return f"The run was cancelled by {event.by}."
        case events.Overridden():
            return f"Glass broken by {event.by}: {event.reason}"
        case _:
            return note or "No longer asked."
