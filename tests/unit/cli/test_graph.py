"""``firedoor graph``: files, runbooks of the settings, runs."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from bot import wiring
from bot.cli.main import cli
from bot.errors import BadInput, RunbookInvalid
from bot.model.incident import Origin, StartRun
from bot.settings import load_settings

RUNBOOK = Path(__file__).resolve().parents[3] / "runbooks" / "api1-bola.yaml"


def graph(*words: str) -> str:
    done = CliRunner().invoke(cli, ["graph", *words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


class TestGraph:
    def test_a_file_needs_no_settings(self, tmp_path: Path):
        """
        Mermaid is printed, and a picture written where it is wanted.
        """
        picture = tmp_path / "bola.svg"

        assert graph(str(RUNBOOK)).startswith("flowchart TB\n")
        assert graph(str(RUNBOOK), "--svg", str(picture)) == f"{picture}\n"
        assert ElementTree.parse(picture).getroot().tag.endswith("svg")
        assert graph(str(RUNBOOK), "--svg", "-") == picture.read_text()
        assert graph(str(RUNBOOK), "--svg", str(picture), "--mermaid").count("flowchart TB") == 1

    def test_a_runbook_is_found_in_the_settings(self, tmp_path: Path):
        """
        By its id; and a slip is noticed.
        """
        settings = tmp_path / "firedoor.yaml"
        settings.write_text(f"runbooks: [{RUNBOOK.parent}]\nstate_dir: {tmp_path}\n")

        def call(name: str) -> str:
            done = CliRunner().invoke(
                cli, ["--config", str(settings), "graph", name], catch_exceptions=False
            )
            return done.stdout

        assert call("api1-bola") == graph(str(RUNBOOK))
        with pytest.raises(BadInput, match="Did you mean 'api1-bola'"):
            call("api1-bla")
        with pytest.raises(BadInput, match="INC-9-R9"):
            call("INC-9-R9")

    def test_what_cannot_be_drawn_is_said(self, tmp_path: Path):
        """
        A missing file, a broken one, and a place where nothing can be written.
        """
        broken = tmp_path / "broken.yaml"
        broken.write_text("id: x\n")
        binary = tmp_path / "binary.yaml"
        binary.write_bytes(b"\xff")

        for file in (broken, binary):
            with pytest.raises(RunbookInvalid):
                graph(str(file))
        with pytest.raises(BadInput, match="nothing was drawn"):
            graph(str(tmp_path / "absent.yaml"))
        with pytest.raises(BadInput, match="Name another file"):
            graph(str(RUNBOOK), "--svg", str(tmp_path))

    def test_a_run_is_drawn_with_the_way_it_took(self, tmp_path: Path):
        """
        From its pinned text and its state in the store.
        """
        folder = tmp_path / "runbooks"
        folder.mkdir()
        (folder / "a.yaml").write_text(QUESTION)
        file = tmp_path / "firedoor.yaml"
        file.write_text(
            f"runbooks: [{folder}]\nstate_dir: {tmp_path}/state\ngroups: {{oncall: ['cli:sam']}}\n"
        )
        settings = load_settings(file)
        store = wiring.open_store(settings)
        service = wiring.build(settings, store, _Nobody())
        wish = StartRun(runbook_id="a", origin=Origin(kind="person", actor="cli:sam"))
        run = service.incidents.start(wish).run
        store.close()
        (folder / "a.yaml").unlink()

        done = CliRunner().invoke(
            cli, ["--config", str(file), "graph", run.id, "--svg", "-"], catch_exceptions=False
        )

        texts = [each.text for each in ElementTree.fromstring(done.stdout).iter() if each.text]
        assert f"{run.id} A question" in texts
        assert "awaiting answer" in texts


QUESTION = """\
id: a
name: A question
summary: For a test.
severity: sev2
owners: [oncall]
steps:
  - id: over
    manual: {ask: "Is it over?"}
"""


class _Nobody:
    """A runner that drives nothing."""

    def start(self, run_id: str) -> None: ...

    def wake(self, run_id: str) -> None: ...
