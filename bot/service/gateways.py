"""Gateways, and how each is brought to what is in force, by one writer at a time.

Whoever holds or lifts brings a gateway to the whole wanted set at once. The keeper sees to the
rest: it gives each gateway a turn of its own (``bot.wiring``), so what is waited for at one keeps
no other from being expired or mended.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from bot.action import Gateway, Writing
from bot.errors import (
    BadInput,
    Conflict,
    FiredoorError,
    LeaseLost,
    StoreUnavailable,
    Unreachable,
)
from bot.model.containment import Containment, Control, ControlKind, GatewayTrouble
from bot.ports import Clock, Store, Transaction
from bot.service.troubles import Troubles

OnlyOne = Callable[[str, float], AbstractContextManager[None]]
"""Holds a lock of this name over all workers; raises ProviderUnreachable after so many seconds."""

WRITER_TIMEOUT_S = 20.0
"""How long another worker's writing to the same gateway is waited for."""

TRIES = 3
"""How often a gateway is read anew when another writer was faster."""

_REMEDY = (
    "Put the setting back in firedoor.yaml and restart Firedoor, or let go of it: `firedoor "
    "containments lift`."
)


class _Barred(BadInput):
    """A gateway is not set up any more for something that may be in force there."""


class Gateways:
    """The configured gateways by name, and what each was brought to."""

    def __init__(
        self,
        store: Store,
        gateways: Mapping[str, Gateway],
        clock: Clock,
        only_one: OnlyOne,
        redact: Callable[[str], str],
    ) -> None:
        """
        Args:
            redact: Takes known secrets out of what gateways say of a failure.
        """
        self._store = store
        self._gateways = gateways
        self._clock = clock
        self._only_one = only_one
        self._check: Callable[[], None] = lambda: None
        self._troubles = Troubles(clock, redact)
        self._locks = {name: threading.Lock() for name in gateways}
        self._unprepared: set[str] = set()
        self._converged: dict[str, str] = {}
        self._brought: dict[str, frozenset[str]] = {}
        """The containments that a gateway was last brought to, or found with."""

    def bound(self, store: Store, check: Callable[[], None]) -> Gateways:
        """Return these as one who may lose the right to act uses them; see
        `ContainmentDesk.bound`."""
        mine = copy.copy(self)
        mine._store, mine._check = store, check
        return mine

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._gateways))

    def get(self, name: str) -> Gateway:
        try:
            return self._gateways[name]
        except KeyError:
            known = ", ".join(sorted(self._gateways)) or "none"
            raise BadInput(
                f"No gateway is named {name!r} (configured: {known}); nothing was done. "
                "Add it under `gateways` in firedoor.yaml."
            ) from None

    @contextmanager
    def writer(self, name: str) -> Iterator[None]:
        """Be the only one, of all threads and workers, that writes to a gateway."""
        self.get(name)
        with self._locks[name], self._only_one(f"gateway {name}", WRITER_TIMEOUT_S):
            yield

    def in_force(self, name: str) -> tuple[Containment, ...]:
        """Return what is in force at a gateway, oldest first."""
        with self._store.read() as tx:
            return tuple(tx.containments(gateway=name, in_force=True))

    def converge(self, name: str) -> str:
        """
        Bring a gateway to what is in force, whose `writer` the caller is; return the version that
        it reports.

        Raises:
            BadInput, ProviderRefused, ProviderUnreachable: See `Gateway.converge` and `_possible`.
        """
        held, left_out = self._possible(name)
        displaced: list[str] = []
        self._check()
        controls = [containment.control for containment in held]
        try:
            version = self._written(name, controls, Writing(self._check, displaced.append))
        except FiredoorError:
            # What was replaced is told even if the gateway did not get where it should.
            if displaced:
                with self._store.begin() as tx:
                    self._append_replaced(tx, name, "", displaced)
            raise
        self._converged[name], self._brought[name] = version, _ids((*held, *left_out))
        self._troubles.is_over(name)
        tell = self._troubles.append
        with self._store.begin() as tx:
            self._append_replaced(tx, name, version, displaced)
            if left_out:
                message = f"{_why(self._barred(name, left_out))}. It is not in force. {_REMEDY}"
                tell(tx, name, GatewayTrouble.BARRED, message=message, wanted=version)
            self._append_converged(tx, name, version, held, left_out)
        return version

    def is_behind(self, name: str) -> bool:
        """Tell whether what a gateway is to hold was changed since it was brought there: by an
        expiry, or by another process. Asks the store only."""
        return self._brought.get(name) != _ids(self.in_force(name))

    def reconcile(self, name: str) -> bool:
        """Bring one gateway to the wanted set if it is elsewhere; tell whether it is there now.

        What keeps it from getting there is journaled, and left for the next round. The first round
        that finds it elsewhere than we brought it is journaled as drift; one that only lags behind
        a change of ours (an expiry, a lift by the command line) is not.
        """
        with self.writer(name):
            try:
                return self._reconcile(name)
            except (StoreUnavailable, LeaseLost):
                raise
            except _Barred as error:
                self._tell(name, GatewayTrouble.BARRED, error)
            except FiredoorError as error:
                self._tell(name, GatewayTrouble.STUCK, error)
        return False

    def _reconcile(self, name: str) -> bool:
        gateway = self.get(name)
        if name in self._unprepared:
            self._prepare(name)
        try:
            seen = gateway.observe()
        except Unreachable as error:
            self._tell(name, GatewayTrouble.SILENT, error)
            return False
        held, left_out = self._possible(name, seen)
        wanted = gateway.version_of([c.control for c in held])
        if seen != wanted:
            if not self._is_ours(name, seen):
                elsewhere = GatewayTrouble.ELSEWHERE
                self._troubles.tell(self._store, name, elsewhere, wanted=wanted, seen=seen)
            self.converge(name)
            return True
        self._unprepared.discard(name)  # it runs, so whatever it needed to start is there
        self._converged[name], self._brought[name] = wanted, _ids((*held, *left_out))
        if self._troubles.is_over(name):
            with self._store.begin() as tx:
                self._append_converged(tx, name, wanted, held, left_out)
        return True

    def prepare_all(self) -> None:
        """Let every gateway that was never set up find what it needs to start. One that cannot be
        helped to it keeps none of the others waiting; it is tried again with each round."""
        for name in self.names:
            self._prepare(name)

    def check(self, name: str) -> str:
        """
        Say what a gateway reports, for ``firedoor doctor``.

        Raises:
            BadInput: It is not set up any more for something that is in force.

            ProviderUnreachable, ProviderRefused.
        """
        seen = self.get(name).observe()
        barred = self._barred(name, self.in_force(name))
        if barred:
            raise BadInput(f"It reports version {seen}, but {_why(barred)}. {_REMEDY}")
        return f"answers, and reports version {seen or '(none yet)'}"

    def miss(self, names: Iterable[str]) -> None:
        """Journal those that something expired at and that are not configured any more."""
        for name in sorted({*names} - {*self._gateways}):
            self._troubles.tell(
                self._store,
                name,
                GatewayTrouble.STUCK,
                message="It is not under `gateways` in firedoor.yaml any more, so what expired may "
                "still be in force there.",
            )

    # --- inside --------------------------------------------------------------------------------

    def _prepare(self, name: str) -> None:
        try:
            self._gateways[name].prepare()
        except FiredoorError as error:
            self._unprepared.add(name)
            self._tell(name, GatewayTrouble.STUCK, error)
        else:
            self._unprepared.discard(name)

    def _written(self, name: str, controls: Sequence[Control], writing: Writing) -> str:
        for _ in range(TRIES - 1):
            try:
                return self._gateways[name].converge(controls, writing)
            except Conflict:
                continue  # another hand's change is read, and kept, the next time
        return self._gateways[name].converge(controls, writing)

    # --- what a gateway is not set up for any more ----------------------------------------------

    def _possible(
        self, name: str, seen: str | None = None
    ) -> tuple[tuple[Containment, ...], tuple[Containment, ...]]:
        """
        Return what a gateway is to hold, and what is left out, as it is not set up for it any more:
        a setting was taken back while the containment was in force.

        A gateway is written as a whole, so writing the rest lets go of such a containment. That is
        for a person to decide: nothing is written while it may be in force, whatever else that
        keeps back. If it is not in force anyway, or refuses nobody, it keeps nothing back.

        Args:
            seen: What the gateway reports, if it was just asked.

        Raises:
            BadInput: Such a one may be in force. Names each, and what to do.

            ProviderUnreachable: The gateway was asked, and gave no answer.
        """
        held = self.in_force(name)
        barred = self._barred(name, held)
        if not barred:
            return held, ()
        refusing = [c for c, _ in barred if c.control.kind is not ControlKind.SHADOW]
        if refusing and not self._lacks(name, refusing, seen):
            raise _Barred(
                f"{_why(barred)}. It may be in force, and writing anything else would let go of "
                "it, so nothing is written: what is in force there stays, and what was lifted or "
                f"has expired stays too. {_REMEDY}"
            )
        left_out = tuple(containment for containment, _ in barred)
        return tuple(c for c in held if c not in left_out), left_out

    def _barred(self, name: str, held: Sequence[Containment]) -> list[tuple[Containment, str]]:
        """Return what a gateway is not set up for, and why."""
        asked = [(c, self._gateways[name].supports(c.control)) for c in held]
        return [(containment, support.why) for containment, support in asked if not support.ok]

    def _lacks(self, name: str, some: Sequence[Containment], seen: str | None) -> bool:
        """Tell whether none of these is in force at a gateway, for sure: it has nothing of
        Firedoor's, or was last written without them."""
        gateway = self._gateways[name]
        if (gateway.observe() if seen is None else seen) in ("", gateway.version_of(())):
            return True
        last = self._last_converged(name)
        return last is not None and _ids(some) <= {*last.get("left_out", ())}

    # --- the journal ----------------------------------------------------------------------------

    def _tell(self, name: str, what: GatewayTrouble, error: FiredoorError) -> None:
        self._troubles.tell(self._store, name, what, message=str(error))

    def _is_ours(self, name: str, seen: str) -> bool:
        """Tell whether we last brought a gateway to what it holds: here, in another worker, or
        before a restart."""
        if self._converged.get(name) == seen:
            return True
        last = self._last_converged(name)
        if last is None:  # never brought anywhere: it is as it was without us
            return seen in ("", self._gateways[name].version_of(()))
        return bool(seen == last["version"])

    def _last_converged(self, name: str) -> dict[str, Any] | None:
        with self._store.read() as tx:
            converged = [r.body for r in tx.records(kind="gateway_converged")]
        return next((body for body in reversed(converged) if body["gateway"] == name), None)

    def _append_replaced(
        self, tx: Transaction, name: str, wanted: str, sentences: Sequence[str]
    ) -> None:
        for sentence in dict.fromkeys(sentences):
            self._troubles.append(
                tx, name, GatewayTrouble.REPLACED, message=sentence, wanted=wanted
            )

    def _append_converged(
        self,
        tx: Transaction,
        name: str,
        version: str,
        held: Sequence[Containment],
        left_out: Sequence[Containment],
    ) -> None:
        body = {"gateway": name, "version": version, "controls": len(held)}
        if left_out:
            body["left_out"] = sorted(_ids(left_out))
        tx.append(at=self._clock.now(), kind="gateway_converged", body=body)


def _why(barred: Sequence[tuple[Containment, str]]) -> str:
    """Say what a gateway is not set up for."""
    named = (
        f"{c.id} ({c.control.kind.value} of {c.control.endpoint}), which it is not set up for "
        f"({why})"
        for c, why in barred
    )
    return f"the containments ask for {'; '.join(named)}"


def _ids(containments: Sequence[Containment]) -> frozenset[str]:
    return frozenset(containment.id for containment in containments)
