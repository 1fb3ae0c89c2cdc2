"""The desk of containments: the set in force is what every gateway is brought to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.errors import (
    BadInput,
    LeaseLost,
    NotFound,
    ProviderRefused,
    ProviderUnreachable,
    StoreUnavailable,
)
from bot.model.containment import Containment, Control, ControlKind
from bot.postmortem.timeline import timeline
from bot.service.containments import ContainmentDesk
from bot.store import SqlStore
from bot.testing import START, FakeClock, FakeGateway

IRIS = "slack:U0IRIS"


def held(
    id_: str = "c1",
    path: str = "/api/orders",
    kind: ControlKind = ControlKind.CLOSE,
    *,
    gateway: str = "edge",
    hours: float = 4.0,
    **fields: Any,
) -> Containment:
    return Containment(
        id=id_,
        incident_id=fields.get("incident_id", "INC-1"),
        run_id="INC-1-R1",
        step_id="close",
        gateway=gateway,
        control=Control(kind=kind, method="GET", path=path, rate_per_s=fields.get("rate_per_s")),
        owner="slack:U0SAM",
        reason="Cross-owner reads",
        since=START,
        expires_at=START + timedelta(hours=hours),
    )


def full() -> None:
    raise StoreUnavailable("The database is full; nothing was done. Free disk space.")


class Desk:
    """A desk over gateways that outlive it, so that it can be restarted."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.edge, self.west = FakeGateway("edge"), FakeGateway("west")
        self.gateways = {"edge": self.edge, "west": self.west}
        self.store = SqlStore(f"sqlite:///{folder / 'firedoor.sqlite'}")
        self.store.migrate()
        self.told: list[tuple[Containment, str]] = []
        self.restart()

    def restart(self) -> None:
        self.desk = ContainmentDesk(
            self.store,
            self.gateways,
            self.clock,
            on_expired=lambda _tx, containment, what: self.told.append((containment, what)),
            redact=lambda text: text.replace("hunter2", "[redacted]"),
        )

    def catch_up(self) -> None:
        """Bring gateways to what was changed, as the keeper does twice a second."""
        for name in self.desk.gateways.names:
            if self.desk.gateways.is_behind(name):
                self.desk.gateways.reconcile(name)

    def reconcile(self) -> None:
        """Compare all gateways, as the keeper does every ten seconds."""
        for name in self.desk.gateways.names:
            self.desk.gateways.reconcile(name)

    def expire(self) -> list[Containment]:
        """Do what the keeper does when a time has come."""
        ended = self.desk.expire_due()
        self.catch_up()
        return ended

    def kinds(self) -> list[str]:
        with self.store.read() as tx:
            return [record.kind for record in tx.records()]

    def told_of(self, gateway: str) -> list[str]:
        """Return the troubles that were journaled of a gateway."""
        with self.store.read() as tx:
            drifts = [record.body for record in tx.records(kind="gateway_drifted")]
        return [body["what"] for body in drifts if body["gateway"] == gateway]

    def paths(self, gateway: FakeGateway | None = None) -> list[str]:
        """Return what a gateway really holds."""
        return sorted(control.path for control in (gateway or self.edge).controls)


def refuse(text: str) -> None:
    raise BadInput(text)


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.store.close()


