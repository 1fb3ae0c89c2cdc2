"""What is Traefik's own: answers that a responder gives, routers that Traefik drops, and what
operators route."""

from __future__ import annotations

import http.client
import re
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from actions.gateway import Close
from bot.errors import BadInput, ProviderRefused, ProviderUnreachable
from bot.model.answers import CLOSED, MARK_HEADER, REFUSED, THROTTLED
from bot.model.containment import (
    ANY_METHOD,
    Control,
    ControlKind,
    Principal,
    PrincipalKind,
    subject,
)
from tests.gateways.rig import Reply, failed
from tests.gateways.traefik import BAD_URL, Side, TraefikRig
from tests.gateways.upstream import ORDER as ORDER_KEY
from tests.gateways.upstream import until

pytestmark = pytest.mark.live

PATH = "/api/orders/{order_id}"
ORDER = "/api/orders/4001"
BALANCER = {"X-Forwarded-For": "203.0.113.7, 198.51.100.9"}


class Wide(TraefikRig):
    """Lets through what the example refuses, trusts what a balancer forwards, and has a second
    entry point, with TLS and with a middleware of its own."""

    def install(self) -> None:
        self.tls_port = self.take_port()
        super().install()

    def static(self) -> str:
        static = yaml.safe_load(super().static())
        web = static["entryPoints"]["web"]
        # Without it a caller may say which method is meant by a header of another spelling.
        web["http"] = {"aliasHeadersStrategy": web["http"]["aliasHeadersStrategy"]}
        web["forwardedHeaders"] = {"trustedIPs": ["127.0.0.1/32"]}
        static["entryPoints"]["secure"] = {
            "address": f"127.0.0.1:{self.tls_port}",
            "http": {"tls": {}, "middlewares": ["strip@file"]},
        }
        return yaml.safe_dump(static)

    def routes(self) -> str:
        routes = yaml.safe_load(super().routes())
        http = routes["http"]
        http["middlewares"]["strip"] = {"stripPrefix": {"prefixes": ["/shop"]}}
        http["routers"]["shop"] = {
            "entryPoints": ["secure"],
            "rule": "PathPrefix(`/shop`) || PathPrefix(`/api/`)",
            "middlewares": ["auth"],
        }
        http["routers"]["shop-all"] = {
            "parentRefs": ["shop"],
            "rule": "PathPrefix(`/`)",
            "service": "orders",
        }
        return yaml.safe_dump(routes)

    def over_tls(self, path: str, username: str = "probe-owner") -> Reply:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        line = http.client.HTTPSConnection("127.0.0.1", self.tls_port, timeout=5, context=context)
        try:
            headers = {"Authorization": f"Bearer {self.tokens.make(username)}"}
            line.request("GET", path, headers=headers)
            answer = line.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            line.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wide]:
    rig = Wide(tmp_path_factory.mktemp("wide"))
    try:
        rig.start()
        yield rig
    finally:
        rig.close()


@pytest.fixture
def rig(running: Wide) -> Iterator[Wide]:
    running.desk.lift([c.id for c in running.desk.in_force(running.name)], "test")
    running.gateway.converge(())
    running.upstream.reset()
    running.side.asked.clear()
    yield running
    running.accept()
    running.restart_firedoor()
    until(lambda: "shop-all@file" in running.reported(), "the operator's routes")


def control(kind: ControlKind = ControlKind.CLOSE, **more: Any) -> Control:
    return Control(**{"kind": kind, "method": "GET", "path": PATH, **more})


def address(value: str) -> Principal:
    return Principal(kind=PrincipalKind.IP, value=value)


BLOCK_MALLORY = control(ControlKind.BLOCK, principals=(subject("c-mallory"),))


class TestResponder:
    def test_without_it_the_status_is_sent_all_the_same(self, rig: Wide) -> None:
        """
        A responder that is down costs callers the body, and opens nothing.
        """
        network = control(ControlKind.BLOCK, principals=(address("127.0.0.2"),))
        rig.side.close()
        try:
            rig.gateway.converge([control()])
            closed = rig.request("GET", ORDER, None)
            rig.gateway.converge([network])
            refused = rig.request("GET", ORDER, None, source="127.0.0.2")
        finally:
            rig.side = Side(rig.side_port, rig.tokens)

        assert closed.status == CLOSED.status
        assert closed.headers[MARK_HEADER] == CLOSED.mark
        assert closed.headers["retry-after"] == str(CLOSED.retry_after_s)
        assert refused.status == REFUSED.status
        assert rig.upstream.paths == []

    def test_it_sees_nothing_of_a_request(self, rig: Wide) -> None:
        """
        Tokens, addresses and bodies of callers are none of the responder's business.
        """
        rig.gateway.converge([control(method=ANY_METHOD)])

        assert rig.request("POST", ORDER, body=b"{}", api_key="partner-7").status == 503

        ((path, headers),) = [asked for asked in rig.side.asked if asked[0] != "/verify"]
        assert path == "/answers/closed"
        assert headers.keys() <= {"host", "accept", "accept-encoding"}


