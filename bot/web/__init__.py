"""The HTTP door: webhooks of alert sources, and health."""
