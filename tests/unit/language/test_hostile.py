"""Known attacks on templates and on YAML: each is refused with its place, or is plain data."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from bot.errors import ExpressionInvalid
from bot.language.expressions import evaluate, parse
from bot.language.load import check, check_files
from bot.language.yaml_source import MAX_BYTES, MAX_PROBLEMS
from tests.unit.language.acme_actions import ACTIONS
from tests.unit.language.texts import EVERYTHING, GOOD

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SCOPE: dict[str, Any] = {
    "inputs": {"endpoint": "GET /x", "since": "2026-01-01T00:00:00Z", "n": 3},
    "steps": {"s": {"list": [1, 2], "status": "done"}},
    "alert": {"labels": {"x": "{{ 7 * 7 }}"}},
}

REFUSED = [
    # Python's inner workings
    "''.__class__",
    "''['__class__']",
    "''.__class__.__mro__[1].__subclasses__()",
    "''.__class__.__base__.__subclasses__()[40]('/etc/passwd').read()",
    "inputs.__class__",
    "inputs['__class__']",
    "inputs.n.__init__.__globals__",
    "[].__class__.__base__",
    "{}.__class__",
    "(1).__class__",
    "{'__class__': 1}",
    "now.__globals__",
    "now().__class__",
    "duration.__func__",
    # Jinja's globals and what hangs on them
    "cycler.__init__.__globals__.os.popen('id').read()",
    "cycler",
    "joiner",
    "namespace(x=1)",
    "lipsum.__globals__['os'].popen('id').read()",
    "lipsum()",
    "range(999999999)",
    "dict(a=1)",
    "self",
    "self._TemplateReference__context",
    "self.__init__.__globals__.__builtins__",
    "config",
    "config.items()",
    "request.application.__globals__",
    "request|attr('application')",
    "url_for.__globals__",
    "get_flashed_messages.__globals__",
    "g.pop.__globals__",
    "loop.index",
    "caller()",
    "varargs",
    "context",
    "environment",
    # filters and tests that reach further
    "''|attr('__class__')",
    "''|attr('\\x5f\\x5fclass\\x5f\\x5f')",
    "''|attr(['__cl','ass__']|join)",
    "[]|map('attr', '__class__')|list",
    "['id']|map(attribute='__class__')",
    "[1]|selectattr('__class__')",
    "[1]|groupby('__class__')",
    "'%s'|format('a')",
    "'a'|safe",
    "'a'|e",
    "'{0.__class__}'.format(1)",
    "'a'|pprint",
    "'a'|tojson",
    "'a'|xmlattr",
    "'a'|filesizeformat",
    "'a'|urlize",
    "'a' is defined",
    "1 is callable",
    "'a'.upper()",
    "inputs.items()",
    "inputs.get('n')",
    "steps.s.list.append(1)",
    "[].pop()",
    # size and time
    "'a' * 1000000000",
    "1000000000 * 'a'",
    "[1] * 999999999",
    "9**9**9",
    "9 ** 99999999",
    "9007199254740991 * 9007199254740991",
    "9007199254740992",
    "1e999",
    "-1e999",
    "1e308 * 10",
    "9" * 1900,
    "0x" + "f" * 1900,
    "1_000_000_000_000_000_000_000",
    "1 / 0",
    "1 // 0",
    "1 % 0",
    "'%99999999d' % 1",
    "'a' ~ 'b'",
    "steps.s.list[0:99999999]",
    "duration('999999999d') * 999999999",
    "now() + duration('3650d') * 100000",
    "duration(1e300)",
    "1e300 | int",
    "1.5 | round(999999999)",
    "('9' * 99) | int",
    "'" + "9" * 1500 + "' | int",
    "(" * 1000 + "1" + ")" * 900,
    "[" * 900 + "]" * 900,
    "-" * 1900 + "1",
    "not " * 400 + "1",
    "1" + " if 1 else 1" * 120,
    "1" + "+1" * 900,
    "a" + "[0]" * 400,
    "x" * 5_000,
    # shapes of templates
    "",
    " ",
    "{{ 1 }}",
    "1 }} {{ 2",
    "1 }}{% import os %}{{ 2",
    "{% for x in y %}",
    "{# comment #}",
    "{%- set x = 1 -%}",
    "x = 1",
    "inputs.n := 5",
    "lambda: 1",
    "import os",
    "__import__('os')",
    "exec('1')",
    "eval('1')",
    "open('/etc/passwd')",
    "print(1)",
    "inputs.n; 1",
    "1, 2",
    "*inputs",
    "**inputs",
    "now(*[1])",
    "now(**{'a': 1})",
    "duration(value='1h')",
    "`id`",
    "$(id)",
    "@inputs",
    "inputs->n",
    "inputs?.n",
    # tricks with characters
    "\uff3f\uff3fclass\uff3f\uff3f",
    "''.\uff3f\uff3fclass\uff3f\uff3f",
    "inputs.\u005f\u005fclass__",
    "'\\x5f\\x5fclass'",
    "'\\u005f'",
    "'\\N{LOW LINE}'",
    "'\\0'",
    "\uff49nputs.n",
    "inputs\u200b.n",
    "inputs\u202e.n",
    "\u0131nputs.n",
    "\u0663 + 1",
    "\u00b2",
    "\u2160",
    "'\ud800'",
    "inputs.\ud800",
    "\x00",
    "1\x00",
    "'a\nb",
    "\u201ca\u201d",
]


class TestExpressions:
    @pytest.mark.parametrize("source", REFUSED, ids=lambda source: ascii(source)[:40])
    def test_attacks_are_refused(self, source: str):
        """
        Reading or evaluating it gives our error, with a place inside it and a message of one line.
        """
        with pytest.raises(ExpressionInvalid) as caught:
            evaluate(parse(source), SCOPE, NOW)

        assert 0 <= caught.value.offset <= len(source)
        assert len(str(caught.value)) < 600
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("source", REFUSED, ids=lambda source: ascii(source)[:40])
    def test_attacks_are_refused_in_a_runbook(self, source: str):
        """
        As the value of a parameter, it is a problem of the file at a place in the file; or, what
        reads data or only fails on it, is an expression that the run refuses.
        """
        document = json.dumps({"since": "{{ " + source + " }}"})
        text = GOOD.replace(
            'since: "{{ inputs.since }}"', document[1:-1].replace('"since"', "since")
        )
        assert text != GOOD

        runbook, problems = check(text, "x.yaml", ACTIONS)

        assert (runbook is None) == bool(problems)
        for problem in problems:
            assert 1 <= problem.line <= len(text.splitlines())
        if runbook is not None:
            with pytest.raises(ExpressionInvalid):
                evaluate(runbook.step("reads").params["since"], SCOPE, NOW)

    @pytest.mark.parametrize(
        ("source", "value"),
        [
            ("'{{ 7 * 7 }}'", "{{ 7 * 7 }}"),
            ("alert.labels.x", "{{ 7 * 7 }}"),
            ("'{% raw %}'", "{% raw %}"),
            ("'__class__'", "__class__"),
            ("'${7*7} #{7*7} <%= 7 %>'", "${7*7} #{7*7} <%= 7 %>"),
            ("inputs['class'] | default('none')", "none"),
            ("inputs.keys | default('none')", "none"),
            ("['_', '_class__'] | join", "__class__"),
            ("inputs[['_', '_class__'] | join] | default('none')", "none"),
            ("steps.s.list[-1]", 2),
        ],
    )
    def test_the_rest_is_data(self, source: str, value: Any):
        """
        Text that looks like a template stays text; a name of Python's is an entry that is not
        there.
        """
        assert evaluate(parse(source), SCOPE, NOW) == value

    @pytest.mark.parametrize(
        "text",
        [
            "{{ inputs.endpoint }}{% if x %}",
            "a {{ inputs.endpoint }}",
            "{{ inputs.endpoint }} b",
            "{{ inputs.endpoint }}{{ inputs.since }}",
            "{{{{ inputs.endpoint }}}}",
            "{{ '}}' }}{{ x }}",
            "{{- inputs.endpoint -}}",
            "{{+ inputs.endpoint }}",
            "{{ {{ inputs.endpoint }} }}",
            "{{",
            "{{ }",
        ],
    )
    def test_braces_are_never_half_read(self, text: str):
        """
        A value with braces is exactly one expression, or a problem.
        """
        source = GOOD.replace('"{{ inputs.since }}"', json.dumps(text))

        runbook, problems = check(source, "x.yaml", ACTIONS)

        assert runbook is None
        assert len(problems) == 1

    def test_other_delimiters_are_text(self):
        """
        Statements and comments of Jinja's mean nothing.
        """
        text = GOOD.replace(
            "credential: orders", "credential: '{% include \"/etc/passwd\" %}{# x #}'"
        )

        runbook, problems = check(text, "x.yaml", ACTIONS)

        assert problems == ()
        assert runbook is not None
        assert runbook.step("rotate").params["credential"].startswith("{% include")


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

HOSTILE_YAML = {
    "billion laughs": LAUGHS,
    "alias to itself": "steps: &a [*a]\n",
    "quadratic": "a: &a " + "x" * 100_000 + "\nb: [" + "*a," * 5_000 + "]\n",
    "merge key": GOOD + "<<: {name: other}\n",
    "merge with alias": "x: &x {a: 1}\nsteps:\n  <<: *x\n",
    "python object": "id: !!python/object/apply:os.system ['id']\n",
    "python name": "id: !!python/name:os.system ''\n",
    "python module": "id: !!python/module:os ''\n",
    "python tuple": "!!python/tuple [1, 2]\n",
    "own tag": "steps: !include /etc/passwd\n",
    "tag directive": "%TAG ! tag:yaml.org,2002:python/\n---\nid: !object x\n",
    "verbatim tag": "id: !<tag:yaml.org,2002:python/object/new:os.system> [id]\n",
    "binary": "id: !!binary aWQ=\n",
    "set": "steps: !!set {a, b}\n",
    "timestamp tag": "id: !!timestamp 2026-01-01\n",
    "two documents": GOOD + "---\n" + GOOD,
    "ended document": GOOD + "...\n---\nid: x\n",
    "yaml directive": "%YAML 9.9\n---\n" + GOOD,
    "huge directive": "%YAML " + "9" * 5_000 + ".1\n---\na: 1\n",
    "deep lists": "[" * 50_000,
    "deep maps": "{a: " * 50_000,
    "deep block": "".join(f"{' ' * depth}a:\n" for depth in range(600)),
    "deep sequence": "- " * 50_000,
    "deep keys": "? " * 50_000,
    "closed deep lists": "a: " + "[" * 40 + "]" * 40,
    "list as a key": "[a, b]: 1\n",
    "map as a key": "{a: 1}: 1\n",
    "unquoted braces": "steps: {{ inputs.x }}\n",
    "huge key": "k" * 200_000 + ": 1\n",
    "long key": "? " + "k" * 2_000 + "\n: 1\n",
    "key with a line": '"a\\nb": 1\n',
    "key with a NUL": '"a\\0b": 1\n',
    "empty key": '"": 1\n',
    "key null": "~: 1\n? \n: 2\n",
    "many keys": "".join(f"k{number}: 1\n" for number in range(9_000)),
    "many values": "a: [" + "1," * 20_000 + "]\n",
    "many problems": "steps: [" + "x," * 9_000 + "]\n",
    "many aliases": "steps: [" + "*x," * 9_000 + "]\n",
    "key twice": GOOD + "name: other\n",
    "NUL": GOOD + "\x00",
    "escaped NUL": 'id: "a\\0"\n',
    "escape beyond Unicode": 'id: "\\UFFFFFFFF"\n',
    "escaped surrogate": 'id: "\\ud800"\n',
    "surrogate": "id: \ud800\n",
    "bell": "id: a\x07\n",
    "next line": "id: a\x85name: b\n",
    "line separator": "id: a\u2028name: b\n",
    "byte order mark inside": "id: a\n\ufeffname: b\n",
    "right to left": "id: \u202egpj.exe\n",
    "zero width": "i\u200bd: a\n",
    "full width": "\uff49\uff44: a\n",
    "tab": "steps:\n\t- a\n",
    "infinity": GOOD.replace("attempts: 3", "attempts: .inf"),
    "not a number": GOOD.replace("attempts: 3", "attempts: .nan"),
    "overflow": GOOD.replace("attempts: 3", "attempts: 1e999"),
    "overflow below": GOOD.replace("attempts: 3", "attempts: -1e999"),
    "long number": GOOD.replace("attempts: 3", "attempts: " + "9" * 100_000),
    "long fraction": GOOD.replace("attempts: 3", "attempts: 0." + "1" * 100_000),
    "long exponent": GOOD.replace("attempts: 3", "attempts: 1e" + "9" * 100_000),
    "octal": GOOD.replace("attempts: 3", "attempts: 0o7"),
    "hexadecimal": GOOD.replace("attempts: 3", "attempts: 0x3"),
    "sexagesimal": GOOD.replace("attempts: 3", "attempts: 1:30"),
    "separated": GOOD.replace("attempts: 3", "attempts: 1_0"),
    "long duration": GOOD.replace("ttl: 30m", "ttl: " + "9" * 10_000 + "d"),
    "far duration": GOOD.replace("ttl: 30m", "ttl: 999999999d"),
    "other digits": GOOD.replace("ttl: 30m", "ttl: \u0663m"),
    "too large": "#" * (MAX_BYTES + 1),
    "too large in bytes": "#" + "\u00e9" * (MAX_BYTES // 2),
    "nothing": "",
    "only space": " \n\n",
    "only a comment": "# a\n",
    "open quote": 'id: "a\n' + "x\n" * 1_000,
    "open block": "id: |\n" + " x\n" * 1_000,
    "anchors": "&a " * 1_000 + "x",
    "deep groups": EVERYTHING.split("steps:")[0]
    + "steps: "
    + "[{parallel: [{steps: " * 6
    + "[]"
    + "}]}]" * 6,
}


class TestYaml:
    @pytest.mark.parametrize("name", HOSTILE_YAML)
    def test_attacks_are_problems(self, name: str):
        """
        Each is refused, with places in the file and messages of one line.
        """
        text = HOSTILE_YAML[name]

        runbook, problems = check(text, "x.yaml", ACTIONS)

        assert runbook is None
        assert 1 <= len(problems) <= MAX_PROBLEMS + 1
        for problem in problems:
            assert problem.line >= 1
            assert problem.column >= 1
            assert "\n" not in str(problem)
            assert len(str(problem)) < 1_000
            str(problem).encode()

    @pytest.mark.parametrize("name", HOSTILE_YAML)
    def test_they_do_not_harm_other_files(self, name: str):
        """
        Checked together with a good file, only the bad one has problems.
        """
        good = GOOD.replace("id: api1\n", "id: other\n")

        found = check_files({"bad": HOSTILE_YAML[name], "good": good}, ACTIONS)

        assert found["good"] == ()
        assert found["bad"] != ()

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("\ufeff" + GOOD, id="byte order mark at the start"),
            pytest.param(GOOD.replace("\n", "\r\n"), id="lines of Windows"),
            pytest.param(GOOD + "# \u202e\u200b\n", id="comment"),
            pytest.param(GOOD.replace("routine}", "routine} # &a *b !!c"), id="marks in a comment"),
            pytest.param(GOOD.replace("orders,", "'&a *b !!python/object',"), id="marks in text"),
            pytest.param(GOOD.replace("orders,", "'" + "x" * 9_000 + "',"), id="long text"),
        ],
    )
    def test_what_is_harmless_is_taken(self, text: str):
        """
        Strictness does not refuse what only looks odd.
        """
        assert text != GOOD
        assert check(text, "x.yaml", ACTIONS)[1] == ()


class TestGroups:
    @pytest.mark.parametrize(
        "name",
        ["__class__", "_", "self", "a.b", "a b", "{{ x }}", "é", "a" * 65, "", "none", "in", "now"],
    )
    def test_names_of_items(self, name: str):
        """
        What an item is called cannot reach anything, nor hide a name of the language.
        """
        text = EVERYTHING.replace("as: account", f"as: {json.dumps(name)}").replace(
            "{{ account }}", "{{ index }}"
        )
        text = text.replace("account != none", "true")

        runbook, problems = check(text, "x.yaml", ACTIONS)

        if name == "self":  # a word like any other: Jinja's meaning of it is not there
            assert problems == ()
        else:
            assert runbook is None
            assert {problem.where for problem in problems} == {"steps[3].as"}

    @pytest.mark.parametrize("key", ["parallel", "foreach", "steps", "always"])
    def test_many_nested_groups(self, key: str):
        """
        As deep and as many as a file may hold: one refusal, no blow-up.
        """
        inner = "{id: a, uses: data.wipe}"
        for number in range(12):
            inner = f"{{id: g{number}, {key}: [{', '.join([inner] * (2 if number < 9 else 1))}]}}"
        text = EVERYTHING.split("approvals:")[0] + f"steps: [{inner}]\n"

        runbook, problems = check(text, "x.yaml", ACTIONS)

        assert runbook is None
        assert problems
