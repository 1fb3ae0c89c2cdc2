"""Envoy, as a fleet of nodes that take their routes from Firedoor itself (ADS over gRPC).

The process that drives listens, and pushes what the snapshot holds. Any process may write the
snapshot; it learns from the nodes' answers whether they took it. A node keeps its routes while
Firedoor is down; one that starts meanwhile has none until Firedoor is back.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actions.gateway.adapters.envoy.admin import Admin
from actions.gateway.adapters.envoy.listen import Listen
from actions.gateway.adapters.envoy.protos import encoded
from actions.gateway.adapters.envoy.rendering import Rendering
from actions.gateway.adapters.envoy.reports import Report, ReportFile, Reports
from actions.gateway.adapters.envoy.response_file import (
    ResponseFile,
    is_ours,
    text_of,
    version_in,
)
from bot.action import SILENT, Support, Writing
from bot.errors import BadInput, Conflict, ProviderRefused, ProviderUnreachable
from bot.model.containment import Control, ControlKind

if TYPE_CHECKING:
    from actions.gateway.adapters.envoy.ads import AdsServer

TAKE_TIMEOUT_S = 5.0
"""How long nodes may need to answer. On one machine 50 of them need 16 to 50 ms."""

MAX_NAMED = 20
"""Nodes that a message names; it counts the rest."""


class EnvoyFleet:
    """
    Implements ``bot.action.Gateway``. May be used from several threads.

    Its nodes connect to the process that has called `prepare`, until `close`. Of several such
    processes on one machine one listens, and another takes over when that one ends. Other
    processes may write and look; then they read what that one knows from files beside the
    snapshot. So all processes of Firedoor that use a fleet run on one machine, as one user.

    Args:
        base_routes: The operator's RouteConfiguration, in proto3 JSON. Read again when it
            changes; never written. Its ``name`` is the listeners' ``route_config_name``.

        snapshot: Firedoor's own file: what nodes are to have, and get when they connect. Its
            directory gets a directory ``.firedoor`` on the same file system.

        listen: ``address:port`` for the nodes. Without TLS a loopback address only.

        certificate, private_key, client_ca: PEM files, all or none. With them nodes must have a
            certificate of that CA; it may be of any name, so the CA must be for nodes only. They
            are read again when they change.

        expected_nodes: Ids of all nodes, if they are known: one that is not connected is missed
            then. Empty: a node that is not connected is not missed, though it may serve callers.

        admin_urls: Node ids and their admin interfaces; of all nodes, or none. Only shadows need
            them.

        endpoints: Keys of all known endpoints; see ``known`` of `routes.render`.

        api_key_header: Where the listeners' api_key_auth filter puts the name of a checked key,
            after the listener took it off what callers send. None: they check none.

        take_timeout_s: How long nodes may need to answer a change.

    Raises:
        BadInput: These do not go together.
    """

    def __init__(
        self,
        *,
        name: str,
        base_routes: Path,
        snapshot: Path,
        listen: str,
        certificate: Path | None = None,
        private_key: Path | None = None,
        client_ca: Path | None = None,
        expected_nodes: Iterable[str] = (),
        admin_urls: Mapping[str, str] | None = None,
        endpoints: Iterable[str] = (),
        api_key_header: str | None = None,
        take_timeout_s: float = TAKE_TIMEOUT_S,
    ) -> None:
        self._name = name
        self._listen = Listen(name, listen, certificate, private_key, client_ca)
        self._routes = Rendering(name, base_routes, endpoints, api_key_header)
        self._file = ResponseFile(name, snapshot)
        self._expected = tuple(sorted(set(expected_nodes)))
        self._admins = {node: Admin(name, url) for node, url in sorted((admin_urls or {}).items())}
        self._take_timeout_s = take_timeout_s
        self._writing = threading.Lock()
        self._starting = threading.Lock()
        self._may_listen = False
        self._server: AdsServer | None = None
        if self._admins:
            self._check_admins(self._expected)

    @property
    def name(self) -> str:
        return self._name

    def supports(self, control: Control) -> Support:
        if control.kind is ControlKind.SHADOW and not self._admins:
            return Support(
                ok=False,
                why="its nodes do not report counts to Firedoor (set `admin_urls` in "
                "firedoor.yaml to have them read)",
            )
        return self._routes.supports(control)

    def version_of(self, controls: Sequence[Control]) -> str:
        """
        Return the version that stands for this set of controls; order is irrelevant.

        Raises:
            BadInput: The base routes cannot be read, or cannot be used.
        """
        return self._routes.version_of(controls)

    def prepare(self) -> None:
        """
        Write a snapshot without any control if there is none yet, and listen for nodes, unless
        another process does: then stand by for it.

        Raises:
            BadInput: It cannot be listened there, or something that is needed is missing.
        """
        if not self._file.path.exists():
            response = self._checked(())
            self._file.make_folder()
            with contextlib.suppress(Conflict):  # then another process has just written it
                self._file.replace(text_of(response), None, None)
        self._may_listen = True
        self._find_reports()

    def close(self) -> None:
        """Stop listening. Nodes serve on with what they have."""
        with self._starting:
            self._may_listen = False
            if self._server is not None:
                self._server.stop()
                self._server = None

    def observe(self) -> str:
        """Return the version that all nodes have acknowledged, empty if none of them has any. If
        they differ, or one is missed, it says which; that is no version. Marked as edited if the
        snapshot is not as Firedoor writes it."""
        report = self._reports().read()
        if not report.nodes:
            raise self._nobody("nothing is known of their routes")
        on_disk = self._file.read()
        version = report.commonest()
        lacking = report.lacking(version, self._expected)
        seen = f"{version or 'none'}, but {_listed(lacking)}" if lacking else version
        return seen if on_disk is None or is_ours(on_disk) else f"{seen}, edited"

    def shadow_hits(self, control: Control) -> int:
        """Return how many requests a shadow has counted on all nodes; each counts from its
        start."""
        self._check_admins(tuple(self._reports().read().nodes))
        return sum(admin.shadow_hits(control) for admin in self._admins.values())

    def converge(self, controls: Sequence[Control], writing: Writing = SILENT) -> str:
        """
        Bring every node to exactly this set and return the version that all have acknowledged.

        What no node has refused is written all the same when some do not answer, so that they get
        it when they are back.

        Raises:
            Conflict: Another writer changed the snapshot meanwhile; nothing was written.

            ProviderUnreachable: No node is connected, or some have not acknowledged it in time,
                or are missed; the others have it in force. Or no process listens, or the snapshot
                cannot be written.

            ProviderRefused: Some node refuses the routes; the earlier ones serve on everywhere,
                and are back in the snapshot.

            BadInput: The base routes cannot be read, or cannot be used; nothing was written.
        """
        response = self._checked(controls)
        wanted, text = str(response["version_info"]), text_of(response)
        with self._writing:
            reports = self._reports()
            on_disk = self._file.read()
            with contextlib.suppress(ProviderUnreachable):
                self._forget_before_if_taken(reports.read(), on_disk)
            if on_disk != text:
                self._write(text, on_disk, writing)
            report = self._answered(reports)
            if report.refused(wanted):
                raise self._refused(wanted, text, report)
            self._forget_before_if_taken(report, text)
            if not report.nodes:
                raise self._nobody(f"routes {wanted} wait for them in {self._file.path}")
            lacking = report.lacking(wanted, self._expected)
            if lacking:
                raise ProviderUnreachable(
                    f"Gateway {self._name} has routes {wanted} on {_count(report, wanted)}, but "
                    f"{_listed(lacking)}; there the containment is not in force. What connects is "
                    "given them; look at these nodes, or keep callers away from them."
                )
            return wanted

    # --- the snapshot --------------------------------------------------------------------------

    def _checked(self, controls: Sequence[Control]) -> dict[str, Any]:
        """Return the response for a set of controls, which can be sent. Raises BadInput."""
        response = self._routes.response(controls)
        (resource,) = response["resources"]
        encoded({key: value for key, value in resource.items() if key != "@type"}, self._name)
        return response

    def _write(self, text: bytes, on_disk: bytes | None, writing: Writing) -> None:
        if on_disk is not None and not is_ours(on_disk):
            instead = str(self._routes.base_file)
            self._file.replace_others(text, on_disk, writing, instead)
        else:
            self._file.keep_before(on_disk)
            self._file.replace(text, on_disk, writing)

    def _forget_before_if_taken(self, report: Report, on_disk: bytes | None) -> None:
        """Routes that a node has in force and none refuses are not on trial any more: nothing
        older comes back in place of them."""
        version = version_in(on_disk)
        if version is None or report.refused(version):
            return
        if any(node.version == version for node in report.nodes.values()):
            self._file.forget_before()

    def _put_back(self, refused: bytes, report: Report) -> str:
        """Put the routes before back into the snapshot; return which serve on, in words."""
        before = self._file.read_before()
        if before is None:
            return "serves on with what each node had"
        self._file.replace(before, refused, None)
        self._file.forget_before()
        version = version_in(before) or ""
        lacking = report.lacking(version, self._expected)
        others = f", but {_listed(lacking)}" if lacking else ""
        return f"serves on with {version}{others}"

    # --- the nodes -----------------------------------------------------------------------------

    def _reports(self) -> Reports:
        try:
            return self._find_reports()
        except BadInput as error:
            # It was not so when this process started, so it may be mended without a new start.
            raise ProviderUnreachable(str(error)) from None

    def _find_reports(self) -> Reports:
        """Return where to read what nodes report; listen if this may, and nobody does any more."""
        with self._starting:
            published = ReportFile(
                self._name, self._file.beside("observed"), self._file.beside("listening")
            )
            if self._server is None and self._may_listen:
                # Every command loads this module, and only who listens needs an event loop.
                from actions.gateway.adapters.envoy.ads import AdsServer

                server = AdsServer(self._name, self._file, published, self._listen)
                self._server = server if server.start() else None
            return self._server or published

    def _answered(self, reports: Reports) -> Report:
        """Wait for the nodes' answers about what is in the snapshot now."""
        stamp = self._file.stamp() or (0, 0)
        report = reports.settled(stamp, self._take_timeout_s)
        if report.stamp != stamp:
            raise ProviderUnreachable(
                f"Who listens for the nodes of gateway {self._name} has not taken up "
                f"{self._file.path} within {self._take_timeout_s:g} s; the containment may not be "
                "in force. See the log of `firedoor serve`."
            )
        return report

    def _refused(self, wanted: str, text: bytes, report: Report) -> ProviderRefused:
        serves_on = self._put_back(text, report)
        said: dict[str, list[str]] = {}
        for node, why in report.refused(wanted).items():
            said.setdefault(why, []).append(node)
        words = ". ".join(
            f"Envoy's words on {_named(nodes)}: {why.rstrip('.')}" for why, nodes in said.items()
        )
        return ProviderRefused(
            f"Gateway {self._name} refuses routes {wanted} and {serves_on}; the containment was "
            f"not made. {words}. Look at {self._routes.base_file} first."
        )

    def _nobody(self, consequence: str) -> ProviderUnreachable:
        expected = f" (expected: {_named(self._expected)})" if self._expected else ""
        return ProviderUnreachable(
            f"No node of gateway {self._name} is connected to {self._listen.address}{expected}; "
            f"{consequence}. Nodes keep trying; see whether Envoy runs and reaches Firedoor."
        )

    def _check_admins(self, nodes: Sequence[str]) -> None:
        unknown = sorted(set(nodes) - set(self._admins))
        if unknown:
            raise BadInput(
                f"Gateway {self._name} has no admin interface of {_named(unknown)}, so what a "
                "shadow counts there would be missing; nothing was done. Add it to `admin_urls` "
                "in firedoor.yaml."
            )


def _count(report: Report, version: str) -> str:
    has = sum(node.version == version for node in report.nodes.values())
    return f"{has} of its nodes" if has != 1 else "one of its nodes"


def _named(nodes: Sequence[str]) -> str:
    named = ", ".join(nodes[:MAX_NAMED])
    more = len(nodes) - MAX_NAMED
    return f"{named} and {more} more" if more > 0 else named


def _listed(lacking: Mapping[str, str]) -> str:
    """Return which node does what: ``edge-2 has 0123456789ab; edge-3 is not connected``."""
    listed = "; ".join(f"{node} {what}" for node, what in list(lacking.items())[:MAX_NAMED])
    more = len(lacking) - MAX_NAMED
    return f"{listed}; and {more} more" if more > 0 else listed
