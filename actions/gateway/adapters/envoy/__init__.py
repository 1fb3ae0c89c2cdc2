"""Envoy, by watched files."""

from actions.gateway.adapters.envoy.files import EnvoyGateway

__all__ = ["EnvoyGateway"]
