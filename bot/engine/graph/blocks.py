"""The parts of a drawn runbook: each knows its size, and draws itself at a place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bot.engine.graph.paper import (
    INK,
    LOOKS,
    PALE,
    PLAIN,
    QUIET,
    Font,
    Look,
    Paper,
    Style,
    fit,
    width_of,
)
from bot.engine.graph.path import Iteration, status_text
from bot.engine.graph.words import took_text

CARD = 348.0
PAD = 16.0
GAP = 42.0
LEAD, TRAIL = 26.0, 16.0
BESIDE = 26.0
"""Between two branches."""
PASS = 20.0
"""How far left of a step the way past it runs."""
JOIN = 14.0
"""How far above a block a way from the side comes in."""
ROW = 22.0
MOST_ROWS = 20
MOST_MARKS = 5


@dataclass(frozen=True)
class Meets:
    """How the run's way meets a block. Without a run all ways are plain."""

    drawn: bool = True
    """False: there is no run to show."""
    taken: bool = False
    passed: bool = False
    optional: bool = False

    @property
    def into(self) -> Style:
        return "plain" if not self.drawn else "taken" if self.taken else "idle"

    @property
    def past(self) -> Style:
        return "plain" if not self.drawn else "taken" if self.passed else "idle"

    @property
    def reached(self) -> Style:
        """The way up to where it parts: through the block, or past it."""
        return "taken" if self.drawn and _met(self) else self.into


class Block(Protocol):
    """Something with a size that is entered in the middle of its top and left at its bottom."""

    @property
    def width(self) -> float: ...
    @property
    def height(self) -> float: ...
    @property
    def way(self) -> Meets: ...
    def draw(self, paper: Paper, x: float, y: float) -> None: ...


@dataclass(frozen=True)
class Line:
    """One line of a card: what it is about, and the words."""

    label: str
    text: str
    font: Font = "sans"
    loud: bool = False


@dataclass(frozen=True)
class Card:
    """A step."""

    name: str
    does: str
    tag: str
    lines: tuple[Line, ...]
    look: Look
    status: str
    way: Meets
    mono: bool = True
    heavy: bool = False
    width: float = CARD

    @property
    def height(self) -> float:
        return 52.0 + 17 * len(self.lines) + (2 if self.lines else 0)

    def draw(self, paper: Paper, x: float, y: float) -> None:
        idle = self.way.drawn and not self.way.taken
        paper.box(
            x,
            y,
            self.width,
            self.height,
            edge=PALE if idle else self.look.edge,
            ground=self.look.ground,
            thick=2.6 if self.heavy else 1.6,
            dashed=idle,
        )
        paper.mark(x + 21, y + 20, self.look)
        _head(paper, x, y, self.width, self.name, self.status, self.look, idle)
        left, tag_room = x + 38, width_of(self.tag, 9.5, bold=True) + 10
        ink = QUIET if idle else INK
        font: Font = "mono" if self.mono else "sans"
        room = self.width - 50 - tag_room
        paper.text(left, y + 42, self.does, 12, fill=ink, font=font, room=room)
        paper.text(x + self.width - 12, y + 42, self.tag, 9.5, fill=QUIET, bold=True, anchor="end")
        _lines(paper, left, y + 60, self.width - 50, self.lines, self.look)


@dataclass(frozen=True)
class Pill:
    """The beginning or the end."""

    text: str
    way: Meets
    look: Look = PLAIN
    height: float = 34.0

    @property
    def width(self) -> float:
        return min(width_of(self.text, 12.5, bold=True) + 60, 420)

    def draw(self, paper: Paper, x: float, y: float) -> None:
        idle = self.way.drawn and not self.way.taken
        edge = PALE if idle else self.look.edge
        paper.box(
            x,
            y,
            self.width,
            self.height,
            edge=edge,
            ground=self.look.ground,
            radius=17,
            thick=1.8,
            dashed=idle,
        )
        paper.mark(x + 20, y + 17, self.look, 8)
        paper.text(
            x + 36,
            y + 21.5,
            self.text,
            12.5,
            bold=True,
            fill=QUIET if idle else INK,
            room=self.width - 46,
        )


