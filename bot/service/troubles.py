"""What is wrong with gateways, as the journal tells it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from bot.model.containment import GatewayTrouble
from bot.ports import Clock, Store, Transaction

log = logging.getLogger(__name__)


class Troubles:
    """
    Journals each kind of trouble with a gateway once, until the gateway is well again: one that is
    away for an hour is one line, not hundreds.
    """

    def __init__(self, clock: Clock, redact: Callable[[str], str] = lambda text: text) -> None:
        self._clock, self._redact = clock, redact
        self._told: dict[str, set[GatewayTrouble]] = {}

    def tell(
        self,
        store: Store,
        gateway: str,
        what: GatewayTrouble,
        *,
        message: str = "",
        wanted: str = "",
        seen: str | None = None,
    ) -> None:
        """
        Args:
            wanted: The version that the containments in force make, if it is known.

            seen: The version that the gateway reports; None if it is not known.
        """
        told = self._told.setdefault(gateway, set())
        if what in told:
            return
        with store.begin() as tx:
            self.append(tx, gateway, what, message=message, wanted=wanted, seen=seen)
        told.add(what)

    def append(
        self,
        tx: Transaction,
        gateway: str,
        what: GatewayTrouble,
        *,
        message: str = "",
        wanted: str = "",
        seen: str | None = None,
    ) -> None:
        """Journal it, whatever was told before."""
        body = {"gateway": gateway, "what": what.value, "wanted": wanted, "seen": seen}
        body["message"] = self._redact(message)
        tx.append(at=self._clock.now(), kind="gateway_drifted", body=body)
        detail = body["message"] or f"it has version {seen or '(none)'}, and {wanted} is wanted"
        log.warning("Gateway %s (%s): %s", gateway, what.value, detail)

    def is_over(self, gateway: str) -> bool:
        """Note that a gateway is well; tell whether any trouble with it was told."""
        return bool(self._told.pop(gateway, None))
