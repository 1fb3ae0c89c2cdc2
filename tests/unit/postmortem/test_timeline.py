"""The timeline tells every record in a sentence, and tells apart what counts and what does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.action import Effect
from bot.engine import RunState, advance
from bot.language.runbook import Approval, Runbook, Step
from bot.model import commands as c
from bot.model import events as e
from bot.model.incident import Origin, RunStatus, Severity
from bot.model.journal import verify_chain
from bot.postmortem.document import Entry, Level
from bot.postmortem.questions import Questions
from bot.postmortem.reading import read_all
from bot.postmortem.timeline import timeline
from tests.unit.postmortem.story import (
    CLOSE,
    HOSTILE,
    IRIS,
    KEY,
    RUN,
    SAM,
    TARIQ,
    Journal,
    at,
    story,
)

STORY = story()
FULL = {entry.seq: entry for entry in timeline(STORY.records, full=True)}


def only(journal: Journal, **options: Any) -> Entry:
    entries = timeline(journal.records, full=True, **options)
    return entries[-1]


class TestSentences:
    def test_every_record_is_told_and_cited(self) -> None:
        """One entry a record, in order, with its number and the beginning of its hash."""
        by_seq = {record.seq: record for record in STORY.records}

        assert list(FULL) == sorted(by_seq)
        for seq, entry in FULL.items():
            assert entry.hash_prefix == by_seq[seq].hash[:12]
            assert entry.at == by_seq[seq].at
            assert entry.text.endswith((".", "?”"))

    def test_the_story_is_a_real_chain(self) -> None:
        """The records that these tests read are as the store would have written them."""
        first = STORY.records[0]
        assert first.seq == 2
        for before, after in zip(STORY.records, STORY.records[1:], strict=False):
            assert after.previous_hash == before.hash
        with pytest.raises(Exception, match="Record 1 is missing"):
            verify_chain(STORY.records)

    @pytest.mark.parametrize(
        ("kind", "text"),
        [
            ("planned", f"Plan for throttle: {KEY} at edge would be held to 1 request a second. "),
            ("verified", "throttle: Proven from outside: 9 of 9 checks hold."),
            ("containment_held", f"{KEY} is held to 1 request a second at edge until 12:30:02 UTC"),
            ("containment_expired", f"The throttle of {KEY} at edge ended at its expiry."),
            ("containment_lifted", f"alert:alertmanager lifted the close of {KEY} at edge."),
            ("status_changed", "Status: declared to contained."),
            ("notice_sent", "security was told in Slack (#security): “INC-7: personal data"),
            ("notice_failed", "compliance could not be told (compliance@acme.example): The mail "),
            ("answered", "slack:U0SAM answered fixed: version = 2.14.1."),
        ],
    )
    def test_first_of_a_kind(self, kind: str, text: str) -> None:
        """Sentences are short and say who, what, where and until when."""
        first = next(entry for entry in FULL.values() if entry.kind == kind)

        assert first.text.startswith(text)

    def test_failure_says_when_it_is_tried_again(self) -> None:
        """A retry is part of the failure's line, so the timer that begins it is minor."""
        failed = next(entry for entry in FULL.values() if entry.kind == "step_failed")

        assert failed.level is Level.FAILURE
        assert failed.text.endswith("Unseal it, then retry. It is tried again at 12:05:10 UTC.")

    def test_drift_voids(self) -> None:
        """When the world changes between plan and apply, the timeline says that nothing was
        changed."""
        drifted = next(entry for entry in FULL.values() if entry.kind == "plan_drifted")

        assert drifted.level is Level.FAILURE
        assert "nothing was changed, and earlier approvals are void" in drifted.text

    def test_unknown_kinds_show_themselves(self) -> None:
        """A record that this version does not know is told by its kind and body."""
        journal = Journal()
        journal.add(0, "satellite_launched", {"from": "pad 3"})

        assert only(journal).text == 'satellite_launched: {"from":"pad 3"}'
        assert not only(journal).minor

    def test_unreadable_events_show_their_kind(self) -> None:
        """An event of a later version, with a field this one does not know, is not lost."""
        journal = Journal()
        event = e.Asked(at=at(0), step="close").model_dump(mode="json")
        journal.add(0, "asked", {"event": {**event, "mood": "calm"}, "commands": []}, run=RUN)

        assert only(journal).text.startswith('asked: {"commands":[],"event":{"at":')

    def test_names_replace_actors(self) -> None:
        """The postmortem speaks of roles; the entry still has the actor as it is."""
        told = timeline(STORY.records, names={IRIS: "incident-commander"})
        approved = next(entry for entry in told if entry.kind == "approved")

        assert approved.text.startswith("incident-commander approved close")
        assert approved.actor == IRIS

    def test_the_end_is_told_with_its_reason(self) -> None:
        """A run that was stopped is a failure, whatever kind of event stopped it."""
        journal = Journal()
        failed = e.StepFailed(
            at=at(0), step="close", phase="plan", error="refused", message="No such route."
        )
        journal.event(failed, c.Finish(status=RunStatus.FAILED, reason="step close failed"))

        assert only(journal).text == (
            "close could not be planned (refused): No such route. "
            "Run INC-7-R1 ended, failed: step close failed."
        )

    def test_hostile_text_is_one_harmless_line(self) -> None:
        """Alert text cannot add lines, hide words or reverse them."""
        journal = Journal()
        journal.add(0, "incident_opened", {"title": HOSTILE, "severity": "sev1", "alert": None})

        text = only(journal).text
        assert "\n" not in text
        assert "\u202e" not in text
        assert "\\u202e" in text
        assert len(text) < 500


