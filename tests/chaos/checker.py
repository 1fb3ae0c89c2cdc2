"""Compares what the journal says with what the remote system saw, and names every fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bot.errors import JournalBroken
from bot.model.ask import Ask, StoredParcel
from bot.model.containment import Containment
from bot.model.journal import Record, verify_chain

CHANGING = ("set", "trip", "mint", "burn", "close", "lift")
"""Actions that change the remote system, without their family."""


@dataclass(frozen=True)
class StepView:
    """What a step is and how it ended. ``required``: how many must have approved it."""

    verb: str
    key: str
    status: str
    required: int = 0
    auto: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunView:
    """A run. ``begun`` are its changes, in the order in which they were begun."""

    id: str
    story: str
    status: str
    is_over: bool
    by_alert: bool = False
    begun: tuple[str, ...] = ()
    steps: Mapping[str, StepView] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """All that is left of a company after chaos.

    ``effects`` is the remote system's log; ``keys`` are its live keys by owner; ``controls`` what
    each gateway holds, as digests; ``wanted`` what the store says it should.
    """

    runs: Sequence[RunView]
    records: Sequence[Record]
    asks: Sequence[Ask] = ()
    parcels: Sequence[StoredParcel] = ()
    containments: Sequence[Containment] = ()
    effects: Sequence[Mapping[str, Any]] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, Sequence[str]] = field(default_factory=dict)
    controls: Mapping[str, str] = field(default_factory=dict)
    wanted: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """
    Something that must never be. ``kind`` is lost, doubled, stuck, or what rule was broken.

    ``late``: it was done twice, by a worker that could not know any more that another had its
    place. It is counted apart.
    """

    kind: str
    run: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.run}: {self.what}"


Said = Iterator[tuple[str, str]]
Effects = Sequence[Mapping[str, Any]]


def check(history: History) -> list[Fault]:
    """Return every fault, those of the whole company first (``run`` is empty then)."""
    found = [*_chain(history), *_gateways(history), *_strangers(history)]
    for run in history.runs:
        found += _run(history, run)
    return found


LATE_S = 0.8
"""Somewhat less than the shortest lease: how long a request was held up, if whoever sent it was
stopped between its last look at the lease and the sending."""


def is_late(effect: Mapping[str, Any]) -> bool:
    """Tell whether an effect was asked for before its worker was stopped, and came after: the
    worker could not know any more, and only the other system could."""
    return bool(effect["at"] - effect.get("asked", effect["at"]) > LATE_S)


def _doubled(effects: Effects, kind: str = "doubled") -> str:
    return "late" if any(is_late(effect) for effect in effects) else kind


def repeated_mails(history: History) -> int:
    """Return how many mails came more than once, which is allowed: nobody can look for a mail."""
    mails = Counter(e["key"] for e in history.effects if e["op"] == "mail")
    return sum(count - 1 for count in mails.values())


# --- the whole company ------------------------------------------------------------------------


def _chain(history: History) -> Iterator[Fault]:
    try:
        verify_chain(history.records)
    except JournalBroken as error:
        yield Fault("chain", "", str(error))


def _gateways(history: History) -> Iterator[Fault]:
    for name, wanted in history.wanted.items():
        if history.controls.get(name) != wanted:
            yield Fault("containment", "", f"{name} does not hold what the store wants")


def _strangers(history: History) -> Iterator[Fault]:
    """Effects that no step of any run made."""
    known = {f"{run.id}:{key}" for run in history.runs for key in run.begun}
    for effect in history.effects:
        by = effect.get("by")
        if by is not None and ":".join(str(by).split(":")[:2]) not in known:
            yield Fault("unaccounted", "", f"{effect['op']} by {by}, which no journal knows")


# --- one run ----------------------------------------------------------------------------------


def _run(history: History, run: RunView) -> list[Fault]:
    records = [record for record in history.records if record.run_id == run.id]
    found: list[Fault] = []
    if not run.is_over:
        found.append(Fault("stuck", run.id, f"{run.status}: {_standing(run)}"))
    for key in run.begun:
        step = run.steps[key]
        mine = [record for record in records if record.step_id == key]
        made = [e for e in history.effects if e.get("by") == f"{run.id}:{key}"]
        back = [e for e in history.effects if e.get("by") == f"{run.id}:{key}:undo"]
        found += [
            Fault(kind, run.id, f"{key} ({step.verb}): {what}")
            for kind, what in (
                *_effect(run, step, mine, made),
                *_return(step, mine, made, back),
                *_state(history, run, key, step, mine, made),
                *_people(run, step, records, mine, made),
            )
        ]
    found += _order(history, run)
    found += _asks(history, run, records)
    found += _messages(history, run)
    return found


def _standing(run: RunView) -> str:
    return ", ".join(f"{key} {step.status}" for key, step in run.steps.items())


def _has(records: Iterable[Record], kind: str) -> bool:
    return any(record.kind == kind for record in records)


def _failed(records: Iterable[Record], phase: str) -> list[str]:
    """Return the classes of error of a step's failures in one phase."""
    events = (r.body["event"] for r in records if r.kind == "step_failed")
    return [event["error"] for event in events if event["phase"] == phase]


