"""A runbook as a Mermaid flowchart."""

from __future__ import annotations

from collections.abc import Iterable

from bot.action import Effect
from bot.engine.graph import words
from bot.language.runbook import Runbook, Step

LONGEST = 90
"""Of one line of a label, in characters; what is longer is cut."""

_KEPT_ALONE = frozenset(" ,")
_KEPT_INSIDE = frozenset("._-/:")
"""Stand as they are between two letters or digits, where neither Mermaid nor Markdown takes them
for anything."""

_CLASSES = (
    "classDef read fill:#eef4fb,stroke:#4a6fa5,color:#16202c",
    "classDef notify fill:#eefaf6,stroke:#2f7d6b,color:#16202c",
    "classDef change fill:#fff6e5,stroke:#a56a00,color:#16202c",
    "classDef irreversible fill:#fdeee9,stroke:#a83c1c,stroke-width:3px,color:#16202c",
    "classDef person fill:#f4effb,stroke:#6a4c9c,color:#16202c",
    "classDef gate fill:#ffffff,stroke:#6a4c9c,stroke-dasharray:4 3,color:#16202c",
    "classDef flow fill:#ffffff,stroke:#55606e,color:#16202c",
)

_CLASS_OF = {
    Effect.READ: "read",
    Effect.NOTIFY: "notify",
    Effect.CHANGE: "change",
    Effect.IRREVERSIBLE: "irreversible",
}

Ends = list[tuple[str, str]]
"""Nodes from which the next one is reached, each with the words on the arrow."""


def mermaid(runbook: Runbook) -> str:
    """Return the whole runbook, with those that it calls, as a flowchart."""
    return _Chart(runbook).text()


def escaped(text: str, length: int = LONGEST) -> str:
    """Return text for a quoted label, of which Mermaid, Markdown and HTML take nothing as theirs:
    letters and digits stay, all else that could mean anything becomes a character code."""
    line = words.clipped(text, length)
    made = []
    for index, char in enumerate(line):
        before, after = line[index - 1 : index], line[index + 1 : index + 2]
        inside = before.isalnum() and after.isalnum() and not line[:index].lower().endswith("www")
        if char.isalnum() or char in _KEPT_ALONE or (char in _KEPT_INSIDE and inside):
            made.append(char)
        else:
            made.append(f"#{ord(char)};")
    return "".join(made)


class _Chart:
    """Writes one flowchart. Names of nodes are numbers, so none can be a word of Mermaid."""

    def __init__(self, runbook: Runbook) -> None:
        self._runbook = runbook
        self._lines: list[str] = []
        self._depth = 1
        self._count = 0

    def text(self) -> str:
        self._line("flowchart TB", 0)
        runbook = self._runbook
        start = self._node("([", "])", (runbook.name, words.started_by(runbook)), "flow")
        ends = self._book(runbook, [(start, "")])
        end = self._node("([", "])", ("end",), "flow")
        self._link(ends, end)
        for line in _CLASSES:
            self._line(line)
        return "\n".join(self._lines) + "\n"

    def _book(self, runbook: Runbook, ends: Ends) -> Ends:
        ends = self._steps(runbook.steps, ends)
        if not runbook.always:
            return ends
        self._open("always, however the rest ended")
        ends = self._steps(runbook.always, ends)
        self._close()
        return ends

    def _steps(self, steps: Iterable[Step], ends: Ends) -> Ends:
        for step in steps:
            ends = self._step(step, ends)
        return ends

    def _step(self, step: Step, ends: Ends) -> Ends:
        passed: Ends = []
        if step.condition is not None:
            test = self._node("{", "}", (f"if {words.condition(step)}",), "flow")
            self._link(ends, test)
            ends, passed = [(test, "yes")], [(test, "no")]
        if step.approval is not None:
            gate = self._node("{{", "}}", ("approval", words.approval(step.approval)), "gate")
            self._link(ends, gate)
            ends = [(gate, "approved")]
            if step.approval.on_timeout == "skip":
                passed.append((gate, "not approved"))
        return [*self._body(step, ends), *passed]

    def _body(self, step: Step, ends: Ends) -> Ends:
        if step.is_group:
            return self._group(step, ends)
        shape = ("[/", "/]") if step.manual is not None else ("[", "]")
        kind = "person" if step.manual is not None else _CLASS_OF.get(step.effect, "flow")  # type: ignore[arg-type]
        node = self._node(*shape, (step.id, *_details(step)), kind)
        self._link(ends, node)
        waits = step.manual is not None and step.manual.timeout_s is not None
        if waits and step.manual is not None and step.manual.on_timeout == "skip":
            return [(node, "answered"), (node, "no answer")]
        return [(node, "")]

    def _group(self, step: Step, ends: Ends) -> Ends:
        self._open(" · ".join(part for part in (words.title(step), *_details(step)) if part))
        if step.parallel is not None:
            fork = self._node("((", "))", ("fork",), "flow")
            self._link(ends, fork)
            joined: Ends = []
            for branch in step.parallel.branches:
                joined += self._steps(branch, [(fork, "")])
            join = self._node("((", "))", (f"join {step.parallel.join}",), "flow")
            self._link(joined, join)
            ends = [(join, "")]
        elif step.foreach is not None:
            each = self._node("[[", "]]", (f"each {step.foreach.name}",), "flow")
            self._link(ends, each)
            last = self._steps(step.foreach.steps, [(each, "")])
            again = self._node("((", "))", ("all done",), "flow")
            self._link(last, again)
            ends = [(again, "")]
        elif step.call is not None and step.call.book is not None:
            ends = self._book(step.call.book, ends)
        else:
            node = self._node("[[", "]]", (words.does(step),), "flow")
            self._link(ends, node)
            ends = [(node, "")]
        self._close()
        return ends

    # --- lines ---------------------------------------------------------------------------------

    def _node(self, opening: str, closing: str, lines: Iterable[str], kind: str) -> str:
        self._count += 1
        name = f"n{self._count}"
        label = "<br>".join(escaped(line) for line in lines if line)
        self._line(f'{name}{opening}"{label}"{closing}:::{kind}')
        return name

    def _link(self, ends: Ends, node: str) -> None:
        for end, words_on_it in ends:
            label = f'|"{escaped(words_on_it)}"|' if words_on_it else ""
            self._line(f"{end} -->{label} {node}")

    def _open(self, label: str) -> None:
        self._count += 1
        self._line(f'subgraph g{self._count}["{escaped(label, 2 * LONGEST)}"]')
        self._depth += 1

    def _close(self) -> None:
        self._depth -= 1
        self._line("end")

    def _line(self, text: str, depth: int | None = None) -> None:
        self._lines.append("  " * (self._depth if depth is None else depth) + text)


def _details(step: Step) -> list[str]:
    details = [words.does(step), words.question(step)]
    if step.ttl_s is not None:
        details.append(f"expires after {words.duration_text(step.ttl_s)}")
    if fallback := words.fallback(step):
        details.append(f"if it fails: {fallback}")
    return [each for each in details if each]
