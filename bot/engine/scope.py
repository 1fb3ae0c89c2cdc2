"""The names an expression may read while a run goes on."""

from __future__ import annotations

from typing import Any

from bot.engine.places import Frame
from bot.engine.state import RunState, StepStatus
from bot.language.runbook import Step, within


def scope_of(frame: Frame, state: RunState) -> dict[str, Any]:
    """Return plain JSON: inputs, steps, alert, inventory, incident, run, and an iteration's names.

    A step shows its facts, ``status`` and ``skipped``; the facts of a step that has none (it was
    skipped, it failed, it never began) are null, so that a later step can use ``default``.
    """
    return {
        "inputs": frame.inputs,
        "steps": _steps(frame, state),
        "alert": state.alert.model_dump(mode="json") if state.alert else None,
        "inventory": {
            key: endpoint.model_dump(mode="json") for key, endpoint in state.endpoints.items()
        },
        "incident": {"id": state.incident_id},
        "run": {"id": state.run_id, "origin": state.origin.model_dump(mode="json")},
        **frame.names,
    }


def _steps(frame: Frame, state: RunState) -> dict[str, Any]:
    """What the steps of a frame, and of those around it, have left."""
    if frame.outer is not None:
        seen, own = _steps(frame.outer, state), frame.steps
    else:
        seen, own = {}, (*frame.book.steps, *frame.book.always)
    for step in within(own, into_loops=False):
        seen[step.id] = _left_by(step, frame.prefix + step.id, state)
    return seen


def _left_by(step: Step, key: str, state: RunState) -> dict[str, Any]:
    current = state.step(key)
    facts = {**dict.fromkeys(step.fact_names), **current.facts}
    if step.foreach is not None and current.items is not None:
        facts["items"] = list(current.items)
    return {
        **facts,
        "status": current.status.value,
        "skipped": current.status is StepStatus.SKIPPED,
    }
