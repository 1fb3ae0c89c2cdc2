"""Gateways that are told what to do by objects of the Kubernetes API: Istio, and whatever
implements the Gateway API."""

from actions.gateway.adapters.kubernetes.gateway_api import GatewayApiGateway
from actions.gateway.adapters.kubernetes.istio import IstioGateway

__all__ = ["GatewayApiGateway", "IstioGateway"]
