"""Journaled models read back as they were written, and refuse what they do not know."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from bot.model import events
from bot.model.alert import Alert
from bot.model.events import EVENT
from bot.model.outcome import Check, Proof
from bot.model.plan import Plan

NOON = datetime(2026, 1, 2, 12, tzinfo=timezone(timedelta(hours=2)))


def plan(**changes: object) -> Plan:
    fields = {
        "action": "gateway.close",
        "params": {"endpoint": "GET /x"},
        "summary": "Closes GET /x.",
        "before": [],
        "after": [{"close": "GET /x"}],
    }
    return Plan.model_validate(fields | changes)


class TestPlan:
    def test_it_reads_back_from_its_dump(self):
        """
        A dumped plan carries its digest for readers of the journal, and is still one.
        """
        dumped = plan().model_dump(mode="json")

        assert dumped["digest"] == plan().digest
        assert Plan.model_validate(dumped) == plan()
        assert Plan.model_validate_json(plan().model_dump_json()) == plan()

    def test_an_event_with_a_plan_reads_back(self):
        """
        The journal's planned event becomes the same event again.
        """
        event = events.Planned(at=NOON, step="close", plan=plan())

        assert EVENT.validate_json(event.model_dump_json()) == event

    def test_a_given_digest_is_not_believed(self):
        """
        An approval binds to what the plan says, not to what it claims to be.
        """
        forged = Plan.model_validate({**plan().model_dump(), "after": [], "digest": plan().digest})

        assert forged.digest != plan().digest

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({"action": "gateway.throttle"}, id="action"),
            pytest.param({"params": {}}, id="parameters"),
            pytest.param({"before": ["x"]}, id="before"),
            pytest.param({"after": []}, id="after"),
        ],
    )
    def test_another_plan_has_another_digest(self, change):
        """
        Everything that would be done goes into the digest.
        """
        assert plan(**change).digest != plan().digest

    def test_the_summary_is_only_words(self):
        """
        A better sentence for the same change does not void an approval.
        """
        assert plan(summary="Shuts GET /x.").digest == plan().digest


class TestStrictness:
    def test_an_unknown_key_is_refused(self):
        """
        A record of another version is not half understood.
        """
        with pytest.raises(ValidationError, match="surprise"):
            EVENT.validate_python({"kind": "asked", "at": NOON, "step": "a", "surprise": 1})

    def test_a_moment_without_a_zone_is_refused(self):
        """
        A time that could mean two moments is none.
        """
        with pytest.raises(ValidationError, match="timezone"):
            Alert(source="s", fingerprint="f", starts_at=NOON.replace(tzinfo=None))

    def test_moments_are_kept_in_utc(self):
        """
        Whatever zone comes in, UTC is what stands in the journal.
        """
        alert = Alert(source="s", fingerprint="f", starts_at=NOON)

        assert alert.starts_at.isoformat() == "2026-01-02T10:00:00+00:00"

    def test_models_cannot_be_altered(self):
        """
        What was journaled stays what it was.
        """
        with pytest.raises(ValidationError, match="frozen"):
            plan().summary = "another"


class TestProof:
    good = Check(name="seen", ok=True, expected="403", seen="403")
    bad = Check(name="seen", ok=False, expected="403", seen="200")

    @pytest.mark.parametrize(
        ("checks", "ok"),
        [
            pytest.param((), False, id="looking-at-nothing-proves-nothing"),
            pytest.param((good,), True, id="all-hold"),
            pytest.param((good, bad), False, id="one-does-not"),
        ],
    )
    def test_it_holds_when_every_check_does_and_there_is_one(self, checks, ok):
        """
        A proof without a check is no proof.
        """
        assert Proof(checks=checks).ok is ok
