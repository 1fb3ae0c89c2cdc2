"""Guard rails: what the settings say no containment may do, whatever a runbook says.

They are looked at when a step is planned, and the first and the last again when it is applied:

- an endpoint that is protected takes no control but a shadow;
- what would close or restrict more than a part of all requests needs a second approver;
- alerts may put so many containments in force in an hour; each further one needs a person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bot.action import ChangeAction, Context
from bot.errors import NotAllowed
from bot.model.containment import Control, ControlKind
from bot.model.endpoint import shape_of_key
from bot.model.plan import Brief, Plan
from bot.ports import Transaction

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class GuardRails:
    """
    Args:
        protected: Keys of endpoints.

        max_share: The part (0 to 1) of all requests that may be closed or restricted on one
            approver's word; None: any. If the share is not known, a second one is needed too.

        max_per_hour_by_alerts: Containments; None: any number.
    """

    protected: tuple[str, ...] = ()
    max_share: float | None = None
    max_per_hour_by_alerts: int | None = None

    def check(self, control: Control) -> None:
        """
        Raises:
            NotAllowed: The control is on a protected endpoint.
        """
        touched = [key for key in self.protected if control.concerns(key)]
        if touched and control.kind is not ControlKind.SHADOW:
            raise NotAllowed(
                f"{', '.join(touched)} is protected by `guard_rails` in firedoor.yaml, so no run "
                f"may put {control.kind.value} on it; nothing was done. A gateway.shadow is "
                "allowed; else change the settings, or the gateway by hand."
            )

    def brief(self, brief: Brief, control: Control, by_alerts: Callable[[], int]) -> Brief:
        """
        Return a brief with the approvers that a control needs.

        Args:
            by_alerts: Counts the containments of the last hour that alerts have started; 0 if a
                person started this run.
        """
        guards, approvers = list(brief.guards), brief.approvers
        if self.max_share is not None and control.kind is not ControlKind.SHADOW:
            if brief.share is None:
                approvers = max(approvers, 2)
                guards.append(
                    "Its share of all requests is not known, so a second approver is needed."
                )
            elif brief.share > self.max_share:
                approvers = max(approvers, 2)
                guards.append(
                    f"It is about {brief.share:.0%} of all requests, more than the "
                    f"{self.max_share:.0%} that one approver may decide about."
                )
        if self.is_used_up(by_alerts):
            approvers = max(approvers, 1)
            guards.append(
                f"Alerts have put {by_alerts()} containments in force within an hour, and may "
                f"{self.max_per_hour_by_alerts}; a person decides about this one."
            )
        return brief.model_copy(update={"guards": tuple(guards), "approvers": approvers})

    def unknown(self, endpoints: Iterable[str]) -> list[str]:
        """Return what is protected and is not among the keys of endpoints."""
        known = {shape_of_key(key) for key in endpoints}
        return [key for key in self.protected if shape_of_key(key) not in known]

    def is_used_up(self, by_alerts: Callable[[], int]) -> bool:
        """Tell whether alerts have done by themselves what they may."""
        most = self.max_per_hour_by_alerts
        return most is not None and by_alerts() >= most

    @property
    def needs_share(self) -> bool:
        return self.max_share is not None


def briefed(
    plan: Plan,
    action: ChangeAction[Any],
    ctx: Context,
    guards: GuardRails,
    by_alerts: Callable[[], int],
    *,
    is_asked: bool,
) -> Plan:
    """
    Return a plan with what people should know, and with what the guard rails make of it.

    Args:
        is_asked: Whether people are going to be asked. If not, nothing is found out for them: a
            step that may run at once does not wait for it.
    """
    control = action.holds(plan)
    if control is None:
        return plan.model_copy(update={"brief": action.brief(plan, ctx)}) if is_asked else plan
    guards.check(control)
    brief = (action.brief(plan, ctx) if is_asked or guards.needs_share else None) or Brief()
    brief = guards.brief(brief, control, by_alerts)
    return plan if brief == Brief() else plan.model_copy(update={"brief": brief})


def alerts_of_last_hour(tx: Transaction, now: datetime) -> int:
    """Count the containments of the last hour whose run an alert has started."""
    recent = [c for c in tx.containments() if c.since > now - HOUR]
    kinds = {run_id: tx.run(run_id).run.origin.kind for run_id in {c.run_id for c in recent}}
    return sum(kinds[c.run_id] == "alert" for c in recent)
