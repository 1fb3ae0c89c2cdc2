"""Questions to access logs. Each reads only; ``README.md`` documents the schema they share."""

from __future__ import annotations

from actions.logs.connection import AccessLogs
from actions.logs.cross_owner_reads import CrossOwnerReads

ACTIONS = (CrossOwnerReads(),)

__all__ = ["ACTIONS", "AccessLogs", "CrossOwnerReads"]
