"""Writes SVG: shapes, text that fits, marks and colours. Knows nothing of runbooks."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal
from xml.sax.saxutils import escape, quoteattr

from bot.engine.graph.words import one_line

SANS = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MONO = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"

INK = "#16202c"
QUIET = "#566373"
PALE = "#c3ccd6"
LINE = "#7b8794"
BOLD = "#16202c"

Font = Literal["sans", "mono"]
Anchor = Literal["start", "middle", "end"]
Style = Literal["plain", "taken", "idle"]
"""Of a line: in a drawing without a run; where a run went; where it did not."""


@dataclass(frozen=True)
class Look:
    """How a status looks: colour of its edge and words, of its ground, and its sign."""

    edge: str
    ground: str
    sign: str


LOOKS = {
    "done": Look("#0b6e4f", "#eef8f3", "check"),
    "failed": Look("#b3261e", "#fdefed", "cross"),
    "stopped": Look("#3d2b56", "#f1edf7", "square"),
    "cancelled": Look("#3d2b56", "#f1edf7", "square"),
    "skipped": Look("#6b7785", "#ffffff", "chevrons"),
    "undone": Look("#8a4b08", "#fdf3e3", "back"),
    "undoing": Look("#8a4b08", "#fdf3e3", "back"),
    "running": Look("#1a56a8", "#edf3fc", "play"),
    "verifying": Look("#1a56a8", "#edf3fc", "play"),
    "planning": Look("#1a56a8", "#edf3fc", "play"),
    "awaiting_approval": Look("#7a5a00", "#fff8e0", "question"),
    "awaiting_answer": Look("#7a5a00", "#fff8e0", "question"),
    "awaiting_decision": Look("#7a5a00", "#fff8e0", "question"),
    "awaiting_retry": Look("#7a5a00", "#fff8e0", "clock"),
    "paused": Look("#7a5a00", "#fff8e0", "clock"),
    "pending": Look("#98a3af", "#ffffff", "ring"),
}
PLAIN = Look("#55606e", "#ffffff", "dot")
KINDS = {
    "read": Look("#3b6296", "#f3f7fc", "dot"),
    "notify": Look("#2b7061", "#f0faf6", "letter"),
    "change": Look("#8f5b00", "#fff8ea", "delta"),
    "irreversible": Look("#a0361a", "#fdf0ec", "diamond"),
    "question": Look("#62458f", "#f6f2fc", "question"),
}
"""How steps look in a drawing without a run, by what they do."""

_STROKES: dict[Style, str] = {
    "plain": f'stroke="{LINE}" stroke-width="1.6"',
    "taken": f'stroke="{BOLD}" stroke-width="3"',
    "idle": f'stroke="{PALE}" stroke-width="1.6" stroke-dasharray="5 4"',
}

_NARROW = frozenset("iljtfrI.,:;'|!()[]{}` -/\\\"")
_BROAD = frozenset("mwMW@%—…")


def width_of(text: str, size: float, font: Font = "sans", bold: bool = False) -> float:
    """Return about how broad text is; rather too much than too little."""
    total = 0.0
    for char in text:
        if unicodedata.east_asian_width(char) in "WF":
            total += 1.05
        elif font == "mono":
            total += 0.61
        elif char in _NARROW:
            total += 0.36
        elif char in _BROAD:
            total += 0.95
        else:
            total += 0.7 if char.isupper() else 0.58
    return total * size * (1.13 if bold else 1)


def fit(text: str, room: float, size: float, font: Font = "sans", bold: bool = False) -> str:
    """Return one line of text, cut so that it is no broader than the room."""
    line = one_line(text)
    if width_of(line, size, font, bold) <= room:
        return line
    room -= width_of("…", size, font, bold)
    ends = list(accumulate(width_of(char, size, font, bold) for char in line))
    return line[: bisect_right(ends, room)].rstrip() + "…"


def wrap(text: str, room: float, size: float, most: int, font: Font = "sans") -> list[str]:
    """Return text in at most so many lines, each of which fits."""
    lines: list[str] = []
    rest = one_line(text)
    while rest and len(lines) < most - 1:
        if width_of(rest, size, font) <= room:
            break
        line = fit(rest, room, size, font).removesuffix("…")
        at = line.rfind(" ")
        line = line[:at] if at > 0 else line
        if not line:
            break
        lines.append(line)
        rest = rest[len(line) :].lstrip()
    return [*lines, fit(rest, room, size, font)] if rest else lines


class Paper:
    """Collects the elements of a drawing, in the order in which they are painted."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def page(self, width: float, height: float, name: str, told: str) -> str:
        """Return the whole document."""
        size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" '
            f"font-family={quoteattr(SANS)}>\n"
            f"<title>{escape(one_line(name))}</title>\n<desc>{escape(one_line(told))}</desc>\n"
        )
        ground = f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>'
        return head + "\n".join([ground, *self._parts, "</svg>"]) + "\n"

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        *,
        fill: str = INK,
        bold: bool = False,
        font: Font = "sans",
        anchor: Anchor = "start",
        room: float | None = None,
    ) -> None:
        """Write one line; ``y`` is its base line."""
        line = one_line(text) if room is None else fit(text, room, size, font, bold)
        if not line:
            return
        extra = f' text-anchor="{anchor}"' if anchor != "start" else ""
        extra += ' font-weight="600"' if bold else ""
        extra += f" font-family={quoteattr(MONO)}" if font == "mono" else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{fill}"{extra}>'
            f"{escape(line)}</text>"
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        edge: str,
        ground: str,
        radius: float = 8,
        thick: float = 1.4,
        dashed: bool = False,
    ) -> None:
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'rx="{radius:g}" fill="{ground}" stroke="{edge}" stroke-width="{thick:g}"{dash}/>'
        )

    def line(self, *points: tuple[float, float], style: Style, arrow: bool = False) -> None:
        """Draw a line through points, with an arrow at its end if wanted."""
        if arrow:
            (x, y) = points[-1]
            reach = 8 if style == "taken" else 6
            points = (*points[:-1], (x, y - reach + 1))
            tip = f"M{x:.1f} {y:.1f}l{-reach * 0.6:.1f} {-reach}h{reach * 1.2:.1f}z"
            fill = {"plain": LINE, "taken": BOLD, "idle": PALE}[style]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self._parts.append(
            f'<path d="{path}" fill="none" stroke-linejoin="round" {_STROKES[style]}/>'
        )
        if arrow:
            self._parts.append(f'<path d="{tip}" fill="{fill}"/>')

    def mark(self, x: float, y: float, look: Look, size: float = 9) -> None:
        """Draw a status's sign in a disc around a point; each has a form of its own."""
        hollow = look.sign in _HOLLOW
        ground = "#ffffff" if hollow else look.edge
        ink = look.edge if hollow else "#ffffff"
        self._parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}" fill="{ground}" '
            f'stroke="{look.edge}" stroke-width="1.5"/>'
        )
        if look.sign in _SOLID:
            drawn = f'fill="{ink}"'
            path = _SOLID[look.sign]
        else:
            drawn = (
                f'fill="none" stroke="{ink}" stroke-width="{1.5 if hollow else 2}" '
                'stroke-linecap="round" stroke-linejoin="round"'
            )
            path = _DRAWN.get(look.sign, "")
        if path:
            scale = f" scale({size / 9:.3f})" if size != 9 else ""
            self._parts.append(
                f'<path transform="translate({x:.1f} {y:.1f}){scale}" d="{path}" {drawn}/>'
            )


