"""The threads beside the drives."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from bot.errors import FiredoorError
from bot.service.app import Service
from bot.service.gateways import Gateways
from bot.service.outbox import Outbox

log = logging.getLogger(__name__)

TICK_S = 0.5
"""How often the keeper looks for expired containments, new runs and things to send."""

RECONCILE_S = 10.0
"""How often every gateway is compared with what it should hold."""

STOP_S = 5.0
"""How long what the threads are at is waited for at the end."""


class Working(Protocol):
    """A worker, as the duties beside the drives need it."""

    def duty(self, name: str) -> Callable[[], None] | None:
        """Return what raises LeaseLost once it may not do this duty any more; None if the duty is
        another's."""


class Background:
    """The threads beside the drives: the keeper, with one for each gateway, so that none waits for
    another; and one sender for each way of sending. Of all workers one at a time has each of these
    duties."""

    def __init__(self, service: Service, worker: Working) -> None:
        self._worker = worker
        self._service = service
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep, name="keeper", daemon=True),
            *(
                threading.Thread(
                    target=self._keep_one, name=f"keeper of {name}", args=(name,), daemon=True
                )
                for name in service.desk.gateways.names
            ),
            *(
                threading.Thread(target=self._send, args=(*each,), name="sender", daemon=True)
                for each in enumerate(service.outboxes)
            ),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        deadline = time.monotonic() + STOP_S
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def _keep(self) -> None:
        ask, keep = _Guard("keeper"), _Guard("keeper")
        while not self._stop.is_set():
            check = ask(lambda: self._worker.duty("keeper"))
            if check is not None:
                keep(self._service.desk.bound(self._service.store, check).expire_due)
            self._stop.wait(TICK_S)

    def _keep_one(self, name: str) -> None:
        """Look at one gateway every `RECONCILE_S`, and at once when what it is to hold was changed.
        While it cannot be brought there the pauses grow up to the same."""
        ask, keep = _Guard(f"keeper of {name}"), _Guard(f"keeper of {name}")
        look_at_s, pause_s, is_well = 0.0, TICK_S, True

        def is_due(gateways: Gateways) -> bool:
            return time.monotonic() >= look_at_s or (is_well and gateways.is_behind(name))

        while not self._stop.is_set():
            check = ask(lambda: self._worker.duty("keeper"))
            if check is not None:
                gateways = self._service.desk.bound(self._service.store, check).gateways
                if keep(partial(is_due, gateways)):
                    is_well = bool(keep(partial(gateways.reconcile, name)))
                    pause_s = TICK_S if is_well else min(2 * pause_s, RECONCILE_S)
                    look_at_s = time.monotonic() + (RECONCILE_S if is_well else pause_s)
            self._stop.wait(TICK_S)

    def _send(self, number: int, outbox: Outbox) -> None:
        ask, send = _Guard("sender"), _Guard("sender")
        while not self._stop.is_set():
            check = ask(lambda: self._worker.duty(f"sender {number}"))
            sent = 0 if check is None else send(partial(outbox.flush, check))
            self._stop.wait(0.05 if sent else TICK_S / 2)


class _Guard:
    """Runs the rounds of one background duty: a failed round must not end the duty, and the same
    failure is said once."""

    def __init__(self, what: str) -> None:
        self._what, self._said = what, ""

    def __call__(self, call: Callable[[], Any]) -> Any:
        try:
            result = call()
        except FiredoorError as error:
            if str(error) != self._said:
                log.warning("%s: %s", self._what, error)
            self._said = str(error)
        except Exception:
            # The edge of a thread: it must live, and say what happened.
            log.exception("%s stopped in one round; it goes on", self._what)
        else:
            if self._said:
                log.info("%s: works again", self._what)
            self._said = ""
            return result
        return None
