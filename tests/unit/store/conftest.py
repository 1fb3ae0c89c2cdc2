"""A store in a folder, or on a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bot.store import SqlStore


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The file of a store that is on SQLite whatever happens."""
    return tmp_path / "firedoor.sqlite"


@pytest.fixture
def url(store_url_of: Callable[[Path], str | None], database: Path) -> str:
    return store_url_of(database.parent) or f"sqlite:///{database}"


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    """On either database."""
    store = SqlStore(url)
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def file_store(database: Path) -> Iterator[SqlStore]:
    """On SQLite, for what is only about files."""
    store = SqlStore(f"sqlite:///{database}")
    store.migrate()
    yield store
    store.close()
