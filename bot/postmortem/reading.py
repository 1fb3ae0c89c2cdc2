"""Read the journal's records back into models, without ever failing on a strange one.

A journal outlives the version that wrote it. What this version cannot read stays what it is: a
record with a kind and a body.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from bot.model.alert import Alert
from bot.model.commands import COMMAND, Command
from bot.model.containment import Containment
from bot.model.events import EVENT, Event
from bot.model.journal import Record
from bot.model.outcome import Evidence
from bot.postmortem.text import plain

M = TypeVar("M", bound=BaseModel)
C = TypeVar("C")
T = TypeVar("T")


@dataclass(frozen=True)
class Read:
    """
    A record, with what its body holds as far as this version understands it.

    ``commands`` are those that the event led to. The journal also has with each event what was
    outstanding before it and still is; that was told then.
    """

    record: Record
    event: Event | None = None
    commands: tuple[Command, ...] = ()
    containment: Containment | None = None
    evidence: Evidence | None = None
    alert: Alert | None = None

    @property
    def seq(self) -> int:
        return self.record.seq

    @property
    def key(self) -> tuple[str, str]:
        """The run and the step; both may be empty."""
        step = self.record.step_id or str(getattr(self.event, "step", ""))
        return self.record.run_id or "", step

    def text(self, name: str, limit: int = 200) -> str:
        """Return a text of the body, or an empty one if it is missing or no text."""
        value = self.record.body.get(name)
        return plain(value, limit) if isinstance(value, str) else ""

    def command(self, kind: type[C]) -> C | None:
        """Return the first command of a class that the event led to."""
        return next((c for c in self.commands if isinstance(c, kind)), None)


def read_all(records: Iterable[Record]) -> tuple[Read, ...]:
    """Return the records in the order of their numbers, each once."""
    unique = {record.seq: record for record in records}
    before: dict[str | None, list[Any]] = {}
    return tuple(_read(unique[seq], before) for seq in sorted(unique))


def _read(record: Record, before: dict[str | None, list[Any]]) -> Read:
    """Read a record; ``before`` holds what was outstanding of each run, and is brought up to it."""
    body = record.body
    if isinstance(body.get("event"), dict):
        commands = body.get("commands")
        outstanding = commands if isinstance(commands, list) else []
        known = before.get(record.run_id, [])
        before[record.run_id] = outstanding
        read = (_adapted(COMMAND, item) for item in outstanding if item not in known)
        return Read(
            record,
            event=_adapted(EVENT, body["event"]),
            commands=tuple(command for command in read if command is not None),
        )
    return Read(
        record,
        containment=_model(Containment, body.get("containment")),
        evidence=_model(Evidence, body.get("evidence")),
        alert=_model(Alert, body.get("alert")),
    )


def _adapted(adapter: TypeAdapter[T], value: Any) -> T | None:
    try:
        return adapter.validate_python(value)
    except ValidationError:
        return None


def _model(model: type[M], value: Any) -> M | None:
    if not isinstance(value, dict):
        return None
    try:
        return model.model_validate(value)
    except ValidationError:
        return None


@dataclass(frozen=True)
class RunbookHead:
    """What a runbook says of itself. Empty where it says nothing readable."""

    name: str = ""
    summary: str = ""
    owasp: str = ""
    owners: tuple[str, ...] = ()


def runbook_head(text: str) -> RunbookHead:
    """
    Return the head of a pinned runbook text.

    Only the top level's texts are read, from YAML events: the pinned text was checked when the
    run began, and may name actions that this version no longer has.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return RunbookHead()
    if not isinstance(root, yaml.MappingNode):
        return RunbookHead()
    found = {k.value: v for k, v in root.value if isinstance(k, yaml.ScalarNode)}

    def scalar(name: str) -> str:
        node = found.get(name)
        return plain(node.value, 300) if isinstance(node, yaml.ScalarNode) else ""

    owners = found.get("owners")
    nodes: Sequence[Any] = owners.value if isinstance(owners, yaml.SequenceNode) else ()
    return RunbookHead(
        name=scalar("name"),
        summary=scalar("summary"),
        owasp=scalar("owasp"),
        owners=tuple(plain(n.value, 80) for n in nodes if isinstance(n, yaml.ScalarNode)),
    )