class TestHold:
    def test_it_is_in_force_at_the_gateway_when_it_returns(self, at):
        """
        Held means that the gateway itself reports it.
        """
        at.desk.hold(held())

        assert at.paths() == ["/api/orders"]
        assert at.desk.in_force("edge") == (held(),)
        assert at.desk.get("c1") == held()
        assert at.kinds() == ["containment_held", "gateway_converged"]

    def test_asking_twice_holds_once(self, at):
        """
        A step that is repeated after a crash neither adds nor journals a second one.
        """
        at.desk.hold(held())
        at.desk.hold(held())

        assert len(at.edge.controls) == 1
        assert at.kinds().count("containment_held") == 1
        assert at.edge.writes == 1

    def test_overlapping_incidents_compose(self, at):
        """
        What several incidents ask of one gateway is in force together.
        """
        at.desk.hold(held("c1", incident_id="INC-1"))
        at.desk.hold(held("c2", "/api/users", incident_id="INC-2"))
        at.desk.hold(held("c3", "/api/orders", ControlKind.THROTTLE, rate_per_s=1.0))

        assert at.paths() == ["/api/orders", "/api/orders", "/api/users"]
        assert [c.id for c in at.desk.in_force("edge", "GET /api/orders")] == ["c1", "c3"]

    def test_gateways_are_separate(self, at):
        """
        What is held at one gateway is not written to another.
        """
        at.desk.hold(held("c1", gateway="west"))

        assert (at.edge.writes, at.paths(at.west)) == (0, ["/api/orders"])

    def test_a_refused_configuration_is_withdrawn(self, at):
        """
        What the gateway refuses was never in force, and does not spoil the next one.
        """
        at.desk.hold(held("c1"))
        at.edge.refuses = True

        with pytest.raises(ProviderRefused):
            at.desk.hold(held("c2", "/bad"))

        assert [c.id for c in at.desk.in_force("edge")] == ["c1"]
        assert at.paths() == ["/api/orders"]
        assert at.kinds()[-1] == "containment_withdrawn"
        at.edge.refuses = False
        at.desk.hold(held("c3", "/good"))
        assert at.paths() == ["/api/orders", "/good"]

    def test_what_is_bad_input_is_withdrawn(self, at):
        """
        Bad input means that nothing was done: it does not come into force later, by itself.
        """
        at.edge.version_of = at.edge.converge = lambda *_: refuse("The base routes are no JSON.")

        with pytest.raises(BadInput):
            at.desk.hold(held())

        assert at.desk.in_force("edge") == ()
        assert at.kinds() == ["containment_held", "containment_withdrawn"]

    def test_an_unknown_gateway_is_bad_input(self, at):
        """
        Nothing is held where there is nothing.
        """
        with pytest.raises(BadInput, match=r"east.*edge, west"):
            at.desk.hold(held(gateway="east"))

        assert at.kinds() == []


class TestLift:
    def test_lifting_one_keeps_what_another_incident_holds(self, at):
        """
        The same endpoint closed by two incidents stays closed until both let go.
        """
        at.desk.hold(held("c1", incident_id="INC-1"))
        at.desk.hold(held("c2", incident_id="INC-2"))

        at.desk.lift(["c1"], IRIS)

        assert at.paths() == ["/api/orders"]
        at.desk.lift(["c2"], IRIS)
        assert at.paths() == []

    def test_the_gateway_is_as_it_was(self, at):
        """
        After the last one is lifted, the gateway reports what it reported before the first.
        """
        before = at.edge.observe()
        at.desk.hold(held())

        at.desk.lift(["c1"], IRIS)

        assert at.edge.observe() == before

    def test_it_is_safe_to_repeat(self, at):
        """
        Who lifted first is who lifted it.
        """
        at.desk.hold(held())
        at.desk.lift(["c1"], IRIS)
        at.desk.lift(["c1"], "slack:U0SAM")

        assert at.desk.get("c1").lifted_by == IRIS
        assert at.kinds().count("containment_lifted") == 1

    def test_a_gateway_that_is_not_configured_any_more_is_bad_input(self, at):
        """
        Nothing is called lifted that nobody can lift; what expires there is journaled as such.
        """
        at.desk.hold(held(hours=1))
        del at.gateways["edge"]
        at.restart()

        with pytest.raises(BadInput, match=r"edge.*west"):
            at.desk.lift(["c1"], IRIS)

        assert at.desk.get("c1").lifted_at is None
        at.clock.advance(hours=2)
        assert [c.id for c in at.expire()] == ["c1"]
        assert at.told_of("edge") == ["stuck"]

    def test_one_unknown_id_lifts_none(self, at):
        """
        All or nothing: nothing is reopened by half a request.
        """
        at.desk.hold(held())

        with pytest.raises(NotFound, match="nothing was lifted"):
            at.desk.lift(["c1", "c9"], IRIS)

        assert at.desk.get("c1").lifted_at is None
        assert at.paths() == ["/api/orders"]

    def test_a_process_that_does_not_write_to_gateways_only_releases(self, at):
        """
        The command line ends it in the store; the serving process converges.
        """
        at.desk.hold(held())
        other = ContainmentDesk(at.store, at.gateways, at.clock)

        assert other.release(["c1"], "cli:sam") == ["edge"]
        assert at.paths() == ["/api/orders"]
        at.catch_up()

        assert at.paths() == []
        assert "gateway_drifted" not in at.kinds()


