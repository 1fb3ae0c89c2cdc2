"""The engine: ``advance(runbook, state, event) -> (state, commands)``.

Rule 1: everything that decides what a run does next lives here, and nothing else does.
Rule 2: pure: no I/O, no clock, no randomness. Time is in the events.
Rule 3: equal runbook and events give equal states and commands, so a run can be replayed.
"""

from bot.engine.advance import advance
from bot.engine.state import RunState, StepState, StepStatus

__all__ = ["RunState", "StepState", "StepStatus", "advance"]
