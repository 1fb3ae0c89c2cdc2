"""The control plane of a fleet, with nodes that are no Envoys and say what the test says."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.config.route.v3 import route_pb2  # type: ignore[import-untyped]
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2  # type: ignore[import-untyped]

from actions.gateway import EnvoyFleet
from bot.action import Writing
from bot.errors import BadInput, ProviderRefused, ProviderUnreachable
from bot.model.containment import Control, ControlKind
from bot.sandbox.processes import Ports
from tests.gateways.ads_node import AdsNode
from tests.gateways.certificates import Authority
from tests.gateways.upstream import until
from tests.unit.actions.gateway.test_envoy import BASE

CLOSE = Control(kind=ControlKind.CLOSE, method="GET", path="/api/orders/{order_id}")
OTHER = Control(kind=ControlKind.CLOSE, method="GET", path="/api/me")
SHADOW = CLOSE.model_copy(update={"kind": ControlKind.SHADOW, "would": ControlKind.CLOSE})


class Site:
    """A folder and an address, and what is made for them; all of it is closed at the end."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        ports = Ports()
        stack.callback(ports.close)
        self.stack, self.folder = stack, folder
        self.address = f"127.0.0.1:{ports.take()}"
        self.base, self.snapshot = folder / "base.json", folder / "own" / "edge.json"
        self.observed = folder / "own" / ".firedoor" / "edge.json.observed"
        self.write_base(BASE)

    def write_base(self, base: Any) -> None:
        self.base.write_text(json.dumps(base))

    def fleet(self, **changes: Any) -> EnvoyFleet:
        arguments: dict[str, Any] = {
            "name": "edge",
            "base_routes": self.base,
            "snapshot": self.snapshot,
            "listen": self.address,
            "take_timeout_s": 0.3,
        }
        fleet = EnvoyFleet(**{**arguments, **changes})
        self.stack.callback(fleet.close)
        return fleet

    def listening(self, **changes: Any) -> EnvoyFleet:
        fleet = self.fleet(**changes)
        fleet.prepare()
        return fleet

    def node(self, name: str, **how: Any) -> AdsNode:
        return self.stack.enter_context(AdsNode(self.address, name, **how))

    def written(self) -> str:
        return str(json.loads(self.snapshot.read_text())["version_info"])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


def until_taken(fleet: EnvoyFleet) -> None:
    """Wait until all nodes that connect have the operator's routes."""

    def is_taken() -> bool:
        try:
            return fleet.observe() == fleet.version_of([])
        except ProviderUnreachable:
            return False

    until(is_taken, "the first routes")


