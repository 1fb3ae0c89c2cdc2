"""What the doors show: status, incidents, containments, timeline. Read from the store only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

from bot.engine.state import RunState, StepState, StepStatus
from bot.model.ask import Ask
from bot.model.base import Frozen, Utc
from bot.model.containment import Containment
from bot.model.incident import Incident, Run
from bot.model.journal import Record, verify_chain
from bot.ports import Clock, Store, Transaction
from bot.postmortem.timeline import timeline

AFTERMATH = timedelta(minutes=1)
"""How long after a containment ended its gateway's troubles are still about it: by then it was
brought to be open again, or it was told why not."""


def story_of(tx: Transaction, incident_id: str) -> list[Record]:
    """
    Return an incident's records, with what happened at gateways to its containments. A gateway's
    trouble belongs to no incident, but whoever reads about a containment must learn that it was
    not always in force.

    Raises:
        NotFound: There is no such incident.
    """
    tx.incident(incident_id)
    held = tx.containments(incident_id=incident_id)
    troubles = [r for r in tx.records(kind="gateway_drifted") if held and _concerns(r, held)]
    return sorted([*tx.records(incident_id=incident_id), *troubles], key=lambda r: r.seq)


def _concerns(record: Record, held: Sequence[Containment]) -> bool:
    return any(
        record.body.get("gateway") == c.gateway
        and c.since <= record.at
        and (c.lifted_at is None or record.at <= c.lifted_at + AFTERMATH)
        for c in held
    )


class Waiting(Frozen):
    """
    What a run waits for at a step, or a review that waits for somebody though the run may be over.

    ``groups`` may give it (empty: whoever may act), ``required`` of them; ``given`` have.
    ``until`` is when it is given up, or tried again; ``command`` is what answers it.
    """

    step: str
    kind: Literal["approval", "answer", "decision", "review", "retry"]
    what: str
    groups: tuple[str, ...] = ()
    required: int = 1
    given: tuple[str, ...] = ()
    not_by: tuple[str, ...] = ()
    until: Utc | None = None
    due: Utc | None = None
    command: str


class Reports:
    """Reading use cases."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    def incidents(self) -> list[Incident]:
        with self._store.read() as tx:
            return list(tx.incidents())

    def runs(self, *, unfinished: bool = False, incident_id: str | None = None) -> list[Run]:
        with self._store.read() as tx:
            return list(tx.runs(incident_id=incident_id, unfinished=unfinished))

    def state(self, run_id: str) -> RunState:
        with self._store.read() as tx:
            return RunState.model_validate(tx.run(run_id).state)

    def to_show(self, *, everything: bool = False) -> list[Run]:
        """Return the runs that are not over, and those with a review that waits; or all."""
        with self._store.read() as tx:
            if everything:
                return list(tx.runs())
            broken = {record.run_id for record in tx.records(kind="overridden")}
            owing = {
                run_id
                for run_id in broken
                if run_id is not None and any(a.kind == "review" for a in tx.open_asks(run_id))
            }
            return [r for r in tx.runs() if not r.status.is_final or r.id in owing]

    def waiting(self, run_id: str) -> list[Waiting]:
        """Return everything that a run waits for, and how to answer it."""
        with self._store.read() as tx:
            state = RunState.model_validate(tx.run(run_id).state)
            found = [_waiting(ask, state.step(ask.step_id)) for ask in tx.open_asks(run_id)]
        retries = [
            Waiting(
                step=key,
                kind="retry",
                what=f"attempt {current.attempt}",
                until=current.deadline,
                command=f"firedoor retry {run_id} {key}",
            )
            for key, current in state.steps.items()
            if current.status is StepStatus.AWAITING_RETRY
        ]
        return [*found, *retries]

    def containments(self, *, in_force: bool = True) -> list[Containment]:
        with self._store.read() as tx:
            return list(tx.containments(in_force=in_force))

    def records(self, incident_id: str | None = None) -> list[Record]:
        """Return the whole journal, or an incident's story; see `story_of`."""
        with self._store.read() as tx:
            return list(tx.records() if incident_id is None else story_of(tx, incident_id))

    def unsent(self, incident_id: str) -> int:
        """Return how many messages of an incident are still to be sent."""
        with self._store.read() as tx:
            return sum(p.status in ("pending", "claimed") for p in tx.parcels(incident_id))

    def audit(self) -> int:
        """Check the whole journal's chain; return how many records it has.

        Raises:
            JournalBroken: Names the first bad record.
        """
        return verify_chain(self.records())

    def status_lines(self) -> list[str]:
        """Return one line a run: how it stands, and what it waits for of whom."""
        lines = []
        for run in self.to_show():
            state = self.state(run.id)
            waits = {each.step: each for each in self.waiting(run.id)}
            steps = [
                f"{key}: {step.status.value.replace('_', ' ')}{_of(waits.get(key))}"
                for key, step in in_order(state)
                if step.started_at is not None
                and not step.status.is_final
                and (step.is_waiting or step.is_under_way)
            ]
            steps += [
                f"{each.step}: a broken glass waits for its review{_of(each)}"
                for each in waits.values()
                if each.kind == "review"
            ]
            stands = standing(state)
            what = ", ".join(steps) or ("" if stands else "running")
            text = f"{run.id} {run.runbook_id}: {'; '.join(filter(None, (stands, what)))}"
            lines.append(" ".join(text.split()))  # nobody's reason may look like another run
        return lines

    def incident_lines(self) -> list[str]:
        return [f"{i.id} {i.severity.value} {i.status.value}: {i.title}" for i in self.incidents()]

    def containment_lines(self) -> list[str]:
        return [
            f"{c.id}: {c.control.kind.value} {c.control.place} at {c.gateway} "
            f"until {c.expires_at:%Y-%m-%d %H:%M:%S} UTC, owner {c.owner}"
            for c in self.containments()
        ]

    def timeline_lines(self, incident_id: str) -> list[str]:
        return [
            f"{entry.at:%H:%M:%S} {entry.text}" for entry in timeline(self.records(incident_id))
        ]


