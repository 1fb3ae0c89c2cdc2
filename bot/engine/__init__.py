"""The engine: ``advance(runbook, state, event) -> (state, commands)``.

Rule 1: everything that decides what a run does next lives here, and nothing else does.
Rule 2: pure: no I/O, no clock, no randomness. Time is in the events.
Rule 3: equal runbook and events give equal states and commands, so a run can be replayed.
Rule 4: where a run stands is in the statuses of its steps alone; every walk through the runbook
        finds it again.

Where to look: ``advance`` takes an event to its step; ``begin``, ``calls``, ``cards`` and
``failing`` are the life of one step; ``flow`` goes through sequences and groups; ``ending`` brings
a run to its end; ``words`` are people's; ``todo`` says what is outstanding; ``policy`` what may
run; ``places`` where steps stand. Beside them, ``rehearsal`` and ``player`` test runbooks, and
``graph`` draws them.
"""

from bot.engine.advance import advance
from bot.engine.state import RunState, StepState, StepStatus

__all__ = ["RunState", "StepState", "StepStatus", "advance"]