class TestRefusal:
    def test_closed_endpoint_is_never_open_meanwhile(self, rig: Wide) -> None:
        """
        Traefik drops a router that it cannot build. Until the earlier file is back, the one
        behind it keeps the endpoint closed.
        """
        rig.gateway.converge([control()])
        seen, stop = set[int](), threading.Event()

        def ask() -> None:
            while not stop.is_set():
                seen.add(rig.status(ORDER))

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            with pytest.raises(ProviderRefused, match="put back"):
                rig.adapter(responder_url=BAD_URL).converge([control(), BLOCK_MALLORY])
        finally:
            stop.set()
            asking.join()

        assert seen == {503}
        assert rig.gateway.observe() == rig.gateway.version_of([control()])

    def test_router_that_is_missing_is_seen(self, rig: Wide) -> None:
        """
        The version alone is no proof: a router of ours that another file took the name of, or
        whose service is gone, makes it another one.
        """
        held = control(ControlKind.THROTTLE, rate_per_s=100.0)
        version = rig.gateway.converge([held])
        routes = yaml.safe_load(rig.routes())
        routes["http"]["services"]["renamed"] = routes["http"]["services"].pop("orders")
        for router in routes["http"]["routers"].values():
            router.update({"service": "renamed"} if router.get("service") == "orders" else {})
        rig.write_theirs(routes)

        until(lambda: rig.gateway.observe() != version, "the broken copy to be seen")

        assert rig.gateway.observe() == f"{version}, not all of it"
        assert rig.gateway.converge([held]) != version
        assert rig.status(ORDER) == 200

    def test_copy_of_the_file_in_the_folder_is_seen(self, rig: Wide) -> None:
        """
        A copy of Firedoor's file beside it would go on holding what it held.
        """
        rig.gateway.converge([control()])
        copy = rig.folder / "firedoor-kept.yml"
        copy.write_bytes(rig.own.read_bytes())
        base = rig.gateway.version_of(())
        try:
            rig.gateway = rig.adapter(take_timeout_s=1.0)
            with pytest.raises(ProviderUnreachable, match="reports version"):
                rig.gateway.converge(())
            assert rig.gateway.observe() != base
        finally:
            copy.unlink()
        until(lambda: rig.gateway.observe() == base, "the copy to be forgotten")


class TestDown:
    def test_it_starts_with_what_was_wanted_meanwhile(self, rig: Wide) -> None:
        """
        What is held while Traefik is down holds from its first request on, with nobody's help.
        """
        gateway = rig.adapter(take_timeout_s=0.2)
        gateway.version_of([control()])  # what operators route is known
        rig.stop()
        with pytest.raises(ProviderUnreachable):
            gateway.converge([control()])

        rig.start()

        assert rig.status(ORDER) == 503
        assert rig.gateway.observe() == rig.gateway.version_of([control()])

    def test_folder_that_is_not_watched(self, rig: Wide) -> None:
        """
        A Traefik that does not report Firedoor's file has not read its files; what it routes is
        not believed.
        """
        elsewhere = rig.directory / "elsewhere"
        gateway = rig.adapter(dynamic_file=elsewhere / "firedoor.yml")
        rig.own.rename(rig.directory / "away")
        until(lambda: rig.gateway.observe() == "", "Traefik to forget the file")
        gateway.prepare()

        with pytest.raises(ProviderUnreachable, match="does not report"):
            gateway.converge([control()])


