"""What an action is given for one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from bot.action import Containments, EvidenceDesk, Notes, PostmortemDesk
from bot.errors import BadInput
from bot.model.endpoint import Endpoint
from bot.model.outcome import Evidence
from bot.ports import Clock, EvidenceFiles, Redactor, Store

T = TypeVar("T")


class Connections:
    """The configured systems, by class and name."""

    def __init__(self, connections: Mapping[tuple[type, str], object]) -> None:
        self._connections = dict(connections)

    def get(self, type_: type[T], name: str | None) -> T:
        names = sorted(n for (kind, n) in self._connections if kind is type_)
        if name is None and len(names) == 1:
            name = names[0]
        found = self._connections.get((type_, name or ""))
        if found is None:
            known = ", ".join(names) or "none"
            wanted = f"named {name!r}" if name else "chosen"
            raise BadInput(
                f"No connection of kind {type_.__name__} is {wanted} (configured: {known}); "
                "nothing was done. Name one in the step, or add it to firedoor.yaml."
            )
        assert isinstance(found, type_)  # noqa: S101  # the key holds the class
        return found

    def all(self) -> Mapping[tuple[type, str], object]:
        return self._connections


class StepNotes(Notes):
    """Notes in the journal; each is committed when ``write`` returns."""

    def __init__(
        self, store: Store, clock: Clock, redactor: Redactor, ids: tuple[str, str, str]
    ) -> None:
        self._store, self._clock, self._redactor = store, clock, redactor
        self._incident_id, self._run_id, self._step_id = ids

    def write(self, body: Mapping[str, Any]) -> None:
        with self._store.begin() as tx:
            tx.append(
                at=self._clock.now(),
                kind="note",
                body=self._redactor.json(dict(body)),
                incident_id=self._incident_id,
                run_id=self._run_id,
                step_id=self._step_id,
            )

    def read(self) -> Sequence[Mapping[str, Any]]:
        with self._store.read() as tx:
            records = tx.records(run_id=self._run_id, step_id=self._step_id, kind="note")
        return [record.body for record in records]


class IncidentEvidence(EvidenceDesk):
    """Files of one incident. The bytes are durable before the row that names them."""

    def __init__(
        self,
        store: Store,
        files: EvidenceFiles,
        clock: Clock,
        incident_id: str,
        run_id: str | None = None,
        step_id: str | None = None,
    ) -> None:
        self._store, self._files, self._clock = store, files, clock
        self._incident_id, self._run_id, self._step_id = incident_id, run_id, step_id

    def keep(self, name: str, content: bytes, media_type: str, summary: str) -> Evidence:
        """A changed file of the same name is kept beside the first, as ``name-2``."""
        sha256 = self._files.put(content)
        stem, dot, ending = name.partition(".")
        with self._store.begin() as tx:
            existing = {evidence.id: evidence for evidence in tx.evidence(self._incident_id)}
            number, evidence_id = 1, name
            while evidence_id in existing:
                if existing[evidence_id].sha256 == sha256:
                    return existing[evidence_id]
                number += 1
                evidence_id = f"{stem}-{number}{dot}{ending}"
            evidence = Evidence(
                id=evidence_id,
                sha256=sha256,
                size_bytes=len(content),
                media_type=media_type,
                summary=summary,
                kept_at=self._clock.now(),
            )
            tx.add_evidence(self._incident_id, evidence)
            tx.append(
                at=evidence.kept_at,
                kind="evidence_kept",
                body={"evidence": evidence.model_dump(mode="json")},
                incident_id=self._incident_id,
                run_id=self._run_id,
                step_id=self._step_id,
            )
        return evidence

    def read(self, evidence: Evidence) -> bytes:
        return self._files.get(evidence.sha256)


@dataclass(frozen=True)
class ActionContext:
    """Implements ``bot.action.Context``."""

    incident_id: str
    incident_title: str
    run_id: str
    step_id: str
    actor: str
    ttl_s: float | None
    endpoints: Mapping[str, Endpoint]
    containments: Containments
    evidence: EvidenceDesk
    notes: Notes
    postmortem: PostmortemDesk
    clock: Clock
    connections: Connections

    def now(self) -> datetime:
        return self.clock.now()

    def connection(self, type_: type[T], name: str | None = None) -> T:
        return self.connections.get(type_, name)
