"""The gateway's actions on a real Envoy, with a service behind it that forgives too much."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from actions.gateway import BlockPrincipal, Close, EnvoyGateway, Lift, Throttle
from actions.probe import Authorization, Prober
from bot.action import Writing
from bot.errors import (
    NotAllowed,
    ProviderRefused,
    ProviderUnreachable,
    UndoConflict,
    VerificationFailed,
)
from bot.model.containment import Control, ControlKind
from bot.service.context import Connections
from tests.gateways.envoy import EnvoyRig
from tests.gateways.rig import HOUR, failed, seen
from tests.gateways.upstream import ENDPOINTS, EXPORT, ME, ORDER, USERS, until

pytestmark = pytest.mark.live

ORDER_PATH = "/api/orders/4001"


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[EnvoyRig]:
    edge = EnvoyRig(tmp_path)
    try:
        edge.start()
        yield edge
    finally:
        edge.close()


def close_control(path: str = "/api/orders/{order_id}", method: str = "GET") -> Control:
    return Control(kind=ControlKind.CLOSE, method=method, path=path)


class TestClose:
    def test_closed_endpoint_answers_503_and_is_proven_so(self, edge: EnvoyRig) -> None:
        """
        A closed endpoint answers 503 with JSON and Retry-After in every spelling; nothing of it
        reaches the service, and everything beside it answers.
        """
        action, ctx = Close(), edge.context()

        plan, facts = edge.do(action, ctx, endpoint=ORDER)

        answer = edge.get(ORDER_PATH)
        assert answer.status == 503
        assert answer.json()["code"] == "endpoint_closed"
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "120"
        assert answer.headers["x-firedoor"] == "closed"
        assert facts.version == edge.gateway.observe()
        edge.upstream.reached.clear()
        proof = action.verify(plan, ctx)
        assert failed(proof) == []
        assert edge.upstream.reached == []
        assert len([c for c in proof.checks if c.name.startswith("not around it")]) > 20
        assert len([c for c in proof.checks if c.name.startswith("neighbour")]) == 4
        assert edge.status("/api/orders?limit=1") == 200

    def test_more_specific_endpoint_stays_open(self, edge: EnvoyRig) -> None:
        """
        An endpoint whose path a closed template would match too is not closed with it.
        """
        edge.do(Close(), edge.context(), endpoint=ORDER)

        assert edge.status("/api/orders/export") == 200
        assert edge.status("/api/orders/exports") == 503

    def test_only_the_method_is_closed(self, edge: EnvoyRig) -> None:
        """
        Closing GET closes HEAD with it, and no other method.
        """
        edge.do(Close(), edge.context(), endpoint=ORDER)

        headers = {"Authorization": f"Bearer {edge.tokens.make('probe-owner')}"}
        url = f"{edge.url}{ORDER_PATH}"
        assert requests.head(url, headers=headers, timeout=5).status_code == 503
        assert requests.delete(url, headers=headers, timeout=5).status_code == 405

    def test_open_connection_is_closed_out_too(self, edge: EnvoyRig) -> None:
        """
        A connection that was open before the change gets 503 on its next request, and goes on.
        """
        headers = {"Authorization": f"Bearer {edge.tokens.make('probe-owner')}"}
        line = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=5)

        def ask(path: str) -> int:
            line.request("GET", path, headers=headers)
            response = line.getresponse()
            response.read()
            return response.status

        before = ask(ORDER_PATH)
        socket = line.sock
        edge.do(Close(), edge.context(), endpoint=ORDER)

        assert (before, ask(ORDER_PATH), ask("/api/orders")) == (200, 503, 200)
        assert line.sock is socket
        line.close()

    @pytest.mark.parametrize(
        ("lenience", "spelling"),
        [
            pytest.param({"folds_case": True}, "upper case", id="case"),
            pytest.param({"decodes": 2}, "double encoded letter", id="decoding-twice"),
        ],
    )
    def test_way_around_is_found(
        self, edge: EnvoyRig, lenience: dict[str, Any], spelling: str
    ) -> None:
        """
        A service that takes a spelling which the gateway lets through fails the proof, by name.
        """
        for name, value in lenience.items():
            setattr(edge.upstream, name, value)
        action, ctx = Close(), edge.context()
        plan, _ = edge.do(action, ctx, endpoint=ORDER)

        found = failed(action.verify(plan, ctx))

        assert found
        assert any(f"not around it by {spelling}: GET" in line for line in found)
        assert all("not around it by" in line for line in found)

    def test_case_is_folded_where_the_routes_fold_it(self, edge: EnvoyRig) -> None:
        """
        Routes that ignore case are closed in every case.
        """
        edge.upstream.folds_case = True
        base = json.loads(edge.files.base_routes.read_text())
        base["virtual_hosts"][0]["routes"][0]["match"]["case_sensitive"] = False
        edge.files.base_routes.write_text(json.dumps(base))
        action, ctx = Close(), edge.context()

        plan, _ = edge.do(action, ctx, endpoint=ORDER)

        assert failed(action.verify(plan, ctx)) == []

    def test_method_that_changes_data_is_probed_without_harm(self, edge: EnvoyRig) -> None:
        """
        A closed DELETE is proven with an object that does not exist.
        """
        action, ctx = Close(), edge.context()

        plan, _ = edge.do(action, ctx, endpoint="DELETE /api/orders/{order_id}")
        proof = action.verify(plan, ctx)

        assert failed(proof) == []
        assert any("DELETE /api/orders/firedoor-probe" in check.name for check in proof.checks)
        assert [call for call in edge.upstream.reached if call[0] == "DELETE"] == []
        assert edge.status(ORDER_PATH) == 200

    def test_open_method_that_takes_bodies_is_seen_as_reached(self, edge: EnvoyRig) -> None:
        """
        A handler that complains about a body was reached, so the endpoint is not closed.
        """
        action, ctx = Close(), edge.context()
        plan, _ = edge.do(action, ctx, endpoint="POST /api/login")
        assert failed(action.verify(plan, ctx)) == []

        edge.upstream.decodes = 2

        assert any("double encoded letter" in line for line in failed(action.verify(plan, ctx)))

    def test_without_a_probe_nothing_is_proven(self, edge: EnvoyRig) -> None:
        """
        Without a way to look from outside the proof fails and says so.
        """
        action = Close()
        ctx = replace(edge.context(), connections=Connections({}))
        plan, _ = edge.do(action, ctx, endpoint=ORDER)

        proof = action.verify(plan, ctx)

        assert not proof.ok
        assert "needs one of `probes`" in seen(proof, "a look from outside")

    def test_long_template_fits_into_envoy(self, edge: EnvoyRig) -> None:
        """
        Envoy refuses large regular expressions; a long template is written in several.
        """
        path = "/api/v1/customer-accounts/{a}/payment-methods/{b}/history-records/by:year/{c}.json"
        control = close_control(path)

        edge.gateway.converge([control])

        real = "/api/v1/customer-accounts/1/payment-methods/2/history-records/by:year/2026.json"
        assert edge.status(real) == 503
        assert edge.status(real.replace(":", "%3A") + "?x=/1") == 503
        assert edge.status(real.replace("2026", "20/26")) == 404
        assert edge.status(real.replace(".json", "xjson")) == 404


class TestThrottle:
    def test_throttled_endpoint_answers_429_and_its_neighbours_do_not(self, edge: EnvoyRig) -> None:
        """
        Above the rate callers get 429; what gets through is served as ever.
        """
        action, ctx = Throttle(), edge.context(step="throttle")

        plan, _ = edge.do(action, ctx, endpoint=ORDER, rate="30/m")

        answers = [edge.get(f"/api/orders/{n}") for n in range(4001, 4004)]
        assert [answer.status for answer in answers] == [200, 429, 429]
        assert answers[1].headers["x-firedoor"] == "throttled"
        assert [edge.status("/api/orders") for _ in range(5)] == [200] * 5
        assert failed(action.verify(plan, ctx)) == []

    def test_strictest_rate_wins(self, edge: EnvoyRig) -> None:
        """
        Two throttles on one endpoint make the slower one.
        """
        edge.do(Throttle(), edge.context(step="fast"), endpoint=ORDER, rate="1000/s")
        edge.do(Throttle(), edge.context("INC-2-R1", "slow"), endpoint=ORDER, rate="1/h")

        assert [edge.status(ORDER_PATH) for _ in range(3)] == [200, 429, 429]

    def test_throttle_that_does_nothing_is_not_proven(self, edge: EnvoyRig) -> None:
        """
        A rate that no burst of the probe reaches is reported as not seen.
        """
        action, ctx = Throttle(), edge.context(step="throttle")
        plan, _ = edge.do(action, ctx, endpoint=ORDER, rate="1000000/s")

        assert [line for line in failed(action.verify(plan, ctx)) if "never 429" in line]


class TestBlockPrincipal:
    def test_blocked_subject_gets_403_and_others_do_not(self, edge: EnvoyRig) -> None:
        """
        Only the subject of a verified token is refused, only on this endpoint.
        """
        action, ctx = BlockPrincipal(), edge.context(step="block")

        plan, _ = edge.do(action, ctx, endpoint=ORDER, principal="c-mallory")

        assert edge.status(ORDER_PATH, "mallory") == 403
        assert edge.status("/api/orders", "mallory") == 200
        assert edge.status(ORDER_PATH, "probe-stranger") == 200
        proof = action.verify(plan, ctx)
        assert failed(proof) == []
        assert "not tried from outside" in seen(proof, "refusal of c-mallory")

    def test_block_of_a_probe_user_is_seen_from_outside(self, edge: EnvoyRig) -> None:
        """
        Where Firedoor has a token of the blocked principal it tries it.
        """
        action, ctx = BlockPrincipal(), edge.context(step="block")

        plan, _ = edge.do(action, ctx, endpoint=ORDER, principal="c-stranger")

        proof = action.verify(plan, ctx)
        assert failed(proof) == []
        assert seen(proof, f"GET {ORDER_PATH} as c-stranger") == "403 (refused by the gateway)"

    def test_several_principals_and_a_throttle_go_together(self, edge: EnvoyRig) -> None:
        """
        Blocks of several principals and a throttle hold on one endpoint at once.
        """
        edge.do(BlockPrincipal(), edge.context(step="a"), endpoint=ORDER, principal="c-mallory")
        edge.do(BlockPrincipal(), edge.context(step="b"), endpoint=ORDER, principal="c-stranger")
        edge.do(Throttle(), edge.context(step="c"), endpoint=ORDER, rate="1/h")

        asked = ["mallory", "probe-stranger", "mallory", "probe-owner", "probe-owner"]
        assert [edge.status(ORDER_PATH, who) for who in asked] == [403, 403, 403, 200, 429]

    def test_forged_token_neither_passes_nor_frames(self, edge: EnvoyRig) -> None:
        """
        A token that is not signed by the issuer's key is refused with 401, whatever it says.
        """
        edge.do(BlockPrincipal(), edge.context(step="block"), endpoint=ORDER, principal="c-mallory")
        other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        claims = {"sub": "c-owner", "role": "customer", "exp": int(time.time()) + 600}
        forged = jwt.encode(claims, other, algorithm="RS256", headers={"kid": "k"})
        unsigned = jwt.encode(claims, None, algorithm="none")

        for token in (forged, unsigned):
            headers = {"Authorization": f"Bearer {token}"}
            assert edge.get(ORDER_PATH, None, headers=headers).status == 401
        assert edge.status(ORDER_PATH, None) == 401


class TestLift:
    def test_lifted_endpoint_is_exactly_as_before(self, edge: EnvoyRig) -> None:
        """
        After lifting, the file is byte for byte as before, the version equal, the endpoint open.
        """
        before, version = edge.files.rds_file.read_bytes(), edge.gateway.observe()
        _, throttle = edge.do(Throttle(), edge.context(step="t"), endpoint=ORDER, rate="1/h")
        _, close = edge.do(Close(), edge.context(step="c"), endpoint=ORDER)
        action, ctx = Lift(), edge.context(step="reopen")

        ids = [close.containment, throttle.containment, None]
        plan, facts = edge.do(action, ctx, containments=ids)

        assert facts.reopened_exactly
        assert facts.lifted == ids[:2]
        assert edge.files.rds_file.read_bytes() == before
        assert edge.gateway.observe() == version
        assert failed(action.verify(plan, ctx)) == []
        assert [edge.status(ORDER_PATH) for _ in range(5)] == [200] * 5

    def test_other_incidents_containment_stays(self, edge: EnvoyRig) -> None:
        """
        Lifting one of two containments on an endpoint leaves the other one in force.
        """
        _, mine = edge.do(Close(), edge.context("INC-1-R1"), endpoint=ORDER)
        edge.do(Close(), edge.context("INC-2-R1"), endpoint=ORDER)
        action, ctx = Lift(), edge.context(step="reopen")

        plan, facts = edge.do(action, ctx, containments=[mine.containment])

        assert facts.reopened_exactly
        assert edge.status(ORDER_PATH) == 503
        proof = action.verify(plan, ctx)
        assert failed(proof) == []
        assert any("still held by another containment" in check.name for check in proof.checks)

    def test_foreign_containment_is_not_lifted(self, edge: EnvoyRig) -> None:
        """
        A run lifts only what belongs to its own incident.
        """
        _, theirs = edge.do(Close(), edge.context("INC-2-R1"), endpoint=ORDER)

        with pytest.raises(NotAllowed, match="INC-2"):
            edge.do(Lift(), edge.context(step="reopen"), containments=[theirs.containment])
        assert edge.status(ORDER_PATH) == 503

    def test_undone_lift_holds_again_until_the_old_expiry(self, edge: EnvoyRig) -> None:
        """
        Undoing a lift closes the endpoint again, no longer than it was to be closed; twice too.
        """
        _, close = edge.do(Close(), edge.context(step="c"), endpoint=ORDER)
        expires_at = edge.desk.get(close.containment).expires_at
        action, ctx = Lift(), edge.context(step="reopen")
        plan, _ = edge.do(action, ctx, containments=[close.containment])
        edge.clock.advance(minutes=10)

        assert action.undo(plan, ctx).proof.ok
        assert action.undo(plan, ctx).proof.ok

        assert [c.expires_at for c in edge.desk.in_force("edge")] == [expires_at]
        assert edge.status(ORDER_PATH) == 503

    def test_undone_lift_does_not_outlive_the_expiry(self, edge: EnvoyRig) -> None:
        """
        What would have expired meanwhile is not held again.
        """
        _, close = edge.do(Close(), edge.context(step="c"), endpoint=ORDER)
        action, ctx = Lift(), edge.context(step="reopen")
        plan, _ = edge.do(action, ctx, containments=[close.containment])
        edge.clock.advance(hours=2)

        action.undo(plan, ctx)

        assert edge.desk.in_force("edge") == ()
        assert edge.status(ORDER_PATH) == 200

    def test_reopened_endpoint_that_fails_is_not_proven(self, edge: EnvoyRig) -> None:
        """
        A lift is proven by an answer of the endpoint, not by the gateway's word alone.
        """
        _, close = edge.do(Close(), edge.context(step="c"), endpoint=ORDER)
        action, ctx = Lift(), edge.context(step="reopen")
        plan, _ = edge.do(action, ctx, containments=[close.containment])
        edge.prober.token("owner")
        edge.upstream.close()

        found = failed(action.verify(plan, ctx))

        assert any("answers again" in line and "503" in line for line in found), found
        edge.upstream = type(edge.upstream)(edge.upstream_port, edge.tokens)


class TestHolding:
    def test_second_apply_changes_nothing(self, edge: EnvoyRig) -> None:
        """
        Applied again after a crash, a step keeps its containment, its start and its expiry.
        """
        action, ctx = Close(), edge.context()
        plan, first = edge.do(action, ctx, endpoint=ORDER)
        held = edge.desk.in_force("edge")
        edge.clock.advance(minutes=5)
        stamp = edge.files.rds_file.stat()

        observed = action.observe(action.read_params(plan.params), ctx)
        assert action.in_progress(plan, observed, ctx)
        second = action.apply(plan, ctx).facts

        assert second["containment"] == first.containment
        assert edge.desk.in_force("edge") == held
        assert held[0].expires_at - held[0].since == HOUR
        assert edge.files.rds_file.stat().st_mtime_ns == stamp.st_mtime_ns

    def test_undo_takes_back_only_its_own(self, edge: EnvoyRig) -> None:
        """
        Undoing a step lifts its containment, and leaves what others hold.
        """
        plan, _ = edge.do(Close(), edge.context(step="c"), endpoint=ORDER)
        edge.do(BlockPrincipal(), edge.context(step="b"), endpoint=ORDER, principal="c-mallory")

        assert Close().undo(plan, edge.context(step="c")).proof.ok

        assert (edge.status(ORDER_PATH), edge.status(ORDER_PATH, "mallory")) == (200, 403)

    def test_step_that_was_undone_can_hold_again(self, edge: EnvoyRig) -> None:
        """
        After an undo the same step holds anew, under another id: what ended stays ended.
        """
        action, ctx = Close(), edge.context()
        plan, first = edge.do(action, ctx, endpoint=ORDER)
        action.undo(plan, replace(ctx, actor="firedoor"))

        _, second = edge.do(action, ctx, endpoint=ORDER)

        assert (first.containment, second.containment) == ("INC-1-R1.close", "INC-1-R1.close.2")
        assert edge.status(ORDER_PATH) == 503

    def test_undo_refuses_what_another_hand_changed(self, edge: EnvoyRig) -> None:
        """
        If the gateway serves routes that no containments made, nothing is undone.
        """
        action, ctx = Close(), edge.context()
        plan, _ = edge.do(action, ctx, endpoint=ORDER)
        replace_by_hand(edge, "by-hand")

        with pytest.raises(UndoConflict, match="by-hand"):
            action.undo(plan, ctx)

        assert len(edge.desk.in_force("edge")) == 1

    def test_containment_elsewhere_does_not_change_a_plan(self, edge: EnvoyRig) -> None:
        """
        An approval is of one endpoint: what is held elsewhere leaves the digest alone.
        """
        action, ctx = Close(), edge.context()
        params = action.read_params({"endpoint": ORDER})
        before = action.plan(params, action.observe(params, ctx))

        edge.do(Close(), edge.context("INC-2-R1"), endpoint=ME)
        after = action.plan(params, action.observe(params, ctx))
        edge.do(Throttle(), edge.context("INC-2-R1", "t"), endpoint=ORDER, rate="1/s")
        changed = action.plan(params, action.observe(params, ctx))

        assert before.digest == after.digest != changed.digest


def replace_by_hand(edge: EnvoyRig, version: str) -> None:
    """Do what an operator might: write other routes where Firedoor writes."""
    base = json.loads(edge.files.base_routes.read_text())
    kind = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
    response = {"version_info": version, "resources": [{"@type": kind, **base}]}
    draft = edge.directory / "draft.json"
    draft.write_text(json.dumps(response))
    draft.replace(edge.files.rds_file)
    until(lambda: edge.gateway.observe().startswith(version), "the routes written by hand")


class TestEnvoyGateway:
    def test_empty_set_is_the_base(self, edge: EnvoyRig) -> None:
        """
        Without controls Envoy serves the operator's routes and nothing else.
        """
        base = json.loads(edge.files.base_routes.read_text())

        assert edge.gateway.response([])["resources"][0].items() >= base.items()
        assert edge.gateway.observe() == edge.gateway.version_of([])
        assert edge.gateway.converge([]) == edge.gateway.version_of([])

    def test_refused_routes_leave_the_old_ones(self, edge: EnvoyRig) -> None:
        """
        Routes that Envoy refuses are reported, and the ones before are served and in the file.
        """
        edge.gateway.converge([close_control()])
        before = edge.files.rds_file.read_bytes()
        too_large = close_control("/" + "x" * 400)

        with pytest.raises(ProviderRefused, match="refuses routes"):
            edge.gateway.converge([close_control(), too_large])

        assert edge.files.rds_file.read_bytes() == before
        assert edge.status(ORDER_PATH) == 503
        assert edge.gateway.observe() == edge.gateway.version_of([close_control()])
        assert edge.gateway.converge([]) == edge.gateway.version_of([])
        assert edge.status(ORDER_PATH) == 200

    def test_refusal_withdraws_the_containment(self, edge: EnvoyRig) -> None:
        """
        A containment that the gateway refuses is not left as wanted for ever.
        """
        path = "/api/" + "x" * 400
        endpoint = ENDPOINTS[ORDER].model_copy(update={"path": path})
        ctx = replace(edge.context(), endpoints={endpoint.key: endpoint})

        with pytest.raises(ProviderRefused):
            edge.do(Close(), ctx, endpoint=endpoint.key)

        assert edge.desk.in_force("edge") == ()

    def test_after_a_crash_before_the_answer_the_old_routes_can_come_back(
        self, edge: EnvoyRig
    ) -> None:
        """
        If Firedoor dies between writing routes and learning that they are refused, the next
        attempt still knows the routes before.
        """
        before = edge.files.rds_file.read_bytes()
        too_large = [close_control("/" + "x" * 400)]
        dying = Dying(**gateway_arguments(edge))
        with pytest.raises(KeyboardInterrupt):
            dying.converge(too_large)
        assert edge.files.rds_file.read_bytes() != before

        with pytest.raises(ProviderRefused):
            edge.adapter().converge(too_large)

        assert edge.files.rds_file.read_bytes() == before

    def test_refusal_never_goes_back_further_than_what_was_served(self, edge: EnvoyRig) -> None:
        """
        Routes that Envoy took only later, when it was started again, are the ones that come back.
        """
        edge.stop()
        with pytest.raises(ProviderUnreachable):
            edge.adapter(take_timeout_s=0.1).converge([close_control()])
        edge.start()

        with pytest.raises(ProviderRefused):
            edge.gateway.converge([close_control(), close_control("/" + "x" * 400)])

        assert edge.status(ORDER_PATH) == 503
        edge.stop()
        edge.start()
        assert edge.status(ORDER_PATH) == 503

    def test_gateway_that_is_down_is_unreachable_and_starts_contained(self, edge: EnvoyRig) -> None:
        """
        With Envoy down the caller is told so; Envoy starts with what was asked for.
        """
        edge.stop()
        impatient = edge.adapter(take_timeout_s=0.2)

        with pytest.raises(ProviderUnreachable, match="gives no answer"):
            impatient.converge([close_control()])
        with pytest.raises(ProviderUnreachable, match="admin interface"):
            impatient.observe()

        edge.start()
        assert edge.status(ORDER_PATH) == 503
        assert edge.gateway.converge([close_control()]) == edge.gateway.observe()

    def test_restarted_gateway_keeps_its_containments(self, edge: EnvoyRig) -> None:
        """
        A restart of Envoy reopens nothing.
        """
        edge.do(Close(), edge.context(), endpoint=ORDER)
        version = edge.gateway.observe()

        edge.stop()
        edge.start()

        assert edge.gateway.observe() == version
        assert edge.status(ORDER_PATH) == 503
        assert edge.desk.gateways.reconcile("edge")

    def test_converged_gateway_is_not_written_again(self, edge: EnvoyRig) -> None:
        """
        Converging to what is there writes nothing.
        """
        edge.gateway.converge([close_control()])
        stamp = edge.files.rds_file.stat().st_mtime_ns

        assert edge.adapter().converge([close_control()]) == edge.gateway.observe()

        assert edge.files.rds_file.stat().st_mtime_ns == stamp

    def test_other_hands_change_is_named_kept_and_replaced(self, edge: EnvoyRig) -> None:
        """
        Routes by another hand are drift: the containments win, and what was written is kept.
        """
        told: list[str] = []
        edge.gateway.converge([close_control()])
        replace_by_hand(edge, "by-hand")
        assert edge.status(ORDER_PATH) == 200

        edge.gateway.converge([close_control()], Writing(displaced=told.append))

        (sentence,) = told
        kept = next((edge.files.rds_file.parent / ".firedoor").glob("*.other-*"))
        assert str(kept) in sentence
        assert json.loads(kept.read_bytes())["version_info"] == "by-hand"
        assert edge.status(ORDER_PATH) == 503

    def test_edited_base_routes_are_taken_up(
        self, edge: EnvoyRig, caplog: pytest.LogCaptureFixture
    ) -> None:
        """
        The operator's edits come in with the next change; a broken edit does not stop one.
        """
        base = json.loads(edge.files.base_routes.read_text())
        edge.gateway.converge([close_control()])
        base["virtual_hosts"][0]["routes"] = base["virtual_hosts"][0]["routes"][:1]
        edge.files.base_routes.write_text(json.dumps(base))

        edge.gateway.converge([close_control()])
        assert (edge.status("/health"), edge.status(ORDER_PATH)) == (404, 503)

        edge.files.base_routes.write_text('{"name": "edge", ')
        edge.gateway.converge([])
        assert "the routes read before are used" in caplog.text
        assert (edge.status("/health"), edge.status(ORDER_PATH)) == (404, 200)

    def test_change_under_load_breaks_no_request(self, edge: EnvoyRig) -> None:
        """
        While containments come and go every request gets an answer, and never a wrong one.
        """
        ended, seen_statuses = threading.Event(), set[int]()

        def ask() -> None:
            session = requests.Session()
            headers = {"Authorization": f"Bearer {edge.tokens.make('probe-owner')}"}
            while not ended.is_set():
                for path in (ORDER_PATH, "/api/orders"):
                    answer = session.get(f"{edge.url}{path}", headers=headers, timeout=5)
                    seen_statuses.add(answer.status_code if path == ORDER_PATH else 0)
                    assert path == ORDER_PATH or answer.status_code == 200
            session.close()

        asking = threading.Thread(target=ask)
        asking.start()
        for _ in range(20):
            edge.gateway.converge([close_control()])
            edge.gateway.converge([])
        ended.set()
        asking.join()

        assert seen_statuses <= {0, 200, 503}


class Dying(EnvoyGateway):
    """Is killed after writing."""

    def _wait_taken(self, wanted: str, refusals_before: int | None) -> None:
        del wanted, refusals_before
        raise KeyboardInterrupt


def gateway_arguments(edge: EnvoyRig) -> dict[str, Any]:
    return {
        "name": "edge",
        "base_routes": edge.files.base_routes,
        "rds_file": edge.files.rds_file,
        "admin_url": f"http://127.0.0.1:{edge.admin_port}",
    }


class TestAccessLog:
    def test_line_says_who_read_whose_object(self, edge: EnvoyRig) -> None:
        """
        A line holds the verified subject and role and the object's owner, which callers don't see.
        """
        answer = edge.get(f"{ORDER_PATH}?secret=1", "mallory", headers={"User-Agent": "curl/8"})

        assert "x-resource-owner" not in answer.headers
        until(lambda: bool(edge.log_lines(ORDER_PATH)), "the access log's line")
        (line,) = edge.log_lines(ORDER_PATH)
        assert line["path"] == ORDER_PATH
        assert (line["sub"], line["role"]) == USERS["mallory"]
        assert line["resource_owner"] == "c-owner"
        assert (line["method"], line["response_code"], line["route"]) == ("GET", 200, "api")
        assert (line["client_ip"], line["user_agent"]) == ("127.0.0.1", "curl/8")
        assert line["request_id"]
        assert line["bytes_sent"] == len(answer.body)
        assert isinstance(line["duration_ms"], int)
        assert line["start_time"].endswith("Z")
        assert len(line["start_time"]) == len("2026-11-23T12:00:00.000Z")

    def test_line_has_the_tenant_of_the_verified_token(self, edge: EnvoyRig) -> None:
        """
        People are told how many tenants a control would concern.
        """
        token = edge.tokens.make("mallory", tenant="acme")

        edge.get(ORDER_PATH, headers={"Authorization": f"Bearer {token}"})

        until(lambda: bool(edge.log_lines(ORDER_PATH)), "the access log's line")
        assert edge.log_lines(ORDER_PATH)[0]["tenant"] == "acme"

    def test_claims_of_an_unverified_token_are_not_logged(self, edge: EnvoyRig) -> None:
        """
        What a forged token says is nobody's deed.
        """
        claims = {"sub": "c-owner", "role": "support", "tenant": "acme"}
        claims |= {"exp": int(time.time()) + 600}
        other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        token = jwt.encode(claims, other, algorithm="RS256", headers={"kid": "k"})

        edge.get(ORDER_PATH, None, headers={"Authorization": f"Bearer {token}"})

        until(lambda: bool(edge.log_lines(ORDER_PATH)), "the access log's line")
        (line,) = edge.log_lines(ORDER_PATH)
        assert line["response_code"] == 401
        assert all(line[key] is None for key in ("sub", "role", "tenant", "resource_owner"))

    def test_caller_cannot_write_the_path_or_its_address(self, edge: EnvoyRig) -> None:
        """
        What proxies tell each other in headers is not believed of a caller.
        """
        forged = {"x-envoy-original-path": "/health", "x-forwarded-for": "192.0.2.1"}
        edge.get(ORDER_PATH, headers=forged)

        until(lambda: bool(edge.log_lines(ORDER_PATH)), "the access log's line")
        assert edge.log_lines(ORDER_PATH)[0]["client_ip"] == "127.0.0.1"

    def test_caller_cannot_write_the_owner(self, edge: EnvoyRig) -> None:
        """
        The owner comes from the service's answer only.
        """
        edge.get("/api/orders", headers={"x-resource-owner": "c-mallory"})

        until(lambda: bool(edge.log_lines("/api/orders")), "the access log's line")
        assert edge.log_lines("/api/orders")[0]["resource_owner"] is None

    def test_contained_request_names_its_route(self, edge: EnvoyRig) -> None:
        """
        The log tells what Firedoor answered from what the service did.
        """
        edge.do(Close(), edge.context(), endpoint=ORDER)
        edge.get(ORDER_PATH, "mallory")

        until(lambda: bool(edge.log_lines(ORDER_PATH)), "the access log's line")
        line = edge.log_lines(ORDER_PATH)[0]
        assert (line["response_code"], line["sub"]) == (503, "c-mallory")
        assert line["route"] == f"firedoor close {ORDER}"


class TestAuthorization:
    def test_hole_is_not_proven_mended(self, edge: EnvoyRig) -> None:
        """
        As long as a stranger gets the object, the step fails and says what was seen.
        """
        action = Authorization()

        with pytest.raises(VerificationFailed, match=r"stranger at .* gave 200, not 403"):
            action.run(action.read_params({"endpoint": ORDER}), edge.context(step="prove"))

    def test_mended_hole_is_proven_behind_a_closed_gateway(self, edge: EnvoyRig) -> None:
        """
        The proof goes past the gateway, where the endpoint is still closed.
        """
        edge.do(Close(), edge.context(), endpoint=ORDER)
        edge.upstream.checks_owner = True
        action, ctx = Authorization(), edge.context(step="prove")

        outcome = action.run(action.read_params({"endpoint": ORDER}), ctx)

        assert outcome.facts == {
            "stranger_status": 403,
            "owner_status": 200,
            "anonymous_status": 401,
            "proven": True,
            "checked_path": ORDER_PATH,
        }
        assert outcome.proof.ok
        with pytest.raises(VerificationFailed, match="503"):
            action.run(action.read_params({"endpoint": ORDER, "via": "gateway"}), ctx)

    def test_other_refusal_than_expected_is_not_proof(self, edge: EnvoyRig) -> None:
        """
        A service that should hide objects and says 403 instead has not done what was asked.
        """
        edge.upstream.checks_owner = True
        action = Authorization()

        with pytest.raises(VerificationFailed, match="gave 403, not 404"):
            action.run(action.read_params({"endpoint": ORDER, "expect": 404}), edge.context())


class TestProber:
    def test_refused_token_is_renewed_once(self, edge: EnvoyRig) -> None:
        """
        A token that no longer holds is replaced by a new login; a second refusal is the answer.
        """
        edge.prober.get("/api/orders", "owner")
        edge.upstream.revoked.add(edge.prober.token("owner"))

        assert edge.prober.get("/api/orders", "owner").status == 200
        assert edge.upstream.logins == 2
        assert edge.prober.get("/api/orders", "nobody").status == 401

    def test_closed_login_does_not_blind_it(self, edge: EnvoyRig) -> None:
        """
        Logins go to the service itself, so a closed login endpoint can still be looked at.
        """
        edge.gateway.converge([close_control("/api/login", "POST")])

        assert edge.prober.get("/api/orders", "owner").status == 200

    def test_path_is_sent_as_written(self, edge: EnvoyRig) -> None:
        """
        No spelling is tidied up on the way out.
        """
        edge.prober.get("/api/zz/..%2f//orders/%34001;v=1", "owner", "upstream")
        edge.prober.get("/api//orders/%34001", "owner", "upstream")

        assert edge.upstream.paths[-2:] == [
            "/api/zz/..%2f//orders/%34001;v=1",
            "/api//orders/%34001",
        ]

    def test_more_specific_neighbour_is_watched(self, edge: EnvoyRig) -> None:
        """
        The nearest endpoints by path are among the neighbours of a proof.
        """
        action, ctx = Close(), edge.context()
        plan, _ = edge.do(action, ctx, endpoint=ORDER)
        ctx = replace(ctx, connections=Connections({(Prober, "orders"): edge.prober}))

        assert any(EXPORT in check.name for check in action.verify(plan, ctx).checks)
