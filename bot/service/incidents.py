"""Opening incidents and starting runs, from alerts and from people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bot.action import Effect
from bot.engine import RunState, StepStatus
from bot.engine.places import find
from bot.errors import BadInput, NotFound, Refused
from bot.language.inputs import bind, match
from bot.language.runbook import InputType, Runbook, within
from bot.model.alert import Alert
from bot.model.ask import Parcel
from bot.model.base import Frozen
from bot.model.endpoint import Endpoint
from bot.model.events import Cancelled, RunStarted
from bot.model.incident import Incident, IncidentStatus, Origin, Run, StartRun
from bot.model.message import Message
from bot.ports import Clock, Runner, Store, StoredRun, Transaction
from bot.service import cards
from bot.service.people import Groups, Person
from bot.service.record import Recorder


class AlertTaken(Frozen):
    """What became of one alert. ``opened`` is false when it joined an open incident."""

    fingerprint: str
    incident_id: str | None = None
    run_id: str | None = None
    opened: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Started:
    """A new run and the incident it belongs to."""

    incident: Incident
    run: Run


class Incidents:
    """The use cases of the doors that begin something."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        recorder: Recorder,
        runner: Runner,
        runbooks: Mapping[str, Runbook],
        endpoints: Mapping[str, Endpoint],
        groups: Groups,
        announce_in: str | None = None,
    ) -> None:
        self._announce_in = announce_in
        self._groups = groups
        self._store, self._clock, self._recorder, self._runner = store, clock, recorder, runner
        self.runbooks, self.endpoints = runbooks, endpoints

    def runbook(self, runbook_id: str) -> Runbook:
        try:
            return self.runbooks[runbook_id]
        except KeyError:
            known = ", ".join(sorted(self.runbooks)) or "none"
            raise NotFound(
                f"No runbook is named {runbook_id!r} (known: {known}); nothing was run."
            ) from None

    def take_alert(self, alert: Alert) -> AlertTaken:
        """Open an incident and start its run, or join the one that is open.

        The answer is durable when this returns. The very same alert (source, fingerprint, start)
        and one that would start the same runbook on the same endpoint join; neither starts a
        second run.

        Raises:
            BadInput: The alert matches a runbook, but does not give it the inputs it needs.

            StoreUnavailable: Nothing was taken; the sender should try again.
        """
        now = self._clock.now()
        if alert.status == "resolved":
            return self._resolved(alert)
        problems: list[str] = []
        for runbook in self.runbooks.values():
            try:
                matched = match(runbook, alert, now)
                if matched is None:
                    continue
                trigger, given = matched
                inputs = bind(runbook, given, self.endpoints, now)
            except BadInput as error:
                # One runbook that cannot take the alert must not keep another from taking it.
                problems.append(f"{runbook.id}: {error}")
                continue
            wish = StartRun(
                runbook_id=runbook.id,
                origin=Origin(kind="alert", actor=f"alert:{alert.source}"),
                alert=alert,
                auto=trigger.auto,
            )
            with self._store.begin() as tx:
                taken = self._open_or_join(tx, runbook, inputs, wish, alert)
            if taken.run_id:
                self._runner.start(taken.run_id)
            return taken
        if problems:
            raise BadInput("; ".join(problems))
        with self._store.begin() as tx:
            tx.append(at=now, kind="alert_ignored", body=_alert_fact(alert), actor=_source(alert))
        return AlertTaken(fingerprint=alert.fingerprint, reason="no runbook has a trigger for it")

    def _resolved(self, alert: Alert) -> AlertTaken:
        with self._store.begin() as tx:
            incident_id = tx.seen_alert(
                source=alert.source, fingerprint=alert.fingerprint, starts_at=alert.starts_at
            )
            if incident_id is not None:
                tx.append(
                    at=self._clock.now(),
                    kind="alert_resolved",
                    body=_alert_fact(alert),
                    actor=_source(alert),
                    incident_id=incident_id,
                )
        reason = "noted as resolved" if incident_id else "resolved, and never seen here"
        return AlertTaken(fingerprint=alert.fingerprint, incident_id=incident_id, reason=reason)

    def _open_or_join(
        self,
        tx: Transaction,
        runbook: Runbook,
        inputs: dict[str, Any],
        wish: StartRun,
        alert: Alert,
    ) -> AlertTaken:
        seen = tx.seen_alert(
            source=alert.source, fingerprint=alert.fingerprint, starts_at=alert.starts_at
        )
        current = tx.incident(seen) if seen else tx.open_incident(incident_key(runbook, inputs))
        started = None
        if current is None or (seen is None and current.status in _OVER):
            started = self._open(tx, runbook, inputs, wish)
        elif current.status not in _OVER and _is_abandoned(tx, current, repeated=seen is not None):
            started = Started(current, self._add_run(tx, current, runbook, inputs, wish))
        incident_id = started.incident.id if started else current.id  # type: ignore[union-attr]
        if seen is None:
            tx.remember_alert(
                source=alert.source,
                fingerprint=alert.fingerprint,
                starts_at=alert.starts_at,
                incident_id=incident_id,
            )
        elif started is None:
            return AlertTaken(
                fingerprint=alert.fingerprint, incident_id=seen, reason="a repeat, already taken"
            )
        if started is None:
            tx.append(
                at=self._clock.now(),
                kind="alert_joined",
                body=_alert_fact(alert),
                actor=_source(alert),
                incident_id=incident_id,
            )
            return AlertTaken(
                fingerprint=alert.fingerprint,
                incident_id=incident_id,
                reason="joined the open incident; its run goes on",
            )
        return AlertTaken(
            fingerprint=alert.fingerprint,
            incident_id=incident_id,
            run_id=started.run.id,
            opened=current is None or started.incident.id != current.id,
        )

    def start(self, wish: StartRun) -> Started:
        """Start a run for a person, in a new incident or in the one they name.

        Raises:
            BadInput: Unknown runbook or incident, or inputs that do not fit (all at once).
        """
        runbook = self.runbook(wish.runbook_id)
        inputs = bind(runbook, wish.inputs, self.endpoints, self._clock.now())
        with self._store.begin() as tx:
            if wish.incident_id is not None:
                incident = tx.incident(wish.incident_id)
                started = Started(incident, self._add_run(tx, incident, runbook, inputs, wish))
            else:
                started = self._open(tx, runbook, inputs, wish)
        self._runner.start(started.run.id)
        return started

    def rerun(self, run_id: str, step_id: str, person: Person) -> Run:
        """Start a new run from a step of another on, in its incident, of the very same runbook.

        What the steps before it left is kept, and none of them is run again. A live run is ended
        for it, with its changes as they are.

        Raises:
            NotAllowed: They are in no group.

            NotFound: There is no such run, or no such step at the top level of its runbook.

            Refused: One of its effects is under way, or may be, or it is coming to its end, or
                another run repeats it just now.
        """
        self._groups.check_known(person)
        now = self._clock.now()
        with self._store.begin() as tx:
            stored = tx.run(run_id)
            state = RunState.model_validate(stored.state)
            runbook = self._recorder.runbook_of(stored.run)
            kept = kept_before(runbook, state, step_id, run_id)
            for other in tx.runs(incident_id=stored.run.incident_id, unfinished=True):
                if tx.run(other.id).state.get("rerun_of") == run_id:
                    raise Refused(
                        f"{other.id} runs {run_id} again just now; no other run was begun. Cancel "
                        f"it first, or run {other.id} again."
                    )
            if not stored.run.status.is_final:
                _check_decided(runbook, stored, state)
                self._end_for_rerun(tx, stored, state, step_id, person)
            run = tx.add_run(
                incident_id=stored.run.incident_id,
                runbook_id=stored.run.runbook_id,
                runbook_digest=stored.run.runbook_digest,
                runbook_text=stored.run.runbook_text,
                called_texts=stored.run.called_texts,
                origin=Origin(kind="person", actor=person.actor),
                at=now,
            )
            started = RunStarted(
                at=now,
                incident_id=run.incident_id,
                run_id=run.id,
                inputs=state.inputs,
                origin=run.origin,
                alert=state.alert,
                endpoints=state.endpoints,
                rerun_of=run_id,
                kept=kept,
            )
            self._recorder.start(tx, tx.incident(run.incident_id), run, started)
        self._runner.start(run.id)
        return run

    def _end_for_rerun(
        self, tx: Transaction, stored: StoredRun, state: RunState, step_id: str, person: Person
    ) -> None:
        busy = [key for key, step in state.steps.items() if step.is_under_way and step.plan]
        if busy or state.ending is not None:
            what = f"{', '.join(busy)} is under way" if busy else "it is coming to its end"
            raise Refused(
                f"{stored.run.id} cannot be run again from {step_id} now: {what}. Pause it, wait "
                "until its effect is done, and ask again."
            )
        reason = f"run again from {step_id} by {person.actor}"
        event = Cancelled(at=self._clock.now(), by=person.actor, reason=reason)
        self._recorder.take(tx, stored, event, state)

    def _open(
        self, tx: Transaction, runbook: Runbook, inputs: dict[str, Any], wish: StartRun
    ) -> Started:
        now = self._clock.now()
        incident = tx.add_incident(
            key=incident_key(runbook, inputs),
            title=_title(runbook, inputs),
            severity=runbook.severity,
            at=now,
        )
        tx.append(
            at=now,
            kind="incident_opened",
            body={
                "title": incident.title,
                "severity": incident.severity.value,
                "runbook": runbook.id,
                "alert": _alert_fact(wish.alert) if wish.alert else None,
            },
            actor=wish.origin.actor,
            incident_id=incident.id,
        )
        channel = cards.channel_name(incident, runbook.id)
        parcel = Parcel(
            key=f"{incident.id}:channel",
            incident_id=incident.id,
            kind="open_channel",
            to=channel,
            members=self._groups.members(_groups_of(runbook)),
            message=Message(title=incident.title),
        )
        tx.put_parcel(parcel, now)
        if self._announce_in is not None:
            announcement = Parcel(
                key=f"{incident.id}:announcement",
                incident_id=incident.id,
                kind="post",
                to=self._announce_in,
                message=cards.opened_card(incident, channel, wish.origin.actor),
            )
            tx.put_parcel(announcement, now)
        return Started(incident, self._add_run(tx, incident, runbook, inputs, wish))

    def _add_run(
        self,
        tx: Transaction,
        incident: Incident,
        runbook: Runbook,
        inputs: dict[str, Any],
        wish: StartRun,
    ) -> Run:
        now = self._clock.now()
        run = tx.add_run(
            incident_id=incident.id,
            runbook_id=runbook.id,
            runbook_digest=runbook.version,
            runbook_text=runbook.text,
            called_texts={name: book.text for name, book in runbook.called().items()},
            origin=wish.origin,
            at=now,
        )
        keys = _endpoints_named(runbook, inputs)
        started = RunStarted(
            at=now,
            incident_id=incident.id,
            run_id=run.id,
            inputs=inputs,
            origin=wish.origin,
            alert=wish.alert,
            endpoints={key: self.endpoints[key] for key in keys if key in self.endpoints},
            auto=wish.auto,
        )
        self._recorder.start(tx, incident, run, started)
        return run


