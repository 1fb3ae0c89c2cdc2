"""Closing and lifting under load: the neighbours do not notice."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bot.model.containment import Control, ControlKind
from tests.gateways import RIGS
from tests.gateways.killed import ROOT
from tests.gateways.rig import Rig
from tests.gateways.upstream import until

WRK = shutil.which("wrk")

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(WRK is None, reason="wrk is not installed, so there is no load"),
]

ORDER = "/api/orders/4001"
NEIGHBOURS = ("/api/orders", "/api/orders/export", "/api/customers/me", "/health")
CLOSE = Control(kind=ControlKind.CLOSE, method="GET", path="/api/orders/{order_id}")

CONNECTIONS = 16
LOAD_S = 5
PAUSE_S = 0.02
"""So that this process does not take the processor from those that it looks at."""

LEAST_PER_S = 200
"""Fewer would prove little. Two idle cores do thousands; those of a busy machine may not."""

SCRIPT = """
local paths = {%s}
local next_one = 0
request = function()
  next_one = next_one %% #paths + 1
  return wrk.format("GET", paths[next_one])
end
-- Failed: answers of 400 and above, and connections that could not be made, read, or written, or
-- gave nothing in time.
done = function(summary)
  local failed = summary.errors
  io.write(string.format('{"requests": %%d, "failed": [%%d, %%d, %%d, %%d, %%d]}\\n',
    summary.requests,
    failed.status, failed.connect, failed.read, failed.write, failed.timeout))
end
"""


@pytest.fixture(scope="module", params=[r.kind for r in RIGS if r.kind in ("envoy", "haproxy")])
def loaded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    """A gateway in front of a service that is quick enough."""
    (rig_class,) = (r for r in RIGS if r.kind == request.param)
    rig = rig_class(tmp_path_factory.mktemp(request.param))
    rig.upstream.close()
    quick = subprocess.Popen(
        [sys.executable, "-m", "tests.gateways.quick", str(rig.upstream_port)], cwd=ROOT
    )
    try:
        until(lambda: _listens(rig.upstream_port), "the quick service")
        rig.start()
        yield rig
    finally:
        quick.kill()
        quick.wait()
        rig.close()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def test_neighbours_lose_no_request(loaded: Rig, tmp_path: Path) -> None:
    """
    While an endpoint is closed and lifted again and again, thousands of requests to its neighbours
    are all answered by the service: by the count of who sent them, none failed.
    """
    script = tmp_path / "neighbours.lua"
    script.write_text(SCRIPT % ", ".join(f'"{path}"' for path in NEIGHBOURS))
    changes = 0
    with _load(loaded, script) as wrk:
        while wrk.poll() is None:
            loaded.gateway.converge([CLOSE])
            assert loaded.status(ORDER) == 503
            loaded.gateway.converge(())
            assert loaded.status(ORDER) == 200
            changes += 2
            time.sleep(PAUSE_S)
        assert wrk.stdout is not None
        counted = json.loads(wrk.stdout.read().splitlines()[-1])

    assert counted["failed"] == [0, 0, 0, 0, 0]
    assert counted["requests"] > LEAST_PER_S * LOAD_S
    assert changes >= 10


@contextmanager
def _load(rig: Rig, script: Path) -> Iterator[subprocess.Popen[str]]:
    """Have wrk send what a script says over kept connections, with a valid token."""
    wrk = subprocess.Popen(
        [
            str(WRK),
            *("--threads", "1"),
            *("--connections", str(CONNECTIONS)),
            *("--duration", f"{LOAD_S}s"),
            *("--timeout", "5s"),
            *("--header", f"Authorization: Bearer {rig.tokens.make('probe-owner')}"),
            *("--script", str(script)),
            rig.url,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield wrk
    finally:
        wrk.kill()
        wrk.communicate()
