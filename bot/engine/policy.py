"""What may run without a person, and whose yes counts.

Rule 1: a READ never needs a yes.
Rule 2: a step with ``approval`` always needs one.
Rule 3: a run that an alert started may, until a person stands behind it, make only the changes
        that its trigger lists under ``auto``; any other step needs one yes of the runbook's owners.
        A person stands behind it by an approval that counts, or by an owner's answer or decision.
        A rejection never does.
Rule 4: who started a run does not approve its steps.
Rule 5: a yes counts for one plan, by its digest, once per person.
"""

from __future__ import annotations

from bot.action import Effect
from bot.engine.state import RunState
from bot.language.runbook import Approval, Runbook, Step
from bot.model.events import Approved, Rejected


def approval_needed(runbook: Runbook, state: RunState, step: Step) -> Approval | None:
    """Return whose yes the step needs before it acts, or None."""
    if step.effect is Effect.READ:
        return None
    if step.approval is not None:
        return step.approval
    if state.person_engaged or step.id in state.auto:
        return None
    return Approval(groups=runbook.owners, required=1)


def excluded(state: RunState) -> tuple[str, ...]:
    """Return who may not approve in this run."""
    return (state.origin.actor,) if state.origin.kind == "person" else ()


def counts(state: RunState, approval: Approval, event: Approved | Rejected) -> bool:
    """Tell whether this person's word counts for the current plan of the step."""
    plan = state.steps[event.step].plan
    return (
        plan is not None
        and event.digest == plan.digest
        and event.by not in excluded(state)
        and not set(event.groups).isdisjoint(approval.groups)
    )
