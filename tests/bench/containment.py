"""From an alert's POST to the first blocked response seen from outside, and what serving costs."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import requests

from actions.gateway import EnvoyGateway
from bot.model.containment import Control, ControlKind
from bot.sandbox.company import Company
from bot.sandbox.main_job import ENDPOINT, alert_body, post_alert, start_firedoor
from bot.sandbox.orders_data import PROBE_OWNER
from bot.sandbox.processes import tcp_ready
from bot.sandbox.responders import until
from bot.sandbox.traffic import Watcher
from tests.live.harness import Site

ROUNDS = 12
"""A half; Firedoor is measured before and after the bare script."""

RUNBOOK = """\
id: bench
name: Close and reopen
summary: Closes an endpoint at once and reopens it when that was proven.
severity: sev4
owners: [security-oncall]
inputs:
  endpoint: {type: endpoint}
triggers:
  - source: alertmanager
    if: "{{ alert.labels.alertname == 'CrossOwnerReads' }}"
    inputs: {endpoint: "{{ alert.labels.endpoint }}"}
    auto: [close, reopen]
steps:
  - id: close
    uses: gateway.close
    with: {endpoint: "{{ inputs.endpoint }}"}
    ttl: 10m
  - id: reopen
    uses: gateway.lift
    with: {containments: ["{{ steps.close.containment }}"]}
"""


def measure_containment(folder: Path) -> dict[str, float]:
    runbooks = folder.with_name("runbooks")
    runbooks.mkdir()
    (runbooks / "bench.yaml").write_text(RUNBOOK)
    with Company(folder, runbooks=runbooks) as company:
        site = Site(company)
        began = time.perf_counter()
        site.url = start_firedoor(company)
        start_s = time.perf_counter() - began
        time.sleep(3.0)  # what serving costs is asked of an idle process
        rss_mb = _rss_mb(company.processes.child("firedoor").pid)
        firedoor_ms = [_firedoor_round(site, number) for number in range(ROUNDS)]
        company.processes.stop("firedoor")
        script_ms = _script_rounds(company)
        start_firedoor(company)
        firedoor_ms += [_firedoor_round(site, number) for number in range(ROUNDS, 2 * ROUNDS)]
    ordered = sorted(firedoor_ms)
    p50, p95 = statistics.median(ordered), ordered[int(len(ordered) * 0.95)]
    script_p50 = statistics.median(script_ms)
    return {
        "containment_first_block_p50_ms": p50,
        "containment_first_block_p95_ms": p95,
        "containment_script_p50_ms": script_p50,
        "containment_vs_script_ratio": p50 / script_p50,
        "containment_rounds": float(len(firedoor_ms)),
        "serve_start_s": start_s,
        "serve_rss_mb": rss_mb,
    }


def _watch(site: Site, act: Callable[[], None]) -> float:
    """Return the milliseconds from ``act`` until the first blocked answer."""
    token = site.company.login(PROBE_OWNER)
    path = site.example_path()
    until(lambda: site.ask(PROBE_OWNER, path) == 200, "the open endpoint")
    with Watcher(site.company.gateway_url, path, token) as watcher:
        began_ns = time.monotonic_ns()
        act()
        watched = watcher.wait_blocked()
    assert watched.first_blocked_ns is not None
    return (watched.first_blocked_ns - began_ns) / 1e6


def _firedoor_round(site: Site, number: int) -> float:
    body = alert_body(datetime.now(UTC), f"bench{number:012d}")
    run_ids: list[str] = []

    def act() -> None:
        response = post_alert(site.company, site.url, body)
        run_ids.append(response.json()["taken"][0]["run_id"])

    took_ms = _watch(site, act)
    site.wait_for_step(run_ids[0], "reopen", "done")
    return took_ms


def _script_rounds(company: Company) -> list[float]:
    places = company.places
    gateway = EnvoyGateway(
        name="edge",
        base_routes=places.base_routes,
        rds_file=places.rds_file,
        admin_url=places.url("envoy-admin"),
    )
    method, _, path = ENDPOINT.partition(" ")
    control = Control(kind=ControlKind.CLOSE, method=method, path=path)
    configurations = []
    for name, controls in (("closed", [control]), ("open", [])):
        file = company.directory / f"{name}.json"
        file.write_text(json.dumps(gateway.response(controls)))
        configurations.append(str(file))
    port = company.ports["firedoor"]
    script = Path(__file__).with_name("bare_script.py")
    arguments = [sys.executable, str(script), str(port), str(places.rds_file), *configurations]
    company.processes.start("bare-script", arguments)
    company.processes.wait_ready("bare-script", tcp_ready(port))
    site, url = Site(company), f"http://127.0.0.1:{port}"
    found = []
    for number in range(2 * ROUNDS):
        body = alert_body(datetime.now(UTC), f"script{number:010d}")
        found.append(_watch(site, lambda body=body: requests.post(f"{url}/alert", json=body)))
        requests.post(f"{url}/open", json={})
    company.processes.stop("bare-script")
    return found


def _rss_mb(pid: int) -> float:
    """Return the resident memory of a process; its children are not counted."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has no VmRSS line")
