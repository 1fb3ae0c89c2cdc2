"""A store in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.store import SqlStore


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "firedoor.sqlite"


@pytest.fixture
def store(database: Path) -> Iterator[SqlStore]:
    store = SqlStore(f"sqlite:///{database}")
    store.migrate()
    yield store
    store.close()
