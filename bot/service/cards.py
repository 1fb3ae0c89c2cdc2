"""What people are shown of a run, as messages. Pure: commands and states in, messages out."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import yaml

from bot.engine.places import Place, every
from bot.engine.state import RunState, StepState, StepStatus
from bot.language.runbook import Runbook, Step
from bot.model import events
from bot.model.ask import Ask
from bot.model.commands import AskApproval, AskDecision, AskPerson, Remind
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

MAX_LINES = 40
"""Steps in the live message; what it cannot hold is counted."""

MAX_SUMMARIES = 10
"""Plans of a shared card that are summed up above their differences; the rest is counted."""

MAX_TOLD = 16
"""Lines of what plans are about; a message shows few facts well."""

MAX_CODE = 2_400
"""Characters of a plan in a message; Slack's text objects end at 3,000."""


def run_card(incident: Incident, run: Run, runbook: Runbook, state: RunState) -> Message:
    """The live message of a run: every step with where it stands."""
    lines = [
        _step_line(place, state.step(place.key))
        for place in every(runbook, state)
        if not _is_tidied_away(place, state)
    ]
    if len(lines) > MAX_LINES:
        more = len(lines) - MAX_LINES
        lines = [*lines[:MAX_LINES], f"… and {more} more: firedoor status {run.id}"]
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


def _step_line(place: Place, current: StepState) -> str:
    step = place.step
    depth = place.key.count(".")
    mark, name = _MARK[current.status], place.key
    found, suffix = _found(step, current), _step_suffix(current)
    return f"{'  ' * depth}{mark} {name}  {what_it_does(step)}{found}{suffix}"


def what_it_does(step: Step) -> str:
    """Return in a few words what a step is there for."""
    if step.parallel is not None:
        count = len(step.parallel.branches)
        return f"{count} branches side by side" + (
            ", one will do" if step.parallel.join == "any" else ""
        )
    if step.foreach is not None:
        return f"for each {step.foreach.name}"
    if step.call is not None:
        return f"the runbook {step.call.runbook}"
    return step.uses or "a person's answer"


def _is_tidied_away(place: Place, state: RunState) -> bool:
    """Leave out iterations that are done; what waits or went wrong is worth a line."""
    if place.frame.outer is None:
        return False
    return state.step(place.key).status in (
        StepStatus.DONE,
        StepStatus.SKIPPED,
        StepStatus.PENDING,
    )


def _run_status(state: RunState) -> str:
    if state.status is not RunStatus.RUNNING:
        return state.status.value
    if state.paused is not None:
        return f"paused by {state.paused_by}"
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
    if step.approvals and not step.overridden:
        parts.append(f"approved by {', '.join(step.approvals)}")
    if step.note:
        # On one line: a reason that someone gave must not look like another step.
        parts.append(" ".join(step.note.split()))
    return f"  ({'; '.join(parts)})" if parts else ""


def approval_card(incident: Incident, command: AskApproval, ask: Ask) -> Message:
    """The plans, who may approve them, and the buttons."""
    steps = [command.step, *command.also]
    buttons = [
        Button(label="Approve", verb="approve", token=ask.token, style="primary"),
        Button(label="Reject", verb="reject", token=ask.token, style="danger"),
    ]
    context = "An approval holds for exactly this plan. If the plan changes, you are asked anew."
    if command.also:
        context = f"One approval is for all {len(steps)} steps; one rejection is as well. {context}"
    if command.break_glass:
        buttons.append(Button(label="Break glass", verb="override", token=ask.token))
        context += f" In an emergency {command.break_glass} may go on alone, with a reason."
    summaries = [plan.summary for plan in (command.plan, *command.also.values())]
    if len(summaries) > MAX_SUMMARIES:
        more = len(summaries) - MAX_SUMMARIES
        summaries = [*summaries[:MAX_SUMMARIES], f"… and {more} more, see below."]
    told, guards = _briefs({command.step: command.plan, **command.also})
    return Message(
        title=f"{incident.id}: approve {', '.join(steps)}?"[:140],
        paragraphs=(*summaries, *guards),
        facts=(
            ("Needs", f"{command.required} of {', '.join(command.groups)}"),
            ("Plan", ask.digest[:12]),
            ("Until", _until(command.expires_at)),
            *told,
        ),
        code=plans_text({command.step: command.plan, **command.also}),
        buttons=tuple(buttons),
        context=context,
    )


