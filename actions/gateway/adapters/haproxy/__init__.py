"""HAProxy, by runtime maps."""

from actions.gateway.adapters.haproxy.adapter import HaproxyGateway

__all__ = ["HaproxyGateway"]