class TestExpiry:
    def test_it_ends_by_the_clock(self, at):
        """
        Not a moment before, and then at the next round.
        """
        at.desk.hold(held(hours=4))
        at.clock.advance(hours=4, microseconds=-1)
        assert at.expire() == []

        at.clock.advance(microseconds=1)
        ended = at.expire()

        assert [c.id for c in ended] == ["c1"]
        assert at.paths() == []
        assert at.desk.get("c1").lifted_by == "expiry"
        assert at.kinds() == [
            "containment_held",
            "gateway_converged",
            "containment_expired",
            "gateway_converged",
        ]

    def test_people_are_told_of_the_containment_as_it_ended(self, at):
        """
        Whoever is told can be told when it ended.
        """
        at.desk.hold(held(hours=4))
        at.clock.advance(hours=5)
        at.expire()

        assert at.told == [(at.desk.get("c1"), "expired")]
        assert at.told[0][0].lifted_at == at.clock.now()

    def test_it_is_over_once(self, at):
        """
        The next round finds nothing to end.
        """
        at.desk.hold(held(hours=4))
        at.clock.advance(hours=5)
        at.expire()

        assert at.expire() == []
        assert len(at.told) == 1

    def test_it_fires_after_a_restart_that_slept_past_it(self, at):
        """
        The clock decides, not a timer that a process holds.
        """
        at.desk.hold(held("c1", hours=4))
        at.desk.hold(held("c2", "/api/users", hours=24))
        at.clock.advance(hours=10)
        at.restart()

        at.expire()

        assert at.paths() == ["/api/users"]
        assert "gateway_drifted" not in at.kinds()

    def test_one_that_expires_leaves_the_others(self, at):
        """
        The same endpoint held twice is open only after the later expiry.
        """
        at.desk.hold(held("c1", hours=4))
        at.desk.hold(held("c2", hours=8))
        at.clock.advance(hours=5)
        at.expire()

        assert at.paths() == ["/api/orders"]

    def test_it_is_ended_even_if_the_gateway_is_down(self, at):
        """
        The gateway is brought back as soon as it answers.
        """
        at.desk.hold(held(hours=4))
        at.clock.advance(hours=5)
        at.edge.down = True
        at.expire()
        assert at.desk.in_force("edge") == ()

        at.edge.down = False
        at.catch_up()

        assert at.paths() == []

    def test_extending_moves_the_expiry(self, at):
        """
        The new time counts from now, and is what the keeper looks at.
        """
        at.desk.hold(held(hours=4))
        at.clock.advance(hours=3)

        extended = at.desk.extend("c1", 7200, IRIS)

        assert extended.expires_at == START + timedelta(hours=5)
        at.clock.advance(hours=1, minutes=30)
        assert at.expire() == []
        at.clock.advance(minutes=30)
        assert [c.id for c in at.expire()] == ["c1"]
        assert at.kinds().count("containment_extended") == 1

    @pytest.mark.parametrize("id_", ["c1", "c9"], ids=["lifted", "unknown"])
    def test_only_what_is_in_force_can_be_extended(self, at, id_):
        """
        What was reopened is not closed again by extending it.
        """
        at.desk.hold(held())
        at.desk.lift(["c1"], IRIS)

        with pytest.raises(NotFound, match="nothing was extended"):
            at.desk.extend(id_, 60, IRIS)

        assert at.expire() == []


