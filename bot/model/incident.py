"""An incident and a run of a runbook in it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from bot.model.alert import Alert
from bot.model.base import Frozen, Utc


class Severity(StrEnum):
    """sev1 is the worst."""

    SEV1 = "sev1"
    SEV2 = "sev2"
    SEV3 = "sev3"
    SEV4 = "sev4"


class IncidentStatus(StrEnum):
    """Only forwards, in this order."""

    DECLARED = "declared"
    CONTAINED = "contained"
    ERADICATED = "eradicated"
    RECOVERED = "recovered"
    CLOSED = "closed"


class Incident(Frozen):
    """
    ``id`` is ``INC-`` and a number. ``key`` is what joins a repeated alert to an open incident:
    equal keys, one incident. ``channel`` is the chat channel once it was opened.
    """

    id: str
    key: str
    title: str
    severity: Severity
    status: IncidentStatus = IncidentStatus.DECLARED
    opened_at: Utc
    channel: str | None = None


class Origin(Frozen):
    """What started a run. ``actor`` is ``alert:<source>``, ``slack:<user>`` or ``cli:<user>``."""

    kind: Literal["alert", "person"]
    actor: str


class RunStatus(StrEnum):
    """``running`` may mean that it waits for a person; the state says for what."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    CANCELLED = "cancelled"
    UNDONE = "undone"
    """Every change was taken back because a person asked for it."""

    @property
    def is_final(self) -> bool:
        return self is not RunStatus.RUNNING


class Run(Frozen):
    """
    One execution of a runbook. ``id`` is the incident's id with ``-R`` and a number.
    ``runbook_text`` is pinned, and so are the texts of the runbooks that it calls, by id: editing a
    file later changes nothing here. ``runbook_digest`` is the runbook's version, over all of them.
    """

    id: str
    incident_id: str
    runbook_id: str
    runbook_digest: str
    runbook_text: str
    called_texts: dict[str, str] = {}
    origin: Origin
    status: RunStatus = RunStatus.RUNNING
    started_at: Utc
    ended_at: Utc | None = None


class StartRun(Frozen):
    """A wish to run a runbook, from any door. Inputs are not checked yet."""

    runbook_id: str
    inputs: dict[str, Any] = {}
    origin: Origin
    alert: Alert | None = None
    incident_id: str | None = None
    auto: tuple[str, ...] = ()
