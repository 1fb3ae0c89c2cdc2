"""What people said to a run, shared cards and broken glasses, in the timeline and the document."""

from __future__ import annotations

from typing import Any

import pytest

from bot.model import commands as c
from bot.model import events as e
from bot.model.incident import Origin, RunStatus
from bot.model.outcome import Outcome
from bot.postmortem.document import Entry, Level
from bot.postmortem.timeline import timeline
from tests.unit.postmortem.story import (
    CLOSE,
    HOSTILE,
    IRIS,
    LIFT,
    RUN,
    SAM,
    TARIQ,
    THROTTLE,
    Journal,
    at,
    proof,
    story,
)

STORY = story()
CARD = "ca" * 32
ROLES = {IRIS: "incident-commander", SAM: "security", TARIQ: "security"}


def last(journal: Journal, **options: Any) -> Entry:
    return timeline(journal.records, full=True, **options)[-1]


def only(event: e.Event, *then: c.Command) -> Entry:
    journal = Journal()
    journal.event(event, *then)
    return last(journal, names=ROLES)


def apply(step: str, plan: Any, actor: str = IRIS) -> c.ApplyStep:
    return c.ApplyStep(step=step, plan=plan, attempt=1, actor=actor)


def ask(**changes: Any) -> c.AskApproval:
    fields = {
        "step": "close",
        "plan": CLOSE,
        "digest": CARD,
        "groups": ("incident-commander",),
        "required": 1,
        "break_glass": "security",
    }
    return c.AskApproval(**(fields | changes))


SHARED = ask(also={"each.2.lift": LIFT})


def yes(second: float = 3, **changes: Any) -> e.Approved:
    fields = {"step": "close", "digest": CARD, "by": IRIS, "groups": ("incident-commander",)}
    return e.Approved(at=at(second), **(fields | changes))


def broken(second: float = 3, **changes: Any) -> e.Overridden:
    fields = {
        "step": "close",
        "digest": CARD,
        "by": SAM,
        "groups": ("security",),
        "reason": "Nobody answers, and data leaves.",
    }
    return e.Overridden(at=at(second), **(fields | changes))


def asked(question: c.AskApproval) -> Journal:
    """A journal in which a question is before people."""
    journal = Journal()
    journal.event(e.Planned(at=at(1), step="close", plan=CLOSE), question)
    journal.event(e.Asked(at=at(2), step="close"), c.Wait())
    return journal


def reviewed(journal: Journal, finding: str = "It was right.", by: str = IRIS) -> None:
    body = {"step": "close", "by": SAM, "finding": finding}
    journal.add(60, "break_glass_reviewed", body, actor=by, run=RUN, step="close")


