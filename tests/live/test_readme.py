"""The commands of the pages that a new user reads first are run as they stand there."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.harness import ROOT, Site

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

PAGES = ("README.md", "runbooks/README.md")


def commands(page: str) -> list[list[str]]:
    """Return the words of every ``firedoor`` line in a page's console blocks."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line[:2] == "$ "]
    called = [shlex.split(line) for line in lines]
    return [words[1:] for words in called if words[0].endswith("firedoor")]


def test_every_command_works_as_it_stands(site: Site):
    """
    In the sandbox's company each command of the pages ends with 0.
    """
    config = str(site.company.settings_file)
    site.serve()
    called = [words for page in PAGES for words in commands(page)]
    assert len(called) > 5
    for words in called:
        if words[0] == "sandbox":
            continue  # stays up; see below
        done = subprocess.run(
            [sys.executable, "-m", "bot.cli", "--config", config, *words],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), words
        assert done.stdout


def test_the_sandbox_says_where_everything_is_and_ends_in_order(tmp_path: Path):
    """
    `firedoor sandbox` prints the addresses, stays up, and ends with 130 when it is stopped.
    """
    assert ["sandbox"] in commands("README.md")
    with subprocess.Popen(
        [sys.executable, "-m", "bot.cli", "sandbox", "--dir", str(tmp_path / "company")],
        stdout=subprocess.PIPE,
        text=True,
    ) as sandbox:
        assert sandbox.stdout is not None
        seen = ""
        for line in sandbox.stdout:
            seen += line
            if "Ctrl-C" in line:
                break
        sandbox.send_signal(signal.SIGTERM)
        sandbox.communicate(timeout=60)
    assert sandbox.returncode == 130
    assert all(name in seen for name in ("Slack", "Gateway", "OpenBao", "firedoor.yaml"))
