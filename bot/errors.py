"""The error tree. A caller picks what to do next by class, never by reading a message.

::

    FiredoorError            exit 4
    ├── BadInput             exit 2   mend the input and call again; nothing was done
    │   ├── RunbookInvalid            carries every problem of a file
    │   ├── SettingsInvalid           carries every problem of firedoor.yaml
    │   ├── ExpressionInvalid         one expression breaks the language
    │   ├── NotFound                  no such incident, run, step, containment …
    │   └── AlertInvalid              a webhook body that is not an alert (HTTP 422)
    ├── Refused              exit 3   a rule or a person says no; nothing was done
    │   ├── NotAllowed                this person may not do this
    │   ├── PlanChanged               the approved plan is no longer what would happen
    │   ├── LeaseLost                 another worker may drive this run now
    │   ├── LeftToNewer               a worker of another version drives this run
    │   └── UndoConflict              someone else changed what we would restore
    ├── Failed               exit 4   it was tried and it did not work
    │   ├── ProviderRefused           the other system says no; a retry is useless
    │   ├── VerificationFailed        the effect could not be proven from outside
    │   ├── Ambiguous                 it may or may not have happened; a person decides
    │   ├── TimedOut                  it took longer than the step allows
    │   └── JournalBroken             the hash chain does not hold
    └── Unreachable          exit 5   try again later
        ├── ProviderUnreachable       the other system gave no usable answer
        │   └── Conflict              another writer was faster; reading anew may help
        └── StoreUnavailable          the journal cannot be written; nothing was done

Messages say fact, consequence and remedy. They never hold a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class FiredoorError(Exception):
    """Base of every error that Firedoor raises on purpose."""

    exit_code = 4


class BadInput(FiredoorError):
    """The input breaks a rule; nothing was done."""

    exit_code = 2


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake in a file. ``line`` and ``column`` count from 1."""

    line: int
    column: int
    where: str
    message: str

    def __str__(self) -> str:
        place = f", {self.where}" if self.where else ""
        return f"line {self.line}, column {self.column}{place}: {self.message}"


class _ProblemsFound(BadInput):
    """Carries *all* problems of one file, in file order: one round trip for its author."""

    consequence = "nothing was done"

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = tuple(sorted(problems))
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{file}: {count} {noun}, {self.consequence}.\n{lines}")


class RunbookInvalid(_ProblemsFound):
    """The runbook breaks the language; nothing was run."""

    consequence = "nothing was run"


class SettingsInvalid(_ProblemsFound):
    """firedoor.yaml breaks its schema; nothing was started."""

    consequence = "nothing was started"


class ExpressionInvalid(BadInput):
    """An expression breaks the language. ``offset`` counts characters from its first one."""

    def __init__(self, message: str, offset: int = 0) -> None:
        self.offset = offset
        super().__init__(message)


class NotFound(BadInput):
    """Nothing has the given id."""


class AlertInvalid(BadInput):
    """The body of a webhook is not an alert in the format its address promises."""


class Refused(FiredoorError):
    """A rule or a person says no; nothing was done."""

    exit_code = 3


class NotAllowed(Refused):
    """This person may not do this."""


class PlanChanged(Refused):
    """What would happen now differs from what was approved."""


class LeaseLost(Refused):
    """This worker may not act any more: it was not heard of for too long, or another one drives
    the run. It is never a step's failure; whoever holds the lease goes on."""


class LeftToNewer(Refused):
    """This worker cannot read a run's runbook, and one of another version may: it leaves it."""


class UndoConflict(Refused):
    """Someone else changed what an undo would restore."""


class Failed(FiredoorError):
    """It was tried and it did not work."""


class ProviderRefused(Failed):
    """The other system understood and says no; a retry without a change is useless."""


class VerificationFailed(Failed):
    """The effect could not be proven from outside."""


class Ambiguous(Failed):
    """It may or may not have happened, and asking the other system cannot tell."""


class TimedOut(Failed):
    """It took longer than the step allows."""


class JournalBroken(Failed):
    """The journal's hash chain does not hold. ``seq`` is the first bad record."""

    def __init__(self, message: str, seq: int) -> None:
        self.seq = seq
        super().__init__(message)


class Unreachable(FiredoorError):
    """Something that is needed does not answer; trying again later makes sense."""

    exit_code = 5


class ProviderUnreachable(Unreachable):
    """The other system gave no usable answer: no connection, a timeout, a 5xx, a 429."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class Conflict(ProviderUnreachable):
    """Another writer changed it between our reading and our writing; nothing was written."""


class StoreUnavailable(Unreachable):
    """The journal cannot be written: a full disk, a lost file, a locked database."""
