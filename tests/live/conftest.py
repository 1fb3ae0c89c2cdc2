"""Fixtures of the live tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.sandbox.company import Company
from tests.live.harness import ROOT, Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A fresh company; Firedoor is not started yet."""
    with Company(tmp_path / "company", runbooks=ROOT / "runbooks") as company:
        yield Site(company)
