"""Printing for people, with Rich."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def clean(text: str) -> str:
    """Drop what steers the terminal, and what hides or reorders text: it may be of others."""
    return "".join(c for c in text if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf"))


def line(text: str) -> str:
    """The same on one line: nobody's words may look like a line of ours."""
    return " ".join(clean(text).split())


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A plain table. Cells are text, never Rich's markup: they may come from an alert."""
    made = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text(clean(cell)) for cell in row))
    return made