class TestGatewayDown:
    def test_the_containment_stays_wanted_and_is_converged_to_later(self, at):
        """
        The caller hears that it is not in force yet; the keeper sees to it.
        """
        at.edge.down = True

        with pytest.raises(ProviderUnreachable):
            at.desk.hold(held())
        assert [c.id for c in at.desk.in_force("edge")] == ["c1"]
        at.catch_up()
        assert at.paths() == []

        at.edge.down = False
        at.catch_up()

        assert at.paths() == ["/api/orders"]

    def test_a_lift_that_does_not_reach_the_gateway_is_made_good(self, at):
        """
        What was lifted is reopened as soon as the gateway answers.
        """
        at.desk.hold(held())
        at.edge.down = True
        with pytest.raises(ProviderUnreachable):
            at.desk.lift(["c1"], IRIS)

        at.edge.down = False
        at.catch_up()

        assert at.paths() == []

    def test_another_gateway_is_not_kept_waiting(self, at):
        """
        One that is down does not keep the keeper from the others.
        """
        at.desk.hold(held("c1", gateway="edge", hours=1))
        at.desk.hold(held("c2", gateway="west", hours=1))
        at.clock.advance(hours=2)
        at.edge.down = True

        at.expire()

        assert at.paths(at.west) == []

    def test_a_restarted_gateway_is_brought_back(self, at):
        """
        One that forgot everything gets what is in force.
        """
        at.desk.hold(held())
        at.edge.controls = ()

        assert at.desk.gateways.reconcile("edge")

        assert at.paths() == ["/api/orders"]

    def test_one_that_was_away_and_forgot_is_told_as_both(self, at):
        """
        Whoever reads the timeline learns that the endpoint was open for a while, and when it was
        closed again; however many rounds that took.
        """
        at.desk.hold(held())
        at.edge.down = True
        for _ in range(3):
            at.reconcile()
        at.edge.down, at.edge.controls = False, ()
        for _ in range(3):
            at.reconcile()

        assert at.told_of("edge") == ["silent", "elsewhere"]
        assert at.kinds()[-1] == "gateway_converged"

    def test_one_that_was_away_and_kept_all_is_told_to_be_back(self, at):
        """
        The journal says when it answered again.
        """
        at.desk.hold(held())
        at.edge.down = True
        at.reconcile()
        at.edge.down = False
        at.reconcile()
        at.reconcile()

        assert at.kinds()[2:] == ["gateway_drifted", "gateway_converged"]

    def test_silence_is_journaled_once(self, at):
        """
        A gateway that is down for an hour is one line, not thousands.
        """
        at.edge.down = True
        for _ in range(5):
            assert not at.desk.gateways.reconcile("edge")

        assert at.kinds() == ["gateway_drifted"]
        at.edge.down = False
        assert at.desk.gateways.reconcile("edge")
        at.edge.down = True
        at.desk.gateways.reconcile("edge")
        assert at.kinds().count("gateway_drifted") == 2


