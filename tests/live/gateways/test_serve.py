"""The whole way with the real program: from an alert to a closed endpoint, through restarts and
other hands' edits, to an open one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bot.model.answers import CLOSED
from bot.wiring.background import RECONCILE_S
from tests.gateways import BY_KIND, rig_params
from tests.gateways.rig import Rig
from tests.gateways.served import Served
from tests.gateways.upstream import ORDER, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

PATH = "/api/orders/4001"
NEIGHBOUR = "/api/orders/export"
ONE_ROUND_S = RECONCILE_S + 5.0
"""A round of the keeper, and the time that a busy machine needs for it."""


@pytest.fixture(params=rig_params())
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A gateway that is not started yet, and that nobody but the real program writes to. Its
    folder has a short name: paths of UNIX sockets are at most 97 characters long."""
    made = BY_KIND[request.param](tmp_path_factory.mktemp("g") / request.param)
    assert isinstance(made, Rig)
    made.leave()
    yield made
    made.close()


def is_closed(rig: Rig) -> bool:
    try:
        return rig.status(PATH) == CLOSED.status
    except ConnectionError:  # Caddy may drop one that is opened while it takes a change
        return False


def has_told(served: Served, what: str, times: int = 1) -> bool:
    return served.troubles().count(what) >= times


class TestServe:
    def test_an_operator_goes_the_whole_way(self, rig: Rig) -> None:
        """
        What the alert closes stays closed: when the gateway restarts, when another hand edits
        Firedoor's part, and when Firedoor is killed meanwhile; until a person lifts it.
        """
        with Served(rig) as served:
            served.start()
            rig.start()
            doctor = served.run("doctor")
            assert doctor.code == 0, doctor.text
            assert f"gateway {rig.name}" in doctor.text
            assert f"reports version {rig.gateway.observe()}" in doctor.text

            run_id = served.alert(ORDER)
            self.proven(rig, served, run_id)
            (held,) = served.run("containments", "list", "--json").json()
            assert (held["gateway"], held["control"]["path"]) == (rig.name, ORDER.split()[1])
            extended = served.do(held["id"], "extend", ttl="3h")
            assert extended["expires_at"] > held["expires_at"]
            assert served.do(held["id"], "hand-over", to="U0SAM")["owner"] == "slack:U0SAM"

            self.gateway_restarts(rig, served)
            self.another_hand_edits(rig, served)
            self.firedoor_is_killed(rig, served, run_id)

            assert served.do(held["id"], "lift")["lifted"] is True
            until(lambda: rig.status(PATH) == 200, "the endpoint to be open", timeout_s=5.0)
            timeline = served.run("timeline", "INC-1", "--json").json()
            told = [each["text"] for each in timeline if each["kind"] == "gateway_drifted"]
            assert any("replaced" in text for text in told), told

    def proven(self, rig: Rig, served: Served, run_id: str) -> None:
        """By the step's own proof, and seen from outside."""
        over = ("done", "awaiting_decision")
        until(lambda: served.step(run_id, "close").status in over, "the proof")
        step = served.step(run_id, "close")
        assert step.status == "done", step.failure
        reply = rig.get(PATH)
        assert (reply.status, reply.headers["x-firedoor"]) == (503, "closed")
        assert reply.headers["content-type"].startswith("application/problem+json")
        assert reply.json()["code"] == "endpoint_closed"
        assert rig.status(NEIGHBOUR) == 200

    def gateway_restarts(self, rig: Rig, served: Served) -> None:
        """One that forgets is closed again within a round, though nobody told Firedoor; that is
        said once."""
        rig.stop()
        rig.start()
        until(lambda: is_closed(rig), "the restarted gateway to close", timeout_s=ONE_ROUND_S)
        told = served.troubles()
        assert len(told) == len(set(told)), told
        assert rig.resumes == ("elsewhere" not in told), told

    def another_hand_edits(self, rig: Rig, served: Served) -> None:
        """It is replaced within a round, and the journal says where it is kept."""
        replaced = served.troubles().count("replaced")
        rig.edit_ours()
        until(
            lambda: has_told(served, "replaced", replaced + 1),
            f"the edit to be replaced ({served.log()})",
            timeout_s=ONE_ROUND_S,
        )
        assert is_closed(rig)

    def firedoor_is_killed(self, rig: Rig, served: Served, run_id: str) -> None:
        """And the gateway restarts meanwhile: the next Firedoor goes on."""
        served.kill()
        rig.stop()
        if rig.starts_alone:
            rig.start()
        served.start()
        rig.start()
        until(lambda: is_closed(rig), "the next Firedoor to close")
        assert served.step(run_id, "over").status == "awaiting_answer"