def in_order(state: RunState) -> list[tuple[str, StepState]]:
    """Return a run's steps with what each holds below it, iterations by number."""
    first: dict[tuple[str, ...], int] = {}
    for number, key in enumerate(state.steps):
        parts = tuple(key.split("."))
        for length in range(1, len(parts) + 1):
            first.setdefault(parts[:length], number)

    def rank(key: str) -> list[int]:
        parts = tuple(key.split("."))
        return [
            int(part) if part.isdecimal() else first[parts[: n + 1]] for n, part in enumerate(parts)
        ]

    return sorted(state.steps.items(), key=lambda item: rank(item[0]))


def standing(state: RunState) -> str:
    """Say what holds a whole run, or why it ends; empty if neither."""
    if state.status.is_final:
        return state.status.value + (f": {state.reason}" if state.reason else "")
    if state.paused is not None:
        return f"paused by {state.paused_by}"
    if state.ending is not None:
        ending = state.ending
        way = {"closing": "", "undoing": ", taking its changes back", "always": ", last steps"}
        reason = f": {ending.reason}" if ending.reason else ""
        return f"comes to its end{way[ending.phase]} ({ending.status.value}{reason})"
    return ""


def _waiting(ask: Ask, current: StepState) -> Waiting:
    run, step = ask.run_id, ask.step_id
    common = {
        "step": step,
        "kind": ask.kind,
        "groups": ask.groups,
        "required": ask.required,
        "not_by": ask.excluded,
        "until": ask.expires_at,
    }
    match ask.kind:
        case "approval":
            also = f" (and {', '.join(current.members)})" if current.members else ""
            what = f"approval of {step}{also}: {ask.body.get('summary', '')}"
            command = f"firedoor approve {run} --step {step}"
            return Waiting(**common, what=what, given=current.approvals, command=command)
        case "answer":
            names = "".join(f" {name}=..." for name in ask.body.get("fields", {}))
            command = f"firedoor answer {run} --step {step}{names}"
            what = f"answer: {ask.body.get('ask', '')}"
            return Waiting(**common, what=what, due=current.due_at, command=command)
        case "decision":
            choices = "|".join(ask.body.get("choices", ()))
            failure = current.failure.message if current.failure else ""
            command = f"firedoor decide {run} {choices} --step {step}"
            return Waiting(**common, what=f"decision: {failure}", command=command)
        case "review":
            what = f"review of the glass that {ask.body.get('by', 'somebody')} broke"
            command = f"firedoor review {run} {step} --finding ..."
            return Waiting(**common, what=f"{what}: {ask.body.get('reason', '')}", command=command)


def _of(waiting: Waiting | None) -> str:
    if waiting is None or not waiting.groups:
        return ""
    return f" of {', '.join(waiting.groups)}"
