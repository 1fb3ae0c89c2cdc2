"""Proof at a gateway that can only give answers of its own, without Firedoor's mark."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from actions.gateway import BlockPrincipal, Close, Lift, Throttle
from actions.gateway.hold import _Hold
from actions.probe import Prober
from bot.action import Support
from bot.model.containment import Control, ControlKind
from bot.model.outcome import Proof
from bot.sandbox.processes import Ports
from bot.service.containments import ContainmentDesk
from bot.service.context import ActionContext, Connections
from bot.store import SqlStore
from bot.testing import FakeClock, FakeGateway
from tests.gateways.upstream import ENDPOINTS, ORDER, PASSWORD, Tokens, Upstream

OWN_STATUS = {ControlKind.CLOSE: 403, ControlKind.THROTTLE: 429, ControlKind.BLOCK: 403}


class OwnAnswers(FakeGateway):
    def supports(self, control: Control) -> Support:
        return Support(ok=True, own_status=OWN_STATUS[control.kind])


class Front:
    """Answers ``status`` to whatever names the order, and asks the service for the rest."""

    def __init__(self, port: int, upstream_port: int) -> None:
        self.status = 0
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self) -> None:
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, body = front.status, b"RBAC: access denied"
                if not status or "4001" not in self.path:
                    line = http.client.HTTPConnection("127.0.0.1", upstream_port, timeout=5)
                    line.request(self.command, self.path, sent, dict(self.headers))
                    answer = line.getresponse()
                    status, body = answer.status, answer.read()
                    line.close()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Place:
    """A front, the service behind it, and Firedoor's desk for them."""

    def __init__(self, folder: Path) -> None:
        self._ports = Ports()
        port, upstream_port = self._ports.take(), self._ports.take()
        self.upstream = Upstream(upstream_port, Tokens())
        self.front = Front(port, upstream_port)
        self.clock = FakeClock()
        self.store = SqlStore(f"sqlite:///{folder / 'firedoor.sqlite'}")
        self.store.migrate()
        self.desk = ContainmentDesk(self.store, {"edge": OwnAnswers()}, self.clock)
        self.prober = Prober(
            name="orders",
            public_url=f"http://127.0.0.1:{port}",
            upstream_url=self.upstream.url,
            login_path="/api/login",
            owner=("probe-owner", PASSWORD),
            stranger=("probe-stranger", PASSWORD),
        )

    def close(self) -> None:
        self.front.close()
        self.upstream.close()
        self.store.close()
        self._ports.close()

    def context(self, step: str) -> ActionContext:
        unused: Any = None
        return ActionContext(
            incident_id="INC-1",
            incident_title="Cross-owner reads",
            run_id="INC-1-R1",
            step_id=step,
            actor="slack:U0IRIS",
            ttl_s=3600.0,
            endpoints=ENDPOINTS,
            containments=self.desk,
            evidence=unused,
            notes=unused,
            postmortem=unused,
            clock=self.clock,
            connections=Connections({(Prober, "orders"): self.prober}),
        )

    def proof(self, action: _Hold[Any], front: int, **more: Any) -> Proof:
        """Hold something, let the front answer so, and look."""
        ctx = self.context(action.name)
        params = action.read_params({"endpoint": ORDER, **more})
        plan = action.plan(params, action.observe(params, ctx))
        action.apply(plan, ctx)
        self.front.status = front
        return action.verify(plan, ctx)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def failed(proof: Proof) -> list[str]:
    return [f"{check.name}: {check.seen}" for check in proof.checks if not check.ok]


def test_plan_says_which_answer_it_is(place: Place) -> None:
    """
    Who approves a close reads that callers get no 503.
    """
    action, ctx = Close(), place.context("close")
    params = action.read_params({"endpoint": ORDER})

    plan = action.plan(params, action.observe(params, ctx))

    assert "It answers 403 by itself, without Firedoor's body." in plan.summary


@pytest.mark.parametrize(("answer", "holds"), [(403, True), (503, False), (0, False)])
def test_close_is_proven_by_the_declared_status(place: Place, answer: int, holds: bool) -> None:
    """
    A close that answers 403 by declaration is proven by 403, and by nothing else.
    """
    proof = place.proof(Close(), answer)

    assert (failed(proof) == []) is holds


@pytest.mark.parametrize(("answer", "holds"), [(429, True), (0, False)])
def test_limit_is_proven_by_the_declared_status(place: Place, answer: int, holds: bool) -> None:
    """
    A limit whose 429 has no mark is proven by it.
    """
    proof = place.proof(Throttle(), answer, rate="1/s")

    assert (failed(proof) == []) is holds


@pytest.mark.parametrize(("answer", "holds"), [(403, True), (503, False), (0, False)])
def test_refusal_is_proven_by_the_declared_status(place: Place, answer: int, holds: bool) -> None:
    """
    A block whose 403 has no mark is proven by it. (The front refuses everybody here.)
    """
    proof = place.proof(BlockPrincipal(), answer, principal="c-stranger")

    assert ("GET /api/orders/4001 as c-stranger" not in "".join(failed(proof))) is holds


@pytest.mark.parametrize(("answer", "holds"), [(0, True), (403, False)])
def test_who_is_not_refused_gets_what_the_service_says(
    place: Place, answer: int, holds: bool
) -> None:
    """
    A service that refuses the stranger itself is as before; a front that refuses the owner too is
    not.
    """
    place.upstream.checks_owner = True

    proof = place.proof(BlockPrincipal(), answer, principal="c-mallory")

    assert (failed(proof) == []) is holds


def test_lift_of_one_of_two_still_finds_the_close(place: Place) -> None:
    """
    What another containment holds closed is looked for by the same status.
    """
    place.proof(Close(), 403)
    place.proof(Throttle(), 403, rate="1/s")
    action, ctx = Lift(), place.context("lift")
    params = action.read_params({"containments": ["INC-1-R1.gateway.throttle"]})
    plan = action.plan(params, action.observe(params, ctx))
    action.apply(plan, ctx)

    assert failed(action.verify(plan, ctx)) == []
    place.front.status = 0
    assert failed(action.verify(plan, ctx)) != []


def test_plan_says_what_else_a_control_would_do() -> None:
    """
    Where a gateway cannot hold it to the endpoint, people read that before they approve it.
    """
    wider = "Its holder is refused everywhere."
    observed = {"gateway": "edge", "controls": [], "wider": wider}

    plan = Close().plan(Close().read_params({"endpoint": ORDER}), observed)

    assert wider in plan.summary
    assert plan.before["wider"] == wider
