"""What people say about a run: approve, reject, override, answer, decide, and the verbs of a run.

Every word is checked here so that the person hears at once why it does not count, and again in
the engine, which decides. It is durable in the run's mailbox when these functions return.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from bot.engine import RunState, StepStatus
from bot.engine.places import find
from bot.errors import BadInput, NotAllowed, NotFound, Refused
from bot.language.inputs import bind_fields
from bot.language.runbook import Manual
from bot.model import events
from bot.model.ask import Ask
from bot.model.base import Frozen
from bot.model.events import Event
from bot.ports import Clock, Runner, Store, StoredRun
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
            found = [
                ask
                for ask in tx.open_asks(run_id)
                if step_id in (None, ask.step_id) and ask.kind != "review"
            ]
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

    def override(self, token: str, person: Person, reason: str) -> str:
        """Break the glass: let the steps behind ``token`` go on without the approval they need.

        Raises:
            BadInput: No reason was given.

            NotAllowed: They are not in the group that may, or no group may here.
        """
        ask = self._open(token, "approval")
        group, groups = ask.body.get("break_glass"), self._groups.of(person.actor)
        if group is None:
            raise NotAllowed(
                f"{ask.step_id} names no `break_glass` group, so nobody can override its approval; "
                f"nothing was recorded. Ask {', '.join(ask.groups)}."
            )
        if group not in groups:
            raise NotAllowed(
                f"Only {group} may break the glass at {ask.step_id}, and you are not in it; "
                "nothing was recorded."
            )
        if not reason.strip():
            raise BadInput("Breaking the glass needs a reason; nothing was recorded. Give one.")
        event = events.Overridden(
            at=self._clock.now(),
            step=ask.step_id,
            digest=ask.digest,
            by=person.actor,
            groups=groups,
            reason=reason.strip(),
        )
        self._tell(ask.run_id, event, f"{token}:override:{person.actor}")
        return (
            f"You broke the glass at {ask.step_id} in {ask.run_id}. It is announced, and somebody "
            "else will review it."
        )

    def review_of_step(self, run_id: str, step_id: str) -> Ask:
        """Return the review that waits at a step whose glass was broken. Raises NotFound."""
        with self._store.read() as tx:
            for ask in tx.open_asks(run_id):
                if ask.kind == "review" and ask.step_id == step_id:
                    return ask
        raise NotFound(f"No review waits at {step_id} of {run_id}; nothing was recorded.")

    def review(self, token: str, person: Person, finding: str) -> str:
        """Review a broken glass: say whether it was right, and what is to change.

        Raises:
            NotAllowed: They broke the glass themselves, or are in none of the groups.

            BadInput: No finding was given.

            Refused: It is reviewed already.
        """
        with self._store.begin() as tx:
            ask = tx.ask(token)
            if ask.closed:
                raise Refused(f"{ask.closed} Nothing was recorded.")
            if person.actor in ask.excluded:
                raise NotAllowed("Whoever broke the glass cannot review it; nothing was recorded.")
            if set(self._groups.of(person.actor)).isdisjoint(ask.groups):
                raise NotAllowed(
                    f"This review is for {', '.join(ask.groups)}, and you are in none of these; "
                    "nothing was recorded."
                )
            if not finding.strip():
                raise BadInput("A review needs a finding; nothing was recorded. Give one.")
            tx.save_ask(ask.model_copy(update={"closed": f"Reviewed by {person.actor}."}))
            tx.append(
                at=self._clock.now(),
                kind="break_glass_reviewed",
                body={"step": ask.step_id, "by": ask.body["by"], "finding": finding.strip()},
                actor=person.actor,
                incident_id=ask.incident_id,
                run_id=ask.run_id,
                step_id=ask.step_id,
            )
            self._recorder.close_card(tx, ask, f"Reviewed by {person.actor}: {finding.strip()}")
        return f"Your review of {ask.step_id} in {ask.run_id} is recorded."

    def answer(self, token: str, person: Person, values: Mapping[str, Any]) -> str:
        """Answer a manual step.

        Raises:
            BadInput: Values that do not fit the fields, all at once; nothing was recorded.

            NotAllowed: The person is in no group at all.
        """
        ask = self._open(token, "answer")
        self._known(person)
        manual = self.manual_of(ask)
        groups = self._groups.of(person.actor)
        with self._store.read() as tx:
            owners = self._recorder.runbook_of(tx.run(ask.run_id).run).owners
        if manual.assignee and {manual.assignee, *owners}.isdisjoint(groups):
            raise NotAllowed(
                f"{ask.step_id} is assigned to {manual.assignee}, and you are neither in it nor an "
                "owner of the runbook; nothing was recorded. Ask one of them."
            )
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

    def manual_of(self, ask: Ask) -> Manual:
        """Return the question that an ask is about."""
        with self._store.read() as tx:
            stored = tx.run(ask.run_id)
        place = find(
            self._recorder.runbook_of(stored.run),
            RunState.model_validate(stored.state),
            ask.step_id,
        )
        if place is None or place.step.manual is None:
            raise BadInput(f"{ask.step_id} of {ask.run_id} asks for no answer; nothing was done.")
        return place.step.manual

    # --- verbs of a run ------------------------------------------------------------------------

    def cancel(self, run_id: str, person: Person, reason: str = "", *, undo: bool = False) -> str:
        """End a run: its current effect is brought to its end, then nothing more begins.

        Args:
            undo: Whether its changes are taken back; else they stay as they are.
        """
        at = self._clock.now()
        event = events.Cancelled(at=at, by=person.actor, reason=reason, undo=undo)
        state = self._say(run_id, person, event)
        if state.ending is not None:
            return f"{run_id} comes to its end already; nobody is waited for any more."
        rest = (
            "Its changes are taken back, the last one first."
            if undo
            else "Containments stay in force until lifted or expired."
        )
        return f"{run_id} is being cancelled. {rest}"

    def pause(self, run_id: str, person: Person, reason: str = "") -> str:
        """Hold a run: what is under way is brought to its end, nothing more begins."""
        at = self._clock.now()
        state = self._say(run_id, person, events.Paused(at=at, by=person.actor, reason=reason))
        if state.paused is not None:
            raise Refused(f"{run_id} is paused already, by {state.paused_by}.")
        return f"{run_id} is being paused. Containments still expire; `resume` lets it go on."

    def resume(self, run_id: str, person: Person) -> str:
        self._say(run_id, person, events.Resumed(at=self._clock.now(), by=person.actor))
        return f"{run_id} goes on."

    def skip(self, run_id: str, step_id: str, person: Person, reason: str = "") -> str:
        """Pass over a step that has not begun, or that waits.

        Raises:
            Refused: The step is over, or its effect is under way.
        """
        event = events.Skipped(at=self._clock.now(), step=step_id, by=person.actor, reason=reason)
        state = self._say(run_id, person, event, step_id)
        current = state.step(step_id)
        if not (current.status is StepStatus.PENDING or current.is_waiting):
            raise Refused(
                f"{step_id} of {run_id} is {current.status.value}, so it cannot be skipped. Only a "
                "step that has not begun, or that waits, can be."
            )
        return f"{step_id} of {run_id} is being skipped."

    def retry(self, run_id: str, step_id: str, person: Person) -> str:
        """Have a failed step tried again now.

        Raises:
            Refused: The step has not failed.
        """
        event = events.Retried(
            at=self._clock.now(),
            step=step_id,
            by=person.actor,
            groups=self._groups.of(person.actor),
        )
        state = self._say(run_id, person, event, step_id)
        current = state.step(step_id)
        if current.failure is None or current.status not in (
            StepStatus.AWAITING_DECISION,
            StepStatus.AWAITING_RETRY,
            StepStatus.FAILED,
        ):
            raise Refused(
                f"{step_id} of {run_id} is {current.status.value} and has not failed, so there is "
                "nothing to try again. `rerun` begins a new run from a step."
            )
        return f"{step_id} of {run_id} is being tried again."

    def undo(self, run_id: str, person: Person, reason: str = "") -> str:
        """Have every change of a run taken back, the last one first; also after its end.

        Raises:
            Refused: It has changed nothing that is not taken back already.
        """
        self._known(person)
        event = events.UndoAsked(at=self._clock.now(), by=person.actor, reason=reason)
        with self._store.begin() as tx:
            stored = tx.run(run_id)
            state = RunState.model_validate(stored.state)
            left = [k for k in state.applied if state.step(k).status is not StepStatus.UNDONE]
            if stored.run.status.is_final:
                if not left:
                    raise Refused(f"{run_id} has no change that could be taken back.")
                self._recorder.take(tx, stored, event, state)
            else:
                tx.put_message(run_id, event, _key_of(event, stored))
        self._runner.start(run_id)
        self._runner.wake(run_id)
        return (
            f"The changes of {run_id} are being taken back: {', '.join(left[::-1]) or 'none yet'}."
        )

    def _say(
        self, run_id: str, person: Person, event: Event, step_id: str | None = None
    ) -> RunState:
        """Put a verb into a live run's mailbox; return where the run stands.

        Raises:
            NotFound: It has no such step.

            Refused: It is over.
        """
        self._known(person)
        with self._store.begin() as tx:
            stored = tx.run(run_id)
            if stored.run.status.is_final:
                raise Refused(f"{run_id} is over ({stored.run.status.value}); nothing was done.")
            state = RunState.model_validate(stored.state)
            if step_id is not None:
                self._check_step(stored, state, step_id)
            tx.put_message(run_id, event, _key_of(event, stored))
        self._runner.wake(run_id)
        return state

    def _check_step(self, stored: StoredRun, state: RunState, step_id: str) -> None:
        if find(self._recorder.runbook_of(stored.run), state, step_id) is None:
            known = ", ".join(list(state.steps)[:20])
            raise NotFound(f"{stored.run.id} has no step {step_id!r}; it has {known}.")

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


def _key_of(event: Event, stored: StoredRun) -> str:
    """Return the mailbox key of a verb: the same one, said again before the run has moved, is one
    word; a person who says it again later means it again."""
    return f"{event.kind}:{getattr(event, 'step', '')}:{getattr(event, 'by', '')}:{stored.events}"
