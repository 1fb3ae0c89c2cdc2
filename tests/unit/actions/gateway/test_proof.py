"""The proof from outside, with a real prober and small real servers as nodes of a gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from actions.gateway import proof
from actions.gateway.variants import NOWHERE
from actions.probe import Prober, VantagePoint
from bot.action import Support
from bot.errors import BadInput, ProviderUnreachable
from bot.model.answers import CLOSED, REFUSED, THROTTLED
from bot.model.containment import (
    ANY_METHOD,
    Containment,
    Control,
    ControlKind,
    Principal,
    PrincipalKind,
    subject,
)
from bot.model.endpoint import Endpoint
from bot.model.outcome import Check, Proof
from bot.service.containments import ContainmentDesk
from bot.service.context import ActionContext, Connections
from bot.store import SqlStore
from bot.testing import START, FakeClock, FakeGateway
from tests.gateways.gate import Answer, Asked, Gate, Rule, of
from tests.gateways.upstream import ENDPOINTS, ORDER, PASSWORD, Tokens, Upstream

ORDER_PATH = "/api/orders/4001"
LOGIN = "POST /api/login"
DELETE = "DELETE /api/orders/{order_id}"
HERE, THERE = "127.0.0.1", "127.0.0.2"
PROBE_VALUES = {
    "name": "orders",
    "gateway": "edge",
    "login_path": "/api/login",
    "owner": ("probe-owner", PASSWORD),
    "stranger": ("probe-stranger", PASSWORD),
    "timeout_s": 5.0,
    "repeats": 2,
}


# --- what nodes do -------------------------------------------------------------------------------


def closing(asked: Asked) -> Answer | None:
    """Close one order to GET, however it is spelled."""
    return of(CLOSED) if asked.is_order and asked.method in ("GET", "HEAD") else None


def refusing(whom: Callable[[Asked], bool]) -> Rule:
    return lambda asked: of(REFUSED) if asked.is_order and whom(asked) else None


def from_address(*addresses: str) -> Callable[[Asked], bool]:
    return lambda asked: asked.source in addresses


def of_subject(*subjects: str) -> Callable[[Asked], bool]:
    return lambda asked: asked.subject in subjects


def after(count: int, answer: Answer) -> Rule:
    """Answer so to every order but the first ones."""
    seen = 0

    def rule(asked: Asked) -> Answer | None:
        nonlocal seen
        seen += asked.is_order
        return answer if asked.is_order and seen > count else None

    return rule


# --- what is held --------------------------------------------------------------------------------


def control(kind: ControlKind, key: str = ORDER, **more: Any) -> Control:
    method, _, path = key.partition(" ")
    return Control(kind=kind, method=method, path=path, **more)


def address(value: str) -> Principal:
    return Principal(kind=PrincipalKind.IP, value=value)


CLOSE = control(ControlKind.CLOSE)
THROTTLE = control(ControlKind.THROTTLE, rate_per_s=2.0)
BLOCK_THERE = control(ControlKind.BLOCK, principals=(address(THERE),))
BLOCK_STRANGER = control(ControlKind.BLOCK, principals=(subject("c-stranger"),))


class Site:
    """A gateway whose nodes are small servers, and a desk that holds controls at its fake."""

    def __init__(self, folder: Path, tokens: Tokens, stack: ExitStack) -> None:
        self._tokens, self._stack = tokens, stack
        self.service = self._open(Upstream(0, tokens))
        self.public = self.node()
        self.gateway = FakeGateway()
        self.clock = FakeClock()
        self.store = SqlStore(f"sqlite:///{folder / 'firedoor.sqlite'}")
        self.store.migrate()
        stack.callback(self.store.close)
        self.desk = ContainmentDesk(self.store, {"edge": self.gateway}, self.clock)
        self.endpoints = dict(ENDPOINTS)
        self.probe: dict[str, Any] = {}

    def _open(self, server: Any) -> Any:
        self._stack.callback(server.close)
        return server

    def node(self, *rules: Rule) -> Gate:
        made: Gate = self._open(Gate(self._tokens, *rules))
        return made

    def context(self) -> ActionContext:
        unused: Any = None
        urls = {"public_url": self.public.url, "upstream_url": self.service.url}
        prober = Prober(**{**PROBE_VALUES, **urls, **self.probe})
        return ActionContext(
            incident_id="INC-1",
            incident_title="Cross-owner reads",
            run_id="INC-1-R1",
            step_id="close",
            actor="slack:U0IRIS",
            ttl_s=3600.0,
            endpoints=self.endpoints,
            containments=self.desk,
            evidence=unused,
            notes=unused,
            postmortem=unused,
            clock=self.clock,
            connections=Connections({(Prober, "orders"): prober}),
        )

    def hold(self, *controls: Control) -> None:
        for number, each in enumerate(controls):
            self.desk.hold(
                Containment(
                    id=f"c{number}",
                    incident_id="INC-1",
                    run_id="INC-1-R1",
                    step_id="close",
                    gateway="edge",
                    control=each,
                    owner="slack:U0IRIS",
                    reason="-",
                    since=START,
                    expires_at=START + timedelta(hours=4),
                )
            )

    def held(self, *controls: Control, key: str = ORDER) -> Proof:
        """Hold some controls, and prove the first one."""
        self.hold(*controls)
        return proof.held(controls[0], key, gateway="edge", probe=None, ctx=self.context())

    def lifted(self, *keys: str) -> Proof:
        places = {("edge", key) for key in keys}
        return proof.lifted(places, probe=None, ctx=self.context())


def bad(found: Proof) -> list[str]:
    return [check.name for check in found.checks if not check.ok]


def the(found: Proof, name: str) -> Check:
    """Return the one check of a name."""
    (check,) = [check for check in found.checks if check.name == name]
    return check


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def site(tmp_path: Path, tokens: Tokens) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, tokens, stack)


def port_of(node: Gate) -> tuple[str, int]:
    host, _, port = node.url.removeprefix("http://").partition(":")
    return host, int(port)


def node_at(node: Gate, **more: Any) -> VantagePoint:
    return VantagePoint("edge-2", connect_to=port_of(node), **more)


class TestClose:
    def test_it_holds_when_every_place_answers_503_by_the_gateway(self, site: Site) -> None:
        """
        On fresh and on kept connections, from each vantage point, as often as is believed.
        """
        other = site.node(closing)
        site.public.rules = [closing]
        site.probe = {"vantage_points": [node_at(other)], "repeats": 3}

        found = site.held(CLOSE)

        assert bad(found) == []
        for at in ("", ", from edge-2"):
            for line in ("on fresh connections", "on one connection"):
                check = the(found, f"GET {ORDER_PATH} {line}{at}")
                assert check.seen == ", ".join(["503 (closed by the gateway)"] * 3)
        assert len([c for c in found.checks if c.name.startswith("not around it by")]) > 20
        assert len([c for c in found.checks if c.name.startswith("neighbour")]) == 4
        assert site.public.reached == other.reached == []

    def test_one_node_that_serves_still_fails_it(self, site: Site) -> None:
        """
        A gateway of two nodes is closed when both are; the check says which one is not.
        """
        site.public.rules = [closing]
        site.probe = {"vantage_points": [node_at(site.node())]}

        found = site.held(CLOSE)

        assert bad(found) == [
            f"GET {ORDER_PATH} on fresh connections, from edge-2",
            f"GET {ORDER_PATH} on one connection, from edge-2",
        ]
        assert the(found, bad(found)[0]).seen == "200, 200"

    def test_it_fails_if_only_where_we_come_from_is_closed_out(self, site: Site) -> None:
        """
        From another address the endpoint is open.
        """
        site.public.rules = [lambda a: closing(a) if a.source == HERE else None]
        site.probe = {"vantage_points": [VantagePoint("office", source=THERE)]}

        assert bad(site.held(CLOSE)) == [
            f"GET {ORDER_PATH} on fresh connections, from office",
            f"GET {ORDER_PATH} on one connection, from office",
        ]

    def test_a_worker_with_the_old_rules_is_seen_among_the_repeats(self, site: Site) -> None:
        """
        One answer of several is enough to fail it; each is told.
        """
        site.public.rules = [after(2, of(CLOSED))]
        site.probe = {"repeats": 4}

        found = site.held(CLOSE)

        fresh = the(found, f"GET {ORDER_PATH} on fresh connections")
        assert not fresh.ok
        assert fresh.expected == "503 by the gateway, 4 times"
        assert fresh.seen == "200, 200, 503 (closed by the gateway), 503 (closed by the gateway)"

    def test_a_kept_connection_that_is_served_on_fails_it(self, site: Site) -> None:
        """
        Callers keep theirs for hours.
        """
        site.public.rules = [lambda asked: closing(asked) if asked.number == 1 else None]

        assert bad(site.held(CLOSE)) == [f"GET {ORDER_PATH} on one connection"]

    def test_an_outage_is_no_closing(self, site: Site) -> None:
        """
        503 without the mark is not ours: it may end at any moment.
        """
        site.public.rules = [lambda a: (503, {}, {}) if a.is_order else None]

        assert f"GET {ORDER_PATH} on fresh connections" in bad(site.held(CLOSE))

    def test_a_spelling_that_is_let_through_is_named(self, site: Site) -> None:
        """
        A gateway that compares text, before a service that folds slashes.
        """
        site.public.rules = [lambda a: of(CLOSED) if a.spelled == ORDER_PATH else None]

        names = bad(site.held(CLOSE))

        assert "not around it by double slash: GET /api/orders//4001" in names
        assert "not around it by query: GET /api/orders/4001?firedoor=1" in names
        assert all(name.startswith("not around it by") for name in names)

    def test_a_page_for_every_unknown_path_is_no_way_around(self, site: Site) -> None:
        """
        A path in a header is obeyed only if the answer is another one than without the header.
        """

        page: Answer = 200, "a page", {"Content-Type": "text/html"}
        order: Answer = 200, {"order": "4001"}, {"Content-Type": "application/json"}

        def answering(rewritten: Answer) -> Rule:
            def rule(asked: Asked) -> Answer | None:
                if not asked.path.endswith(NOWHERE):
                    return closing(asked)
                return rewritten if "X-Rewrite-URL" in asked.headers else page

            return rule

        site.public.rules = [answering(page)]
        assert bad(site.held(CLOSE)) == []

        site.public.rules = [answering(order)]
        (name,) = bad(site.held(CLOSE))
        assert name.startswith("not around it by X-Rewrite-URL")

    def test_a_redirect_is_followed_on_the_same_host(self, site: Site) -> None:
        """
        As a client would, to where it is served.
        """

        def tidying(asked: Asked) -> Answer | None:
            if "//" in asked.spelled:
                return 307, {}, {"Location": "/api/orders/4001?tidy"}
            return None if asked.spelled.endswith("?tidy") else closing(asked)

        site.public.rules = [tidying]

        found = site.held(CLOSE)

        names = bad(found)
        assert "not around it by double slash: GET /api/orders//4001" in names
        assert the(found, names[0]).seen == "307, then 200"

    def test_a_neighbour_that_is_closed_with_it_fails_it(self, site: Site) -> None:
        """
        What nobody holds back must go on as without us.
        """
        site.public.rules = [lambda a: of(CLOSED) if a.path.startswith("/api/orders") else None]

        assert bad(site.held(CLOSE)) == [
            "neighbour GET /api/orders answers",
            "neighbour GET /api/orders/export answers",
        ]

    def test_a_neighbour_that_the_service_refuses_is_as_before(self, site: Site) -> None:
        """
        Not everything is the probe's to read.
        """
        key = "GET /api/reports"
        site.endpoints[key] = Endpoint(method="GET", path="/api/reports", example_path="/api/r")
        site.public.rules = [closing]

        found = site.held(CLOSE)

        check = the(found, f"neighbour {key} answers")
        assert (check.ok, check.seen) == (True, "404")
        assert check.expected == "2xx, or what the service itself says (404)"

    def test_what_the_gateway_does_not_report_is_not_proven(self, site: Site) -> None:
        """
        Its own word counts too: what it serves may be an older rule of somebody else.
        """
        site.public.rules = [closing]
        site.hold(CLOSE)
        site.gateway.controls = ()

        found = proof.held(CLOSE, ORDER, gateway="edge", probe=None, ctx=site.context())

        assert bad(found) == ["routes that gateway edge reports"]

    def test_a_place_that_gives_no_answer_is_no_proof(self, site: Site, tokens: Tokens) -> None:
        """
        Neither one that it holds, nor one that it does not.
        """
        gone = Gate(tokens)
        gone.close()
        site.public.rules = [closing]
        site.probe = {"vantage_points": [node_at(gone)]}

        with pytest.raises(ProviderUnreachable, match=r"\(edge-2\).*nothing can be proven"):
            site.held(CLOSE)

    def test_a_stricter_one_that_hides_it_is_what_is_seen(self, site: Site) -> None:
        """
        A throttle on an endpoint that another incident closed: callers get 503.
        """
        site.public.rules = [closing]

        assert bad(site.held(THROTTLE, CLOSE)) == []


class TestRoute:
    ROUTE = control(ControlKind.CLOSE, f"{ANY_METHOD} /api/orders/{{order_id}}")

    def test_each_of_its_endpoints_is_asked(self, site: Site) -> None:
        """
        A control on a whole route is proven for every method of the inventory.
        """
        site.public.rules = [lambda a: of(CLOSED) if a.is_order else None]

        found = site.held(self.ROUTE)

        assert bad(found) == []
        assert the(found, f"GET {ORDER_PATH} on fresh connections").ok
        assert the(found, "DELETE /api/orders/firedoor-probe on fresh connections").ok

    def test_one_method_that_is_open_fails_it(self, site: Site) -> None:
        """
        Closing what is read does not close what is deleted.
        """
        site.public.rules = [closing]

        assert "DELETE /api/orders/firedoor-probe on fresh connections" in bad(
            site.held(self.ROUTE)
        )

    def test_what_may_be_open_is_not_tried_if_it_changes_data(self, site: Site) -> None:
        """
        While the gateway reports other rules, a DELETE is left to a person.
        """
        site.public.rules = [lambda a: of(CLOSED) if a.is_order else None]
        site.hold(self.ROUTE)
        site.gateway.edited = "by hand"

        found = proof.held(self.ROUTE, ORDER, gateway="edge", probe=None, ctx=site.context())

        assert bad(found) == ["routes that gateway edge reports", f"{DELETE} from outside"]
        assert all(asked.method != "DELETE" for asked in site.public.asked)


class TestMadeUp:
    """A method that changes data is asked about what does not exist."""

    def closing_login(self, *, unless: str, answer: Answer | None) -> Rule:
        def rule(asked: Asked) -> Answer | None:
            if unless in asked.spelled:
                return answer
            return of(CLOSED) if asked.path.startswith("/api/login") else None

        return rule

    @pytest.mark.parametrize("status", [400, 409, 415, 422])
    def test_a_bad_path_that_the_gateway_refuses_is_not_the_service(
        self, site: Site, status: int
    ) -> None:
        """
        Gateways refuse odd spellings with the same statuses, in words of their own.
        """
        own = (status, "bad path", {"Content-Type": "text/plain"})
        site.public.rules = [self.closing_login(unless="//", answer=own)]

        found = site.held(control(ControlKind.CLOSE, LOGIN), key=LOGIN)

        assert bad(found) == []
        assert the(found, "not around it by double slash: POST /api//login").seen == str(status)

    def test_a_body_that_the_service_refuses_has_reached_it(self, site: Site) -> None:
        """
        A handler complains, so the endpoint is not closed in this spelling.
        """
        site.public.rules = [self.closing_login(unless="//", answer=None)]

        found = site.held(control(ControlKind.CLOSE, LOGIN), key=LOGIN)

        assert bad(found) == ["not around it by double slash: POST /api//login"]
        assert the(found, bad(found)[0]).seen == "422"

    def test_our_own_answer_is_never_the_service(self, site: Site) -> None:
        """
        Marked answers come from a control, whatever their status.
        """
        marked = (422, {}, {"x-firedoor": "closed"})
        site.public.rules = [self.closing_login(unless="//", answer=marked)]

        assert bad(site.held(control(ControlKind.CLOSE, LOGIN), key=LOGIN)) == []

    def test_nothing_that_exists_is_touched(self, site: Site) -> None:
        """
        An object of a made-up id, with the owner's token.
        """
        site.public.rules = [lambda a: of(CLOSED) if a.is_order and a.method == "DELETE" else None]

        assert bad(site.held(control(ControlKind.CLOSE, DELETE), key=DELETE)) == []
        deleted = [a.path for a in site.public.asked if a.method == "DELETE"]
        assert deleted
        assert all("iredoor-probe" in path for path in deleted)

    def test_what_has_no_made_up_object_is_not_tried(self, site: Site) -> None:
        """
        A DELETE of a whole collection would be one, if it were open.
        """
        key = "DELETE /api/orders"
        site.endpoints[key] = Endpoint(method="DELETE", path="/api/orders")

        found = site.held(control(ControlKind.CLOSE, key), key=key)

        assert f"{key} from outside" in bad(found)
        assert "prove it by hand" in the(found, f"{key} from outside").seen


class TestBlock:
    def test_an_address_is_judged_by_what_the_gateway_sees(self, site: Site) -> None:
        """
        Who is known to be seen as the blocked address gets 403, who is seen as another does not.
        """
        site.public.rules = [refusing(from_address(THERE))]
        office = VantagePoint("office", source=THERE, seen_as=THERE)
        site.probe = {"seen_as": HERE, "vantage_points": [office]}

        found = site.held(BLOCK_THERE)

        assert bad(found) == []
        assert the(found, f"GET {ORDER_PATH} as c-owner").expected == "not refused by the gateway"
        seen = the(found, f"GET {ORDER_PATH} as c-owner from office")
        assert (seen.expected, seen.seen) == ("403 by the gateway", "403 (refused by the gateway)")

    def test_a_network_is_too(self, site: Site) -> None:
        """
        The address that the gateway sees is in it, or is not.
        """
        site.public.rules = [refusing(from_address(THERE))]
        office = VantagePoint("office", source=THERE, seen_as=THERE)
        site.probe = {"seen_as": HERE, "vantage_points": [office]}

        inside = control(ControlKind.BLOCK, principals=(address("127.0.0.2/31"),))

        assert bad(site.held(inside)) == []

    def test_a_node_that_does_not_refuse_fails_it(self, site: Site) -> None:
        """
        The address is let through there.
        """
        site.public.rules = [refusing(from_address(HERE))]
        there = [node_at(site.node(), seen_as=HERE)]
        site.probe = {"seen_as": HERE, "vantage_points": there}

        names = bad(site.held(control(ControlKind.BLOCK, principals=(address(HERE),))))

        assert names == [
            f"GET {ORDER_PATH} as c-owner from edge-2",
            f"GET {ORDER_PATH} as c-stranger from edge-2",
        ]

    def test_refusing_others_as_well_fails_it(self, site: Site) -> None:
        """
        A block is of one, not of all.
        """
        site.public.rules = [refusing(lambda _asked: True)]
        office = VantagePoint("office", source=THERE, seen_as=THERE)
        site.probe = {"seen_as": HERE, "vantage_points": [office]}

        assert bad(site.held(BLOCK_THERE)) == [
            f"GET {ORDER_PATH} as c-owner",
            f"GET {ORDER_PATH} as c-stranger",
        ]

    def test_an_address_that_nobody_said_is_not_tried(self, site: Site) -> None:
        """
        As whom the gateway sees the probe is not guessed; only the gateway's word is left, and
        that is said.
        """
        found = site.held(BLOCK_THERE)

        assert bad(found) == []
        check = the(found, f"refusal of {THERE}/32")
        assert check.seen.endswith(
            "not tried from outside, as Firedoor has no token and no vantage point of a caller "
            "that it refuses"
        )
        assert not [asked for asked in site.public.asked if asked.is_order]

    def test_without_the_gateways_word_even_that_fails(self, site: Site) -> None:
        """
        Then nothing at all stands for it.
        """
        site.hold(BLOCK_THERE)
        site.gateway.edited = "by hand"

        found = proof.held(BLOCK_THERE, ORDER, gateway="edge", probe=None, ctx=site.context())

        assert f"refusal of {THERE}/32" in bad(found)

    def test_somebody_else_is_not_seen_but_we_are_served(self, site: Site) -> None:
        """
        Of a subject whose token nobody has: both probes are let through, the rest is said.
        """
        found = site.held(control(ControlKind.BLOCK, principals=(subject("c-mallory"),)))

        assert bad(found) == []
        assert the(found, f"GET {ORDER_PATH} as c-stranger").ok
        assert "not tried from outside" in the(found, "refusal of c-mallory").seen

    def test_a_subject_of_a_probe_is_tried(self, site: Site) -> None:
        """
        From every vantage point.
        """
        rule = refusing(of_subject("c-stranger"))
        site.public.rules = [rule]
        site.probe = {"vantage_points": [node_at(site.node(rule))]}

        found = site.held(BLOCK_STRANGER)

        assert bad(found) == []
        for at in ("", " from edge-2"):
            assert the(found, f"GET {ORDER_PATH} as c-owner{at}").seen == "200"
            seen = the(found, f"GET {ORDER_PATH} as c-stranger{at}").seen
            assert seen == "403 (refused by the gateway)"

    def test_a_refusal_of_the_service_is_not_ours(self, site: Site) -> None:
        """
        A service that refuses the stranger itself proves no block.
        """
        site.public.checks_owner = True

        found = site.held(BLOCK_STRANGER)

        assert bad(found) == [f"GET {ORDER_PATH} as c-stranger"]
        assert the(found, bad(found)[0]).seen == "403"

    def test_nor_is_it_in_the_way_of_ours(self, site: Site) -> None:
        """
        A stranger who is not blocked gets the service's own 403, as before.
        """
        site.public.checks_owner = True

        assert bad(site.held(control(ControlKind.BLOCK, principals=(subject("c-mallory"),)))) == []

    def test_a_service_that_fails_is_no_letting_through(self, site: Site) -> None:
        """
        Whoever is not refused is served, and not answered 5xx.
        """
        site.public.rules = [lambda a: (502, {}, {}) if a.subject == "c-owner" else None]

        assert f"GET {ORDER_PATH} as c-owner" in bad(
            site.held(control(ControlKind.BLOCK, principals=(subject("c-mallory"),)))
        )

    def test_whom_another_control_refuses_is_expected_to_be(self, site: Site) -> None:
        """
        All that is in force on the endpoint counts.
        """
        other = control(ControlKind.ALLOW_ONLY, principals=(subject("c-stranger"),))
        site.public.rules = [refusing(of_subject("c-mallory", "c-owner"))]

        found = site.held(control(ControlKind.BLOCK, principals=(subject("c-mallory"),)), other)

        assert bad(found) == []
        assert the(found, f"GET {ORDER_PATH} as c-owner").expected == "403 by the gateway"

    def test_a_throttled_answer_is_no_refusal(self, site: Site) -> None:
        """
        Who meets the limit beside the block was not refused as a caller.
        """
        site.public.rules = [
            refusing(of_subject("c-stranger")),
            lambda a: of(THROTTLED) if a.is_order else None,
        ]

        assert bad(site.held(BLOCK_STRANGER, THROTTLE)) == []


class TestAllowOnly:
    OWNER = control(ControlKind.ALLOW_ONLY, principals=(subject("c-owner"), subject("c-vip")))

    def test_who_is_named_is_served_and_others_are_not(self, site: Site) -> None:
        """
        Both are tried.
        """
        site.public.rules = [refusing(lambda a: a.subject not in ("c-owner", "c-vip"))]

        found = site.held(self.OWNER)

        assert bad(found) == []
        assert the(found, f"GET {ORDER_PATH} as c-owner").seen == "200"
        assert the(found, f"GET {ORDER_PATH} as c-stranger").seen == "403 (refused by the gateway)"

    def test_an_open_endpoint_fails_it(self, site: Site) -> None:
        """
        The stranger is served.
        """
        assert bad(site.held(self.OWNER)) == [f"GET {ORDER_PATH} as c-stranger"]

    def test_refusing_whom_it_names_fails_it(self, site: Site) -> None:
        """
        Partners are not to be locked out.
        """
        site.public.rules = [refusing(lambda _asked: True)]

        assert bad(site.held(self.OWNER)) == [f"GET {ORDER_PATH} as c-owner"]

    def test_an_address_that_nobody_said_is_not_tried(self, site: Site) -> None:
        """
        Whether we are among the allowed cannot be known.
        """
        found = site.held(control(ControlKind.ALLOW_ONLY, principals=(address("10.0.0.0/8"),)))

        assert bad(found) == []
        assert "not tried from outside" in the(found, "refusal but of 10.0.0.0/8").seen
        assert not [asked for asked in site.public.asked if asked.is_order]

    def test_an_address_that_is_known_is(self, site: Site) -> None:
        """
        We are none of the allowed, so we are refused.
        """
        site.public.rules = [refusing(from_address(HERE))]
        site.probe = {"seen_as": HERE}

        found = site.held(control(ControlKind.ALLOW_ONLY, principals=(address("10.0.0.0/8"),)))

        assert bad(found) == []
        assert the(found, f"GET {ORDER_PATH} as c-owner").expected == "403 by the gateway"

    def test_two_lists_let_through_whom_both_name(self, site: Site) -> None:
        """
        Each incident's list holds.
        """
        both = control(
            ControlKind.ALLOW_ONLY, principals=(subject("c-owner"), subject("c-stranger"))
        )
        site.public.rules = [refusing(of_subject("c-stranger"))]

        assert bad(site.held(both, self.OWNER)) == []

    def test_probes_hold_no_api_key(self, site: Site) -> None:
        """
        So they are refused where only holders of one are let through.
        """
        key = Principal(kind=PrincipalKind.API_KEY, value="partner-7")
        site.public.rules = [refusing(lambda _asked: True)]

        assert bad(site.held(control(ControlKind.ALLOW_ONLY, principals=(key,)))) == []


class TestThrottle:
    NAME = f"GET {ORDER_PATH}, up to 8 times at once"

    def test_a_429_by_the_gateway_proves_it(self, site: Site) -> None:
        """
        Within twice the rate and a little more.
        """
        site.public.rules = [after(3, of(THROTTLED))]

        check = the(site.held(THROTTLE), self.NAME)

        assert check.ok
        assert check.seen == "429 after 3 others"

    def test_an_endpoint_that_is_never_held_back_fails_it(self, site: Site) -> None:
        """
        It says in how many answers.
        """
        check = the(site.held(THROTTLE), self.NAME)

        assert (check.ok, check.seen) == (False, "never 429 in 8 answers")

    def test_a_429_of_the_service_is_not_ours(self, site: Site) -> None:
        """
        It may have limits of its own.
        """
        site.public.rules = [lambda a: (429, {}, {}) if a.is_order else None]

        assert bad(site.held(THROTTLE)) == [self.NAME]

    def test_each_node_limits_by_itself(self, site: Site) -> None:
        """
        One that does not fails it.
        """
        site.public.rules = [after(3, of(THROTTLED))]
        site.probe = {"vantage_points": [node_at(site.node())]}

        assert bad(site.held(THROTTLE)) == [f"{self.NAME}, from edge-2"]

    def test_an_approximate_limit_never_fails_and_says_what_it_is(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Its maker promises no more.
        """
        support = Support(ok=True, best_effort=True)
        monkeypatch.setattr(site.gateway, "supports", lambda _control: support)

        check = the(site.held(THROTTLE), self.NAME)

        assert (check.ok, check.seen) == (True, "never 429 in 8 answers")
        assert check.expected.endswith("or none, as this limit is approximate and no block")

    def test_a_user_who_is_refused_anyway_does_not_meet_it(self, site: Site) -> None:
        """
        Then the other one asks.
        """
        site.public.rules = [refusing(of_subject("c-owner")), after(5, of(THROTTLED))]
        block = control(ControlKind.BLOCK, principals=(subject("c-owner"),))

        found = site.held(THROTTLE, block)

        assert bad(found) == []
        assert {a.subject for a in site.public.asked if a.is_order} == {"c-stranger"}

    def test_if_both_are_refused_it_is_said(self, site: Site) -> None:
        """
        Only the gateway's word is left.
        """
        site.public.rules = [refusing(lambda _asked: True)]
        only = control(ControlKind.ALLOW_ONLY, principals=(subject("c-vip"),))

        found = site.held(THROTTLE, only)

        assert bad(found) == []
        assert the(found, self.NAME).seen.endswith(
            "not tried from outside, as other controls refuse every caller that Firedoor can be"
        )


