"""Broken glasses: who let a step go on without its approval, and who looked at it afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bot.model import events
from bot.postmortem.document import Line, Task
from bot.postmortem.ledger import Ledger
from bot.postmortem.questions import follow
from bot.postmortem.reading import Read
from bot.postmortem.text import UNKNOWN, listed, plain, sentence, starting


@dataclass(frozen=True)
class BrokenGlass:
    """``groups`` were asked for the approval, and are to review; ``review`` is None until then."""

    broken: Read
    event: events.Overridden
    steps: tuple[str, ...]
    groups: tuple[str, ...]
    review: Read | None


def broken_glasses(ledger: Ledger) -> Iterator[BrokenGlass]:
    """Yield every broken glass that counted, each with its review, in order."""
    words = follow(ledger.reads).words
    reviews = list(ledger.of_kind("break_glass_reviewed"))
    for read in ledger.events(events.Overridden):
        word = words[read.seq]
        if word.flaw or not isinstance(read.event, events.Overridden):
            continue
        review = next((r for r in reviews if r.key == read.key and r.seq > read.seq), None)
        if review is not None:
            reviews.remove(review)
        steps = tuple(word.plans) or (read.event.step,)
        yield BrokenGlass(read, read.event, steps, word.groups, review)


def broken_glass_lines(ledger: Ledger) -> Iterator[Line]:
    """Tell each, and what its review found."""
    for glass in broken_glasses(ledger):
        breaker, steps = ledger.who(glass.event.by), _steps(glass)
        text = f"{starting(breaker)} broke the glass at {steps}: {plain(glass.event.reason, 300)}"
        review = "It is not reviewed yet."
        sources = [glass.broken.seq]
        if glass.review is not None:
            finding = glass.review.text("finding", 600) or UNKNOWN
            reviewer = starting(ledger.who(glass.review.record.actor))
            review = sentence(f"{reviewer} reviewed it: {finding}")
            sources.append(glass.review.seq)
        yield Line(text=f"{sentence(text)} {review}", sources=tuple(sources))


def review_tasks(ledger: Ledger) -> Iterator[Task]:
    """Yield the reviews that are still to be held: they are mandatory."""
    for glass in broken_glasses(ledger):
        if glass.review is None:
            breaker = ledger.who(glass.event.by)
            reason = plain(glass.event.reason, 300)
            yield Task(
                title=f"Review the glass that was broken at {_steps(glass)}",
                owner=listed((plain(group, 80) for group in glass.groups), "or") or UNKNOWN,
                due="now",
                why=f"{starting(breaker)} went on without the approval: {sentence(reason)} The "
                "review is mandatory, and not for whoever broke the glass.",
                sources=(glass.broken.seq,),
            )


def _steps(glass: BrokenGlass) -> str:
    run = plain(glass.broken.record.run_id or "", 80)
    return f"{listed(plain(step, 80) for step in glass.steps)} of {run}"
