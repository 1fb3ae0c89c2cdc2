"""Traefik, by its file provider."""

from actions.gateway.adapters.traefik.adapter import TraefikGateway

__all__ = ["TraefikGateway"]