def meanwhile(call: Callable[[], object]) -> Callable[[], Exception | None]:
    """Call in another thread; return what waits for its end and returns what it raised."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            call()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def ended() -> Exception | None:
        thread.join(timeout=10)
        assert not thread.is_alive()
        return raised[0] if raised else None

    return ended


class TestConverge:
    def test_all_nodes_have_it_when_it_returns(self, site: Site) -> None:
        """
        The version is returned once every node has acknowledged the routes that it stands for.
        """
        fleet = site.listening()
        nodes = [site.node(f"edge-{n}") for n in range(5)]
        for node in nodes:
            node.until_received(1)
        until_taken(fleet)

        version = fleet.converge([CLOSE])

        assert version == fleet.version_of([CLOSE]) == fleet.observe() == site.written()
        for node in nodes:
            (resource,) = node.received[-1].resources
            sent = route_pb2.RouteConfiguration.FromString(resource.value)
            names = [route.name for route in sent.virtual_hosts[0].routes]
            assert "firedoor close GET " + CLOSE.path in names

    def test_nobody_is_there(self, site: Site) -> None:
        """
        Without a node nothing is in force; the routes wait for the first that comes.
        """
        fleet = site.listening(expected_nodes=("edge-1",))

        with pytest.raises(ProviderUnreachable, match=r"No node .*expected: edge-1"):
            fleet.converge([CLOSE])

        node = site.node("edge-1")
        assert node.until_received(1).version_info == fleet.version_of([CLOSE])

    def test_silent_node_is_named(self, site: Site) -> None:
        """
        A node that does not answer in time keeps the call from saying that it is done.
        """
        fleet = site.listening()
        site.node("edge-1")
        until_taken(fleet)
        silent = site.node("edge-2", acks=False, version="0123456789ab")
        silent.until_received(1)

        with pytest.raises(ProviderUnreachable, match="but edge-2 has 0123456789ab; there"):
            fleet.converge([CLOSE])

        assert fleet.observe() == f"{fleet.version_of([CLOSE])}, but edge-2 has 0123456789ab"
        silent.ack(silent.until_received(2))
        assert fleet.converge([CLOSE]) == fleet.observe()

    def test_expected_node_is_missed(self, site: Site) -> None:
        """
        The others get the routes; the one that is not there is named, and gets them when it comes.
        """
        fleet = site.listening(expected_nodes=("edge-1", "edge-2"))
        here = site.node("edge-1")
        here.until_received(1)

        with pytest.raises(ProviderUnreachable, match=r"one of its nodes, but edge-2 is not con"):
            fleet.converge([CLOSE])

        assert here.received[-1].version_info == fleet.version_of([CLOSE])
        assert "but edge-2 is not connected" in fleet.observe()
        site.node("edge-2")
        until(lambda: fleet.observe() == fleet.version_of([CLOSE]), "the node that came late")

    def test_long_list_of_nodes_is_cut(self, site: Site) -> None:
        """
        A message names some nodes and counts the rest.
        """
        fleet = site.listening(expected_nodes=[f"edge-{n:03}" for n in range(100)])
        site.node("edge-000").until_received(1)

        with pytest.raises(
            ProviderUnreachable, match=r"edge-020 is not connected; and 79 more; there"
        ):
            fleet.converge([CLOSE])


class TestRefusal:
    def test_one_node_is_enough(self, site: Site) -> None:
        """
        What one node refuses is taken back from all, on disk too; who refused and why is said.
        """
        fleet = site.listening(take_timeout_s=5.0)
        good, bad = site.node("edge-1"), site.node("edge-2", acks=False)
        bad.ack(bad.until_received(1))
        before = fleet.version_of([])
        until_taken(fleet)
        ended = meanwhile(lambda: fleet.converge([CLOSE]))

        bad.refuse(bad.until_received(2), "Only \x1b[1mgood\x1b[0m routes.", kept=before)
        bad.ack(bad.until_received(3))

        error = ended()
        assert isinstance(error, ProviderRefused)
        assert f"serves on with {before};" in str(error)
        assert "words on edge-2: Only [1mgood [0m routes. Look at" in str(error)
        assert "edge-1" not in str(error)
        assert [each.version_info for each in good.received] == [
            before,
            fleet.version_of([CLOSE]),
            before,
        ]
        assert fleet.observe() == before == site.written()

    def test_what_others_hold_is_not_let_go_by_a_late_refusal(self, site: Site) -> None:
        """
        A closed endpoint is not opened again because a node that came later refuses the routes.
        """
        fleet = site.listening()
        site.node("edge-1").until_received(1)
        closed = fleet.converge([CLOSE])
        late = site.node("edge-2", acks=False)

        late.refuse(late.until_received(1), "too old for this")

        until(lambda: "edge-2 has none" in fleet.observe(), "the refusal")
        assert fleet.observe().startswith(closed)
        with pytest.raises(ProviderRefused, match="on edge-2: too old for this"):
            fleet.converge([CLOSE])
        assert site.written() == closed

    def test_refusal_after_a_silence_goes_back_no_further_than_what_was_taken(
        self, site: Site
    ) -> None:
        """
        Routes that some node has taken are what the next ones are measured against, though others
        were silent.
        """
        fleet = site.listening(expected_nodes=("edge-1", "edge-2"), take_timeout_s=5.0)
        node = site.node("edge-1", acks=False)
        node.ack(node.until_received(1))
        closing = meanwhile(lambda: fleet.converge([CLOSE]))
        node.ack(node.until_received(2))
        assert isinstance(closing(), ProviderUnreachable)

        more = meanwhile(lambda: fleet.converge([CLOSE, OTHER]))
        node.refuse(node.until_received(3), "no", kept=fleet.version_of([CLOSE]))
        node.ack(node.until_received(4))

        assert isinstance(more(), ProviderRefused)
        assert site.written() == fleet.version_of([CLOSE])

    def test_refused_routes_are_not_served_after_a_crash(self, site: Site) -> None:
        """
        If Firedoor dies before it learns of the refusal, the next start goes back by itself.
        """
        fleet = site.listening()
        node = site.node("edge-1", acks=False)
        node.ack(node.until_received(1))
        before = fleet.version_of([])
        with pytest.raises(ProviderUnreachable):
            fleet.converge([CLOSE])
        fleet.close()
        node.close()
        site.listening()

        node = site.node("edge-1", acks=False, version=before)
        node.refuse(node.until_received(1), "no", kept=before)

        assert node.until_received(2).version_info == before

    def test_routes_that_no_node_could_read(self, site: Site) -> None:
        """
        What is no route configuration, or has an extension that nobody knows, is not even written.
        """
        fleet = site.listening()
        before = site.snapshot.read_bytes()

        for base in (
            {**BASE, "no_such_field": 1},
            {**BASE, "typed_per_filter_config": {"x": {"@type": "type.googleapis.com/a.b.C"}}},
        ):
            site.write_base(base)
            with pytest.raises(BadInput, match="nothing was done"):
                fleet.converge([CLOSE])

        assert site.snapshot.read_bytes() == before


class TestSeveralProcesses:
    def test_who_does_not_listen_writes_and_looks(self, site: Site) -> None:
        """
        A command beside `firedoor serve` sees what its nodes report, and can have them changed.
        """
        fleet = site.listening()
        site.node("edge-1").until_received(1)

        other = site.fleet(take_timeout_s=5.0)

        assert other.converge([CLOSE]) == other.observe() == fleet.observe()

    def test_nobody_listens(self, site: Site) -> None:
        """
        What was reported once counts no more when nobody listens; the routes are written all the
        same.
        """
        fleet = site.listening()
        site.node("edge-1").until_received(1)
        until_taken(fleet)
        fleet.close()
        other = site.fleet()

        with pytest.raises(ProviderUnreachable, match=r"No process .*firedoor serve"):
            other.observe()
        with pytest.raises(ProviderUnreachable, match="No process"):
            other.converge([CLOSE])

        assert site.written() == other.version_of([CLOSE])

    @pytest.mark.parametrize(
        "content", [b"", b"[]", b'{"nodes": {"a": 1}}', b"\xff", b'{"stamp": [1]}']
    )
    def test_report_that_cannot_be_read(self, site: Site, content: bytes) -> None:
        """
        A damaged report is no report.
        """
        site.listening()
        site.observed.write_bytes(content)

        with pytest.raises(ProviderUnreachable, match="cannot be read"):
            site.fleet().observe()

    def test_one_listens_and_another_takes_over(self, site: Site) -> None:
        """
        Of two processes that drive one has the nodes; when it ends, the other has them with its
        next look.
        """
        first = site.listening()
        second = site.listening()
        site.node("edge-1").until_received(1)
        until_taken(second)

        first.close()
        with pytest.raises(ProviderUnreachable, match="No node"):
            second.observe()

        site.node("edge-1").until_received(1)
        assert second.converge([CLOSE]) == second.observe()

    def test_nodes_of_before_a_restart_are_not_forgotten(self, site: Site) -> None:
        """
        Right after a start, one node that is back is not taken for all of the fleet.
        """
        fleet = site.listening()
        one, two = site.node("edge-1"), site.node("edge-2")
        until_taken(fleet)
        until(lambda: "edge-2" in site.observed.read_text(), "the published report")
        fleet.close()
        one.close()
        two.close()

        fleet = site.listening()
        site.node("edge-1").until_received(1)

        with pytest.raises(ProviderUnreachable, match="edge-2 is not back since Firedoor's start"):
            fleet.converge([CLOSE])
        site.node("edge-2").until_received(1)
        assert fleet.converge([CLOSE]) == fleet.observe()

    def test_address_that_another_program_has(self, site: Site) -> None:
        """
        A start that cannot have its address says so, and leaves nothing half started.
        """
        site.listening()
        elsewhere = site.fleet(snapshot=site.folder / "two" / "edge.json")

        with pytest.raises(BadInput, match=r"cannot listen .*nothing was started"):
            elsewhere.prepare()
        with pytest.raises(ProviderUnreachable, match="cannot listen"):
            elsewhere.observe()

    def test_process_that_does_not_close_it_ends_all_the_same(self, site: Site) -> None:
        """
        A listening control plane keeps no process alive.
        """
        arguments = (str(site.base), str(site.snapshot), site.address)
        program = (
            "import sys; from pathlib import Path; from actions.gateway import EnvoyFleet\n"
            "base, own, listen = sys.argv[1:]\n"
            "EnvoyFleet(name='edge', base_routes=Path(base), snapshot=Path(own), listen=listen)"
            ".prepare()"
        )

        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", program, *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

        assert (ended.returncode, ended.stderr) == (0, "")


class TestLoading:
    def test_commands_load_no_grpc(self) -> None:
        """
        Whoever has no fleet needs neither the extra nor the time to load it.
        """
        program = (
            "import sys, actions.all\n"
            "print(sorted({'asyncio', 'envoy', 'google', 'grpc'} & set(sys.modules)))"
        )

        loaded = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        )

        assert loaded.stdout == "[]\n"

    def test_without_the_extra(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Where gRPC is not installed, the message says what to install.
        """
        monkeypatch.setitem(sys.modules, "grpc.aio", None)

        with pytest.raises(BadInput, match=r"firedoor\[envoy-ads\]"):
            site.fleet().prepare()


