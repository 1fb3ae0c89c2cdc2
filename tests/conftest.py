"""Fixtures of all tests: where the store is; and profiles of hypothesis.

``pytest --hypothesis-profile=thorough`` tries much more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.postgres import Cluster, running

# A busy machine is no failure, and no change is red for what another one left: the same examples
# each time. Who looks for more says `--hypothesis-profile=thorough`.
settings.register_profile("calm", max_examples=60, deadline=None, derandomize=True)
settings.load_profile("calm")
settings.register_profile(
    "thorough",
    max_examples=5_000,
    derandomize=False,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A real PostgreSQL, started for the first test that needs it."""
    with running() as cluster:
        yield cluster


@pytest.fixture
def postgres_url(postgres: Cluster) -> Iterator[str]:
    """An empty, migrated database."""
    url = postgres.database()
    yield url
    postgres.drop(url)


@pytest.fixture(params=["sqlite", "postgres"])
def store_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store_url_of(
    store_kind: str, request: pytest.FixtureRequest
) -> Iterator[Callable[[Path], str | None]]:
    """Return a function that says where the store of a company in a folder is: None for the file
    in the folder. Tests with this fixture run on both databases."""
    made: dict[Path, str] = {}
    cluster: Cluster | None = None
    if store_kind == "postgres":
        cluster = request.getfixturevalue("postgres")

    def url_of(folder: Path) -> str | None:
        if cluster is None:
            return None
        if folder not in made:
            made[folder] = cluster.database()
        return made[folder]

    yield url_of
    for url in made.values():
        assert cluster is not None
        cluster.drop(url)
