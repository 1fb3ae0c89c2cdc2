"""What the log engine may do, and how endpoints become patterns."""

from __future__ import annotations

import gzip
import json
import os
import signal
import string
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.logs import AccessLogs, query, worker
from actions.logs.paths import pattern_of
from actions.logs.query import Question
from actions.logs.schema import CANONICAL, KINDS
from bot.errors import BadInput, ProviderRefused, ProviderUnreachable, TimedOut


@pytest.fixture
def engine():
    """The engine as the worker uses it, and the one path that it may open."""
    descriptor, path = worker.scratch_file()
    worker.write(descriptor, b'{"start_time": "x"}\n')
    connection = worker.locked_down(path)
    yield connection, path
    connection.close()
    os.close(descriptor)


class TestLockDown:
    def test_reads_its_one_file(self, engine):
        """The lock-down leaves what the question needs."""
        connection, path = engine

        rows = connection.execute("SELECT * FROM read_json($p)", {"p": path}).fetchall()

        assert len(rows) == 1

    @pytest.mark.parametrize(
        "statement",
        [
            "SELECT * FROM read_text('{other}')",
            "SELECT * FROM read_text('{folder}/*')",
            "SELECT * FROM read_csv('{other}')",
            "SELECT * FROM '{other}'",
            "SELECT * FROM glob('{folder}/*')",
            "SELECT * FROM read_text('/proc/self/environ')",
            "ATTACH '{folder}/x.db'",
            "COPY (SELECT 1) TO '{folder}/stolen'",
            "EXPORT DATABASE '{folder}/x'",
            "INSTALL httpfs",
            "LOAD httpfs",
            "SET enable_external_access = true",
            "SET allowed_directories = ['/']",
            "SET lock_configuration = false",
            "RESET memory_limit",
        ],
    )
    def test_refuses_everything_else(self, engine, tmp_path, statement):
        """Whatever a log could make the engine do, it reaches nothing."""
        connection, _ = engine
        (tmp_path / "other").write_text("secret")

        with pytest.raises(duckdb.Error):
            connection.execute(statement.format(other=tmp_path / "other", folder=tmp_path))

        assert os.listdir(tmp_path) == ["other"]


class TestWorkerProcess:
    def test_carries_no_secret_of_ours(self, log, ask, monkeypatch):
        """Settings may lie in the environment as secrets; a log engine needs none of them."""
        monkeypatch.setenv("VAULT_TOKEN", "s.canary")
        seen = {}
        run = subprocess.run

        def spy(command, **options):
            seen.update(command=command, env=options["env"])
            return run(command, **options)

        monkeypatch.setattr(query.subprocess, "run", spy)
        log.write()

        assert ask()["records"] == 1
        assert "s.canary" not in str(seen)
        assert seen["env"].keys() == {"LC_ALL", "TZ"}

    def test_is_ended_at_its_limit(self, tmp_path):
        """A log that never ends does not keep the worker for ever."""
        os.mkfifo(tmp_path / "fifo")
        script = Path(query._WORKER)
        request = {"files": [str(tmp_path / "fifo")], "since": None, "limit_s": 1}

        ended = subprocess.run(
            [sys.executable, "-I", str(script)],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=20,
            check=False,
        )

        assert ended.returncode == -14
        error = query._error_of(AccessLogs("x"), -14, b"", 1)
        assert isinstance(error, TimedOut)

    def test_ends_when_nobody_waits(self, tmp_path):
        """A worker whose server was killed does not read on."""
        line = b'{"start_time": "2026-11-23T12:00:00Z"}\n'
        endless = tmp_path / "a.gz"
        endless.write_bytes(gzip.compress(line * 1_000_000) * 1000)
        middle = (
            "import os, subprocess, sys\n"
            "request = sys.argv[2].replace('\"parent\": 0', f'\"parent\": {os.getpid()}')\n"
            "worker = subprocess.Popen([sys.executable, '-I', sys.argv[1]],\n"
            "    stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)\n"
            "worker.stdin.write(request.encode()); worker.stdin.close()\n"
            "print(worker.pid, flush=True); os._exit(0)\n"
        )
        logs = AccessLogs("x", files=[str(endless)])
        question = Question(
            table="CREATE TEMP TABLE seen (us BIGINT)",
            fill=f"INSERT INTO seen WITH {query.lines_of(logs)} SELECT us FROM line",
            values={},
            reports={},
        )
        request = query.request_of(logs, question, limit_s=60) | {"parent": 0}
        command = [sys.executable, "-c", middle, str(query._WORKER), json.dumps(request)]
        pid = int(subprocess.check_output(command, timeout=20))

        try:
            for _ in range(400):
                if not _is_running(pid):
                    break
                time.sleep(0.05)
            assert not _is_running(pid)
        finally:
            if _is_running(pid):
                os.kill(pid, signal.SIGKILL)

    @pytest.mark.parametrize(
        ("stderr", "error"),
        [
            (b'noise\n{"error": "gone", "detail": "x"}\n', ProviderUnreachable),
            (b'{"error": "memory", "detail": "512MB"}', ProviderRefused),
        ],
    )
    def test_reports_become_errors_by_what_to_do_next(self, stderr, error):
        """A rotated file is worth another try; too little memory is not."""
        assert type(query._error_of(AccessLogs("x"), 1, stderr, 1)) is error

    def test_an_unknown_end_is_reported_as_such(self):
        """A crash of the engine says what is known of it."""
        error = query._error_of(AccessLogs("x"), -11, b"", 1)

        assert "status -11" in str(error)


class TestPatterns:
    @given(st.text(alphabet=string.printable.replace("{", "").replace("}", "")))
    def test_literal_text_matches_itself_only(self, text):
        """No character of a template acts as a regular expression."""
        path = "/" + "".join(text.split())
        pattern = pattern_of(f"GET {path}").regex

        (found,) = duckdb.execute(
            "SELECT regexp_full_match($path, $regex), regexp_full_match($more, $regex)",
            {"path": path, "more": path + "x", "regex": pattern},
        ).fetchall()

        assert found == (True, False)

    def test_a_parameter_may_be_a_part_of_a_segment(self):
        """`{name}.json` is a template, too."""
        assert pattern_of("GET /files/{name}.json").regex == r"^(?:/files/([^/]+)\.json)$"
        assert pattern_of("GET /a/{b}/{c}").parameters == 2

    def test_every_kind_fills_every_column(self):
        """A new kind of log must say where each canonical column is."""
        assert all(tuple(columns) == CANONICAL for columns in KINDS.values())


class TestConnection:
    def test_check_says_what_is_there(self, log):
        """`firedoor doctor` shows that the log is the right one, and alive."""
        log.write()

        said = AccessLogs("edge", files=[str(log.path)]).check()

        assert said.startswith("envoy_json, 1 file, 0.0 MB, last written 20")

    def test_check_of_nothing_says_what_to_mend(self, tmp_path):
        """A wrong path is found before the incident."""
        with pytest.raises(ProviderUnreachable, match=r"firedoor\.yaml"):
            AccessLogs("edge", files=[str(tmp_path / "none*")]).check()

    def test_an_unknown_kind_is_refused(self):
        """A log that nobody can read must not look configured."""
        with pytest.raises(BadInput, match="envoy_json"):
            AccessLogs("edge", kind="apache")


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
