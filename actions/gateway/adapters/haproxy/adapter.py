"""HAProxy, by runtime maps that are kept in files too.

Firedoor is the only writer of three maps (`maps`) and of their files. The maps are changed by the
Runtime API, so at once and without a reload; from the files HAProxy comes up with the same after a
reload or a restart. What a request needs besides is in the operator's configuration once and for
all, as ``deploy/gateways/haproxy.example.cfg`` shows it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from actions.gateway.adapters.haproxy.kept import KeptMaps
from actions.gateway.adapters.haproxy.maps import NAMES, Maps, Step, steps
from actions.gateway.adapters.haproxy.render import (
    MAX_WINDOW_S,
    render,
    shadow_id,
    shadows_in,
    window_of,
)
from actions.gateway.adapters.haproxy.runtime import TIMEOUT_S, RuntimeApi
from bot.action import SILENT, Support, Writing
from bot.errors import BadInput, Conflict, ProviderRefused, ProviderUnreachable
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind

SHADOWS_TABLE = "firedoor_shadows"

NOTHING = Maps()


class HaproxyGateway:
    """
    Implements ``bot.action.Gateway``. May be used from several threads.

    Args:
        socket: The UNIX socket of HAProxy's Runtime API, of level admin, which must be closed to
            everybody else.

        maps_dir: The folder of the three map files, as HAProxy's configuration spells it. Only
            Firedoor writes there; HAProxy reads it when it starts.

        endpoints: Keys of all known endpoints; see ``known`` of `render.render`.

        claims: The claims that HAProxy's configuration looks up in ``members.map``. With each the
            operator promises that the configuration takes it from a token whose signature it has
            verified, and from nowhere else.

        checks_api_keys: Whether the configuration looks up the name of an API key there, which it
            has found by the key itself.

        fold_case: Whether the service takes a path in upper case for the same one.

        timeout_s: For each command.
    """

    def __init__(
        self,
        *,
        name: str,
        socket: Path,
        maps_dir: Path,
        endpoints: Iterable[str] = (),
        claims: Iterable[str] = (),
        checks_api_keys: bool = False,
        fold_case: bool = False,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._name = name
        self._api = RuntimeApi(name, socket, timeout_s)
        self._files = KeptMaps(name, maps_dir)
        self._known = tuple(sorted(endpoints))
        self._claims = frozenset(claims)
        self._checks_api_keys = checks_api_keys
        self._fold_case = fold_case
        self._writing = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    def supports(self, control: Control) -> Support:
        if control.rate_per_s is not None:
            _, window_ms = window_of(control.rate_per_s)
            if window_ms > MAX_WINDOW_S * 1000:
                why = f"it counts over {MAX_WINDOW_S:g} s at most, so one request in that time is"
                return Support(
                    ok=False, why=f"{why} the lowest rate it has", nearest=ControlKind.CLOSE
                )
        for principal in control.principals:
            why = self._cannot_tell(principal)
            if why:
                return Support(ok=False, why=why, nearest=ControlKind.THROTTLE)
        return Support(ok=True)

    def _cannot_tell(self, principal: Principal) -> str:
        """Return why a caller cannot be told from others; empty if it can."""
        if principal.kind is PrincipalKind.API_KEY and not self._checks_api_keys:
            return "it is not said to check API keys (`checks_api_keys` in firedoor.yaml)"
        if principal.kind is not PrincipalKind.CLAIM:
            return ""
        if principal.claim not in self._claims:
            return f"it is not said to look at the claim {principal.claim} (`claims`)"
        if not principal.value.isascii():
            # A token may hold such a character as \uXXXX, which HAProxy does not decode.
            return "it compares claims with ASCII text only"
        return ""

    def version_of(self, controls: Sequence[Control]) -> str:
        """
        Return the version that stands for this set of controls; order is irrelevant.

        Raises:
            BadInput: HAProxy cannot be told one of them.
        """
        return self._rendered(controls).version

    def prepare(self) -> None:
        """Write the maps without any control that are not there yet: HAProxy does not start
        without their files."""
        self._files.prepare(self._rendered(()))

    def observe(self) -> str:
        """Return the version of the maps that HAProxy has now; empty if it never had Firedoor's.
        Marked as edited if they are not what that version stands for, or if the files hold
        something else: then a restart would bring that."""
        running, kept = self._running(), self._files.read()
        if running != kept:
            with self._files.only_writer():  # another process may have been at work
                running, kept = self._running(), self._files.read()
        if running == kept == NOTHING:
            return ""
        if running.is_whole and running == kept:
            return running.version
        return f"{running.version or 'none'}, edited"

    def shadow_hits(self, control: Control) -> int:
        """
        Return how many requests a shadow has counted since it was put in force, or since the last
        start or reload of HAProxy. If it was in force before, together with another that has
        stayed, what both had counted then is still in it.

        Raises:
            BadInput: No such shadow is in force.

            ProviderUnreachable: No usable answer.
        """
        wanted = shadow_id(control)
        if not any(wanted in ids.split("+") for ids in shadows_in(self._running())):
            raise BadInput(
                f"No such shadow of {control.endpoint} is in force at gateway {self._name}, so "
                "nothing is counted. `firedoor containments list` shows what is."
            )
        counted = self._api.counters(SHADOWS_TABLE)
        return sum(count for ids, count in counted.items() if wanted in ids.split("+"))

    def converge(self, controls: Sequence[Control], writing: Writing = SILENT) -> str:
        """
        Bring HAProxy to exactly this set and return the version that it reports.

        If HAProxy is down the files are written all the same, so that it starts with the set.

        Raises:
            Conflict: Another writer changed a map or a file meanwhile; nothing was written.

            ProviderUnreachable: No usable answer, other maps than those that were written, or the
                files cannot be written.

            ProviderRefused: HAProxy does not take the maps. The earlier ones serve on, and are in
                the files.

            BadInput: HAProxy cannot be told a control; nothing was written.
        """
        wanted = self._rendered(controls)
        with self._writing:
            kept = self._files.read()
            try:
                running = self._running()
            except ProviderUnreachable as error:
                self._write(None, kept, wanted, writing)
                raise ProviderUnreachable(
                    f"{error} What is wanted is in {self._files.folder}, and HAProxy comes up "
                    "with it."
                ) from None
            self._write(running, kept, wanted, writing)
            return wanted.version

    # --- writing ---------------------------------------------------------------------------------

    def _write(self, running: Maps | None, kept: Maps, wanted: Maps, writing: Writing) -> None:
        """Write what is not right yet. ``running`` is None if HAProxy is down."""
        if kept == wanted and running in (wanted, None):
            return
        writing.begin()
        with self._files.only_writer():
            is_as_read = running is None or self._running() == running
            if not is_as_read or self._files.read() != kept:
                raise Conflict(
                    f"The maps of gateway {self._name} were changed by another writer just now; "
                    "nothing was written. They are read and tried again."
                )
            aside = self._set_aside(running, kept)
            self.commit(running, wanted)
        if aside is not None:
            writing.displaced(
                f"The maps of gateway {self._name} had been changed by another hand and were "
                f"replaced; what they held is in {aside}. Make lasting changes in HAProxy's "
                "configuration, not in Firedoor's maps."
            )

    def _set_aside(self, running: Maps | None, kept: Maps) -> Path | None:
        """Keep what another hand made of the maps; return where, or None if there is nothing."""
        found = {"in HAProxy": running, "in the files": kept}
        others = {where: m for where, m in found.items() if m is not None and not m.is_ours}
        if not others or (kept == NOTHING and running in (NOTHING, None)):
            return None
        return self._files.set_aside(others)

    def commit(self, running: Maps | None, wanted: Maps) -> None:
        """Lead HAProxy, if it runs, and then the files to the wanted maps. HAProxy comes first: it
        says whether it takes them, and what is in the files it must take at its next start."""
        if running is not None:
            way = steps(running, wanted)
            names = [step.name for step in way]
            switch = names.index("routes") + 1 if "routes" in names else 0
            self._count_anew(running, wanted)
            self._apply(way[:switch])
            self._apply(way[switch:])
            if self._running() != wanted:
                raise ProviderUnreachable(
                    f"Gateway {self._name} has other maps than {wanted.version}, which it had just "
                    "taken; the containment may not be in force. It was reloaded, or changed by "
                    "another hand; it is tried again."
                )
        try:
            self._files.write(wanted)
        except ProviderUnreachable as error:
            if running is None:
                raise
            why = str(error).partition(";")[0]
            raise ProviderUnreachable(
                f"Gateway {self._name} has the maps {wanted.version} now, but a reload would bring "
                f"the earlier ones: {why}. Mend the disk or its rights; it is tried again."
            ) from None

    def _apply(self, way: Sequence[Step]) -> None:
        """Make changes one after the other, but none if HAProxy does not take all of them."""
        staged: list[tuple[Path, int]] = []
        try:
            for step in way:
                path = self._files.paths[NAMES.index(step.name)]
                staged.append((path, self._api.stage(path, step.entries)))
        except ProviderRefused:
            for path, number in staged:
                self._api.drop(path, number)
            raise
        for path, number in staged:
            self._api.commit(path, number)

    def _count_anew(self, running: Maps, wanted: Maps) -> None:
        """Forget what an earlier shadow of the same name has counted."""
        old = {each for ids in shadows_in(running) for each in ids.split("+")}
        for ids in shadows_in(wanted):
            if old.isdisjoint(ids.split("+")):
                self._api.forget(SHADOWS_TABLE, ids)

    # --- reading ---------------------------------------------------------------------------------

    def _rendered(self, controls: Iterable[Control]) -> Maps:
        return render(controls, self._known, self._fold_case)

    def _running(self) -> Maps:
        routes, networks, members = self._api.entries(self._files.paths)
        return Maps(routes, networks, members)
