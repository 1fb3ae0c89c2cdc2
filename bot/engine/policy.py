"""What may run without a person, and whose yes counts.

Rule 1: a READ never needs a yes.
Rule 2: a step with ``approval`` always needs one.
Rule 3: a run that an alert started may, until a person stands behind it, make only the changes
        that its trigger lists under ``auto``; any other step needs one yes of the runbook's owners.
        A person stands behind it by an approval that counts, or by an owner's answer or decision.
        A rejection never does.
Rule 4: who started a run does not approve its steps.
Rule 5: a yes counts for one card: this version of the runbook and these plans, with their
        parameters, by its digest, once per person.
Rule 6: a plan may need more people than its runbook says: guard rails of the settings put that
        into its brief. Then so many must say yes, of the step's groups or else of the owners. That
        a person stands behind the run, or that the trigger lists the step, is not enough.
Rule 7: who is in a step's ``break_glass`` group may let it go on alone, with a reason; also who
        started the run. It is announced, and somebody else reviews it.
"""

from __future__ import annotations

from dataclasses import replace

from bot.action import Effect
from bot.engine.places import Place
from bot.engine.state import RunState, StepState
from bot.language.runbook import Approval, Runbook
from bot.model.base import digest_of
from bot.model.events import Approved, Overridden, Rejected
from bot.model.plan import Plan


def approval_needed(book: Runbook, state: RunState, place: Place) -> Approval | None:
    """Return whose yes the step needs before it acts, or None."""
    needed = _approval_of(book, state, place)
    plan = state.step(place.key).plan
    least = plan.approvers if plan is not None else 0
    if needed is None:
        return Approval(groups=book.owners, required=least) if least else None
    return replace(needed, required=max(needed.required, least))


def _approval_of(book: Runbook, state: RunState, place: Place) -> Approval | None:
    """Return whose yes the step needs by the runbook alone."""
    if place.step.effect is Effect.READ:
        return None
    if place.step.approval is not None:
        return place.step.approval
    if state.person_engaged or place.static in state.auto:
        return None
    return Approval(groups=book.owners, required=1)


def is_approved(current: StepState, approval: Approval, plan: Plan) -> bool:
    """Tell whether a plan was approved before its turn came, by as many as it needs now."""
    if current.approved != plan.digest:
        return False
    return current.overridden or len(current.approvals) >= approval.required


def card_digest(book: Runbook, plans: dict[str, Plan]) -> str:
    """Return what a yes binds to: the runbook's version and every plan on the card, by key."""
    return digest_of(
        {"runbook": book.version, "plans": {key: plan.digest for key, plan in plans.items()}}
    )


def excluded(state: RunState) -> tuple[str, ...]:
    """Return who may not approve in this run."""
    return (state.origin.actor,) if state.origin.kind == "person" else ()


def is_for(current: StepState, event: Approved | Rejected | Overridden) -> bool:
    """Tell whether a word is about the card that the step waits on."""
    if current.gathering or current.leader:
        return False  # its card is not asked yet, or is another step's
    if current.card:
        return event.digest == current.card
    # Version 0.1 asked for a yes to the plan alone; such a question may still be open.
    return current.plan is not None and event.digest == current.plan.digest


def counts(
    state: RunState, approval: Approval, current: StepState, event: Approved | Rejected
) -> bool:
    """Tell whether this person's word counts for what the step waits for."""
    return (
        is_for(current, event)
        and event.by not in excluded(state)
        and not set(event.groups).isdisjoint(approval.groups)
    )


def overrides(approval: Approval, current: StepState, event: Overridden) -> bool:
    """Tell whether this person may break the glass here, and says why."""
    return (
        is_for(current, event)
        and approval.break_glass in event.groups
        and bool(event.reason.strip())
    )
