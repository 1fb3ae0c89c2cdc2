"""Runbooks that are put through chaos: one of each effect kind, combinations, and random ones."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.chaos.effects import GATEWAYS

SAM, IRIS = "slack:U0SAM", "slack:U0IRIS"


@dataclass(frozen=True)
class Story:
    """
    A runbook and how its run goes.

    ``by`` is the person who starts it, or ``alert``. ``temper`` is how likely people reject, skip
    or stop.
    """

    id: str
    text: str
    called: Mapping[str, str] = field(default_factory=dict)
    by: str = IRIS
    temper: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


Step = dict[str, Any]


def book(id_: str, steps: Sequence[Step], **more: Any) -> str:
    """Return a runbook's text. JSON is YAML."""
    head = {"id": id_, "name": id_, "summary": "For chaos.", "severity": "sev1"}
    content = {**head, "owners": ["oncall"], **more, "steps": list(steps)}
    return json.dumps(content, indent=1) + "\n"


def _key(name: str) -> str:
    """A key that no other run has, also of the same runbook: people may start it twice."""
    return "{{ [run.id, '" + name + "'] | join('-') }}"


def _uses(id_: str, verb: str, **more: Any) -> Step:
    return {"id": id_, "uses": f"acme.{verb}", "with": {"key": _key(id_)}, **more}


def _close(id_: str, gateway: str = GATEWAYS[0], **more: Any) -> Step:
    step = _uses(id_, "close", ttl="4h", **more)
    return {**step, "with": {**step["with"], "gateway": gateway}}


def _lift(id_: str, close: Step) -> Step:
    fact = "{{ steps['" + close["id"] + "'].containment }}"
    held = "{{ steps['" + close["id"] + "'].status == 'done' }}"
    with_ = {**close["with"], "containment": fact}
    return {"id": id_, "if": held, "uses": "acme.lift", "with": with_}


YES = {"from": ["security"]}
TWO = {"from": ["security"], "required": 2}
BACK = {"on_failure": "undo"}
CALLED = book(
    "called",
    [
        {"id": "in1", "uses": "acme.set", "with": {"key": "{{ inputs.key }}"}},
        {"id": "in2", "uses": "acme.mint", "with": {"key": "{{ inputs.key }}"}},
    ],
    inputs={"key": {"type": "string"}},
)


def _call(id_: str, key: str, **more: Any) -> Step:
    return {"id": id_, "runbook": "called", "with": {"key": _key(key)}, **more}


def _each(id_: str, verb: str, keys: Sequence[str], **more: Any) -> Step:
    inner = {"id": f"{id_}-in", "uses": f"acme.{verb}", "with": {"key": "{{ item }}"}}
    return {"id": id_, "foreach": [_key(key) for key in keys], "steps": [inner], **more}


def enumerated() -> list[Story]:
    """The stories every boundary of which is tried."""
    close = _close("close")
    trigger = {"source": "alertmanager", "if": "{{ alert.labels.story == 'alert' }}", "auto": ["a"]}
    last = _uses("no", "refuse", on_failure="undo")
    found = [
        Story("read", book("read", [_uses("a", "look")])),
        Story("notify", book("notify", [_uses("a", "tell")])),
        Story("change", book("change", [_uses("a", "set")])),
        Story("mint", book("mint", [_uses("a", "mint")])),
        Story("burn", book("burn", [_uses("a", "burn", approval=YES)])),
        Story("contain", book("contain", [close, _lift("lift", close)])),
        Story("ambiguous", book("ambiguous", [_uses("a", "trip")])),
        Story("two-yes", book("two-yes", [_uses("a", "set", approval=TWO), _uses("b", "look")])),
        Story("manual", book("manual", [{"id": "q", "manual": {"ask": "Go?"}}, _uses("a", "set")])),
        Story(
            "retry",
            book("retry", [_uses("a", "refuse", on_failure="continue"), _uses("b", "set")]),
        ),
        Story(
            "undo",
            book(
                "undo",
                [_uses("a", "set"), _uses("b", "mint"), close, last],
                always=[_uses("z", "tell")],
            ),
        ),
        Story(
            "parallel",
            book(
                "parallel",
                [{"id": "p", "parallel": [_uses("a", "set"), _uses("b", "mint")]}, last],
            ),
        ),
        Story("foreach", book("foreach", [_each("e", "set", ["e1", "e2"], concurrency=2)])),
        Story("call", book("call", [_call("c", "c1")]), {"called": CALLED}),
        Story(
            "alert",
            book("alert", [_uses("a", "set"), _uses("b", "set")], triggers=[trigger]),
            by="alert",
        ),
    ]
    return found


