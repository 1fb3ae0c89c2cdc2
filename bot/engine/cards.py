"""Approvals: one card for a step, or for several that share it.

Rule 1: a card shows every plan that a yes to it covers, and the yes is bound to their digests.
Rule 2: the first step of a shared card that needs its yes leads it. The others are planned for the
        card before their turn, as far as their parameters are known by then.
Rule 3: when a covered step's turn comes, it is planned anew. The same plan goes on without another
        question; a changed one is asked about by itself.
Rule 4: one rejection ends the card, for all its steps.
Rule 5: a step whose plan needs more people than the card asks for is on no card but its own.
"""

from __future__ import annotations

from bot.action import Effect
from bot.engine import calls
from bot.engine.places import Place, closes, every, flat
from bot.engine.policy import approval_needed, card_digest, counts, is_approved, overrides
from bot.engine.scope import scope_of
from bot.engine.state import StepState, StepStatus
from bot.engine.turn import Turn
from bot.errors import ExpressionInvalid
from bot.language.expressions import evaluate
from bot.language.runbook import Approval
from bot.model import events
from bot.model.plan import Plan


def notice_plan(place: Place, params: dict[str, object]) -> Plan:
    """What people approve of a NOTIFY: its parameters. It has no before and after."""
    return Plan(
        action=place.step.uses or "",
        params=params,
        summary=f"{place.step.uses} sends its notices.",
        before=None,
        after=None,
    )


def planned(turn: Turn, place: Place, plan: Plan) -> None:
    """A step has a plan: act on it if it may, else ask."""
    current = turn.set(place, plan=plan)
    approval = approval_needed(turn.book, turn.state, place)
    if approval is None or is_approved(current, approval, plan):
        calls.act(turn, place)
    elif not _joined(turn, place, approval):
        _lead(turn, place, approval)


def gathered(turn: Turn, place: Place, plan: Plan | None) -> None:
    """Take the plan of a step that is planned for a card, or leave it out if it cannot be."""
    leader = _leader_of(turn, place.key)
    if leader is None or place.key not in turn.step(leader.key).gathering:
        return
    if plan is not None and plan.approvers > _approval(turn, leader).required:
        plan = None  # it needs more people than this card: it is asked about by itself
    turn.set(place, plan=plan)
    current = turn.step(leader.key)
    members = tuple(m for m in current.members if plan is not None or m != place.key)
    rest = tuple(m for m in current.gathering if m != place.key)
    turn.set(leader, members=members, gathering=rest)
    _ask_if_complete(turn, leader)


def tend(turn: Turn) -> None:
    """Bring open cards in step with what else has happened to the steps on them."""
    if all(s.status is not StepStatus.AWAITING_APPROVAL for s in turn.state.steps.values()):
        return
    for place in list(every(turn.book, turn.state)):
        current = turn.step(place.key)
        if current.status is not StepStatus.AWAITING_APPROVAL:
            continue
        if approval_needed(turn.book, turn.state, place) is None:
            calls.act(turn, place)  # a person stands behind the run now
        elif current.leader:
            if turn.step(current.leader).status is not StepStatus.AWAITING_APPROVAL:
                assert current.plan is not None  # noqa: S101  # it waits for a yes to it
                planned(turn, place, current.plan)
        else:
            members = tuple(m for m in current.members if _stays(turn, turn.place(m)))
            if members != current.members:
                rest = tuple(m for m in current.gathering if m in members)
                turn.set(place, members=members, gathering=rest)
                _ask_if_complete(turn, place)


def _stays(turn: Turn, member: Place) -> bool:
    """Tell whether a step on a card still waits for it, or for its turn."""
    status = turn.step(member.key).status
    if status in (StepStatus.PENDING, StepStatus.PLANNING):
        return not closes(member, turn.state)
    return status is StepStatus.AWAITING_APPROVAL


def _joined(turn: Turn, place: Place, approval: Approval) -> bool:
    """Let a step wait on a card that it already stands on; False if there is none, or if it needs
    more people by now than that one asks for: then it leaves it."""
    leader = _leader_of(turn, place.key)
    if leader is None:
        return False
    current = turn.step(leader.key)
    if approval.required > _approval(turn, leader).required:
        members, gathering = (
            tuple(key for key in keys if key != place.key)
            for keys in (current.members, current.gathering)
        )
        turn.set(leader, members=members, gathering=gathering)
        _ask_if_complete(turn, leader)
        return False
    turn.set(place, status=StepStatus.AWAITING_APPROVAL, leader=leader.key, asked=True)
    turn.set(place, deadline=None)
    turn.set(leader, gathering=tuple(m for m in current.gathering if m != place.key))
    _ask_if_complete(turn, leader)
    return True


