"""Three forms of one document: all sections, harmless in each format, the same bytes each time."""

from __future__ import annotations

import re
import shutil
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from bot.errors import Failed
from bot.postmortem.document import Document
from bot.postmortem.render import (
    citation,
    markdown_code,
    markdown_text,
    render_html,
    render_markdown,
    render_pdf,
)
from tests.unit.postmortem.story import HOSTILE, KEY, story

TEMPLATES = Path(__file__).parents[3] / "templates"
STORY = story()
DOCUMENT: Document = STORY.build()
BAD: Document = story(title=HOSTILE, labels={"alertname": HOSTILE}).build()

HEADINGS = [
    "Summary",
    "Impact",
    "Root cause",
    "Trigger",
    "Detection",
    "Resolution",
    "What was done",
    "Timeline",
    "Lessons learned",
    "Prevention",
    "Approvals",
    "Evidence",
    "Supporting information",
]


def gfm() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def tokens(text: str) -> list[Any]:
    found = []
    for token in gfm().parse(text):
        found.append(token)
        found.extend(token.children or [])
    return found


def structure(text: str) -> list[str]:
    """The kinds of what Markdown makes of a text, without the text itself."""
    kinds = [token.type for token in tokens(text)]
    return [kind for kind in kinds if kind not in ("text", "text_special", "inline")]


class Page(HTMLParser):
    """The tags of a page, with their attributes' names, and its words."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action")]

    def handle_data(self, data: str) -> None:
        self.words += data


class TestMarkdown:
    def test_all_sections_are_there(self) -> None:
        """The headings people look for, in Google's order with ours after."""
        text = render_markdown(DOCUMENT, TEMPLATES).decode()

        assert re.findall(r"^## (.+)$", text, re.M) == HEADINGS

    def test_unknown_is_visible(self) -> None:
        """A gap stands out in bold, also in the raw text."""
        text = render_markdown(DOCUMENT, TEMPLATES).decode()

        assert "- **UNKNOWN. To fill in by security-oncall: which check was missing" in text

    def test_every_row_of_a_table_has_all_cells(self) -> None:
        """No value can open or close a cell."""
        for document in (DOCUMENT, BAD):
            text = render_markdown(document, TEMPLATES).decode()
            for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
                rows = block.splitlines()
                cells = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
                assert len(cells) == 1, rows[0]

    def test_hostile_text_adds_no_structure(self) -> None:
        """Headings, links, images, code and HTML in alert text are shown, not obeyed."""
        good = structure(render_markdown(DOCUMENT, TEMPLATES).decode())
        bad = structure(render_markdown(BAD, TEMPLATES).decode())

        assert bad == good
        assert not {"html_inline", "html_block", "link_open", "image"} & set(bad)

    @settings(max_examples=150, deadline=None)
    @given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1))
    def test_any_text_is_shown_as_it_is(self, value: str) -> None:
        """What Markdown makes of an escaped value is the value, as plain text."""
        value = " ".join(value.split()) or "x"
        for before, head in (("- ", ""), ("# ", ""), ("| a |\n|---|\n| ", "a")):
            found = tokens(f"{before}{markdown_text(value)}\n")
            shown = "".join(t.content for t in found if t.type in ("text", "text_special"))
            assert shown == head + value
            assert structure(before + markdown_text(value)) == structure(before + "x")

    @given(st.text(alphabet="`| a\\", min_size=1, max_size=8))
    def test_any_code_is_one_span(self, value: str) -> None:
        """Backticks and pipes inside cannot end a code span or a cell."""
        found = tokens(f"| a |\n|---|\n| {markdown_code(value)} |\n")

        assert [t.type for t in found].count("code_inline") == 1
        assert [t.type for t in found].count("td_open") == 1

    def test_addresses_are_not_made_links(self) -> None:
        """GitHub turns bare addresses into links; an alert's must not be clickable."""
        text = markdown_text("see HTTPS://evil.example, www.evil.example, a@evil.example")

        assert text == "see HTTPS\\://evil.example, www\\.evil.example, a\\@evil.example"

    def test_values_are_not_escaped_more_than_needed(self) -> None:
        """The raw text is read as well: names and paths stay readable."""
        assert markdown_text(f"{KEY} took 4.2 s (2, 3-5)") == f"{KEY} took 4.2 s (2, 3-5)"


class TestHtml:
    def test_it_needs_nothing_from_elsewhere(self) -> None:
        """No script, no style sheet, no image, no address but its own anchors."""
        page = render_html(BAD, TEMPLATES).decode()

        parsed = Page(page)
        assert not {"script", "link", "img", "iframe", "object", "form"} & {
            tag for tag, _ in parsed.tags
        }
        assert all(re.fullmatch(r"#r\d+", link) for link in parsed.links)
        assert "default-src 'none'" in page
        assert "url(" not in page
        assert "@import" not in page

    def test_hostile_text_adds_no_tags(self) -> None:
        """The same tags with the same attributes, whatever the alert says."""
        good, bad = (Page(render_html(d, TEMPLATES).decode()) for d in (DOCUMENT, BAD))

        long_title = [("h1", ("class",)) if tag[0] == "h1" else tag for tag in good.tags]
        assert bad.tags == long_title
        assert "<script>alert(1)</script>" in bad.words

    def test_anchors_lead_somewhere(self) -> None:
        """Every link to a record has its line in the timeline."""
        page = render_html(DOCUMENT, TEMPLATES).decode()

        ids = set(re.findall(r'id="(r\d+)"', page))
        assert {link.removeprefix("#") for link in Page(page).links} <= ids
        assert len(ids) == len(DOCUMENT.timeline)


