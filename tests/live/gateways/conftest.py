"""Each real gateway, started once for a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gateways import made, rig_params
from tests.gateways.rig import Rig


@pytest.fixture(scope="module", params=rig_params())
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    rig = made(request.param, tmp_path_factory.mktemp(request.param))
    assert isinstance(rig, Rig)
    yield rig
    rig.close()


@pytest.fixture
def rig(running: Rig) -> Rig:
    """A gateway with no control in force."""
    held = [c.id for c in running.desk.in_force(running.name)]
    running.desk.lift(held, "test")
    running.gateway.converge(())
    running.upstream.reset()
    return running