def _leader_of(turn: Turn, key: str) -> Place | None:
    for other, current in turn.state.steps.items():
        if current.status is StepStatus.AWAITING_APPROVAL and key in current.members:
            return turn.place(other)
    return None


def _lead(turn: Turn, place: Place, approval: Approval) -> None:
    """Open a card for a step, and have the others that share it planned for it."""
    turn.set(place, status=StepStatus.AWAITING_APPROVAL, leader="", asked=True, card="")
    turn.set(place, approvals=(), overridden=False, note="", deadline=None)
    members, gathering = [], []
    for other in _sharing(turn, place, approval):
        current = turn.step(other.key)
        if current.status is StepStatus.PENDING:
            try:
                scope = scope_of(other.frame, turn.state)
                params = evaluate(dict(other.step.params), scope, turn.at)
            except ExpressionInvalid:
                continue  # it is asked about by itself, once its parameters are known
            turn.set(other, params=params, calls=current.calls + 1)
            if other.step.effect is Effect.NOTIFY:
                turn.set(other, plan=notice_plan(other, params))
                members.append(other.key)
                continue
        members.append(other.key)
        gathering.append(other.key)
    turn.set(place, members=tuple(members), gathering=tuple(gathering))
    _ask_if_complete(turn, place)


def _sharing(turn: Turn, place: Place, approval: Approval) -> list[Place]:
    """Return the other steps of a shared card that wait for their turn or for their plan."""
    if not approval.card:
        return []
    return [
        other
        for other in flat(place.frame, turn.state)
        if other.key != place.key
        and other.step.approval == approval
        and not turn.step(other.key).approved
        and not closes(other, turn.state)
        and _leader_of(turn, other.key) is None
        and turn.step(other.key).status in (StepStatus.PENDING, StepStatus.PLANNING)
    ]


def _ask_if_complete(turn: Turn, leader: Place) -> None:
    """Put the card before people once every plan is on it; anew if one has changed."""
    current = turn.step(leader.key)
    if current.gathering:
        return
    digest = card_digest(turn.book, plans_on(turn, leader.key, current))
    if digest != current.card:
        deadline = turn.after(_approval(turn, leader).timeout_s)
        turn.set(leader, card=digest, asked=False, approvals=(), deadline=deadline)


def plans_on(turn: Turn, key: str, current: StepState) -> dict[str, Plan]:
    """Return every plan on a card, by key, the leader's first."""
    plans = ((each, turn.step(each).plan) for each in (key, *current.members))
    return {each: plan for each, plan in plans if plan is not None}


# --- words of people -----------------------------------------------------------------------------


def _approval(turn: Turn, place: Place) -> Approval:
    approval = approval_needed(turn.book, turn.state, place)
    assert approval is not None  # noqa: S101  # ``tend`` lets go on what needs none any more
    return approval


def approved(turn: Turn, place: Place, event: events.Approved) -> None:
    approval, current = _approval(turn, place), turn.step(place.key)
    if not counts(turn.state, approval, current, event) or event.by in current.approvals:
        return
    current = turn.set(place, approvals=(*current.approvals, event.by))
    if len(current.approvals) >= approval.required:
        _grant(turn, place, event.by)


def overridden(turn: Turn, place: Place, event: events.Overridden) -> None:
    current = turn.step(place.key)
    if not overrides(_approval(turn, place), current, event):
        return
    note = f"glass broken by {event.by}: {event.reason}"
    for key in (place.key, *current.members):
        turn.set(key, overridden=True, note=note)
    turn.set(place, approvals=(event.by,))
    _grant(turn, place, event.by)


def _grant(turn: Turn, leader: Place, by: str) -> None:
    current = turn.step(leader.key)
    turn.having(person_engaged=True, engaged_by=by)
    for key, plan in plans_on(turn, leader.key, current).items():
        covered = turn.set(key, approved=plan.digest, approvals=current.approvals)
        if covered.status is StepStatus.AWAITING_APPROVAL:
            calls.act(turn, turn.place(key))


def rejected(turn: Turn, place: Place, event: events.Rejected) -> None:
    if not counts(turn.state, _approval(turn, place), turn.step(place.key), event):
        return
    note = f"rejected by {event.by}" + (f": {event.reason}" if event.reason else "")
    turn.having(engaged_by=event.by)  # a no lets nothing else run
    _refuse(turn, place, note)


def timed_out(turn: Turn, place: Place) -> None:
    _refuse(turn, place, "nobody approved in time")


def _refuse(turn: Turn, leader: Place, note: str) -> None:
    policy = _approval(turn, leader).on_timeout
    for key in (leader.key, *turn.step(leader.key).members):
        calls.give_up(turn, turn.place(key), policy, note)
