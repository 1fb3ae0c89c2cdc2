"""What every gateway holds to: the fake that actions are tested with, the real servers, and the
stand-ins of those that cannot run here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from bot.action import Writing
from bot.errors import Conflict, LeaseLost, ProviderRefused, ProviderUnreachable
from bot.model import containment as model
from bot.model.containment import Control, ControlKind
from tests.gateways import STANDINS, made, rig_params
from tests.gateways.fake import Fake
from tests.gateways.killed import killed_after_write
from tests.gateways.subject import Subject

ORDER = "/api/orders/{order_id}"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a function that starts each kind of gateway once."""
    with ExitStack() as stack:
        started: dict[str, Subject] = {}

        def get(kind: str) -> Subject:
            if kind not in started:
                started[kind] = made(kind, tmp_path_factory.mktemp(kind))
                stack.callback(started[kind].close)
            return started[kind]

        yield get


@pytest.fixture(
    params=[
        "fake",
        *rig_params(),
        *(standin.kind for standin in STANDINS),
    ]
)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """Each gateway in turn, with no control in force."""
    kind = request.param
    given: Subject = Fake() if kind == "fake" else request.getfixturevalue("running")(kind)
    given.gateway.converge(())
    yield given
    given.accept()
    given.start()
    given.gateway = given.adapter()


def control(kind: ControlKind = ControlKind.CLOSE, path: str = ORDER, **more: Any) -> Control:
    return Control(kind=kind, method="GET", path=path, **more)


BY_ADDRESS = (model.Principal(kind=model.PrincipalKind.IP, value="198.51.100.0/24"),)
CONTROLS = [
    pytest.param(control(), id="close"),
    pytest.param(
        Control(kind=ControlKind.CLOSE, method=model.ANY_METHOD, path=ORDER), id="close-route"
    ),
    pytest.param(control(path="/api/orders/export"), id="close-literal"),
    pytest.param(control(ControlKind.THROTTLE, rate_per_s=1.0), id="throttle"),
    pytest.param(control(ControlKind.BLOCK, principals=BY_ADDRESS), id="block-address"),
    pytest.param(
        control(ControlKind.BLOCK, principals=(model.subject("c-mallory"),)), id="block-subject"
    ),
    pytest.param(control(ControlKind.ALLOW_ONLY, principals=BY_ADDRESS), id="allow-only"),
    pytest.param(control(ControlKind.SHADOW, would=ControlKind.CLOSE), id="shadow"),
]
HOLDING = pytest.mark.parametrize("wanted", CONTROLS)


def supported(subject: Subject, wanted: Control) -> Control:
    """Return a control, or skip the test with what the gateway says about it."""
    support = subject.gateway.supports(wanted)
    if not support.ok:
        assert support.why
        assert support.nearest in {*ControlKind, None}
        pytest.skip(f"{subject.kind} declares: {support.why}")
    return wanted


@pytest.fixture
def two(subject: Subject) -> tuple[Control, ...]:
    """Two controls that the gateway supports, the most disruptive first: closes, or, if it can
    close no path with a parameter, of paths without one; or limits, if it can close none."""
    me = "/api/customers/me"
    limited: dict[str, Any] = {"kind": ControlKind.THROTTLE, "rate_per_s": 1.0}
    for wanted in (
        (control(), control(path=me)),
        (control(path="/api/orders"), control(path=me)),
        (control(**limited), control(path=me, **limited)),
    ):
        if all(subject.gateway.supports(each).ok for each in wanted):
            return wanted
    pytest.fail(f"{subject.kind} supports neither closes nor limits")


class TestSupports:
    @HOLDING
    def test_what_it_cannot_is_said_with_a_nearer_rung(self, subject, wanted):
        """
        A gateway that cannot do a rung says why, and names one that it can, or none.
        """
        support = subject.gateway.supports(wanted)

        assert support.ok or support.why
        if support.nearest is not None:
            assert support.nearest is not wanted.kind

    def test_a_close_is_never_best_effort(self, subject):
        """
        What only slows callers down is not passed off as a block.
        """
        for kind in (ControlKind.CLOSE, ControlKind.BLOCK, ControlKind.ALLOW_ONLY):
            principals = () if kind is ControlKind.CLOSE else BY_ADDRESS
            assert not subject.gateway.supports(control(kind, principals=principals)).best_effort