_HOLLOW = frozenset({"ring", "chevrons", "dot", "letter", "delta"})
_DRAWN = {
    "letter": "M-4.4 -3H4.4V3H-4.4zM-4.4 -3L0 0.8L4.4 -3",
    "delta": "M0 -4.2L4.2 3H-4.2z",
    "check": "M-4.2 0.4L-1.2 3.4L4.4 -3.2",
    "cross": "M-3.4 -3.4L3.4 3.4M3.4 -3.4L-3.4 3.4",
    "chevrons": "M-3.6 -3.2L-0.4 0L-3.6 3.2M0.8 -3.2L4 0L0.8 3.2",
    "back": "M-0.6 -4.2L-3.8 -1.2L-0.6 1.8M-3.8 -1.2H1.6A2.6 2.6 0 0 1 1.6 4H-1.4",
    "question": "M-2.4 -2.4A2.5 2.5 0 1 1 0.9 -0.1Q0 0.5 0 1.6M0 4.3V4.4",
    "clock": "M0 -4.4V0.4L3 2.4",
}
_SOLID = {
    "diamond": "M0 -5L5 0L0 5L-5 0z",
    "square": "M-3.4 -3.4H3.4V3.4H-3.4z",
    "play": "M-2.6 -4L4.4 0L-2.6 4z",
    "dot": "M-2 0A2 2 0 1 0 2 0A2 2 0 1 0 -2 0z",
}