def _in_log(step: StepView) -> bool:
    """Whether each effect of the step stands in the remote system's log with its own name."""
    return step.verb in ("set", "trip", "mint", "burn")


def _effect(run: RunView, step: StepView, mine: Sequence[Record], made: Effects) -> Said:
    if not _in_log(step):
        return
    # Of keys made twice all but one are taken back: the live ones are counted in ``_state``.
    if len(made) > 1 and step.verb != "mint":
        yield _doubled(made), f"made {len(made)} times"
    if made:
        known = _has(mine, "applied") or _failed(mine, "apply")
        if run.is_over and not known:
            yield "lost", "it was made, and the journal knows nothing of it"
    elif _has(mine, "applied"):
        yield "lost", "the journal says that it was made, and it was not"


def _return(step: StepView, mine: Sequence[Record], made: Effects, back: Effects) -> Said:
    if step.verb not in ("set", "trip"):
        return
    if len(back) > len(made):
        yield _doubled(back), f"taken back {len(back)} times, made {len(made)} times"
    if back and not (_has(mine, "undone") or _failed(mine, "undo")):
        yield "lost", "it was taken back, and the journal knows nothing of it"
    if _has(mine, "undone") and len(back) < len(made):
        yield _doubled(made, "lost"), "the journal says that it was taken back, and it was not"


def _state(
    history: History,
    run: RunView,
    key: str,
    step: StepView,
    mine: Sequence[Record],
    made: Effects,
) -> Said:
    """What must be there at the end."""
    applied, undone = _has(mine, "applied"), _has(mine, "undone")
    match step.verb:
        case "set" | "trip":
            value = history.values.get(step.key)
            if undone and value is not None:
                yield _doubled(made, "lost"), f"it was taken back, and {step.key} is {value}"
            elif applied and not undone and not _failed(mine, "undo") and value != "shut":
                yield "lost", f"it was set, and {step.key} is {value}"
        case "mint":
            live = len(history.keys.get(step.key, ()))
            if undone and live:
                yield _doubled(made, "lost"), f"it was taken back, and {live} keys live"
            elif applied and not undone and not _failed(mine, "undo") and live != 1:
                yield (_doubled(made) if live else "lost"), f"{live} keys live"
            elif live > 1:
                yield _doubled(made), f"{live} keys live"
        case "close":
            held = [c for c in history.containments if (c.run_id, c.step_id) == (run.id, key)]
            if len(held) > 1:
                yield "doubled", f"{len(held)} containments"
            in_force = any(c.lifted_at is None for c in held)
            lifted = {
                other.key
                for name, other in run.steps.items()
                if other.verb == "lift" and name in run.begun
            }
            if undone and in_force:
                yield "lost", "it was taken back, and its containment is in force"
            is_free = undone or _failed(mine, "undo") or step.key in lifted
            if applied and not is_free and not in_force:
                yield "lost", "it was held, and no containment is in force"