class TestVerbs:
    @pytest.mark.parametrize(
        ("event", "text"),
        [
            pytest.param(
                e.Paused(at=at(0), by=SAM, reason="lunch"),
                "security paused the run: lunch. Nothing more begins; containments still expire.",
                id="paused",
            ),
            pytest.param(e.Resumed(at=at(0), by=SAM), "security let the run go on.", id="resumed"),
            pytest.param(
                e.Skipped(at=at(0), step="each.2.rotate", by=IRIS, reason="no such key"),
                "incident-commander skipped each.2.rotate: no such key.",
                id="skipped",
            ),
            pytest.param(
                e.Retried(at=at(0), step="rotate", by=SAM),
                "security had rotate tried again.",
                id="retried",
            ),
            pytest.param(
                e.UndoAsked(at=at(0), by=SAM, reason="a false alarm"),
                "security asked to take back every change of the run: a false alarm.",
                id="undo",
            ),
            pytest.param(
                e.Cancelled(at=at(0), by=SAM, undo=True),
                "security cancelled the run. Its changes are taken back, the last one first.",
                id="cancelled-with-undo",
            ),
            pytest.param(
                e.Cancelled(at=at(0), by=SAM, reason="over"),
                "security cancelled the run: over. Containments stay in force until lifted or "
                "expired.",
                id="cancelled",
            ),
        ],
    )
    def test_each_is_a_decision_in_one_sentence(self, event: e.Event, text: str) -> None:
        """Who said what, with their reason, in the words of the roles."""
        entry = only(event)

        assert (entry.text, entry.level, entry.minor) == (text, Level.DECISION, False)

    @pytest.mark.parametrize(
        "event",
        [
            e.Paused(at=at(0), by=HOSTILE, reason=HOSTILE),
            e.Resumed(at=at(0), by=HOSTILE),
            e.Skipped(at=at(0), step=HOSTILE, by=HOSTILE, reason=HOSTILE),
            e.Retried(at=at(0), step=HOSTILE, by=HOSTILE),
            e.UndoAsked(at=at(0), by=HOSTILE, reason=HOSTILE),
            e.Cancelled(at=at(0), by=HOSTILE, reason=HOSTILE, undo=True),
            e.Overridden(at=at(0), step=HOSTILE, digest=HOSTILE, by=HOSTILE, reason=HOSTILE),
            e.Reminded(at=at(0), step=HOSTILE),
        ],
        ids=lambda event: event.kind,
    )
    def test_hostile_words_are_one_harmless_line(self, event: e.Event) -> None:
        """Nobody adds a line to the story, or turns one around, by a reason."""
        text = only(event.model_copy(update={"step": "close"})).text

        assert "\n" not in text
        assert "\u202e" not in text
        assert len(text) < 1_000

    def test_a_rerun_says_what_it_keeps(self) -> None:
        """Which run it repeats, and how many steps it does not do again."""
        started = e.RunStarted(
            at=at(0),
            incident_id="INC-7",
            run_id="INC-7-R2",
            inputs={},
            origin=Origin(kind="person", actor=SAM),
            rerun_of=RUN,
            kept={"look": {"status": "done"}, "each.0.set": {"status": "done"}},
        )

        assert only(started).text == (
            "Run INC-7-R2 was started by security. It runs INC-7-R1 again and keeps what 2 steps "
            "left."
        )

    def test_an_undone_run_ended_as_asked(self) -> None:
        """It is no failure that changes were taken back because somebody wanted it."""
        undone = e.Undone(at=at(0), step="close", outcome=Outcome())
        finish = c.Finish(status=RunStatus.UNDONE, reason="a false alarm; taken back: close")

        entry = only(undone, finish)

        assert entry.level is Level.CHANGE
        assert entry.text == (
            "close was taken back. Run INC-7-R1 ended, undone: a false alarm; taken back: close."
        )

    def test_each_step_is_taken_back_once(self) -> None:
        """The way back tells of every change as it comes to it."""
        journal = Journal()
        undo_b = c.UndoStep(step="b", plan=LIFT)
        journal.event(e.UndoAsked(at=at(0), by=SAM), undo_b)
        journal.event(
            e.Undone(at=at(1), step="b", outcome=Outcome()), c.UndoStep(step="a", plan=CLOSE)
        )

        texts = [entry.text for entry in timeline(journal.records)]
        assert texts[0].endswith("b is taken back.")
        assert texts[1] == "b was taken back. a is taken back."


class TestReminders:
    QUESTION = c.AskPerson(step="fixed", ask="Is it fixed?", assignee="developers")

    def test_a_reminder_is_minor_and_an_overdue_answer_is_not(self) -> None:
        """That people were asked again is noise; that an answer is late is not."""
        journal = Journal()
        journal.event(e.Verified(at=at(0), step="close", outcome=Outcome()), self.QUESTION)
        journal.event(e.Asked(at=at(1), step="fixed"), c.Wait(until=at(60)))
        journal.event(e.TimerFired(at=at(60)), c.Remind(step="fixed", number=1))
        journal.event(e.Reminded(at=at(60), step="fixed"), c.Wait(until=at(90)))
        journal.event(e.TimerFired(at=at(90)), c.Remind(step="fixed", number=2, overdue=True))

        entries = timeline(journal.records, full=True)
        assert entries[0].text.endswith("People of developers are asked: “Is it fixed?”")
        assert [entry.minor for entry in entries] == [False, True, True, True, False]
        assert entries[3].text == "People were asked again about fixed."
        assert entries[4].text == "The answer to fixed is overdue."


