"""The desk that holds containments, and the keeper that expires them and mends drift.

The containments in force in the store are the desired state of every gateway. Holding, lifting
and expiring change the store first and then converge the gateway to the whole set, so a crash in
between loses nothing: the keeper converges again.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta

from bot.action import Gateway, Writing
from bot.errors import (
    BadInput,
    Conflict,
    FiredoorError,
    LeaseLost,
    NotFound,
    ProviderRefused,
    ProviderUnreachable,
    StoreUnavailable,
)
from bot.model.containment import Containment, Control
from bot.ports import Clock, Store, Transaction

Changed = Callable[[Transaction, Containment, str], None]
"""Called in the transaction that changes a containment, with what happened to it."""


OnlyOne = Callable[[str, float], AbstractContextManager[None]]
"""Holds a lock of this name over all workers; raises ProviderUnreachable after so many seconds."""

WRITER_TIMEOUT_S = 20.0
"""How long another worker's writing to the same gateway is waited for."""

TRIES = 3
"""How often a gateway is read anew when another writer was faster."""


class ContainmentDesk:
    """Implements ``bot.action.Containments``; one writer per gateway at a time."""

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
        self._redact = redact
        self._only_one = only_one
        self._check: Callable[[], None] = lambda: None
        self._store = store
        self._gateways = gateways
        self._clock = clock
        self._on_expired = on_expired
        self._locks = {name: threading.Lock() for name in gateways}
        self._drifting: set[str] = set()
        self._converged: dict[str, str] = {}

    def bound(self, store: Store, check: Callable[[], None]) -> ContainmentDesk:
        """
        Return this desk as one who may lose the right to act uses it.

        Args:
            store: Refuses to write once the right is lost.
            check: Raises LeaseLost then; called right before each writing to a gateway.
        """
        mine = copy.copy(self)
        mine._store, mine._check = store, check
        return mine

    @contextmanager
    def _writer(self, name: str) -> Iterator[None]:
        """Be the only one, of all threads and workers, that writes to a gateway."""
        with self._locks[name], self._only_one(f"gateway {name}", WRITER_TIMEOUT_S):
            yield

    # --- what actions use ----------------------------------------------------------------------

    def gateway(self, name: str) -> Gateway:
        try:
            return self._gateways[name]
        except KeyError:
            known = ", ".join(sorted(self._gateways)) or "none"
            raise BadInput(
                f"No gateway is named {name!r} (configured: {known}); nothing was done. "
                "Add it under `gateways` in firedoor.yaml."
            ) from None

    def default_gateway(self, endpoint: str) -> str:
        if len(self._gateways) == 1:
            return next(iter(self._gateways))
        known = ", ".join(sorted(self._gateways)) or "none"
        raise BadInput(
            f"Which gateway serves {endpoint}? Configured: {known}. "
            "Name one under `with: {gateway: …}`."
        )

    def get(self, containment_id: str) -> Containment | None:
        with self._store.read() as tx:
            return tx.containment(containment_id)

    def in_force(self, gateway: str, endpoint: str | None = None) -> tuple[Containment, ...]:
        with self._store.read() as tx:
            held = tx.containments(gateway=gateway, in_force=True)
        return tuple(c for c in held if endpoint is None or c.control.concerns(endpoint))

    def hold(self, containment: Containment) -> str:
        self.gateway(containment.gateway)
        with self._writer(containment.gateway):
            with self._store.begin() as tx:
                is_new = tx.containment(containment.id) is None
                if is_new:
                    tx.add_containment(containment)
                    self._append(tx, containment, "containment_held", containment.owner)
            try:
                return self._converge(containment.gateway)
            except ProviderRefused:
                if not is_new:
                    raise  # it may be in force already: what holds is never let go by an error
                with self._store.begin() as tx:
                    tx.remove_containment(containment.id)
                    self._append(tx, containment, "containment_withdrawn", "firedoor")
                raise

    def lift(self, containment_ids: Sequence[str], by: str) -> None:
        for name in self.release(containment_ids, by):
            with self._writer(name):
                self._converge(name)

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
        """Make ``to`` (an actor) the owner.

        Raises:
            NotFound: There is none of this id in force.
        """
        with self._store.begin() as tx:
            containment = self._one_in_force(tx, containment_id, "handed over")
            containment = containment.model_copy(update={"owner": to})
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
        """End every containment whose time has come, and reopen what it held."""
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
        self._each(sorted({c.gateway for c in due}), self.reconcile)
        return due

    def catch_up(self) -> None:
        """Converge gateways whose wanted set was changed by another process."""
        self._each(sorted(self._gateways), self._catch_up_one)

    def _catch_up_one(self, name: str) -> None:
        wanted = self._gateways[name].version_of([c.control for c in self.in_force(name)])
        if self._converged.get(name) != wanted:
            self.reconcile(name)

    def _each(self, names: Sequence[str], call: Callable[[str], object]) -> None:
        """Call for each gateway; trouble with one must not keep the others closed or open."""
        for name in names:
            try:
                call(name)
            except (StoreUnavailable, LeaseLost):
                raise
            except FiredoorError as error:
                self._note_drift(name, "", None, str(error))

    def reconcile(self, name: str) -> bool:
        """Bring one gateway to the wanted set if it is elsewhere; tell whether it is there now.

        A gateway that gives no answer is left for the next round. The first round that finds it
        elsewhere than we brought it is journaled as drift; one that only lags behind a change of
        ours (an expiry, a lift by the command line) is not.
        """
        gateway = self.gateway(name)
        with self._writer(name):
            wanted = ""
            try:
                wanted = gateway.version_of([c.control for c in self.in_force(name)])
                seen = gateway.observe()
            except ProviderUnreachable as error:
                self._note_drift(name, wanted, None, str(error))
                return False
            if seen == wanted:
                self._converged[name] = wanted
                self._drifting.discard(name)
                return True
            if not self._is_ours(name, seen):
                self._note_drift(name, wanted, seen, "")
            try:
                self._converge(name)
            except (ProviderUnreachable, ProviderRefused) as error:
                self._note_drift(name, wanted, seen, str(error))
                return False
            self._drifting.discard(name)
            return True

    def prepare_all(self) -> None:
        """Let every gateway that was never set up find what it needs to start."""
        for gateway in self._gateways.values():
            gateway.prepare()

    def reconcile_all(self) -> None:
        self._each(sorted(self._gateways), self.reconcile)

    # --- inside --------------------------------------------------------------------------------

    def _converge(self, name: str) -> str:
        controls = [containment.control for containment in self.in_force(name)]
        displaced: list[str] = []
        self._check()
        try:
            version = self._written(name, controls, Writing(self._check, displaced.append))
        except FiredoorError:
            # What was replaced is told even if the gateway did not get where it should.
            if displaced:
                with self._store.begin() as tx:
                    self._append_displaced(tx, name, "", displaced)
            raise
        self._converged[name] = version
        with self._store.begin() as tx:
            self._append_displaced(tx, name, version, displaced)
            tx.append(
                at=self._clock.now(),
                kind="gateway_converged",
                body={"gateway": name, "version": version, "controls": len(controls)},
            )
        return version

    def _append_displaced(
        self, tx: Transaction, name: str, wanted: str, sentences: Sequence[str]
    ) -> None:
        for sentence in dict.fromkeys(sentences):
            body = {"gateway": name, "wanted": wanted, "seen": None, "displaced": True}
            tx.append(
                at=self._clock.now(),
                kind="gateway_drifted",
                body={**body, "message": self._redact(sentence)},
            )

    def _written(self, name: str, controls: Sequence[Control], writing: Writing) -> str:
        for _ in range(TRIES - 1):
            try:
                return self._gateways[name].converge(controls, writing)
            except Conflict:
                continue  # another hand's change is read, and kept, the next time
        return self._gateways[name].converge(controls, writing)

    def _is_ours(self, name: str, seen: str | None) -> bool:
        """Tell whether we last brought a gateway to what it holds: here, in another worker, or
        before a restart."""
        if self._converged.get(name) == seen:
            return True
        with self._store.read() as tx:
            converged = [r.body for r in tx.records(kind="gateway_converged")]
        last = next((b["version"] for b in reversed(converged) if b["gateway"] == name), None)
        if last is None:  # never brought anywhere: it is as it was without us
            return seen in ("", self._gateways[name].version_of(()))
        return bool(seen == last)

    def _note_drift(self, name: str, wanted: str, seen: str | None, message: str) -> None:
        if name in self._drifting:
            return
        message = self._redact(message)
        with self._store.begin() as tx:
            tx.append(
                at=self._clock.now(),
                kind="gateway_drifted",
                body={"gateway": name, "wanted": wanted, "seen": seen, "message": message},
            )
        self._drifting.add(name)

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
