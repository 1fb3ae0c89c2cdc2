"""The postmortem as a tree of frozen data: what every form of it shows, in which order.

Every line and figure has ``sources``: the numbers of the journal's records that it was taken
from. All texts are one line each and harmless to look at (``bot.postmortem.text.plain``); none
is markup of any format.
"""

from __future__ import annotations

from enum import StrEnum

from bot.model.base import Frozen, Utc
from bot.postmortem.text import Text

Sources = tuple[int, ...]


class Level(StrEnum):
    """What kind of thing a line of the timeline tells."""

    INFO = "info"
    CHANGE = "change"
    DECISION = "decision"
    FAILURE = "failure"


class Entry(Frozen):
    """
    One line of the timeline: one journal record as one or two sentences.

    ``actor`` is as the journal has it. ``minor`` lines are left out unless all are asked for.
    ``evidence`` names the files that the record speaks of.
    """

    at: Utc
    text: Text
    actor: Text
    seq: int
    hash_prefix: str
    run: Text = ""
    step: Text = ""
    kind: Text
    level: Level
    minor: bool = False
    evidence: tuple[Text, ...] = ()


class Line(Frozen):
    """
    One statement. ``known`` is False for what no record says: the text then begins with UNKNOWN
    and says what a person should fill in.
    """

    text: Text
    sources: Sources = ()
    known: bool = True


class Figure(Frozen):
    """
    One number of the impact. ``amount`` is exact, in ``unit`` (``s``, or empty for counts), and
    None for what is not a number or not known; ``value`` is how it is read.
    """

    name: Text
    label: Text
    value: Text
    amount: float | int | None = None
    unit: Text = ""
    note: Text = ""
    sources: Sources = ()
    known: bool = True


class Header(Frozen):
    """``authors`` and ``people`` are roles."""

    incident_id: Text
    title: Text
    severity: Text
    status: Text
    opened_at: Utc
    drafted_at: Utc
    authors: tuple[Text, ...]
    sources: Sources = ()


class ContainmentRow(Frozen):
    """``until`` is when it ended; None while in force (then ``ended`` says until when)."""

    id: Text
    what: Text
    gateway: Text
    since: Utc
    until: Utc | None
    ended: Text
    by: Text
    reason: Text
    proof: Text
    proven: bool
    sources: Sources = ()


class CredentialRow(Frozen):
    """Identifiers only. ``old`` and ``new`` say UNKNOWN if no record names them."""

    credential: Text
    old: Text
    new: Text
    details: Text
    proof: Text
    proven: bool
    sources: Sources = ()


class NoticeRow(Frozen):
    """One notice to one place. ``sent_at`` is None if it was not delivered."""

    audience: Text
    way: Text
    to: Text
    subject: Text
    sent_at: Utc | None
    problem: Text = ""
    sources: Sources = ()


class ApprovalRow(Frozen):
    """Who said what about which plan. ``actor`` is as the journal has it, not a role."""

    step: Text
    plan: Text
    digest: str
    decision: Text
    actor: Text
    groups: tuple[Text, ...]
    at: Utc
    effect: Text
    sources: Sources = ()


class Task(Frozen):
    """A follow-up. ``owner`` is a role, UNKNOWN if none is known; ``due`` is a hint."""

    title: Text
    owner: Text
    due: Text
    why: Text
    sources: Sources = ()


class EvidenceRow(Frozen):
    """A kept file. ``size`` is ``size_bytes`` as it is read."""

    id: Text
    sha256: str
    size_bytes: int
    size: Text
    media_type: Text
    summary: Text
    kept_at: Utc
    sources: Sources = ()


class RunRow(Frozen):
    id: Text
    runbook: Text
    digest: str
    status: Text
    started_by: Text
    started_at: Utc
    ended_at: Utc | None
    sources: Sources = ()


class Supporting(Frozen):
    """What the whole can be checked against. Empty journal: no numbers, an empty hash.
    ``left_out`` counts records without a line in the document's timeline."""

    first_seq: int | None
    last_seq: int | None
    records: int
    head_hash: str
    left_out: int
    runs: tuple[RunRow, ...]


class Document(Frozen):
    """A postmortem, section by section."""

    header: Header
    summary: tuple[Line, ...]
    impact: tuple[Figure, ...]
    root_cause: tuple[Line, ...]
    trigger: tuple[Line, ...]
    detection: tuple[Line, ...]
    resolution: tuple[Line, ...]
    containments: tuple[ContainmentRow, ...]
    credentials: tuple[CredentialRow, ...]
    notices: tuple[NoticeRow, ...]
    other_changes: tuple[Line, ...]
    timeline: tuple[Entry, ...]
    went_well: tuple[Line, ...]
    went_wrong: tuple[Line, ...]
    lucky: tuple[Line, ...]
    prevention: tuple[Line, ...]
    tasks: tuple[Task, ...]
    approvals: tuple[ApprovalRow, ...]
    evidence: tuple[EvidenceRow, ...]
    supporting: Supporting
