"""nginx, by one included file and reloads."""

from actions.gateway.adapters.nginx.adapter import NginxGateway

__all__ = ["NginxGateway"]
