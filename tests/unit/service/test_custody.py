"""Extending, lifting and handing over a containment, by people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from bot.errors import BadInput, NotAllowed, NotFound
from bot.model.containment import Containment, Control, ControlKind
from bot.postmortem.timeline import timeline
from bot.service.containments import ContainmentDesk
from bot.service.custody import Custody
from bot.service.groups import Groups, Person
from bot.store import SqlStore
from bot.testing import START, FakeClock, FakeGateway

IRIS, SAM = Person(actor="slack:U0IRIS"), Person(actor="slack:U0SAM")
STRANGER = Person(actor="slack:U0EVE")
GROUPS = Groups(
    {"oncall": ["U0SAM", "cli:kim"], "commanders": ["U0IRIS"]},
    {"sam": ["U0SAM", "cli:sam"]},
)
HELD = Containment(
    id="INC-1-R1.close",
    incident_id="INC-1",
    run_id="INC-1-R1",
    step_id="close",
    gateway="edge",
    control=Control(kind=ControlKind.CLOSE, method="GET", path="/api/orders"),
    owner=SAM.actor,
    reason="Cross-owner reads",
    since=START,
    expires_at=START + timedelta(hours=4),
)


@dataclass
class Office:
    """A containment of Sam's is in force."""

    folder: Path
    clock: FakeClock = field(default_factory=FakeClock)
    gateway: FakeGateway = field(default_factory=FakeGateway)

    def __post_init__(self) -> None:
        self.store = SqlStore(f"sqlite:///{self.folder / 'firedoor.sqlite'}")
        self.store.migrate()
        self.desk = ContainmentDesk(self.store, {"edge": self.gateway}, self.clock)
        self.custody = Custody(self.desk, GROUPS)
        self.desk.hold(HELD)

    def do(self, verb: str, person: Person, id_: str = HELD.id) -> object:
        words = {"extend": ["2h"], "lift": [], "hand_over": ["U0IRIS"]}[verb]
        return getattr(self.custody, verb)(id_, *words, person)

    @property
    def held(self) -> Containment | None:
        return self.desk.get(HELD.id)

    def last(self) -> tuple[str, str, str]:
        """Return kind, actor and the timeline's words of the journal's last record."""
        with self.store.read() as tx:
            records = tx.records()
        return records[-1].kind, records[-1].actor, timeline(records, full=True)[-1].text


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    yield office
    office.store.close()


VERBS = pytest.mark.parametrize("verb", ["extend", "lift", "hand_over"])


class TestWhoMay:
    @VERBS
    def test_only_people_in_a_group(self, office: Office, verb: str) -> None:
        """
        Typing a command is no right to it.
        """
        before = office.last()

        with pytest.raises(NotAllowed, match=r"slack:U0EVE is in no group.*nothing was done"):
            office.do(verb, STRANGER)

        assert (office.held, office.last()) == (HELD, before)

    @VERBS
    def test_anybody_in_some_group(self, office: Office, verb: str) -> None:
        """
        In an emergency whoever is there may; the journal says who it was.
        """
        office.do(verb, IRIS)

        assert office.last()[1] == IRIS.actor

    @VERBS
    def test_strangers_do_not_learn_what_there_is(self, office: Office, verb: str) -> None:
        """
        An unknown id is answered to them as a known one is.
        """
        with pytest.raises(NotAllowed):
            office.do(verb, STRANGER, "INC-9-R1.close")


class TestWhich:
    @VERBS
    def test_an_unknown_id_changes_nothing(self, office: Office, verb: str) -> None:
        """
        The message says where ids are listed.
        """
        before = office.last()

        with pytest.raises(NotFound, match=r"INC-9-R1.close.*nothing was.*containments list"):
            office.do(verb, SAM, "INC-9-R1.close")

        assert office.last() == before

    @pytest.mark.parametrize("verb", ["extend", "hand_over"])
    def test_what_ended_has_neither_a_time_nor_an_owner(self, office: Office, verb: str) -> None:
        """
        Nothing that was reopened is closed again by it.
        """
        office.do("lift", SAM)
        lifted, before = office.held, office.last()

        with pytest.raises(NotFound, match=r"No containment INC-1-R1.close is in force"):
            office.do(verb, IRIS)

        assert (office.held, office.last()) == (lifted, before)


