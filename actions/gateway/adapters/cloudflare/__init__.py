"""Cloudflare, by its Rulesets API."""

from actions.gateway.adapters.cloudflare.adapter import CloudflareGateway

__all__ = ["CloudflareGateway"]
