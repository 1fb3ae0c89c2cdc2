"""A company whose runs can be driven in the calling thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.scenario.company import Company


@pytest.fixture
def company_of(tmp_path: Path) -> Iterator[Callable[..., Company]]:
    """Return a function that makes a company with runbooks, by their texts."""
    made: list[Company] = []

    def make(*texts: str, folder: str = "company") -> Company:
        (tmp_path / folder).mkdir(exist_ok=True)
        made.append(Company(tmp_path / folder, list(texts)))
        return made[-1]

    yield make
    for company in made:
        company.restart()
