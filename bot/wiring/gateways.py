"""Makes the adapter of each configured gateway. Nothing is called yet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from actions.gateway.adapters.caddy import CaddyGateway
from actions.gateway.adapters.envoy import EnvoyFleet, EnvoyGateway
from actions.gateway.adapters.haproxy import HaproxyGateway
from actions.gateway.adapters.nginx import NginxGateway
from actions.gateway.adapters.traefik import TraefikGateway
from bot.action import Gateway
from bot.model.endpoint import Endpoint
from bot.settings.gateways import (
    CaddySettings,
    EnvoyFleetSettings,
    EnvoySettings,
    GatewaySettings,
    HaproxySettings,
    NginxSettings,
    TraefikSettings,
)


def made_gateway(
    name: str, settings: GatewaySettings, endpoints: Mapping[str, Endpoint], state: Path
) -> Gateway:
    """
    Return the adapter of a gateway.

    Args:
        state: Firedoor's folder; what is to be kept of a gateway is in ``gateways/<name>`` there.
    """
    own = state / "gateways" / name
    match settings:
        case EnvoySettings():
            return EnvoyGateway(
                name=name,
                base_routes=Path(settings.base_routes),
                rds_file=Path(settings.rds_file),
                admin_url=settings.admin_url,
                endpoints=endpoints,
                api_key_header=settings.api_key_header,
            )
        case EnvoyFleetSettings():
            return EnvoyFleet(
                name=name,
                base_routes=Path(settings.base_routes),
                snapshot=Path(settings.snapshot),
                listen=settings.listen,
                certificate=_path(settings.certificate),
                private_key=_path(settings.private_key),
                client_ca=_path(settings.client_ca),
                endpoints=endpoints,
                expected_nodes=settings.expected_nodes,
                admin_urls=settings.admin_urls,
                api_key_header=settings.api_key_header,
            )
        case HaproxySettings():
            return HaproxyGateway(
                name=name,
                socket=Path(settings.socket),
                maps_dir=Path(settings.maps_dir),
                endpoints=endpoints,
                claims=settings.claims,
                checks_api_keys=settings.checks_api_keys,
                fold_case=settings.fold_case,
            )
        case NginxSettings():
            return NginxGateway(
                name=name,
                own_file=Path(settings.own_file),
                status_address=settings.status_address,
                pid_file=Path(settings.pid_file),
                test_command=settings.test_command,
                reload_command=settings.reload_command,
                endpoints=endpoints,
                api_key_variable=settings.api_key_variable,
                claim_variables=settings.claim_variables,
                shadow_log=_path(settings.shadow_log),
                folds_case=settings.folds_case,
            )
        case TraefikSettings():
            return TraefikGateway(
                name=name,
                dynamic_file=Path(settings.dynamic_file),
                drafts=Path(settings.drafts),
                api_url=settings.api_url,
                responder_url=settings.responder_url,
                endpoints=endpoints,
                metrics_url=settings.metrics_url,
                forwarded_depth=settings.forwarded_depth,
                identity=settings.identity,
                claim_headers=settings.claim_headers,
                api_key_header=settings.api_key_header,
            )
        case CaddySettings():
            return CaddyGateway(
                name=name,
                admin_url=settings.admin_url,
                server=settings.server,
                endpoints=endpoints,
                kept_dir=own,
                verifier=settings.verifier,
                claim_headers=settings.claim_headers,
                api_key_header=settings.api_key_header,
                client_certificate=_path(settings.client_certificate),
                ca_file=_path(settings.ca_file),
            )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
