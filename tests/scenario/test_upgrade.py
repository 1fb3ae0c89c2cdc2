"""A run that version 0.1 started comes to its end under this one, on either store.

``upgrade/rows-0.1.json`` are the rows of a store that 0.1 wrote, with a run at every kind of place:
before and within an approval, a question, a retry, a decision, between an effect and its event,
before a question was put, in an undo.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bot.engine import StepStatus
from bot.model.incident import RunStatus
from bot.model.journal import verify_chain
from bot.store import SqlStore
from tests.postgres import Cluster
from tests.scenario.company import Company
from tests.scenario.crashes import answer

OLD = json.loads((Path(__file__).parent / "upgrade" / "rows-0.1.json").read_text(encoding="utf-8"))


@pytest.fixture
def empty_url(tmp_path: Path, store_kind: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database without a schema."""
    if store_kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'firedoor.sqlite'}"
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    url = cluster.database("template1")
    yield url
    cluster.drop(url)


@pytest.fixture
def upgraded(tmp_path: Path, empty_url: str) -> Iterator[Company]:
    """A company of this version on the rows that 0.1 left."""
    url = empty_url
    store = SqlStore(url)
    store.migrate("0001")
    old = sa.MetaData()
    with store.engine.begin() as connection:
        old.reflect(connection)
        for table in old.sorted_tables:
            for row in OLD["rows"].get(table.name, []):
                connection.execute(table.insert().values(row))
        if connection.dialect.name == "postgresql":
            count_on(connection, old)
    store.migrate()
    store.close()
    company = Company(tmp_path, [], store_url=url)
    company.clock.set(datetime.fromisoformat(OLD["now"]))
    company.outside.values.update(OLD["values"])
    yield company
    company.restart()


def count_on(connection: sa.Connection, old: sa.MetaData) -> None:
    """Let counters go on after the rows that were put in with their numbers."""
    for table in old.sorted_tables:
        (key, *_) = table.primary_key.columns or (None,)
        if key is not None and key.autoincrement and isinstance(key.type, sa.Integer):
            sequence = sa.func.pg_get_serial_sequence(table.name, key.name)
            highest = sa.select(sa.func.coalesce(sa.func.max(key), 0) + 1).scalar_subquery()
            connection.execute(sa.select(sa.func.setval(sequence, highest, False)))


ENDS = {
    "one-approval": RunStatus.DONE,
    "two-approvals": RunStatus.DONE,
    "answer": RunStatus.DONE,
    "retry": RunStatus.DONE,
    "decision": RunStatus.DONE,
    "between": RunStatus.DONE,
    "passed": RunStatus.FAILED,
    "lift": RunStatus.DONE,
    "not-asked": RunStatus.DONE,
    "undoing": RunStatus.FAILED,
}


def test_every_run_of_0_1_comes_to_its_end(upgraded: Company) -> None:
    """
    Whoever was asked by 0.1 answers the question that is still open; nothing is done twice, and
    the chain holds over both versions.
    """
    for _ in range(40):
        upgraded.resume()
        runs = upgraded.world.service.reports.runs(unfinished=True)
        if not runs:
            break
        for run in runs:
            for ask in upgraded.open_asks(run.id):
                answer(upgraded, ask)
        upgraded.clock.advance(seconds=5)
    reports = upgraded.world.service.reports
    ended = {run.runbook_id: run.status for run in reports.runs()}
    records = reports.records(None)

    assert ended == ENDS
    assert verify_chain(records) == len(records)
    # The effect of "between" was made by 0.1, just before it was gone.
    assert "f=shut" not in upgraded.outside.effects
    assert sorted(set(upgraded.outside.effects)) == sorted(upgraded.outside.effects)


def test_what_was_in_force_stays_in_force(upgraded: Company) -> None:
    """
    A containment of 0.1 expires under this version as it would have under that one.
    """
    with upgraded.world.store.read() as tx:
        (held,) = tx.containments(in_force=True)
    upgraded.clock.set(held.expires_at + timedelta(seconds=1))

    upgraded.world.service.desk.expire_due()

    with upgraded.world.store.read() as tx:
        assert tx.containments(in_force=True) == []


def test_an_old_state_names_what_it_has_changed(upgraded: Company) -> None:
    """
    So that its changes can be taken back by the verbs that 0.1 did not have.
    """
    states: dict[str, Any] = {
        run.runbook_id: upgraded.state(run.id) for run in upgraded.world.service.reports.runs()
    }

    assert states["lift"].applied == ("close",)
    assert states["one-approval"].applied == ()
    assert states["passed"].step("look").status is StepStatus.FAILED
    assert states["passed"].step("look").passed
