"""What an incident's timeline tells of its gateways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.errors import NotFound
from bot.model.incident import Severity
from bot.postmortem.timeline import timeline
from bot.service.reports import Reports
from bot.testing import START
from tests.unit.service.test_containments import IRIS, Desk, held


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Desk]:
    """A desk with two incidents, the first of which holds something at edge for four hours."""
    desk = Desk(tmp_path)
    with desk.store.begin() as tx:
        for key in ("one", "two"):
            tx.add_incident(key=key, title=key, severity=Severity.SEV2, at=START)
    desk.desk.hold(held("c1", incident_id="INC-1"))
    desk.desk.hold(held("c2", incident_id="INC-2", gateway="west"))
    yield desk
    desk.store.close()


def told(at: Desk, incident_id: str = "INC-1") -> list[str]:
    """Return the lines of an incident's timeline that are of gateways."""
    entries = timeline(Reports(at.store, at.clock).records(incident_id))
    return [entry.text for entry in entries if entry.kind == "gateway_drifted"]


class TestDrift:
    def test_it_is_on_the_timeline_of_whom_it_concerns(self, at: Desk) -> None:
        """
        A restarted gateway is told once, where its containment is told, and nowhere else; also
        while the last thing that Firedoor itself did there was long ago.
        """
        at.clock.advance(hours=1)
        at.edge.controls = ()
        at.reconcile()
        at.reconcile()

        (line,) = told(at)
        assert "edge has version" in line
        assert "it is brought back" in line
        assert told(at, "INC-2") == []

    def test_each_trouble_is_said_in_its_own_words(self, at: Desk) -> None:
        """
        An edit that was replaced is no silence, and what an edited gateway reports is not cut off
        where it would look like what is wanted.
        """
        version = at.edge.observe()
        at.edge.edited = "by hand"
        at.reconcile()
        at.edge.down = True
        at.reconcile()
        at.edge.down, at.edge.refuses, at.edge.controls = False, True, ()
        at.reconcile()

        assert told(at) == [
            f"edge has version {version}, edited and not {version}; it is brought back.",
            "edge: The gateway was edited and brought back: by hand.",
            "edge gave no answer: The gateway gives no answer; the old controls serve on.",
            f"edge has version {at.edge.version_of(())} and not {version}; it is brought back.",
            "edge could not be brought to what is wanted: The gateway refuses this configuration; "
            "the old one serves on.",
        ]

    def test_a_gateway_that_does_not_open_again_is_told_too(self, at: Desk) -> None:
        """
        What happens right after the end is about it; what happens later is not.
        """
        at.desk.release(["c1"], IRIS)
        at.clock.advance(seconds=20)
        at.edge.down = True
        at.reconcile()
        at.edge.down = False
        at.reconcile()
        assert len(told(at)) == 1

        at.clock.advance(hours=1)
        at.edge.down = True
        at.reconcile()

        assert len(told(at)) == 1

    def test_an_incident_that_is_not_there_has_none(self, at: Desk) -> None:
        """
        An empty timeline would say that nothing happened.
        """
        with pytest.raises(NotFound):
            told(at, "INC-9")
