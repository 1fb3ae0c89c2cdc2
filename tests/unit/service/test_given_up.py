"""A run whose runbook this version cannot read is ended and said so; it must not spin or hang."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from bot.language.load import load
from bot.model.ask import Ask
from bot.model.incident import Origin, RunStatus, StartRun
from bot.store import tables
from bot.testing import World

TEXT = """\
id: ask
name: Ask
summary: Asks a person.
severity: sev4
owners: [oncall]
steps:
  - {id: why, manual: {ask: "Why?"}}
"""


def test_it_is_ended_its_questions_are_closed_and_people_are_told(tmp_path: Path):
    """
    After an upgrade that no longer knows an action, the run fails with the reason, once.
    """
    world = World(tmp_path, actions=[], runbooks=[load(TEXT, "ask.yaml", {})])
    wish = StartRun(runbook_id="ask", origin=Origin(kind="person", actor="slack:U1"))
    run_id = world.service.incidents.start(wish).run.id
    unknown = TEXT.replace('manual: {ask: "Why?"}', "uses: gone.away")
    with world.store.engine.begin() as connection:
        connection.execute(sa.update(tables.runs).values(runbook_text=unknown))
    review = Ask(
        token="review",
        incident_id="INC-1",
        run_id=run_id,
        step_id="why",
        kind="review",
        asked_at=world.clock.now(),
        body={"card": {"title": "Review"}},
    )
    with world.store.begin() as tx:
        tx.add_ask(review)
    world.send()
    chat = world.chat
    (card,) = chat.titled("why")
    assert card.buttons
    world.close()

    world = World(tmp_path, actions=[], chat=chat)
    for _ in range(2):
        world.runner.wake(run_id)

    with world.store.read() as tx:
        stored = tx.run(run_id)
        assert stored.run.status is RunStatus.FAILED
        assert "cannot read the runbook" in stored.state["reason"]
        assert tx.open_asks(run_id) == [review]  # a broken glass is reviewed all the same
        assert len(tx.records(run_id=run_id, kind="run_given_up")) == 1
    world.send()
    assert len(chat.titled("was given up")) == 1
    (card,) = chat.titled("why")
    assert card.buttons == ()
    world.close()
