"""The settings of each kind of gateway. ``deploy/README.md`` says how each is set up."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from bot.settings.parts import Part, SecretSource, absolute, absolute_if_given


class _Gateway(Part):
    """``public_url``: where customers call; probes start there."""

    public_url: str


class EnvoySettings(_Gateway):
    """Routes in a file that Envoy watches."""

    kind: Literal["envoy"]
    base_routes: str
    rds_file: str
    admin_url: str
    api_key_header: str | None = None

    _paths = field_validator("base_routes", "rds_file")(absolute)


class CaddySettings(_Gateway):
    """One route of Firedoor's own, by the admin API."""

    kind: Literal["caddy"]
    admin_url: str
    server: str
    verifier: str | None = None
    claim_headers: dict[str, str] = {}
    api_key_header: str | None = None
    client_certificate: str | None = None
    ca_file: str | None = None

    _paths = field_validator("client_certificate", "ca_file")(absolute_if_given)


class EnvoyFleetSettings(_Gateway):
    """Routes for several nodes, over ADS; needs ``firedoor[envoy-ads]``."""

    kind: Literal["envoy_fleet"]
    base_routes: str
    snapshot: str
    listen: str
    certificate: str | None = None
    private_key: str | None = None
    client_ca: str | None = None
    expected_nodes: tuple[str, ...] = ()
    admin_urls: dict[str, str] = {}
    api_key_header: str | None = None

    _paths = field_validator("base_routes", "snapshot", "certificate", "private_key", "client_ca")(
        absolute_if_given
    )


class HaproxySettings(_Gateway):
    """Maps of Firedoor's own, by the Runtime API and in files."""

    kind: Literal["haproxy"]
    socket: str
    maps_dir: str
    claims: tuple[str, ...] = ()
    checks_api_keys: bool = False
    fold_case: bool = False

    _paths = field_validator("socket", "maps_dir")(absolute)


class NginxSettings(_Gateway):
    """One included file of Firedoor's own, a test of the whole, and a reload."""

    kind: Literal["nginx"]
    own_file: str
    status_address: str = "127.0.0.1:9145"
    pid_file: str = "/run/nginx.pid"
    test_command: tuple[str, ...] = ("nginx", "-t")
    reload_command: tuple[str, ...] | None = None
    api_key_variable: str | None = None
    claim_variables: dict[str, str] = {}
    shadow_log: str | None = None
    folds_case: bool = False

    _paths = field_validator("own_file", "pid_file", "shadow_log")(absolute_if_given)


class TraefikSettings(_Gateway):
    """One file of Firedoor's own in the folder that the file provider watches."""

    kind: Literal["traefik"]
    dynamic_file: str
    drafts: str
    api_url: str
    responder_url: str
    metrics_url: str | None = None
    forwarded_depth: int | None = Field(default=None, ge=1)
    identity: str | None = None
    claim_headers: dict[str, str] = {}
    api_key_header: str | None = None

    _paths = field_validator("dynamic_file", "drafts")(absolute)


class AwsWafSettings(_Gateway):
    """A rule group of Firedoor's own, which a web ACL refers to. ``aws`` names an account."""

    kind: Literal["aws_waf"]
    aws: str
    rule_group_arn: str
    web_acl_arn: str


class AwsApiGatewaySettings(_Gateway):
    """Method settings of a stage of a REST API. ``aws`` names an account."""

    kind: Literal["aws_api_gateway"]
    aws: str
    rest_api_id: str
    stage: str
    base_path: str = ""
    disable_api_keys: bool = False


class _Kubernetes(_Gateway):
    server: str
    token_file: str
    ca_file: str | None = None
    namespace: str

    _own_paths = field_validator("token_file", "ca_file")(absolute_if_given)


class IstioSettings(_Kubernetes):
    """An AuthorizationPolicy of Firedoor's own."""

    kind: Literal["istio"]
    selector: dict[str, str] = Field(min_length=1)
    ports: tuple[int, ...] = Field(min_length=1)
    issuer: str | None = None
    addresses: Literal["ipBlocks", "remoteIpBlocks"] = "ipBlocks"


class GatewayApiSettings(_Kubernetes):
    """An HTTPRoute of Firedoor's own."""

    kind: Literal["kubernetes_gateway"]
    gateway: str
    gateway_namespace: str | None = None
    hostnames: tuple[str, ...] = ()
    route_namespaces: tuple[str, ...] | None = None


class KongSettings(_Gateway):
    """Routes and plugins of Firedoor's own, by the Admin API."""

    kind: Literal["kong"]
    admin_url: str
    admin_token: SecretSource | None = None
    consumers: bool = False
    marks_throttled: bool = True
    ca_file: str | None = None
    settle_s: float = Field(default=5.0, ge=0, le=120)

    _paths = field_validator("ca_file")(absolute_if_given)


class ApisixSettings(_Gateway):
    """Routes of Firedoor's own, by the Admin API."""

    kind: Literal["apisix"]
    admin_url: str
    admin_key: SecretSource
    consumers: bool = False
    ca_file: str | None = None
    settle_s: float = Field(default=1.0, ge=0, le=120)

    _paths = field_validator("ca_file")(absolute_if_given)


class CloudflareSettings(_Gateway):
    """Rules of Firedoor's own in a zone, by the Rulesets API."""

    kind: Literal["cloudflare"]
    zone_id: str
    api_token: SecretSource
    hosts: tuple[str, ...] = ()
    plan: Literal["business", "enterprise"] = "business"
    limits_by: Literal["none", "address", "data_centre"] = "address"
    token_configuration: str | None = None
    settle_s: float = Field(default=3.0, ge=0, le=120)


GatewaySettings = Annotated[
    EnvoySettings
    | EnvoyFleetSettings
    | HaproxySettings
    | NginxSettings
    | TraefikSettings
    | CaddySettings
    | AwsWafSettings
    | AwsApiGatewaySettings
    | IstioSettings
    | GatewayApiSettings
    | KongSettings
    | ApisixSettings
    | CloudflareSettings,
    Field(discriminator="kind"),
]
