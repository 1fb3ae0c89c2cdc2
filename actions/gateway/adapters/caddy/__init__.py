"""Caddy, by its administration API."""

from actions.gateway.adapters.caddy.adapter import CaddyGateway

__all__ = ["CaddyGateway"]
