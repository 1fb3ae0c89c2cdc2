"""Three real Envoy nodes that take their routes from Firedoor's own control plane."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actions.gateway import EnvoyFleet
from bot.errors import ProviderUnreachable
from bot.sandbox.envoy import EnvoyFiles, prepare
from tests.gateways.ads_node import AdsNode
from tests.gateways.envoy import CLIENT_HEADER, EnvoyRig, checking_keys
from tests.gateways.upstream import until

NODES = ("edge-1", "edge-2", "edge-3")


@dataclass
class EnvoyNode:
    """One Envoy of the fleet."""

    port: int
    admin_port: int
    files: EnvoyFiles
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self.process is None:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    self.files.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class EnvoyFleetRig(EnvoyRig):
    """
    Envoy as ``deploy/gateways/envoy-ads.example.yaml`` shows it, three times, and one process of
    Firedoor that drives: this one. Requests go to the first node, unless inside of `at`.

    ``files`` are of the first node, but its routes are Firedoor's snapshot.
    """

    kind = "envoy-fleet"
    adapter_class = EnvoyFleet
    cut = "actions.gateway.own_file:OwnFile.replace"
    starts_alone = False

    plane: EnvoyFleet | None = None

    def install(self) -> None:
        self.listen = f"127.0.0.1:{self.take_port()}"
        self.nodes = {name: self._node(name) for name in NODES}
        first = self.nodes[NODES[0]].files
        self.files = dataclasses.replace(first, rds_file=self.directory / "firedoor" / "edge.json")
        self._base = self.files.base_routes.read_text()

    def _node(self, name: str) -> EnvoyNode:
        is_first = name == NODES[0]
        port, admin_port = (
            (self.port, self.admin_port) if is_first else (self.take_port(), self.take_port())
        )
        files = prepare(
            self.directory / name,
            listen_port=port,
            admin_port=admin_port,
            upstream_port=self.upstream_port,
            jwks=self.tokens.jwks(),
        )
        bootstrap = json.loads(files.bootstrap.read_text())
        files.bootstrap.write_text(json.dumps(of_fleet(bootstrap, name, self.listen)))
        return EnvoyNode(port, admin_port, files, self.directory / f"{name}.log")

    def arguments(self) -> dict[str, Any]:
        is_running = any(node.process for node in self.nodes.values())
        return {
            "name": self.name,
            "base_routes": self.files.base_routes,
            "snapshot": self.files.rds_file,
            "listen": self.listen,
            "expected_nodes": NODES,
            "admin_urls": {
                name: f"http://127.0.0.1:{node.admin_port}" for name, node in self.nodes.items()
            },
            "endpoints": tuple(self.endpoints),
            "api_key_header": CLIENT_HEADER,
            # How long a gateway that is down is waited for is not what is tested.
            "take_timeout_s": 5.0 if is_running else 0.2,
        }

    # --- running ---------------------------------------------------------------------------------

    def restart_firedoor(self) -> None:
        self.stop_firedoor()
        self.gateway.close()
        super().restart_firedoor()
        self.plane = self.gateway
        self.plane.prepare()

    def stop_firedoor(self) -> None:
        if self.plane is not None:
            self.plane.close()
            self.plane = None

    def leave(self) -> None:
        self.stop_firedoor()

    def start(self) -> None:
        for node in self.nodes.values():
            node.start()
        until(self.is_ready, "the nodes to be ready")

    def is_ready(self) -> bool:
        for node in self.nodes.values():
            assert node.process is not None
            assert node.process.poll() is None, node.log.read_text()[-4000:]
        try:
            are_alike = "but" not in self.gateway.observe()
            return are_alike and self.statuses("/health", None) == [200] * len(NODES)
        except (ProviderUnreachable, OSError, http.client.HTTPException):
            return False

    def stop(self) -> None:
        for node in self.nodes.values():
            node.stop()
        if self.plane is not None:
            until(lambda: not self.connected(), "the nodes to be missed")

    def close(self) -> None:
        for node in self.nodes.values():
            node.stop()
        self.stop_firedoor()
        super().close()

    def connected(self) -> set[str]:
        """Return which nodes the control plane has a stream of."""
        observed = self.files.rds_file.parent / ".firedoor" / "edge.json.observed"
        return set(json.loads(observed.read_text())["nodes"])

    @contextlib.contextmanager
    def at(self, name: str) -> Iterator[None]:
        """Send requests to this node."""
        first, self.port = self.port, self.nodes[name].port
        try:
            yield
        finally:
            self.port = first

    def statuses(self, path: str, username: str | None = "probe-owner") -> list[int]:
        """Return what each node answers."""
        found = []
        for name in NODES:
            with self.at(name):
                found.append(self.status(path, username))
        return found

    # --- trouble ---------------------------------------------------------------------------------

    def garble(self) -> None:
        """Have nodes that acknowledge what nobody has sent to them."""
        self.stop()
        for name in NODES:
            with AdsNode(self.listen, name, acks=False) as node:
                response = node.until_received(1)
                node.say(version="0123456789ab", response_nonce=response.nonce)
                node.until_ended()
        until(lambda: not self.connected(), "the nodes to be put out")

    def ungarble(self) -> None:
        self.start()


def of_fleet(bootstrap: dict[str, Any], name: str, control_plane: str) -> dict[str, Any]:
    """Return a bootstrap that takes its routes over ADS, and checks API keys."""
    host, _, port = control_plane.rpartition(":")
    resources = bootstrap["static_resources"]
    (listener,) = resources["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["rds"]["config_source"] = {
        "ads": {},
        "resource_api_version": "V3",
        "initial_fetch_timeout": "0s",
    }
    manager["http_filters"] = [*checking_keys(), *manager["http_filters"]]
    http2 = {"explicit_http_config": {"http2_protocol_options": {}}}
    options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    address = {"socket_address": {"address": host, "port_value": int(port)}}
    resources["clusters"].append(
        {
            "name": "firedoor",
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": options,
                    **http2,
                }
            },
            "load_assignment": {
                "cluster_name": "firedoor",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
            },
        }
    )
    back_off = {"base_interval": "0.1s", "max_interval": "0.5s"}
    service = {
        "envoy_grpc": {
            "cluster_name": "firedoor",
            "retry_policy": {"retry_back_off": back_off},
        }
    }
    ads = {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [service]}
    return {
        **bootstrap,
        "node": {"id": name, "cluster": "edge"},
        "dynamic_resources": {"ads_config": ads},
    }
