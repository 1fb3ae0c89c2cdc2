"""What the doors show: status, incidents, containments, timeline. Read from the store only."""

from __future__ import annotations

from bot.engine.state import RunState
from bot.model.containment import Containment
from bot.model.incident import Incident, Run
from bot.model.journal import Record, verify_chain
from bot.ports import Clock, Store
from bot.postmortem.timeline import timeline


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

    def containments(self, *, in_force: bool = True) -> list[Containment]:
        with self._store.read() as tx:
            return list(tx.containments(in_force=in_force))

    def records(self, incident_id: str | None = None) -> list[Record]:
        with self._store.read() as tx:
            if incident_id is not None:
                tx.incident(incident_id)
            return list(tx.records(incident_id=incident_id))

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
        lines = []
        for run in self.runs(unfinished=True):
            state = self.state(run.id)
            steps = [
                f"{step_id}: {step.status.value.replace('_', ' ')}"
                for step_id, step in state.steps.items()
                if step.started_at is not None and not step.status.is_final
            ]
            lines.append(f"{run.id} {run.runbook_id}: {', '.join(steps) or 'running'}")
        return lines

    def incident_lines(self) -> list[str]:
        return [f"{i.id} {i.severity.value} {i.status.value}: {i.title}" for i in self.incidents()]

    def containment_lines(self) -> list[str]:
        return [
            f"{c.id}: {c.control.kind.value} {c.control.endpoint} at {c.gateway} "
            f"until {c.expires_at:%Y-%m-%d %H:%M:%S} UTC"
            for c in self.containments()
        ]

    def timeline_lines(self, incident_id: str) -> list[str]:
        return [
            f"{entry.at:%H:%M:%S} {entry.text}" for entry in timeline(self.records(incident_id))
        ]