class TestEverythingOutstanding:
    def test_a_question_is_told_once_though_it_stays_outstanding(self) -> None:
        """The journal lists all that is outstanding with every event; the story does not."""
        journal = Journal()
        other = c.RunStep(step="look", action="logs.x", params={}, attempt=1)
        journal.event(e.Planned(at=at(0), step="close", plan=CLOSE), other, ask(), c.Wait())
        journal.event(e.Applied(at=at(1), step="look", outcome=Outcome()), ask(), c.Wait())

        first, second = timeline(journal.records, full=True)
        assert "It needs 1 approval of incident-commander" in first.text
        assert "needs" not in second.text

    def test_what_another_step_needs_is_said_of_that_step(self) -> None:
        """Beside each other, "it" would be the wrong one."""
        entry = only(e.Applied(at=at(1), step="look", outcome=Outcome()), ask(), c.Wait())

        assert "close needs 1 approval of incident-commander" in entry.text

    def test_the_step_that_comes_next_is_not_tried_again(self) -> None:
        """A failed step that is passed over is followed by another one's first attempt."""
        failed = e.StepFailed(at=at(0), step="a", phase="run", error="refused", message="No.")
        entry = only(failed, c.RunStep(step="b", action="x.y", params={}, attempt=1))

        assert "tried again" not in entry.text

    def test_another_steps_moment_is_no_retry(self) -> None:
        """Only a moment that is new with the failure is that of the next attempt."""
        journal = Journal()
        journal.event(e.Asked(at=at(0), step="close"), apply("b", LIFT), c.Wait(until=at(900)))
        failed = e.StepFailed(at=at(1), step="b", phase="apply", error="refused", message="No.")
        journal.event(failed, c.Wait(until=at(900)))

        assert "tried again" not in last(journal).text

    def test_a_yes_to_one_of_two_questions_leaves_the_other_open(self) -> None:
        """Two branches ask at once; each yes is about its own."""
        journal = Journal()
        second = ask(step="lift", plan=LIFT, digest="cb" * 32)
        journal.event(e.Planned(at=at(0), step="close", plan=CLOSE), ask(), second, c.Wait())
        journal.event(yes(2, step="lift", digest="cb" * 32), apply("lift", LIFT), ask(), c.Wait())
        journal.event(yes(3), apply("lift", LIFT), apply("close", CLOSE))

        texts = [entry.text for entry in timeline(journal.records)[1:]]
        assert texts == [
            "slack:U0IRIS approved lift (plan cbcbcbcbcbcb…).",
            "slack:U0IRIS approved close (plan cacacacacaca…).",
        ]

    def test_silence_on_two_questions_is_told_of_both(self) -> None:
        """One timer may end more than one of them."""
        journal = Journal()
        first = ask(expires_at=at(60))
        second = ask(step="lift", plan=LIFT, digest="cb" * 32, expires_at=at(60))
        journal.event(e.Planned(at=at(0), step="close", plan=CLOSE), first, second)
        journal.event(e.TimerFired(at=at(60)), c.Wait())

        assert "approved close in time" in last(journal).text
        assert "approved lift in time" in last(journal).text

    @pytest.mark.parametrize(
        "end",
        [
            e.Cancelled(at=at(3), by=SAM),
            e.UndoAsked(at=at(3), by=SAM),
            e.Skipped(at=at(3), step="close", by=SAM),
        ],
        ids=lambda event: event.kind,
    )
    def test_a_yes_after_the_end_of_its_question_does_not_count(self, end: e.Event) -> None:
        """What nobody waits for any more cannot be approved."""
        journal = asked(ask())
        journal.event(end)
        journal.event(yes(4))

        assert last(journal).text.endswith("it does not count: it was decided before.")


class TestSharedCards:
    def test_the_card_names_every_step(self) -> None:
        """One question for several steps says so, with the digest that a yes binds to."""
        text = timeline(asked(SHARED).records)[0].text

        assert text.endswith(
            "One card for close and each.2.lift needs 1 approval of incident-commander "
            "(plans cacacacacaca…)."
        )

    def test_of_very_many_steps_the_rest_is_counted(self) -> None:
        """A sentence stays a sentence."""
        also = {f"each.{n}.lift": LIFT for n in range(60)}
        text = timeline(asked(ask(also=also)).records)[0].text

        assert "and 53 more" in text
        assert len(text) < 1_000

    def test_one_yes_is_for_all(self) -> None:
        """The line of the yes names what it lets go on, and a later step says whose yes it had."""
        journal = asked(SHARED)
        journal.event(yes(), apply("close", CLOSE))
        journal.event(
            e.Planned(at=at(9), step="each.2.lift", plan=LIFT), apply("each.2.lift", LIFT)
        )

        texts = [entry.text for entry in timeline(journal.records)]
        assert texts[1] == "slack:U0IRIS approved close and each.2.lift (plan cacacacacaca…)."
        assert texts[2].endswith("It was approved with close.")

    def test_the_table_has_a_row_for_each_step(self) -> None:
        """Nobody reads that a step needed no approval when it stood on a card."""
        journal = asked(SHARED)
        journal.event(yes(), apply("close", CLOSE))
        for second, step, plan in ((4, "close", CLOSE), (9, "each.2.lift", LIFT)):
            journal.event(e.Planned(at=at(second), step=step, plan=plan))
            journal.event(e.Applied(at=at(second + 1), step=step, outcome=Outcome()))
            done = e.Verified(at=at(second + 2), step=step, outcome=Outcome(proof=proof(1)))
            journal.event(done)

        rows = STORY.build(journal.records).approvals
        assert [(row.step, row.plan, row.decision, row.effect) for row in rows] == [
            ("close", CLOSE.summary, "approved", "applied"),
            ("each.2.lift", LIFT.summary, "approved", "applied"),
        ]

    def test_a_yes_that_the_world_overtook_is_void_for_that_step_alone(self) -> None:
        """The others on the card keep theirs."""
        journal = asked(SHARED)
        journal.event(yes(), apply("close", CLOSE))
        journal.event(e.Applied(at=at(4), step="close", outcome=Outcome()))
        journal.event(e.Planned(at=at(5), step="each.2.lift", plan=THROTTLE))

        effects = [row.effect for row in STORY.build(journal.records).approvals]
        assert effects == ["applied", "void: the plan changed"]


