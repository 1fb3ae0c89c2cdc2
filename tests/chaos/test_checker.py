"""The checker finds every planted fault, and nothing in a sound history."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bot.model.ask import Ask, Parcel, StoredParcel
from bot.model.containment import Containment, Control, ControlKind
from bot.model.journal import GENESIS, Record, hash_of, moment_text
from bot.model.message import Message
from bot.testing import START
from tests.chaos.checker import History, RunView, StepView, check, repeated_mails

RUN = "INC-1-R1"


def journal(*entries: tuple[str, str, dict[str, Any]], actor: str = "firedoor") -> list[Record]:
    """Return a chained journal of kinds, steps and events, one a second."""
    records: list[Record] = []
    for seq, (kind, step, event) in enumerate(entries, start=1):
        at = START + timedelta(seconds=seq)
        fields: dict[str, Any] = {
            "seq": seq,
            "incident_id": "INC-1",
            "run_id": RUN,
            "step_id": step or None,
            "actor": event.get("by", actor),
            "kind": kind,
            "body": {"event": event},
            "previous_hash": records[-1].hash if records else GENESIS,
        }
        digest = hash_of(at=moment_text(at), **fields)
        records.append(Record(at=at, hash=digest, **fields))
    return records


def effect(op: str, second: float, **more: Any) -> dict[str, Any]:
    return {"op": op, "at": START.timestamp() + second, "pid": 1, "made": None, **more}


def made(op: str, step: str, second: float, **more: Any) -> dict[str, Any]:
    return effect(op, second, by=f"{RUN}:{step}", key=f"key-{step}", **more)


def parcel(kind: str, status: str = "sent", key: str = "card") -> StoredParcel:
    content = Parcel.model_validate(
        {"key": key, "incident_id": "INC-1", "kind": kind, "message": Message(title="t")}
    )
    return StoredParcel.model_validate(
        {"id": 1, "parcel": content, "status": status, "attempts": 1, "next_at": START}
    )


def ask(token: str, *, closed: str = "Approved.", kind: str = "approval") -> Ask:
    fields = {"incident_id": "INC-1", "run_id": RUN, "step_id": "a", "digest": "d", "kind": kind}
    return Ask.model_validate(fields | {"token": token, "asked_at": START, "closed": closed})


def containment() -> Containment:
    return Containment(
        id="c-1",
        incident_id="INC-1",
        run_id=RUN,
        step_id="c",
        gateway="edge",
        control=Control(kind=ControlKind.CLOSE, method="GET", path="/c"),
        owner="o",
        reason="r",
        since=START,
        expires_at=START + timedelta(hours=1),
    )


STEPS = {
    "a": StepView("set", "key-a", "done", required=1),
    "b": StepView("mint", "key-b", "done"),
    "c": StepView("close", "key-c", "done"),
}
ENTRIES = [
    ("asked", "a", {}),
    ("approved", "a", {"by": "slack:U0SAM"}),
    ("applied", "a", {}),
    ("applied", "b", {}),
    ("applied", "c", {}),
]


def sound(**changes: Any) -> History:
    """A run that set, minted and closed, with all in order."""
    run = RunView(
        id=RUN, story="s", status="done", is_over=True, begun=("a", "b", "c"), steps=STEPS
    )
    history = History(
        runs=[run],
        records=journal(*ENTRIES),
        asks=[ask("t1")],
        parcels=[parcel("post")],
        containments=[containment()],
        effects=[
            made("set", "a", 2.5, value="shut"),
            made("mint", "b", 3.5),
            effect("post", 4, key="card"),
        ],
        values={"key-a": "shut"},
        keys={"key-b": ["k1"]},
        controls={"edge": "v1"},
        wanted={"edge": "v1"},
    )
    return replace(history, **changes)


def kinds(history: History) -> list[str]:
    return [fault.kind for fault in check(history)]


def run(**changes: Any) -> list[RunView]:
    return [replace(sound().runs[0], **changes)]


def steps(**changes: StepView) -> list[RunView]:
    return run(steps={**STEPS, **changes})


class TestASoundHistory:
    def test_has_no_fault(self):
        assert check(sound()) == []

    def test_a_failure_that_the_journal_tells_is_none(self):
        """
        The answer was lost and a person passed over the step: whether it was made does not matter.
        """
        failed = ("step_failed", "a", {"phase": "apply", "error": "unreachable"})
        told = [*ENTRIES[:2], failed, *ENTRIES[3:]]
        assert check(sound(records=journal(*told))) == []
        assert check(sound(records=journal(*told), effects=sound().effects[1:], values={})) == []

    def test_a_spare_key_that_was_taken_back_is_none(self):
        twice = [*sound().effects, made("mint", "b", 3.6)]
        assert check(sound(effects=twice)) == []

    def test_a_mail_may_come_twice(self):
        mails = [effect("mail", 4, key="m"), effect("mail", 5, key="m")]
        history = sound(effects=[*sound().effects, *mails], parcels=[parcel("email", key="m")])
        assert check(history) == []
        assert repeated_mails(history) == 1


class TestLost:
    def test_an_effect_that_the_journal_has_and_the_remote_has_not(self):
        assert kinds(sound(effects=sound().effects[1:])) == ["lost"]

    def test_an_effect_that_the_remote_has_and_the_journal_has_not(self):
        told = [*ENTRIES[:2], *ENTRIES[3:]]
        assert kinds(sound(records=journal(*told))) == ["lost"]

    def test_a_value_that_is_not_there_any_more(self):
        assert kinds(sound(values={})) == ["lost"]

    def test_a_key_that_is_dead(self):
        assert kinds(sound(keys={})) == ["lost"]

    def test_a_containment_that_is_not_in_force(self):
        lifted = containment().model_copy(update={"lifted_at": START})
        assert kinds(sound(containments=[lifted])) == ["lost"]

    def test_a_change_that_is_said_to_be_taken_back_and_is_not(self):
        told = journal(*ENTRIES, ("undone", "a", {}))
        assert kinds(sound(records=told)) == ["lost", "lost"]

    def test_a_message_that_is_marked_as_sent_and_was_not(self):
        assert kinds(sound(effects=sound().effects[:2])) == ["message lost"]


class TestDoubled:
    def test_an_effect_made_twice(self):
        again = made("set", "a", 2.7, value="shut")
        assert kinds(sound(effects=[*sound().effects, again])) == ["doubled"]

    def test_something_burnt_twice(self):
        burnt = [made("burn", "b", 3.5), made("burn", "b", 3.6)]
        history = sound(
            runs=steps(b=StepView("burn", "key-b", "done")),
            effects=[sound().effects[0], *burnt, sound().effects[2]],
        )
        assert kinds(history) == ["doubled"]

    def test_two_keys_that_live(self):
        assert kinds(sound(keys={"key-b": ["k1", "k2"]})) == ["doubled"]

    def test_taken_back_twice(self):
        back = [effect("set", s, by=f"{RUN}:a:undo", key="key-a", value=None) for s in (6, 7)]
        history = sound(
            records=journal(*ENTRIES, ("undone", "a", {})),
            effects=[*sound().effects, *back],
            values={},
        )
        assert kinds(history) == ["doubled"]

    def test_a_message_posted_twice_under_one_key(self):
        again = effect("post", 5, key="card")
        assert kinds(sound(effects=[*sound().effects, again])) == ["message doubled"]


class TestLate:
    """A worker was stopped after its last look at the lease, and its request came after."""

    def test_an_effect_that_was_held_up_on_its_way(self):
        late = made("set", "a", 4.7, value="shut", asked=START.timestamp() + 2.6)
        assert kinds(sound(effects=[*sound().effects, late])) == ["late"]

    def test_a_message_that_was_held_up_on_its_way(self):
        late = effect("post", 6, key="card", asked=START.timestamp() + 4)
        assert kinds(sound(effects=[*sound().effects, late])) == ["late"]

    def test_one_that_was_asked_for_afterwards_is_no_excuse(self):
        again = made("set", "a", 4.7, value="shut", asked=START.timestamp() + 4.69)
        assert kinds(sound(effects=[*sound().effects, again])) == ["doubled"]


class TestTheRest:
    def test_a_stuck_run(self):
        assert kinds(sound(runs=run(is_over=False, status="running"))) == ["stuck"]

    def test_an_effect_without_its_approval(self):
        told = journal(("asked", "a", {}), *ENTRIES[2:])
        assert kinds(sound(records=told)) == ["unapproved"]

    def test_an_effect_before_its_approval(self):
        early = made("set", "a", 0.5, value="shut")
        assert kinds(sound(effects=[early, *sound().effects[1:]])) == ["unapproved"]

    def test_an_alert_s_effect_before_anybody_stood_behind_the_run(self):
        no_approval = replace(STEPS["a"], required=0)
        runs = [replace(steps(a=no_approval)[0], by_alert=True)]
        early = made("set", "a", 0.5, value="shut")
        history = sound(runs=runs, effects=[early, *sound().effects[1:]])
        assert kinds(history) == ["unapproved"]

    def test_something_ambiguous_that_nobody_was_asked_about(self):
        murky = ("step_failed", "b", {"phase": "apply", "error": "ambiguous"})
        assert kinds(sound(records=journal(*ENTRIES, murky))) == ["unasked"]

    def test_a_broken_chain(self):
        records = journal(*ENTRIES)
        records[2] = records[2].model_copy(update={"actor": "somebody"})
        assert kinds(sound(records=records)) == ["chain"]

    def test_a_record_that_is_missing(self):
        records = journal(*ENTRIES)
        del records[0]
        assert "chain" in kinds(sound(records=records))

    def test_two_open_questions_of_one_card(self):
        asks = [ask("t1", closed=""), ask("t2", closed="")]
        told = journal(ENTRIES[0], *ENTRIES)
        history = sound(asks=asks, records=told, effects=[])
        assert kinds(history).count("asks") == 2
        assert "2 open questions of one card" in str(check(history))

    def test_a_question_that_the_journal_does_not_know(self):
        assert kinds(sound(asks=[ask("t1"), ask("t2")])) == ["asks"]

    def test_one_decision_that_counted_twice(self):
        decided = ("decided", "a", {"by": "slack:U0SAM"})
        assert kinds(sound(records=journal(*ENTRIES, decided, decided))) == ["asks"]

    def test_a_message_that_never_goes_out(self):
        assert kinds(sound(parcels=[parcel("post", "claimed")])) == ["message unsent"]

    def test_a_gateway_that_holds_something_else(self):
        assert kinds(sound(controls={"edge": "v2"})) == ["containment"]

    def test_an_effect_of_no_step(self):
        stray = effect("set", 5, by="INC-9-R1:x", key="x", value="shut")
        assert kinds(sound(effects=[*sound().effects, stray])) == ["unaccounted"]

    @pytest.mark.parametrize(("order", "expected"), [("ba", []), ("ab", ["order"])])
    def test_changes_taken_back_in_the_order_of_their_making(self, order, expected):
        back = {
            "a": effect("set", 8, by=f"{RUN}:a:undo", key="key-a", value=None),
            "b": effect("retire", 8, by=f"{RUN}:b:undo", key="key-b", value="k1"),
        }
        history = sound(
            records=journal(*ENTRIES, ("undone", "b", {}), ("undone", "a", {})),
            effects=[*sound().effects, *(back[key] for key in order)],
            values={},
            keys={},
        )
        assert kinds(history) == expected
