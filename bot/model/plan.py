"""What a change would do, exactly, before it is done."""

from __future__ import annotations

from typing import Any

from pydantic import computed_field, model_validator

from bot.model.base import Frozen, digest_of


class Brief(Frozen):
    """
    What people should know before they say yes to a plan, as it was when it was planned.

    ``facts`` are lines for the card. ``share`` is the part (0 to 1) of all requests that the plan
    is about, if that is known. ``approvers`` is how many must say yes whatever the runbook says,
    and ``guards`` are the sentences that say why.
    """

    facts: tuple[tuple[str, str], ...] = ()
    share: float | None = None
    approvers: int = 0
    guards: tuple[str, ...] = ()


class Plan(Frozen):
    """
    The before and after of one change. Approvals bind to ``digest``: a plan with another
    digest is another plan, and approvals of the first are void.

    ``summary`` is one sentence for a person. ``before`` and ``after`` are JSON, hold only what
    the change touches, and never a secret. ``brief`` is beside the plan: its figures change by
    the minute, and must void no approval.
    """

    action: str
    params: dict[str, Any]
    summary: str
    before: Any
    after: Any
    brief: Brief | None = None

    @property
    def approvers(self) -> int:
        """How many must say yes whatever the runbook says."""
        return self.brief.approvers if self.brief else 0

    @model_validator(mode="before")
    @classmethod
    def _without_digest(cls, data: Any) -> Any:
        """A dumped plan holds its digest; read back, it is made anew and never believed."""
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if key != "digest"}
        return data

    @computed_field  # type: ignore[prop-decorator]
    @property
    def digest(self) -> str:
        """SHA-256 over action, parameters, before and after (not over summary and brief)."""
        return digest_of(
            {
                "action": self.action,
                "params": self.params,
                "before": self.before,
                "after": self.after,
            }
        )