class TestBrokenGlass:
    def test_it_is_told_with_its_reason(self) -> None:
        """Who, at which step, and why it could not wait."""
        journal = asked(ask())
        journal.event(broken(), apply("close", CLOSE))

        assert last(journal, names=ROLES).text == (
            "security broke the glass at close (plan cacacacacaca…) and let it go on without its "
            "approval: Nobody answers, and data leaves."
        )

    @pytest.mark.parametrize(
        ("question", "word", "flaw"),
        [
            pytest.param(
                ask(), broken(groups=("oncall",)), "it takes someone of security", id="group"
            ),
            pytest.param(ask(break_glass=None), broken(), "nobody may break the glass", id="none"),
            pytest.param(
                ask(), broken(digest="0" * 64), "it is about another plan", id="another-card"
            ),
            pytest.param(ask(), broken(reason="  "), "it has no reason", id="no-reason"),
        ],
    )
    def test_one_that_does_not_count_says_why(self, question: Any, word: Any, flaw: str) -> None:
        """And leaves no review."""
        journal = asked(question)
        journal.event(word, c.Wait())

        assert f"it does not count: {flaw}" in last(journal).text
        document = STORY.build(journal.records)
        assert not [task for task in document.tasks if "glass" in task.title]

    def test_a_review_that_is_missing_is_a_task(self) -> None:
        """It is mandatory: it has an owner, is due now, and cites the record."""
        journal = asked(SHARED)
        record = journal.event(broken(), apply("close", CLOSE))
        document = STORY.build(journal.records)

        (task,) = [task for task in document.tasks if "glass" in task.title]
        assert task.title == (
            "Review the glass that was broken at close and each.2.lift of INC-7-R1"
        )
        assert (task.owner, task.due) == ("incident-commander", "now")
        assert task.sources == (record.seq,)
        assert "data leaves" in task.why
        (line,) = [line for line in document.went_wrong if "broke the glass" in line.text]
        assert line.text.endswith("It is not reviewed yet.")

    def test_a_review_ends_the_task_and_is_told(self) -> None:
        """What was found stands where the glass is told of."""
        journal = asked(ask())
        journal.event(broken(), apply("close", CLOSE))
        reviewed(journal)
        document = STORY.build(journal.records)

        assert not [task for task in document.tasks if "glass" in task.title]
        (line,) = [line for line in document.went_wrong if "broke the glass" in line.text]
        assert line.text.endswith("A person in Slack reviewed it: It was right.")
        assert last(journal, names=ROLES).text == (
            "incident-commander reviewed that the glass was broken by security at close: It was "
            "right."
        )

    def test_a_review_is_of_one_broken_glass(self) -> None:
        """Who breaks it again is looked at again."""
        journal = asked(ask())
        journal.event(broken(3), apply("close", CLOSE))
        reviewed(journal)
        second = ask(digest="cb" * 32)
        journal.event(e.PlanDrifted(at=at(70), step="close", plan=LIFT), second)
        journal.event(broken(80, digest="cb" * 32), apply("close", LIFT))

        tasks = [t for t in STORY.build(journal.records).tasks if "glass" in t.title]
        assert [task.sources for task in tasks] == [(journal.seq,)]

    def test_the_table_says_so(self) -> None:
        """An override is not an approval."""
        journal = asked(ask())
        journal.event(broken(), apply("close", CLOSE))
        journal.event(e.Applied(at=at(4), step="close", outcome=Outcome()))

        (row,) = STORY.build(journal.records).approvals
        assert (row.decision, row.actor, row.effect) == ("glass broken", SAM, "applied")

    def test_hostile_findings_are_harmless(self) -> None:
        """The document never breaks on what a reviewer wrote."""
        journal = asked(ask())
        journal.event(broken(reason=HOSTILE), apply("close", CLOSE))
        reviewed(journal, HOSTILE)

        (line,) = [
            line
            for line in STORY.build(journal.records).went_wrong
            if "broke the glass" in line.text
        ]
        assert "\n" not in line.text
        assert "\u202e" not in line.text