class TestShadow:
    SHADOW = control(
        ControlKind.SHADOW, would=ControlKind.BLOCK, principals=(subject("c-stranger"),)
    )
    COUNT = f"requests to GET {ORDER_PATH} that are counted"

    def counting(self, site: Site, shadow: Control, whom: Callable[[Asked], bool]) -> Rule:
        def rule(asked: Asked) -> Answer | None:
            hits = site.gateway.hits
            hits[shadow] = hits.get(shadow, 0) + (asked.is_order and whom(asked))
            return None

        return rule

    def test_a_count_that_rises_while_all_are_served_proves_it(self, site: Site) -> None:
        """
        One of the two probes would be refused.
        """
        site.gateway.hits[self.SHADOW] = 41
        site.public.rules = [self.counting(site, self.SHADOW, of_subject("c-stranger"))]

        found = site.held(self.SHADOW)

        assert bad(found) == []
        check = the(found, self.COUNT)
        assert (check.expected, check.seen) == ("at least 1 more", "1 more")
        assert the(found, f"GET {ORDER_PATH} as c-stranger").seen == "200"

    def test_a_count_that_does_not_rise_fails_it(self, site: Site) -> None:
        """
        What was counted before is no sign of life.
        """
        site.gateway.hits[self.SHADOW] = 41

        found = site.held(self.SHADOW)

        assert bad(found) == [self.COUNT]
        assert the(found, self.COUNT).seen == "0 more"

    def test_a_shadow_of_a_close_counts_everybody(self, site: Site) -> None:
        """
        Both probes.
        """
        shadow = control(ControlKind.SHADOW, would=ControlKind.CLOSE)
        site.public.rules = [self.counting(site, shadow, of_subject("c-owner"))]

        found = site.held(shadow)

        assert bad(found) == [self.COUNT]
        assert the(found, self.COUNT).expected == "at least 2 more"

    def test_one_that_refuses_fails_it(self, site: Site) -> None:
        """
        A shadow changes nothing.
        """
        rule = self.counting(site, self.SHADOW, of_subject("c-stranger"))
        site.public.rules = [rule, refusing(of_subject("c-stranger"))]

        assert bad(site.held(self.SHADOW)) == [f"GET {ORDER_PATH} as c-stranger"]

    def test_an_address_that_nobody_said_is_not_waited_for(self, site: Site) -> None:
        """
        Whether we would be refused cannot be known; both are asked, and served.
        """
        shadow = control(
            ControlKind.SHADOW, would=ControlKind.BLOCK, principals=(address("10.0.0.0/8"),)
        )

        found = site.held(shadow)

        assert bad(found) == []
        assert the(found, self.COUNT).expected == "at least 0 more"

    def test_a_gateway_that_counts_nothing_fails_it(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        With what it says.
        """

        def none(_control: Control) -> int:
            raise BadInput("Gateway edge counts nothing.")

        monkeypatch.setattr(site.gateway, "shadow_hits", none)

        assert the(site.held(self.SHADOW), "the count").seen == "Gateway edge counts nothing."


class TestLift:
    def test_what_answers_again_is_open(self, site: Site) -> None:
        """
        By an answer of the service, beside which the neighbours answer.
        """
        found = site.lifted(ORDER)

        assert bad(found) == []
        assert the(found, f"GET {ORDER_PATH} answers again").seen == "200"

    def test_what_is_closed_still_fails_it(self, site: Site) -> None:
        """
        Though the gateway reports that nothing is in force.
        """
        site.public.rules = [closing]

        assert bad(site.lifted(ORDER)) == [f"GET {ORDER_PATH} answers again"]

    def test_what_another_one_holds_stays_as_that_one_wants_it(self, site: Site) -> None:
        """
        It is said by whom.
        """
        site.hold(CLOSE)
        site.public.rules = [closing]

        found = site.lifted(ORDER)

        check = the(found, f"GET {ORDER_PATH} is still held by another containment")
        assert (check.ok, check.expected) == (True, "closed (503)")
        site.public.rules = []
        assert bad(site.lifted(ORDER)) == [check.name]

    @pytest.mark.parametrize("key", ["GET /api/gone", "* /api/gone"])
    def test_what_left_the_inventory_meanwhile_is_left_to_a_person(
        self, site: Site, key: str
    ) -> None:
        """
        Nobody knows what to ask; the neighbours are asked all the same.
        """
        found = site.lifted(key)

        assert bad(found) == [f"{key} from outside"]
        assert "prove it by hand" in the(found, f"{key} from outside").seen
        assert [check for check in found.checks if check.name.startswith("neighbour")]

    def test_nothing_lifted_is_proven_by_nothing(self, site: Site) -> None:
        """
        Steps before it were skipped.
        """
        assert bad(site.lifted()) == []
        assert site.public.asked == []


class TestNoLook:
    def test_a_probe_of_another_gateway_sees_nothing_of_this_one(self, site: Site) -> None:
        """
        Its answers would prove nothing.
        """
        site.probe = {"gateway": "west"}

        found = site.held(CLOSE)

        assert bad(found) == ["a look from outside"]
        assert "looks through gateway west" in the(found, "a look from outside").seen
        assert site.public.asked == []
