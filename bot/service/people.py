"""What people say about a run: approve, reject, answer, decide, cancel.

Every word is checked here so that the person hears at once why it does not count, and again in
the engine, which decides. It is durable in the run's mailbox when these functions return.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from bot.errors import BadInput, NotAllowed, NotFound, Refused
from bot.language.inputs import bind_fields
from bot.model import events
from bot.model.ask import Ask
from bot.model.base import Frozen
from bot.model.events import Event
from bot.ports import Clock, Runner, Store
from bot.service.record import Recorder


class Person(Frozen):
    """Who speaks, as the door has verified it: ``slack:U0SAM`` or ``cli:sam``."""

    actor: str


class Groups:
    """Who is in which group. Entries without a prefix are Slack user ids."""

    def __init__(self, groups: Mapping[str, Sequence[str]]) -> None:
        self._members = {
            name: frozenset(m if ":" in m else f"slack:{m}" for m in members)
            for name, members in groups.items()
        }

    def members(self, groups: Iterable[str]) -> tuple[str, ...]:
        """Return everybody in any of these groups."""
        return tuple(sorted({m for name in groups for m in self._members.get(name, ())}))

    def of(self, actor: str) -> tuple[str, ...]:
        """Return the groups of a person; someone unknown is in none."""
        return tuple(sorted(n for n, members in self._members.items() if actor in members))


class People:
    """The use cases behind buttons, forms and the commands that match them."""

    def __init__(
        self, *, store: Store, clock: Clock, recorder: Recorder, runner: Runner, groups: Groups
    ) -> None:
        self._store, self._clock, self._recorder = store, clock, recorder
        self._runner, self._groups = runner, groups

    def find_ask(self, token: str) -> Ask:
        with self._store.read() as tx:
            return tx.ask(token)

    def ask_of_step(self, run_id: str, step_id: str | None) -> Ask:
        """Return the open question of a run (of one step).

        Raises:
            NotFound: Nothing is asked there, or several things and no step was named.
        """
        with self._store.read() as tx:
            tx.run(run_id)
            found = [ask for ask in tx.open_asks(run_id) if step_id in (None, ask.step_id)]
        if len(found) != 1:
            where = f"{run_id}, step {step_id}" if step_id else run_id
            raise NotFound(
                f"{where} asks for nothing right now; nothing was changed. "
                "`firedoor status` shows what waits for people."
            )
        return found[0]

    def approve(self, token: str, person: Person) -> str:
        """Say yes to the plan behind ``token``; return a sentence for the person.

        Raises:
            NotAllowed: They are in none of the groups, or started the run themselves.

            Refused: The question is closed or its time is over.
        """
        ask, groups = self._may_judge(token, person, "approve")
        event = events.Approved(
            at=self._clock.now(),
            step=ask.step_id,
            digest=ask.digest,
            by=person.actor,
            groups=groups,
        )
        self._tell(ask.run_id, event, f"{token}:approve:{person.actor}")
        return f"Your approval of {ask.step_id} in {ask.run_id} is recorded."

    def reject(self, token: str, person: Person, reason: str = "") -> str:
        """Say no to the plan behind ``token``. Raises as ``approve`` does."""
        ask, groups = self._may_judge(token, person, "reject")
        event = events.Rejected(
            at=self._clock.now(),
            step=ask.step_id,
            digest=ask.digest,
            by=person.actor,
            groups=groups,
            reason=reason,
        )
        self._tell(ask.run_id, event, f"{token}:reject:{person.actor}")
        return f"Your rejection of {ask.step_id} in {ask.run_id} is recorded."

    def answer(self, token: str, person: Person, values: Mapping[str, Any]) -> str:
        """Answer a manual step.

        Raises:
            BadInput: Values that do not fit the fields, all at once; nothing was recorded.

            NotAllowed: The person is in no group at all.
        """
        ask = self._open(token, "answer")
        self._known(person)
        with self._store.read() as tx:
            run = tx.run(ask.run_id).run
        manual = self._recorder.runbook_of(run).step(ask.step_id).manual
        if manual is None:
            raise BadInput(f"{ask.step_id} is no manual step; nothing was recorded.")
        event = events.Answered(
            at=self._clock.now(),
            step=ask.step_id,
            by=person.actor,
            groups=self._groups.of(person.actor),
            values=bind_fields(manual.fields, values),
        )
        if not self._tell(ask.run_id, event, f"{token}:answer"):
            raise Refused(f"{ask.step_id} was answered a moment ago; this answer was not recorded.")
        return f"Your answer to {ask.step_id} in {ask.run_id} is recorded."

    def decide(
        self, token: str, person: Person, choice: Literal["retry", "skip", "stop", "done"]
    ) -> str:
        """Decide about a failed step. Raises NotAllowed, Refused."""
        ask = self._open(token, "decision")
        self._known(person)
        if choice not in ask.body["choices"]:
            offered = ", ".join(ask.body["choices"])
            raise BadInput(
                f"{choice!r} is not offered here (offered: {offered}); nothing was done."
            )
        event = events.Decided(
            at=self._clock.now(),
            step=ask.step_id,
            by=person.actor,
            groups=self._groups.of(person.actor),
            choice=choice,
        )
        if not self._tell(ask.run_id, event, f"{token}:decide"):
            raise Refused(f"{ask.step_id} was decided a moment ago; this one was not recorded.")
        return f"Your decision about {ask.step_id} in {ask.run_id} is recorded: {choice}."

    def cancel(self, run_id: str, person: Person, reason: str = "") -> str:
        """Ask a run to end before its next command. Containments stay in force."""
        self._known(person)
        with self._store.begin() as tx:
            if tx.run(run_id).run.status.is_final:
                raise Refused(f"{run_id} is over already; nothing was cancelled.")
            tx.ask_to_cancel(run_id, by=person.actor, reason=reason)
            event = events.Cancelled(at=self._clock.now(), by=person.actor, reason=reason)
            tx.put_message(run_id, event, "cancel")
        self._runner.wake(run_id)
        return f"{run_id} is being cancelled. Containments stay in force until lifted or expired."

    def _tell(self, run_id: str, event: Event, key: str) -> bool:
        """Put it into the run's mailbox; False if something with this key is there already."""
        with self._store.begin() as tx:
            is_new = tx.put_message(run_id, event, key)
        self._runner.wake(run_id)
        return is_new

    def _may_judge(self, token: str, person: Person, verb: str) -> tuple[Ask, tuple[str, ...]]:
        ask = self._open(token, "approval")
        groups = self._groups.of(person.actor)
        if person.actor in ask.excluded:
            raise NotAllowed(
                f"You started {ask.run_id}, so you cannot {verb} its steps; nothing was "
                f"recorded. Ask someone of {', '.join(ask.groups)}."
            )
        if set(groups).isdisjoint(ask.groups):
            raise NotAllowed(
                f"{ask.step_id} needs {', '.join(ask.groups)}, and you are in none of these; "
                "nothing was recorded. Ask one of them."
            )
        return ask, groups

    def _known(self, person: Person) -> None:
        if not self._groups.of(person.actor):
            raise NotAllowed(
                f"{person.actor} is in no group of firedoor.yaml; nothing was recorded. "
                "Ask a responder, or have yourself added under `groups`."
            )

    def _open(self, token: str, kind: str) -> Ask:
        ask = self.find_ask(token)
        if ask.kind != kind:
            raise BadInput(
                f"{ask.run_id} waits for a different word at {ask.step_id} ({ask.kind}, not "
                f"{kind}); nothing was recorded. `firedoor status` shows what it waits for."
            )
        if ask.closed:
            raise Refused(f"This is decided already: {ask.closed} Nothing was recorded.")
        if ask.expires_at is not None and self._clock.now() >= ask.expires_at:
            raise Refused("The time to answer this is over; nothing was recorded.")
        return ask
