"""Apache APISIX 3, by its Admin API.

Firedoor has routes of its own, whose identifiers nobody else's have; one of them, switched off,
carries the version in its labels. Each is one PUT. The Admin API takes no precondition from its
client: PATCH compares etcd's revision between its own reading and its own writing (and answers 503
on a difference, apisix/admin/resource.lua), PUT and DELETE compare nothing. So see `own_objects`
for how other hands' changes are found, here by etcd's ``modifiedIndex`` of every object, and what
short time remains in which they are not.

The Admin API writes to etcd, from where the nodes take a change within milliseconds; it does not
say when they have. Converge waits ``settle_s``, and only a look from outside proves it.

Addresses are those that APISIX takes for its callers', by its configuration of nginx or by its
plugin ``real-ip``.

``?ttl=`` on a route would make etcd drop it after a time. It is not how a containment ends here: it
could not be extended without a write, would drop a control that the store still holds, and would
reopen an endpoint without a word in the journal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from actions.gateway.adapters.apisix.render import Base, marker_body, marker_id, render
from actions.gateway.adapters.apisix.state import (
    ADMIN,
    ApisixState,
    Marker,
    State,
    marker_of,
    set_digest,
    unchanging,
)
from actions.gateway.adapters.http_api import HttpApi, first_text
from actions.gateway.adapters.matching import holds, key_names
from actions.gateway.adapters.own_objects import Step, carry_out, keep
from actions.gateway.own_file import OwnFile
from actions.gateway.rules import rules_of
from bot.action import SILENT, Support, Writing
from bot.errors import BadInput, Conflict
from bot.model.base import digest_of
from bot.model.containment import Control, ControlKind, PrincipalKind

SETTLE_S = 1.0

_EXAMPLE = Base([{"id": "example", "uri": "/*"}])
"""Stands for the operator's routes in the version, which does not depend on them."""


