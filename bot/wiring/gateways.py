"""Makes the adapter of each configured gateway. Nothing is called yet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actions.gateway.adapters.apisix import ApisixGateway
from actions.gateway.adapters.aws_api_gateway import AwsApiGateway
from actions.gateway.adapters.aws_waf import AwsWafGateway
from actions.gateway.adapters.caddy import CaddyGateway
from actions.gateway.adapters.cloudflare import CloudflareGateway
from actions.gateway.adapters.envoy import EnvoyFleet, EnvoyGateway
from actions.gateway.adapters.haproxy import HaproxyGateway
from actions.gateway.adapters.kong import KongGateway
from actions.gateway.adapters.kubernetes import GatewayApiGateway, IstioGateway
from actions.gateway.adapters.nginx import NginxGateway
from actions.gateway.adapters.traefik import TraefikGateway
from bot.action import Gateway
from bot.model.endpoint import Endpoint
from bot.settings import AwsSettings, Settings
from bot.settings.gateways import (
    ApisixSettings,
    AwsApiGatewaySettings,
    AwsWafSettings,
    CaddySettings,
    CloudflareSettings,
    EnvoyFleetSettings,
    EnvoySettings,
    GatewayApiSettings,
    GatewaySettings,
    HaproxySettings,
    IstioSettings,
    KongSettings,
    NginxSettings,
    TraefikSettings,
)


def made_gateways(whole: Settings, endpoints: Mapping[str, Endpoint]) -> dict[str, Gateway]:
    """Return the adapter of every gateway, by name."""
    return {
        name: _made(name, settings, whole, endpoints) for name, settings in whole.gateways.items()
    }


def _made(
    name: str, settings: GatewaySettings, whole: Settings, endpoints: Mapping[str, Endpoint]
) -> Gateway:
    # What is to be kept of a gateway that has no folder of Firedoor's own.
    own = whole.state / "gateways" / name
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
        case AwsWafSettings():
            return AwsWafGateway(
                name=name,
                rule_group_arn=settings.rule_group_arn,
                web_acl_arn=settings.web_acl_arn,
                endpoints=endpoints,
                kept_dir=own,
                **_account(whole.aws[settings.aws]),
            )
        case AwsApiGatewaySettings():
            return AwsApiGateway(
                name=name,
                rest_api_id=settings.rest_api_id,
                stage=settings.stage,
                region=whole.aws[settings.aws].region,
                base_path=settings.base_path,
                disable_api_keys=settings.disable_api_keys,
                kept_dir=own,
                **_account(whole.aws[settings.aws]),
            )
        case IstioSettings():
            return IstioGateway(
                name=name,
                selector=settings.selector,
                ports=settings.ports,
                issuer=settings.issuer,
                addresses=settings.addresses,
                endpoints=endpoints,
                kept_dir=own,
                **_cluster(settings),
            )
        case KongSettings():
            return KongGateway(
                name=name,
                admin_url=settings.admin_url,
                admin_token=settings.admin_token.reveal() if settings.admin_token else None,
                set_aside=own,
                endpoints=endpoints,
                consumers=settings.consumers,
                marks_throttled=settings.marks_throttled,
                ca_file=settings.ca_file,
                settle_s=settings.settle_s,
            )
        case ApisixSettings():
            return ApisixGateway(
                name=name,
                admin_url=settings.admin_url,
                admin_key=settings.admin_key.reveal(),
                set_aside=own,
                endpoints=endpoints,
                consumers=settings.consumers,
                ca_file=settings.ca_file,
                settle_s=settings.settle_s,
            )
        case CloudflareSettings():
            return CloudflareGateway(
                name=name,
                zone_id=settings.zone_id,
                api_token=settings.api_token.reveal(),
                hosts=settings.hosts,
                plan=settings.plan,
                endpoints=endpoints,
                limits_by=settings.limits_by,
                token_configuration=settings.token_configuration,
                settle_s=settings.settle_s,
            )
        case GatewayApiSettings():
            return GatewayApiGateway(
                name=name,
                gateway=settings.gateway,
                gateway_namespace=settings.gateway_namespace,
                hostnames=settings.hostnames,
                route_namespaces=settings.route_namespaces,
                kept_dir=own,
                **_cluster(settings),
            )


def _account(aws: AwsSettings) -> dict[str, Any]:
    return {
        "endpoint_url": aws.endpoint_url,
        "access_key_id": aws.access_key_id.reveal(),
        "secret_access_key": aws.secret_access_key.reveal(),
    }


def _cluster(settings: IstioSettings | GatewayApiSettings) -> dict[str, Any]:
    return {
        "server": settings.server,
        "token_file": Path(settings.token_file),
        "ca_file": _path(settings.ca_file),
        "namespace": settings.namespace,
    }


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
