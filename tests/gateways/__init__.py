"""Every gateway that there is an adapter for, with what the tests do to it.

``RIGS`` are real servers in front of a real service; ``STANDINS`` answer a gateway's public API,
and pass no traffic.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.gateways.caddy import CaddyRig
from tests.gateways.envoy import EnvoyRig
from tests.gateways.envoy_fleet import EnvoyFleetRig
from tests.gateways.haproxy import HaproxyRig
from tests.gateways.nginx import NginxRig
from tests.gateways.rig import Rig
from tests.gateways.standins.apisix import ApisixStandIn
from tests.gateways.standins.aws_api_gateway import AwsApi
from tests.gateways.standins.aws_waf import AwsWaf
from tests.gateways.standins.cloudflare import CloudflareStandIn
from tests.gateways.standins.kong import KongStandIn
from tests.gateways.standins.kubernetes_gateways import GatewayApi, Istio
from tests.gateways.subject import Subject
from tests.gateways.traefik import TraefikRig

RIGS: tuple[type[Rig], ...] = (
    EnvoyRig,
    EnvoyFleetRig,
    HaproxyRig,
    NginxRig,
    CaddyRig,
    TraefikRig,
)
STANDINS: tuple[type[Subject], ...] = (
    AwsWaf,
    AwsApi,
    Istio,
    GatewayApi,
    KongStandIn,
    ApisixStandIn,
    CloudflareStandIn,
)

BY_KIND = {each.kind: each for each in (*RIGS, *STANDINS)}


def rig_params() -> list[Any]:
    """Return the kinds of real servers as parameters of live tests; those that cannot run on this
    machine are skipped, and say why."""
    return [pytest.param(rig.kind, marks=[pytest.mark.live, *_skipped(rig)]) for rig in RIGS]


def _skipped(rig: type[Rig]) -> list[pytest.MarkDecorator]:
    why = rig.missing()
    return [pytest.mark.skip(reason=f"{rig.kind} cannot run here: {why}")] if why else []


def made(kind: str, directory: Path) -> Subject:
    """Return a subject that runs."""
    subject = BY_KIND[kind](directory)  # type: ignore[call-arg]  # all take a directory
    try:
        subject.start()
    except BaseException:
        subject.close()
        raise
    return subject
