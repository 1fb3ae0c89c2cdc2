"""Envoy: one node by watched files, or a fleet by Firedoor's own control plane."""

from actions.gateway.adapters.envoy.files import EnvoyGateway
from actions.gateway.adapters.envoy.fleet import EnvoyFleet

__all__ = ["EnvoyFleet", "EnvoyGateway"]