class TestSnapshot:
    def test_first_is_the_operators(self, site: Site) -> None:
        """
        A fleet that was never set up gets the operator's routes; another start changes nothing.
        """
        fleet = site.listening()
        assert site.written() == fleet.version_of([])
        site.node("edge-1").until_received(1)
        fleet.converge([CLOSE])
        fleet.close()

        again = site.listening()

        assert site.written() == again.version_of([CLOSE])
        assert site.node("edge-1").until_received(1).version_info == again.version_of([CLOSE])

    def test_another_hands_edit_reaches_no_node(self, site: Site) -> None:
        """
        Routes that Firedoor has not written are given to nobody, are seen, and are kept when they
        are replaced.
        """
        fleet = site.listening()
        node = site.node("edge-1")
        node.until_received(1)
        closed = fleet.converge([CLOSE])
        edited = json.loads(site.snapshot.read_text())
        edited["resources"][0]["virtual_hosts"][0]["routes"] = []
        site.snapshot.write_text(json.dumps(edited))

        assert fleet.observe() == f"{closed}, edited"
        told: list[str] = []
        assert fleet.converge([CLOSE], Writing(displaced=told.append)) == fleet.observe()

        assert {each.version_info for each in node.received} == {fleet.version_of([]), closed}
        assert len(told) == 1
        assert "was replaced" in told[0]

    def test_folder_that_cannot_be_written(self, site: Site) -> None:
        """
        Trouble with the disk is said as such.
        """
        (site.folder / "own").write_text("a file, where the folder should be")

        with pytest.raises(ProviderUnreachable, match=r"own/edge\.json .*Mend the disk"):
            site.fleet().observe()
        with pytest.raises(ProviderUnreachable, match=r"own/edge\.json .*Mend the disk"):
            site.fleet().converge([CLOSE])


