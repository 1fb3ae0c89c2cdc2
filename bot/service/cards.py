"""What people are shown of a run, as messages. Pure: commands and states in, messages out."""

from __future__ import annotations

import difflib
from typing import Any

import yaml

from bot.engine.state import RunState, StepState, StepStatus
from bot.language.runbook import Runbook, Step
from bot.model.ask import Ask
from bot.model.commands import AskApproval, AskDecision, AskPerson
from bot.model.containment import Containment
from bot.model.incident import Incident, Run, RunStatus
from bot.model.message import Button, Message
from bot.model.plan import Plan

_MARK = {
    StepStatus.PENDING: "·",
    StepStatus.PLANNING: "…",
    StepStatus.AWAITING_APPROVAL: "?",
    StepStatus.AWAITING_ANSWER: "?",
    StepStatus.AWAITING_DECISION: "!",
    StepStatus.AWAITING_RETRY: "↻",
    StepStatus.RUNNING: "…",
    StepStatus.VERIFYING: "…",
    StepStatus.UNDOING: "…",
    StepStatus.DONE: "✓",
    StepStatus.SKIPPED: "-",
    StepStatus.FAILED: "✗",
    StepStatus.UNDONE: "↩",
    StepStatus.STOPPED: "■",
}

MAX_COUNTS = 4
"""Counts of a step in the live message."""

MAX_CODE = 2_400
"""Characters of a plan in a message; Slack's text objects end at 3,000."""


def run_card(incident: Incident, run: Run, runbook: Runbook, state: RunState) -> Message:
    """The live message of a run: every step with where it stands."""
    lines = []
    for step in runbook.steps:
        current = state.steps[step.id]
        what = step.uses or "a person's answer"
        found = _found(step, current)
        lines.append(f"{_MARK[current.status]} {step.id}  {what}{found}{_step_suffix(current)}")
    facts = [
        ("Incident", f"{incident.id}, {incident.severity.value}, {incident.status.value}"),
        ("Runbook", f"{runbook.name} ({run.runbook_digest[:12]})"),
        ("Started by", run.origin.actor),
        ("Run", f"{run.id}: {_run_status(state)}"),
    ]
    facts += [(name, str(value)) for name, value in state.inputs.items()]
    paragraphs = (state.reason,) if state.reason else ()
    return Message(
        title=incident.title[:140],
        paragraphs=paragraphs,
        facts=tuple(facts),
        code="\n".join(lines),
        context="Everything here is in the journal: firedoor timeline " + incident.id,
    )


def _run_status(state: RunState) -> str:
    if state.status is not RunStatus.RUNNING:
        return state.status.value
    waiting = [
        f"{step_id} ({step.status.value.replace('_', ' ')})"
        for step_id, step in state.steps.items()
        if step.status.value.startswith("awaiting")
    ]
    return f"waiting: {', '.join(waiting)}" if waiting else "running"


def _found(step: Step, current: StepState) -> str:
    """The counts that a finished step found; names and lists stay in the evidence."""
    counts = [
        f"{name.replace('_', ' ')} {current.facts[name]}"
        for name in step.fact_names
        if isinstance(current.facts.get(name), int) and not isinstance(current.facts[name], bool)
    ]
    return f"  {', '.join(counts[:MAX_COUNTS])}" if counts else ""


def _step_suffix(step: StepState) -> str:
    parts = []
    if step.status not in (StepStatus.PENDING, StepStatus.DONE):
        parts.append(step.status.value.replace("_", " "))
    if step.approvals:
        parts.append(f"approved by {', '.join(step.approvals)}")
    if step.note:
        # On one line: a reason that someone gave must not look like another step.
        parts.append(" ".join(step.note.split()))
    return f"  ({'; '.join(parts)})" if parts else ""