def _people(
    run: RunView,
    step: StepView,
    records: Sequence[Record],
    mine: Sequence[Record],
    made: Effects,
) -> Said:
    """Whoever had to be asked was, and said yes before the effect."""
    for effect in made:
        if step.required:
            yes = {
                r.actor for r in mine if r.kind == "approved" and r.at.timestamp() <= effect["at"]
            }
            if len(yes) < step.required:
                yield "unapproved", f"made with {len(yes)} of {step.required} approvals"
        elif run.by_alert and not step.auto:
            words = ("approved", "answered", "decided")
            if not any(r.kind in words and r.at.timestamp() <= effect["at"] for r in records):
                yield "unapproved", "an alert's run made it before anybody stood behind the run"
    murky = [error for phase in ("apply", "undo") for error in _failed(mine, phase)]
    was_told = _has(mine, "asked") or _has(records, "cancelled") or _ended_by_itself(step)
    if "ambiguous" in murky and not was_told:
        yield "unasked", "whether it was made is not known, and nobody was asked"


def _ended_by_itself(step: StepView) -> bool:
    """A step that fails while its run is being ended is not asked about: it is told of."""
    return step.status in ("failed", "undone", "stopped")


def _order(history: History, run: RunView) -> Iterator[Fault]:
    """Changes are taken back in the reverse of the order in which they were begun."""
    back: list[str] = []
    for effect in history.effects:
        by = str(effect.get("by", "")).split(":")
        if by[0] == run.id and by[-1] == "undo" and by[1] not in back:
            back.append(by[1])
    expected = [key for key in reversed(run.begun) if key in back]
    if back != expected:
        yield Fault("order", run.id, f"taken back as {back}, begun as {list(run.begun)}")


def _asks(history: History, run: RunView, records: Sequence[Record]) -> Iterator[Fault]:
    asks = [ask for ask in history.asks if ask.run_id == run.id and ask.kind != "review"]
    still_open = Counter((ask.step_id, ask.kind, ask.digest) for ask in asks if not ask.closed)
    for (step, kind, _), count in still_open.items():
        if count > 1:
            yield Fault("asks", run.id, f"{step}: {count} open questions of one card ({kind})")
        if run.is_over:
            yield Fault("asks", run.id, f"{step}: a question is open after the end ({kind})")
    asked = Counter(r.step_id for r in records if r.kind == "asked")
    put = Counter(ask.step_id for ask in asks)
    for step in asked | put:
        if asked[step] != put[step]:
            what = f"{step}: {put[step]} questions, and {asked[step]} in the journal"
            yield Fault("asks", run.id, what)
    for kind in ("answered", "decided"):
        words = Counter(r.step_id for r in records if r.kind == kind)
        for step, count in words.items():
            if count > put[step]:
                yield Fault("asks", run.id, f"{step}: {kind} {count} times for {put[step]} asks")


def _messages(history: History, run: RunView) -> Iterator[Fault]:
    posts = Counter(e["key"] for e in history.effects if e["op"] == "post")
    mails = Counter(e["key"] for e in history.effects if e["op"] == "mail")
    incident = run.id.rpartition("-")[0]
    for stored in history.parcels:
        key, kind = stored.parcel.key, stored.parcel.kind
        if stored.parcel.incident_id != incident:
            continue
        if stored.status != "sent" and run.is_over:
            yield Fault("message unsent", run.id, f"{key} is {stored.status} {stored.error}")
        if kind == "post" and posts[key] > 1:
            posted = [e for e in history.effects if e["op"] == "post" and e["key"] == key]
            what = f"{key} was posted {posts[key]} times"
            yield Fault(_doubled(posted, "message doubled"), run.id, what)
        if stored.status == "sent" and kind in ("post", "email") and not (posts + mails)[key]:
            yield Fault("message lost", run.id, f"{key} is marked as sent and was not")
