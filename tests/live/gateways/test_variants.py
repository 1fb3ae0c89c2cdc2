"""No spelling of a request gets past a closed endpoint on any real gateway."""

from __future__ import annotations

import pytest

from actions.gateway import Close, Lift
from tests.gateways.rig import Rig, failed
from tests.gateways.upstream import ORDER

pytestmark = pytest.mark.live


@pytest.mark.parametrize("scope", ["method", "route"])
def test_no_spelling_gets_through(rig: Rig, scope: str) -> None:
    """
    With a service behind it that decodes, folds slashes, drops path parameters and obeys method
    overrides, the proof holds: fresh and kept connections, every variant, every neighbour.
    """
    close, ctx = Close(), rig.context(step=f"close-{scope}")
    plan, facts = rig.do(close, ctx, endpoint=ORDER, scope=scope)

    proof = close.verify(plan, ctx)

    assert failed(proof) == []
    assert rig.upstream.reached == []
    lift, lifting = Lift(), rig.context(step=f"lift-{scope}")
    done, _ = rig.do(lift, lifting, containments=[facts.containment])
    assert failed(lift.verify(done, lifting)) == []


def test_spelling_that_gets_through_is_named(rig: Rig) -> None:
    """
    A service that decodes twice is reached by what no gateway takes for its path; then the proof
    fails, and says by which spellings.
    """
    rig.upstream.decodes = 2
    close, ctx = Close(), rig.context(step="close-twice")
    plan, _ = rig.do(close, ctx, endpoint=ORDER)

    named = failed(close.verify(plan, ctx))

    reached = {path for _, path in rig.upstream.reached}
    assert len(named) >= len(reached)
    for path in reached:
        assert any(path in line for line in named)


def test_what_no_gateway_closes_is_named(rig: Rig) -> None:
    """
    A service may take its path from a header, and its method from a query or a form. The gateway
    cannot look there for all of them; the proof does.
    """
    rig.upstream.obeys_all = True
    close, ctx = Close(), rig.context(step="close-obedient")
    plan, _ = rig.do(close, ctx, endpoint=ORDER)

    named = failed(close.verify(plan, ctx))

    ways = ("X-Original-URL", "X-Rewrite-URL", "with ?_method=GET", "with _method=GET in a form")
    through = [any(way in line for line in named) for way in ways]
    assert len(named) == sum(through)
    assert through == [True] * 4