def approval_card(incident: Incident, command: AskApproval, ask: Ask) -> Message:
    """The plan, who may approve it, and the buttons."""
    return Message(
        title=f"{incident.id}: approve {command.step}?",
        paragraphs=(command.plan.summary,),
        facts=(
            ("Needs", f"{command.required} of {', '.join(command.groups)}"),
            ("Plan", command.plan.digest[:12]),
            ("Until", _until(command.expires_at)),
        ),
        code=plan_text(command.plan),
        buttons=(
            Button(label="Approve", verb="approve", token=ask.token, style="primary"),
            Button(label="Reject", verb="reject", token=ask.token, style="danger"),
        ),
        context="An approval holds for exactly this plan. If the plan changes, you are asked anew.",
    )


def answer_card(incident: Incident, command: AskPerson, ask: Ask) -> Message:
    """A manual step's question."""
    return Message(
        title=f"{incident.id}: {command.step} needs an answer",
        paragraphs=(command.ask,),
        facts=(("Until", _until(command.expires_at)),),
        buttons=(Button(label="Answer", verb="answer", token=ask.token, style="primary"),),
    )


_CHOICE = {
    "retry": "Retry",
    "skip": "Skip this step",
    "stop": "Stop the run",
    "done": "It did happen",
}


def decision_card(incident: Incident, command: AskDecision, ask: Ask) -> Message:
    """A failure, and what can be done about it."""
    buttons = tuple(
        Button(
            label=_CHOICE[choice],
            verb=choice,
            token=ask.token,
            style="danger" if choice == "stop" else "primary" if choice == "retry" else None,
        )
        for choice in command.choices
    )
    return Message(
        title=f"{incident.id}: {command.step} did not work ({command.error})",
        paragraphs=(command.message,),
        facts=(("Phase", command.phase),),
        buttons=buttons,
        context="The run waits. Containments in force stay in force until lifted or expired.",
    )


def progress(card: Message, text: str) -> Message:
    """The same card with another last line, still open."""
    return card.model_copy(update={"context": text})


def closed(card: Message, text: str) -> Message:
    """The same card without buttons, saying how it ended."""
    return card.model_copy(update={"buttons": (), "context": text})


def opened_card(incident: Incident, channel: str, actor: str) -> Message:
    """An incident was opened; for the channel where everybody looks."""
    return Message(
        title=f"{incident.id} ({incident.severity.value}): {incident.title}"[:140],
        paragraphs=(f"Opened by {actor}. It is worked on in #{channel}.",),
    )


def expired_card(containment: Containment) -> Message:
    """A containment came to its end by its expiry."""
    control = containment.control
    return Message(
        title=f"Containment expired: {control.endpoint}",
        paragraphs=(
            f"{control.kind.value} of {control.endpoint} at {containment.gateway} ended at its "
            "expiry, and the gateway was brought back. If it is still needed, run the runbook "
            "again.",
        ),
        facts=(("Containment", containment.id), ("In force since", _until(containment.since))),
    )


def channel_name(incident: Incident, runbook_id: str) -> str:
    """A chat channel's name: lower case, digits and hyphens, at most 80 characters."""
    return f"{incident.id.lower()}-{runbook_id}"[:80]


def plan_text(plan: Plan) -> str:
    """The difference between before and after, cut where a message could not hold it."""
    if plan.before is None and plan.after is None:
        lines = _lines(plan.params)
    else:
        diff = difflib.unified_diff(_lines(plan.before), _lines(plan.after), n=2, lineterm="")
        # The first two lines name files; every other one of content begins with a sign or space.
        lines = [line for line in [*diff][2:] if not line.startswith("@@")]
    text = "\n".join(lines)
    if len(text) <= MAX_CODE:
        return text
    return text[:MAX_CODE] + "\n… (the whole plan: firedoor timeline --full)"


def _lines(value: Any) -> list[str]:
    """One fact a line, in the manner of YAML, which people read more easily than JSON."""
    text = yaml.safe_dump(value, sort_keys=True, allow_unicode=True, default_flow_style=False)
    return [line for line in text.splitlines() if line != "..."]


def _until(moment: Any) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC") if moment else "no limit"
