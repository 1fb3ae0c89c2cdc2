"""Kong Gateway 3, by its Admin API, with a database or as a control plane.

Firedoor has routes, their plugins and one service of its own, all tagged ``firedoor``; the
service's tags carry the version. The Admin API knows no transaction, no precondition and no ETag
(nothing of the kind is in kong/api), so see `own_objects` for how other hands' changes are found,
and what short time remains in which they are not.

Nor does it say when its nodes have taken a change up. They do within
``worker_state_update_frequency`` and, behind other nodes than the one written to,
``db_update_frequency``; converge waits ``settle_s`` for that. Only a look from outside proves it.

An overlay that lets requests on is first written where no request matches it, gets its plugins, and
only after ``settle_s`` its place: it never serves without the plugins that check callers.

Addresses are those that Kong takes for its callers': set ``trusted_ips`` and ``real_ip_header``
behind a load balancer. Where a plugin for all routes asks for a credential, a closed endpoint
answers 401 to those without one, as ``request-termination`` comes after it.

An edit of a route or service by hand is found and replaced; so is a plugin put on one of
Firedoor's routes. With decK, ``select_tags`` must be set, or a sync removes what is Firedoor's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from actions.gateway.adapters.http_api import HttpApi, first_text
from actions.gateway.adapters.kong.names import NOWHERE, gateway_tags, nowhere
from actions.gateway.adapters.kong.render import Base, Overlay, render
from actions.gateway.adapters.kong.state import (
    KongState,
    Marker,
    State,
    marker_of,
    set_digest,
    without_times,
)
from actions.gateway.adapters.matching import holds, key_names
from actions.gateway.adapters.own_objects import Step, carry_out, keep
from actions.gateway.own_file import OwnFile
from actions.gateway.rules import rules_of
from bot.action import SILENT, Support, Writing
from bot.errors import BadInput, Conflict
from bot.model.base import digest_of
from bot.model.containment import Control, ControlKind, PrincipalKind

SETTLE_S = 5.0
"""Kong's default for each of the two settings, which are added up with several nodes."""

_EXAMPLE = Base(
    routes=[{"id": "example", "paths": ["/"], "service": {"id": "example"}}],
)
"""Stands for the operator's routes in the version, which does not depend on them."""


