"""Strict YAML: what plain scalars mean, what is refused, and where."""

# ruff: noqa: E501  # in the tables below a rule, its place and its message stand side by side

from __future__ import annotations

from typing import Any

import pytest

from bot.language.yaml_source import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_NODES,
    MAX_PROBLEMS,
    Broken,
    Map,
    Mark,
    Report,
    Scalar,
    leaves,
    plain,
    read,
)

TEXTS = """on off yes no Yes y n True TRUE False Null NULL 010 0o17 0x10 1_000 +1 .5 1. 12:30:00
190:20:30 2026-01-01 2026-01-01T00:00:00Z .inf -.inf .nan 1/s 4h = 1.2.3"""
"""Plain scalars that YAML 1.1 or 1.2 makes something else of."""


def problems_of(text: str) -> list[tuple[int, int, str, str]]:
    report = Report()
    read(text, report)
    return [(each.line, each.column, each.where, each.message) for each in report.problems]


def value_of(text: str) -> Any:
    report = Report()
    root = read(text, report)
    assert report.problems == ()
    assert root is not None
    return plain(root)


class TestScalars:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("true", True),
            ("false", False),
            ("null", None),
            ("~", None),
            ("", None),
            ("0", 0),
            ("-3", -3),
            ("1.5", 1.5),
            ("1e3", 1000.0),
            ("-0.5E-2", -0.005),
            ("9007199254740991", 9007199254740991),
            *[(text, text) for text in TEXTS.split()],
        ],
    )
    def test_plain_scalars_follow_json(self, text: str, value: Any):
        """
        Numbers, true, false and null as JSON writes them; everything else is text.
        """
        result = value_of(f"a: {text}\n")["a"]

        assert result == value
        assert type(result) is type(value)

    @pytest.mark.parametrize("text", ["'1'", '"true"', "|-\n  null", ">-\n  1.5", "''"])
    def test_quoted_scalars_are_text(self, text: str):
        """
        Quotes and blocks always make text.
        """
        assert isinstance(value_of(f"a: {text}\n")["a"], str)

    def test_keys_are_text(self):
        """
        A key that looks like a number or a boolean is still its text.
        """
        text = "1: a\ntrue: b\non: c\nnull: d\n'x y': e\n"

        assert value_of(text) == {"1": "a", "true": "b", "on": "c", "null": "d", "x y": "e"}

    @pytest.mark.parametrize("text", ["9007199254740993", "1e999", "-1e400", "1" + "0" * 5000])
    def test_numbers_that_would_change_are_refused(self, text: str):
        """
        A number too large for JSON's readers is refused instead of rounded.
        """
        assert problems_of(f"a: {text}") == [
            (1, 4, "a", "The number is beyond 9007199254740991. If it is text, put it in quotes.")
        ]


