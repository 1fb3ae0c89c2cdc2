"""One company under chaos: a store, the remote system, the service on both, and its people."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bot.errors import FiredoorError, Refused
from bot.language.load import load
from bot.model.alert import Alert
from bot.model.ask import Ask
from bot.model.incident import Origin, Run, StartRun
from bot.service.people import Person
from bot.testing import START, World
from bot.wiring import SystemClock
from tests.chaos.effects import GATEWAYS, RemoteChat, RemoteGateway, RemoteMail, actions
from tests.chaos.remote import Remote
from tests.chaos.stories import Story

SAM = Person(actor="slack:U0SAM")
GROUPS = {
    "oncall": ["U0SAM", "U0MAX"],
    "commanders": ["U0IRIS"],
    "security": ["U0SAM", "U0TARIQ", "U0MAX"],
}


PATIENCE = 3
"""How often people let the same step be tried again."""


class Site:
    """A service in this process on a store that others may use too. It drives nothing."""

    def __init__(
        self, folder: Path, store: str, remote: Remote, stories: Sequence[Story] = ()
    ) -> None:
        self.remote = remote
        self.stories = {story.id: story for story in stories}
        known = actions(remote)
        books = {}
        for story in stories:
            book = load(story.text, "chaos.yaml", known, story.called)
            books |= {book.id: book, **book.called()}
        self.gateways = {name: RemoteGateway(remote, name) for name in GATEWAYS}
        self.world = World(
            folder,
            actions=list(known.values()),
            runbooks=list(books.values()),
            groups=GROUPS,
            gateways=self.gateways,
            chat=RemoteChat(remote),
            mail=RemoteMail(remote),
            clock=SystemClock(),
            store_url=store,
            is_driven_inline=False,
            is_migrated=True,
        )
        self.service, self.store = self.world.service, self.world.store

    def close(self) -> None:
        self.world.close()

    def runs(self, *, unfinished: bool = False) -> Sequence[Run]:
        with self.store.read() as tx:
            return tx.runs(unfinished=unfinished)

    def begin(self, story: Story) -> None:
        """Start a story's run, unless it is there: a door that got no answer tries again."""
        if story.by == "alert":
            labels = {"story": story.id}
            alert = Alert(
                source="alertmanager", fingerprint=story.id, labels=labels, starts_at=START
            )
            self.service.incidents.take_alert(alert)
            return
        if any(run.runbook_id == story.id for run in self.runs()):
            return
        origin = Origin(kind="person", actor=story.by)
        self.service.incidents.start(StartRun(runbook_id=story.id, origin=origin))


class Crowd:
    """The people: they answer whatever is asked, each time as the seed has it."""

    def __init__(self, site: Site, *, temper: Mapping[str, float] | None = None) -> None:
        """
        Args:
            temper: How likely people ``reject``, ``skip`` or ``stop``.
        """
        self._site, self._temper = site, temper or {}
        self._answered: set[str] = set()
        self.words = 0

    def round(self) -> int:
        """Answer every open question; return how many unfinished runs there are."""
        with self._site.store.read() as tx:
            runs = tx.runs(unfinished=True)
            asked = [(run, tx.asks(run.id)) for run in runs]
        for run, asks in asked:
            for ask in asks:
                if not ask.closed and ask.token not in self._answered:
                    same = [a for a in asks if (a.step_id, a.kind) == (ask.step_id, ask.kind)]
                    self._answer(run, ask, same.index(ask))
                    self._answered.add(ask.token)
        return len(runs)

    def _answer(self, run: Run, ask: Ask, before: int) -> None:
        """Answer a question. ``before``: how often the same one was asked before."""
        people = self._site.service.people
        dice = random.Random(f"{run.runbook_id} {ask.step_id} {ask.kind} {before}")
        try:
            match ask.kind:
                case "answer":
                    people.answer(ask.token, SAM, {})
                case "decision":
                    people.decide(ask.token, SAM, self._choice(dice, ask, before))
                case "approval" if dice.random() < self._temper.get("reject", 0.0):
                    people.reject(ask.token, self._allowed(ask)[0])
                case "approval":
                    for person in self._allowed(ask)[: ask.required]:
                        people.approve(ask.token, person)
                case _:
                    return
        except Refused:
            return  # it was closed meanwhile
        self.words += 1

    def _choice(self, dice: random.Random, ask: Ask, before: int) -> Any:
        offered = list(ask.body["choices"])
        if before >= PATIENCE:
            return "skip"
        for choice in ("skip", "stop", "done"):
            if choice in offered and dice.random() < self._temper.get(choice, 0.0):
                return choice
        return "retry" if "retry" in offered else str(offered[0])

    @staticmethod
    def _allowed(ask: Ask) -> list[Person]:
        members = sorted({f"slack:{m}" for group in ask.groups for m in GROUPS[group]})
        return [Person(actor=m) for m in members if m not in ask.excluded]


def patiently(call: Callable[[], Any]) -> bool:
    """Do it; False if the store or the remote system could not be reached just now."""
    try:
        call()
    except FiredoorError:
        return False
    return True
