"""Kong Gateway 3, by its Admin API."""

from actions.gateway.adapters.kong.adapter import KongGateway

__all__ = ["KongGateway"]
