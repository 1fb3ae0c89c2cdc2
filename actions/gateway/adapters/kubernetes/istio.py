"""Istio, by an AuthorizationPolicy of Firedoor's own.

What can be read is the object in the Kubernetes API. Istio's control plane sends it to each proxy,
within a second mostly, and does not say there which proxies have it: only a look from outside shows
that it holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from actions.gateway.adapters.kubernetes.client import KubernetesClient, Place
from actions.gateway.adapters.kubernetes.istio_rules import (
    Target,
    render,
    why_no_caller,
    why_no_path,
)
from actions.gateway.adapters.kubernetes.own_object import OwnObjectGateway, Spec
from bot.action import Support
from bot.errors import BadInput
from bot.model.answers import REFUSED
from bot.model.containment import Control, ControlKind


class IstioGateway(OwnObjectGateway):
    """
    Implements ``bot.action.Gateway``. May be used from several threads.

    A closed endpoint answers what Istio answers to everything that it denies: 403 and ``RBAC:
    access denied``. That is no 503, and has no word on when to come again.

    Paths are compared as the proxy has normalised them, so the mesh must have the option
    ``DECODE_AND_MERGE_SLASHES`` (``meshConfig.pathNormalization``). Path parameters in the middle
    of a path (``/orders;v=1/7``) are not taken for the path without them; a service that drops
    them needs another gateway's close.

    Args:
        server, token_file, ca_file: See `KubernetesClient`.

        namespace: Of the workload, and so of the policy. Not Istio's root namespace, unless the
            workload is in it.

        selector: Labels of the workload whose proxies are to deny: the ingress gateway's.

        ports: On which those proxies take HTTP, as they see it: the container's, not the service's.

        issuer: Of the tokens that a RequestAuthentication for the same workload verifies, which
            the operator promises by setting it. None: there is none, and no claim can be blocked.

        addresses: ``ipBlocks`` if the address of the connection is the caller's; ``remoteIpBlocks``
            if proxies stand in front that Istio is told to trust (``numTrustedProxies``).

        kept_dir: A folder for what another hand had made of the policy.

        endpoints: Keys of all known endpoints; see ``known`` of `istio_rules.render`.
    """

    def __init__(
        self,
        *,
        name: str,
        server: str,
        token_file: Path,
        namespace: str,
        selector: Mapping[str, str],
        ports: Iterable[int],
        kept_dir: Path,
        ca_file: Path | None = None,
        issuer: str | None = None,
        addresses: Literal["ipBlocks", "remoteIpBlocks"] = "ipBlocks",
        endpoints: Iterable[str] = (),
    ) -> None:
        super().__init__(
            name=name,
            client=KubernetesClient(
                gateway=name, server=server, token_file=token_file, ca_file=ca_file
            ),
            place=Place(
                group="security.istio.io",
                version="v1",
                kind="AuthorizationPolicy",
                plural="authorizationpolicies",
                namespace=namespace,
            ),
            object_name=f"firedoor-{name}",
            kept_dir=kept_dir,
        )
        self._target = Target(dict(selector), tuple(ports), issuer, addresses)
        if not self._target.selector or not self._target.ports:
            raise BadInput(
                f"Gateway {name} has no selector or no ports, so its policy would deny at every "
                "workload of its namespace, or other things than HTTP; no gateway was made of it. "
                "Set both in firedoor.yaml."
            )
        self._known = tuple(sorted(endpoints))

    def supports(self, control: Control) -> Support:
        if control.kind is ControlKind.THROTTLE:
            why = "an AuthorizationPolicy limits no rate"
            return Support(ok=False, why=why, nearest=ControlKind.BLOCK)
        if control.kind is ControlKind.SHADOW:
            why = (
                "its dry run is experimental, and counts at each proxy, where Firedoor cannot read"
            )
            return Support(ok=False, why=why, nearest=ControlKind.BLOCK)
        if why := why_no_path(control.path):
            return Support(ok=False, why=why)
        if why := why_no_caller(control.principals, self._target):
            return Support(ok=False, why=why, nearest=ControlKind.CLOSE)
        return Support(ok=True, own_status=REFUSED.status)

    def _spec(self, controls: Sequence[Control]) -> Spec | None:
        return render(controls, self._known, self._target)