@dataclass(frozen=True)
class Stack:
    """Blocks one below the other; optional ones have a way past them."""

    blocks: Sequence[Block]
    way: Meets
    lead: float = LEAD
    trail: float = TRAIL

    @property
    def width(self) -> float:
        widths = [
            block.width + (2 * (PASS + 8) if _has_pass(block) else 0) for block in self.blocks
        ]
        return max(widths, default=120.0)

    @property
    def height(self) -> float:
        if not self.blocks:
            return self.lead + self.trail
        between = GAP * (len(self.blocks) - 1)
        return self.lead + sum(block.height for block in self.blocks) + between + self.trail

    def places(self, y: float) -> list[float]:
        """Return where each block begins if the stack begins at ``y``."""
        found, at = [], y + self.lead
        for block in self.blocks:
            found.append(at)
            at += block.height + GAP
        return found

    def draw(self, paper: Paper, x: float, y: float) -> None:
        middle, top = x + self.width / 2, y
        for index, (block, at) in enumerate(zip(self.blocks, self.places(y), strict=True)):
            left = middle - block.width / 2
            if index or self.lead:
                left_off = index > 0 and not _met(self.blocks[index - 1].way)
                self._enter(paper, block, middle, top, at, left_off)
            block.draw(paper, left, at)
            top = at + block.height
            if _has_pass(block):
                self._pass(paper, block, middle, at)
        if self.trail:
            style = self._leaving(self.blocks[-1]) if self.blocks else self.way.into
            paper.line((middle, top), (middle, top + self.trail), style=style)

    def _enter(
        self, paper: Paper, block: Block, x: float, top: float, at: float, left_off: bool
    ) -> None:
        """Draw the way to a block; ``left_off``: it does not come from the block before."""
        way = block.way
        if left_off and way.reached == "taken":
            paper.line((x, top), (x, at - JOIN), style="idle")
            top = at - JOIN
        if _has_pass(block):
            paper.line((x, top), (x, at - JOIN), style=way.reached)
            paper.line((x, at - JOIN), (x, at), style=way.into, arrow=True)
        else:
            paper.line((x, top), (x, at), style=way.reached, arrow=True)

    def _pass(self, paper: Paper, block: Block, x: float, at: float) -> None:
        left, end = x - block.width / 2 - PASS, at + block.height + 11
        paper.line((x, at - JOIN), (left, at - JOIN), (left, end), (x, end), style=block.way.past)
        word = "past" if block.way.passed else "else"
        paper.text(left + 5, at - 18, word, 10, fill=QUIET)
        paper.line((x, end - 11), (x, end), style=block.way.into)

    def _leaving(self, block: Block) -> Style:
        return "taken" if block.way.drawn and _met(block.way) else block.way.into


@dataclass(frozen=True)
class Beside:
    """Branches side by side, between a fork and a join."""

    branches: Sequence[Stack]
    join: str
    way: Meets

    @property
    def width(self) -> float:
        total = sum(branch.width for branch in self.branches)
        return max(total + BESIDE * (len(self.branches) - 1), 120.0)

    @property
    def height(self) -> float:
        return max((branch.height for branch in self.branches), default=0.0) + 2 * LEAD

    def draw(self, paper: Paper, x: float, y: float) -> None:
        middle, fork, join = x + self.width / 2, y + LEAD - 10, y + self.height - LEAD + 10
        begin = self._style([b.way.into for b in self.branches])
        end = self._style([self._out(b) for b in self.branches])
        paper.line((middle, y), (middle, fork), style=begin)
        centres: list[tuple[float, Stack]] = []
        left = x
        for branch in self.branches:
            centres.append((left + branch.width / 2, branch))
            left += branch.width + BESIDE
        for pale in (True, False):  # the way taken is painted over the others
            for centre, branch in centres:
                into, out = branch.way.into, self._out(branch)
                bottom = y + LEAD + branch.height
                if (into == "idle") is pale:
                    paper.line((middle, fork), (centre, fork), (centre, y + LEAD), style=into)
                if (out == "idle") is pale:
                    paper.line((centre, bottom), (centre, join), (middle, join), style=out)
        for centre, branch in centres:
            branch.draw(paper, centre - branch.width / 2, y + LEAD)
        paper.line((middle, join), (middle, y + self.height), style=end)
        label = f"join {self.join}"
        room = width_of(label, 10, bold=True) + 16
        edge = PALE if end == "idle" else QUIET
        paper.box(middle - room / 2, join - 9, room, 18, edge=edge, ground="#ffffff", radius=9)
        paper.text(middle, join + 3.5, label, 10, fill=QUIET, bold=True, anchor="middle")

    def _out(self, branch: Stack) -> Style:
        last = branch.blocks[-1].way if branch.blocks else branch.way
        return "taken" if last.drawn and _met(last) else last.into

    def _style(self, styles: Sequence[Style]) -> Style:
        return "taken" if "taken" in styles else "plain" if "plain" in styles else "idle"