_OVER = (IncidentStatus.RECOVERED, IncidentStatus.CLOSED)
"""An alert that begins after recovery is a new incident."""


def _is_abandoned(tx: Transaction, incident: Incident, *, repeated: bool) -> bool:
    """Tell whether an unrecovered incident needs a new run: nobody works on it any more, and its
    alert fires on. A mere repeat of a known alert needs one only once nothing is in force either.
    """
    if any(not run.status.is_final for run in tx.runs(incident_id=incident.id)):
        return False
    return not (repeated and tx.containments(incident_id=incident.id, in_force=True))


def _groups_of(runbook: Runbook) -> set[str]:
    """Return the groups that a run of this runbook may need: its owners, its approvers, and those
    who are asked."""
    groups = set(runbook.owners)
    for book in (runbook, *runbook.called().values()):
        for step in book.every_step():
            if step.approval:
                groups |= {*step.approval.groups}
            if step.manual and step.manual.assignee:
                groups.add(step.manual.assignee)
    return groups


def _endpoints_named(runbook: Runbook, inputs: Mapping[str, Any]) -> list[str]:
    """Return the endpoints that a run names: in its inputs, and literally in what it calls."""
    keys = [
        inputs[name]
        for name, declared in runbook.inputs.items()
        if declared.type is InputType.ENDPOINT and inputs.get(name)
    ]
    for book in (runbook, *runbook.called().values()):
        for step in book.every_step():
            if step.call is not None:
                keys += [value for value in step.call.inputs.values() if isinstance(value, str)]
    return list(dict.fromkeys(keys))