class TestListen:
    @pytest.mark.parametrize(
        ("address", "message"),
        [
            ("0.0.0.0:18000", "without TLS"),
            ("10.1.2.3:18000", "without TLS"),
            ("[::]:18000", "without TLS"),
            ("edge.internal:18000", "no address and port"),
            ("127.0.0.1", "no address and port"),
            ("", "no address and port"),
        ],
    )
    def test_plain_is_for_this_machine_only(self, site: Site, address: str, message: str) -> None:
        """
        Without TLS anybody could pass for a node, so nobody else may reach the address.
        """
        with pytest.raises(BadInput, match=message):
            site.fleet(listen=address)

    @pytest.mark.parametrize("address", ["127.0.0.1:1", "127.8.0.1:1", "[::1]:1"])
    def test_this_machine(self, site: Site, address: str) -> None:
        """
        A loopback address needs no TLS.
        """
        assert site.fleet(listen=address).name == "edge"

    def test_half_of_tls_is_none(self, site: Site) -> None:
        """
        Who sets up TLS without a CA for the nodes is told so.
        """
        with pytest.raises(BadInput, match="only a part"):
            site.fleet(certificate=site.folder / "a.pem", private_key=site.folder / "a.key")

    def test_certificate_that_is_not_there(self, site: Site) -> None:
        """
        Missing files are said at the start.
        """
        missing = site.folder / "missing.pem"
        fleet = site.fleet(certificate=missing, private_key=missing, client_ca=missing)

        with pytest.raises(BadInput, match=r"missing\.pem.*nothing was started"):
            fleet.prepare()

    def test_nodes_must_have_a_certificate_of_the_ca(self, site: Site) -> None:
        """
        Firedoor and its nodes check each other; who has none, or another CA's, learns nothing.
        """
        ours, theirs = Authority(site.folder / "ours"), Authority(site.folder / "theirs")
        fleet = site.listening(**ours.server(), take_timeout_s=5.0)

        for credentials in (
            ours.client("edge-1", without=True),
            theirs.client("edge-1", trusting=ours),
        ):
            stranger = site.node("edge-1", credentials=credentials)
            assert stranger.until_ended().code() is grpc.StatusCode.UNAVAILABLE
            assert stranger.received == []
        node = site.node("edge-1", credentials=ours.client("edge-1"))
        node.until_received(1)

        assert fleet.converge([CLOSE]) == fleet.observe()

    def test_renewed_certificate_is_taken_up(self, site: Site) -> None:
        """
        Certificates are renewed without a restart of Firedoor.
        """
        old, new = Authority(site.folder / "old"), Authority(site.folder / "new")
        site.listening(**old.server())
        site.node("edge-1", credentials=old.client("edge-1")).until_received(1)

        for name, file in new.server().items():
            old.server()[name].write_bytes(file.read_bytes())

        node = site.node("edge-2", credentials=new.client("edge-2"))
        node.until_received(1)


