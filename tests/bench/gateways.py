"""What closing an endpoint costs at each real gateway, beside a bare script in the same run."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from actions.gateway import Close, Lift
from bot.model.containment import Control, ControlKind
from tests.bench.bare_gateway import SCRIPTS, Recorded, calls, recording
from tests.gateways import RIGS, made
from tests.gateways.rig import Rig, failed
from tests.gateways.upstream import ORDER

ROUNDS = 20
WATCHED_ROUNDS = 6
IN_FLIGHT = 6
SLOW_S = 0.4
"""How long the service takes for a request that is under way while its endpoint is closed."""

PATH = "/api/orders/4001"
CONTROL = Control(kind=ControlKind.CLOSE, method="GET", path="/api/orders/{order_id}")
_WATCHER = Path(__file__).with_name("gateway_watcher.py")


def measure_gateways(folder: Path) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for rig_class in RIGS:
        if rig_class.kind not in SCRIPTS or rig_class.missing():
            continue  # a fleet is measured by itself
        rig = made(rig_class.kind, folder / rig_class.kind)
        assert isinstance(rig, Rig)
        try:
            found |= _step_against_script(rig) | _from_outside(rig)
        finally:
            rig.close()
    return found


# --- the whole step ------------------------------------------------------------------------------


def _step_against_script(rig: Rig) -> dict[str, float | None]:
    """Close by the whole step, from observing to proven, and by a bare script, in turns."""
    with recording() as recorded:
        _step(rig, "record")
    script = calls(rig, CONTROL)
    script.close()
    recorded.replay()
    script.open()
    step_ms, script_ms = [], []
    for number in range(ROUNDS):
        step_ms.append(_step(rig, str(number)))
        script_ms.append(_script(script.close, recorded))
        script.open()
    step, bare = statistics.median(step_ms), statistics.median(script_ms)
    return {
        f"close_{rig.kind}_step_p50_ms": step,
        f"close_{rig.kind}_script_p50_ms": bare,
        f"close_{rig.kind}_requests": float(len(recorded.requests)),
        f"close_vs_script_{rig.kind}_ratio": step / bare,
    }


def _step(rig: Rig, name: str) -> float:
    """Return the milliseconds of one ``gateway.close``; reopen afterwards."""
    close, ctx = Close(), rig.context(step=f"close-{name}")
    began = time.perf_counter()
    plan, facts = rig.do(close, ctx, endpoint=ORDER)
    proof = close.verify(plan, ctx)
    took_ms = (time.perf_counter() - began) * 1e3
    assert not failed(proof), failed(proof)
    rig.do(Lift(), rig.context(step=f"lift-{name}"), containments=[facts.containment])
    return took_ms


def _script(close: object, recorded: Recorded) -> float:
    assert callable(close)
    began = time.perf_counter()
    close()
    recorded.replay()
    return (time.perf_counter() - began) * 1e3


# --- from outside --------------------------------------------------------------------------------


def _from_outside(rig: Rig) -> dict[str, float | None]:
    """Ask all the time, on fresh and on kept connections, while the endpoint is closed; with slow
    requests under way."""
    blocked_ms, allowed_ms, dropped = [], [], 0
    for _ in range(WATCHED_ROUNDS):
        slow = _Slow(rig)
        watcher = subprocess.Popen(
            [sys.executable, str(_WATCHER), rig.url, PATH, rig.tokens.make("probe-owner")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert watcher.stdout is not None
        watcher.stdout.readline()  # it has begun
        slow.start()
        time.sleep(0.15)
        began_ns = time.monotonic_ns()
        rig.gateway.converge([CONTROL])
        returned_ns = time.monotonic_ns()
        time.sleep(0.3)
        out, _ = watcher.communicate("end\n", timeout=10)
        seen = json.loads(out.splitlines()[-1])
        blocked_ms.append((seen["first_blocked_ns"] - began_ns) / 1e6)
        allowed_ms.append((seen["last_allowed_ns"] - returned_ns) / 1e6)
        dropped += slow.dropped()
        rig.gateway.converge([])
    return {
        f"gateway_{rig.kind}_first_block_p50_ms": statistics.median(blocked_ms),
        # After the call has returned; below zero: by then nothing was let through any more.
        f"gateway_{rig.kind}_last_allowed_max_ms": max(allowed_ms),
        f"gateway_{rig.kind}_dropped_in_flight": float(dropped),
        f"gateway_{rig.kind}_in_flight": float(IN_FLIGHT * WATCHED_ROUNDS),
    }


class _Slow:
    """Requests that take their time."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._statuses: list[int] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(IN_FLIGHT)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        try:
            status = self._rig.status(PATH, headers={"x-test-delay-s": str(SLOW_S)})
        except OSError:
            status = 0
        self._statuses.append(status)

    def dropped(self) -> int:
        for thread in self._threads:
            thread.join()
        return sum(status != 200 for status in self._statuses)
