"""The keeper beside the drives: each gateway has its own turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bot.testing import FakeGateway, World
from bot.wiring import background
from bot.wiring.background import Background
from tests.unit.service.test_containments import held

MOMENT_S = 2.0
"""What is due happens well within this, also on a busy machine."""


class Slow(FakeGateway):
    """Gives no answer for as long as it is ``stuck``; ``asked`` counts how often it was asked."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.answers = threading.Event()
        self.answers.set()
        self.asked = 0
        self.at_once = self.most_at_once = 0
        self._counting = threading.Lock()

    def observe(self) -> str:
        with self._counting:
            self.asked += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.answers.wait(30)
            return super().observe()
        finally:
            with self._counting:
                self.at_once -= 1


class Alone:
    """A worker that has every duty."""

    def duty(self, name: str) -> Callable[[], None] | None:
        del name
        return lambda: None


class Kept:
    """A service with two gateways, kept in the background."""

    def __init__(self, folder: Path) -> None:
        self.edge, self.west = FakeGateway("edge"), Slow("west")
        gateways = {"edge": self.edge, "west": self.west}
        self.world = World(folder, actions=[], gateways=gateways)
        self.desk = self.world.service.desk
        self._background = Background(self.world.service, Alone())

    def start(self) -> None:
        self._background.start()

    def close(self) -> None:
        self.west.answers.set()
        self._background.stop()
        self.world.close()

    def paths(self, gateway: FakeGateway) -> list[str]:
        return [control.path for control in gateway.controls]

    def drifts(self) -> int:
        with self.world.store.read() as tx:
            return len(tx.records(kind="gateway_drifted"))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    monkeypatch.setattr(background, "TICK_S", 0.02)
    monkeypatch.setattr(background, "RECONCILE_S", 0.2)
    made = Kept(tmp_path)
    yield made
    made.close()


def soon(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + MOMENT_S
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class TestTurns:
    def test_a_silent_gateway_keeps_no_other_from_expiring(self, kept: Kept) -> None:
        """
        While one call waits for its answer, what expires elsewhere is reopened at once, and what
        expires at the silent one is over in the journal.
        """
        kept.desk.hold(held("c1", gateway="edge", hours=1))
        kept.desk.hold(held("c2", gateway="west", hours=1))
        kept.west.answers.clear()
        kept.start()
        soon(lambda: kept.west.at_once > 0, "west to be asked")

        kept.world.clock.advance(hours=2)

        soon(lambda: kept.paths(kept.edge) == [], "edge to be reopened")
        assert kept.desk.get("c2").lifted_by == "expiry"
        assert kept.paths(kept.west) == ["/api/orders"]
        kept.west.answers.set()
        soon(lambda: kept.paths(kept.west) == [], "west to follow")

    def test_nor_from_being_mended(self, kept: Kept) -> None:
        """
        A gateway that forgot everything is brought back within one round, however long another
        one is waited for.
        """
        kept.desk.hold(held("c1", gateway="edge"))
        kept.west.answers.clear()
        kept.start()
        soon(lambda: kept.west.at_once > 0, "west to be asked")

        kept.edge.controls = ()

        soon(lambda: kept.paths(kept.edge) == ["/api/orders"], "edge to be closed again")

    def test_each_has_one_writer(self, kept: Kept) -> None:
        """
        The keeper's turn and a step that holds something wait for one another.
        """
        kept.west.answers.clear()
        kept.start()
        soon(lambda: kept.west.at_once > 0, "west to be asked")
        holder = threading.Thread(target=kept.desk.hold, args=(held(gateway="west"),))
        holder.start()
        time.sleep(0.1)
        assert kept.west.writes == 0

        kept.west.answers.set()
        holder.join(MOMENT_S)

        assert kept.paths(kept.west) == ["/api/orders"]
        assert kept.west.most_at_once == 1


class TestPauses:
    def test_one_that_cannot_be_mended_is_asked_ever_less_often(
        self, kept: Kept, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A lift that a gateway refuses is no reason to write to it twice a second for ever.
        """
        monkeypatch.setattr(background, "RECONCILE_S", 60.0)
        kept.desk.hold(held(gateway="west"))
        asked = kept.west.asked
        kept.start()
        soon(lambda: kept.west.asked > asked, "the first look")
        kept.west.refuses = True
        kept.desk.release(["c1"], "cli:sam")
        asked = kept.west.asked

        time.sleep(0.5)  # 25 ticks

        assert 1 <= kept.west.asked - asked <= 6
        assert kept.drifts() == 1

    def test_what_is_lifted_by_another_process_is_reopened_at_once(
        self, kept: Kept, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The next look of the clock is not waited for.
        """
        monkeypatch.setattr(background, "RECONCILE_S", 60.0)
        kept.desk.hold(held(gateway="edge"))
        kept.start()
        time.sleep(0.1)

        kept.desk.release(["c1"], "cli:sam")

        soon(lambda: kept.paths(kept.edge) == [], "edge to be reopened")