def _check_decided(runbook: Runbook, stored: StoredRun, state: RunState) -> None:
    """See to it that no change of a live run may still be under way, though nobody waits for it.

    Raises:
        Refused: The call of a change ended without an answer, and nobody has decided about it.
    """
    for key, step in state.steps.items():
        failure, place = step.failure, find(runbook, state, key)
        if (
            step.status in (StepStatus.AWAITING_DECISION, StepStatus.AWAITING_RETRY)
            and failure is not None
            and failure.phase in ("apply", "undo")
            and failure.error in ("timeout", "ambiguous")
            and place is not None
            and place.step.effect is Effect.CHANGE
        ):
            raise Refused(
                f"{stored.run.id} cannot be run again now: {key} ended without a clear answer "
                f"({failure.error}). Its effect may still be under way, and a new run could meet "
                f"it; no other run was begun. Decide about {key} first, then ask again."
            )


def kept_before(
    runbook: Runbook, state: RunState, step_id: str, run_id: str
) -> dict[str, dict[str, Any]]:
    """Return the states of all steps before one of the top level, as a rerun keeps them.

    Raises:
        NotFound: The top level has no such step.
    """
    ids = [step.id for step in runbook.steps]
    if step_id not in ids:
        raise NotFound(
            f"{run_id} cannot be run again from {step_id!r}: it is none of {', '.join(ids)}."
        )
    before = within(runbook.steps[: ids.index(step_id)], into_loops=False)
    heads = dict.fromkeys(step.id for step in before)
    kept: dict[str, dict[str, Any]] = {}
    for key in dict.fromkeys([*heads, *state.steps]):
        if key.split(".")[0] in heads:
            step = state.step(key)
            changes: dict[str, Any] = {"passed": True, "left": True}
            if not step.status.is_final:
                changes |= {"status": StepStatus.SKIPPED, "note": f"was not over in {run_id}"}
            kept[key] = step.model_copy(update=changes).model_dump(
                mode="json", exclude_defaults=True
            )
    return kept


def incident_key(runbook: Runbook, inputs: Mapping[str, Any]) -> str:
    """What makes two alerts one incident: the same runbook on the same endpoints."""
    endpoints = [
        str(inputs.get(name))
        for name, declared in sorted(runbook.inputs.items())
        if declared.type is InputType.ENDPOINT
    ]
    return "|".join([runbook.id, *endpoints])


def _title(runbook: Runbook, inputs: Mapping[str, Any]) -> str:
    endpoints = [
        str(inputs[name])
        for name, declared in runbook.inputs.items()
        if declared.type is InputType.ENDPOINT and inputs.get(name)
    ]
    return f"{runbook.name}: {', '.join(endpoints)}" if endpoints else runbook.name


def _source(alert: Alert) -> str:
    return f"alert:{alert.source}"


def _alert_fact(alert: Alert) -> dict[str, Any]:
    return alert.model_dump(mode="json")
