"""postmortem.draft keeps three forms and tells later steps where they are."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest
from pydantic import ValidationError

from actions.report.draft import Draft
from bot.action import Context, Effect
from bot.errors import Failed
from bot.model.outcome import Evidence


def kept(name: str) -> Evidence:
    return Evidence(
        id=name,
        sha256="0" * 64,
        size_bytes=1,
        media_type="text/plain",
        summary="a draft",
        kept_at=datetime(2026, 3, 14, tzinfo=UTC),
    )


def context(*names: str) -> Context:
    """A context whose desk keeps files of these names."""
    desk = SimpleNamespace(draft=lambda: [kept(name) for name in names])
    return cast(Context, SimpleNamespace(postmortem=desk))


class TestDraft:
    def test_facts_name_each_form(self) -> None:
        """Later steps find each form by its name, in the order the desk promises."""
        action = Draft()

        outcome = action.run(action.read_params({}), context("p.md", "p.html", "p-2.pdf"))

        assert outcome.facts == {"markdown": "p.md", "html": "p.html", "pdf": "p-2.pdf"}
        assert [evidence.id for evidence in outcome.evidence] == ["p.md", "p.html", "p-2.pdf"]

    def test_facts_are_as_declared(self) -> None:
        """What runbooks may refer to is what there is."""
        outcome = Draft().run(Draft().read_params({}), context("a", "b", "c"))

        assert set(outcome.facts) == set(Draft.facts.model_fields)

    def test_missing_form_is_a_failure(self) -> None:
        """A draft without its PDF is not reported as done."""
        with pytest.raises(Failed, match="2 forms"):
            Draft().run(Draft().read_params({}), context("p.md", "p.html"))

    def test_it_takes_no_parameters(self) -> None:
        """A misspelt wish is refused before the run, not ignored."""
        with pytest.raises(ValidationError):
            Draft().read_params({"formats": ["pdf"]})

    def test_it_changes_nothing(self) -> None:
        """READ: it needs no approval and may be repeated."""
        assert Draft.effect is Effect.READ
        assert Draft.name == "postmortem.draft"