TEMPER = {"reject": 0.05, "skip": 0.08, "stop": 0.03, "done": 0.1}


def of_seed(seed: int) -> Story:
    """Return the random story of a seed: the same for the same seed."""
    return _Writer(seed).story()


class _Writer:
    def __init__(self, seed: int) -> None:
        self._seed, self._dice = seed, random.Random(f"story {seed}")
        self._count = 0
        self._by = self._dice.choice((IRIS, IRIS, SAM, "alert"))
        self._closed: list[Step] = []
        self._called: dict[str, str] = {}

    def story(self) -> Story:
        dice, id_ = self._dice, f"s{self._seed}"
        steps = [self._any(top=True) for _ in range(dice.randint(3, 8))]
        for close in self._closed:
            if dice.random() < 0.6:
                steps.append(_lift(self._id(), close))
        if dice.random() < 0.25:
            steps.append(self._with_policy(_uses(self._id(), "refuse"), "undo"))
        more: dict[str, Any] = {}
        if dice.random() < 0.3:
            more["always"] = [_uses(self._id(), dice.choice(("set", "tell")))]
        if self._by == "alert":
            condition = "{{ alert.labels.story == '" + id_ + "' }}"
            auto = [s["id"] for s in steps if s.get("uses") == "acme.set" and "approval" not in s]
            more["triggers"] = [{"source": "alertmanager", "if": condition, "auto": auto[:1]}]
        return Story(id_, book(id_, steps, **more), self._called, self._by, TEMPER)

    def _id(self) -> str:
        self._count += 1
        return f"s{self._seed}-{self._count}"

    def _any(self, *, top: bool) -> Step:
        kinds: list[tuple[Callable[[], Step], int]] = [
            (lambda: self._change("set"), 6),
            (lambda: self._change("mint"), 5),
            (lambda: _uses(self._id(), "look"), 2),
            (lambda: _uses(self._id(), "tell"), 2),
            (lambda: self._change("burn"), 2),
            (lambda: self._change("trip"), 1),
        ]
        if top:
            kinds += [
                (self._close_step, 3),
                (lambda: {"id": self._id(), "manual": {"ask": "Go on?"}}, 1),
                (self._parallel, 2),
                (self._foreach, 2),
                (self._call_step, 1),
            ]
        makers, weights = zip(*kinds, strict=True)
        step: Step = self._dice.choices(makers, weights)[0]()
        return step

    def _change(self, verb: str) -> Step:
        return self._with_policy(_uses(self._id(), verb), None)

    def _close_step(self) -> Step:
        step = self._with_policy(_close(self._id(), self._dice.choice(GATEWAYS)), None)
        self._closed.append(step)
        return step

    def _with_policy(self, step: Step, policy: str | None) -> Step:
        dice = self._dice
        if step["uses"] != "acme.refuse":
            if dice.random() < 0.25:
                step["approval"] = dice.choice((YES, YES, TWO))
            if dice.random() < 0.6:
                step["retry"] = {"attempts": dice.randint(2, 4), "delay": "1s", "backoff": 1}
            if dice.random() < 0.2 and step["uses"] != "acme.close":  # which waits for others
                step["timeout"] = "1s"
        policy = policy or dice.choice(("ask", "ask", "ask", "stop", "continue", "undo"))
        if policy != "ask":
            step["on_failure"] = policy
        return step

    def _parallel(self) -> Step:
        branches = [self._any(top=False) for _ in range(self._dice.randint(2, 3))]
        return {"id": self._id(), "parallel": branches}

    def _foreach(self) -> Step:
        id_ = self._id()
        keys = [f"{id_}-{n}" for n in range(self._dice.randint(2, 3))]
        verb = self._dice.choice(("set", "mint"))
        return _each(id_, verb, keys, concurrency=self._dice.randint(1, 3))

    def _call_step(self) -> Step:
        self._called["called"] = CALLED
        return _call(self._id(), f"s{self._seed}-{self._count}")