@dataclass(frozen=True)
class Rounds:
    """The iterations of a ``foreach``, a row for each; many are only counted."""

    rounds: Sequence[Iteration]
    way: Meets = field(default_factory=Meets)
    width: float = CARD

    @property
    def height(self) -> float:
        rows = 1 if len(self.rounds) > MOST_ROWS else len(self.rounds)
        return rows * ROW + 12

    def draw(self, paper: Paper, x: float, y: float) -> None:
        if len(self.rounds) > MOST_ROWS:
            self._counts(paper, x, y)
            return
        for index, one in enumerate(self.rounds):
            self._row(paper, x, y + index * ROW, one)

    def _row(self, paper: Paper, x: float, y: float, one: Iteration) -> None:
        look = LOOKS[one.status.value]
        paper.mark(x + 10, y + 11, look, 7)
        number = one.key.rpartition(".")[2]
        paper.text(x + 24, y + 15, f"{number}", 11.5, bold=True)
        paper.text(x + 44, y + 15, one.item, 11, room=82)
        status = status_text(one.status)
        paper.text(x + 132, y + 15, status, 11, fill=look.edge, bold=True, room=76)
        at = x + 218
        for state in list(one.steps.values())[:MOST_MARKS]:
            paper.mark(at, y + 11, LOOKS[state.status.value], 5)
            at += 14
        if len(one.steps) > MOST_MARKS:
            paper.text(at - 2, y + 15, "…", 11, fill=QUIET)
            at += 12
        room = x + self.width - at - 6
        if one.problem:
            paper.text(at + 2, y + 15, one.problem, 10.5, fill=look.edge, room=room)
        elif one.took_s is not None:
            took = took_text(one.took_s)
            paper.text(x + self.width - 4, y + 15, took, 10.5, fill=QUIET, anchor="end")

    def _counts(self, paper: Paper, x: float, y: float) -> None:
        at = x + 10
        counted: dict[str, int] = {}
        for one in self.rounds:
            counted[one.status.value] = counted.get(one.status.value, 0) + 1
        paper.text(at - 6, y + 15, f"{len(self.rounds)} items:", 11.5, bold=True)
        at += width_of(f"{len(self.rounds)} items:", 11.5, bold=True) + 10
        for status in LOOKS:
            if status not in counted:
                continue
            text = f"{counted[status]} {status.replace('_', ' ')}"
            paper.mark(at, y + 11, LOOKS[status], 7)
            paper.text(at + 12, y + 15, text, 11, fill=LOOKS[status].edge, bold=True)
            at += width_of(text, 11, bold=True) + 30


@dataclass(frozen=True)
class Group:
    """A frame around other blocks."""

    name: str
    does: str
    lines: tuple[Line, ...]
    body: Block
    look: Look
    status: str
    way: Meets
    foot: Rounds | None = None
    depth: int = 0

    @property
    def width(self) -> float:
        foot = self.foot.width if self.foot else 0.0
        return max(self.body.width, foot, CARD - 2 * PAD) + 2 * PAD

    @property
    def _head(self) -> float:
        return (52.0 if self.does else 36.0) + 17 * len(self.lines)

    @property
    def height(self) -> float:
        return self._head + self.body.height + (self.foot.height + 10 if self.foot else 0)

    def draw(self, paper: Paper, x: float, y: float) -> None:
        idle = self.way.drawn and not self.way.taken
        ground = "#f7f9fb" if self.depth % 2 == 0 else "#ffffff"
        edge = PALE if idle else self.look.edge
        paper.box(
            x,
            y,
            self.width,
            self.height,
            edge=edge,
            ground=ground,
            radius=12,
            thick=1.6,
            dashed=idle,
        )
        paper.mark(x + 21, y + 20, self.look)
        _head(paper, x, y, self.width, self.name, self.status, self.look, idle)
        paper.text(x + 38, y + 42, self.does, 12, fill=QUIET, room=self.width - 50)
        _lines(paper, x + 38, y + 60, self.width - 50, self.lines, self.look)
        top = y + self._head
        if self.foot and self.foot.rounds:
            foot = y + self.height - self.foot.height - 2
            paper.line((x + PAD, foot - 4), (x + self.width - PAD, foot - 4), style="idle")
            self.foot.draw(paper, x + PAD + 4, foot)
        self.body.draw(paper, x + (self.width - self.body.width) / 2, top)


def _met(way: Meets) -> bool:
    return way.taken or way.passed


def _has_pass(block: Block) -> bool:
    return block.way.optional or block.way.passed


def _head(
    paper: Paper,
    x: float,
    y: float,
    width: float,
    name: str,
    status: str,
    look: Look,
    idle: bool,
) -> None:
    """Write a name at the left and a status at the right."""
    shown = fit(status, width * 0.6, 11.5, bold=True)
    room = width - 38 - 16 - width_of(shown, 11.5, bold=True)
    paper.text(x + 38, y + 24.5, name, 14, bold=True, fill=QUIET if idle else INK, room=room)
    paper.text(x + width - 12, y + 24, shown, 11.5, bold=True, fill=look.edge, anchor="end")


def _lines(
    paper: Paper, x: float, y: float, room: float, lines: Sequence[Line], look: Look
) -> None:
    for index, line in enumerate(lines):
        at = y + 17 * index
        skip = width_of(line.label, 10.5, bold=True) + 9 if line.label else 0.0
        paper.text(x, at, line.label, 10.5, fill=QUIET, bold=True)
        paper.text(
            x + skip,
            at,
            line.text,
            11.5,
            fill=look.edge if line.loud else QUIET,
            font=line.font,
            room=room - skip,
        )
