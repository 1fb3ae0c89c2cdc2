"""Sending what the outbox holds, each parcel once.

A parcel is claimed in the store before it is sent and marked afterwards. One that is found claimed
was interrupted: for chat we look for its key in the channel before we send again. A mail cannot be
looked for, so an interrupted one is sent again under the same Message-ID.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from bot.errors import (
    BadInput,
    FiredoorError,
    LeaseLost,
    ProviderRefused,
    StoreUnavailable,
    Unreachable,
)
from bot.model.ask import StoredParcel
from bot.model.incident import Incident
from bot.model.message import Message, MessageRef
from bot.ports import Chat, Clock, Mail, Store, Transaction

log = logging.getLogger(__name__)

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
MAX_REFUSALS = 3
"""After this many refusals (not outages) a parcel is given up and the journal says so."""

BATCH = 50
FETCH = 1_000

NOT_YET_S = 1.0
"""How long a parcel is put off whose channel or first message is not there yet."""


class _NotYet(Exception):
    """What the parcel depends on (its channel, the message it updates) is not there yet."""


Check = Callable[[], None]
"""Raises LeaseLost once another worker may be sending."""

Send = Callable[[bool, Check], MessageRef | None]
"""Sends a parcel; told whether it may be sent already."""


@dataclass(frozen=True)
class _Claimed:
    """A parcel as it was claimed, and the call that sends it."""

    stored: StoredParcel
    send: Callable[[Check], MessageRef | None]


class Outbox:
    """One of these per way of sending; each is run by one thread."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        kinds: frozenset[str],
        chat: Chat | None,
        mail: Mail | None,
        fallback_channel: str | None = None,
        live: Callable[[Transaction, str], Message] | None = None,
        redact: Callable[[str], str] = lambda text: text,
    ) -> None:
        """
        Args:
            live: Composes a run's live message as it is to be sent.

            redact: Takes known secrets out of what other systems say of a failure.
        """
        self._live, self._redact = live, redact
        self._store, self._clock, self._kinds = store, clock, kinds
        self._chat, self._mail = chat, mail
        self._fallback_channel = fallback_channel
        self.trouble = ""
        """Why nothing can be sent right now; empty when it can."""
        self._resume_at: datetime | None = None

    def flush(self, check: Check = lambda: None) -> int:
        """Send what is due and return how many parcels were sent.

        Args:
            check: Raises LeaseLost once another worker may be sending; called right before each
                sending.

        In an outage of the other system everything waits, the oldest first, until it is time to
        try again: so order is kept and a dead system is not hammered. Two failures in a row, or a
        stated delay, are an outage; one alone may be the parcel's own fault, and the others go on.
        """
        now = self._clock.now()
        if self._resume_at is not None and now < self._resume_at:
            return 0
        with self._store.read() as tx:
            due = [p for p in tx.due_parcels(now, FETCH) if p.parcel.kind in self._kinds]
        sent = failures = 0
        self._resume_at = None
        for stored in due:
            if sent >= BATCH:
                break
            try:
                claimed = self._claim(stored.parcel.key)
            except _NotYet:
                # Out of the way of what can be sent.
                self._save_later(stored)
                continue
            except (LeaseLost, StoreUnavailable):
                raise
            except FiredoorError as error:
                self._resume_at, failures = None, 0
                self._refused(stored, error, attempts=stored.attempts + 1)
                continue
            if claimed is None:
                continue
            try:
                self._send(claimed, check)
            except Unreachable as error:
                self.trouble = self._redact(str(error))
                retry_after_s = getattr(error, "retry_after_s", None)
                self._resume_at = self._postpone(claimed.stored, error, retry_after_s)
                failures += 1
                if failures == 2 or retry_after_s is not None:
                    break
            except (LeaseLost, StoreUnavailable):
                raise  # the parcel is found claimed by whoever sends now
            except FiredoorError as error:
                self._resume_at, failures = None, 0
                self._refused(claimed.stored, error, attempts=claimed.stored.attempts)
            else:
                self.trouble, self._resume_at, failures = "", None, 0
                sent += 1
        return sent

    def _claim(self, key: str) -> _Claimed | None:
        """Claim a parcel as it is now, which may be newer than when it was listed; None if there
        is nothing to send any more.

        A live message is composed in here: an event that comes later has it sent again, and one
        that came before is in it.
        """
        with self._store.begin() as tx:
            stored = tx.parcel(key)
            assert stored is not None  # noqa: S101  # parcels are never deleted
            if stored.status in ("sent", "dead"):
                return None
            in_doubt = stored.status == "claimed"
            changes: dict[str, Any] = {"status": "claimed", "attempts": stored.attempts + 1}
            if stored.parcel.is_live and self._live is not None:
                message = self._compose(tx, stored.parcel.run_id or "")
                changes["parcel"] = stored.parcel.model_copy(update={"message": message})
            stored = stored.model_copy(update=changes)
            send = self._sender(tx, stored)
            tx.save_parcel(stored)
        return _Claimed(stored, partial(send, in_doubt))

    def _compose(self, tx: Transaction, run_id: str) -> Message:
        assert self._live is not None  # noqa: S101  # the caller looked
        try:
            return self._live(tx, run_id)
        except ValueError as error:
            raise BadInput(
                f"The live message of {run_id} cannot be composed ({error}); it stays as it is. "
                "`firedoor status` shows where the run stands."
            ) from error

    def _send(self, claimed: _Claimed, check: Check) -> None:
        check()
        ref = claimed.send(check)
        stored = claimed.stored
        with self._store.begin() as tx:
            current = tx.parcel(stored.parcel.key)
            assert current is not None  # noqa: S101  # parcels are never deleted
            if current.status in ("sent", "dead"):
                return  # another worker has brought it to its end meanwhile
            # An update may have been replaced by a newer one while it was on its way.
            status = "sent" if current == stored else current.status
            done = current.model_copy(update={"status": status, "ref": ref, "error": ""})
            tx.save_parcel(done)
            self._journal_sent(tx, stored, ref)

    def _sender(self, tx: Transaction, stored: StoredParcel) -> Send:
        """Return the call that sends this parcel; its argument says that it may be sent already."""
        parcel = stored.parcel
        if parcel.kind == "email":
            return lambda _in_doubt, _check: self._send_mail(stored)
        if self._chat is None:
            raise ProviderRefused(
                f"{parcel.key} was not sent: no chat is configured. Add `slack` to firedoor.yaml."
            )
        chat = self._chat
        match parcel.kind:
            case "open_channel":
                title = parcel.message.title
                members = [m.removeprefix("slack:") for m in parcel.members if "slack:" in m]
                return lambda _in_doubt, _check: MessageRef(
                    channel=chat.open_channel(parcel.to, title, members), ts=""
                )
            case "update":
                target = tx.parcel(parcel.target_key)
                if target is None or target.ref is None:
                    if target is not None and target.status == "dead":
                        raise ProviderRefused(f"{parcel.key}: what it would update was never sent.")
                    raise _NotYet
                ref = target.ref
                return lambda _in_doubt, _check: self._update(chat, ref, stored)
            case _:
                incident = tx.incident(parcel.incident_id)
                channel = parcel.to or incident.channel or self._instead_of(tx, incident)
                if channel is None:
                    raise _NotYet

                def post(in_doubt: bool, check: Check) -> MessageRef:
                    found = chat.find(channel, parcel.key) if in_doubt else None
                    if found is not None:
                        return found
                    check()
                    return chat.post(channel, parcel.message, parcel.key)

                return post

    def _instead_of(self, tx: Transaction, incident: Incident) -> str | None:
        """Return where to post if the incident's own channel will never be: people must still be
        asked."""
        own = tx.parcel(f"{incident.id}:channel")
        return self._fallback_channel if own is not None and own.status == "dead" else None

    def _send_mail(self, stored: StoredParcel) -> None:
        if self._mail is None:
            raise ProviderRefused(
                f"{stored.parcel.key} was not sent: no mail server is configured. "
                "Add `email` to firedoor.yaml."
            )
        self._mail.send(stored.parcel.to, stored.parcel.message, stored.parcel.key)

    @staticmethod
    def _update(chat: Chat, ref: MessageRef, stored: StoredParcel) -> MessageRef:
        chat.update(ref, stored.parcel.message)
        return ref

    def _journal_sent(self, tx: Transaction, stored: StoredParcel, ref: MessageRef | None) -> None:
        parcel = stored.parcel
        if parcel.kind == "open_channel" and ref is not None:
            incident = tx.incident(parcel.incident_id)
            tx.save_incident(incident.model_copy(update={"channel": ref.channel}))
            self._append(tx, stored, "channel_opened", {"channel": ref.channel, "name": parcel.to})
        elif parcel.audience:
            body = {
                "key": parcel.key,
                "way": "email" if parcel.kind == "email" else "slack",
                "to": parcel.to,
                "audience": parcel.audience,
                "subject": parcel.message.title,
            }
            self._append(tx, stored, "notice_sent", body)
        elif parcel.kind == "post":
            self._append(tx, stored, "message_sent", {"key": parcel.key})

    def _append(
        self, tx: Transaction, stored: StoredParcel, kind: str, body: dict[str, Any]
    ) -> None:
        tx.append(
            at=self._clock.now(),
            kind=kind,
            body=body,
            incident_id=stored.parcel.incident_id,
            run_id=stored.parcel.run_id,
            step_id=stored.parcel.step_id,
        )

    def _postpone(
        self, stored: StoredParcel, error: Exception, retry_after_s: float | None
    ) -> datetime:
        delay_s = min(FIRST_DELAY_S * 2 ** min(stored.attempts - 1, 10), LONGEST_DELAY_S)
        next_at = self._later(retry_after_s or delay_s)
        self._save_attempt(stored, error, {"next_at": next_at})
        return next_at

    def _save_later(self, stored: StoredParcel) -> None:
        with self._store.begin() as tx:
            if tx.parcel(stored.parcel.key) == stored:
                tx.save_parcel(stored.model_copy(update={"next_at": self._later(NOT_YET_S)}))

    def _refused(self, stored: StoredParcel, error: Exception, *, attempts: int) -> None:
        log.warning("%s was refused: %s", stored.parcel.key, error)
        self.trouble = self._redact(str(error))
        refusals = stored.refusals + 1
        changes: dict[str, Any] = {"attempts": attempts, "refusals": refusals}
        changes["next_at"] = self._later(FIRST_DELAY_S)
        if refusals >= MAX_REFUSALS:
            changes["status"] = "dead"
        self._save_attempt(stored, error, changes)

    def _later(self, seconds: float) -> datetime:
        return self._clock.now() + timedelta(seconds=seconds)

    def _save_attempt(
        self, stored: StoredParcel, error: Exception, changes: dict[str, Any]
    ) -> None:
        """Note a failure of a parcel as it was seen or claimed, unless it has changed since: what
        replaced it has not failed yet."""
        with self._store.begin() as tx:
            if tx.parcel(stored.parcel.key) != stored:
                return
            failed = stored.model_copy(update={**changes, "error": self._redact(str(error))})
            tx.save_parcel(failed)
            if failed.status == "dead":
                self._journal_failed(tx, failed)

    def _journal_failed(self, tx: Transaction, stored: StoredParcel) -> None:
        parcel = stored.parcel
        if parcel.is_live and any(
            record.body["key"] == parcel.key
            for record in tx.records(run_id=parcel.run_id, kind="notice_failed")
        ):
            return  # each event has it tried again; once is enough to say that it cannot be
        body: dict[str, Any] = {
            "key": parcel.key,
            "to": parcel.to,
            "audience": parcel.audience,
            "message": stored.error,
        }
        self._append(tx, stored, "notice_failed", body)