class TestMinor:
    def test_timers_questions_and_notes_are_left_out(self) -> None:
        """What only the machine needs is not in the short timeline."""
        minor = {entry.kind for entry in FULL.values() if entry.minor}

        assert minor == {
            "asked", "timer_fired", "note", "gateway_converged", "evidence_kept", "applied",
        }  # fmt: skip
        assert all(not entry.minor for entry in timeline(STORY.records))

    def test_an_apply_is_left_out_only_beside_its_containment(self) -> None:
        """The containment's own line says more; other changes keep their line."""
        shown = [entry.step for entry in timeline(STORY.records) if entry.kind == "applied"]

        assert shown == ["affected", "rotate", "tell", "prove", "reopen"]

    def test_the_same_again_is_counted(self) -> None:
        """An alert that comes every minute, or a step that fails the same way, is one line."""
        journal = Journal()
        for second in range(5):
            fact = {"source": "alertmanager", "fingerprint": "ab"}
            journal.add(second, "alert_joined", fact)
            failed = e.StepFailed(
                at=at(second), step="rotate", phase="apply", error="unreachable", message="Sealed."
            )
            journal.event(failed, c.Wait(until=at(second + 1)))
            journal.event(e.TimerFired(at=at(second + 1)))

        joined, first = timeline(journal.records)
        assert joined.text.endswith("It came 4 more times, the last at 12:00:04 UTC.")
        assert first.text.endswith("It came 4 more times, the last at 12:00:04 UTC.")

    def test_the_failure_that_ends_the_run_is_not_merged(self) -> None:
        """What people are asked to decide is never in a minor line."""
        journal = Journal()
        failed = e.StepFailed(
            at=at(0), step="rotate", phase="apply", error="unreachable", message="Sealed."
        )
        ask = c.AskDecision(
            step="rotate",
            phase="apply",
            error="unreachable",
            message="x",
            choices=("retry", "stop"),
        )
        journal.event(failed, c.Wait(until=at(1)))
        journal.event(failed, ask)

        assert timeline(journal.records)[-1].text.endswith("asked what to do: retry or stop.")

    def test_silence_is_told(self) -> None:
        """A timer that ends a question unanswered is no minor line."""
        journal = Journal()
        ask = c.AskApproval(
            step="close", plan=CLOSE, groups=("a", "b"), required=2, expires_at=at(60)
        )
        journal.event(e.Planned(at=at(0), step="close", plan=CLOSE), ask)
        journal.event(
            e.Approved(at=at(5), step="close", digest=CLOSE.digest, by=SAM, groups=("a",)), c.Wait()
        )
        journal.event(e.TimerFired(at=at(30)), c.Wait())
        journal.event(e.TimerFired(at=at(60)), c.Finish(status=RunStatus.STOPPED, reason="x"))

        first, last = timeline(journal.records, full=True)[-2:]
        assert first.minor
        assert last.text.startswith("Nobody more of a or b approved close in time (1 missing).")
        assert (last.level, last.minor) == (Level.FAILURE, False)