class TestVersion:
    def test_it_does_not_depend_on_the_order(self, subject, two):
        """
        A set of controls has one version, whoever held what first.
        """
        assert subject.gateway.version_of(two) == subject.gateway.version_of(two[::-1])

    def test_the_same_control_twice_counts_once(self, subject, two):
        """
        Two incidents that close one endpoint ask for what one of them asks for.
        """
        version = subject.gateway.version_of(two[:1])

        assert subject.gateway.version_of([two[0], two[0]]) == version

    @HOLDING
    def test_another_set_is_another_version(self, subject, two, wanted):
        """
        No control can be missing unseen.
        """
        held, other = supported(subject, wanted), two[1]
        versions = [
            subject.gateway.version_of(controls)
            for controls in ([], [held], [other], [held, other])
        ]

        assert len(set(versions)) == 4

    def test_it_is_the_same_after_a_restart(self, subject, two):
        """
        A new process compares with what an old one wrote.
        """
        assert subject.adapter().version_of(two) == subject.gateway.version_of(two)

    def test_asking_for_it_changes_nothing(self, subject, two):
        """
        It is pure.
        """
        before = subject.gateway.observe()

        subject.gateway.version_of(two)

        assert subject.gateway.observe() == before


class TestConverge:
    @HOLDING
    def test_the_gateway_reports_what_was_asked_for(self, subject, wanted):
        """
        What converge returns is the version of the set, and is what observe sees.
        """
        held = supported(subject, wanted)

        version = subject.gateway.converge([held])

        assert version == subject.gateway.version_of([held])
        assert subject.gateway.observe() == version
        assert subject.adapter().observe() == version

    def test_twice_is_one_object(self, subject, two):
        """
        Repeating it touches nothing that is right already.
        """
        subject.gateway.converge(two)
        written, exported = subject.writes(), subject.export()

        subject.gateway.converge(two)
        subject.gateway.converge(two[::-1])
        subject.adapter().converge(two)

        assert (subject.writes(), subject.export()) == (written, exported)

    def test_another_set_is_written(self, subject, two):
        """
        The counting of writes can see one.
        """
        subject.gateway.converge(two)
        written = subject.writes()

        subject.gateway.converge(two[:1])

        assert subject.writes() != written

    def test_before_and_after_are_the_same_bytes(self, subject, two):
        """
        After the last control is gone the gateway's whole configuration is, to the byte, what it
        was before the first.
        """
        base, before = subject.gateway.observe(), subject.export()
        assert base == subject.gateway.version_of(())
        subject.gateway.converge(two)
        assert subject.gateway.observe() != base
        assert subject.export() != before

        assert subject.gateway.converge(()) == base
        assert subject.gateway.observe() == base
        assert subject.export() == before

    def test_preparing_changes_nothing_that_is_there(self, subject, two):
        """
        A restart of Firedoor opens no endpoint that is closed.
        """
        version = subject.gateway.converge(two)
        written = subject.writes()

        subject.adapter().prepare()

        assert (subject.writes(), subject.gateway.observe()) == (written, version)