def _briefs(plans: Mapping[str, Plan]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return what the plans on a card are known to be about, and what guard rails say of them."""
    told: list[tuple[str, str]] = []
    guards: list[str] = []
    for step, plan in plans.items():
        if plan.brief is None:
            continue
        before = f"{step}: " if len(plans) > 1 else ""
        told += [(f"{before}{name}", value) for name, value in plan.brief.facts]
        guards += [f"{before}{sentence}" for sentence in plan.brief.guards]
    if len(told) > MAX_TOLD:
        told = [*told[:MAX_TOLD], ("More", "firedoor status shows every plan")]
    return told, list(dict.fromkeys(guards))


def answer_card(incident: Incident, command: AskPerson, ask: Ask) -> Message:
    """A manual step's question."""
    asked = [("Asked of", command.assignee)] if command.assignee else []
    due = [("Due", _until(command.due_at))] if command.due_at else []
    return Message(
        title=f"{incident.id}: {command.step} needs an answer"[:140],
        paragraphs=(command.ask,),
        facts=(*asked, *due, ("Until", _until(command.expires_at))),
        buttons=(Button(label="Answer", verb="answer", token=ask.token, style="primary"),),
    )


def reminder_card(incident: Incident, ask: Ask, command: Remind, now: datetime) -> Message:
    """A question that still waits, said again."""
    waited_min = int((now - ask.asked_at).total_seconds() // 60)
    state = "is overdue" if command.overdue else "still needs an answer"
    who = f" of {', '.join(ask.groups)}" if ask.groups else ""
    return Message(
        title=f"{incident.id}: {ask.step_id} {state}"[:140],
        paragraphs=(str(ask.body.get("ask", "")), f"Asked{who} {waited_min} min ago."),
        buttons=(Button(label="Answer", verb="answer", token=ask.token, style="primary"),),
    )


def override_card(incident: Incident, event: events.Overridden) -> Message:
    """The glass was broken; for the channel where everybody looks."""
    return Message(
        title=f"{incident.id}: glass broken at {event.step}"[:140],
        paragraphs=(
            f"{event.by} let {event.step} go on without its approval.",
            f"Reason: {event.reason}",
        ),
        context="Somebody else has to review this.",
    )


def review_card(incident: Incident, ask: Ask, event: events.Overridden) -> Message:
    """The glass was broken, and who is to look at it."""
    return override_card(incident, event).model_copy(
        update={
            "facts": (("Review by", ", ".join(ask.groups)),),
            "buttons": (Button(label="Review", verb="review", token=ask.token, style="primary"),),
            "context": f"The review is mandatory, and not for {event.by}.",
        }
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
        title=f"{incident.id}: {command.step} did not work ({command.error})"[:140],
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
        title=f"Containment expired: {control.place}",
        paragraphs=(
            f"{control.kind.value} of {control.place} at {containment.gateway} ended at its "
            "expiry, and the gateway was brought back. If it is still needed, run the runbook "
            "again.",
        ),
        facts=(("Containment", containment.id), ("In force since", _until(containment.since))),
    )


def channel_name(incident: Incident, runbook_id: str) -> str:
    """A chat channel's name: lower case, digits and hyphens, at most 80 characters."""
    return f"{incident.id.lower()}-{runbook_id}"[:80]


def plans_text(plans: Mapping[str, Plan]) -> str:
    """The differences of one plan, or of several with their steps' names between them."""
    if len(plans) == 1:
        return plan_text(next(iter(plans.values())))
    share = MAX_CODE // len(plans)
    return "\n".join(f"# {key}\n{plan_text(plan, share)}" for key, plan in plans.items())


def plan_text(plan: Plan, limit: int = MAX_CODE) -> str:
    """The difference between before and after, cut where a message could not hold it."""
    if plan.before is None and plan.after is None:
        lines = _lines(plan.params)
    else:
        diff = difflib.unified_diff(_lines(plan.before), _lines(plan.after), n=2, lineterm="")
        # The first two lines name files; every other one of content begins with a sign or space.
        lines = [line for line in [*diff][2:] if not line.startswith("@@")]
    text = "\n".join(lines)
    if len(text) <= limit:
        return text
    return text[:limit] + "\n… (the whole plan: firedoor timeline --full)"


def _lines(value: Any) -> list[str]:
    """One fact a line, in the manner of YAML, which people read more easily than JSON."""
    text = yaml.safe_dump(value, sort_keys=True, allow_unicode=True, default_flow_style=False)
    return [line for line in text.splitlines() if line != "..."]


def _until(moment: Any) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC") if moment else "no limit"