class TestProtocol:
    def test_delta_is_not_done(self, site: Site) -> None:
        """
        A node that is set up for the other kind of ADS is told so.
        """
        site.listening()
        with grpc.insecure_channel(site.address) as channel:
            stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            request = discovery_pb2.DeltaDiscoveryRequest(node={"id": "edge-1"})
            with pytest.raises(grpc.RpcError) as raised:
                next(stub.DeltaAggregatedResources(iter([request]), timeout=5))

        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "DELTA_GRPC" in raised.value.details()

    def test_nonsense_ends_the_stream(self, site: Site) -> None:
        """
        A node that acknowledges what it was not sent is none.
        """
        fleet = site.listening()
        node = site.node("edge-1", acks=False)
        response = node.until_received(1)

        node.say(version=fleet.version_of([CLOSE]), response_nonce=response.nonce)

        assert "was not sent" in str(node.until_ended().details())
        with pytest.raises(ProviderUnreachable, match="No node"):
            fleet.observe()

    def test_second_stream_of_a_node_replaces_the_first(self, site: Site) -> None:
        """
        The first is told so, and the second is the node.
        """
        fleet = site.listening()
        first = site.node("edge-1")
        first.until_received(1)

        second = site.node("edge-1")

        assert first.until_ended().code() is grpc.StatusCode.ABORTED
        second.until_received(1)
        assert fleet.converge([CLOSE]) == fleet.observe()
        assert second.received[-1].version_info == fleet.version_of([CLOSE])


class TestSupports:
    def test_shadow_needs_the_admin_interfaces(self, site: Site) -> None:
        """
        Nodes report no counts over ADS, so without their admin interfaces a shadow would be blind.
        """
        assert not site.fleet().supports(SHADOW).ok
        assert site.fleet().supports(CLOSE).ok
        assert site.fleet(admin_urls={"edge-1": "http://127.0.0.1:1"}).supports(SHADOW).ok

    def test_admin_interfaces_of_some_nodes_are_not_enough(self, site: Site) -> None:
        """
        A count that leaves a node out would be too low, and is refused.
        """
        some = {"edge-1": "http://127.0.0.1:1"}
        with pytest.raises(BadInput, match="no admin interface of edge-2"):
            site.fleet(admin_urls=some, expected_nodes=("edge-1", "edge-2"))
        fleet = site.listening(admin_urls=some)
        site.node("edge-3").until_received(1)

        with pytest.raises(BadInput, match="no admin interface of edge-3"):
            fleet.shadow_hits(SHADOW)
