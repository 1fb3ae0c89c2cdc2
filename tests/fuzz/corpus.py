"""What the fuzzing begins with: shipped runbooks, features, and known attacks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bot import wiring
from bot.action import Action
from bot.language.yaml_source import Report, Scalar, leaves, read
from tests.scenario.company import Company
from tests.unit.language.acme_actions import ACTIONS as ACME
from tests.unit.language.test_hostile import HOSTILE_YAML, REFUSED
from tests.unit.language.texts import CONTAIN, EVERYTHING, GOOD, REHEARSAL

ACTIONS: Mapping[str, Action[Any]] = {**ACME, **Company(Path(), []).actions, **wiring.actions()}

NEXT_FILE = "\n#--- next file ---\n"
"""Between the runbooks of one input: they are checked and linked together."""

MOST_BYTES = 12_000
LARGEST_ATTACK = 3_000
"""Attacks of sheer size are in the unit tests; here they would only cost time."""

_ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = (_ROOT / "runbooks", _ROOT / "tests" / "scenario" / "features")
_REHEARSAL = ".rehearsal.yaml"


def runbooks() -> list[str]:
    """Good runbooks, alone and together with those that they call."""
    shipped = [
        path.read_text(encoding="utf-8")
        for folder in _FOLDERS
        for path in sorted(folder.glob("*.yaml"))
        if not path.name.endswith(_REHEARSAL)
    ]
    features = _FOLDERS[1]
    calling = [
        NEXT_FILE.join((features / name).read_text(encoding="utf-8") for name in names)
        for names in (("calls.yaml", "called.yaml"), ("called.yaml", "calls.yaml"))
    ]
    return [GOOD, CONTAIN, NEXT_FILE.join([EVERYTHING, CONTAIN]), *calling, *shipped]


def loader() -> list[str]:
    return [*runbooks(), *(text for text in HOSTILE_YAML.values() if len(text) <= LARGEST_ATTACK)]


def rehearsals() -> list[str]:
    """Good rehearsals, and attacks on YAML."""
    texts = [
        path.read_text(encoding="utf-8")
        for folder in _FOLDERS
        for path in sorted(folder.glob(f"*{_REHEARSAL}"))
    ]
    hostile = [text for text in HOSTILE_YAML.values() if len(text) <= LARGEST_ATTACK]
    return [REHEARSAL, *texts, *hostile]


def expressions() -> list[str]:
    """Every expression of the good runbooks, and attacks on templates."""
    found: dict[str, None] = {}
    for text in runbooks():
        for part in text.split(NEXT_FILE):
            root = read(part, Report())
            assert root is not None
            for leaf, _ in leaves(root, ""):
                raw = leaf.raw.strip() if isinstance(leaf, Scalar) else ""
                if raw.startswith("{{") and raw.endswith("}}"):
                    found[raw[2:-2].strip()] = None
    return [*found, *_MORE, *REFUSED]


_MORE = [
    "inputs.many | unique | sort | first",
    "inputs.many | compact | length + steps.s.list[-1] * 2",
    "inputs.a in inputs.words and inputs.words == inputs.words",
    "inputs.words | join(', ') | upper | trim",
    "(now() - inputs.since | datetime) > duration('15m') * 2",
    "[1, 2.5, {'a': [none, true]}] if not inputs.none else {'b': 'c'}",
    "steps.s.map['k'][1].z | default(inputs[item]) | string",
    "-inputs.n < 2 <= 3 != 4",
    "inputs.deep[0][0][0]['a'] | default([index, item])",
    "('12' | int) | round(2)",
]

# What is put into texts: the words of the languages, and marks that mean something in them.
_OF_RUNBOOKS = """id: name: summary: severity: owners: owasp: deadline: inputs: triggers: approvals:
steps: always: outputs: uses: with: if: ttl: timeout: retry: attempts: delay: backoff: jitter: on:
on_failure: approval: from: required: on_timeout: break_glass: manual: ask: fields: assignee: due:
remind: parallel: join: foreach: as: concurrency: runbook: type: default: examples: enum: source:
auto: undo continue stop ask skip any all sev1 string integer number boolean datetime duration
endpoint 0 1 -1 3 1.5 1e9 null true false 10s 15m 4h 3650d alertmanager gateway.close logs.reads
credentials.rotate data.wipe notify.people acme.set acme.look acme.tell acme.close acme.lift"""
_OF_REHEARSALS = """runbook: inventory: cases: name: alert: inputs: start_by: now: outcomes: people:
expect: status: steps: order: undone: commands: outputs: reason: fails: message: phase: retry_after:
takes: approve: reject: override: answer: decide: skip: retry: wait: pause: resume: cancel: undo:
by: groups: values: choice: at: unreachable refused ambiguous timeout failed plan run apply verify
done stop true [security] [commanders] slack:U1 0s 10s 365d 2026-03-01T00:00:00Z
9999-12-31T23:59:59Z 0001-01-01T00:00:00+14:00"""
_OF_EXPRESSIONS = """inputs steps alert inventory incident run item index .a .n .none .many .words
.since .deep .s.list .s.map .labels.x [0] [-1] ['a'] . , : | ( ) [ ] { } |length |default(1) |first
|last |join(',') |join |unique |sort |datetime |int |round(2) |upper |lower |trim |compact |string
now() duration('1h') duration( not and or in if else + - * / // % ~ == != < <= > >= = 0 1 1.5 1e308
9007199254740991 'a' "b" '' true false none __class__ .__mro__ {{ }} {% %} {# #} \\x41 é ٣ ; @"""
_OF_YAML = """{ } [ ] , : - ? | > " ' & * ! !! % @ ` # --- ... << &a *a !!int !!python/object:os
{{ }} "{{ '}}' }}" ~ 010 0x1 1e999 .inf .nan 2026-01-01"""
_CHARACTERS = ["\n", "\n  ", "\n- ", "\t", "\r", "\x00", "\x85", "\ufeff", "\u2028", "\u202e", "😀"]

WORDS = {
    "loader": [*_OF_RUNBOOKS.split(), *_OF_EXPRESSIONS.split(), *_OF_YAML.split(), *_CHARACTERS],
    "rehearsal": [*_OF_REHEARSALS.split(), *_OF_YAML.split(), *_CHARACTERS],
    "expressions": [*_OF_EXPRESSIONS.split(), *(json.dumps(each) for each in _CHARACTERS), "\n"],
}
SEEDS = {"loader": loader, "rehearsal": rehearsals, "expressions": expressions}
LONGEST = {"loader": MOST_BYTES, "rehearsal": MOST_BYTES, "expressions": 2_200}