class TestOthers:
    def test_who_lost_the_right_to_write_writes_nothing(self, subject, two):
        """
        The right is looked at right before the write, and its loss leaves the gateway as it was.
        """
        before, written = subject.gateway.observe(), subject.writes()

        def lost() -> None:
            raise LeaseLost("Another worker drives the run.")

        with pytest.raises(LeaseLost):
            subject.gateway.converge(two, Writing(begin=lost))

        assert (subject.gateway.observe(), subject.writes()) == (before, written)

    def test_of_two_writers_one_has_a_conflict_and_nothing_is_lost(self, subject, two):
        """
        Who read before another wrote is told so and writes nothing; reading anew, it can.
        """
        other = subject.adapter()
        first = Writing(begin=lambda: other.converge(two[1:]) and None)

        with pytest.raises(Conflict):
            subject.gateway.converge(two[:1], first)

        assert subject.gateway.observe() == subject.gateway.version_of(two[1:])
        assert subject.gateway.converge(two) == subject.gateway.version_of(two)

    def test_killed_after_the_write_it_is_adopted(self, subject, two):
        """
        What a killed process has written is found, and not written a second time; what it had
        still to write is written.
        """
        if not subject.cut:
            pytest.skip("it lives in this process")
        subject.gateway.converge(two)
        undisturbed = subject.export()
        subject.gateway.converge(())
        killed_after_write(subject, two)
        assert subject.export() == undisturbed or not subject.writes_once

        version = subject.adapter().converge(two)

        assert version == subject.gateway.version_of(two) == subject.gateway.observe()
        assert subject.export() == undisturbed

    def test_their_edit_survives(self, subject, two):
        """
        An operator's change to their own part, made while controls are in force, is there after
        the next change of controls, and after the last of them is gone.
        """
        subject.gateway.converge(two)

        subject.edit_theirs()

        subject.gateway.converge(two[:1])
        assert subject.has_their_edit()
        subject.gateway.converge(())
        assert subject.has_their_edit()

    def test_an_edit_of_our_part_is_seen_and_never_replaced_silently(self, subject, two):
        """
        Another hand in Firedoor's own part makes a version that no set has; when it is replaced,
        a sentence says so.
        """
        subject.gateway.converge(two)
        subject.edit_ours()
        gateway, told = subject.adapter(), list[str]()
        assert gateway.observe() != gateway.version_of(two)

        gateway.converge(two, Writing(displaced=told.append))

        assert gateway.observe() == gateway.version_of(two)
        assert len(told) == 1
        assert "replaced" in told[0] or "brought back" in told[0]

    def test_an_edit_of_our_part_is_kept_before_it_is_replaced(self, subject, two):
        """
        A process that is killed in between leaves nobody's work lost.
        """
        if subject.kind in ("fake", "cloudflare"):
            pytest.skip("it has nothing to keep it in: Cloudflare itself keeps earlier versions")
        arguments = subject.arguments()
        folder = arguments.get("kept_dir") or arguments.get("set_aside") or subject.directory
        for earlier in folder.rglob("*.other-*"):
            earlier.unlink()  # of another test; the same edit is kept once
        subject.gateway.converge(two)
        before = set(folder.rglob("*"))
        subject.edit_ours()

        killed_after_write(subject, two)

        kept = [p for p in folder.rglob("*.other-*") if p not in before]
        assert kept, [path.name for path in folder.rglob("*")]


class TestDown:
    def test_it_is_unreachable_and_takes_the_set_when_it_is_back(self, subject, two):
        """
        Nobody is told that an endpoint is closed by a gateway that does not say so.
        """
        subject.stop()
        gateway = subject.adapter()
        with pytest.raises(ProviderUnreachable):
            gateway.observe()
        with pytest.raises(ProviderUnreachable):
            gateway.converge(two)

        subject.start()

        gateway = subject.adapter()
        assert gateway.converge(two) == gateway.version_of(two)
        assert gateway.observe() == gateway.version_of(two)

    def test_after_a_restart_of_the_gateway_one_round_brings_it_back(self, subject, two):
        """
        Whether a gateway keeps its controls over a restart or not, one look and one converge
        later they are in force.
        """
        subject.gateway.converge(two)
        subject.stop()
        subject.start()

        gateway = subject.adapter()
        gateway.observe()

        assert gateway.converge(two) == gateway.version_of(two)
        assert gateway.observe() == gateway.version_of(two)

    def test_garbage_is_a_clear_error(self, subject, two):
        """
        An answer that is not the gateway's own is never taken for one, nor let through raw.
        """
        subject.gateway.converge(two)
        subject.garble()
        gateway = subject.adapter()
        try:
            with pytest.raises(ProviderUnreachable) as observed:
                gateway.observe()
            with pytest.raises(ProviderUnreachable):
                gateway.converge(two[:1])
        finally:
            subject.ungarble()

        assert gateway.name in str(observed.value) or subject.kind == "fake"


class TestRefusal:
    def test_the_old_set_serves_on(self, subject, two):
        """
        A configuration that the gateway refuses opens nothing that was closed, and is told apart
        from silence.
        """
        before = subject.gateway.converge(two)
        subject.refuse()

        with pytest.raises(ProviderRefused):
            subject.gateway.converge(two[:1])

        assert subject.gateway.observe() == before
        subject.accept()
        assert subject.gateway.converge(two[:1]) == subject.gateway.version_of(two[:1])
