"""Whatever a file or an expression holds, the answer is a refusal, quick and with a place."""

from __future__ import annotations

import contextlib
import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bot.errors import ExpressionInvalid, RunbookInvalid, SettingsInvalid
from bot.inventory import load_openapi
from bot.language.expressions import evaluate, parse
from bot.language.load import check_files, load
from bot.language.rehearsal import load_rehearsal
from bot.language.yaml_source import MAX_PROBLEMS, Report, plain, read
from tests.fuzz.corpus import SEEDS, WORDS
from tests.fuzz.mutate import bytes_of, mutated, text_of
from tests.fuzz.targets import TARGETS
from tests.unit.language.acme_actions import ACTIONS
from tests.unit.language.texts import CONTAIN, EVERYTHING, GOOD, REHEARSAL

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SCOPE: dict[str, Any] = {
    "inputs": {"a": "x" * 50, "n": 7, "none": None},
    "steps": {"s": {"list": list(range(50)), "map": {"k": [1, {"z": "t"}]}, "status": "done"}},
    "alert": {"labels": {"x": "y"}, "starts_at": "2026-01-01T00:00:00Z"},
}

# Pieces that make texts which are nearly expressions far more often than random letters do.
_WORDS = """inputs steps alert .a .n .none .s.list .s.map.k[1] .labels.x .starts_at [0] [-1] ['a'] .
[ ] ( ) { } }} {{ , : | length default(1) first join(',') join unique sort datetime int round(2)
upper compact string now() duration('1h') duration( not and or in if else is + - * ** / // % ~ ==
!= < <= > >= = 1 0 1.5 1e308 9007199254740991 'a' "b" 'a\\n' '' true false none __class__
.__class__ ['__mro__'] '\\x41' 9**9 _ self loop range(9) lipsum() cycler # {# {% %} @ $ é ٣ ;"""
_PIECES = st.sampled_from([*_WORDS.split(), "\n", "\ud800"])
_NEARLY = st.lists(_PIECES, max_size=40).map(" ".join) | st.lists(_PIECES, max_size=40).map("".join)

quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=200)


class TestExpressions:
    @quick
    @given(st.text(max_size=300) | _NEARLY)
    @example("''.__class__.__mro__[1].__subclasses__()")
    @example("'a' * 50000000")
    @example("[1]*9999999")
    @example("9**9**9")
    @example("(" * 999 + ")" * 999)
    @example("not " * 499 + "1")
    @example("-" * 1999 + "1")
    @example("1" + "|string" * 280)
    @example("a" + ".b" * 900)
    @example("1 if " * 390 + "1")
    @example("[" * 1999)
    @example("'" + "\\" * 1998)
    @example("{'a':" * 390)
    @example("x" * 10**6)
    def test_only_one_kind_of_error_and_only_json(self, source: str):
        """
        Parsing and evaluating any text gives JSON or ExpressionInvalid with an offset inside it.
        """
        try:
            value = evaluate(parse(source), SCOPE, NOW)
        except ExpressionInvalid as error:
            refusal = error
        else:
            assert len(json.dumps(value, allow_nan=False)) < 2_000_000
            return
        assert 0 <= refusal.offset <= len(source)
        assert len(str(refusal)) < 2_000

    @quick
    @given(_NEARLY)
    def test_it_is_pure(self, source: str):
        """
        Evaluating twice gives the same, and changes nothing that was read.
        """
        before = json.dumps(SCOPE)
        try:
            expression = parse(source)
            first = evaluate(expression, SCOPE, NOW)
        except ExpressionInvalid:
            return
        assert evaluate(parse(source), SCOPE, NOW) == first
        assert json.dumps(SCOPE) == before

    @quick
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
        )
    )
    def test_data_is_never_read_as_language(self, data: Any):
        """
        What stands in the scope comes out as it is, whatever it looks like.
        """
        scope = {"inputs": {"x": data, "y": "{{ 7 * 7 }}"}}

        assert evaluate(parse("inputs.x"), scope, NOW) == data
        assert evaluate({"a": parse("inputs.y")}, scope, NOW) == {"a": "{{ 7 * 7 }}"}


_YAML_WORDS = """id: steps: - uses: with: { } [ ] , : - ? | > " ' & * ! !! % @ ` # --- ... << &a *a
!!int {{ }} "{{ 'a: b true null ~ 010 1e999 2026-01-01 on api1 gateway.close inputs: triggers:
type: string always: parallel: join: any foreach: as: item concurrency: 2 runbook: contain-endpoint
outputs: approvals: approval: from: [security] required: 2 on_timeout: skip break_glass: retry:
attempts: 3 delay: 5s backoff: jitter: on_failure: undo deadline: 4h ttl:
manual: ask: if: "\\U00110000" "\\ud800" %YAML"""
_YAML_PIECES = st.sampled_from(
    [
        *_YAML_WORDS.split(),
        " ",
        "\n",
        "\n  ",
        "\n    ",
        "\t",
        "\x00",
        "\x85",
        "\ufeff",
        "\u2028",
        "😀",
    ]
)
_ANY_TEXT = (
    st.text(max_size=400)
    | st.lists(_YAML_PIECES, max_size=60).map(" ".join)
    | st.lists(_YAML_PIECES, max_size=60).map("".join)
)


