"""What every gateway holds to: the fake that actions are tested with, and the real ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from bot.action import Gateway
from bot.errors import ProviderRefused, ProviderUnreachable
from bot.model.containment import Control, ControlKind
from bot.testing import FakeGateway
from tests.live.envoy_helpers import Edge


class Subject(Protocol):
    """A gateway, and what happens to it."""

    gateway: Gateway

    def writes(self) -> object:
        """Return something that changes whenever the gateway's configuration is written."""

    def stop(self) -> None: ...
    def start(self) -> None: ...
    def refuse(self) -> None:
        """Make the gateway refuse what it is given from now on."""

    def accept(self) -> None: ...
    def restarted(self) -> Gateway:
        """Return the adapter as a restart of Firedoor would make it."""


class Fake:
    """The fake."""

    def __init__(self) -> None:
        self.gateway = FakeGateway()

    def writes(self) -> object:
        return self.gateway.writes

    def stop(self) -> None:
        self.gateway.down = True

    def start(self) -> None:
        self.gateway.down = False

    def refuse(self) -> None:
        self.gateway.refuses = True

    def accept(self) -> None:
        self.gateway.refuses = False

    def restarted(self) -> Gateway:
        return self.gateway


class Envoy:
    """A real Envoy that watches its routes in a file."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._base = edge.files.base_routes.read_text()
        self.gateway = edge.adapter()

    def writes(self) -> object:
        status = self._edge.files.rds_file.stat()
        return status.st_ino, status.st_mtime_ns

    def stop(self) -> None:
        self._edge.stop()
        # How long it waits for an answer that will not come is not what is tested here.
        self.gateway = self._edge.adapter(take_timeout_s=0.2)

    def start(self) -> None:
        if self._edge.process is None:
            self._edge.start()
        self.gateway = self._edge.adapter()

    def refuse(self) -> None:
        base = json.loads(self._base)
        # Two virtual hosts of one domain: Envoy takes no such routes.
        base["virtual_hosts"].append({**base["virtual_hosts"][0], "name": "twin"})
        self._edge.files.base_routes.write_text(json.dumps(base))
        self.gateway = self._edge.adapter()

    def accept(self) -> None:
        self._edge.files.base_routes.write_text(self._base)
        self.gateway = self._edge.adapter()

    def restarted(self) -> Gateway:
        return self._edge.adapter()


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    directory: Path = tmp_path_factory.mktemp("edge")
    edge = Edge(directory)
    try:
        edge.start()
        yield edge
    finally:
        edge.close()


@pytest.fixture(params=["fake", pytest.param("envoy", marks=pytest.mark.live)])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """Each gateway in turn, with no control in force."""
    made: Subject = Fake()
    if request.param == "envoy":
        made = Envoy(request.getfixturevalue("edge"))
    made.gateway.converge(())
    yield made
    made.accept()
    made.start()


def close(path: str = "/api/orders/{order_id}") -> Control:
    return Control(kind=ControlKind.CLOSE, method="GET", path=path)


CONTROLS = [
    pytest.param(close(), id="close"),
    pytest.param(
        Control(
            kind=ControlKind.THROTTLE, method="GET", path="/api/orders/{order_id}", rate_per_s=1.0
        ),
        id="throttle",
    ),
    pytest.param(
        Control(
            kind=ControlKind.BLOCK_PRINCIPAL,
            method="GET",
            path="/api/orders/{order_id}",
            principal="c-mallory",
        ),
        id="block-principal",
    ),
]
TWO = (close(), close("/api/customers/me"))


class TestVersion:
    def test_it_does_not_depend_on_the_order(self, subject):
        """
        A set of controls has one version, whoever held what first.
        """
        assert subject.gateway.version_of(TWO) == subject.gateway.version_of(TWO[::-1])

    def test_the_same_control_twice_counts_once(self, subject):
        """
        Two incidents that close one endpoint ask for what one of them asks for.
        """
        version = subject.gateway.version_of([close()])

        assert subject.gateway.version_of([close(), close()]) == version

    @pytest.mark.parametrize("control", CONTROLS)
    def test_another_set_is_another_version(self, subject, control):
        """
        No control can be missing unseen.
        """
        other = close("/api/customers/me")
        versions = [
            subject.gateway.version_of(controls)
            for controls in ([], [control], [other], [control, other])
        ]

        assert len(set(versions)) == 4

    def test_it_is_the_same_after_a_restart(self, subject):
        """
        A new process compares with what an old one wrote.
        """
        assert subject.restarted().version_of(TWO) == subject.gateway.version_of(TWO)

    def test_asking_for_it_changes_nothing(self, subject):
        """
        It is pure.
        """
        before = subject.gateway.observe()

        subject.gateway.version_of(TWO)

        assert subject.gateway.observe() == before


class TestConverge:
    @pytest.mark.parametrize("control", CONTROLS)
    def test_the_gateway_reports_what_was_asked_for(self, subject, control):
        """
        What converge returns is the version of the set, and is what observe sees.
        """
        assert subject.gateway.supports(control)

        version = subject.gateway.converge([control])

        assert version == subject.gateway.version_of([control])
        assert subject.gateway.observe() == version
        assert subject.restarted().observe() == version

    def test_twice_is_one_write(self, subject):
        """
        Repeating it after a crash touches nothing that is right already.
        """
        subject.gateway.converge(TWO)
        written = subject.writes()

        subject.gateway.converge(TWO)
        subject.gateway.converge(TWO[::-1])
        subject.restarted().converge(TWO)

        assert subject.writes() == written

    def test_another_set_is_written(self, subject):
        """
        The counting of writes can see one.
        """
        subject.gateway.converge(TWO)
        written = subject.writes()

        subject.gateway.converge(TWO[:1])

        assert subject.writes() != written

    def test_the_empty_set_is_the_base(self, subject):
        """
        After the last control is gone the gateway is exactly as it was before the first.
        """
        base = subject.gateway.observe()
        assert base == subject.gateway.version_of(())
        subject.gateway.converge(TWO)
        assert subject.gateway.observe() != base

        assert subject.gateway.converge(()) == base
        assert subject.gateway.observe() == base

    def test_preparing_changes_nothing_that_is_there(self, subject):
        """
        A restart of Firedoor opens no endpoint that is closed.
        """
        version = subject.gateway.converge(TWO)
        written = subject.writes()

        subject.restarted().prepare()

        assert (subject.writes(), subject.gateway.observe()) == (written, version)


class TestDown:
    def test_it_is_unreachable_and_takes_the_set_when_it_is_back(self, subject):
        """
        Nobody is told that an endpoint is closed by a gateway that does not say so.
        """
        subject.stop()
        with pytest.raises(ProviderUnreachable):
            subject.gateway.observe()
        with pytest.raises(ProviderUnreachable):
            subject.gateway.converge(TWO)

        subject.start()

        assert subject.gateway.converge(TWO) == subject.gateway.version_of(TWO)
        assert subject.gateway.observe() == subject.gateway.version_of(TWO)


class TestRefusal:
    def test_the_old_set_serves_on(self, subject):
        """
        A configuration that the gateway refuses opens nothing that was closed, and is told apart
        from silence.
        """
        before = subject.gateway.converge(TWO)
        subject.refuse()

        with pytest.raises(ProviderRefused):
            subject.gateway.converge(TWO[:1])

        assert subject.gateway.observe() == before
        subject.accept()
        assert subject.gateway.converge(TWO[:1]) == subject.gateway.version_of(TWO[:1])
