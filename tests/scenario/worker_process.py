"""A worker as a process of its own, for tests that stop and kill it.

    python -m tests.scenario.worker_process --store URL --remote URL --folder DIR \\
        [--worker-id NAME] [--runbook FILE ...]

It drives the runs of a store with actions on a system behind HTTP:

    GET  REMOTE/values/KEY                 {"value": ..., "by": STEP}
    PUT  REMOTE/values/KEY  {"value": ..., "by": STEP}

``by`` is the run and step that makes the change, so whoever keeps the remote can tell whether
an effect was made twice. The action looks before it repeats. On its standard output it says each
change of its worker id, one JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
import time
from pathlib import Path
from typing import Any

import requests

from bot.action import Action, ChangeAction, Context, Facts, Params, ReadAction
from bot.durable import Worker
from bot.errors import ProviderUnreachable
from bot.language.load import load
from bot.language.runbook import Runbook
from bot.model.outcome import Check, Outcome, Proof
from bot.model.plan import Plan
from bot.testing import World
from bot.wiring import SystemClock
from bot.wiring.background import Background
from tests.scenario.company import ENDPOINTS, GROUPS

TIMEOUT_S = 60.0


class Remote:
    """The other system."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, key: str) -> dict[str, Any]:
        return self._ask("GET", key, None)

    def put(self, key: str, value: Any, by: str) -> None:
        self._ask("PUT", key, {"value": value, "by": by})

    def _ask(self, method: str, key: str, body: Any) -> dict[str, Any]:
        try:
            response = requests.request(
                method, f"{self._url}/values/{key}", json=body, timeout=TIMEOUT_S
            )
            response.raise_for_status()
            return dict(response.json())
        except requests.RequestException as error:
            raise ProviderUnreachable(f"The remote system gave no answer ({error}).") from error


class LookParams(Params):
    key: str


class LookFacts(Facts):
    value: str | None


class Look(ReadAction[LookParams]):
    """Reads a value."""

    name = "acme.look"
    params = LookParams
    facts = LookFacts

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def run(self, params: LookParams, ctx: Context) -> Outcome:
        del ctx
        return Outcome(facts={"value": self._remote.get(params.key)["value"]})


class SetParams(Params):
    key: str
    value: str


class Set(ChangeAction[SetParams]):
    """Sets a value; observes before it repeats."""

    name = "acme.set"
    params = SetParams
    timeout_s = TIMEOUT_S

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def observe(self, params: SetParams, ctx: Context) -> Any:
        del ctx
        return self._remote.get(params.key)["value"]

    def plan(self, params: SetParams, observed: Any) -> Plan:
        return Plan(
            action=self.name,
            params=params.model_dump(),
            summary=f"Sets {params.key} to {params.value}.",
            before=observed,
            after=params.value,
        )

    def in_progress(self, plan: Plan, observed: Any, ctx: Context) -> bool:
        del ctx
        return bool(observed == plan.after)

    def apply(self, plan: Plan, ctx: Context) -> Outcome:
        key = plan.params["key"]
        ctx.notes.write({"sets": key})
        if self._remote.get(key)["value"] != plan.after:
            self._remote.put(key, plan.after, f"{ctx.run_id}:{ctx.step_id}")
        return Outcome()

    def verify(self, plan: Plan, ctx: Context) -> Proof:
        del ctx
        seen = self._remote.get(plan.params["key"])["value"]
        check = Check(name="value", ok=seen == plan.after, expected=plan.after, seen=str(seen))
        return Proof(checks=(check,))

    def undo(self, plan: Plan, ctx: Context) -> Outcome:
        key = plan.params["key"]
        if self._remote.get(key)["value"] != plan.before:
            self._remote.put(key, plan.before, f"{ctx.run_id}:{ctx.step_id}:undo")
        return Outcome()


def actions(remote: str) -> dict[str, Action[Any]]:
    made: list[Action[Any]] = [kind(Remote(remote)) for kind in (Look, Set)]
    return {action.name: action for action in made}


def read_runbooks(files: list[str], known: dict[str, Action[Any]]) -> list[Runbook]:
    return [load(Path(file).read_text(), file, known) for file in files]


def make_world(
    folder: Path, store: str, known: dict[str, Action[Any]], runbooks: list[Runbook]
) -> World:
    """Return a service on a store that others may drive as well; it drives nothing by itself."""
    world = World(
        folder,
        actions=list(known.values()),
        runbooks=runbooks,
        endpoints=ENDPOINTS,
        groups=GROUPS,
        clock=SystemClock(),
        store_url=store,
        is_driven_inline=False,
    )
    return world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--remote", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--worker-id", default="worker")
    parser.add_argument("--runbook", action="append", default=[])
    args = parser.parse_args()
    known = actions(args.remote)
    args.folder.mkdir(parents=True, exist_ok=True)
    world = make_world(args.folder, args.store, known, read_runbooks(args.runbook, known))
    worker = Worker(world.store, world.clock, name=args.worker_id, version="test")
    worker.launch(world.service.driver)
    background = Background(world.service, worker)
    background.start()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    said = ""
    while not stop.is_set():
        if worker.id != said:
            said = worker.id
            print(json.dumps({"worker": said}), flush=True)
        time.sleep(0.05)
    background.stop()
    worker.close()
    world.close()


if __name__ == "__main__":
    main()