class TestDrift:
    def test_it_is_journaled_once_and_mended(self, at):
        """
        Someone else changed the gateway: it is brought back, and the journal says what was seen.
        """
        at.desk.hold(held())
        at.edge.controls = (held("x", "/theirs").control,)
        seen, wanted = at.edge.observe(), at.edge.version_of([held().control])

        assert at.desk.gateways.reconcile("edge")
        at.reconcile()

        assert at.paths() == ["/api/orders"]
        with at.store.read() as tx:
            (drift,) = tx.records(kind="gateway_drifted")
        assert drift.body == {
            "gateway": "edge",
            "what": "elsewhere",
            "wanted": wanted,
            "seen": seen,
            "message": "",
        }

    def test_drift_that_cannot_be_mended_is_journaled_once(self, at):
        """
        A gateway that refuses to be brought back is tried again, quietly: what it has, and why it
        is not brought back, are one line each.
        """
        at.desk.hold(held())
        at.edge.controls = ()
        at.edge.refuses = True
        for _ in range(3):
            assert not at.desk.gateways.reconcile("edge")

        assert at.told_of("edge") == ["elsewhere", "stuck"]

    def test_an_edit_that_was_replaced_is_told_with_where_it_is(self, at):
        """
        Beside what was seen stands what the adapter says of the edit, and only once.
        """
        at.desk.hold(held())
        at.edge.edited = "by hand"
        for _ in range(3):
            at.reconcile()

        assert at.told_of("edge") == ["elsewhere", "replaced"]
        with at.store.read() as tx:
            assert "by hand" in tx.records(kind="gateway_drifted")[-1].body["message"]

    def test_a_gateway_that_was_never_written_to_is_no_drift(self, at):
        """
        One that reports no version yet has nothing that anybody changed.
        """
        at.edge.observe = lambda: "" if not at.edge.writes else "x"
        at.edge.version_of = lambda _controls: "x"
        at.reconcile()

        assert at.told_of("edge") == []
        assert at.edge.writes == 1

    def test_drift_that_the_store_could_not_take_is_journaled_later(self, at, monkeypatch):
        """
        It is not lost because the database was full for a moment.
        """
        at.edge.down = True
        with monkeypatch.context() as patch:
            patch.setattr(at.store, "begin", lambda: full())
            with pytest.raises(StoreUnavailable):
                at.reconcile()

        at.reconcile()

        assert at.kinds() == ["gateway_drifted"]

    def test_a_version_that_only_the_gateway_knows_is_silence_too(self, at, monkeypatch):
        """
        Some gateways have to be asked what a set of controls would come to.
        """

        def silent(_controls: Any) -> str:
            raise ProviderUnreachable("The gateway gives no answer.")

        at.desk.hold(held())
        monkeypatch.setattr(at.edge, "version_of", silent)

        assert at.desk.gateways.reconcile("edge") is False
        assert at.kinds()[-1] == "gateway_drifted"

    def test_a_gateway_where_it_should_be_is_left_alone(self, at):
        """
        Comparing writes nothing, to the gateway or the journal.
        """
        at.desk.hold(held())
        before = at.kinds()

        at.reconcile()
        at.catch_up()

        assert (at.edge.writes, at.kinds()) == (1, before)

    def test_our_own_change_that_is_still_to_come_is_no_drift(self, at):
        """
        An expiry is a change of ours: nobody has to ask who did it. Not even after a restart.
        """
        at.desk.hold(held(hours=1))
        at.clock.advance(hours=2)
        at.edge.down = True
        at.expire()
        at.edge.down = False
        at.restart()

        at.reconcile()

        assert at.paths() == []
        drifts = at.kinds().count("gateway_drifted")
        assert drifts == 1, "the silence only"


