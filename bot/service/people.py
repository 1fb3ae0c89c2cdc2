"""What people say to a run's questions: approve, reject, override, answer, decide, review.

Every word is checked here so that the person hears at once why it does not count, and again in
the engine, which decides. It is durable in the run's mailbox when these functions return.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from bot.engine import RunState, StepStatus
from bot.engine.places import find
from bot.errors import BadInput, NotAllowed, NotFound, Refused
from bot.language.inputs import bind_fields
from bot.language.runbook import Manual
from bot.model import events
from bot.model.ask import Ask
from bot.model.events import Event
from bot.service import asks
from bot.service.groups import Groups, Person
from bot.service.verbs import Verbs, one_line

__all__ = ["Groups", "People", "Person"]


class People(Verbs):
    """The use cases behind buttons, forms and the commands that match them."""

    def find_ask(self, token: str) -> Ask:
        with self._store.read() as tx:
            return tx.ask(token)

    def ask_of_step(
        self,
        run_id: str,
        step_id: str | None,
        kind: Literal["approval", "answer", "decision"] | None = None,
    ) -> Ask:
        """Return the open question of a run (of one step; of one kind, if there is one).

        A step that stands on another's card is asked about there.

        Raises:
            NotFound: Nothing is asked there.

            BadInput: Several things are asked, and no step was named.
        """
        with self._store.read() as tx:
            state = RunState.model_validate(tx.run(run_id).state)
            asks = [ask for ask in tx.open_asks(run_id) if ask.kind != "review"]
        if step_id is not None:
            found = [ask for ask in asks if ask.step_id == _asked_at(state, step_id)]
        else:
            found = [ask for ask in asks if ask.kind == kind] or asks
        if not found:
            where = f"{run_id}, step {step_id}" if step_id else run_id
            raise NotFound(
                f"{where} asks for nothing right now; nothing was changed. "
                "`firedoor status` shows what waits for people."
            )
        if len(found) > 1:
            named = ", ".join(f"{ask.step_id} ({ask.kind})" for ask in found)
            raise BadInput(
                f"{run_id} asks at {len(found)} steps: {named}; nothing was recorded. Name one: "
                f"--step {found[0].step_id}"
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
            reason=one_line(reason),
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
        if not one_line(reason):
            raise BadInput("Breaking the glass needs a reason; nothing was recorded. Give one.")
        event = events.Overridden(
            at=self._clock.now(),
            step=ask.step_id,
            digest=ask.digest,
            by=person.actor,
            groups=groups,
            reason=one_line(reason),
        )
        if not self._tell(ask.run_id, event, f"{token}:override"):
            raise Refused(
                f"The glass at {ask.step_id} was broken a moment ago; this was not recorded."
            )
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
            if ask.kind != "review":
                raise BadInput(f"This is no review but {_a(ask.kind)}; nothing was recorded.")
            if ask.closed:
                raise Refused(f"{ask.closed} Nothing was recorded.")
            if person.actor in ask.excluded:
                raise NotAllowed("Whoever broke the glass cannot review it; nothing was recorded.")
            if set(self._groups.of(person.actor)).isdisjoint(ask.groups):
                raise NotAllowed(
                    f"This review is for {', '.join(ask.groups)}, and you are in none of these; "
                    "nothing was recorded."
                )
            finding = self._recorder.redacted(one_line(finding))
            if not finding:
                raise BadInput("A review needs a finding; nothing was recorded. Give one.")
            tx.save_ask(ask.model_copy(update={"closed": f"Reviewed by {person.actor}."}))
            tx.append(
                at=self._clock.now(),
                kind="break_glass_reviewed",
                body={"step": ask.step_id, "by": ask.body["by"], "finding": finding},
                actor=person.actor,
                incident_id=ask.incident_id,
                run_id=ask.run_id,
                step_id=ask.step_id,
            )
            asks.close_card(tx, ask, f"Reviewed by {person.actor}: {finding}", self._clock.now())
        return f"Your review of {ask.step_id} in {ask.run_id} is recorded."

    def answer(self, token: str, person: Person, values: Mapping[str, Any]) -> str:
        """Answer a manual step.

        Raises:
            BadInput: Values that do not fit the fields, all at once; nothing was recorded.

            NotAllowed: The person is in no group at all.
        """
        ask = self._open(token, "answer")
        self._groups.check_known(person)
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
            groups=groups,
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
        self._groups.check_known(person)
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

    def _tell(self, run_id: str, event: Event, key: str) -> bool:
        """Put it into the run's mailbox; False if something with this key is there already."""
        with self._store.begin() as tx:
            is_new = tx.put_message(run_id, self._recorder.redacted_event(event), key)
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


def _asked_at(state: RunState, step_id: str) -> str:
    """Return the step at which people are asked about this one: the one that leads its card."""
    for key, current in state.steps.items():
        if current.status is StepStatus.AWAITING_APPROVAL and step_id in current.members:
            return key
    return step_id


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