class TestPlaces:
    def test_every_node_and_key_knows_its_place(self):
        """
        Lines and columns count from 1, in characters.
        """
        report = Report()
        root = read("ä: [1,\n   'x']\nb:\n  c: {}\n", report)

        assert isinstance(root, Map)
        first, second = root.entries
        assert (first.mark, first.value.mark) == (Mark(1, 1), Mark(1, 4))
        assert second.mark == Mark(3, 1)
        assert second.value.mark == Mark(4, 3)
        assert [(scalar.mark, where) for scalar, where in leaves(root, "")] == [
            (Mark(1, 5), "ä[0]"),
            (Mark(2, 4), "ä[1]"),
        ]
        assert root.get("b") is second
        assert root.get("absent") is None

    @pytest.mark.parametrize(
        ("text", "offset", "mark"),
        [
            ("a: hello", 2, Mark(1, 6)),
            ("a: 'hello'", 2, Mark(1, 7)),
            ('a: "hello"', 0, Mark(1, 5)),
            ("a: |\n   hello\n", 1, Mark(2, 5)),
            ("a: >-\n   hello\n", 1, Mark(2, 5)),
            ("a: |\n   two\n   lines\n", 5, Mark(1, 4)),
            ("a: two\n  lines", 5, Mark(1, 4)),
            (r'a: "\u0068ello"', 2, Mark(1, 4)),
            ("a: 'it''s'", 3, Mark(1, 4)),
            ("a: 5", 0, Mark(1, 4)),
            ("# c\n\na:\n  -   x y\n", 2, Mark(4, 9)),
        ],
    )
    def test_a_place_inside_text(self, text: str, offset: int, mark: Mark):
        """
        A character of a text on one line has its own place; else it is where the text begins.
        """
        root = read(text, Report())

        assert root is not None
        [(scalar, _)] = leaves(root, "")
        assert isinstance(scalar, Scalar)
        assert scalar.at(offset) == mark


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a: &x 1", [(1, 4, "a", "'&x': anchors are not allowed.")]),
            ("a: *x", [(1, 4, "a", "'*x': aliases are not allowed. Write it out.")]),
            ("*x : 1\nb: 2", [(1, 1, "", "'*x': aliases are not allowed. Write it out.")]),
            (
                "<<: {a: 1}",
                [(1, 1, "", "Merge keys ('<<') are not allowed. Write the entries out.")],
            ),
            (
                "a: !!str 1",
                [(1, 4, "a", "The tag 'tag:yaml.org,2002:str' is not allowed. Leave it out.")],
            ),
            ("- !x {}", [(1, 3, "[0]", "The tag '!x' is not allowed. Leave it out.")]),
            (
                "a: 1\nb: 2\na: 3",
                [(3, 1, "a", "The key 'a' is here twice; the first is on line 1.")],
            ),
            (
                "x:\n- y: 1\n  y: 2",
                [(3, 3, "x[0].y", "The key 'y' is here twice; the first is on line 2.")],
            ),
            ("'': 1", [(1, 1, "", "A key is text, not empty, and printable.")]),
            ('"\\e": 1', [(1, 1, "", "A key is text, not empty, and printable.")]),
            (
                "? [a, {b: c}]\n: 1\nd: 2",
                [
                    (
                        1,
                        3,
                        "",
                        'A key is text. If this is to be an expression, put it in quotes: "{{ … }}".',
                    )
                ],
            ),
            (
                "a: {{ inputs.x }}",
                [
                    (
                        1,
                        5,
                        "a",
                        'A key is text. If this is to be an expression, put it in quotes: "{{ … }}".',
                    )
                ],
            ),
            ('a: "\\0"', [(1, 4, "a", "The text holds a control character or half a character.")]),
            (
                'a: "\\ud83d"',
                [(1, 4, "a", "The text holds a control character or half a character.")],
            ),
            (
                "a: 1\n---\nb: 2",
                [(2, 1, "", "The file holds a second document. Put it in a file of its own.")],
            ),
            (
                "%YAML 1.1\n---\na: 1",
                [(1, 1, "", "YAML directives are not allowed. Leave out the line with '%'.")],
            ),
            (
                "%TAG ! x:\n---\na: 1",
                [(1, 1, "", "YAML directives are not allowed. Leave out the line with '%'.")],
            ),
            ("", [(1, 1, "", "The file is empty.")]),
            ("# only a comment", [(1, 1, "", "The file is empty.")]),
            ("a: 1\nb:\t\x07", [(2, 4, "", "The character U+0007 is not allowed in YAML.")]),
            ("a: '\ud800'", [(1, 5, "", "The character U+D800 is not allowed in YAML.")]),
            ('a: "\\UFFFFFFFF"', [(1, 1, "a", "This is not YAML: it holds an impossible escape.")]),
            (
                "%YAML " + "9" * 5000 + ".1\n---\n",
                [(1, 1, "", "This is not YAML: it holds an impossible escape.")],
            ),
        ],
    )
    def test_surprising_yaml(self, text: str, expected: list[Any]):
        """
        Each thing that surprises people in YAML is refused at its place, with what to do.
        """
        assert problems_of(text) == expected

    @pytest.mark.parametrize(
        ("text", "line", "column"),
        [
            ("a: [1, 2", 1, 9),
            ("a: b: c", 1, 5),
            ("a: 'open", 1, 9),
            ("a:\n\t- x", 2, 1),
            ("a: 1\n b: 2", 2, 3),
            ("a: `x`", 1, 4),
            ("a: @x", 1, 4),
        ],
    )
    def test_syntax_errors_have_a_place(self, text: str, line: int, column: int):
        """
        What is not YAML at all is reported where it was seen.
        """
        [(at_line, at_column, _, message)] = problems_of(text)

        assert (at_line, at_column) == (line, column)
        assert message.startswith("This is not YAML: ")

    def test_what_was_found_before_a_syntax_error_is_kept(self):
        """
        All problems that can be seen are reported.
        """
        assert [line for line, *_ in problems_of("a: &x 1\na: 2\nb: [")] == [1, 2, 3]

    def test_a_refused_value_is_marked_as_broken(self):
        """
        So that nothing more is said about it.
        """
        root = read("a: *x\nb: {{ y }}\nc: 1", Report())

        assert isinstance(root, Map)
        assert [type(entry.value) for entry in root.entries] == [Broken, Broken, Scalar]
        assert plain(root) == {"a": None, "b": None, "c": 1}


class TestBounds:
    def test_an_alias_bomb_is_refused_where_it_begins(self):
        """
        324 bytes that stand for 387,420,489 leaves are refused without following one alias.
        """
        lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
        for previous, name in zip("abcdefgh", "bcdefghi", strict=True):
            lines.append(f"{name}: &{name} [{','.join([f'*{previous}'] * 9)}]")
        bomb = "\n".join(lines)

        found = problems_of(bomb)

        assert len(bomb) < 330
        assert found[0] == (1, 4, "a", "'&a': anchors are not allowed.")
        assert len(found) == 9 + 8 * 9

    def test_size(self):
        """
        A file is at most 256 KiB, whatever its characters are.
        """
        too_large = [(1, 1, "", "The file is larger than 256 KiB.")]

        assert problems_of("a: '" + "x" * (MAX_BYTES - 5) + "'") == []
        assert problems_of("a: '" + "x" * (MAX_BYTES - 4) + "'") == too_large
        assert problems_of("a: '" + "é" * (MAX_BYTES // 2) + "'") == too_large

    def test_depth(self):
        """
        Nesting is refused one level beyond the bound.
        """
        assert problems_of("[" * MAX_DEPTH + "]" * MAX_DEPTH) == []
        [(_, column, _, message)] = problems_of("[" * 50_000)
        assert (column, message) == (MAX_DEPTH + 1, f"The file is nested over {MAX_DEPTH} deep.")

    def test_values(self):
        """
        So is one value too many.
        """
        assert problems_of("[" + "1," * (MAX_NODES - 1) + "]") == []
        [(_, _, _, message)] = problems_of("[" + "1," * MAX_NODES + "]")
        assert message == f"The file has over {MAX_NODES} values."

    def test_problems(self):
        """
        A hopeless file does not fill the screen.
        """
        found = problems_of("\n".join("a: 1" for _ in range(MAX_PROBLEMS + 51)))

        assert len(found) == MAX_PROBLEMS + 1
        assert found[-1][3] == "There are 50 more problems."