class TestWriting:
    """The contract of `bot.action.Writing`, from the side that asks for the write."""

    def desk_that_loses(self, at: Desk, after: int, store: Any = None) -> ContainmentDesk:
        """Return the desk of one who may act when asked so many times, and then no more."""
        asked = 0

        def check() -> None:
            nonlocal asked
            asked += 1
            if asked > after:
                raise LeaseLost("Another worker drives the run now.")

        return at.desk.bound(store or at.store, check)

    def test_the_right_is_looked_at_right_before_the_write(self, at):
        """
        Lost between the reading and the writing, the gateway is left as it is, and the journal
        does not say that it was converged. What is wanted stays wanted: whoever has the right now
        brings the gateway there.
        """
        losing = self.desk_that_loses(at, after=1)

        with pytest.raises(LeaseLost):
            losing.hold(held())

        assert (at.edge.writes, at.edge.controls) == (0, ())
        assert at.kinds() == ["containment_held"]
        at.catch_up()
        assert at.paths() == ["/api/orders"]
        assert "gateway_drifted" not in at.kinds()

    def test_who_has_lost_the_right_before_changes_nothing_at_all(self, at):
        """
        Neither the store nor the gateway.
        """
        at.desk.hold(held())
        before = at.kinds()
        losing = self.desk_that_loses(at, after=0, store=Lost(at.store))

        for call in (
            lambda: losing.hold(held("c2", "/api/users")),
            lambda: losing.lift(["c1"], IRIS),
            lambda: losing.extend("c1", 60, IRIS),
            lambda: losing.hand_over("c1", IRIS, IRIS),
        ):
            with pytest.raises(LeaseLost):
                call()

        assert at.kinds() == before
        assert at.desk.in_force("edge") == (held(),)
        assert (at.edge.writes, at.paths()) == (1, ["/api/orders"])

    @pytest.mark.parametrize("after", [0, 1])
    def test_a_keeper_that_lost_its_duty_leaves_the_gateway_alone(self, at, after):
        """
        It notes no drift of it either: another one keeps the gateway now.
        """
        at.desk.hold(held())
        at.desk.release(["c1"], IRIS)
        before = at.kinds()

        with pytest.raises(LeaseLost):
            self.desk_that_loses(at, after).gateways.reconcile("edge")

        assert at.kinds() == before
        assert (at.edge.writes, at.paths()) == (1, ["/api/orders"])

    def test_a_faster_writer_is_read_anew(self, at):
        """
        Twice another one was faster; the third time it is in force.
        """
        at.edge.conflicts = 2

        at.desk.hold(held())

        assert at.paths() == ["/api/orders"]
        assert at.kinds() == ["containment_held", "gateway_converged"]

    def test_the_right_is_looked_at_before_each_try(self, at):
        """
        It may be lost while another writer is faster.
        """
        at.edge.conflicts = 1

        with pytest.raises(LeaseLost):
            self.desk_that_loses(at, after=2).hold(held())

        assert (at.edge.conflicts, at.edge.writes) == (0, 0)

    def test_three_faster_writers_are_enough_for_now(self, at):
        """
        The caller hears that the gateway could not be reached; the containment stays wanted.
        """
        at.edge.conflicts = 3

        with pytest.raises(ProviderUnreachable, match="another writer"):
            at.desk.hold(held())

        assert at.desk.in_force("edge") == (held(),)
        assert at.paths() == []
        at.catch_up()
        assert at.paths() == ["/api/orders"]

    def test_what_was_displaced_is_journaled_without_secrets(self, at):
        """
        Who edited the gateway's part by hand finds out where it went; once, and redacted.
        """
        at.edge.edited = "a route with hunter2 in it"

        at.desk.hold(held())

        assert at.kinds() == ["containment_held", "gateway_drifted", "gateway_converged"]
        with at.store.read() as tx:
            (drift,) = tx.records(kind="gateway_drifted")
            words = timeline(tx.records(), full=True)[1].text
        assert drift.body == {
            "gateway": "edge",
            "wanted": at.edge.observe(),
            "seen": None,
            "what": "replaced",
            "message": "The gateway was edited and brought back: a route with [redacted] in it",
        }
        assert words == (
            "edge: The gateway was edited and brought back: a route with [redacted] in it."
        )

    @pytest.mark.parametrize("error", [ProviderUnreachable, ProviderRefused])
    def test_it_is_journaled_though_the_gateway_did_not_get_there(self, at, monkeypatch, error):
        """
        The edit is gone; nobody else would tell.
        """
        at.edge.edited = "by hand"

        def half(_controls: Any, writing: Any) -> str:
            writing.begin()
            writing.displaced("It was replaced.")
            writing.displaced("It was replaced.")
            raise error("It did not take it in time.")

        monkeypatch.setattr(at.edge, "converge", half)

        with pytest.raises(error):
            at.desk.hold(held())

        with at.store.read() as tx:
            (drift,) = tx.records(kind="gateway_drifted")
        assert (drift.body["message"], drift.body["wanted"]) == ("It was replaced.", "")
        assert (at.desk.get("c1") is None) == (error is ProviderRefused)


class Lost:
    """The store of one whose lease another one has."""

    def __init__(self, store: SqlStore) -> None:
        self.read = store.read

    def begin(self) -> Any:
        raise LeaseLost("Another worker drives the run now.")


class TestDefaultGateway:
    def test_the_only_one_serves_every_endpoint(self, at):
        """
        With one gateway nobody has to name it.
        """
        desk = ContainmentDesk(at.store, {"edge": at.edge}, at.clock)

        assert desk.default_gateway("GET /x") == "edge"

    @pytest.mark.parametrize("names", [(), ("edge", "west")], ids=["none", "several"])
    def test_none_or_several_must_be_named(self, at, names):
        """
        Guessing which gateway to change is not our business.
        """
        desk = ContainmentDesk(at.store, {n: at.gateways[n] for n in names}, at.clock)

        with pytest.raises(BadInput, match="Name one"):
            desk.default_gateway("GET /x")
