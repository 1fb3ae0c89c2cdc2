"""Reads a company's history, from the store and from the remote system."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bot.engine import RunState
from bot.engine.places import find
from bot.model.base import canonical_json
from bot.testing import FakeGateway
from tests.chaos.checker import CHANGING, Fault, History, RunView, StepView
from tests.chaos.effects import GATEWAYS
from tests.chaos.site import Site


def collect(site: Site) -> History:
    told: dict[str, Any] = site.remote.ask("history")
    with site.store.read() as tx:
        runs = tx.runs()
        stored = [tx.run(run.id) for run in runs]
        records = tx.records()
        asks = [ask for run in runs for ask in tx.asks(run.id)]
        parcels = [parcel for incident in tx.incidents() for parcel in tx.parcels(incident.id)]
        containments = tx.containments()
    gateway = FakeGateway()
    wanted = {
        name: gateway.version_of(
            [c.control for c in containments if c.gateway == name and c.lifted_at is None]
        )
        for name in GATEWAYS
    }
    return History(
        runs=[_view(site, each) for each in stored],
        records=records,
        asks=asks,
        parcels=parcels,
        containments=containments,
        effects=told["effects"],
        values=told["values"],
        keys={
            owner: [key["id"] for key in keys if key["live"]]
            for owner, keys in told["keys"].items()
        },
        controls={name: told["versions"].get(name) or gateway.version_of(()) for name in GATEWAYS},
        wanted=wanted,
    )


def _view(site: Site, stored: Any) -> RunView:
    state = RunState.model_validate(stored.state)
    runbook = site.service.recorder.runbook_of(stored.run)
    steps = {}
    for key, current in state.steps.items():
        place = find(runbook, state, key)
        if place is None or place.step.uses is None:
            continue
        verb = place.step.uses.partition(".")[2]
        params = current.params or (current.plan.params if current.plan else {})
        approval = place.step.approval if verb in CHANGING else None
        steps[key] = StepView(
            verb=verb,
            key=str(params.get("key", "")),
            status=current.status.value,
            required=approval.required if approval else 0,
            auto=key in state.auto,
            facts=current.facts,
        )
    return RunView(
        id=stored.run.id,
        story=stored.run.runbook_id,
        status=stored.run.status.value,
        is_over=stored.run.status.is_final,
        by_alert=state.origin.kind == "alert",
        begun=state.applied,
        steps=steps,
    )


def dump(history: History, faults: list[Fault], site: Site, folder: Path) -> None:
    """Write the journal's and the remote system's history of the runs that went wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "faults.txt").write_text("".join(f"{fault}\n" for fault in faults))
    runs = {fault.run for fault in faults if fault.run} or {run.id for run in history.runs}
    for run in history.runs:
        if run.id not in runs:
            continue
        incident = run.id.rpartition("-")[0]
        lines = [
            canonical_json({"seq": r.seq, "at": r.at.isoformat(), "kind": r.kind, "body": r.body})
            for r in history.records
            if run.id == r.run_id or (r.run_id is None and r.incident_id == incident)
        ]
        (folder / f"{run.id}.journal.jsonl").write_text("\n".join(lines) + "\n")
        effects = [
            json.dumps(dict(effect))
            for effect in history.effects
            if incident + "-" in f"{effect.get('by', '')}{effect.get('key', '')}"
            or run.story in f"{effect.get('key', '')}"
        ]
        (folder / f"{run.id}.remote.jsonl").write_text("\n".join(effects) + "\n")
        if run.story in site.stories:
            (folder / f"{run.id}.runbook.json").write_text(site.stories[run.story].text)
