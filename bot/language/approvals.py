"""Reads approvals: those of one step, and those that several steps share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from bot.language.fields import NAME, Located, Reading, Section, named_maps
from bot.language.hints import shortened, which
from bot.language.outline import Place
from bot.language.runbook import Approval
from bot.language.yaml_source import List, Scalar, path_of

APPROVAL_KEYS = ("from", "required", "timeout", "on_timeout", "break_glass")
MAX_APPROVALS = 10
ON_TIMEOUT: tuple[Literal["skip", "stop"], ...] = ("skip", "stop")
_WHAT = "a mapping such as {from: [group]}"


def read_approval(body: Section) -> Approval:
    """Read who must say yes."""
    body.require("from")
    groups = body.ids("from", "a group of people")
    entry = body.entry("from")
    if entry and isinstance(entry.value, List) and not entry.value.items:
        body.wrong("from", "Name at least one group that may approve.")
    return Approval(
        groups=tuple(groups),
        required=body.integer("required", 1, MAX_APPROVALS, 1),
        timeout_s=body.duration_s("timeout"),
        on_timeout=body.choice("on_timeout", ON_TIMEOUT, "stop"),
        break_glass=body.id("break_glass"),
    )


@dataclass(frozen=True)
class _Use:
    """A step that shares an approval: where it stands, what is over by then, what it reads."""

    step_id: str
    frame: Place
    over: frozenset[str]
    reads: tuple[Located, ...]


class Cards:
    """The approvals that steps of a runbook may share, by name."""

    def __init__(self, section: Section, reading: Reading) -> None:
        self.approvals: dict[str, Approval] = {}
        self._section = section
        self._uses: dict[str, list[_Use]] = {}
        node = section.map("approvals", "a mapping of names to approvals")
        for entry, body, where in named_maps(node, section.path("approvals"), reading, _WHAT):
            self._uses[entry.key] = []
            if body is not None:
                approval = read_approval(Section(body, where, reading, APPROVAL_KEYS))
                self.approvals[entry.key] = replace(approval, card=entry.key)
        self._node = node

    def read(
        self,
        section: Section,
        step_id: str,
        frame: Place,
        over: Iterable[str],
        reads: tuple[Located, ...],
    ) -> Approval | None:
        """
        Read the approval of a step.

        Args:
            over: The steps that are over when it begins.

            reads: The expressions of its parameters.
        """
        entry = section.entry("approval")
        named = isinstance(entry.value, Scalar) and entry.value.value if entry else None
        if not isinstance(named, str) or "{{" in named:
            what = f"{_WHAT}, or a name of 'approvals'"
            body = section.section("approval", APPROVAL_KEYS, what)
            return read_approval(body) if body else None
        uses = self._uses.get(named)
        if uses is None:
            hint = which(named, self._uses)
            message = f"No approval is called '{shortened(named)}' under 'approvals'.{hint}"
            section.wrong("approval", message)
            return None
        if uses and uses[0].frame != frame:
            section.wrong(
                "approval",
                f"Step '{uses[0].step_id}' shares the approval '{named}' and stands in other "
                "steps: within a foreach, or under 'always'. Such steps are not asked about "
                "together; give this one an approval of its own.",
            )
            return self.approvals.get(named)
        uses.append(_Use(step_id, frame, frozenset(over), reads))
        return self.approvals.get(named)

    def check(self, reading: Reading) -> None:
        """Report what only shows once all steps are read."""
        for entry in self._node.entries if self._node else ():
            uses = self._uses[entry.key]
            if not uses and NAME.fullmatch(entry.key):
                where = path_of(self._section.path("approvals"), entry.key)
                message = f"No step has 'approval: {entry.key}'. Name it at one, or leave it out."
                reading.add(entry.mark, where, message)
            over = frozenset.intersection(*(use.over for use in uses)) if uses else frozenset()
            for use in uses:
                _check_reads(use, entry.key, over, reading)


def _check_reads(use: _Use, name: str, over: frozenset[str], reading: Reading) -> None:
    """A card shows the plans of all its steps, so each must be known when the first one asks."""
    for located in use.reads:
        for path in located.expression.references:
            if path[0] != "steps" or len(path) < 2 or path[1] in over or path[1] not in use.over:
                continue
            message = (
                f"This step shares the approval '{name}', which is asked before steps.{path[1]} is "
                "known; give it an approval of its own."
            )
            reading.add(located.mark_of(path), located.where, message)
