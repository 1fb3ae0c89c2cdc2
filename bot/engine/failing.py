"""What happens after a failure: another attempt, the step's policy, a person's decision."""

from __future__ import annotations

from typing import Literal

from bot.engine import calls, cards
from bot.engine.places import Place, closes
from bot.engine.state import Failure, StepState, StepStatus
from bot.engine.turn import Turn
from bot.language.runbook import Retry
from bot.model import events
from bot.model.base import digest_of
from bot.model.incident import RunStatus

LONGEST_DELAY_S = 300.0

MAX_DRIFTS = 5
"""How often the world may change between plan and apply before a person is asked."""

Choice = Literal["retry", "skip", "stop", "done"]


def failed(turn: Turn, place: Place, event: events.StepFailed) -> None:
    """A command did not work: try again if the step may, else follow its policy."""
    current, retry = turn.step(place.key), place.step.retry
    is_ending = closes(place, turn.state) and event.phase != "undo"
    if event.error in retry.on and current.attempt < retry.attempts and not is_ending:
        failure = Failure(phase=event.phase, error=event.error, message=event.message)
        turn.set(
            place,
            status=StepStatus.AWAITING_RETRY,
            attempt=current.attempt + 1,
            failure=failure,
            deadline=turn.after(_delay_s(turn, place, retry, event.retry_after_s)),
        )
    else:
        used_up(turn, place, event.phase, event.error, event.message)


def _delay_s(turn: Turn, place: Place, retry: Retry, retry_after_s: float | None) -> float:
    """How long until the next attempt; never shorter than the other system asks for.

    The jitter follows from the run, the step and the attempt: a replay waits as long.
    """
    attempt = turn.step(place.key).attempt
    delay_s = min(retry.delay_s * retry.backoff ** (attempt - 1), LONGEST_DELAY_S)
    if retry.jitter:
        seed = digest_of([turn.state.run_id, place.key, attempt])
        spread = int(seed[:8], 16) / 0xFFFFFFFF * 2 - 1
        delay_s = min(delay_s * (1 + retry.jitter * spread), LONGEST_DELAY_S)
    return max(delay_s, retry_after_s or 0.0)


def used_up(
    turn: Turn, place: Place, phase: events.Phase, error: events.ErrorKind, message: str
) -> None:
    """The step's attempts are used up: follow its ``on_failure``."""
    turn.set(place, failure=Failure(phase=phase, error=error, message=message), deadline=None)
    policy, is_ending = place.step.on_failure, closes(place, turn.state)
    cut = turn.state.ending is not None and turn.state.ending.cut
    if (phase == "undo" and cut) or (phase != "undo" and is_ending):
        turn.close(place, StepStatus.FAILED, left=phase == "undo")
    elif error == "ambiguous" or phase == "undo" or policy == "ask":
        turn.set(place, status=StepStatus.AWAITING_DECISION, asked=False)
    else:
        by_policy(turn, place, f"step {place.key} failed: {message}")


def by_policy(turn: Turn, place: Place, reason: str) -> None:
    """End a failed step or group as its ``on_failure`` says."""
    policy = place.step.on_failure
    turn.close(place, StepStatus.FAILED, passed=policy == "continue")
    if policy == "undo" and not place.frame.final:
        turn.end(RunStatus.FAILED, reason, undo=True)


def drifted(turn: Turn, place: Place, event: events.PlanDrifted) -> None:
    """The world changed before the plan was applied: nothing was done, and the yes is void.

    An attempt before this one may have done something; then the change stays among the applied.
    """
    drifts = turn.step(place.key).drifts + 1
    turn.not_applied(place)
    turn.set(place, plan=event.plan, approvals=(), approved="", drifts=drifts)
    if closes(place, turn.state):
        note = "not applied: what it would change had changed, and the run ends"
        turn.close(place, StepStatus.STOPPED, note=note)
    elif drifts > MAX_DRIFTS:
        message = (
            f"What {place.step.uses} would change has itself changed {drifts} times between plan "
            "and apply; nothing was changed. Find out who else is changing it, then retry."
        )
        used_up(turn, place, "apply", "ambiguous", message)
    else:
        cards.planned(turn, place, event.plan)


def choices(current: StepState) -> tuple[Choice, ...]:
    """What people may decide about a failed step."""
    if current.attempt == 0:
        # It was never begun: its parameters do not exist, so there is nothing to do again.
        return ("skip", "stop")
    failure = current.failure
    if failure is not None and failure.error == "ambiguous" and failure.phase == "apply":
        return ("done", "retry", "skip", "stop")
    return ("retry", "skip", "stop")


def decided(turn: Turn, place: Place, event: events.Decided) -> None:
    current = turn.step(place.key)
    if event.choice not in choices(current):
        return
    heard(turn, event)
    if event.choice == "retry":
        turn.set(place, attempt=1, drifts=0)
        again(turn, place)
    elif event.choice == "done":
        turn.set(place, attempt=1)
        calls.verify(turn, place)
    else:
        note = f"{event.choice} decided by {event.by}"
        pass_over(turn, place, note)
        if event.choice == "stop":
            turn.set(place, passed=False)
            _stop(turn, place, note)


def pass_over(turn: Turn, place: Place, note: str) -> None:
    """Let the run go on though the step failed (or could not be taken back)."""
    failure = turn.step(place.key).failure
    is_undo = failure is not None and failure.phase == "undo"
    turn.close(place, StepStatus.FAILED, note=note, passed=True, left=is_undo)


def _stop(turn: Turn, place: Place, note: str) -> None:
    ending = turn.state.ending
    if ending is not None:
        # Asked about an undo, or in ``always``: nothing more is waited for.
        turn.having(ending=ending.model_copy(update={"undo": False, "cut": True}))
    turn.end(RunStatus.STOPPED, f"step {place.key}: {note}")


def again(turn: Turn, place: Place) -> None:
    """Give a step the command once more that did not work."""
    current = turn.step(place.key)
    assert current.failure is not None  # noqa: S101  # it has failed
    phase = current.failure.phase
    turn.set(place, passed=False, left=False, ended_at=None, note="")
    match phase:
        case "plan":
            calls.plan(turn, place)
        case "run":
            calls.act(turn, place)
        case "apply":
            assert current.plan is not None  # noqa: S101  # it was about to be applied
            if current.approvals:
                calls.act(turn, place)
            else:
                # The plan drifted since it was approved, and that approval is void.
                cards.planned(turn, place, current.plan)
        case "verify":
            calls.verify(turn, place)
        case _:
            assert phase == "undo"  # noqa: S101  # the only one that is left
            calls.undo(turn, place)


def heard(turn: Turn, event: events.Answered | events.Decided | events.Retried) -> None:
    """Note who spoke. Only an owner's word lets steps without an approval run (policy, rule 3)."""
    turn.having(engaged_by=event.by)
    if not set(event.groups).isdisjoint(turn.book.owners):
        turn.having(person_engaged=True)
