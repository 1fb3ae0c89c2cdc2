"""What a change would do, exactly, before it is done."""

from __future__ import annotations

from typing import Any

from pydantic import computed_field, model_validator

from bot.model.base import Frozen, digest_of


class Plan(Frozen):
    """
    The before and after of one change. Approvals bind to ``digest``: a plan with another
    digest is another plan, and approvals of the first are void.

    ``summary`` is one sentence for a person. ``before`` and ``after`` are JSON, hold only what
    the change touches, and never a secret.
    """

    action: str
    params: dict[str, Any]
    summary: str
    before: Any
    after: Any

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
        """SHA-256 over action, parameters, before and after (not over the summary)."""
        return digest_of(
            {
                "action": self.action,
                "params": self.params,
                "before": self.before,
                "after": self.after,
            }
        )
