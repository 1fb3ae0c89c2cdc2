"""A document as Markdown, HTML and PDF. Equal documents give equal bytes.

The templates only lay out. Whatever they put out is escaped here for its format: Markdown by
the environment's ``finalize``, HTML by autoescape, and typst gets its data as JSON, which it shows
as text and never reads as markup.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bot.errors import Failed
from bot.postmortem.document import Document
from bot.postmortem.text import clock, day, full_moment

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = "postmortem"
"""Where the three templates are, under the folder of all templates."""

MARKDOWN, HTML, TYPST = "postmortem.md.j2", "postmortem.html.j2", "postmortem.typ"

MOST_CITED = 8
"""Record numbers, or ranges of them, beside one statement."""

_NO_GLYPH = "could not be displayed with font"
"""What typst says when PDF/A would have to show a character that no font has."""


def render_markdown(document: Document, templates: Path) -> bytes:
    """
    Return the document as GitHub-flavoured Markdown in UTF-8.

    Args:
        templates: The folder that holds ``postmortem/postmortem.md.j2``.

    Raises:
        Failed: The template is missing or broken.
    """
    return _jinja(document, templates, MARKDOWN, autoescape=False, finalize=markdown_text)


def render_html(document: Document, templates: Path) -> bytes:
    """Return the document as one HTML page that needs nothing else. Raises Failed."""
    return _jinja(document, templates, HTML, autoescape=True, finalize=None)


def render_pdf(document: Document, templates: Path) -> bytes:
    """
    Return the document as PDF/A-2b, dated when it was drafted.

    A character that no font of this machine has is shown by its code, such as ``\\u{4e2d}``.

    Raises:
        Failed: The template is missing or broken.
    """
    import typst  # 81 MB on disk; only needed here

    source = templates / FOLDER / TYPST
    if not source.is_file():
        raise _broken(source, "it is missing")
    data = json.dumps(_with_citations(document.model_dump(mode="json")), ensure_ascii=False)
    for shown in (_unchanged, _displayable(typst, data), _ascii):
        try:
            return _typst_pdf(typst, source, shown(data), document.header.drafted_at)
        except typst.TypstError as error:
            if _NO_GLYPH not in error.message:
                raise _broken(source, error.diagnostic or error.message) from error
    raise _broken(source, "even plain letters could not be displayed")


# --- Jinja -------------------------------------------------------------------------------------


def _jinja(
    document: Document,
    templates: Path,
    name: str,
    *,
    autoescape: bool,
    finalize: Callable[[Any], str] | None,
) -> bytes:
    from jinja2 import FileSystemLoader, StrictUndefined, TemplateError
    from jinja2.sandbox import SandboxedEnvironment

    environment: Environment = SandboxedEnvironment(
        loader=FileSystemLoader(templates / FOLDER),
        autoescape=autoescape,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        cite=citation, clock=clock, day=day, moment=full_moment, code=markdown_code
    )
    try:
        text = environment.get_template(name).render(
            document=document, told={entry.seq for entry in document.timeline}
        )
    except TemplateError as error:
        raise _broken(templates / FOLDER / name, str(error)) from error
    return text.encode()


def citation(sources: Iterable[int]) -> str:
    """Return record numbers as ``3, 7-9``; a long row of them is cut, and counted."""
    ranges: list[list[int]] = []
    for seq in sorted(set(sources)):
        if ranges and seq == ranges[-1][1] + 1:
            ranges[-1][1] = seq
        else:
            ranges.append([seq, seq])
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in ranges[:MOST_CITED]]
    left = sum(b - a + 1 for a, b in ranges[MOST_CITED:])
    return ", ".join(shown) + (f" and {left} more" if left else "")


class _Markdown(str):
    """Text that is Markdown already."""

    __slots__ = ()


_MARKDOWN_SPECIAL = re.compile(
    r"[\\`*\[\]<>|~$@]"  # wherever it stands
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # inside a word it is only an underscore
    r"|\#(?=\d)|&(?=[#A-Za-z])|\{(?=[{%])"  # issue numbers, entities, other template languages
)
_MARKDOWN_AT_START = re.compile(r"^(?:[-+](?=[\s-]|$)|#(?=[#\s]|$)|=(?==|$)|\d+(?=[.)](?:\s|$)))")
_MARKDOWN_LINKS = re.compile(r"(?<=[A-Za-z])(?=://)|(?<=\bwww)(?=\.)", re.IGNORECASE)


def markdown_text(value: Any) -> str:
    """Escape a value so that Markdown shows it as it is: no markup, no links, no new block."""
    if isinstance(value, _Markdown):
        return value
    text = _MARKDOWN_SPECIAL.sub(r"\\\g<0>", str(value))
    text = _MARKDOWN_LINKS.sub(r"\\", text)
    if _MARKDOWN_AT_START.match(text):
        digits = len(text) - len(text.lstrip("0123456789"))
        return _Markdown(f"{text[:digits]}\\{text[digits:]}")
    return text


def markdown_code(value: Any) -> _Markdown:
    """Return a value as a code span. A pipe would end a table's cell, so it is escaped."""
    text = " ".join(str(value).split()).replace("|", "\\|") or " "
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return _Markdown(f"{fence}{pad}{text}{pad}{fence}")


# --- typst -------------------------------------------------------------------------------------


def _typst_pdf(typst: Any, source: Path, data: str, drafted_at: datetime) -> bytes:
    pdf: bytes = typst.compile(
        str(source),
        root=str(source.parent),
        format="pdf",
        sys_inputs={"document": data},
        pdf_standards=["a-2b"],
        timestamp=int(drafted_at.timestamp()),
    )
    return pdf


def _with_citations(value: Any) -> Any:
    """Give everything that has sources their text too."""
    if isinstance(value, list):
        return [_with_citations(item) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {key: _with_citations(item) for key, item in value.items()}
    if "sources" in value:
        inner["cite"] = citation(value["sources"])
    return inner


def _unchanged(data: str) -> str:
    return data


def _ascii(data: str) -> str:
    return _escaped(data, lambda character: ord(character) > 0x7E)


def _escaped(data: str, hidden: Callable[[str], bool]) -> str:
    # Two backslashes: the data is JSON, which takes one of them.
    return "".join(f"\\\\u{{{ord(c):x}}}" if hidden(c) else c for c in data)


def _displayable(typst: Any, data: str) -> Callable[[str], str]:
    """Return what escapes just the characters that no font here has; looks when first called."""

    def shown(text: str) -> str:
        missing = _missing(typst, sorted({c for c in data if ord(c) > 0x7E}))
        return _escaped(text, missing.__contains__)

    return shown


def _missing(typst: Any, characters: list[str]) -> frozenset[str]:
    """Find by halving which characters no font has."""
    if not characters or _shows(typst, characters):
        return frozenset()
    if len(characters) == 1:
        return frozenset(characters)
    middle = len(characters) // 2
    return _missing(typst, characters[:middle]) | _missing(typst, characters[middle:])


def _shows(typst: Any, characters: list[str]) -> bool:
    probe = b"#set document(date: datetime(year: 2000, month: 1, day: 1))\n#sys.inputs.text"
    try:
        typst.compile(
            probe,
            format="pdf",
            sys_inputs={"text": " ".join(characters)},
            pdf_standards=["a-2b"],
            timestamp=0,
        )
    except typst.TypstError:
        return False
    return True


def _broken(template: Path, why: str) -> Failed:
    return Failed(
        f"The template {template} cannot be used: {why}. The postmortem was not written in this "
        "form. Restore the template, then draft the postmortem again."
    )
