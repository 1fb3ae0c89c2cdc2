"""Durable steps a second: runs of steps that do nothing, on the real store and a real worker."""

from __future__ import annotations

import time
from pathlib import Path

from bot.action import Context, Params, ReadAction
from bot.durable import Worker
from bot.language.load import load
from bot.model.incident import Origin, StartRun
from bot.model.outcome import Outcome
from bot.testing import World

STEPS, RUNS = 20, 10


class Nothing(ReadAction[Params]):
    name = "bench.nothing"
    params = Params

    def run(self, params: Params, ctx: Context) -> Outcome:
        del params, ctx
        return Outcome()


RUNBOOK = "\n".join(
    [
        "id: nothing",
        "name: Nothing",
        "summary: Does nothing, many times.",
        "severity: sev4",
        "owners: [nobody]",
        "steps:",
        *(f"  - {{id: step-{number}, uses: bench.nothing}}" for number in range(STEPS)),
    ]
)


def is_over(world: World, run_id: str) -> bool:
    """Look as cheaply as can be: what is measured shares this process."""
    with world.store.engine.connect() as connection:
        query = f"SELECT status FROM runs WHERE id = '{run_id}'"
        return bool(connection.exec_driver_sql(query).scalar_one() != "running")


def measure_steps(folder: Path, store_url: str | None = None) -> dict[str, float]:
    folder.mkdir()
    action = Nothing()
    runbook = load(RUNBOOK, "nothing.yaml", {action.name: action})
    world = World(
        folder, actions=[action], runbooks=[runbook], store_url=store_url, is_driven_inline=False
    )
    worker = Worker(world.store, world.clock)
    driver = world.service.driver
    worker.launch(driver)
    try:
        wish = StartRun(runbook_id="nothing", origin=Origin(kind="person", actor="cli:bench"))
        began = time.perf_counter()
        for _ in range(RUNS):
            run_id = world.service.incidents.start(wish).run.id
            worker.start(run_id)
            while not is_over(world, run_id):
                time.sleep(0.002)
        took_s = time.perf_counter() - began
    finally:
        worker.close()
        world.close()
    return {"steps_per_s": STEPS * RUNS / took_s}
