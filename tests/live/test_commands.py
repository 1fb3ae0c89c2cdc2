"""The commands, as a person at a terminal uses them beside a serving process."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.sandbox.company import Company
from bot.sandbox.main_job import ENDPOINT
from bot.sandbox.orders_data import PROBE_OWNER
from bot.sandbox.responders import until
from tests.live.harness import Site

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(180)]

RUNBOOKS = {
    "close-now.yaml": """\
id: close-now
name: Close an endpoint
summary: Closes an endpoint and asks when it may be opened.
severity: sev3
owners: [security-oncall]
inputs:
  endpoint: {type: endpoint}
steps:
  - id: close
    uses: gateway.close
    with: {endpoint: "{{ inputs.endpoint }}"}
    ttl: 1h
  - id: why
    manual: {ask: "Why?", fields: {reason: {type: string}}}
  - id: wide
    uses: gateway.throttle
    with: {endpoint: "{{ inputs.endpoint }}", rate: 5/s}
    ttl: 1h
    approval: {from: [security-oncall], required: 1}
""",
}


class Terminal:
    """Calls ``firedoor`` with a company's settings."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def __call__(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            self.argv(*words), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stdout + done.stderr

    def argv(self, *words: str) -> list[str]:
        config = str(self.site.company.settings_file)
        return [sys.executable, "-m", "bot.cli", "--config", config, *words]

    def json(self, *words: str):
        return json.loads(self(*words, "--json"))


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    folder = tmp_path_factory.mktemp("commands")
    runbooks = folder / "runbooks"
    runbooks.mkdir()
    for name, text in RUNBOOKS.items():
        (runbooks / name).write_text(text)
    with Company(folder / "company", runbooks=runbooks) as company:
        site = Site(company)
        site.serve()
        yield Terminal(site)


class TestARunByCommands:
    def test_from_start_to_lift(self, terminal: Terminal, tmp_path: Path):
        """
        A person starts, watches, answers, is refused their own approval, cancels, extends, lifts
        and writes it up; a serving process does the work.
        """
        site = terminal.site
        started = json.loads(terminal("run", "close-now", f"endpoint={ENDPOINT}", "--detach"))
        run_id, incident_id = started["run"], started["incident"]
        until(lambda: site.ask(PROBE_OWNER, site.example_path()) == 503, "the closed endpoint")
        site.wait_for_step(run_id, "why", "awaiting_answer")
        assert [i["id"] for i in terminal.json("incidents")] == [incident_id]
        assert terminal.json("status")[0]["steps"]["why"]["status"] == "awaiting_answer"

        assert "reason" in terminal("answer", run_id, code=2)
        terminal("answer", run_id, "reason=a leak")
        site.wait_for_step(run_id, "wide", "awaiting_approval")
        assert "You started" in terminal("approve", run_id, code=3)
        terminal("cancel", run_id, "--reason", "enough")
        until(lambda: site.state(run_id).status.is_final, "the end of the run")

        held = terminal.json("containments", "list")
        assert [c["id"] for c in held] == [f"{run_id}.close"]
        terminal("containments", "extend", held[0]["id"], "3h")
        terminal("containments", "lift", held[0]["id"])
        until(lambda: site.ask(PROBE_OWNER, site.example_path()) == 200, "the open endpoint")
        kinds = [entry["kind"] for entry in terminal.json("timeline", incident_id)]
        assert {"containment_extended", "containment_lifted", "cancelled"} <= set(kinds)
        written = terminal.json("postmortem", incident_id, "--out", str(tmp_path))
        assert Path(written["pdf"]).read_bytes().startswith(b"%PDF")

    def test_a_plan_changes_nothing(self, terminal: Terminal):
        """
        `plan` shows the digest of what would be done, and the gateway stays as it is.
        """
        before = terminal.site.company.places.rds_file.read_bytes()

        planned = terminal.json("plan", "close-now", f"endpoint={ENDPOINT}")

        assert planned["steps"][0]["plan"]["digest"]
        assert terminal.site.company.places.rds_file.read_bytes() == before


class TestExitCodes:
    @pytest.mark.parametrize(
        ("words", "code", "says"),
        [
            pytest.param(("run", "close-now"), 2, "endpoint", id="missing-input"),
            pytest.param(("run", "nothing"), 2, "close-now", id="unknown-runbook"),
            pytest.param(("timeline", "INC-999"), 2, "INC-999", id="unknown-incident"),
            pytest.param(("approve", "INC-999-R1"), 2, "INC-999-R1", id="unknown-run"),
            pytest.param(("serve",), 3, "drives the runs", id="second-serve"),
            pytest.param(("containments", "extend", "x", "soon"), 2, "soon", id="no-duration"),
            pytest.param(("frobnicate",), 2, "frobnicate", id="unknown-command"),
        ],
    )
    def test_each_kind_of_no_has_its_code(self, terminal: Terminal, words, code, says):
        """
        2 is bad input, 3 is refused; the message names what is wrong.
        """
        assert says in terminal(*words, code=code)

    def test_doctor_says_what_gives_no_answer(self, terminal: Terminal):
        """
        With Envoy away `doctor` exits 5 and names the gateway; the rest is still looked at.
        """
        assert "NOT OK" not in terminal("doctor")
        terminal.site.company.stop("envoy")
        try:
            answer = terminal("doctor", code=5)
        finally:
            terminal.site.company.start("envoy")
        assert "gateway edge" in answer
        assert "slack" in answer

    def test_an_interrupted_serve_says_so(self, terminal: Terminal):
        """
        Ctrl-C, and SIGTERM alike, end `serve` in order with 130.
        """
        company = terminal.site.company
        company.processes.stop("firedoor")
        for ending in (signal.SIGINT, signal.SIGTERM):
            with subprocess.Popen(
                terminal.argv("serve"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            ) as serving:
                assert serving.stderr is not None
                for line in serving.stderr:
                    if b"takes alerts" in line:
                        break
                time.sleep(0.5)
                serving.send_signal(ending)
                _, rest = serving.communicate(timeout=30)
            assert serving.returncode == 130, rest.decode()
        terminal.site.serve()


class TestAudit:
    def test_an_altered_record_is_named(self, terminal: Terminal):
        """
        `audit verify` names the first record that was altered, and exits 4.
        """
        records = terminal.json("audit", "verify")["records"]
        assert records > 10
        file = terminal.site.company.directory / "state" / "firedoor.sqlite"
        with sqlite3.connect(file) as database:
            (body,) = database.execute("SELECT body FROM journal WHERE seq = 3").fetchone()
            database.execute("UPDATE journal SET body = '{}' WHERE seq = 3")
        try:
            assert "Record 3" in terminal("audit", "verify", code=4)
        finally:
            with sqlite3.connect(file) as database:
                database.execute("UPDATE journal SET body = ? WHERE seq = 3", (body,))
