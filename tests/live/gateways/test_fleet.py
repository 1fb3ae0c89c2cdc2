"""Three real Envoy nodes, and Firedoor's control plane in their middle."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.errors import ProviderRefused, ProviderUnreachable
from bot.model.answers import CLOSED
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind
from tests.gateways.ads_node import AdsNode
from tests.gateways.certificates import Authority
from tests.gateways.envoy_fleet import NODES, EnvoyFleetRig
from tests.gateways.upstream import until

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "deploy" / "gateways" / "envoy-ads.example.yaml"
PATH = "/api/orders/{order_id}"
ORDER = "/api/orders/4001"
CLOSE = Control(kind=ControlKind.CLOSE, method="GET", path=PATH)
OTHER = Control(kind=ControlKind.CLOSE, method="GET", path="/api/customers/me")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyFleetRig]:
    rig = EnvoyFleetRig(tmp_path_factory.mktemp("fleet"))
    rig.start()
    yield rig
    rig.close()


@pytest.fixture
def fleet(running: EnvoyFleetRig) -> EnvoyFleetRig:
    """Three nodes and the control plane, with no control in force."""
    running.accept()
    if running.plane is None:
        running.restart_firedoor()
    running.start()
    running.gateway = running.plane
    running.gateway.converge(())
    return running


class TestTogether:
    def test_all_nodes_are_closed_when_converge_returns(self, fleet: EnvoyFleetRig) -> None:
        """
        From the moment on that it is said to be closed, no node serves the endpoint; and from the
        moment on that it is said to be open, all do.
        """
        for _ in range(10):
            fleet.gateway.converge([CLOSE])
            assert fleet.statuses(ORDER) == [503] * 3
            fleet.gateway.converge([])
            assert fleet.statuses(ORDER) == [200] * 3

    def test_open_connections_are_closed_out_too(self, fleet: EnvoyFleetRig) -> None:
        """
        Callers that keep their connections to each node get 503 on them.
        """
        headers = {"Authorization": f"Bearer {fleet.tokens.make('probe-owner')}"}
        lines = [
            http.client.HTTPConnection("127.0.0.1", node.port, timeout=5)
            for node in fleet.nodes.values()
        ]

        def ask() -> list[int]:
            found = []
            for line in lines:
                line.request("GET", ORDER, headers=headers)
                answer = line.getresponse()
                answer.read()
                found.append(answer.status)
            return found

        assert ask() == [200] * 3
        fleet.gateway.converge([CLOSE])
        assert ask() == [503] * 3
        for line in lines:
            line.close()

    def test_shadow_counts_on_all_nodes(self, fleet: EnvoyFleetRig) -> None:
        """
        What a shadow would refuse is the sum over the nodes.
        """
        everybody = Principal(kind=PrincipalKind.IP, value="127.0.0.0/8")
        shadow = Control(
            kind=ControlKind.SHADOW,
            method="GET",
            path=PATH,
            would=ControlKind.BLOCK,
            principals=(everybody,),
        )
        fleet.gateway.converge([shadow])
        before = fleet.gateway.shadow_hits(shadow)

        assert fleet.statuses(ORDER) + fleet.statuses(ORDER) == [200] * 6

        assert fleet.gateway.shadow_hits(shadow) - before == 6


class TestRefusal:
    def test_bad_routes_are_refused_by_all(self, fleet: EnvoyFleetRig) -> None:
        """
        A regular expression that is none is refused by every node, in Envoy's own words; what was
        in force serves on, and is what a node gets that starts afterwards.
        """
        before = fleet.gateway.converge([CLOSE])
        base = json.loads(fleet.files.base_routes.read_text())
        bad = {"match": {"safe_regex": {"regex": "(["}}, "route": {"cluster": "orders"}}
        base["virtual_hosts"][0]["routes"].insert(0, bad)
        fleet.files.base_routes.write_text(json.dumps(base))

        with pytest.raises(ProviderRefused) as refused:
            fleet.gateway.converge([CLOSE, OTHER])

        assert "words on edge-1, edge-2, edge-3: missing ]: [" in str(refused.value)
        assert f"serves on with {before};" in str(refused.value)
        assert fleet.gateway.observe() == before
        assert fleet.statuses(ORDER) == [503] * 3
        assert fleet.statuses("/api/customers/me") == [200] * 3
        fleet.nodes["edge-2"].stop()
        fleet.start()
        assert fleet.statuses(ORDER) == [503] * 3

    def test_one_odd_node_stops_all(self, fleet: EnvoyFleetRig) -> None:
        """
        If one node cannot take the routes, none keeps them: half a fleet is not closed in secret.
        """
        before = fleet.gateway.converge([OTHER])
        with AdsNode(fleet.listen, "edge-9", acks=False) as odd:
            odd.ack(odd.until_received(1))
            until(lambda: fleet.gateway.observe() == before, "the odd node")
            odd.refuses = "no such filter"

            with pytest.raises(ProviderRefused, match="words on edge-9: no such filter"):
                fleet.gateway.converge([OTHER, CLOSE])

            assert fleet.statuses(ORDER) == [200] * 3
            assert fleet.statuses("/api/customers/me") == [503] * 3


class TestDown:
    def test_node_that_was_down_starts_closed(self, fleet: EnvoyFleetRig) -> None:
        """
        A node that is missed is named; the others are closed, and it is, from its first request
        on.
        """
        fleet.nodes["edge-3"].stop()
        until(lambda: "edge-3" not in fleet.connected(), "the missing node")

        with pytest.raises(ProviderUnreachable, match="2 of its nodes, but edge-3 is not connect"):
            fleet.gateway.converge([CLOSE])
        for name in ("edge-1", "edge-2"):
            with fleet.at(name):
                assert fleet.status(ORDER) == 503

        fleet.nodes["edge-3"].start()
        with fleet.at("edge-3"):
            until(lambda: _first(fleet) is not None, "the first answer")
            assert _first(fleet) == 503
        assert fleet.gateway.converge([CLOSE]) == fleet.gateway.observe()

    def test_block_stays_while_firedoor_is_down(self, fleet: EnvoyFleetRig) -> None:
        """
        Nodes keep their routes without a control plane, and are back with it when it is.
        """
        closed = fleet.gateway.converge([CLOSE])
        fleet.stop_firedoor()

        assert fleet.statuses(ORDER) == [503] * 3
        with pytest.raises(ProviderUnreachable, match="No process"):
            fleet.adapter().observe()

        fleet.restart_firedoor()
        until(lambda: _observed(fleet) == closed, "the nodes to be back")
        fleet.gateway.converge([])
        assert fleet.statuses(ORDER) == [200] * 3

    def test_node_that_starts_without_firedoor_serves_nobody(self, fleet: EnvoyFleetRig) -> None:
        """
        With `initial_fetch_timeout: 0s` a node without routes takes no connection, so it opens
        nothing that is closed; it does once Firedoor is back, and is closed then.
        """
        fleet.gateway.converge([CLOSE])
        fleet.stop_firedoor()
        fleet.nodes["edge-2"].stop()
        fleet.nodes["edge-2"].start()
        admin = fleet.nodes["edge-2"].admin_port
        until(lambda: _ready(admin) == 503, "the node that has nothing to serve")

        with fleet.at("edge-2"):
            assert _first(fleet) is None

        fleet.restart_firedoor()
        until(lambda: _ready(admin) == 200, "the node to have routes")
        assert fleet.statuses(ORDER) == [503] * 3

    def test_another_process_takes_over(self, fleet: EnvoyFleetRig) -> None:
        """
        When the process that listens ends, another one that drives has the nodes.
        """
        closed = fleet.gateway.converge([CLOSE])
        standby = fleet.adapter()
        standby.prepare()
        assert standby.observe() == closed

        fleet.stop_firedoor()
        fleet.plane = fleet.gateway = standby

        until(lambda: _observed(fleet) == closed, "the nodes to change over")
        assert standby.converge([]) == standby.version_of([])
        assert fleet.statuses(ORDER) == [200] * 3

    def test_second_stream_of_a_node_replaces_the_first(self, fleet: EnvoyFleetRig) -> None:
        """
        Who comes last under a node's name is the node; Envoy comes again, and is it then.
        """
        with AdsNode(fleet.listen, "edge-1") as other:
            other.until_received(1)
            other.until_ended()

        assert fleet.gateway.converge([CLOSE]) == fleet.gateway.observe()
        assert fleet.statuses(ORDER) == [503] * 3


class TestTls:
    def test_nodes_and_firedoor_check_each_other(self, tmp_path: Path) -> None:
        """
        Envoy with a certificate of the CA is given routes; a stranger is given nothing.
        """
        rig = TlsRig(tmp_path / "rig")
        try:
            rig.start()
            rig.gateway.converge([CLOSE])
            assert rig.statuses(ORDER) == [503] * 3
            with AdsNode(rig.listen, "edge-1") as stranger:
                stranger.until_ended()
                assert stranger.received == []
        finally:
            rig.close()


class TlsRig(EnvoyFleetRig):
    """Nodes set up as the example says, with TLS to Firedoor."""

    def install(self) -> None:
        self.authority = Authority(self.directory / "authority")
        super().install()
        (transport,) = [
            cluster["transport_socket"]
            for cluster in _example()["static_resources"]["clusters"]
            if "transport_socket" in cluster
        ]
        for name, node in self.nodes.items():
            certificate, key = self.authority.issue(name)
            text = (
                json.dumps(transport)
                .replace("/etc/envoy/firedoor-ca.pem", str(self.authority.folder / "ca.pem"))
                .replace("/etc/envoy/node.pem", str(certificate))
                .replace("/etc/envoy/node.key", str(key))
                .replace("firedoor.internal", "server")
            )
            bootstrap = json.loads(node.files.bootstrap.read_text())
            bootstrap["static_resources"]["clusters"][-1]["transport_socket"] = json.loads(text)
            node.files.bootstrap.write_text(json.dumps(bootstrap))

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), **self.authority.server()}


class TestExample:
    def test_it_is_what_is_tried_here(self, fleet: EnvoyFleetRig) -> None:
        """
        Filters, path normalisation and route source of the example are those of the nodes here.
        """
        tried = json.loads(fleet.nodes["edge-1"].files.bootstrap.read_text())
        example = _example()
        ours, theirs = _manager(example), _manager(tried)

        assert ours.keys() == theirs.keys()
        for key in ours.keys() - {"http_filters", "access_log"}:
            assert ours[key] == theirs[key], key
        # The nodes here check API keys too, and have other tokens.
        names = [each["name"] for each in ours["http_filters"]]
        assert names == [each["name"] for each in theirs["http_filters"]][2:]
        assert example["node"].keys() == tried["node"].keys()
        ads, tried_ads = (each["dynamic_resources"]["ads_config"] for each in (example, tried))
        for each in (ads, tried_ads):
            (service,) = each["grpc_services"]
            service["envoy_grpc"]["retry_policy"]["retry_back_off"] = {}
        assert ads == tried_ads

    def test_envoy_accepts_it(self, fleet: EnvoyFleetRig, tmp_path: Path) -> None:
        """
        The real Envoy reads it without complaint.
        """
        authority = Authority(tmp_path / "authority")
        certificate, key = authority.issue("edge-1")
        keys = tmp_path / "jwks.json"
        keys.write_text(json.dumps(fleet.tokens.jwks()))
        text = (
            EXAMPLE.read_text()
            .replace("/etc/envoy/firedoor-ca.pem", str(authority.folder / "ca.pem"))
            .replace("/etc/envoy/node.pem", str(certificate))
            .replace("/etc/envoy/node.key", str(key))
            .replace("/etc/envoy/jwks.json", str(keys))
            .replace("/var/log/envoy", str(tmp_path))
        )
        (tmp_path / "envoy.yaml").write_text(text)
        envoy = fleet.nodes["edge-1"].files.argv[0]

        ended = subprocess.run(
            [envoy, "--mode", "validate", "-c", str(tmp_path / "envoy.yaml")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert ended.returncode == 0, ended.stderr[-2000:]

    def test_answers_are_those_of_every_gateway(self, fleet: EnvoyFleetRig) -> None:
        """
        A closed endpoint gives its callers the same problem document on each node.
        """
        fleet.gateway.converge([CLOSE])
        for name in NODES:
            with fleet.at(name):
                assert fleet.get(ORDER).body.decode() == CLOSED.body


def _first(fleet: EnvoyFleetRig) -> int | None:
    """Return the status of one request; None if nobody takes the connection."""
    try:
        return fleet.status(ORDER)
    except (OSError, http.client.HTTPException):
        return None


def _observed(fleet: EnvoyFleetRig) -> str:
    try:
        return str(fleet.gateway.observe())
    except ProviderUnreachable:
        return ""


def _ready(admin_port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", admin_port, timeout=5)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def _example() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    return found


def _manager(bootstrap: dict[str, Any]) -> dict[str, Any]:
    """Return the connection manager of a bootstrap's only listener."""
    (listener,) = bootstrap["static_resources"]["listeners"]
    manager: dict[str, Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return manager
