"""How long a change of controls takes until every node of a large Envoy fleet has acknowledged it.

The nodes are simulated: raw streams of one other process, which acknowledge as Envoy does but
apply nothing. So the figure is what Firedoor itself takes.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from actions.gateway import EnvoyFleet
from actions.gateway.adapters.envoy.rendering import ROUTE_CONFIGURATION
from bot.errors import ProviderUnreachable
from bot.model.containment import Control, ControlKind
from bot.sandbox.envoy import ROUTES_NAME, base_routes
from bot.sandbox.processes import Ports, child_environment
from bot.sandbox.responders import until

NODES = 50
CHANGES = 20
CLOSE = Control(kind=ControlKind.CLOSE, method="GET", path="/api/orders/{order_id}")


def measure_fleet(folder: Path) -> dict[str, float]:
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / "base-routes.json"
    base.write_text(json.dumps(base_routes()))
    ports = Ports()
    address = f"127.0.0.1:{ports.take()}"
    names = [f"edge-{number}" for number in range(NODES)]
    fleet = EnvoyFleet(
        name="edge",
        base_routes=base,
        snapshot=folder / "fleet" / "edge.json",
        listen=address,
        expected_nodes=names,
    )
    fleet.prepare()
    nodes = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.fleet", address, *names],
        cwd=Path(__file__).resolve().parents[2],
        env=child_environment(),
    )
    try:
        until(lambda: _observed(fleet) == fleet.version_of(()), "all nodes")
        took_ms = [_change_ms(fleet, number) for number in range(CHANGES)]
    finally:
        nodes.kill()
        nodes.wait()
        fleet.close()
        ports.close()
    return {
        "fleet_nodes": float(NODES),
        "fleet_ack_p50_ms": statistics.median(took_ms),
        "fleet_ack_max_ms": max(took_ms),
    }


def _observed(fleet: EnvoyFleet) -> str:
    try:
        return fleet.observe()
    except ProviderUnreachable:
        return ""


def _change_ms(fleet: EnvoyFleet, number: int) -> float:
    controls = () if number % 2 else (CLOSE,)
    began = time.perf_counter()
    fleet.converge(controls)
    return (time.perf_counter() - began) * 1e3


async def _run_nodes(address: str, names: list[str]) -> None:
    await asyncio.gather(*(_run_node(address, name) for name in names))


async def _run_node(address: str, name: str) -> None:
    """Be one node on a connection of its own, and acknowledge everything at once."""
    import grpc.aio
    from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2  # type: ignore

    def request(version: str = "", nonce: str = "") -> Any:
        return discovery_pb2.DiscoveryRequest(
            node={"id": name},
            type_url=ROUTE_CONFIGURATION,
            resource_names=[ROUTES_NAME],
            version_info=version,
            response_nonce=nonce,
        )

    # Else the channels of one process share a connection, and nodes do not.
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        stream = stub.StreamAggregatedResources()
        await stream.write(request())
        while True:
            response = await stream.read()
            await stream.write(request(response.version_info, response.nonce))


if __name__ == "__main__":
    asyncio.run(_run_nodes(sys.argv[1], sys.argv[2:]))
