"""The Kubernetes Gateway API, by an HTTPRoute of Firedoor's own: it closes endpoints.

The Gateway API has no action that refuses. What every implementation must do is answer 500 for a
rule that has no backend, and look at an exact path before a prefix. So an endpoint can be closed
whose path has no parameter. One with a parameter would need a regular expression, and where that
comes in the order is each implementation's own decision.

The implementation says in the route's status whether it takes it. Whether each of its proxies does
it already, it does not say there: only a look from outside shows that.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from actions.gateway.adapters.kubernetes.client import KubernetesClient, Object, Place
from actions.gateway.adapters.kubernetes.istio_rules import why_no_path
from actions.gateway.adapters.kubernetes.own_object import OwnObjectGateway, Spec
from actions.gateway.adapters.kubernetes.route_rules import (
    GROUP,
    problem_of,
    render,
    what_comes_before,
)
from bot.action import Support
from bot.errors import Conflict, ProviderRefused, ProviderUnreachable
from bot.model.containment import Control, ControlKind

TAKE_TIMEOUT_S = 10.0
POLL_S = 0.1
CLOSED_STATUS = 500

_WAITING = "not taken yet"
_REFUSED = "refused"


class GatewayApiGateway(OwnObjectGateway):
    """
    Implements ``bot.action.Gateway``. May be used from several threads.

    A closed endpoint answers 500, without a word on when to come again. A method override
    (``X-HTTP-Method-Override``) counts on a closed method in upper and in lower case; closing the
    whole route needs no such guess. Other spellings of a path (``//``, ``%6f``) are closed as far
    as the implementation makes one of them before it looks at routes.

    Args:
        server, token_file, ca_file: See `KubernetesClient`.

        namespace: Of Firedoor's route. The Gateway's listener must take routes from it.

        gateway: Name of the operator's Gateway; ``gateway_namespace`` where it is, if elsewhere.

        hostnames: All hostnames that the operator's routes to the API have; none if they have none.

        route_namespaces: Where the operator's routes are, to see that none comes before Firedoor's.
            None: in ``namespace``.

        kept_dir: A folder for what another hand had made of the route.
    """

    def __init__(
        self,
        *,
        name: str,
        server: str,
        token_file: Path,
        namespace: str,
        gateway: str,
        kept_dir: Path,
        ca_file: Path | None = None,
        gateway_namespace: str | None = None,
        hostnames: Iterable[str] = (),
        route_namespaces: Iterable[str] | None = None,
        take_timeout_s: float = TAKE_TIMEOUT_S,
    ) -> None:
        super().__init__(
            name=name,
            client=KubernetesClient(
                gateway=name, server=server, token_file=token_file, ca_file=ca_file
            ),
            place=_routes_in(namespace),
            object_name=f"firedoor-{name}",
            kept_dir=kept_dir,
        )
        self._parent = {
            "group": GROUP,
            "kind": "Gateway",
            "name": gateway,
            "namespace": gateway_namespace or namespace,
        }
        self._hostnames = tuple(hostnames)
        self._look_in = tuple(route_namespaces or (namespace,))
        self._take_timeout_s = take_timeout_s

    def supports(self, control: Control) -> Support:
        if why := why_no_path(control.path):
            return Support(ok=False, why=why)
        if "{" in control.path:
            why = (
                "its path has a parameter, and the Gateway API leaves it to each implementation "
                "whether an expression for it comes before other routes"
            )
            return Support(ok=False, why=why)
        if control.kind is not ControlKind.CLOSE:
            why = f"the Gateway API has nothing for {control.kind.value}"
            return Support(ok=False, why=why, nearest=ControlKind.CLOSE)
        return Support(ok=True, own_status=CLOSED_STATUS)

    def _spec(self, controls: Sequence[Control]) -> Spec | None:
        return render(controls, self._parent, self._hostnames)

    def _refuse_unfit(self, controls: Sequence[Control]) -> None:
        spec = self._spec(controls) or {}
        if problem := problem_of(spec):
            raise ProviderRefused(
                f"What is to be closed at gateway {self._name} takes {problem}; what was in force "
                "is in force still. Lift what is not needed, or close whole routes."
            )
        for namespace in self._look_in:
            for route in self._client.list(_routes_in(namespace)):
                name = route["metadata"]["name"]
                if (namespace, name) == (self._place.namespace, self._object_name):
                    continue
                why = what_comes_before(
                    spec, route.get("spec") or {}, self._place.namespace, namespace
                )
                if why:
                    raise ProviderRefused(
                        f"HTTPRoute {namespace}/{name} of gateway {self._name} would go on to get "
                        f"requests that are to be closed: {why}; nothing was written. Close them "
                        "in that route by hand, or set `hostnames`."
                    )

    def _why_not_taken(self, seen: Object) -> str:
        generation = seen["metadata"].get("generation")
        parents: list[Any] = (seen.get("status") or {}).get("parents") or []
        for parent in parents:
            reference = {"namespace": self._place.namespace, **(parent.get("parentRef") or {})}
            if any(reference.get(part) != self._parent[part] for part in ("namespace", "name")):
                continue
            for condition in parent.get("conditions") or []:
                if condition.get("type") != "Accepted":
                    continue
                if condition.get("observedGeneration") == generation:
                    return "" if condition.get("status") == "True" else _REFUSED
        return _WAITING

    def _settle(self, wanted: str, before: Object | None) -> None:
        """Wait until the implementation takes the route; put the one before back if it refuses."""
        began = time.monotonic()
        while (reported := self.observe()) != wanted:
            if reported == f"{wanted}, {_REFUSED}":
                self._put_back(before)
                raise ProviderRefused(
                    f"Gateway {self._name} refuses Firedoor's route {self._object_name} and serves "
                    "on without it; the containment was not made. The Gateway's listeners and its "
                    "controller's log say why."
                )
            if time.monotonic() - began > self._take_timeout_s:
                raise ProviderUnreachable(
                    f"Gateway {self._name} reports version {reported or '(none)'} "
                    f"{self._take_timeout_s:g} s after {wanted} was written; the containment may "
                    "not be in force. It is tried again; see whether its controller runs."
                )
            time.sleep(POLL_S)

    def _put_back(self, before: Object | None) -> None:
        """Restore the route that was there, unless another hand has changed it since."""
        now = self._client.find(self._place, self._object_name)
        if now is None:
            return
        with contextlib.suppress(Conflict):
            if before is None:
                self._client.delete(self._place, now)
            else:
                version = now["metadata"]["resourceVersion"]
                metadata = {**before["metadata"], "resourceVersion": version}
                self._client.replace(self._place, {**before, "metadata": metadata})


def _routes_in(namespace: str) -> Place:
    return Place(
        group=GROUP, version="v1", kind="HTTPRoute", plural="httproutes", namespace=namespace
    )
