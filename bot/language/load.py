"""YAML text -> Runbook. Reports all problems at once, each with line, column and path."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bot.action import Action
from bot.errors import NotFound, Problem, RunbookInvalid
from bot.language.declarations import known, read_declarations
from bot.language.fields import Reading, Section, as_map
from bot.language.inputs import coerce
from bot.language.references import Names, check_references
from bot.language.runbook import Input, Runbook, Trigger
from bot.language.steps import StepReader, check_auto
from bot.language.yaml_source import MAX_BYTES, Broken, List, Map, Mark, Node, Scalar, path_of, read
from bot.model.incident import Severity

RUNBOOK_KEYS = (
    "id",
    "name",
    "summary",
    "owasp",
    "severity",
    "owners",
    "inputs",
    "triggers",
    "steps",
)
TRIGGER_KEYS = ("source", "if", "inputs", "auto")
OWASP = re.compile(r"API(?:[1-9]|10):2023")
REHEARSAL_SUFFIX = ".rehearsal.yaml"


def load(text: str, file: str, actions: Mapping[str, Action[Any]]) -> Runbook:
    """Read and check a runbook.

    Args:
        file: Its name, for messages.

        actions: All actions, by name.

    Raises:
        RunbookInvalid: Holds every problem of the text.
    """
    runbook, problems = check(text, file, actions)
    if runbook is None or problems:
        raise RunbookInvalid(file, problems)
    return runbook


def check(
    text: str, file: str, actions: Mapping[str, Action[Any]]
) -> tuple[Runbook | None, tuple[Problem, ...]]:
    """Return the runbook and no problems, or None and all problems, in file order."""
    del file  # the text says all; the caller names the file when it reports
    reading = Reading()
    root = read(text, reading)
    runbook = None
    if root is not None:
        body = as_map(root, "", reading, "a runbook: a mapping with id, name, steps, …")
        runbook = _runbook(body, text, reading, actions) if body else None
    problems = reading.problems
    return (None if problems else runbook), problems


def _runbook(body: Map, text: str, reading: Reading, actions: Mapping[str, Action[Any]]) -> Runbook:
    """Read the whole runbook; it is only good if nothing was reported."""
    section = Section(body, "", reading, RUNBOOK_KEYS)
    section.require("id", "name", "summary", "severity", "owners", "steps")
    inputs = read_declarations(
        section.map("inputs", "a mapping of names to types"),
        "inputs",
        reading,
        computed_defaults=True,
    )
    check_references(reading.drain(), Names(frozenset(), "in a default"), reading)
    reader = StepReader(actions, inputs, reading)
    steps = reader.read(section)
    triggers = tuple(
        trigger
        for item, where in section.items("triggers", "triggers")
        if (trigger := _trigger(item, where, inputs, reader, reading)) is not None
    )
    severities = [severity.value for severity in Severity]
    return Runbook(
        id=section.id("id") or "",
        name=section.text("name"),
        summary=section.text("summary"),
        severity=Severity(section.choice("severity", severities, "sev1")),
        owners=_owners(section),
        inputs=known(inputs),
        triggers=triggers,
        steps=steps,
        text=text,
        digest=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
        owasp=section.name("owasp", OWASP, "an OWASP API class such as API1:2023"),
    )


def _owners(section: Section) -> tuple[str, ...]:
    owners = section.ids("owners", "a group of people")
    entry = section.entry("owners")
    if entry and isinstance(entry.value, List) and not entry.value.items:
        section.wrong("owners", "Name at least one group: owners approve what an alert starts.")
    return tuple(owners)


def _trigger(
    node: Node,
    where: str,
    inputs: Mapping[str, Input | None],
    reader: StepReader,
    reading: Reading,
) -> Trigger | None:
    body = as_map(node, where, reading, "a trigger such as {source: alertmanager}")
    if body is None:
        return None
    section = Section(body, where, reading, TRIGGER_KEYS)
    section.require("source")
    source, condition = section.id("source"), section.expression("if")
    values = _trigger_inputs(section, inputs)
    check_references(reading.drain(), Names(frozenset({"alert"}), "in a trigger"), reading)
    auto = section.ids("auto", "a step")
    check_auto(auto, reader, reading)
    return Trigger(source or "", condition, values, tuple(auto))


def _trigger_inputs(section: Section, inputs: Mapping[str, Input | None]) -> dict[str, Any]:
    """Read what a trigger gives to inputs, and see that it gives all that are required."""
    reading = section.reading
    node = section.map("inputs", "a mapping of inputs to values")
    given = Section(node, section.path("inputs"), reading, inputs) if node else None
    values: dict[str, Any] = {}
    needed: list[str] = []
    for name, declared in inputs.items():
        entry = given.entry(name) if given else None
        if entry is None:
            if declared is not None and not declared.has_default:
                needed.append(name)
            continue
        where = path_of(section.path("inputs"), entry.key)
        values[name] = reading.value(entry.value, where)
        if declared is not None and not _is_expression(entry.value):
            _check_literal(declared, values[name], entry.value, where, reading)
    if needed:
        message = (
            f"The trigger gives no value for {', '.join(needed)}, and an alert cannot be asked. "
            "Give one under 'inputs', or give the input a default."
        )
        at = given or section
        reading.add(at.mark, at.where, message)
    return values


def _is_expression(node: Node) -> bool:
    return isinstance(node, Scalar) and "{{" in node.raw


def _check_literal(declared: Input, value: Any, node: Node, where: str, reading: Reading) -> None:
    if isinstance(node, Broken):
        return
    try:
        coerce(declared, value)
    except ValueError as error:
        reading.add(node.mark, where, str(error))


def load_folder(paths: Iterable[Path], actions: Mapping[str, Action[Any]]) -> dict[str, Runbook]:
    """Load every runbook of files and folders, by id.

    In a folder, files ending in ``.yaml`` or ``.yml`` are runbooks, except ``.rehearsal.yaml``.
    Folders within are not entered.

    Raises:
        RunbookInvalid: Holds every problem of every file; two runbooks of one id are one.

        NotFound: A path does not exist.
    """
    runbooks: dict[str, Runbook] = {}
    files: dict[str, str] = {}
    bad: dict[str, tuple[Problem, ...]] = {}
    for path in _files(paths):
        text, problems = read_text(path)
        runbook = None
        if text is not None:
            runbook, problems = check(text, path.name, actions)
        if runbook is not None and runbook.id in runbooks:
            message = (
                f"{files[runbook.id]} is called '{runbook.id}' already. Rename one of the two."
            )
            problems = (Problem(*_place_of_id(runbook.text), "id", message),)
        if problems:
            bad[str(path)] = problems
        elif runbook is not None:
            runbooks[runbook.id], files[runbook.id] = runbook, path.name
    if len(bad) == 1:
        raise RunbookInvalid(*bad.popitem())
    if bad:
        raise RunbookInvalid(
            f"{len(bad)} files",
            [
                Problem(each.line, each.column, f"{file} {each.where}".rstrip(), each.message)
                for file, problems in bad.items()
                for each in problems
            ],
        )
    return runbooks


def _files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(
                each
                for each in path.iterdir()
                if each.suffix in (".yaml", ".yml")
                and not each.name.endswith(REHEARSAL_SUFFIX)
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


def _place_of_id(text: str) -> tuple[int, int]:
    root = read(text, Reading())
    entry = root.get("id") if isinstance(root, Map) else None
    mark = entry.value.mark if entry else Mark(1, 1)
    return mark.line, mark.column
