"""``firedoor check`` and what is refused before anything runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FIVE_MISTAKES = """\
id: five-mistakes
name: Five mistakes
summary: One of each kind.
severity: sev9
owners: [security-oncall]
inputs:
  endpoint: {type: endpoint}
steps:
  - id: close
    uses: gateway.clse
  - id: throttle
    uses: gateway.throttle
    with: {endpoint: "{{ inputs.endpont }}", rate: 1/s}
    ttl: 30m
  - id: reopen
    uses: gateway.lift
    with: {containments: ["{{ ''.__class__ }}"]}
  - id: prove
    uses: probe.authorization
    with: {endpoint: "{{ inputs.endpoint }}", expekt: 403}
"""

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(8)
)


def check(*files: Path, as_json: bool = True) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "bot.cli", "check", *map(str, files)]
    return subprocess.run(
        [*argv, *(["--json"] if as_json else [])],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestCheck:
    def test_every_mistake_is_reported_at_its_place(self, tmp_path: Path):
        """
        Five mistakes give five problems, each with its line and column, and exit code 2.
        """
        file = tmp_path / "five.yaml"
        file.write_text(FIVE_MISTAKES)

        done = check(file)

        assert done.returncode == 2
        problems = json.loads(done.stdout)
        assert [(p["line"], p["column"]) for p in problems] == [
            (4, 11),
            (10, 11),
            (13, 33),
            (17, 34),
            (20, 47),
        ]
        assert "gateway.close" in problems[1]["says"]
        assert "endpoint" in problems[2]["says"]

    def test_a_good_runbook_is_said_to_be_good(self):
        """
        The shipped runbook has no problems and exit code 0.
        """
        runbook = Path(__file__).resolve().parents[3] / "runbooks" / "api1-bola.yaml"

        done = check(runbook, as_json=False)

        assert (done.returncode, done.stderr) == (0, "")
        assert "no problems" in done.stdout

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param(BOMB, id="alias-bomb"),
            pytest.param("[" * 100_000, id="deep-nesting"),
            pytest.param("id: a\nid: b\n", id="duplicate-key"),
            pytest.param("", id="empty"),
            pytest.param("\x00", id="control-character"),
            pytest.param("- just\n- a list\n", id="not-a-mapping"),
        ],
    )
    def test_rubbish_is_refused_quickly_with_a_place(self, tmp_path: Path, text: str):
        """
        Whatever the file holds, the answer is a problem with a place, never a traceback.
        """
        file = tmp_path / "rubbish.yaml"
        file.write_text(text)

        done = check(file, as_json=False)

        assert done.returncode == 2
        assert f"{file}:" in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_missing_file_is_named(self, tmp_path: Path):
        """
        A file that is not there is bad input.
        """
        done = check(tmp_path / "absent.yaml", as_json=False)

        assert done.returncode == 2
        assert "absent.yaml" in done.stderr
