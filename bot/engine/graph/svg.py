"""A runbook, or a run of one, as a picture: what was done, what was not, and why."""

from __future__ import annotations

from collections.abc import Iterable

from bot.action import Effect
from bot.engine.graph import words
from bot.engine.graph.blocks import (
    CARD,
    JOIN,
    Beside,
    Block,
    Card,
    Group,
    Line,
    Meets,
    Pill,
    Rounds,
    Stack,
)
from bot.engine.graph.paper import (
    INK,
    KINDS,
    LOOKS,
    PLAIN,
    QUIET,
    Font,
    Look,
    Paper,
    fit,
    width_of,
    wrap,
)
from bot.engine.graph.path import EACH, Place, Seen, Way, status_text
from bot.engine.state import RunState, StepStatus
from bot.language.runbook import Runbook, Step

MARGIN = 36.0
RAIL = 26.0


def svg(runbook: Runbook, state: RunState | None = None) -> str:
    """Return a drawing of the runbook; with a state, of the way that this run took."""
    return _Drawing(runbook, Way(state) if state is not None else None).text()


class _Drawing:
    """Makes the blocks of one drawing and puts them on paper."""

    def __init__(self, runbook: Runbook, way: Way | None) -> None:
        self._runbook, self._way = runbook, way
        self._shown: list[str] = []
        """The statuses that the drawing holds, for its legend."""

    def text(self) -> str:
        runbook, way = self._runbook, self._way
        main = self._steps(runbook.steps, (), 0)
        blocks: list[Block] = [self._start(), *main]
        if runbook.always:
            blocks.append(self._always(runbook.always, (), 0))
        blocks.append(self._end())
        flow = Stack(blocks, self._meets(True), lead=0, trail=0)
        head = self._heading()
        width = max(flow.width + 2 * RAIL, 560.0) + 2 * MARGIN
        top = MARGIN + head.height + 22
        legend = 40.0 if self._shown else 0.0
        height = top + flow.height + legend + MARGIN
        paper = Paper()
        head.draw(paper, MARGIN, MARGIN, width - 2 * MARGIN)
        left = (width - flow.width) / 2
        self._rail(paper, flow, main, left, top)
        flow.draw(paper, left, top)
        self._legend(paper, MARGIN, top + flow.height + 34, width - 2 * MARGIN)
        name = f"{way.state.run_id}: {runbook.name}" if way else runbook.name
        told = f"{runbook.id}, version {runbook.version[:12]}"
        if way:
            told += f", {way.state.status.value}" + (
                f": {way.state.reason}" if way.state.reason else ""
            )
        return paper.page(width, height, name, told)

    # --- around the steps ----------------------------------------------------------------------

    def _heading(self) -> _Heading:
        way = self._way
        if way is None:
            return _Heading(self._runbook, "", None, "", "")
        state = way.state
        parts = [f"started by {state.origin.actor}"]
        if way.began_at is not None:
            parts.append(f"{way.began_at:%Y-%m-%d %H:%M:%S} UTC")
        if way.took_s is not None:
            parts.append(words.took_text(way.took_s))
        look = LOOKS[state.status.value]
        return _Heading(
            self._runbook,
            state.run_id,
            (look, state.status.value),
            state.reason,
            "  ·  ".join(parts),
        )

    def _start(self) -> Pill:
        if self._way is None:
            return Pill(words.started_by(self._runbook), self._meets(True))
        return Pill(f"started by {self._way.state.origin.actor}", self._meets(True))

    def _end(self) -> Pill:
        if self._way is None:
            return Pill("end", self._meets(True))
        status = self._way.state.status
        over = status.is_final
        text = f"ended: {status.value}" if over else "not over yet"
        return Pill(text, self._meets(over), LOOKS[status.value if over else "pending"])

    def _rail(self, paper: Paper, flow: Stack, main: list[Block], left: float, top: float) -> None:
        """Draw the way from where the run left its steps to what it did at the end."""
        way = self._way
        if way is None:
            return
        met = [block.way.taken or block.way.passed for block in main]
        if all(met) or True not in met:
            return
        last = len(met) - 1 - met[::-1].index(True)
        after = [block for block in flow.blocks[len(main) + 1 :] if block.way.taken]
        if not after:
            return
        places = flow.places(top)
        middle = left + flow.width / 2
        block, target = main[last], after[0]
        begin = places[last + 1] + block.height / 2
        end = places[list(flow.blocks).index(target)] - JOIN
        rail = left + flow.width + RAIL / 2
        paper.line(
            (middle + block.width / 2, begin),
            (rail, begin),
            (rail, end),
            (middle, end),
            style="taken",
        )

    def _legend(self, paper: Paper, x: float, y: float, room: float) -> None:
        at = x
        for status in LOOKS:
            if status not in self._shown:
                continue
            text = status.replace("_", " ")
            paper.mark(at + 7, y - 4, LOOKS[status], 7)
            paper.text(at + 19, y, text, 11, fill=QUIET)
            at += width_of(text, 11) + 38
            if at - x > room - 60:
                break

    # --- steps ---------------------------------------------------------------------------------

    def _steps(self, steps: Iterable[Step], place: Place, depth: int) -> list[Block]:
        return [self._step(step, (*place, step.id), depth) for step in steps]

    def _step(self, step: Step, place: Place, depth: int) -> Block:
        seen = self._way.at(place) if self._way else None
        look, status = self._look(step, seen, EACH in place)
        way = self._meets_step(step, seen, place)
        if step.is_group:
            return self._group(step, place, depth, look, status, way, seen)
        irreversible = seen is None and step.effect is Effect.IRREVERSIBLE
        bad = seen is not None and seen.status in (StepStatus.FAILED, StepStatus.STOPPED)
        return Card(
            name=step.id,
            does=words.does(step),
            tag="QUESTION" if step.manual else (step.effect.value.upper() if step.effect else ""),
            lines=tuple(self._lines(step, seen)),
            look=look,
            status=status,
            way=way,
            mono=step.manual is None,
            heavy=bad or irreversible,
        )

    def _group(
        self,
        step: Step,
        place: Place,
        depth: int,
        look: Look,
        status: str,
        way: Meets,
        seen: Seen | None,
    ) -> Group:
        foot: Rounds | None = None
        body: Block = Stack((), way)
        if step.parallel is not None:
            branches = [
                self._sequence(branch, place[:-1], depth + 1, way)
                for branch in step.parallel.branches
            ]
            body = Beside(branches, step.parallel.join, way)
        elif step.foreach is not None:
            inner = (*place, EACH)
            body = self._sequence(step.foreach.steps, inner, depth + 1, way)
            if self._way is not None and EACH not in place:
                foot = Rounds(self._way.iterations(place), way, max(body.width, CARD) - 8)
        elif step.call is not None and step.call.book is not None:
            book = step.call.book
            blocks = self._steps(book.steps, place, depth + 1)
            if book.always:
                blocks.append(self._always(book.always, place, depth + 1))
            body = Stack(blocks, way)
        return Group(
            name=words.title(step) or "parallel",
            does=words.does(step),
            lines=tuple(self._lines(step, seen)),
            body=body,
            look=look,
            status=status,
            way=way,
            foot=foot if foot and foot.rounds else None,
            depth=depth,
        )

    def _sequence(self, steps: tuple[Step, ...], place: Place, depth: int, way: Meets) -> Stack:
        blocks = self._steps(steps, place, depth)
        reached = any(block.way.taken or block.way.passed for block in blocks)
        return Stack(blocks, self._meets(reached))

    def _always(self, steps: tuple[Step, ...], place: Place, depth: int) -> Group:
        body = self._sequence(steps, place, depth + 1, self._meets(True))
        return Group(
            name="always",
            does="at the end, however the rest ended",
            lines=(),
            body=body,
            look=PLAIN,
            status="",
            way=body.way,
            depth=depth,
        )

    def _meets(self, taken: bool) -> Meets:
        return Meets(drawn=self._way is not None, taken=taken)

    def _meets_step(self, step: Step, seen: Seen | None, place: Place) -> Meets:
        if seen is None:
            return Meets(drawn=False, optional=words.may_be_passed(step))
        return Meets(taken=seen.taken, passed=seen.passed)

    def _look(self, step: Step, seen: Seen | None, many: bool) -> tuple[Look, str]:
        if seen is None:
            kind = "question" if step.manual else step.effect.value if step.effect else ""
            return KINDS.get(kind, PLAIN), ""
        status = seen.status
        if status.value not in self._shown:
            self._shown.append(status.value)
        return LOOKS[status.value], seen.counts if many and seen.states else status_text(status)

    def _lines(self, step: Step, seen: Seen | None) -> Iterable[Line]:
        """Yield what a card says below what the step does."""
        yield from _wrapped("if", words.condition(step), "mono")
        needs = words.approval(step.approval) if step.approval is not None else ""
        yield from _wrapped("needs", needs, most=3)
        yield from _wrapped("", words.question(step))
        if step.ttl_s is not None:
            yield Line("expires", f"after {words.duration_text(step.ttl_s)}")
        if fallback := words.fallback(step):
            yield Line("if it fails", fallback)
        if seen is None:
            return
        if seen.approvals:
            yield from _wrapped("approved", f"by {', '.join(seen.approvals)}")
        yield from _wrapped("", seen.problem, most=3, loud=True)
        tried = f"{seen.attempts} attempts" if seen.attempts > 1 else ""
        took = words.took_text(seen.took_s) if seen.took_s is not None and seen.taken else ""
        if took or tried:
            yield Line("took" if took else "", ", ".join(filter(None, (took, tried))))