@st.composite
def _damaged(draw: st.DrawFn, text: str) -> str:
    """A good file with a few things cut out, doubled or put in."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 30)))
        kind = draw(st.integers(0, 2))
        if kind == 0:
            text = text[:start] + text[end:]
        elif kind == 1:
            text = text[:end] + text[start:end] + text[end:]
        else:
            text = text[:start] + draw(_YAML_PIECES | _PIECES | st.text(max_size=3)) + text[end:]
    return text


class TestFiles:
    @quick
    @given(_ANY_TEXT)
    @example("[" * 100_000)
    @example("{" * 100_000)
    @example("- " * 100_000)
    @example("? " * 100_000)
    @example("a: [" + "1," * 100_000 + "]")
    @example("a: " + "x" * 300_000)
    @example("é" * 200_000)
    @example("%YAML " + "9" * 5_000 + ".1\n---\na")
    @example('"\\U00110000"')
    @example("a: &a [*a]")
    @example("&" * 1_000)
    @example("'" + "\n" * 100_000 + "'")
    def test_yaml(self, text: str):
        """
        Any text gives plain JSON, or problems whose places are in the file.
        """
        report = Report()

        root = read(text, report)

        assert root is not None or report.problems
        if root is not None:
            json.dumps(plain(root), allow_nan=False).encode()
        lines = text.splitlines() or [""]
        for problem in report.problems:
            assert 1 <= problem.line <= len(lines) + 1
            assert problem.column >= 1
        assert len(report.problems) <= MAX_PROBLEMS + 1

    @quick
    @given(_ANY_TEXT | _damaged(GOOD))
    def test_runbooks(self, text: str):
        """
        Any text is a runbook or RunbookInvalid.
        """
        try:
            runbook = load(text, "fuzz.yaml", ACTIONS)
        except RunbookInvalid:
            return
        assert runbook.steps
        assert runbook.text == text

    @settings(quick, max_examples=60)
    @given(_damaged(EVERYTHING) | _damaged(CONTAIN))
    @example(EVERYTHING)
    @example(CONTAIN)
    def test_runbooks_with_groups_and_calls(self, text: str):
        """
        Alone, called or calling, any text is a runbook, or there are problems of that file.
        """
        own = EVERYTHING if text.startswith("id: contain") else text
        other = text if own is EVERYTHING else CONTAIN

        found = check_files({"own": own, "other": other}, ACTIONS)

        for problem in (*found["own"], *found["other"]):
            assert 1 <= problem.line <= max(len(own.splitlines()), len(other.splitlines())) + 1
        with contextlib.suppress(RunbookInvalid):
            book = load(own, "fuzz.yaml", ACTIONS, {"contain-endpoint": other})
            assert load(own, "fuzz.yaml", ACTIONS, {"contain-endpoint": other}) == book

    @quick
    @given(_ANY_TEXT | _damaged(REHEARSAL))
    def test_rehearsals(self, text: str):
        """
        Any text is a rehearsal or RunbookInvalid.
        """
        runbooks = {"api1": load(GOOD, "good.yaml", ACTIONS)}
        try:
            rehearsal = load_rehearsal(text, "fuzz.rehearsal.yaml", runbooks)
        except RunbookInvalid:
            return
        assert rehearsal.cases

    @quick
    @given(_ANY_TEXT)
    def test_openapi(self, text: str):
        """
        Any text is an inventory or SettingsInvalid.
        """
        with contextlib.suppress(SettingsInvalid):
            load_openapi(text, "fuzz.yaml")


GOOD_SEEDS = {
    name: [text for text in SEEDS[name]() if TARGETS[name](text)] for name in sorted(TARGETS)
}


class TestTargets:
    """What ``python -m tests.fuzz`` does for minutes, for a moment."""

    @pytest.mark.parametrize("name", sorted(TARGETS))
    def test_the_corpus_is_good_and_bad(self, name: str):
        """
        It holds texts that load, play or evaluate, and attacks; every promise holds for each.
        """
        assert 0 < len(GOOD_SEEDS[name]) < len(SEEDS[name]())

    @pytest.mark.parametrize("name", sorted(TARGETS))
    @settings(quick, max_examples=60)
    @given(seed=st.integers(0, 2**32))
    def test_every_promise_holds_for_texts_that_are_nearly_good(self, name: str, seed: int):
        """
        A good text with something changed: refused with a place, or it loads, is drawn, and runs.
        """
        chance, seeds = random.Random(seed), GOOD_SEEDS[name]

        TARGETS[name](mutated(chance.choice(seeds), chance, WORDS[name], seeds))

    @given(st.binary(max_size=50))
    def test_any_bytes_are_a_text(self, content: bytes):
        """
        And any text is bytes, with halves of characters too.
        """
        assert text_of(bytes_of(text_of(content))) is not None
        if content.isascii():
            assert bytes_of(text_of(content)) == content