class KongGateway:
    """
    Implements ``bot.action.Gateway``. May be used from several threads.

    Args:
        admin_url: The Admin API; with the workspace as its path, if there are any.

        admin_token: Sent as ``Kong-Admin-Token``, for Kong with role-based access control. It
            needs to read routes, plugins, services and consumers, and to create, update and
            delete routes, plugins and services.

        set_aside: A folder of Firedoor's own, for what other hands made of its objects before it
            replaced them. Made if it is not there. Plugins may hold secrets of the operator's.

        endpoints: Keys of all known endpoints; see ``known`` of `rules.rules_of`.

        consumers: The operator says that a plugin checks a credential in every request and makes a
            Consumer of it, so that a key is known by its consumer's name. Without it nobody can be
            blocked or let through by key.

        marks_throttled: Kong runs a line of Lua of Firedoor's (plugin ``post-function``, which
            ``untrusted_lua = off`` forbids) that marks what a throttle answers. Without it the
            proof of a throttle fails, as its 429 could be anybody's.

        ca_file: Certificates to trust for ``admin_url``, if not the usual ones.

        settle_s: How long all nodes may need to take a change up.
    """

    def __init__(
        self,
        *,
        name: str,
        admin_url: str,
        set_aside: Path,
        admin_token: str | None = None,
        endpoints: Iterable[str] = (),
        consumers: bool = False,
        marks_throttled: bool = True,
        ca_file: str | None = None,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._name = name
        self._known = tuple(sorted(endpoints))
        self._has_consumers, self._marks_throttled = consumers, marks_throttled
        self._settle_s = settle_s
        self._api = HttpApi(
            gateway=name,
            what="Kong's Admin API",
            base_url=admin_url,
            headers={"Kong-Admin-Token": admin_token} if admin_token else {},
            secrets=(admin_token,) if admin_token else (),
            reason=first_text("message", "name"),
            ca_file=ca_file,
        )
        self._kong = KongState(name, self._api)
        self._aside = OwnFile(name, set_aside / "kong.json", drafts=set_aside)
        self._writing = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    def supports(self, control: Control) -> Support:
        kinds = {principal.kind for principal in control.principals}
        if control.kind is ControlKind.SHADOW:
            why = "Kong's plugins cannot count what they would refuse"
            return Support(ok=False, why=why, nearest=ControlKind.THROTTLE)
        if PrincipalKind.CLAIM in kinds:
            why = "Kong knows a token by its consumer, not by its claims; name the consumer"
            return Support(ok=False, why=why, nearest=ControlKind.THROTTLE)
        if PrincipalKind.API_KEY in kinds and not self._has_consumers:
            why = "it is not said to make consumers of API keys (`consumers` in firedoor.yaml)"
            return Support(ok=False, why=why, nearest=ControlKind.THROTTLE)
        if control.kind is ControlKind.ALLOW_ONLY and len(kinds) > 1:
            why = "Kong lets through by address or by key, and asks for both if both are named"
            return Support(ok=False, why=why, nearest=ControlKind.CLOSE)
        return Support(ok=True, best_effort=control.kind is ControlKind.THROTTLE)

    def version_of(self, controls: Sequence[Control]) -> str:
        names = _key_names(controls)
        base = Base(_EXAMPLE.routes, (), {name: name for name in names})
        overlays = self._rendered(controls, base)
        return digest_of([[o.route, list(o.plugins)] for o in overlays])[:12]

    def prepare(self) -> None:
        """Kong needs nothing of Firedoor's to start."""

    def shadow_hits(self, control: Control) -> int:
        raise BadInput(
            f"Kong counts nothing that it would refuse, so there is no count for {control.kind} "
            f"of {control.endpoint}."
        )

    def observe(self) -> str:
        """Return the version that the tags of Firedoor's service say, marked if the objects are
        not as that version was written (edited), or if the operator's have changed since then
        (outdated)."""
        return self._reported(self._kong.look())

    def converge(self, controls: Sequence[Control], writing: Writing = SILENT) -> str:
        version = self.version_of(controls)
        with self._writing:
            state = self._kong.look()
            wanted = self._wanted(controls, state)
            if self._is_right(wanted, version, state):
                return version
            steps = self._steps(wanted, version, state)
            kept = keep(self._aside, state.own, self._name) if self._is_edited(state) else None
            carry_out(
                steps,
                look=lambda: self._kong.look().own,
                seen=state.own,
                writing=writing,
                gateway=self._name,
            )
            if kept is not None:
                self._tell(kept, writing)
            time.sleep(self._settle_s)
            if (reported := self._reported(self._kong.look())) != version:
                raise self._conflict(f"reports version {reported}, and {version} was written")
            return version

    # --- what is wanted --------------------------------------------------------------------------

    def _rendered(self, controls: Sequence[Control], base: Base) -> list[Overlay]:
        rules = rules_of(controls, self._known)
        return render(self._name, rules, base, marks_throttled=self._marks_throttled)

    def _wanted(self, controls: Sequence[Control], state: State) -> list[Overlay]:
        if not controls:
            return []
        consumers = self._kong.consumers(_key_names(controls))
        return self._rendered(controls, Base(state.base.routes, state.base.plugins, consumers))

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

    def _is_right(self, wanted: Sequence[Overlay], version: str, state: State) -> bool:
        if not state.own:
            return version == self.version_of(())
        keys = {key for overlay in wanted for key in _keys(overlay)} | {self._service_key}
        return (
            self._reported(state) == version
            and set(state.own) == keys
            and all(_is_there(overlay, state) for overlay in wanted)
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
            "Make lasting changes in routes and plugins of your own."
        )

    def _conflict(self, fact: str) -> Conflict:
        return Conflict(
            f"Gateway {self._name} {fact}, so another writer came in between. It is read anew and "
            "tried again."
        )

    # --- steps -----------------------------------------------------------------------------------

    @property
    def _service_key(self) -> str:
        return f"services/{nowhere(self._name)['id']}"

    def _steps(self, wanted: Sequence[Overlay], version: str, state: State) -> list[Step]:
        """Close first; then what lets requests on; then the version; then what is to go."""
        gone = [key for key in state.own if key.startswith("routes/")]
        gone = [key for key in gone if key.removeprefix("routes/") not in {o.id for o in wanted}]
        if version == self.version_of(()) and not self._is_used(state):
            away = [self._service_key] if self._service_key in state.own else []
            return [self._deletion(key, state) for key in [*gone, *away]]
        # After an edit all are written again: it may have added what no comparison asks for.
        again = self._is_edited(state)
        missing = [overlay for overlay in wanted if again or not _is_there(overlay, state)]
        strange = set(state.own) - {key for overlay in wanted for key in _keys(overlay)}
        strange = {
            key
            for key in strange
            if key.startswith("plugins/") and f"routes/{_route_of(state.own[key])}" not in gone
        }
        is_nowhere = holds(state.own.get(self._service_key), nowhere(self._name))
        steps = [] if is_nowhere and not again else [self._service_step(None, state)]
        for overlay in [overlay for overlay in missing if not overlay.passes]:
            steps += self._puts([("routes", overlay.route), *_plugins(overlay)], state)
        passing = [overlay for overlay in missing if overlay.passes]
        for overlay in passing:
            is_new = f"routes/{overlay.id}" not in state.own
            parked = [("routes", self._parked(overlay))] if is_new else []
            steps += self._puts([*parked, *_plugins(overlay)], state)
        if passing:
            steps[-1] = self._settling(steps[-1])
            steps += self._puts([("routes", overlay.route) for overlay in passing], state)
        steps += [self._deletion(key, state) for key in sorted(strange)]
        steps.append(self._version_step(version, wanted, state))
        return [*steps, *(self._deletion(key, state) for key in gone)]

    def _parked(self, overlay: Overlay) -> dict[str, Any]:
        """Return an overlay's route where no request matches it; one that does all the same, by
        its host, leads nowhere."""
        away = {"hosts": [f"{overlay.id}.{NOWHERE}"], "service": {"id": nowhere(self._name)["id"]}}
        return {**overlay.route, **away}

    def _settling(self, step: Step) -> Step:
        def do() -> None:
            step.do()
            time.sleep(self._settle_s)

        return Step(do, step.undo, step.touches)

    def _puts(self, objects: Iterable[tuple[str, Mapping[str, Any]]], state: State) -> list[Step]:
        return [self._put(f"{kind}/{body['id']}", body, state) for kind, body in objects]

    def _put(self, key: str, body: Mapping[str, Any], state: State) -> Step:
        before = state.own.get(key)
        sent = {name: value for name, value in body.items() if name != "id"}
        return Step(
            do=lambda: self._api.write("PUT", f"/{key}", sent),
            undo=lambda: self._restore(key, before),
            touches=frozenset({key}),
        )

    def _restore(self, key: str, before: Mapping[str, Any] | None) -> None:
        if before is None:
            self._api.write("DELETE", f"/{key}")
        else:
            body = {k: v for k, v in without_times(before).items() if k != "id"}
            self._api.write("PUT", f"/{key}", body)

    def _deletion(self, key: str, state: State) -> Step:
        """Kong deletes the plugins of a route with it, in one transaction."""
        route = key.removeprefix("routes/")
        plugins = [k for k, v in state.own.items() if k != key and _route_of(v) == route]

        def undo() -> None:
            for each in (key, *plugins):
                self._restore(each, state.own[each])

        return Step(
            do=lambda: self._api.write("DELETE", f"/{key}"),
            undo=undo,
            touches=frozenset({key, *plugins}),
        )

    def _is_used(self, state: State) -> bool:
        """Tell whether a route of somebody else's leads to Firedoor's service; Kong keeps it
        then."""
        service = nowhere(self._name)["id"]
        return any((r.get("service") or {}).get("id") == service for r in state.base.routes)

    def _service_step(self, marker: Marker | None, state: State) -> Step:
        tags = [*gateway_tags(self._name), *(marker.tags() if marker else [])]
        return self._put(self._service_key, {**nowhere(self._name), "tags": tags}, state)

    def _version_step(self, version: str, wanted: Sequence[Overlay], state: State) -> Step:
        """Return the step that writes the version, over the objects as Kong holds them by then."""
        keys = {self._service_key, *(key for overlay in wanted for key in _keys(overlay))}

        def do() -> None:
            now = self._kong.look()
            if not all(_is_there(overlay, now) for overlay in wanted):
                raise self._conflict("is not as it was just written")
            own = {key: body for key, body in now.own.items() if key in keys}
            digest = set_digest(self._name, own)
            self._service_step(Marker(version, digest, now.base_digest), state).do()

        return Step(
            do=do,
            undo=lambda: self._restore(self._service_key, state.own.get(self._service_key)),
            touches=frozenset({self._service_key}),
        )


def _plugins(overlay: Overlay) -> list[tuple[str, Mapping[str, Any]]]:
    return [("plugins", plugin) for plugin in overlay.plugins]


def _keys(overlay: Overlay) -> list[str]:
    return [f"routes/{overlay.id}", *(f"plugins/{plugin['id']}" for plugin in overlay.plugins)]


def _is_there(overlay: Overlay, state: State) -> bool:
    bodies = {f"routes/{overlay.id}": overlay.route}
    bodies |= {f"plugins/{plugin['id']}": plugin for plugin in overlay.plugins}
    return all(holds(state.own.get(key), dict(body)) for key, body in bodies.items())


def _route_of(body: Mapping[str, Any]) -> str | None:
    return (body.get("route") or {}).get("id")


def _key_names(controls: Iterable[Control]) -> set[str]:
    return {name for control in controls for name in key_names(control.principals)}
