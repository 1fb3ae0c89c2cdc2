"""Reads a rehearsal: the test of a runbook, as YAML beside it.

A case says what starts the run, what each action would give, what people do, and where the run
must end. Nothing real is called: outcomes are made up here, so every value is literal. The format
is described in runbooks/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeGuard, get_args

from pydantic import ValidationError

from bot.errors import BadInput, Problem, RunbookInvalid
from bot.language.fields import Reading, Section, as_map
from bot.language.hints import shortened, which
from bot.language.inputs import fit_fields
from bot.language.keys import KEY, step_at
from bot.language.moments import parse_moment
from bot.language.runbook import Runbook, Step
from bot.language.yaml_source import (
    Broken,
    Entry,
    List,
    Map,
    Mark,
    Node,
    Scalar,
    leaves,
    path_of,
    plain,
    read,
)
from bot.model.alert import Alert
from bot.model.endpoint import Endpoint
from bot.model.events import ErrorKind, Phase
from bot.model.incident import RunStatus

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
"""When a case begins, unless it says otherwise."""

STEP_STATUSES = (
    "pending",
    "planning",
    "awaiting_approval",
    "awaiting_answer",
    "awaiting_decision",
    "awaiting_retry",
    "running",
    "verifying",
    "undoing",
    "done",
    "skipped",
    "failed",
    "undone",
    "stopped",
)
"""The engine's words for where a step stands."""

COMMANDS = (
    "plan",
    "run",
    "apply",
    "verify",
    "undo",
    "ask approval",
    "ask person",
    "ask decision",
    "remind",
    "finish",
)
"""What the engine may want done, as a case writes it before the step's key (or the status)."""

KEYS = ("runbook", "inventory", "cases")
CASE_KEYS = ("name", "alert", "inputs", "start_by", "now", "outcomes", "people", "expect")
ALERT_KEYS = ("source", "labels", "annotations", "starts_at", "fingerprint")
EXPECT_KEYS = ("status", "steps", "order", "undone", "commands", "outputs", "reason")
ENDPOINT_KEYS = ("owner", "summary", "operation_id", "data_classification", "example_path")
FAILURE_KEYS = ("fails", "message", "phase", "retry_after", "takes")
TAKES = "takes"
ActKind = Literal[
    "approve",
    "reject",
    "override",
    "answer",
    "decide",
    "skip",
    "retry",
    "wait",
    "pause",
    "resume",
    "cancel",
    "undo",
]
Choice = Literal["retry", "skip", "stop", "done"]
_ACT_KEYS: dict[ActKind, tuple[str, ...]] = {
    "approve": ("by", "groups", "at"),
    "reject": ("by", "groups", "reason", "at"),
    "override": ("by", "groups", "reason", "at"),
    "answer": ("by", "groups", "values", "at"),
    "decide": ("by", "groups", "choice", "at"),
    "skip": ("by", "reason", "at"),
    "retry": ("by", "groups", "at"),
    "wait": (),
    "pause": ("by", "reason", "at"),
    "resume": ("by", "at"),
    "cancel": ("by", "reason", "undo", "at"),
    "undo": ("by", "reason", "at"),
}
"""What stands beside an act; the first of these that is there says which one it is."""
_NEEDED: dict[ActKind, tuple[str, ...]] = {
    "approve": ("by", "groups"),
    "reject": ("by", "groups"),
    "override": ("by", "groups", "reason"),
    "decide": ("by", "choice"),
    "wait": (),
}
"""Which of them must be there; for all others that is ``by``."""
OF_THE_RUN: tuple[ActKind, ...] = ("pause", "resume", "cancel", "undo")
"""Acts that name no step; they are written ``cancel: true``."""