class TestExtend:
    @pytest.mark.parametrize(
        ("ttl", "hours"), [("1s", 1 / 3600), ("30m", 0.5), ("2h", 2), ("30d", 720)]
    )
    def test_the_time_counts_from_now(self, office: Office, ttl: str, hours: float) -> None:
        """
        Also to an earlier end than before, and as long as thirty days.
        """
        office.clock.advance(hours=3)

        extended = office.custody.extend(HELD.id, ttl, IRIS)

        assert extended.expires_at == START + timedelta(hours=3 + hours)
        assert office.held == extended

    def test_it_is_told(self, office: Office) -> None:
        """
        Who decided, about what, until when.
        """
        office.custody.extend(HELD.id, "2h", IRIS)

        assert office.last() == (
            "containment_extended",
            IRIS.actor,
            "slack:U0IRIS extended the close of GET /api/orders at edge to 05:04:05 UTC.",
        )

    @pytest.mark.parametrize(
        ("ttl", "says"),
        [
            pytest.param("", "'' cannot be used: a duration is", id="none"),
            pytest.param("soon", "'soon' cannot be used", id="a-word"),
            pytest.param("2", "such as 90s, 15m, 4h, 2d", id="no-unit"),
            pytest.param("2 h", "cannot be used", id="two-words"),
            pytest.param("-1h", "cannot be used", id="negative"),
            pytest.param("1.5h", "cannot be used", id="fraction"),
            pytest.param("\N{FULLWIDTH DIGIT TWO}h", "cannot be used", id="other-digits"),
            pytest.param("2h\n", "cannot be used", id="line-end"),
            pytest.param("0s", "would end it now.*lift it", id="zero"),
            pytest.param("00d", "would end it now", id="zero-days"),
            pytest.param("2592001s", "is more than 30 days.*own configuration", id="a-second-more"),
            pytest.param("31d", "is more than 30 days", id="long"),
            pytest.param("999999999d", "at most ten years", id="huge"),
            pytest.param("9" * 100_000 + "s", "9…' cannot be used", id="endless"),
        ],
    )
    def test_what_is_no_time_extends_nothing(self, office: Office, ttl: str, says: str) -> None:
        """
        It is said in a line what is wrong with it.
        """
        before = office.last()

        with pytest.raises(BadInput, match=says) as caught:
            office.custody.extend(HELD.id, ttl, SAM)

        assert "nothing was extended" in str(caught.value)
        assert len(str(caught.value)) < 300
        assert (office.held, office.last()) == (HELD, before)


class TestHandOver:
    @pytest.mark.parametrize(
        ("to", "owner"),
        [
            ("U0IRIS", "slack:U0IRIS"),
            ("slack:U0IRIS", "slack:U0IRIS"),
            ("<@U0IRIS>", "slack:U0IRIS"),
            ("<@U0IRIS|iris>", "slack:U0IRIS"),
            ("<@U0IRIS|Iris of the Night>", "slack:U0IRIS"),
            ("<@U0IRIS|>", "slack:U0IRIS"),
            ("cli:kim", "cli:kim"),
            ("cli:sam", "slack:U0SAM"),
        ],
    )
    def test_to_an_id_or_a_mention(self, office: Office, to: str, owner: str) -> None:
        """
        One human is one owner, by whichever id they are named.
        """
        handed = office.custody.hand_over(HELD.id, to, IRIS)

        by = None if owner == HELD.owner else IRIS.actor
        assert handed == HELD.model_copy(update={"owner": owner, "handed_over_by": by})
        assert office.held == handed

    @pytest.mark.parametrize(
        "to",
        [
            "U0EVE",
            "<@U0EVE|sam>",
            "@sam",
            "sam",
            "",
            "oncall",
            "<!subteam^S1|oncall>",
            "<@U0IRIS",
            "<@U0IRIS>x",
            "U0IRIS\n",
        ],
    )
    def test_to_nobody_it_is_refused(self, office: Office, to: str) -> None:
        """
        Somebody must be answerable who may act; a name that only looks alike is nobody.
        """
        before = office.last()

        with pytest.raises(NotAllowed, match=r"nothing was handed over\. Name one by their id"):
            office.custody.hand_over(HELD.id, to, SAM)

        assert (office.held, office.last()) == (HELD, before)

    def test_it_is_told(self, office: Office) -> None:
        """
        Who handed what to whom.
        """
        office.custody.hand_over(HELD.id, "<@U0IRIS|iris>", SAM)

        assert office.last() == (
            "containment_handed_over",
            SAM.actor,
            "slack:U0SAM handed the close of GET /api/orders at edge over to slack:U0IRIS.",
        )

    def test_it_is_of_the_incident(self, office: Office) -> None:
        """
        Its timeline and its postmortem have it.
        """
        office.custody.hand_over(HELD.id, "U0IRIS", SAM)

        with office.store.read() as tx:
            record = tx.records(incident_id="INC-1")[-1]
        assert (record.kind, record.run_id, record.step_id) == (
            "containment_handed_over",
            "INC-1-R1",
            "close",
        )

    def test_the_gateway_is_left_alone(self, office: Office) -> None:
        """
        Who is answerable is nothing that callers see.
        """
        office.custody.hand_over(HELD.id, "U0IRIS", SAM)
        office.custody.extend(HELD.id, "2h", SAM)
        office.desk.gateways.reconcile("edge")

        assert office.gateway.writes == 1


class TestLift:
    def test_it_names_the_gateways_that_are_to_be_converged(self, office: Office) -> None:
        """
        Whoever writes to gateways does the rest.
        """
        assert office.custody.lift(HELD.id, IRIS) == ["edge"]
        assert office.gateway.controls == (HELD.control,)
        office.desk.gateways.reconcile("edge")

        assert office.gateway.controls == ()

    def test_it_is_told(self, office: Office) -> None:
        """
        Who reopened what.
        """
        office.custody.lift(HELD.id, IRIS)

        assert office.last() == (
            "containment_lifted",
            IRIS.actor,
            "slack:U0IRIS lifted the close of GET /api/orders at edge.",
        )

    def test_who_was_first_has_lifted_it(self, office: Office) -> None:
        """
        Lifting it again is no error, and changes nothing.
        """
        office.custody.lift(HELD.id, IRIS)
        before = office.last()

        assert office.custody.lift(HELD.id, SAM) == ["edge"]
        assert office.last() == before
