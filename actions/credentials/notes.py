"""What a rotation writes down before it acts, and what can be told from it afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from actions.credentials.aws import AccessKey
from bot.action import Context

CLOCK_SKEW = timedelta(minutes=5)
"""How far our clock and that of AWS may differ; AWS refuses requests that are further off."""

CREATE_LIMIT = timedelta(minutes=1)
"""Longer than one call to create a key can be under way."""


class RotationNotes:
    """
    Notes of one step, read anew by each attempt.

    Kinds of notes, each durable before the call that it announces:

    - ``create``: a key will be made; ``known`` are the ids of the keys there were, ``at`` when.
    - ``deliver``: ``key`` was made, by us, and will be written to Vault.
    - ``deactivate``: ``key`` will be made inactive.
    - ``delete``: ``key``, made by us and never delivered, will be deleted.
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._notes: list[dict[str, Any]] = [dict(note) for note in ctx.notes.read()]

    def will_create(self, known: Sequence[AccessKey]) -> None:
        at = self._ctx.now().isoformat()
        self._write({"intent": "create", "known": [key.id for key in known], "at": at})

    def will_deliver(self, key_id: str) -> None:
        self._write({"intent": "deliver", "key": key_id})

    def will_deactivate(self, key_id: str) -> None:
        self._write({"intent": "deactivate", "key": key_id})

    def will_delete(self, key_id: str) -> None:
        self._write({"intent": "delete", "key": key_id})

    @property
    def made(self) -> tuple[str, ...]:
        """Ids of the keys that this step made for certain, oldest first."""
        return tuple(note["key"] for note in self._of("deliver"))

    @property
    def tried_to_create(self) -> bool:
        return bool(self._of("create"))

    def may_have_made(self, key: AccessKey) -> bool:
        """Tell whether a key that was never seen before can be the fruit of one of our calls.

        It is one if it was not there when we announced the call and came into being while that
        call can have been under way.
        """
        return key.id in self.made or any(
            key.id not in note["known"]
            and -CLOCK_SKEW
            <= key.created_at - datetime.fromisoformat(note["at"])
            <= CREATE_LIMIT + CLOCK_SKEW
            for note in self._of("create")
        )

    def _of(self, intent: str) -> list[dict[str, Any]]:
        return [note for note in self._notes if note.get("intent") == intent]

    def _write(self, note: dict[str, Any]) -> None:
        self._ctx.notes.write(note)
        self._notes.append(note)