class ApisixGateway:
    """
    Implements ``bot.action.Gateway``. May be used from several threads.

    Args:
        admin_url: Where the Admin API listens, without ``/apisix/admin``.

        admin_key: Sent as ``X-API-KEY``: a key with the role ``admin``. APISIX has no lesser role
            that may write routes.

        set_aside: A folder of Firedoor's own, for what other hands made of its routes before it
            replaced them. Made if it is not there. Routes may hold secrets of the operator's.

        endpoints: Keys of all known endpoints; see ``known`` of `rules.rules_of`.

        consumers: The operator says that on every route a plugin checks a credential in every
            request and makes a Consumer of it, so that a key is known by its consumer's name.
            Without it nobody can be blocked or let through by key.

        ca_file: Certificates to trust for ``admin_url``, if not the usual ones.

        settle_s: How long the nodes may need to take a change from etcd.
    """

    def __init__(
        self,
        *,
        name: str,
        admin_url: str,
        admin_key: str,
        set_aside: Path,
        endpoints: Iterable[str] = (),
        consumers: bool = False,
        ca_file: str | None = None,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._name = name
        self._known = tuple(sorted(endpoints))
        self._has_consumers = consumers
        self._settle_s = settle_s
        self._api = HttpApi(
            gateway=name,
            what="APISIX's Admin API",
            base_url=admin_url,
            headers={"X-API-KEY": admin_key},
            secrets=(admin_key,),
            reason=first_text("error_msg", "message", "description"),
            ca_file=ca_file,
        )
        self._apisix = ApisixState(name, self._api)
        self._aside = OwnFile(name, set_aside / "apisix.json", drafts=set_aside)
        self._writing = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    def supports(self, control: Control) -> Support:
        kinds = {principal.kind for principal in control.principals}
        if control.kind is ControlKind.SHADOW:
            why = "APISIX's plugins cannot count what they would refuse"
            return Support(ok=False, why=why, nearest=ControlKind.THROTTLE)
        if PrincipalKind.CLAIM in kinds:
            why = "APISIX knows a token by its consumer, not by its claims; name the consumer"
            return Support(ok=False, why=why, nearest=ControlKind.THROTTLE)
        if PrincipalKind.API_KEY in kinds and not self._has_consumers:
            why = "it is not said to make consumers of API keys (`consumers` in firedoor.yaml)"
            return Support(ok=False, why=why, nearest=ControlKind.THROTTLE)
        if control.kind is ControlKind.ALLOW_ONLY and len(kinds) > 1:
            why = "APISIX lets through by address or by key, and asks for both if both are named"
            return Support(ok=False, why=why, nearest=ControlKind.CLOSE)
        # A limit of a Consumer's own runs in place of the route's.
        return Support(ok=True, best_effort=control.kind is ControlKind.THROTTLE)

    def version_of(self, controls: Sequence[Control]) -> str:
        return digest_of(self._rendered(controls, _EXAMPLE))[:12]

    def prepare(self) -> None:
        """APISIX needs nothing of Firedoor's to start."""

    def shadow_hits(self, control: Control) -> int:
        raise BadInput(
            f"APISIX counts nothing that it would refuse, so there is no count for {control.kind} "
            f"of {control.endpoint}."
        )

    def observe(self) -> str:
        """Return the version that the labels of Firedoor's route say, marked if its routes are not
        as that version was written (edited), or if the operator's have changed since then
        (outdated)."""
        return self._reported(self._apisix.look())

    def converge(self, controls: Sequence[Control], writing: Writing = SILENT) -> str:
        version = self.version_of(controls)
        with self._writing:
            state = self._apisix.look()
            wanted = self._wanted(controls, state)
            if self._is_right(wanted, version, state):
                return version
            steps = self._steps(wanted, version, state)
            kept = keep(self._aside, state.own, self._name) if self._is_edited(state) else None
            carry_out(
                steps,
                look=self._apisix.own,
                seen=state.own,
                writing=writing,
                gateway=self._name,
            )
            if kept is not None:
                self._tell(kept, writing)
            time.sleep(self._settle_s)
            if (reported := self.observe()) != version:
                raise self._conflict(f"reports version {reported}, and {version} was written")
            return version

    # --- what is wanted --------------------------------------------------------------------------

    def _rendered(self, controls: Sequence[Control], base: Base) -> dict[str, dict[str, Any]]:
        return render(self._name, rules_of(controls, self._known), base)

    def _wanted(self, controls: Sequence[Control], state: State) -> dict[str, dict[str, Any]]:
        names = {name for control in controls for name in key_names(control.principals)}
        if names:
            self._apisix.check_consumers(names)
        return self._rendered(controls, state.base)

    # --- what is there ---------------------------------------------------------------------------

    def _reported(self, state: State) -> str:
        if not state.own:
            return self.version_of(())
        marker = marker_of(self._name, state.own)
        if marker is None:
            return "(none), unfinished"
        if marker.set_digest != set_digest(self._name, state.own):
            return f"{marker.version}, edited"
        if marker.base_digest != state.base_digest:
            return f"{marker.version}, outdated"
        return marker.version

    def _is_right(self, wanted: Mapping[str, Any], version: str, state: State) -> bool:
        if not state.own:
            return version == self.version_of(())
        there = {id_ for id_, body in wanted.items() if holds(state.own.get(id_), body)}
        return (
            self._reported(state) == version
            and there == set(wanted)
            and set(state.own) == {*there, marker_id(self._name)}
        )

    def _is_edited(self, state: State) -> bool:
        """Tell whether what is there is not what the last writing left: another hand changed it, or
        that writing was interrupted."""
        marker = marker_of(self._name, state.own)
        if marker is None:
            return bool(state.own)
        return marker.set_digest != set_digest(self._name, state.own)

    def _tell(self, kept: Path, writing: Writing) -> None:
        writing.displaced(
            f"Firedoor's routes at gateway {self._name} were not as it had left them, by another "
            f"hand or an interrupted writing, and were replaced; what was there is in {kept}. "
            "Make lasting changes in routes of your own."
        )

    def _conflict(self, fact: str) -> Conflict:
        return Conflict(
            f"Gateway {self._name} {fact}, so another writer came in between. It is read anew and "
            "tried again."
        )

    # --- steps -----------------------------------------------------------------------------------

    def _steps(self, wanted: Mapping[str, Any], version: str, state: State) -> list[Step]:
        """Close first; then the other overlays; then the version; then what is to go."""
        marker = marker_id(self._name)
        gone = [id_ for id_ in state.own if id_ not in wanted and id_ != marker]
        deletions = [self._deletion(id_, state) for id_ in gone]
        if version == self.version_of(()):
            last = [self._deletion(marker, state)] if marker in state.own else []
            return [*deletions, *last]
        # After an edit all are written again: it may have added what no comparison asks for.
        again = self._is_edited(state)
        missing = {k: v for k, v in wanted.items() if again or not holds(state.own.get(k), v)}
        puts = [self._put(id_, body, state) for id_, body in missing.items()]
        return [*puts, self._version_step(version, wanted, state), *deletions]

    def _put(self, id_: str, body: Mapping[str, Any], state: State) -> Step:
        return Step(
            do=lambda: self._api.write("PUT", f"{ADMIN}/routes/{id_}", body),
            undo=lambda: self._restore(id_, state),
            touches=frozenset({id_}),
        )

    def _deletion(self, id_: str, state: State) -> Step:
        return Step(
            do=lambda: self._delete(id_),
            undo=lambda: self._restore(id_, state),
            touches=frozenset({id_}),
        )

    def _delete(self, id_: str) -> None:
        self._api.write("DELETE", f"{ADMIN}/routes/{id_}")

    def _restore(self, id_: str, state: State) -> None:
        before = state.own.get(id_)
        if before is None:
            self._delete(id_)
        else:
            body = {key: value for key, value in unchanging(before).items() if key != "id"}
            self._api.write("PUT", f"{ADMIN}/routes/{id_}", body)

    def _version_step(self, version: str, wanted: Mapping[str, Any], state: State) -> Step:
        """Return the step that writes the version, over the routes as APISIX holds them by then."""

        def do() -> None:
            now = self._apisix.look()
            own = {id_: now.own[id_] for id_ in wanted if id_ in now.own}
            if not all(holds(own.get(id_), body) for id_, body in wanted.items()):
                raise self._conflict("is not as it was just written")
            digest = set_digest(self._name, own)
            labels = Marker(version, digest, now.base_digest).labels()
            path = f"{ADMIN}/routes/{marker_id(self._name)}"
            self._api.write("PUT", path, marker_body(labels))

        marker = marker_id(self._name)
        return Step(do, lambda: self._restore(marker, state), frozenset({marker}))
