"""Apache APISIX 3, by its Admin API."""

from actions.gateway.adapters.apisix.adapter import ApisixGateway

__all__ = ["ApisixGateway"]