class TestCallers:
    @pytest.mark.parametrize("kind", [ControlKind.BLOCK, ControlKind.ALLOW_ONLY])
    def test_who_writes_the_headers_is_not_believed(self, rig: Wide, kind: ControlKind) -> None:
        """
        Who a caller is says the operator's middleware, and no caller.
        """
        rig.gateway.converge([control(kind, principals=(subject("c-mallory"),))])
        as_mallory = {"X-Auth-Sub": "c-mallory"}
        as_owner = {"X-Auth-Sub": "c-owner", "Connection": "X-Auth-Sub"}

        refused = [
            rig.status(ORDER, "probe-owner", headers=as_mallory),
            rig.status(ORDER, None, headers=as_mallory),
            rig.status(ORDER, "mallory", headers=as_owner),
        ]

        # 401 by the service: nobody's token was verified.
        assert refused == ([200, 401, 403] if kind is ControlKind.BLOCK else [403, 403, 200])

    def test_route_that_asks_nobody_knows_nobody(self, rig: Wide) -> None:
        """
        On a route without that middleware an allowed caller cannot be told from others.
        """
        routes = yaml.safe_load(rig.routes())
        routes["http"]["routers"]["bare"] = {
            "rule": "PathPrefix(`/api/`) && Header(`X-Way`, `bare`)",
            "service": "orders",
        }
        rig.write_theirs(routes)
        until(lambda: "bare@file" in rig.reported(), "the route to be taken")

        rig.gateway.converge([control(ControlKind.ALLOW_ONLY, principals=(subject("c-owner"),))])

        spoof = {"X-Way": "bare", "X-Auth-Sub": "c-owner"}
        assert rig.status(ORDER) == 200
        assert rig.status(ORDER, headers=spoof) == 403

    def test_forwarded_address(self, rig: Wide) -> None:
        """
        Behind a load balancer the address is the one that the balancer wrote.
        """
        rig.gateway = rig.adapter(forwarded_depth=1)
        rig.gateway.converge([control(ControlKind.BLOCK, principals=(address("198.51.100.9"),))])
        assert rig.status(ORDER, headers=BALANCER) == 403
        assert rig.status(ORDER, headers={"X-Forwarded-For": "198.51.100.9, 203.0.113.7"}) == 200

        rig.gateway.converge(
            [control(ControlKind.ALLOW_ONLY, principals=(address("2001:db8::/32"),))]
        )
        assert rig.status(ORDER, headers={"X-Forwarded-For": "2001:db8::1"}) == 200
        assert rig.status(ORDER, headers=BALANCER) == 403
        assert rig.status(ORDER) == 403

    def test_addresses_and_subjects_in_one_list(self, rig: Wide) -> None:
        """
        A list lets through whom any of its entries names.
        """
        both = (address("127.0.0.2"), subject("c-owner"))
        rig.gateway.converge([control(ControlKind.ALLOW_ONLY, principals=both)])

        assert rig.status(ORDER) == 200
        assert rig.status(ORDER, "mallory") == 403
        assert rig.status(ORDER, "mallory", source="127.0.0.2") == 200


class TestThrottle:
    def test_all_callers_share_one_allowance(self, rig: Wide) -> None:
        """
        Neither another address, nor another entry point or host, nor a header gets one's own.
        """
        rig.gateway.converge([control(ControlKind.THROTTLE, rate_per_s=0.2)])

        assert rig.status(ORDER) == 200
        assert rig.status(ORDER, "mallory", source="127.0.0.2") == 429
        assert rig.status(ORDER, headers={"Host": "other.invalid"}) == 429
        assert rig.status(ORDER, headers={"X-Firedoor-Bucket": "mine"}) == 429
        assert rig.over_tls(ORDER).status == 429

    def test_who_is_blocked_uses_none_of_it_up(self, rig: Wide) -> None:
        """
        Requests that are refused anyway leave the allowance to the others.
        """
        limit = control(ControlKind.THROTTLE, rate_per_s=0.2)
        network = control(ControlKind.BLOCK, principals=(address("127.0.0.2"),))
        rig.gateway.converge([limit, BLOCK_MALLORY, network])

        assert [rig.status(ORDER, "mallory") for _ in range(3)] == [403] * 3
        assert [rig.status(ORDER, source="127.0.0.2") for _ in range(3)] == [403] * 3
        assert [rig.status(ORDER), rig.status(ORDER)] == [200, THROTTLED.status]

    def test_the_service_sees_nothing_of_it(self, rig: Wide) -> None:
        """
        The header that Traefik counts by does not go on to the service.
        """
        rig.gateway.converge([control(ControlKind.THROTTLE, rate_per_s=100.0)])
        seen = list[str]()
        real = rig.upstream.route

        def watching(method: str, request: Any, body: bytes) -> Any:
            seen.extend(map(str.lower, request.headers))
            return real(method, request, body)

        rig.upstream.route = watching  # type: ignore[method-assign]
        try:
            assert rig.status(ORDER) == 200
        finally:
            rig.upstream.route = real  # type: ignore[method-assign]
        assert "authorization" in seen
        assert not any("firedoor" in name for name in seen)


