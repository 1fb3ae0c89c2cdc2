"""The sentences of the timeline, one function a kind of record. Data in, text out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from bot.model import events
from bot.model.commands import AskApproval
from bot.model.containment import Containment, Control, ControlKind, GatewayTrouble
from bot.model.outcome import Evidence, Proof
from bot.postmortem.document import Level
from bot.postmortem.reading import Read
from bot.postmortem.text import (
    clip,
    counted,
    facts_text,
    full_moment,
    json_text,
    listed,
    moment_near,
    plain,
    quoted,
    sentence,
    short,
    size,
    value_text,
)

Who = Callable[[str], str]
Told = tuple[str, Level]

MINOR_FACTS = frozenset({"message_sent", "message_updated", "note"})

MOST_ON_CARD = 8
"""Steps of a shared card that one sentence names; the rest is counted."""


# --- events of a run ---------------------------------------------------------------------------


def run_event(read: Read, who: Who) -> Told:  # one branch an event
    """Tell an event other than those whose meaning depends on an open question."""
    match read.event:
        case events.RunStarted() as event:
            return _run_started(event, who), Level.INFO
        case events.Planned() as event:
            return _planned(event), Level.INFO
        case events.PlanDrifted() as event:
            return _plan_drifted(event), Level.FAILURE
        case events.Answered() as event:
            values = f": {facts_text(event.values)}" if event.values else ""
            return sentence(f"{who(event.by)} answered {event.step}{values}"), Level.DECISION
        case events.Decided() as event:
            choice = _CHOICE[event.choice].format(step=plain(event.step, 80))
            return f"{who(event.by)} decided {choice}.", Level.DECISION
        case events.Verified() as event:
            return _verified(event), Level.CHANGE
        case events.Undone() as event:
            return f"{plain(event.step, 80)} was taken back.", Level.CHANGE
        case events.StepFailed() as event:
            return _step_failed(event), Level.FAILURE
        case events.Reminded() as event:
            return f"People were asked again about {plain(event.step, 80)}.", Level.INFO
        case _ if read.event is not None and (said := _said_to_run(read.event, who)):
            return said, Level.DECISION
        case _:
            return sentence(plain(read.record.kind, 80)), Level.INFO


def _said_to_run(event: events.Event, who: Who) -> str:
    """Tell what a person said to a run as a whole; empty for any other event."""
    match event:
        case events.Cancelled():
            text = _because(f"{who(event.by)} cancelled the run", event.reason)
            if event.undo:
                return f"{text} Its changes are taken back, the last one first."
            return f"{text} Containments stay in force until lifted or expired."
        case events.Paused():
            text = _because(f"{who(event.by)} paused the run", event.reason)
            return f"{text} Nothing more begins; containments still expire."
        case events.Resumed():
            return f"{who(event.by)} let the run go on."
        case events.Skipped():
            return _because(f"{who(event.by)} skipped {plain(event.step, 80)}", event.reason)
        case events.Retried():
            return f"{who(event.by)} had {plain(event.step, 80)} tried again."
        case events.UndoAsked():
            asked = f"{who(event.by)} asked to take back every change of the run"
            return _because(asked, event.reason)
        case _:
            return ""


def _because(text: str, reason: str) -> str:
    return sentence(f"{text}: {plain(reason, 300)}" if reason else text)


_CHOICE: Mapping[str, str] = {
    "retry": "to try {step} again",
    "skip": "to go on without {step}",
    "stop": "to stop the run at {step}",
    "done": "that {step} did happen",
}

_PHASE: Mapping[str, str] = {
    "plan": "could not be planned",
    "apply": "failed while it was applied",
    "verify": "could not be proven",
    "undo": "could not be taken back",
    "run": "did not work",
}


def _run_started(event: events.RunStarted, who: Who) -> str:
    inputs = f" Inputs: {facts_text(event.inputs)}." if event.inputs else ""
    auto = f" Allowed without a person: {listed(event.auto)}." if event.auto else ""
    again = ""
    if event.rerun_of:
        left = counted(len(event.kept), "step")
        again = f" It runs {plain(event.rerun_of, 80)} again and keeps what {left} left."
    began = f"Run {plain(event.run_id, 80)} was started by {who(event.origin.actor)}."
    return f"{began}{again}{inputs}{auto}"


def _planned(event: events.Planned) -> str:
    return sentence(f"Plan for {plain(event.step, 80)}: {plain(event.plan.summary, 400)}")


def _plan_drifted(event: events.PlanDrifted) -> str:
    summary = sentence(plain(event.plan.summary, 400))
    return (
        f"What {plain(event.step, 80)} would change has itself changed; nothing was changed, and "
        f"earlier approvals are void. New plan: {summary}"
    )


def _step_failed(event: events.StepFailed) -> str:
    message = sentence(plain(event.message, 600))
    return f"{plain(event.step, 80)} {_PHASE[event.phase]} ({event.error}): {message}"


def _verified(event: events.Verified) -> str:
    proof = event.outcome.proof
    if proof is None or not proof.checks:
        return f"{plain(event.step, 80)} was verified; no checks were recorded."
    return f"{plain(event.step, 80)}: {proof_text(proof)}"


def proof_text(proof: Proof) -> str:
    """Return ``Proven from outside: 17 of 17 checks hold.``, or which do not hold."""
    good = sum(check.ok for check in proof.checks)
    total = len(proof.checks)
    noun = "check holds" if total == 1 else "checks hold"
    if proof.ok:
        return f"Proven from outside: {good} of {total} {noun}."
    bad = [plain(check.name, 60) for check in proof.checks if not check.ok]
    named = clip(f" Not: {listed(bad)}.", 400) if bad else ""
    return f"Not proven: {good} of {total} {noun}.{named}"


def applied(read: Read) -> Told:
    """A change made, a read done, or notices composed: told by what it left behind."""
    event = read.event
    assert isinstance(event, events.Applied)  # noqa: S101  # the caller matched it
    outcome, step = event.outcome, plain(event.step, 80)
    # A step that wrote notices repeats in its facts what the notices say.
    facts = "" if outcome.notices else facts_text(outcome.facts)
    parts = [f"{step}: {facts}."] if facts else []
    if outcome.notices:
        audiences = listed(sorted({plain(notice.audience, 60) for notice in outcome.notices}))
        parts.append(f"{step}: {counted(len(outcome.notices), 'notice')} written for {audiences}.")
    if outcome.proof is not None:
        parts.append(proof_text(outcome.proof))
    change = outcome.proof is not None or any(c.kind == "verify_step" for c in read.commands)
    return " ".join(parts) or f"{step} was done.", Level.CHANGE if change else Level.INFO


def asked(read: Read) -> str:
    return f"The question of {read.key[1] or 'a step'} is before people."


def ask_approval(command: AskApproval, at: datetime, step: str = "") -> str:
    """Say who is asked for a yes; ``step`` is the one that the sentence before is about."""
    until = f" until {moment_near(command.expires_at, at)}" if command.expires_at else ""
    need = counted(command.required, "approval")
    groups = listed((plain(group, 80) for group in command.groups), "or")
    digest = short(command.digest or command.plan.digest)
    if not command.also:
        what = "It" if step in ("", command.step) else plain(command.step, 80)
        return f"{what} needs {need} of {groups}{until} (plan {digest}…)."
    named = [plain(key, 80) for key in (command.step, *command.also)]
    steps = listed([*named[:MOST_ON_CARD], *_more(named)])
    return clip(f"One card for {steps} needs {need} of {groups}{until} (plans {digest}…).", 1_000)


def _more(named: list[str]) -> list[str]:
    left = len(named) - MOST_ON_CARD
    return [f"{left} more"] if left > 0 else []


# --- facts of an incident ----------------------------------------------------------------------


def control_text(control: Control) -> str:
    """Return what a control does, as ``GET /api/orders/{order_id} is closed``."""
    endpoint = plain(control.place, 200)
    match control.kind:
        case ControlKind.THROTTLE:
            rate = "a few" if control.rate_per_s is None else f"{control.rate_per_s:g}"
            noun = "request" if rate == "1" else "requests"
            return f"{endpoint} is held to {rate} {noun} a second"
        case ControlKind.BLOCK:
            return f"{endpoint} is refused to {_named(control)}"
        case ControlKind.ALLOW_ONLY:
            return f"{endpoint} is open to {_named(control)} only"
        case ControlKind.SHADOW:
            return f"{endpoint} is watched for what a {_word(control.would)} would refuse"
        case _:
            return f"{endpoint} is closed"


def control_noun(containment: Containment) -> str:
    """Return ``the close of GET /api/orders/{order_id} at edge``."""
    noun = _word(containment.control.kind)
    if containment.control.kind is ControlKind.BLOCK:
        noun = f"block of {_named(containment.control)}"
    return f"the {noun} of {plain(containment.control.place, 200)} at {containment.gateway}"


def _named(control: Control) -> str:
    named = [plain(str(principal), 120) for principal in control.principals[:3]]
    more = len(control.principals) - 3
    return ", ".join([*named, *([f"{more} more"] if more > 0 else [])])


def _word(kind: ControlKind | None) -> str:
    return str(kind).replace("_", "-")


def evidence_kept(evidence: Evidence) -> str:
    summary = sentence(plain(evidence.summary, 300)) if evidence.summary else ""
    head = f"Kept {plain(evidence.id, 120)} ({size(evidence.size_bytes)}, "
    return f"{head}sha256 {short(evidence.sha256)}…). {summary}".strip()


def gateway(read: Read, name: str) -> Told:
    version = short(read.text("version"))
    if read.record.kind == "gateway_converged":
        controls = read.record.body.get("controls")
        having = f", {counted(controls, 'control')}" if isinstance(controls, int) else ""
        return f"{name} reports version {version}{having}.", Level.INFO
    message, wanted = read.text("message", 500), short(read.text("wanted"))
    seen = read.text("seen", 120)
    match read.text("what"):
        case GatewayTrouble.SILENT:
            said = f"{name} gave no answer: {message}"
        case GatewayTrouble.STUCK:
            said = f"{name} could not be brought to what is wanted: {message}"
        case GatewayTrouble.REPLACED | GatewayTrouble.BARRED:
            said = f"{name}: {message}"
        case GatewayTrouble.ELSEWHERE if not seen:
            said = f"{name} has nothing of Firedoor's, and {wanted} is wanted; it is brought back"
        case _ if seen:  # and of version 0.1, which said no more
            back = f": {message}" if message else "; it is brought back"
            said = f"{name} has version {seen} and not {wanted}{back}"
        case _:
            said = f"{name} gave no answer: {message}"
    return sentence(said), Level.FAILURE


def _incident_opened(read: Read, who: Who) -> Told:
    severity, title = read.text("severity", 20), read.record.body.get("title", "")
    head = f"Incident {plain(read.record.incident_id or '', 80)} was opened"
    head += f" ({severity})" if severity else ""
    head = sentence(f"{head}: {quoted(title)}" if title else head)
    alert = read.alert
    if alert is None:
        return f"{head} By {who(read.record.actor)}.", Level.INFO
    source = plain(alert.source, 80)
    return f"{head} Alert of {source}, firing since {full_moment(alert.starts_at)}.", Level.INFO


def _alert_joined(read: Read, _who: Who) -> Told:
    source = read.text("source", 80) or "a monitor"
    mark = short(read.text("fingerprint"))
    return f"A further alert of {source} ({mark}) joined the incident.", Level.INFO


def _alert_resolved(read: Read, _who: Who) -> Told:
    source = read.text("source", 80) or "a monitor"
    mark = short(read.text("fingerprint"))
    return f"The alert of {source} ({mark}) no longer fires.", Level.INFO


def _channel_opened(read: Read, _who: Who) -> Told:
    name = read.text("name", 80) or read.text("channel", 80) or "of the incident"
    return f"The channel {name} was opened.", Level.INFO


def _place(read: Read) -> str:
    ways = {"slack": "in Slack", "email": "by e-mail"}
    way, to = read.text("way", 40), read.text("to", 120)
    return " ".join(part for part in (ways.get(way, way), f"({to})" if to else "") if part)


def _notice_sent(read: Read, _who: Who) -> Told:
    audience, subject = read.text("audience", 80) or "Someone", read.text("subject")
    about = f": {quoted(subject)}" if subject else ""
    return sentence(f"{audience} was told {_place(read)}{about}"), Level.CHANGE


def notice_problem(read: Read) -> str:
    """Return why a notice was not delivered; the record may say it under several names."""
    return next((t for n in ("error", "message", "reason") if (t := read.text(n, 300))), "")


def _notice_failed(read: Read, _who: Who) -> Told:
    audience, problem = read.text("audience", 80), notice_problem(read)
    detail = f": {problem}" if problem else ""
    if not audience:
        message = read.text("key", 120)
        return sentence(f"The message {message} could not be sent{detail}"), Level.FAILURE
    return sentence(f"{audience} could not be told {_place(read)}{detail}"), Level.FAILURE


def _message_sent(read: Read, _who: Who) -> Told:
    key = read.text("key", 120) or json_text(read.record.body, 160)
    return f"The message {key} was sent.", Level.INFO


def _held(read: Read, who: Who) -> Told | None:
    if read.containment is None:
        return None
    held = read.containment
    until = moment_near(held.expires_at, read.record.at)
    text = f"{control_text(held.control)} at {held.gateway} until {until}"
    return f"{text}, answered for by {who(held.owner)}.", Level.CHANGE


def _lifted(read: Read, who: Who) -> Told | None:
    if read.containment is None:
        return None
    by = read.containment.lifted_by or read.record.actor
    return f"{who(by)} lifted {control_noun(read.containment)}.", Level.CHANGE


def _expired(read: Read, _who: Who) -> Told | None:
    if read.containment is None:
        return None
    noun = control_noun(read.containment)
    return f"{noun[0].upper()}{noun[1:]} ended at its expiry.", Level.CHANGE


def _extended(read: Read, who: Who) -> Told | None:
    if read.containment is None:
        return None
    until = moment_near(read.containment.expires_at, read.record.at)
    noun = control_noun(read.containment)
    return f"{who(read.record.actor)} extended {noun} to {until}.", Level.DECISION


def _handed_over(read: Read, who: Who) -> Told | None:
    if read.containment is None:
        return None
    noun = control_noun(read.containment)
    return (
        f"{who(read.record.actor)} handed {noun} over to {who(read.containment.owner)}.",
        Level.DECISION,
    )


def _withdrawn(read: Read, _who: Who) -> Told | None:
    if read.containment is None:
        return None
    held = read.containment
    return f"{held.gateway} refused {control_noun(held)}; it was never in force.", Level.FAILURE


def _status_changed(read: Read, _who: Who) -> Told:
    return f"Status: {read.text('from', 40)} to {read.text('to', 40)}.", Level.INFO


def _break_glass_reviewed(read: Read, who: Who) -> Told:
    step, by = read.key[1] or "a step", read.record.body.get("by")
    whose = f" by {who(by)}" if isinstance(by, str) and by else ""
    text = f"{who(read.record.actor)} reviewed that the glass was broken{whose} at {step}"
    finding = read.text("finding", 600)
    return sentence(f"{text}: {finding}" if finding else text), Level.DECISION


def _note(read: Read, _who: Who) -> Told:
    step = read.key[1] or "A step"
    return f"{step} noted for its own recovery: {value_text(read.record.body, 300)}.", Level.INFO


FACTS: Mapping[str, Callable[[Read, Who], Told | None]] = {
    "incident_opened": _incident_opened,
    "alert_joined": _alert_joined,
    "alert_resolved": _alert_resolved,
    "channel_opened": _channel_opened,
    "notice_sent": _notice_sent,
    "notice_failed": _notice_failed,
    "message_sent": _message_sent,
    "containment_held": _held,
    "containment_lifted": _lifted,
    "containment_expired": _expired,
    "containment_extended": _extended,
    "containment_handed_over": _handed_over,
    "containment_withdrawn": _withdrawn,
    "status_changed": _status_changed,
    "break_glass_reviewed": _break_glass_reviewed,
    "note": _note,
}
"""How each known kind is told. None: its body cannot be read, so the record is shown as it is."""
