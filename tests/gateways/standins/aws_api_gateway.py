"""Amazon API Gateway (REST), on moto: its stages and API keys, and no request that they are for."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from actions.gateway.adapters.aws_api_gateway import AwsApiGateway
from tests.gateways.standins.aws import KEY, REGION, AwsSubject

STAGE = "prod"
OWN_SETTING = "/~1api~1customers~1me/GET"
"""A method that has settings of its own, by the operator's will."""


class AwsApi(AwsSubject):
    """An API of ``/api/orders/{id}`` (by API key), ``/api/customers/me`` and a greedy path."""

    kind = "aws-api-gateway"
    adapter_class = AwsApiGateway
    cut = "actions.gateway.adapters.aws_api_gateway.adapter:AwsApiGateway._update_stage"

    def install(self) -> None:
        made = self.api.create_rest_api(name="orders")
        self.api_id = made["id"]
        self._ids = {"": self.api.get_resources(restApiId=self.api_id)["items"][0]["id"]}
        self._add("/api/orders/{id}", "GET", key=True)
        self._add("/api/orders/{id}", "DELETE", key=True)
        self._add("/api/customers/me", "GET")
        self._add("/api/carts/{cart}", "ANY")
        self._add("/api/rest/{proxy+}", "ANY")
        deployed = self.api.create_deployment(restApiId=self.api_id)
        self.api.create_stage(restApiId=self.api_id, stageName=STAGE, deploymentId=deployed["id"])
        self.patch(
            ("replace", "/*/*/throttling/rateLimit", "500"),
            ("replace", "/*/*/throttling/burstLimit", "100"),
            ("replace", "/*/*/logging/loglevel", "INFO"),
            ("replace", f"{OWN_SETTING}/throttling/rateLimit", "50"),
            ("replace", f"{OWN_SETTING}/metrics/enabled", "true"),
            ("replace", "/variables/theirs", "kept"),
        )
        for other in self.api.get_api_keys()["items"]:
            self.api.delete_api_key(apiKey=other["id"])  # of another subject of this process
        self.keys = {
            name: self.api.create_api_key(name=name, enabled=enabled)["id"]
            for name, enabled in [("partner-7", True), ("partner-8", True), ("retired", False)]
        }

    def _add(self, path: str, method: str, *, key: bool = False) -> None:
        parent = ""
        for part in path.strip("/").split("/"):
            whole = f"{parent}/{part}"
            if whole not in self._ids:
                self._ids[whole] = self.api.create_resource(
                    restApiId=self.api_id, parentId=self._ids[parent], pathPart=part
                )["id"]
            parent = whole
        where = {"restApiId": self.api_id, "resourceId": self._ids[path], "httpMethod": method}
        self.api.put_method(**where, authorizationType="NONE", apiKeyRequired=key)
        self.api.put_integration(**where, type="MOCK")

    @cached_property
    def api(self) -> Any:
        return self.server.client("apigateway")

    def patch(self, *operations: tuple[str, ...]) -> None:
        """Change the stage as an operator does."""
        named = [dict(zip(("op", "path", "value"), each, strict=False)) for each in operations]
        self.api.update_stage(restApiId=self.api_id, stageName=STAGE, patchOperations=named)

    def stage(self) -> dict[str, Any]:
        stage: dict[str, Any] = self.api.get_stage(restApiId=self.api_id, stageName=STAGE)
        return {name: stage[name] for name in ("methodSettings", "variables", "deploymentId")}

    def is_enabled(self, name: str) -> bool:
        return bool(self.api.get_api_key(apiKey=self.keys[name])["enabled"])

    def arguments(self) -> dict[str, Any]:
        return {
            "name": "edge",
            "rest_api_id": self.api_id,
            "stage": STAGE,
            "region": REGION,
            "kept_dir": self.kept_dir,
            "endpoint_url": self.endpoint_url,
            "disable_api_keys": True,
            **KEY,
        }

    def export(self) -> bytes:
        keys = {name: self.is_enabled(name) for name in self.keys}
        return json.dumps([self.stage(), keys], sort_keys=True).encode()

    def edit_theirs(self) -> None:
        self.patch(("replace", f"{OWN_SETTING}/caching/ttlInSeconds", "77"))

    def has_their_edit(self) -> bool:
        settings = self.stage()["methodSettings"][OWN_SETTING[1:]]
        return bool(settings["cacheTtlInSeconds"] == 77)

    def edit_ours(self) -> None:
        self.patch(("replace", f"{OWN_SETTING}/throttling/rateLimit", "4000"))

    def refuse(self) -> None:
        self.server.refuses = "apigateway:PATCH"

    def accept(self) -> None:
        self.server.refuses = ""
        self.server.start()
        self.patch(("replace", f"{OWN_SETTING}/caching/ttlInSeconds", "300"))