@dataclass(frozen=True)
class Gives:
    """The action works and leaves these facts; those not named are null. ``takes_s`` is how long
    the call in which it acts goes on."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    takes_s: float = 0.0


@dataclass(frozen=True)
class Fails:
    """The action does not work. ``phase`` is None for the one in which it acts."""

    error: ErrorKind
    message: str
    phase: Phase | None = None
    retry_after_s: float | None = None
    takes_s: float = 0.0


@dataclass(frozen=True)
class Act:
    """What a person does, once the run waits for it, or ``at_s`` after the start.

    ``wait`` is nobody doing anything until what the step waits for is given up or tried again.
    ``step`` is a key, and empty for what is said to the run as a whole.
    """

    kind: ActKind
    step: str = ""
    by: str = ""
    groups: tuple[str, ...] = ()
    reason: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    choice: Choice | None = None
    undo: bool = False
    at_s: float | None = None


@dataclass(frozen=True)
class Expect:
    """Where the run must stand when nothing more happens.

    ``steps`` names statuses by key, of the steps that matter. ``order`` is the order in which these
    steps must have ended. ``undone`` names the steps that were undone, all of them, in order.
    ``commands`` is everything that the engine asked for, in order (``apply close``); ``outputs`` is
    what the run gives to one that called it. None: whatever it is.
    ``reason`` must be part of the run's reason.
    """

    status: RunStatus
    steps: Mapping[str, str] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    reason: str = ""
    undone: tuple[str, ...] | None = None
    commands: tuple[str, ...] | None = None
    outputs: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Case:
    """One test. It is started by ``alert``, or by the person ``start_by`` with ``inputs``.

    ``outcomes`` are by key, in the order of the step's attempts; the last one goes on. A key
    without the numbers of iterations is for all of them.
    """

    name: str
    line: int
    expect: Expect
    now: datetime = START
    alert: Alert | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    start_by: str = ""
    outcomes: Mapping[str, tuple[Gives | Fails, ...]] = field(default_factory=dict)
    people: tuple[Act, ...] = ()


@dataclass(frozen=True)
class Rehearsal:
    """The tests of one runbook. ``endpoints`` is the inventory for them, by endpoint key."""

    runbook: str
    cases: tuple[Case, ...]
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)


def load_rehearsal(text: str, file: str, runbooks: Mapping[str, Runbook]) -> Rehearsal:
    """Read and check a rehearsal.

    Args:
        file: Its name, for messages.

        runbooks: All runbooks, by id.

    Raises:
        RunbookInvalid: Holds every problem of the text.
    """
    rehearsal, problems = check_rehearsal(text, runbooks)
    if rehearsal is None:
        raise RunbookInvalid(file, problems)
    return rehearsal


def check_rehearsal(
    text: str, runbooks: Mapping[str, Runbook]
) -> tuple[Rehearsal | None, tuple[Problem, ...]]:
    """Return the rehearsal and no problems, or None and all problems, in file order."""
    reading = Reading()
    root = read(text, reading)
    rehearsal = None
    if root is not None:
        body = as_map(root, "", reading, "a rehearsal: a mapping with runbook and cases")
        rehearsal = _rehearsal(body, reading, runbooks) if body else None
    problems = reading.problems
    return (None if problems else rehearsal), problems


def _rehearsal(body: Map, reading: Reading, runbooks: Mapping[str, Runbook]) -> Rehearsal:
    for leaf, where in leaves(body, ""):
        if isinstance(leaf, Scalar) and "{{" in leaf.raw:
            reading.add(leaf.mark, where, "A rehearsal holds literal values, no expressions.")
    section = Section(body, "", reading, KEYS)
    section.require("runbook", "cases")
    runbook_id = section.id("runbook") or ""
    runbook = runbooks.get(runbook_id)
    if runbook is None and runbook_id:
        hint = which(runbook_id, runbooks)
        section.wrong("runbook", f"No runbook is called '{shortened(runbook_id)}'.{hint}")
    endpoints = _endpoints(section)
    items = section.items("cases", "cases")
    entry = section.entry("cases")
    if entry and isinstance(entry.value, List) and not entry.value.items:
        section.wrong("cases", "A rehearsal has at least one case.")
    cases: dict[str, Case] = {}
    for item, where in items:
        node = as_map(item, where, reading, "a case such as {name: …, expect: …}")
        case = _CaseReader(node, where, reading, runbook).read() if node else None
        if case and case.name in cases:
            reading.add(item.mark, where, f"Two cases are called '{shortened(case.name)}'.")
        elif case:
            cases[case.name] = case
    return Rehearsal(runbook_id, tuple(cases.values()), endpoints)


def _endpoints(section: Section) -> dict[str, Endpoint]:
    endpoints: dict[str, Endpoint] = {}
    node = section.map("inventory", "a mapping of endpoints")
    for entry in node.entries if node else ():
        where = path_of("inventory", entry.key)
        body = as_map(entry.value, where, section.reading, "a mapping such as {owner: …}")
        if body is None:
            continue
        Section(body, where, section.reading, ENDPOINT_KEYS)
        method, _, path = entry.key.partition(" ")
        known = {each.key: plain(each.value) for each in body.entries if each.key in ENDPOINT_KEYS}
        try:
            endpoints[entry.key] = Endpoint(method=method, path=path, **known)
        except ValidationError as error:
            _report(error, entry, where, section.reading)
    return endpoints


def _report(error: ValidationError, entry: Entry, where: str, reading: Reading) -> None:
    for problem in error.errors(include_url=False, include_context=False):
        key = str(problem["loc"][0]) if problem["loc"] else ""
        inner = entry.value.get(key) if isinstance(entry.value, Map) else None
        mark = inner.value.mark if inner else entry.mark
        reading.add(mark, path_of(where, key), f"{problem['msg']}.")


class _CaseReader:
    """Reads one case of a runbook's rehearsal; None stands for a runbook that is not known."""

    def __init__(self, node: Map, where: str, reading: Reading, runbook: Runbook | None) -> None:
        self._section = Section(node, where, reading, CASE_KEYS)
        self._reading = reading
        self._runbook = runbook

    def read(self) -> Case | None:
        section = self._section
        section.require("name", "expect")
        now = self._moment(section, "now") or START
        alert = self._alert(now)
        if section.has("alert") == section.has("start_by"):
            message = "A case is started either by an 'alert' or by a person ('start_by')."
            self._reading.add(section.mark, section.where, message)
        if section.has("inputs") and section.has("alert"):
            section.wrong("inputs", "The trigger gives the inputs. Leave this out.")
        inputs = section.map("inputs", "a mapping of inputs")
        case = Case(
            name=section.text("name"),
            line=section.mark.line,
            expect=self._expect(),
            now=now,
            alert=alert,
            inputs=plain(inputs) if inputs else {},
            start_by=section.text("start_by"),
            outcomes=self._outcomes(),
            people=tuple(
                act
                for item, where in section.items("people", "acts")
                if (act := self._act(item, where)) is not None
            ),
        )
        return case if case.name else None

    def _moment(self, section: Section, key: str) -> datetime | None:
        text = section.text(key)
        try:
            return parse_moment(text) if text else None
        except ValueError as error:
            section.wrong(key, f"'{shortened(text)}' is not a moment: {error}.")
            return None

    def _alert(self, now: datetime) -> Alert | None:
        body = self._section.section("alert", ALERT_KEYS, "an alert such as {source: …}")
        if body is None:
            return None
        body.require("source")
        return Alert(
            source=body.id("source") or "",
            fingerprint=body.text("fingerprint") or "rehearsal",
            labels=self._texts(body, "labels"),
            annotations=self._texts(body, "annotations"),
            starts_at=self._moment(body, "starts_at") or now,
        )

    def _texts(self, section: Section, key: str) -> dict[str, str]:
        node = section.map(key, "a mapping of names to texts")
        texts: dict[str, str] = {}
        for entry in node.entries if node else ():
            if isinstance(entry.value, Scalar) and isinstance(entry.value.value, str):
                texts[entry.key] = entry.value.value
            elif not isinstance(entry.value, Broken):
                where = path_of(section.path(key), entry.key)
                self._reading.add(entry.value.mark, where, "Here goes text. Put it in quotes.")
        return texts

    def _step(self, key: str, mark: Mark, where: str, *, any_round: bool = False) -> Step | None:
        """Return the step that a key leads to, or None after reporting that there is none."""
        if not KEY.fullmatch(key):
            message = f"'{shortened(key)}' is not a step's key, such as close or each.2.rotate."
            self._reading.add(mark, where, message)
            return None
        if self._runbook is None:
            return None
        try:
            return step_at(self._runbook, key, any_round=any_round)
        except BadInput as error:
            self._reading.add(mark, where, str(error))
            return None

    def _steps(self, section: Section, key: str) -> tuple[str, ...]:
        """Return the steps' keys of a list."""
        found: list[str] = []
        for node, where in section.items(key, "steps"):
            name = node.value if isinstance(node, Scalar) else None
            if not isinstance(name, str):
                self._reading.add(node.mark, where, "Here goes a step's key, as text.")
            elif name in found:
                self._reading.add(node.mark, where, f"'{shortened(name)}' is here twice.")
            else:
                self._step(name, node.mark, where)
                found.append(name)
        return tuple(found)

    # --- what actions give ---------------------------------------------------------------------

    def _outcomes(self) -> dict[str, tuple[Gives | Fails, ...]]:
        node = self._section.map("outcomes", "a mapping of steps to what they give")
        outcomes: dict[str, tuple[Gives | Fails, ...]] = {}
        for entry in node.entries if node else ():
            where = path_of(self._section.path("outcomes"), entry.key)
            step = self._step(entry.key, entry.value.mark, where, any_round=True)
            if step is not None and step.uses is None:
                message = f"Step '{step.id}' asks a person. Put the answer under 'people'."
                if step.is_group:
                    message = f"Step '{step.id}' holds other steps. Say what those give."
                self._reading.add(entry.mark, where, message)
                continue
            several = isinstance(entry.value, List)
            nodes = entry.value.items if isinstance(entry.value, List) else (entry.value,)
            outcomes[entry.key] = tuple(
                outcome
                for index, each in enumerate(nodes)
                if (outcome := self._outcome(each, f"{where}[{index}]" if several else where, step))
            )
        return outcomes

    def _outcome(self, node: Node, where: str, step: Step | None) -> Gives | Fails | None:
        body = as_map(node, where, self._reading, "facts, or {fails: …, message: …}")
        if body is None:
            return None
        if body.get("fails") is None:
            names = step.fact_names if step else [entry.key for entry in body.entries]
            section = Section(body, where, self._reading, [*names, TAKES])
            facts = {e.key: plain(e.value) for e in body.entries if e.key != TAKES}
            return Gives(facts, section.duration_s(TAKES) or 0.0)
        section = Section(body, where, self._reading, FAILURE_KEYS)
        section.require("message")
        phases: dict[str, Phase] = {phase: phase for phase in get_args(Phase)}
        return Fails(
            error=section.choice("fails", get_args(ErrorKind), "failed"),
            message=section.text("message"),
            phase=phases.get(section.choice("phase", list(phases), "")),
            retry_after_s=section.duration_s("retry_after"),
            takes_s=section.duration_s(TAKES) or 0.0,
        )

    # --- what people do ------------------------------------------------------------------------

    def _act(self, node: Node, where: str) -> Act | None:
        kinds = ", ".join(_ACT_KEYS)
        body = as_map(node, where, self._reading, f"an act: one of {kinds}")
        if body is None:
            return None
        kind = next((each for each in _ACT_KEYS if body.get(each)), None)
        if kind is None:
            self._reading.add(body.mark, where, f"An act is one of {kinds}.")
            return None
        section = Section(body, where, self._reading, (kind, *_ACT_KEYS[kind]))
        section.require(*_NEEDED.get(kind, ("by",)))
        key, step = self._acts_on(section, kind)
        choices: dict[str, Choice] = {choice: choice for choice in get_args(Choice)}
        return Act(
            kind=kind,
            step=key,
            by=section.text("by"),
            groups=tuple(section.ids("groups", "a group")),
            reason=section.text("reason"),
            values=self._values(section, step),
            choice=choices.get(section.choice("choice", list(choices), "")),
            undo=kind == "cancel" and self._truth(section, "undo"),
            at_s=section.duration_s("at"),
        )

    def _acts_on(self, section: Section, kind: ActKind) -> tuple[str, Step | None]:
        """Return the key of the step that an act is about, and the step if there is one."""
        entry = section.entry(kind)
        if kind in OF_THE_RUN:
            if not self._truth(section, kind):
                section.wrong(kind, f"Write {kind}: true, or leave it out.")
            return "", None
        if entry is None or isinstance(entry.value, Broken):
            return "", None
        key = entry.value.value if isinstance(entry.value, Scalar) else None
        if not isinstance(key, str):
            section.wrong(kind, "Here goes a step's key, as text.")
            return "", None
        return key, self._step(key, entry.value.mark, section.path(kind))

    def _truth(self, section: Section, key: str) -> bool:
        entry = section.entry(key)
        if entry is None or isinstance(entry.value, Broken):
            return entry is not None
        value = entry.value.value if isinstance(entry.value, Scalar) else None
        if not isinstance(value, bool):
            section.wrong(key, "Here goes true or false.")
            return True
        return value

    def _values(self, section: Section, step: Step | None) -> Mapping[str, Any]:
        if not section.has("answer"):
            return {}
        if step is not None and step.manual is None:
            section.wrong("answer", f"Step '{step.id}' asks nothing.")
            return {}
        node = section.map("values", "a mapping of fields to values")
        if step is None or step.manual is None or (node is None and section.has("values")):
            return {}
        values, problems = fit_fields(step.manual.fields, plain(node) if node else {})
        for problem in problems:
            section.wrong("values", problem)
        return values

    # --- where it must end ---------------------------------------------------------------------

    def _expect(self) -> Expect:
        body = self._section.section("expect", EXPECT_KEYS, "a mapping such as {status: done}")
        if body is None:
            return Expect(RunStatus.DONE)
        body.require("status")
        commands = [
            node.value
            for node, where in body.items("commands", "commands")
            if self._is_command(node, where)
        ]
        outputs = body.map("outputs", "a mapping of outputs to values")
        return Expect(
            status=RunStatus(body.choice("status", [each.value for each in RunStatus], "done")),
            steps=self._statuses(body),
            order=self._steps(body, "order"),
            reason=body.text("reason"),
            undone=self._steps(body, "undone") if body.has("undone") else None,
            commands=tuple(map(str, commands)) if body.has("commands") else None,
            outputs=plain(outputs) if outputs is not None else None,
        )

    def _statuses(self, body: Section) -> dict[str, str]:
        steps = body.map("steps", "a mapping of steps to statuses")
        if steps is None:
            return {}
        keys = [entry.key for entry in steps.entries]
        section = Section(steps, body.path("steps"), self._reading, keys)
        for entry in steps.entries:
            self._step(entry.key, entry.mark, section.path(entry.key))
        return {key: section.choice(key, STEP_STATUSES, "done") for key in keys}

    def _is_command(self, node: Node, where: str) -> TypeGuard[Scalar]:
        """Tell whether a node is a command's text; report what is wrong with it."""
        text = node.value if isinstance(node, Scalar) else None
        verb = next((v for v in COMMANDS if str(text).startswith(f"{v} ")), "")
        if not isinstance(text, str) or not verb:
            known = ", ".join(f"'{verb} …'" for verb in COMMANDS)
            self._reading.add(node.mark, where, f"A command is one of {known}.")
            return False
        about = text.removeprefix(verb).strip()
        if verb != "finish":
            self._step(about, node.mark, where)
        elif about not in [each.value for each in RunStatus]:
            self._reading.add(node.mark, where, f"A run does not end '{shortened(about)}'.")
        return True
