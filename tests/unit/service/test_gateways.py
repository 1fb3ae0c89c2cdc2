"""A gateway that is not set up any more for something that is in force."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bot.action import SILENT, Support, Writing
from bot.errors import BadInput, ProviderUnreachable
from bot.model.containment import Containment, Control, ControlKind, subject
from bot.service.containments import ContainmentDesk
from bot.service.gateways import Gateways
from bot.store import SqlStore
from bot.testing import FakeClock, FakeGateway
from tests.unit.service.test_containments import IRIS, Desk, held

BLOCK = ControlKind.BLOCK


class Narrow(FakeGateway):
    """Knows callers by a claim only while ``is_set_up``, as gateways whose settings name where a
    verified claim is found."""

    def __init__(self, name: str = "edge") -> None:
        super().__init__(name)
        self.is_set_up = True

    def supports(self, control: Control) -> Support:
        if self.is_set_up or not control.principals:
            return Support(ok=True)
        return Support(ok=False, why="`claim_variables` names no sub")

    def version_of(self, controls: Sequence[Control]) -> str:
        self._read(controls)
        return super().version_of(controls)

    def converge(self, controls: Sequence[Control], writing: Writing = SILENT) -> str:
        self._read(controls)
        return super().converge(controls, writing)

    def observe(self) -> str:
        self._reach()
        version = FakeGateway.version_of(self, self.controls)
        return f"{version}, edited" if self.edited else version

    def _read(self, controls: Sequence[Control]) -> None:
        if not all(self.supports(control).ok for control in controls):
            raise BadInput("It is not said to know callers by sub.")


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Desk]:
    """A desk whose gateway ``edge`` blocks a subject and closes an endpoint."""
    desk = Desk(tmp_path)
    desk.edge = desk.gateways["edge"] = Narrow()
    desk.restart()
    desk.desk.hold(block())
    desk.desk.hold(held("closed", "/api/users"))
    yield desk
    desk.store.close()


def block(kind: ControlKind = BLOCK, **fields: object) -> Containment:
    control = Control(
        kind=kind,
        method="GET",
        path="/api/orders",
        principals=(subject("c-mallory"),),
        would=BLOCK if kind is ControlKind.SHADOW else None,
    )
    return held("block").model_copy(update={"control": control, **fields})


def take_setting_away(at: Desk) -> None:
    """Restart Firedoor with settings in which something is missing now."""
    at.edge.is_set_up = False
    at.restart()


class TestInForce:
    """While it may be in force it stays, whatever that keeps back: reopening is for a person."""

    def test_nothing_is_written_and_that_is_said_once(self, at):
        """
        The block goes on at the gateway; the journal names it, the setting, and the ways out.
        """
        take_setting_away(at)
        for _ in range(3):
            assert not at.desk.gateways.reconcile("edge")

        assert (at.paths(), at.edge.writes) == (["/api/orders", "/api/users"], 2)
        assert at.told_of("edge") == ["barred"]
        with at.store.read() as tx:
            (told,) = tx.records(kind="gateway_drifted")
        for part in ("block (block of GET /api/orders)", "claim_variables", "containments lift"):
            assert part in told.body["message"]

    def test_another_is_not_held_and_not_left_wanted(self, at):
        """
        Holding it would let go of the block. Who asked for it is told what to do, and can then
        ask again.
        """
        take_setting_away(at)

        with pytest.raises(BadInput, match="would let go of it"):
            at.desk.hold(held("new", "/api/export"))

        assert [c.id for c in at.desk.in_force("edge")] == ["block", "closed"]
        assert at.paths() == ["/api/orders", "/api/users"]
        at.desk.release(["block"], IRIS)
        at.desk.hold(held("new", "/api/export"))
        assert at.paths() == ["/api/export", "/api/users"]

    def test_one_more_of_its_kind_is_refused_by_itself(self, at):
        """
        What the gateway cannot do is not even written down.
        """
        at.desk.lift(["block"], IRIS)
        take_setting_away(at)
        before = at.kinds()

        with pytest.raises(BadInput, match=r"cannot hold block2.*claim_variables"):
            at.desk.hold(block(id="block2"))

        assert at.kinds() == before

    def test_what_was_lifted_stays_until_it_is_decided(self, at):
        """
        Closed for too long is the lesser evil. Once the block is lifted or has expired, all
        follows.
        """
        take_setting_away(at)
        at.desk.release(["closed"], IRIS)
        at.catch_up()
        assert at.paths() == ["/api/orders", "/api/users"]

        at.clock.advance(hours=5)
        at.expire()

        assert at.paths() == []

    def test_the_setting_is_put_back(self, at):
        """
        Then nothing has happened.
        """
        take_setting_away(at)
        at.reconcile()
        at.edge.is_set_up = True
        at.restart()
        at.reconcile()

        assert (at.paths(), at.edge.writes) == (["/api/orders", "/api/users"], 2)
        assert at.told_of("edge") == ["barred"]

    def test_an_edited_gateway_is_left_in_doubt(self, at):
        """
        What an edit left of the block is not known, so it is not let go of.
        """
        take_setting_away(at)
        at.edge.edited = "by hand"

        assert not at.desk.gateways.reconcile("edge")

        assert at.edge.writes == 2

    def test_doctor_says_so(self, at):
        """
        Whoever changes settings asks it next.
        """
        assert "reports version" in at.desk.gateways.check("edge")
        take_setting_away(at)

        with pytest.raises(BadInput, match="claim_variables"):
            at.desk.gateways.check("edge")


class TestNotInForce:
    """If it is not in force anyway, it keeps nothing else from being closed."""

    def test_a_gateway_that_forgot_all_gets_the_rest(self, at):
        """
        Nothing is let go of that holds, and what can be closed is closed; what is not is said.
        """
        take_setting_away(at)
        at.edge.controls = ()

        assert at.desk.gateways.reconcile("edge")

        assert at.paths() == ["/api/users"]
        assert at.told_of("edge") == ["elsewhere", "barred"]
        with at.store.read() as tx:
            assert tx.records(kind="gateway_converged")[-1].body["left_out"] == ["block"]
            assert "not in force" in tx.records(kind="gateway_drifted")[-1].body["message"]

    def test_then_others_are_held_and_lifted_as_ever(self, at):
        """
        Also after a restart, and by another worker: the journal says that it was left out.
        """
        take_setting_away(at)
        at.edge.controls = ()
        at.reconcile()
        at.restart()

        at.desk.hold(held("new", "/api/export"))
        at.desk.lift(["closed"], IRIS)
        at.reconcile()

        assert at.paths() == ["/api/export"]
        at.edge.is_set_up = True
        at.restart()
        at.reconcile()
        assert at.paths() == ["/api/export", "/api/orders"]

    def test_rounds_that_change_nothing_say_nothing(self, at):
        """
        It is said with each writing that leaves it out, and no other time.
        """
        take_setting_away(at)
        at.edge.controls = ()
        for _ in range(3):
            at.reconcile()

        assert at.told_of("edge") == ["elsewhere", "barred"]

    def test_a_shadow_keeps_nothing_back(self, at):
        """
        It refuses nobody, so letting go of it opens nothing.
        """
        at.desk.lift(["block"], IRIS)
        at.desk.hold(block(ControlKind.SHADOW, id="shadow"))
        take_setting_away(at)

        at.desk.hold(held("new", "/api/export"))

        assert at.paths() == ["/api/export", "/api/users"]

    def test_a_gateway_that_cannot_be_asked_is_in_doubt(self, at):
        """
        Nobody knows what it holds; what was to be held stays wanted.
        """
        take_setting_away(at)
        at.edge.down = True

        with pytest.raises(ProviderUnreachable):
            at.desk.hold(held("new", "/api/export"))

        assert at.desk.get("new") is not None


class Unfinished(FakeGateway):
    """Cannot be prepared for some ``tries``, and gives no answer until it was, unless it
    ``runs``."""

    def __init__(self, name: str, tries: int, *, runs: bool = False) -> None:
        super().__init__(name)
        self.tries, self.down = tries, not runs

    def prepare(self) -> None:
        self.tries -= 1
        if self.tries >= 0:
            raise ProviderUnreachable("The folder cannot be made.")
        self.down = False


class TestPreparing:
    def gateways(self, tmp_path: Path, *some: FakeGateway) -> Gateways:
        self.store = SqlStore(f"sqlite:///{tmp_path / 'firedoor.sqlite'}")
        self.store.migrate()
        named = {each.name: each for each in some}
        return ContainmentDesk(self.store, named, FakeClock()).gateways

    def told(self) -> list[str]:
        with self.store.read() as tx:
            told = [r.body["what"] for r in tx.records(kind="gateway_drifted")]
        self.store.close()
        return told

    def test_one_that_cannot_be_prepared_keeps_no_other_waiting(self, tmp_path):
        """
        Its folder is missing, say. The rest is prepared, and it is tried again with each round
        until it is there.
        """
        edge, west = Unfinished("edge", 2), Unfinished("west", 0)
        gateways = self.gateways(tmp_path, edge, west)

        gateways.prepare_all()

        assert not west.down
        assert [gateways.reconcile("edge") for _ in range(3)] == [False, True, True]
        assert edge.tries == -1
        assert self.told() == ["stuck", "silent"]

    def test_one_that_runs_needs_nothing_to_start(self, tmp_path):
        """
        What it once needed is there, so it is kept as ever, and not asked for again.
        """
        edge = Unfinished("edge", 9, runs=True)
        gateways = self.gateways(tmp_path, edge)

        gateways.prepare_all()

        assert [gateways.reconcile("edge") for _ in range(3)] == [True] * 3
        assert edge.tries == 7
        assert self.told() == ["stuck"]
