"""Running the engine durably, on DBOS."""

from bot.durable.executor import DbosExecutor, DbosWaker

__all__ = ["DbosExecutor", "DbosWaker"]
