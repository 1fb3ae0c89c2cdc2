"""Istio and a Gateway API implementation, as objects of a stand-in's Kubernetes API."""

from __future__ import annotations

import json
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import yaml

from actions.gateway.adapters.kubernetes import GatewayApiGateway, IstioGateway
from tests.gateways.envoy import Garbage
from tests.gateways.standins.kubernetes import KubernetesApi
from tests.gateways.subject import Subject

ROLES = Path(__file__).resolve().parents[3] / "deploy" / "gateways" / "kubernetes-role.yaml"
NAME = "firedoor-edge"


def role(name: str) -> dict[str, Any]:
    """Return a role of the example that operators are given."""
    found = [each for each in yaml.safe_load_all(ROLES.read_text()) if name in str(each)]
    assert len(found) == 1
    return dict(found[0])


class KubernetesSubject(Subject):
    """Firedoor has the rights of the example role, and no other."""

    role_name: ClassVar[str]
    path: ClassVar[str]
    cut = "requests:Session.request"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.role = role(self.role_name)
        self.api = KubernetesApi(directory, self.role["rules"])
        self.namespace = self.role["metadata"]["namespace"]
        self.objects = self.path.format(namespace=self.namespace)
        self.token_file = directory / "token"
        self.token_file.write_text(f"{self.api.token}\n")
        self.server = self.api.url
        self.api.start()
        self.api.as_operator("POST", self.objects, self.theirs())
        self.gateway = self.adapter()

    @abstractmethod
    def theirs(self) -> dict[str, Any]:
        """Return an object of the operator's own."""

    def arguments(self) -> dict[str, Any]:
        return {
            "name": "edge",
            "server": self.server,
            "token_file": self.token_file,
            "ca_file": self.api.ca_file,
            "namespace": self.namespace,
            "kept_dir": self.directory / "kept",
        }

    def own(self) -> dict[str, Any]:
        """Return Firedoor's object as it is."""
        return self.api.as_operator("GET", f"{self.objects}/{NAME}")

    def start(self) -> None:
        self.api.start()

    def stop(self) -> None:
        self.api.stop()

    def close(self) -> None:
        self.api.close()

    def writes(self) -> object:
        return self.api.writes

    def export(self) -> bytes:
        return json.dumps(self.api.export(), sort_keys=True).encode()

    def edit_theirs(self) -> None:
        self._label_theirs({"edited": "yes"})

    def _label_theirs(self, labels: dict[str, str]) -> None:
        path = f"{self.objects}/{self.theirs()['metadata']['name']}"
        there = self.api.as_operator("GET", path)
        metadata = {**there["metadata"], "labels": labels}
        self.api.as_operator("PUT", path, {**there, "metadata": metadata})

    def has_their_edit(self) -> bool:
        path = f"{self.objects}/{self.theirs()['metadata']['name']}"
        return bool(self.api.as_operator("GET", path)["metadata"]["labels"] == {"edited": "yes"})

    def edit_ours(self) -> None:
        there = self.own()
        spec = {**there["spec"], "rules": there["spec"]["rules"][:1]}
        self.api.as_operator("PUT", f"{self.objects}/{NAME}", {**there, "spec": spec})

    def refuse(self) -> None:
        self.api.refuses = True

    def accept(self) -> None:
        self.api.refuses = False
        self.api.start()
        self._label_theirs({})

    def garble(self) -> None:
        self._garbage = Garbage()
        self.server = self._garbage.url
        self.gateway = self.adapter()

    def ungarble(self) -> None:
        self._garbage.close()
        self.server = self.api.url
        self.gateway = self.adapter()


class Istio(KubernetesSubject):
    """An ingress gateway with a policy of the operator's."""

    kind = "istio"
    adapter_class = IstioGateway
    role_name = "firedoor-istio"
    path = "/apis/security.istio.io/v1/namespaces/{namespace}/authorizationpolicies"

    def theirs(self) -> dict[str, Any]:
        return {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": "theirs", "labels": {}},
            "spec": {"action": "ALLOW", "rules": [{}]},
        }

    def arguments(self) -> dict[str, Any]:
        return {
            **super().arguments(),
            "selector": {"istio": "ingressgateway"},
            "ports": (8080,),
            "issuer": "https://login.acme.example",
            "endpoints": ("GET /api/orders/{order_id}", "GET /api/orders/export"),
        }


class GatewayApi(KubernetesSubject):
    """A Gateway with a route of the operator's, and a controller that takes routes."""

    kind = "gateway-api"
    adapter_class = GatewayApiGateway
    role_name = "firedoor-gateway-api"
    path = "/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes"

    def theirs(self) -> dict[str, Any]:
        parent = {"name": "public", "namespace": "infra"}
        rule = {
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "backendRefs": [{"name": "orders", "port": 8080}],
        }
        return {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "theirs", "labels": {}},
            "spec": {
                "parentRefs": [parent],
                "hostnames": ["api.acme.example"],
                "rules": [rule],
            },
        }

    def arguments(self) -> dict[str, Any]:
        return {
            **super().arguments(),
            "gateway": "public",
            "gateway_namespace": "infra",
            "hostnames": ("api.acme.example",),
            "take_timeout_s": 0.3,
        }
