"""Telling people. Actions of this family compose notices; Firedoor sends them, each once."""

from __future__ import annotations

from actions.notify.audiences import Stakeholder, Stakeholders
from actions.notify.stakeholders import Tell

ACTIONS = (Tell(),)

__all__ = ["ACTIONS", "Stakeholder", "Stakeholders", "Tell"]