PEOPLE = {IRIS: ("incident-commander",), SAM: ("security",), TARIQ: ("incident-commander", "x")}
RUNBOOK = Runbook(
    id="r",
    name="r",
    summary="",
    severity=Severity.SEV1,
    owners=("o",),
    inputs={},
    triggers=(),
    steps=(
        Step(
            id="close",
            line=1,
            uses="gateway.close",
            approval=Approval(groups=("incident-commander",), required=2, break_glass="security"),
            effect=Effect.CHANGE,
        ),
    ),
    text="",
    digest="",
)


class TestWordsCountAsTheEngineCounts:
    @settings(max_examples=200, deadline=None)
    @given(
        starter=st.sampled_from([IRIS, "slack:U0OTHER"]),
        words=st.lists(
            st.tuples(
                st.sampled_from(sorted(PEOPLE)),
                st.booleans(),
                st.sampled_from([e.Approved, e.Rejected, e.Overridden]),
            ),
            max_size=6,
        ),
    )
    def test_a_yes_counts_here_when_it_counts_there(
        self, starter: str, words: list[tuple[str, bool, Any]]
    ) -> None:
        """The timeline never says that an approval counted which the engine passed over."""
        journal, questions, seen = Journal(), Questions(), 0
        state: RunState | None = None

        def take(event: e.Event) -> None:
            nonlocal state, seen
            state, commands = advance(RUNBOOK, state, event)
            journal.event(event, *commands)
            for read in read_all(journal.records)[seen:]:
                questions.take(read)
            seen = len(journal.records)

        origin = Origin(kind="person", actor=starter)
        take(e.RunStarted(at=at(0), incident_id="INC-7", run_id=RUN, inputs={}, origin=origin))
        take(e.Planned(at=at(1), step="close", plan=CLOSE))
        take(e.Asked(at=at(1), step="close"))
        assert state is not None
        card = state.steps["close"].card
        for second, (by, right, word) in enumerate(words, start=2):
            assert state is not None
            before = state.steps["close"].approvals, state.status
            digest = card if right else "0" * 64
            said = {"at": at(second), "step": "close", "digest": digest, "by": by}
            take(
                word(**said, groups=PEOPLE[by], reason="It burns.")
                if word is e.Overridden
                else word(**said, groups=PEOPLE[by])
            )
            counted = (state.steps["close"].approvals, state.status) != before
            assert counted == (not questions.words[journal.seq].flaw)

    def test_a_word_that_does_not_count_says_why(self) -> None:
        """People see in the timeline why nothing happened."""
        late = next(entry for entry in FULL.values() if entry.actor == SAM)

        assert late.text.endswith("it does not count: it takes someone of incident-commander.")


def test_moments_of_another_day_have_their_date() -> None:
    """`until 12:30` of tomorrow would be read as today's."""
    held = next(record for record in STORY.records if record.kind == "containment_held")
    body = held.body["containment"]
    late = {**body, "expires_at": (at(2) + timedelta(days=1)).isoformat()}
    journal = Journal()
    journal.add(2, "containment_held", {"containment": late}, run=RUN, step="throttle")

    assert "until 2026-03-15 12:00:02 UTC" in only(journal).text


def test_order_is_the_journals() -> None:
    """Records may be given in any order, and twice."""
    shuffled = [*reversed(STORY.records), STORY.records[3]]

    assert timeline(shuffled) == timeline(STORY.records)
    assert replace(STORY, records=shuffled).build() == STORY.build()