class TestPdf:
    def test_equal_documents_give_equal_bytes(self) -> None:
        """A draft made again is the same evidence."""
        again = render_pdf(story().build(), TEMPLATES)

        assert again == render_pdf(DOCUMENT, TEMPLATES)

    def test_it_is_an_archive_format_dated_by_the_draft(self) -> None:
        """PDF/A-2b, and no clock of the machine in it."""
        pdf = render_pdf(DOCUMENT, TEMPLATES)

        assert pdf.startswith(b"%PDF-1.7")
        assert b"<pdfaid:part>2</pdfaid:part>" in pdf
        assert b"<pdfaid:conformance>B</pdfaid:conformance>" in pdf
        assert b"(D:20260314130500Z)" in pdf

    def test_a_later_draft_differs(self) -> None:
        """The document's time is in it."""
        later = STORY.build(drafted_at=STORY.drafted_at + timedelta(seconds=1))

        assert render_pdf(later, TEMPLATES) != render_pdf(DOCUMENT, TEMPLATES)

    def test_hostile_text_is_inert(self) -> None:
        """typst markup in a title neither reads files nor fails; other scripts are shown."""
        assert render_pdf(BAD, TEMPLATES).startswith(b"%PDF")

    @pytest.mark.parametrize(
        "title",
        [
            "\u0378 unassigned",
            "\U000e0100 selector",
            "\U0010fffe",
            "क्षि ไทย 한국어 \U0001f468\u200d\U0001f469\u200d\U0001f467",
            "W" * 5_000,
            "-" * 300,
            '#import "@preview/x:1.0.0": *',
            "*/ // /* ``` $ $ <label> @ref \\ \\u{41}",
        ],
    )
    def test_any_title_gives_a_pdf(self, title: str) -> None:
        """A character without a font, or a word wider than the page, is no reason to have no
        postmortem."""
        incident = STORY.incident.model_copy(update={"title": title})

        assert render_pdf(STORY.build(incident=incident), TEMPLATES).startswith(b"%PDF")


class TestEmptyAndBroken:
    def test_an_empty_journal_renders(self) -> None:
        """A draft of nothing is three short files full of UNKNOWN, not an error."""
        empty = STORY.build([], runs=[], evidence=[], containments=[], endpoints={})

        assert b"**UNKNOWN**" in render_markdown(empty, TEMPLATES)
        assert b"No plan was put before people." in render_html(empty, TEMPLATES)
        assert render_pdf(empty, TEMPLATES).startswith(b"%PDF")

    @settings(max_examples=25, deadline=None)
    @given(st.data())
    def test_any_part_of_the_records_renders(self, data: st.DataObject) -> None:
        """Missing steps are UNKNOWN in the text, and never a crash."""
        records = data.draw(st.lists(st.sampled_from(STORY.records), unique_by=lambda r: r.seq))
        document = STORY.build(records)

        text = render_markdown(document, TEMPLATES).decode()
        assert re.findall(r"^## (.+)$", text, re.M) == HEADINGS
        assert "UNKNOWN" in text
        render_html(document, TEMPLATES)

    def test_every_beginning_of_the_incident_renders_to_pdf(self) -> None:
        """A draft may be asked for at any moment of an incident."""
        for length in range(0, len(STORY.records), 6):
            document = STORY.build(STORY.records[:length], containments=[], evidence=[])
            assert render_pdf(document, TEMPLATES).startswith(b"%PDF")

    @pytest.mark.parametrize("render", [render_markdown, render_html, render_pdf])
    def test_a_missing_template_says_what_to_do(self, render: Any, tmp_path: Path) -> None:
        """Fact, consequence, remedy."""
        with pytest.raises(Failed, match=r"cannot be used: .*Restore the template"):
            render(DOCUMENT, tmp_path)

    @pytest.mark.parametrize(
        ("name", "content", "render"),
        [
            ("postmortem.md.j2", "{{ document.no_such }}", render_markdown),
            ("postmortem.md.j2", "{{ document.__class__.__mro__ }}", render_markdown),
            ("postmortem.html.j2", "{% if %}", render_html),
            ("postmortem.typ", "#let d = ", render_pdf),
        ],
    )
    def test_a_broken_template_is_named(
        self, name: str, content: str, render: Any, tmp_path: Path
    ) -> None:
        """A wrong name or an escape from the sandbox is an error and never an empty place."""
        shutil.copytree(TEMPLATES / "postmortem", tmp_path / "postmortem")
        (tmp_path / "postmortem" / name).write_text(content)

        with pytest.raises(Failed, match=re.escape(name)):
            render(DOCUMENT, tmp_path)


def test_record_numbers_are_short() -> None:
    """Neighbours become a range."""
    assert citation([9, 3, 7, 8, 3]) == "3, 7-9"
    assert citation([]) == ""
    assert citation(range(1, 41, 2)) == "1, 3, 5, 7, 9, 11, 13, 15 and 12 more"