class TestShadow:
    def test_each_of_several_counts_for_itself(self, rig: Wide) -> None:
        """
        A request that two shadows would refuse counts for both, whatever else is changed.
        """
        would = {"would": ControlKind.BLOCK}
        network = control(ControlKind.SHADOW, principals=(address("127.0.0.2"),), **would)
        mallory = control(ControlKind.SHADOW, principals=(subject("c-mallory"),), **would)
        rig.gateway.converge([network, mallory])

        assert rig.status(ORDER, "mallory", source="127.0.0.2") == 200
        assert rig.status(ORDER, "mallory") == 200
        rig.gateway.converge([network, mallory, control(path="/api/customers/me")])
        assert rig.status(ORDER, source="127.0.0.2") == 200
        assert rig.status(ORDER) == 200

        assert rig.gateway.shadow_hits(network) == 2
        assert rig.gateway.shadow_hits(mallory) == 2


class TestRoutes:
    def test_closed_on_every_entry_point(self, rig: Wide) -> None:
        """
        A closed endpoint is closed wherever customers come in, with TLS and without, and a held
        one goes on through what the operator's routers do.
        """
        assert rig.over_tls("/shop" + ORDER).status == 200
        rig.gateway.converge([control(), control(path="/shop" + PATH)])

        assert rig.over_tls(ORDER).status == 503
        assert rig.over_tls("/shop" + ORDER).status == 503
        assert rig.over_tls("/shop/api/customers/me").status == 200

        rig.gateway.converge([control(ControlKind.THROTTLE, rate_per_s=100.0, path="/shop" + PATH)])
        assert rig.over_tls("/shop" + ORDER).status == 200

    def test_another_route_makes_another_version(self, rig: Wide) -> None:
        """
        A route that operators add while a control holds is found by the next look, and held too.
        """
        held = control(ControlKind.THROTTLE, rate_per_s=0.2)
        version = rig.gateway.converge([held])
        routes = yaml.safe_load(rig.routes())
        routes["http"]["routers"]["new"] = {
            "rule": "Path(`/api/orders/4001`)",
            "priority": 1_000_000,
            "service": "orders",
        }
        rig.write_theirs(routes)
        until(lambda: rig.gateway.version_of([held]) != version, "the route to be seen")

        rig.gateway.converge([held])

        assert [rig.status(ORDER) for _ in range(2)] == [200, 429]

    def test_spellings_that_the_entry_point_lets_through(self, rig: Wide) -> None:
        """
        Where an operator has to let encoded slashes and the like through, none of them is a way
        around.
        """
        ctx = rig.context()
        plan, _ = rig.do(Close(), ctx, endpoint=ORDER_KEY)

        proof = Close().verify(plan, ctx)

        assert failed(proof) == []
        refused = [c.name for c in proof.checks if re.search(r"\b400\b", c.seen)]
        assert [name for name in refused if not re.search("fragment|no slash", name)] == []
        for path in (
            "/api%2forders/4001",
            "/api/orders%2F%2f4001",
            "/api/orders%3bv=1/4001",
            "/api/orders;v=1%2f4001",
            "/api/orders/4001%3fx/y",
            "/api/orders/4001%00a/b",
            "/api/orders/40%0a01",
            "/api/orders/%ff",
        ):
            assert rig.status(path) == 503, path
        assert rig.upstream.reached == []


def test_no_way_to_cut_off_the_api(rig: Wide) -> None:
    """
    A control that would hold back Traefik's own API could not be lifted again: where they share
    an entry point, it is refused before anything is written.
    """
    routes = yaml.safe_load(rig.routes())
    routes["http"]["routers"]["health"]["entryPoints"] = ["web", "api"]
    rig.write_theirs(routes)
    until(lambda: "api" in rig.reported()["health@file"]["entryPoints"], "the route")
    written = rig.writes()

    with pytest.raises(BadInput, match="entry point of its own"):
        rig.gateway.converge([control(path="/{any}/{thing}")])

    assert rig.writes() == written
