"""The desk that holds containments, and ends them.

The containments in force in the store are the desired state of every gateway. Holding, lifting
and expiring change the store first and then converge the gateway to the whole set, so a crash in
between loses nothing: the keeper converges again (``bot.service.gateways``).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta

from bot.action import Gateway
from bot.errors import BadInput, NotFound, ProviderRefused
from bot.model.containment import Containment
from bot.ports import Clock, Store, Transaction
from bot.service.gateways import Gateways, OnlyOne

Changed = Callable[[Transaction, Containment, str], None]
"""Called in the transaction that changes a containment, with what happened to it."""


class ContainmentDesk:
    """Implements ``bot.action.Containments``."""

    def __init__(
        self,
        store: Store,
        gateways: Mapping[str, Gateway],
        clock: Clock,
        on_expired: Changed = lambda _tx, _containment, _what: None,
        only_one: OnlyOne = lambda _name, _timeout_s: nullcontext(),
        redact: Callable[[str], str] = lambda text: text,
    ) -> None:
        """
        Args:
            redact: Takes known secrets out of what gateways say of a failure.
        """
        self._store = store
        self._clock = clock
        self._on_expired = on_expired
        self.gateways = Gateways(store, gateways, clock, only_one, redact)

    def bound(self, store: Store, check: Callable[[], None]) -> ContainmentDesk:
        """
        Return this desk as one who may lose the right to act uses it.

        Args:
            store: Refuses to write once the right is lost.
            check: Raises LeaseLost then; called right before each writing to a gateway.
        """
        mine = copy.copy(self)
        mine._store, mine.gateways = store, self.gateways.bound(store, check)
        return mine

    # --- what actions use ----------------------------------------------------------------------

    def gateway(self, name: str) -> Gateway:
        return self.gateways.get(name)

    def default_gateway(self, endpoint: str) -> str:
        names = self.gateways.names
        if len(names) == 1:
            return names[0]
        known = ", ".join(names) or "none"
        raise BadInput(
            f"Which gateway serves {endpoint}? Configured: {known}. "
            "Name one under `with: {gateway: …}`."
        )

    def get(self, containment_id: str) -> Containment | None:
        with self._store.read() as tx:
            return tx.containment(containment_id)

    def in_force(self, gateway: str, endpoint: str | None = None) -> tuple[Containment, ...]:
        held = self.gateways.in_force(gateway)
        return tuple(c for c in held if endpoint is None or c.control.concerns(endpoint))

    def hold(self, containment: Containment) -> str:
        name = containment.gateway
        support = self.gateway(name).supports(containment.control)
        with self.gateways.writer(name):
            with self._store.begin() as tx:
                is_new = tx.containment(containment.id) is None
                if is_new and not support.ok:
                    raise BadInput(
                        f"Gateway {name} cannot hold {containment.id}: {support.why}; nothing was "
                        "done. Mend its settings in firedoor.yaml, or take another action."
                    )
                if is_new:
                    tx.add_containment(containment)
                    self._append(tx, containment, "containment_held", containment.owner)
            try:
                return self.gateways.converge(name)
            except (ProviderRefused, BadInput):
                if not is_new:
                    raise  # it may be in force already: what holds is never let go by an error
                with self._store.begin() as tx:
                    tx.remove_containment(containment.id)
                    self._append(tx, containment, "containment_withdrawn", "firedoor")
                raise

    def lift(self, containment_ids: Sequence[str], by: str) -> None:
        for containment_id in containment_ids:
            containment = self.get(containment_id)
            if containment is not None:
                self.gateway(containment.gateway)
        for name in self.release(containment_ids, by):
            with self.gateways.writer(name):
                self.gateways.converge(name)

    def release(self, containment_ids: Sequence[str], by: str) -> list[str]:
        """End containments in the store only; return the gateways that are to be converged.

        For a process that does not write to gateways: the keeper of the one that does sees it.
        """
        touched: set[str] = set()
        with self._store.begin() as tx:
            for containment_id in containment_ids:
                containment = tx.containment(containment_id)
                if containment is None:
                    raise NotFound(
                        f"There is no containment {containment_id}; nothing was lifted. "
                        "`firedoor containments list` shows them."
                    )
                touched.add(containment.gateway)
                if containment.lifted_at is None:
                    self._end(tx, containment, by, "containment_lifted")
        return sorted(touched)

    # --- what people and the keeper use --------------------------------------------------------

    def extend(self, containment_id: str, ttl_s: float, by: str) -> Containment:
        """Move the expiry to ``ttl_s`` from now.

        Raises:
            NotFound: There is none of this id in force.
        """
        with self._store.begin() as tx:
            containment = self._one_in_force(tx, containment_id, "extended")
            expires_at = self._clock.now() + timedelta(seconds=ttl_s)
            containment = containment.model_copy(update={"expires_at": expires_at})
            tx.save_containment(containment)
            self._append(tx, containment, "containment_extended", by)
        return containment

    def hand_over(self, containment_id: str, to: str, by: str) -> Containment:
        """Make ``to`` (an actor) the owner. Then no run's undo ends it any more.

        Raises:
            NotFound: There is none of this id in force.
        """
        with self._store.begin() as tx:
            containment = self._one_in_force(tx, containment_id, "handed over")
            if containment.owner == to:
                return containment
            containment = containment.model_copy(update={"owner": to, "handed_over_by": by})
            tx.save_containment(containment)
            self._append(tx, containment, "containment_handed_over", by)
        return containment

    def _one_in_force(self, tx: Transaction, containment_id: str, what: str) -> Containment:
        containment = tx.containment(containment_id)
        if containment is None or containment.lifted_at is not None:
            raise NotFound(
                f"No containment {containment_id} is in force; nothing was {what}. "
                "`firedoor containments list` shows them."
            )
        return containment

    def expire_due(self) -> list[Containment]:
        """End every containment whose time has come, in the store; the gateways follow."""
        now = self._clock.now()
        with self._store.read() as tx:
            due = [c for c in tx.containments(in_force=True) if c.expires_at <= now]
        if not due:
            return []
        with self._store.begin() as tx:
            for containment in due:
                current = tx.containment(containment.id)
                if current and current.lifted_at is None and current.expires_at <= now:
                    ended = self._end(tx, current, "expiry", "containment_expired")
                    self._on_expired(tx, ended, "expired")
        self.gateways.miss({c.gateway for c in due})
        return due

    def _end(self, tx: Transaction, containment: Containment, by: str, kind: str) -> Containment:
        now = self._clock.now()
        ended = containment.model_copy(update={"lifted_at": now, "lifted_by": by})
        tx.save_containment(ended)
        self._append(tx, ended, kind, "firedoor" if by == "expiry" else by, at=now)
        return ended

    def _append(
        self,
        tx: Transaction,
        containment: Containment,
        kind: str,
        actor: str,
        at: datetime | None = None,
    ) -> None:
        tx.append(
            at=at or self._clock.now(),
            kind=kind,
            body={"containment": containment.model_dump(mode="json")},
            actor=actor,
            incident_id=containment.incident_id,
            run_id=containment.run_id,
            step_id=containment.step_id,
        )