def _wrapped(
    label: str, text: str, font: Font = "sans", *, most: int = 2, loud: bool = False
) -> Iterable[Line]:
    room = CARD - 54 - (width_of(label, 10.5, bold=True) + 9 if label else 0)
    for index, line in enumerate(wrap(text, room, 11.5, most, font)):
        yield Line(label if index == 0 else "", line, font, loud)


class _Heading:
    """The head of the page."""

    def __init__(
        self,
        runbook: Runbook,
        run_id: str,
        status: tuple[Look, str] | None,
        reason: str,
        told: str,
    ) -> None:
        self._runbook, self._run_id, self._status = runbook, run_id, status
        self._reason, self._told = reason, told

    @property
    def height(self) -> float:
        return 56.0 + (24 if self._status else 0) + 18 * len(self._reasons())

    def _reasons(self) -> list[str]:
        return wrap(self._reason, 500, 12.5, 3)

    def draw(self, paper: Paper, x: float, y: float, width: float) -> None:
        name = f"{self._run_id}  {self._runbook.name}".strip()
        room = width
        if self._status is not None:
            look, status = self._status
            shown = fit(status, 200, 13, bold=True)
            broad = width_of(shown, 13, bold=True) + 46
            room -= broad + 16
            left = x + width - broad
            paper.box(
                left, y - 2, broad, 30, edge=look.edge, ground=look.ground, radius=15, thick=2
            )
            paper.mark(left + 17, y + 13, look, 8)
            paper.text(left + 32, y + 17.5, shown, 13, bold=True, fill=look.edge)
        paper.text(x, y + 19, name, 20, bold=True, room=room)
        version = f"{self._runbook.id}  ·  version {self._runbook.version[:12]}"
        paper.text(x, y + 42, version, 12, fill=QUIET, font="mono", room=width)
        at = y + 42
        if self._told:
            at += 21
            paper.text(x, at, self._told, 12, fill=QUIET, room=width)
        for reason in self._reasons():
            at += 19
            paper.text(x, at, reason, 12.5, fill=INK, room=width)
        paper.line((x, at + 15), (x + width, at + 15), style="plain")
