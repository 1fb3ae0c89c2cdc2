"""Firedoor: an incident-response bot for APIs. The architecture is in ``bot/README.md``."""

__version__ = "0.1.0"
