"""What an action leaves behind: facts, evidence, notices, proof."""

from __future__ import annotations

from typing import Any, Literal

from bot.model.base import Frozen, Utc


class Evidence(Frozen):
    """
    A kept file, named by its content. ``id`` is unique in its incident
    (``affected-records.parquet``, …); ``sha256`` is over the bytes; ``summary`` says in one
    line what it holds, without naming a person.
    """

    id: str
    sha256: str
    size_bytes: int
    media_type: str
    summary: str
    kept_at: Utc


class Check(Frozen):
    """One thing looked at from outside, with what was expected and what was seen."""

    name: str
    ok: bool
    expected: str
    seen: str


class Proof(Frozen):
    """The checks that prove an effect. It holds when every check does, and there is one."""

    checks: tuple[Check, ...] = ()

    @property
    def ok(self) -> bool:
        return bool(self.checks) and all(check.ok for check in self.checks)


class Notice(Frozen):
    """
    A message for one stakeholder by one way. It is sent through the outbox, once per
    ``key`` (unique in its run).

    ``to`` is a channel name (``#security``) or an e-mail address.
    """

    key: str
    way: Literal["slack", "email"]
    to: str
    audience: str
    subject: str
    text: str


class Outcome(Frozen):
    """
    What a step leaves for later steps (``facts``), for the file (``evidence``), to be sent
    (``notices``), and as proof. Facts hold identifiers, counts and versions, never a secret and
    never the list of affected people.
    """

    facts: dict[str, Any] = {}
    evidence: tuple[Evidence, ...] = ()
    notices: tuple[Notice, ...] = ()
    proof: Proof | None = None
