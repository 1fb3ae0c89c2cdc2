"""The inventory: OpenAPI documents -> endpoints, their owners and data classification."""

from bot.inventory.openapi import load_openapi

__all__ = ["load_openapi"]
