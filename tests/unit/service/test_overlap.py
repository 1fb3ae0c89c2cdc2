"""Overlapping containments: at every moment the gateway has exactly the union of those in force."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from bot.action import SILENT, Writing
from bot.errors import ProviderUnreachable
from bot.model.containment import (
    ANY_METHOD,
    Containment,
    Control,
    ControlKind,
    Principal,
    PrincipalKind,
    subject,
)
from bot.service.containments import ContainmentDesk
from bot.store import SqlStore
from bot.testing import FakeClock, FakeGateway

IRIS = "slack:U0IRIS"
INCIDENTS = ("INC-1", "INC-2", "INC-3")


@cache
def migrated() -> Path:
    """An empty database, made once and copied for each example."""
    folder = tempfile.mkdtemp(prefix="firedoor-")
    atexit.register(shutil.rmtree, folder)
    file = Path(folder) / "empty.sqlite"
    store = SqlStore(f"sqlite:///{file}")
    store.migrate()
    store.close()
    return file


@contextmanager
def empty_store() -> Iterator[SqlStore]:
    with tempfile.TemporaryDirectory(prefix="firedoor-") as folder:
        file = Path(folder) / "firedoor.sqlite"
        shutil.copy(migrated(), file)
        store = SqlStore(f"sqlite:///{file}")
        try:
            yield store
        finally:
            store.close()


class Watched(FakeGateway):
    """Keeps every set that it ever had."""

    def __init__(self) -> None:
        super().__init__()
        self.had: list[frozenset[Control]] = []

    def converge(self, controls: Sequence[Control], writing: Writing = SILENT) -> str:
        version = super().converge(controls, writing)
        self.had.append(frozenset(self.controls))
        return version


# Few endpoints and few values, so that most examples overlap, and some are equal.
paths = st.sampled_from(["/api/orders/{order_id}", "/api/orders", "/api/login", "/api/users"])
methods = st.sampled_from(["GET", "POST", ANY_METHOD])
principals = st.lists(
    st.sampled_from(
        [
            subject("c-mallory"),
            subject("c-owner"),
            Principal(kind=PrincipalKind.IP, value="203.0.113.0/24"),
            Principal(kind=PrincipalKind.API_KEY, value="partner-7"),
        ]
    ),
    min_size=1,
    max_size=2,
).map(tuple)
controls = st.one_of(
    st.builds(Control, kind=st.just(ControlKind.CLOSE), method=methods, path=paths),
    st.builds(
        Control,
        kind=st.just(ControlKind.THROTTLE),
        method=methods,
        path=paths,
        rate_per_s=st.sampled_from([0.5, 10.0]),
    ),
    st.builds(
        Control,
        kind=st.sampled_from([ControlKind.BLOCK, ControlKind.ALLOW_ONLY]),
        method=methods,
        path=paths,
        principals=principals,
    ),
    st.builds(
        Control,
        kind=st.just(ControlKind.SHADOW),
        method=methods,
        path=paths,
        would=st.just(ControlKind.CLOSE),
    ),
)


def containment(number: int, incident: str, control: Control, now: datetime) -> Containment:
    return Containment(
        id=f"{incident}-R1.step-{number}",
        incident_id=incident,
        run_id=f"{incident}-R1",
        step_id=f"step-{number}",
        gateway="edge",
        control=control,
        owner=IRIS,
        reason="-",
        since=now,
        expires_at=now + timedelta(hours=4),
    )


@settings(max_examples=40)
@given(
    wanted=st.lists(st.tuples(st.sampled_from(INCIDENTS), controls), min_size=10, max_size=10),
    order=st.permutations(range(10)),
)
def test_ten_of_three_incidents_lifted_in_any_order(
    wanted: list[tuple[str, Control]], order: list[int]
) -> None:
    """
    After each hold and each lift the gateway has what those in force ask for, and nothing else; it
    never had anything in between; in the end it is as it was before the first.
    """
    gateway, clock = Watched(), FakeClock()
    before = gateway.observe()
    expected: list[frozenset[Control]] = []
    with empty_store() as store:
        desk = ContainmentDesk(store, {"edge": gateway}, clock)
        held: dict[int, Containment] = {}
        for number, (incident, control) in enumerate(wanted):
            held[number] = containment(number, incident, control, clock.now())
            desk.hold(held[number])
            expected.append(frozenset(each.control for each in held.values()))
            assert frozenset(gateway.controls) == expected[-1]
        for number in order:
            desk.lift([held.pop(number).id], IRIS)
            expected.append(frozenset(each.control for each in held.values()))
            assert frozenset(gateway.controls) == expected[-1]
        assert desk.in_force("edge") == ()
    assert gateway.had == expected
    assert gateway.observe() == before


@dataclass
class Known:
    """What the test knows of a containment in force."""

    control: Control
    expires_at: datetime
    owner: str = IRIS


class Overlap(RuleBasedStateMachine):
    """
    A desk at work: people and runs hold, lift, extend and hand over; time passes; Firedoor is
    restarted; the gateway is away for a while, is edited by hand, or has other writers.
    """

    def __init__(self) -> None:
        super().__init__()
        self._open = empty_store()
        self.store = self._open.__enter__()
        self.gateway, self.clock = FakeGateway(), FakeClock()
        self.base = self.gateway.observe()
        self.known: dict[str, Known] = {}
        self.made = 0
        self.is_behind = False
        """Whether what is wanted changed and the gateway was not brought there yet."""
        self.restart()

    def teardown(self) -> None:
        self._open.__exit__(None, None, None)

    def one(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.known)), "which")

    # --- what happens ----------------------------------------------------------------------------

    @initialize(wanted=st.lists(st.tuples(st.sampled_from(INCIDENTS), controls), max_size=6))
    def begin(self, wanted: list[tuple[str, Control]]) -> None:
        for incident, control in wanted:
            self.hold(incident, control, 240)

    @rule()
    def restart(self) -> None:
        self.desk = ContainmentDesk(self.store, {"edge": self.gateway}, self.clock)

    @rule(
        incident=st.sampled_from(INCIDENTS),
        control=controls,
        minutes=st.sampled_from([30, 60, 240]),
    )
    def hold(self, incident: str, control: Control, minutes: int) -> None:
        self.made += 1
        expires_at = self.clock.now() + timedelta(minutes=minutes)
        made = containment(self.made, incident, control, self.clock.now())
        made = made.model_copy(update={"expires_at": expires_at})
        self.known[made.id] = Known(control, expires_at)
        self.reaching(lambda: self.desk.hold(made))

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def hold_again(self, data: st.DataObject) -> None:
        """A step that is repeated after a crash."""
        held = self.desk.get(self.one(data))
        assert held is not None
        self.reaching(lambda: self.desk.hold(held))

    @precondition(lambda self: self.known)
    @rule(data=st.data(), count=st.integers(1, 3))
    def lift(self, data: st.DataObject, count: int) -> None:
        ids = sorted({self.one(data) for _ in range(count)})
        for each in ids:
            del self.known[each]
        self.reaching(lambda: self.desk.lift(ids, IRIS))

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """The command line ends it in the store, and leaves the gateway to the keeper."""
        id_ = self.one(data)
        del self.known[id_]
        self.desk.release([id_], IRIS)
        self.is_behind = True

    @precondition(lambda self: self.known)
    @rule(data=st.data(), minutes=st.sampled_from([10, 60, 300]))
    def extend(self, data: st.DataObject, minutes: int) -> None:
        id_ = self.one(data)
        self.desk.extend(id_, minutes * 60, IRIS)
        self.known[id_].expires_at = self.clock.now() + timedelta(minutes=minutes)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), owner=st.sampled_from(["slack:U0SAM", "cli:kim"]))
    def hand_over(self, data: st.DataObject, owner: str) -> None:
        id_ = self.one(data)
        self.desk.hand_over(id_, owner, IRIS)
        self.known[id_].owner = owner

    @rule(minutes=st.sampled_from([5, 30, 120]))
    def time_passes(self, minutes: int) -> None:
        """What is due ends, and what it held is open at once."""
        self.clock.advance(minutes=minutes)
        left = {i: k for i, k in self.known.items() if k.expires_at > self.clock.now()}
        ended = self.desk.expire_due()
        self.follow()
        assert {each.id for each in ended} == self.known.keys() - left.keys()
        self.known = left
        if ended:
            self.is_behind = self.gateway.down

    @rule()
    def catch_up(self) -> None:
        """The keeper finds what others changed in the store."""
        self.follow()
        if not self.gateway.down:
            self.is_behind = False

    @rule()
    def reconcile(self) -> None:
        """The keeper looks at the gateway itself."""
        self.desk.gateways.reconcile("edge")
        if not self.gateway.down:
            self.is_behind = False
            assert self.gateway.edited == ""

    @rule(down=st.booleans())
    def gateway_goes_or_comes(self, down: bool) -> None:
        self.gateway.down = down

    @rule()
    def somebody_edits_the_gateway(self) -> None:
        self.gateway.edited = "by hand"

    @rule(count=st.integers(1, 2))
    def others_write(self, count: int) -> None:
        self.gateway.conflicts = count

    def follow(self) -> None:
        """Do what the keeper of a gateway does twice a second."""
        if self.desk.gateways.is_behind("edge"):
            self.desk.gateways.reconcile("edge")

    def reaching(self, call: Callable[[], None]) -> None:
        """Do what waits for the gateway; while that is away, the keeper makes it good later."""
        if not self.gateway.down:
            call()
            self.is_behind = False
            return
        self.is_behind = True
        with pytest.raises(ProviderUnreachable):
            call()

    # --- what always holds -----------------------------------------------------------------------

    @invariant()
    def the_store_knows_what_is_in_force(self) -> None:
        found = {
            each.id: Known(each.control, each.expires_at, each.owner)
            for each in self.desk.in_force("edge")
        }
        assert found == self.known

    @invariant()
    def the_gateway_has_exactly_that(self) -> None:
        if not self.is_behind:
            assert set(self.gateway.controls) == {each.control for each in self.known.values()}

    @invariant()
    def nothing_in_force_is_as_before(self) -> None:
        if not (self.known or self.is_behind or self.gateway.down or self.gateway.edited):
            assert self.gateway.observe() == self.base


TestOverlap = Overlap.TestCase
TestOverlap.settings = settings(max_examples=40, stateful_step_count=30)
