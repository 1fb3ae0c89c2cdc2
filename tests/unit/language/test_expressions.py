"""What an expression may say, and what it gives."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from bot.errors import ExpressionInvalid
from bot.language import tree
from bot.language.expressions import Expression, evaluate, parse
from bot.language.filters import FILTERS, FUNCTIONS
from bot.language.grammar import MAX_LENGTH
from bot.language.values import MAX_DATA_DEPTH, MAX_ITEMS, MAX_TEXT, Missing

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SCOPE: dict[str, Any] = {
    "inputs": {"endpoint": "GET /x", "since": "2026-02-01T00:00:00Z", "n": 3, "half": 0.5},
    "steps": {
        "reads": {
            "people": 3,
            "names": ["b", "a", "b"],
            "none": None,
            "on": True,
            "status": "done",
        },
        "my-step": {"x": 1},
    },
    "alert": {"labels": {"severity": "page", "n": "12"}, "starts_at": "2026-03-01T11:00:00Z"},
    "inventory": {"GET /x": {"data_classification": ["personal"], "owner": None}},
    "run": {"id": "R1"},
}


def result(source: str, scope: Any = SCOPE) -> Any:
    return evaluate(parse(source), scope, NOW)


def refused(source: str, scope: Any = SCOPE) -> ExpressionInvalid:
    with pytest.raises(ExpressionInvalid) as caught:
        result(source, scope)
    return caught.value


class TestValues:
    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ("1", 1),
            ("1.5", 1.5),
            ("'text'", "text"),
            (r"'it\'s \\ \"quoted\"\n\t'", 'it\'s \\ "quoted"\n\t'),
            ("'é' 'ö'", "éö"),
            ("true", True),
            ("False", False),
            ("none", None),
            ("[1, 'a', none, [2]]", [1, "a", None, [2]]),
            ("{'a': 1, \"b\": [2]}", {"a": 1, "b": [2]}),
            ("{'a': {'b': 2}}.a.b", 2),
            ("inputs.endpoint", "GET /x"),
            ("inputs['endpoint']", "GET /x"),
            ("steps['my-step'].x", 1),
            ("steps.reads.names[0]", "b"),
            ("steps.reads.names[-1]", "b"),
            ("steps.reads.names[inputs.n - 2]", "a"),
            ("inventory[inputs.endpoint].data_classification", ["personal"]),
            ("alert . labels . severity", "page"),
            ("(((((inputs.n)))))", 3),
            ("\n  inputs.n\n", 3),
        ],
    )
    def test_literals_names_and_entries(self, source: str, expected: Any):
        """
        Literals are themselves; names lead into plain mappings and lists.
        """
        assert result(source) == expected

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ("1 + 2 * 3", 7),
            ("(1 + 2) * 3", 9),
            ("1 - 2.5", -1.5),
            ("-inputs.n", -3),
            ("- -2", 2),
            ("inputs.n * inputs.half", 1.5),
            ("now()", "2026-03-01T12:00:00Z"),
            ("now() - duration('24h')", "2026-02-28T12:00:00Z"),
            ("duration('90s') + now()", "2026-03-01T12:01:30Z"),
            ("inputs.since | datetime + duration(60)", "2026-02-01T00:01:00Z"),
            ("now() - (alert.starts_at | datetime)", 3600),
            ("duration('1h') - duration('15m')", 2700),
            ("duration('1h') + duration('15m')", 4500),
            ("2 * duration('15m')", 1800),
            ("duration('15m') * 0.5", 450),
            ("-duration('15m')", -900),
            ("duration(0.5)", 0.5),
            ("duration(duration('2d') * 1)", 172800),
        ],
    )
    def test_arithmetic(self, source: str, expected: Any):
        """
        Numbers add, subtract and multiply; moments and durations as one would expect.
        """
        assert result(source) == expected
        assert type(result(source)) is type(expected)

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ("1 == 1.0", True),
            ("1 == true", False),
            ("0 == false", False),
            ("none == none", True),
            ("inputs.n != none", True),
            ("'1' == 1", False),
            ("[1, [2]] == [1, [2]]", True),
            ("[1, 2] == [1]", False),
            ("[true] == [1]", False),
            ("{'a': 1} == {'a': 1.0}", True),
            ("{'a': 1} == {'b': 1}", False),
            ("now() == now()", True),
            ("1 < 2", True),
            ("2 <= 2", True),
            ("3 > 4", False),
            ("4 >= 4", True),
            ("1 < 2 < 3", True),
            ("1 < 2 < 2", False),
            ("now() > alert.starts_at | datetime", True),
            ("duration('1h') >= duration('60m')", True),
            ("'a' in steps.reads.names", True),
            ("'z' not in steps.reads.names", True),
            ("'age' in alert.labels.severity", True),
            ("'severity' in alert.labels", True),
            ("1 in [true]", False),
        ],
    )
    def test_comparisons(self, source: str, expected: bool):
        """
        Kinds are not mixed up: true is not 1, and 1 is 1.0.
        """
        assert result(source) is expected

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ("true and 'x'", "x"),
            ("0 and nothing_is_read_here", None),
            ("'' or 'x'", "x"),
            ("1 or inputs.absent", 1),
            ("0 and inputs.absent", 0),
            ("not []", True),
            ("not {'a': 1}", False),
            ("not inputs.n in [3]", False),
            ("'yes' if steps.reads.on else inputs.absent", "yes"),
            ("1 if none else 2 if 0 else 3", 3),
        ],
    )
    def test_logic_goes_no_further_than_it_must(self, source: str, expected: Any):
        """
        ``and``, ``or`` and ``if`` evaluate only what decides, as in Python.
        """
        if expected is None:
            assert refused(source).offset == source.index("nothing")
        else:
            assert result(source) == expected

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ("'abc' | length", 3),
            ("steps.reads.names | length", 3),
            ("alert.labels | length", 2),
            ("'AbC' | lower", "abc"),
            ("'AbC' | upper", "ABC"),
            ("' a ' | trim", "a"),
            ("none | default(4)", 4),
            ("0 | default(4)", 0),
            ("inputs.absent | default(4)", 4),
            ("alert.labels.absent.deeper | default('x')", "x"),
            ("steps.reads.none.x | default('x')", "x"),
            ("steps.reads.names[9] | default('x')", "x"),
            ("([] | first) | default('x')", "x"),
            ("incident.id | default('x')", "x"),
            ("(steps.reads.none + 1) | default(1)", 1),
            ("steps.reads.names | first", "b"),
            ("steps.reads.names | last", "b"),
            ("steps.reads.names | unique", ["b", "a"]),
            ("[1, 1.0, '1', true, 1, 2.5] | unique", [1, "1", True, 2.5]),
            ("[now(), now()] | unique | length", 1),
            ("steps.reads.names | sort", ["a", "b", "b"]),
            ("[2, 1.5] | sort | first", 1.5),
            ("[] | sort", []),
            ("steps.reads.names | unique | sort | join(', ')", "a, b"),
            ("[1, 1.5, true, false, now(), 'é'] | join", "11.5truefalse2026-03-01T12:00:00Zé"),
            ("[none, 1, none] | compact", [1]),
            ("'12' | int", 12),
            ("' -7 ' | int", -7),
            ("2.9 | int", 2),
            ("alert.labels.n | int + 1", 13),
            ("2.567 | round", 3),
            ("2.567 | round(2)", 2.57),
            ("2.5 | round", 2),
            ("1.5 | string", "1.5"),
            ("'x' | string", "x"),
            ("now() | datetime", "2026-03-01T12:00:00Z"),
            ("'2026-03-01T13:00:00+01:00' | datetime", "2026-03-01T12:00:00Z"),
        ],
    )
    def test_filters(self, source: str, expected: Any):
        """
        Each filter does what runbooks/README.md says.
        """
        assert result(source) == expected
        assert type(result(source)) is type(expected)

    def test_every_filter_and_function_is_tried_here(self):
        """
        A new filter without a test is a mistake.
        """
        tried = " ".join(
            mark.args[1][i][0]
            for method in vars(TestValues).values()
            for mark in getattr(method, "pytestmark", [])
            for i in range(len(mark.args[1]))
        )
        for name in FILTERS:
            assert f"| {name}" in tried, name
        for name in FUNCTIONS:
            assert f"{name}(" in tried, name


class TestEvaluate:
    def test_it_goes_into_lists_and_mappings(self):
        """
        Every expression in a JSON value is replaced; the rest stays.
        """
        value = {"a": ["x", parse("inputs.n")], "b": {"c": parse("none")}, "d": (1, None)}

        assert evaluate(value, SCOPE, NOW) == {"a": ["x", 3], "b": {"c": None}, "d": [1, None]}

    def test_the_result_shares_nothing_with_the_scope(self):
        """
        Pure: changing a result changes nothing that was read.
        """
        names = result("steps.reads.names")
        names.append("c")

        assert SCOPE["steps"]["reads"]["names"] == ["b", "a", "b"]

    def test_results_are_json(self):
        """
        Moments become text and durations seconds, also deep inside a result.
        """
        value = result("{'a': [now(), duration('1m')], 'b': {'c': now()}}")

        assert (
            json.loads(json.dumps(value))
            == value
            == {
                "a": ["2026-03-01T12:00:00Z", 60],
                "b": {"c": "2026-03-01T12:00:00Z"},
            }
        )

    def test_now_is_given_and_shown_in_utc(self):
        """
        The time is an argument; whatever its offset, the result is in UTC.
        """
        summer = timezone(timedelta(hours=2))

        value = evaluate(parse("now()"), {}, datetime(2026, 7, 1, 14, 0, 0, 500, tzinfo=summer))

        assert value == "2026-07-01T12:00:00.000500Z"

    def test_moments_and_durations_may_stand_in_the_scope(self):
        """
        A scope may hold real moments and durations, not only their text.
        """
        scope = {"inputs": {"since": NOW, "window": timedelta(minutes=1)}}

        assert result("inputs.since - inputs.window", scope) == "2026-03-01T11:59:00Z"


class TestReferences:
    @pytest.mark.parametrize(
        ("source", "paths"),
        [
            ("1", set()),
            ("now()", set()),
            ("inputs.a", {("inputs", "a")}),
            ("inputs['a'].b", {("inputs", "a", "b")}),
            ("steps.a.b[0].c", {("steps", "a", "b", "[0]", "c")}),
            (
                "inventory[inputs.e].owner",
                {("inventory", "[inputs.e]", "owner"), ("inputs", "e")},
            ),
            ("steps.a.b[steps.c.d + 1]", {("steps", "a", "b", "[…]"), ("steps", "c", "d")}),
            (
                "steps[('a')].b if not alert else [{'k': run.id}][0].k | default(-inputs.z)",
                {("steps", "a", "b"), ("alert",), ("run", "id"), ("inputs", "z")},
            ),
            ("1 < inputs.a in [inputs.b] and true", {("inputs", "a"), ("inputs", "b")}),
            ("(steps.a | default({})).b", {("steps", "a")}),
            ("duration(inputs.d) * 2 + duration('1s')", {("inputs", "d")}),
        ],
    )
    def test_every_name_path_is_found(self, source: str, paths: set[tuple[str, ...]]):
        """
        References are all names that could be read, wherever they stand.
        """
        expression = parse(source)

        assert expression.references == paths
        assert expression.offsets.keys() == paths

    def test_offsets_point_at_the_last_name_of_a_path(self):
        """
        That is the name that is wrong most often.
        """
        source = "1 + steps.reads.pepole"

        offset = parse(source).offsets["steps", "reads", "pepole"]

        assert source[offset:] == "pepole"

    def test_a_tree_can_be_walked(self):
        """
        Every kind of node gives the nodes under it, in reading order.
        """

        def walk(node: tree.Node) -> list[str]:
            below = [name for child in tree.children(node) for name in walk(child)]
            return [type(node).__name__, *below]

        source = "[-inputs.a, not 1 + 2 == 3 and {'k': now()}] | join('x') if run else none"

        assert walk(parse(source).node) == [
            *["Choice", "Filter", "ListOf", "Negative", "Access", "Name", "Literal"],
            *["Logic", "Not", "Comparison", "Arithmetic", "Literal", "Literal", "Literal"],
            *["MapOf", "Call", "Literal", "Name", "Literal"],
        ]

    def test_equal_sources_are_equal_expressions(self):
        """
        An expression is its source; it can be compared and hashed.
        """
        assert parse("inputs.a") == parse("inputs.a") != parse("inputs.b")
        assert isinstance(hash(parse("inputs.a").source), int)
        assert isinstance(parse("inputs.a"), Expression)


class TestRefusedWhenRead:
    @pytest.mark.parametrize(
        ("source", "offset", "part"),
        [
            ("''.__class__", 3, "two underscores"),
            ("inputs.__init__", 7, "two underscores"),
            ("inputs['__class__']", 6, "two underscores"),
            ("{'__a': 1}", 1, "two underscores"),
            ("__import__('os')", 10, "Only now() and duration"),
            ("inputs.x.format()", 15, "Only now() and duration"),
            ("inputs | attr('x')", 9, "No filter is named 'attr'"),
            ("inputs | lenght", 9, "Did you mean 'length'?"),
            ("inputs | a.b", 9, "No filter is named 'a.b'"),
            ("noww()", 4, "Did you mean 'now'?"),
            ("lower('x')", 5, "'lower' is a filter"),
            ("now", 0, "write now()"),
            ("null", 0, "Write none"),
            ("input.x", 0, "Did you mean 'inputs'?"),
            ("foo", 0, "There are alert, incident, inputs, inventory, run, steps"),
            ("'a' * 50000000", 0, "takes numbers"),
            ("[1] * 9999999", 0, "takes numbers"),
            ("2 * {'a': 1}", 4, "takes numbers"),
            ("true + 1", 0, "takes numbers"),
            ("none + 1", 0, "takes numbers"),
            ("'a' + 'b'", 0, "use join"),
            ("9 ** 9 ** 9", 7, "'**' is not part"),
            ("1 / 2", 0, "Division"),
            ("1 // 2", 0, "Division"),
            ("1 % 2", 0, "'%'"),
            ("'a' ~ 'b'", 0, "build text with join"),
            ("+1", 0, "plus sign"),
            ("inputs is defined", 7, "'is' is not part"),
            ("inputs.x[1:2]", 9, "Slices"),
            ("(1, 2)", 2, "square brackets"),
            ("inputs.x[1, 2]", 8, "square brackets"),
            ("inputs[1.5]", 6, "Square brackets take"),
            ("inputs[none]", 6, "Square brackets take"),
            ("inputs[true]", 6, "Square brackets take"),
            ("1 if true", 0, "needs its else"),
            ("{1: 2}", 1, "Keys here are text"),
            ("{'a': 1, 'a': 2}", 9, "each once"),
            ("{inputs.x: 2}", 7, "Keys here are text"),
            ("now(1)", 3, "takes 0 arguments"),
            ("duration()", 8, "takes 1 arguments"),
            ("[] | join(1, 2)", 5, "takes 0 to 1 arguments"),
            ("[] | join(separator='x')", 5, "by place"),
            ("[] | join(*inputs.x)", 5, "by place"),
            ("[] | join(**inputs.x)", 5, "by place"),
            ("1e999", 0, "too large"),
            ("9007199254740992", 0, "lose digits"),
            ("0x" + "f" * 1500, 0, "lose digits"),
            ("٣ + 1", 0, "cannot be read"),
            ("1.٣", 0, "digits 0 to 9"),
            (r"'\x41'", 0, "escapes"),
            (r"'\N{DOLLAR SIGN}'", 0, "escapes"),
            (r"'a\d'", 0, "escapes"),
            ("'\ud800'", 0, "half a character"),
            ("", 0, "empty"),
            ("  \n ", 0, "empty"),
            ("1 2", 2, "more after its end"),
            ("inputs.", 6, "cannot be read"),
            ("[1", 1, "cannot be read"),
            ("(1]", 2, "cannot be read"),
            ("'open", 0, "cannot be read"),
            ("inputs.x }} and {{ 1", 9, "never a mix"),
            ("{% set x = 1 %}", 1, "cannot be read"),
            ("{# note #}", 1, "cannot be read"),
            ("a$b", 1, "cannot be read"),
            ("x = 1", 2, "more after its end"),
            ("inputs.x for x in steps", 9, "more after its end"),
            ("1" + " " * MAX_LENGTH, 0, f"at most {MAX_LENGTH}"),
            ("[" + "1," * 300 + "]", 0, "over 400 parts"),
            ("(" * 13 + "1" + ")" * 13, 12, "nested too deeply"),
            ("[" * 500 + "]" * 500, 0, "over 400 parts"),
            ("[" * 150 + "]" * 150, 12, "nested too deeply"),
            ("not " * 25 + "1", 96, "nested too deeply"),
            ("-" * 25 + "1", 24, "nested too deeply"),
            ("1" + " if 1 else 1" * 25, 295, "nested too deeply"),
            ("inputs" + ".a" * 60, None, "nested too deeply"),
            ("1" + " or 1" * 60, None, "nested too deeply"),
            ("inputs" + "|trim" * 60, None, "nested too deeply"),
        ],
    )
    def test_it_says_what_and_where(self, source: str, offset: int | None, part: str):
        """
        What is not in the language is refused when it is read, at its place.
        """
        with pytest.raises(ExpressionInvalid) as caught:
            parse(source)

        assert part in str(caught.value)
        assert offset is None or caught.value.offset == offset

    @pytest.mark.parametrize(
        ("source", "part"),
        [
            ("duration('1x')", "not a duration"),
            ("duration('9999999d')", "at most ten years"),
            ("duration(1e12)", "at most ten years"),
            ("duration(none)", "got null"),
            ("'x' | datetime", "not a moment"),
            ("'2026-01-01T00:00:00' | datetime", "offset"),
            ("[1, 'a'] | sort", "It sorts"),
            ("[[1]] | sort", "It sorts"),
            ("'x' | int", "whole number"),
            ("('9' | int) * 9007199254740991", "lose digits"),
            ("1e308 * 10", "too large"),
            ("now() + duration('3660d') * 1000", "too large"),
            ("duration('3660d') * 1e300", "too large"),
            ("-'a'", "'-' takes a number"),
            ("'a' < 'b'", "cannot be put in order"),
            ("1 < none", "default(0)"),
            ("now() < '2026'", "x | datetime"),
            ("now() == '2026'", "x | datetime"),
            ("[1] < [2]", "a list and a list cannot be put in order."),
            ("duration('1h') > 5", "duration(x)"),
            ("duration('1h') == 5", "duration(x)"),
            ("1 in 2", "right side of 'in'"),
            ("1 in 'a1'", "right side of 'in'"),
            ("now() - '2026'", "takes numbers"),
            ("now() + 1", "duration('1h')"),
            ("now() + now()", "cannot take a moment and a moment"),
            ("(true or 1) * (1 or 2)", "cannot take true or false and a number"),
            ("[] | first", "no first item"),
            ("[] | last", "no last item"),
            ("[none] | join", "Null has no text"),
            ("[[1]] | join", "no text of its own"),
            ("duration('1h') | string", "no text of its own"),
            ("1 | lower", "It takes text"),
            ("true | int", "It takes a number"),
            ("none | length", "got null"),
            ("1.5 | round(11)", "0 to 10 digits"),
            ("1.5 | round('2')", "a number of digits"),
            ("[1] | join(2)", "It takes text"),
            ("{'a': 1}.b", "has no 'b'; it has a"),
            ("[1][5]", "none at 5"),
            ("'abc'[0]", "is text and has no entry 0"),
            ("[1].x", "is a list and has no entry 'x'"),
        ],
    )
    def test_what_is_constant_is_evaluated_when_read(self, source: str, part: str):
        """
        An expression that reads no name is found out before any run.
        """
        with pytest.raises(ExpressionInvalid) as caught:
            parse(source)

        assert part in str(caught.value)


class TestRefusedWhenEvaluated:
    def test_a_missing_name_is_named_with_its_path(self):
        """
        The message says the path, what is there, and what was probably meant; and quotes the
        expression.
        """
        error = refused(" steps.reads.pepole + 1 ")

        assert isinstance(error, Missing)
        assert str(error) == (
            "In {{ steps.reads.pepole + 1 }}: steps.reads has no 'pepole'; it has names, none, on, "
            "people, status. Did you mean 'people'?"
        )
        assert error.offset == 13

    @pytest.mark.parametrize(
        ("source", "part"),
        [
            ("steps.reads.none.x", "steps.reads.none is null, so steps.reads.none.x cannot be"),
            ("steps.reads.names[inputs.n]", "steps.reads.names has 3 items and none at 3"),
            ("steps['my-step'].y", "steps['my-step'] has no 'y'"),
            ("inventory[inputs.since].owner", "has no '2026-02-01T00:00:00Z'"),
            ("steps.reads.names[true == true]", "steps.reads.names is a list"),
            ("(1 if true else 2).x", "the value is a number"),
            ("incident.id", "'incident' cannot be read here"),
            ("steps.reads.none | lower", "steps.reads.none | lower: It takes text, and got null"),
            ("steps.reads.none + 1", "x | default(0)"),
            ("inputs.since - duration('1h')", "Make the text a moment"),
            ("inputs.since + 1", "use join"),
            ("inputs.endpoint * 5000", "use join"),
            ("inputs.n.real", "inputs.n is a number and has no entry 'real'"),
            ("steps.reads.on.x", "is true or false"),
            ("steps.reads.names[steps]", "is a list and has no entry for a mapping"),
            ("steps.reads[steps.reads.names]", "is a mapping and has no entry for a list"),
            ("steps.reads[now()]", "is a mapping and has no entry for a moment"),
            ("steps.reads.names[1 * 0.5]", "is a list and has no entry 0.5"),
            ("steps.reads[steps.reads.none]", "is a mapping and has no entry null"),
            ("steps.reads.names[1 == 1]", "is a list and has no entry true"),
            ("steps.reads.names[not true]", "is a list and has no entry false"),
        ],
    )
    def test_values_that_do_not_fit(self, source: str, part: str):
        """
        What can only be seen at the run is refused then, with a remedy.
        """
        assert part in str(refused(source))

    def test_a_message_never_holds_what_was_read(self):
        """
        A key that is no key is named by its kind: data may be large, and may be secret.
        """
        scope = {"inputs": {"keys": ["hunter2"] * 5_000, "list": [1]}}

        message = str(refused("inputs.list[inputs.keys]", scope))

        assert "hunter2" not in message
        assert len(message) < 200

    @pytest.mark.parametrize(
        "source",
        [
            "inputs.many" + " | unique" * 40,
            "inputs.many" + " | sort" * 40,
            "[" + ", ".join(["inputs.many | unique | length"] * 20) + "]",
            " == ".join(["inputs.many"] * 40),
            "[" + ", ".join(["7 in inputs.many"] * 20) + "]",
            "[" + ", ".join(["inputs.deep == inputs.deep"] * 20) + "]",
        ],
    )
    def test_reading_much_data_often_is_refused(self, source: str):
        """
        A short expression over large data takes no longer than others.
        """
        many = [str(number) for number in range(9_000)]
        scope = {"inputs": {"many": many, "deep": {"a": [{"b": many}]}}}

        assert "goes over more than 100000 values" in str(refused(source, scope))

    def test_what_costs_one_glance_is_never_too_much(self):
        """
        The length, and the first and last item, of lists that are too long for anything else.
        """
        scope = {"inputs": {"many": [0] * 200_000}}

        assert result("inputs.many | length", scope) == 200_000
        assert result("[inputs.many | first, inputs.many | last]", scope) == [0, 0]
        assert "goes over more" in str(refused("1 in inputs.many", scope))

    def test_long_expressions_are_quoted_in_part(self):
        """
        A message stays readable.
        """
        message = str(refused("steps.absent" + " " * 500 + "| lower" + " | trim" * 20))

        assert "…" in message
        assert len(message) < 400

    def test_texts_from_outside_are_made_harmless_in_messages(self):
        """
        Label names come from outside; messages are shown in terminals.
        """
        error = refused("alert.labels.x", {"alert": {"labels": {"\x1b[31m\n": "y"}}})

        assert "\x1b" not in str(error)
        assert "\n" not in str(error)

    @pytest.mark.parametrize(
        ("source", "scope", "part"),
        [
            ("[inputs.t, inputs.t] | join", {"t": "x" * 60_000}, "longer than"),
            ("[inputs.t, inputs.t]", {"t": "x" * 60_000}, "items or"),
            ("inputs.t", {"t": ["x"] * (MAX_ITEMS + 1)}, "items or"),
            ("inputs.t", {"t": {"k" * MAX_TEXT: "v"}}, "items or"),
            ("inputs.t | upper", {"t": "ß" * 60_000}, "longer than"),
            ("inputs.t", {"t": float("nan")}, "too large"),
            ("inputs.t", {"t": 2**60}, "lose digits"),
            ("inputs.t", {"t": object()}, "A object is no value"),
            ("inputs.t.x", {"t": object()}, "A object is no value"),
            ("not inputs.t", {"t": object()}, "A object is no value"),
            ("inputs.t", {"t": {1, 2}}, "A set is no value"),
            ("inputs.t | unique", {"t": [b"x"]}, "A bytes is no value"),
        ],
    )
    def test_results_are_bounded_and_plain(self, source: str, scope: Any, part: str):
        """
        However large the data, a result is small; and only JSON comes out.
        """
        assert part in str(refused(source, {"inputs": scope}))

    def test_results_are_not_deep(self):
        """
        Deep data is refused instead of overflowing a stack.
        """
        deep: Any = 1
        for _ in range(MAX_DATA_DEPTH + 1):
            deep = [deep]

        assert "nested over" in str(refused("inputs.t", {"inputs": {"t": deep}}))

    def test_objects_in_the_scope_are_never_called_or_entered(self):
        """
        Even an object that slips into a scope gives nothing away.
        """

        class Trap:
            secret = "canary"

            def __getitem__(self, key: str) -> str:
                raise AssertionError("entered")

            def __call__(self) -> str:
                raise AssertionError("called")

        error = refused("inputs.t.secret", {"inputs": {"t": Trap()}})

        assert "canary" not in str(error)
