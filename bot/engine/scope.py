"""The names an expression may read while a run goes on."""

from __future__ import annotations

from typing import Any

from bot.engine.state import RunState, StepStatus
from bot.language.runbook import Runbook


def scope_of(runbook: Runbook, state: RunState) -> dict[str, Any]:
    """Return plain JSON: inputs, steps, alert, inventory, incident, run.

    A finished step shows its facts, ``status`` and ``skipped``; the facts of a step that has
    none (skipped, failed) are null, so that a later step can use ``default``.
    """
    steps: dict[str, Any] = {}
    for step in runbook.steps:
        current = state.steps.get(step.id)
        if current is None or not current.status.is_final:
            continue
        steps[step.id] = {
            **dict.fromkeys(step.fact_names),
            **current.facts,
            "status": current.status.value,
            "skipped": current.status is StepStatus.SKIPPED,
        }
    return {
        "inputs": state.inputs,
        "steps": steps,
        "alert": state.alert.model_dump(mode="json") if state.alert else None,
        "inventory": {
            key: endpoint.model_dump(mode="json") for key, endpoint in state.endpoints.items()
        },
        "incident": {"id": state.incident_id},
        "run": {"id": state.run_id, "origin": state.origin.model_dump(mode="json")},
    }
