"""Reads runbooks and their rehearsals from folders. The language and the engine read no files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bot.action import Action
from bot.engine.rehearsal import Rehearsed, rehearse
from bot.errors import NotFound, Problem, RunbookInvalid
from bot.language.load import load_texts
from bot.language.rehearsal import load_rehearsal
from bot.language.runbook import Runbook
from bot.language.yaml_source import MAX_BYTES

REHEARSAL_ENDING = ".rehearsal.yaml"


def load_folder(paths: Iterable[Path], actions: Mapping[str, Action[Any]]) -> dict[str, Runbook]:
    """Load every runbook of files and folders, by id.

    In a folder, files ending in ``.yaml`` or ``.yml`` are runbooks, except ``.rehearsal.yaml``.
    Folders within are not entered.

    Raises:
        RunbookInvalid: Holds every problem of every file; two runbooks of one id are one.

        NotFound: A path does not exist.
    """
    texts: dict[str, str] = {}
    unreadable: dict[str, tuple[Problem, ...]] = {}
    for path in _files(paths):
        text, problems = read_text(path)
        if text is None:
            unreadable[str(path)] = problems
        else:
            texts[str(path)] = text
    return load_texts(texts, actions, unreadable)


def _files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(
                each
                for each in path.iterdir()
                if each.suffix in (".yaml", ".yml")
                and not each.name.endswith(REHEARSAL_ENDING)
                and each.is_file()
            )
        elif path.exists():
            files.append(path)
        else:
            raise NotFound(
                f"{path} does not exist, so no runbook was read. Check the path, or 'runbooks' in "
                "the settings."
            )
    return files


def read_text(path: Path) -> tuple[str | None, tuple[Problem, ...]]:
    """Return a file's text, or None and the problem: too large, or not UTF-8."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        return None, (Problem(1, 1, "", f"The file is larger than {MAX_BYTES // 1024} KiB."),)
    try:
        return content.decode("utf-8"), ()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return None, (Problem(line, 1, "", "The file is not UTF-8. Save it as UTF-8."),)


def rehearse_folder(folder: Path, actions: Mapping[str, Action[Any]]) -> list[Rehearsed]:
    """
    Run every case of every rehearsal in a folder.

    Raises:
        RunbookInvalid: A runbook or a rehearsal breaks the language, or a runbook has no
            rehearsal.
    """
    runbooks = load_folder([folder], actions)
    results: list[Rehearsed] = []
    rehearsed: set[str] = set()
    for file in sorted(folder.glob(f"*{REHEARSAL_ENDING}")):
        rehearsal = load_rehearsal(file.read_text(encoding="utf-8"), str(file), runbooks)
        rehearsed.add(rehearsal.runbook)
        runbook = runbooks[rehearsal.runbook]
        results += [rehearse(runbook, rehearsal, case, str(file)) for case in rehearsal.cases]
    missing = sorted(set(runbooks) - rehearsed)
    if missing:
        message = (
            f"No rehearsal for {', '.join(missing)}. Write NAME{REHEARSAL_ENDING} beside the "
            "runbook."
        )
        raise RunbookInvalid(str(folder), [Problem(1, 1, "", message)])
    return results
