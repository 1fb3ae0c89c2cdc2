"""Running the engine durably: workers that hold leases in the store."""

from bot.durable.identity import LEASE_S
from bot.durable.worker import ENGINE_VERSION, LeftToOthers, Worker

__all__ = ["ENGINE_VERSION", "LEASE_S", "LeftToOthers", "Worker"]
