"""The driver as a DBOS workflow.

DBOS remembers which steps of a drive have ended and begins interrupted drives again at start. What
a run *is* stands in our journal, so a drive that DBOS gave up (its own database was full, say) is
simply begun again under the next workflow id; see ``sweep``.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSClient, DBOSConfig, SetWorkflowID
from dbos._error import DBOSException  # the only place that has it
from sqlalchemy.exc import DBAPIError

from bot.errors import StoreUnavailable
from bot.ports import Store
from bot.service.drive import Driver

log = logging.getLogger(__name__)

APPLICATION_VERSION = "drive-1"
"""Recovery is per version: change it only when the order of durable steps in the driver changes."""

POLL_S = 0.05
"""How often a waiting run looks for a wake. It bounds how long an approval takes to be seen."""

SWEEPS_TO_BELIEVE = 5

MAX_DRIVES = 256
"""Runs driven at once; each takes a thread while it waits. More wait for their turn."""

TOPIC = "wake"

_drive: Callable[[str], None] | None = None


@DBOS.workflow(name="firedoor.drive", max_recovery_attempts=None)
def _drive_workflow(run_id: str) -> None:
    if _drive is None:
        raise RuntimeError("The executor is not launched.")
    _drive(run_id)


class _DbosDurable:
    """Implements ``bot.service.drive.Durable`` inside a workflow."""

    def step(self, name: str, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        return DBOS.run_step({"name": name}, call)

    def wait(self, timeout_s: float) -> None:
        DBOS.recv(TOPIC, timeout_s)


class DbosExecutor:
    """Implements ``bot.ports.Runner`` in the process that drives runs. One per process."""

    def __init__(self, database: Path, store: Store, executor_id: str = "local") -> None:
        self._database, self._store, self._executor_id = database, store, executor_id
        self._lock = threading.Lock()
        self._driving: set[str] = set()
        self._workflow_of: dict[str, str] = {}
        self._unread: set[str] = set()
        self._idle: dict[str, int] = {}

    def launch(self, driver: Driver) -> None:
        """Begin to drive: interrupted drives first, then runs that were never begun."""
        global _drive  # DBOS knows workflows by module-level functions only
        durable = _DbosDurable()

        def drive(run_id: str) -> None:
            with self._lock:
                if run_id in self._driving:
                    return
                self._driving.add(run_id)
                self._workflow_of[run_id] = DBOS.workflow_id or run_id
            try:
                driver.drive(run_id, durable)
            finally:
                with self._lock:
                    self._driving.discard(run_id)

        _drive = drive
        _use_wal(self._database)
        config: DBOSConfig = {
            "name": "firedoor",
            "system_database_url": f"sqlite:///{self._database}",
            "application_version": APPLICATION_VERSION,
            "executor_id": self._executor_id,
            "notification_listener_polling_interval_sec": POLL_S,
            "max_executor_threads": MAX_DRIVES,
            "enable_otlp": False,
            "log_level": "WARNING",
        }
        DBOS(config=config)
        DBOS.launch()
        self.sweep()

    def close(self) -> None:
        """Stop driving. Runs that wait go on at the next launch."""
        # Drives that wait end with an error of DBOS's own, which is what ending looks like here.
        logging.getLogger("dbos").setLevel(logging.CRITICAL + 1)
        DBOS.destroy(destroy_registry=False)

    def start(self, run_id: str) -> None:
        try:
            with SetWorkflowID(run_id):
                DBOS.start_workflow(_drive_workflow, run_id)
        except DBAPIError as error:
            # The run is in the journal; a later sweep begins its drive.
            log.warning("%s is begun later: the executor's database says %s", run_id, error.orig)

    def wake(self, run_id: str) -> None:
        with self._lock:
            workflow_id = self._workflow_of.get(run_id, run_id)
        try:
            DBOS.send(workflow_id, "wake", TOPIC)
        except (DBAPIError, DBOSException) as error:
            # The message is in the mailbox; a later sweep repeats the wake.
            log.warning("%s is woken later (%s).", run_id, type(error).__name__)

    def sweep(self) -> None:
        """Begin the drive of every unfinished run that nobody drives, and repeat lost wakes.

        Called about once a second by the serving process. What looks abandoned is believed only
        when it looked so in several sweeps in a row, since a drive takes a moment to begin.
        """
        with self._store.read() as tx:
            unfinished = [run.id for run in tx.runs(unfinished=True)]
            mailboxes = set(tx.waiting_mailboxes())
        with self._lock:
            driving = set(self._driving)
        for run_id in sorted(driving & mailboxes & self._unread):
            self.wake(run_id)
        self._unread = mailboxes
        idle = [run_id for run_id in unfinished if run_id not in driving]
        if len(driving) >= MAX_DRIVES:
            return  # the others are not abandoned, they wait for a thread
        self._idle = {run_id: self._idle.get(run_id, 0) + 1 for run_id in idle}
        try:
            for run_id in idle:
                self._begin_again(run_id, believed=self._idle[run_id] >= SWEEPS_TO_BELIEVE)
        except DBAPIError as error:
            raise StoreUnavailable(
                f"The executor's database {self._database} cannot be used ({error.orig}); runs "
                "wait until it can. Free disk space, or restore the file and its permissions."
            ) from error

    def _begin_again(self, run_id: str, *, believed: bool) -> None:
        found = DBOS.list_workflows(workflow_id_prefix=run_id, load_input=False, load_output=False)
        mine = [
            w for w in found if w.workflow_id == run_id or w.workflow_id.startswith(f"{run_id}@")
        ]
        if not mine:
            self.start(run_id)
            return
        if not believed or any(w.status in ("ENQUEUED", "DELAYED") for w in mine):
            return
        log.warning("Nobody drives %s any more; it is begun again where its journal ends.", run_id)
        for workflow in mine:
            if workflow.status == "PENDING":
                # Nobody in this process drives it, and this process alone drives runs.
                DBOS.cancel_workflow(workflow.workflow_id)
        with SetWorkflowID(f"{run_id}@{len(mine)}"):
            DBOS.start_workflow(_drive_workflow, run_id)


class DbosWaker:
    """Implements ``bot.ports.Runner`` in a process that does not drive (the command line, while
    ``firedoor serve`` runs): the serving process finds new runs and messages in the store."""

    def __init__(self, database: Path) -> None:
        self._database = database

    def start(self, run_id: str) -> None:
        """The serving process sweeps for runs that nobody drives; there is nothing to do here."""

    def wake(self, run_id: str) -> None:
        """Send the wake through DBOS's database, so that it is seen within ``POLL_S``."""
        if not self._database.exists():
            return
        client = DBOSClient(system_database_url=f"sqlite:///{self._database}")
        try:
            client.send(run_id, "wake", TOPIC)
        except (DBAPIError, DBOSException) as error:
            # The message is in the mailbox; the serving process sees it in its next sweep.
            log.warning("%s is woken later (%s).", run_id, type(error).__name__)
        finally:
            client.destroy()


def _use_wal(database: Path) -> None:
    """Keep readers and the writer out of each other's way; the mode stays with the file."""
    database.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(database)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()
