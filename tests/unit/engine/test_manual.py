"""Manual steps: who is asked, reminders, what is overdue."""

from __future__ import annotations

import pytest

from bot.engine import StepStatus
from bot.model.commands import AskPerson, Finish, Remind, Wait
from tests.unit.engine.rehearsal import NOON, Rehearsal, book, manual


def waiting(**fields: object) -> Rehearsal:
    run = Rehearsal(book(manual("sure", **fields)))
    run.asked("sure")
    return run


def until(run: Rehearsal) -> float:
    """Return how many seconds after the start the run looks again."""
    assert isinstance(run.last, Wait)
    return (run.last.until - NOON).total_seconds()


class TestAssignee:
    def test_the_question_names_who_is_asked_and_until_when(self):
        """
        The doors show it.
        """
        ask = Rehearsal(book(manual("sure", assignee="legal", due_s=30.0, timeout_s=60.0))).of(
            "sure"
        )

        assert isinstance(ask, AskPerson)
        assert ask.assignee == "legal"
        assert (ask.due_at - NOON).total_seconds() == 30
        assert (ask.expires_at - NOON).total_seconds() == 60

    @pytest.mark.parametrize("group", ["legal", "oncall"])
    def test_its_members_and_the_owners_may_answer(self, group):
        """
        Somebody of the house can always help out.
        """
        run = waiting(assignee="legal")

        assert isinstance(run.answered("sure", groups=(group, "others")), Finish)

    @pytest.mark.parametrize("groups", [(), ("marketing",)])
    def test_nobody_else_may(self, groups):
        """
        The answer changes nothing.
        """
        run = waiting(assignee="legal")
        before = run.state

        run.answered("sure", groups=groups)

        assert run.state == before

    def test_without_one_anybody_may(self):
        """
        Who may act at all is for the doors.
        """
        assert isinstance(waiting().answered("sure"), Finish)


class TestReminders:
    def test_it_is_asked_again_each_time_that_remind_has_passed(self):
        """
        Reminders are counted; the next one is after the same time.
        """
        run = waiting(remind_s=60.0)
        assert until(run) == 60
        run.now = NOON
        assert run.timer(seconds=60) == Remind(step="sure", number=1)

        run.reminded("sure")

        assert until(run) == 121
        assert run.timer(seconds=60) == Remind(step="sure", number=2)

    def test_a_reminder_is_outstanding_until_it_was_given(self):
        """
        Another timer does not make a second one.
        """
        run = waiting(remind_s=60.0)
        run.timer(seconds=60)

        assert run.timer(seconds=600) == Remind(step="sure", number=1)

    def test_reminded_without_a_reminder_changes_nothing(self):
        """
        A second delivery of the event.
        """
        run = waiting(remind_s=60.0)
        before = run.state

        run.reminded("sure")

        assert run.state == before

    def test_an_answer_ends_them(self):
        """
        Also one that is about to be given.
        """
        run = waiting(remind_s=60.0)
        run.timer(seconds=60)

        assert isinstance(run.answered("sure"), Finish)
        assert run.at("sure").nudge == ""


class TestOverdue:
    def test_it_is_said_and_changes_nothing(self):
        """
        The question is open as before; it is said once if there are no reminders.
        """
        run = waiting(due_s=60.0)
        assert until(run) == 60

        assert run.timer(seconds=60) == Remind(step="sure", number=1, overdue=True)
        run.reminded("sure")

        assert run.commands == (Wait(),)
        assert run.status("sure") is StepStatus.AWAITING_ANSWER

    def test_reminders_go_on_after_it_and_say_so(self):
        """
        Every one from then on is overdue.
        """
        run = waiting(due_s=30.0, remind_s=60.0)
        assert until(run) == 30
        run.timer(seconds=30)
        run.reminded("sure")

        assert run.timer(seconds=60) == Remind(step="sure", number=2, overdue=True)

    def test_between_reminders_it_comes_at_its_own_time(self):
        """
        It does not wait for the next reminder.
        """
        run = waiting(due_s=90.0, remind_s=60.0)
        run.timer(seconds=60)

        run.reminded("sure")

        assert until(run) == 90
        assert run.timer(seconds=30).overdue

    def test_it_is_said_at_once_if_a_reminder_came_late(self):
        """
        A slow channel does not hide it.
        """
        run = waiting(due_s=90.0, remind_s=60.0)
        run.timer(seconds=60)
        run.now = run.now.replace(minute=5)

        run.reminded("sure")

        assert until(run) == 90
        assert run.timer().overdue
