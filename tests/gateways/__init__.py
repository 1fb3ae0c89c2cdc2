"""Every gateway that there is an adapter for, with what the tests do to it.

``RIGS`` are real servers in front of a real service; ``STANDINS`` answer a gateway's public API,
and pass no traffic.
"""

from __future__ import annotations

from pathlib import Path

from tests.gateways.envoy import EnvoyRig
from tests.gateways.rig import Rig
from tests.gateways.standins.apisix import ApisixStandIn
from tests.gateways.standins.cloudflare import CloudflareStandIn
from tests.gateways.standins.kong import KongStandIn
from tests.gateways.subject import Subject

RIGS: tuple[type[Rig], ...] = (EnvoyRig,)
STANDINS: tuple[type[Subject], ...] = (KongStandIn, ApisixStandIn, CloudflareStandIn)

BY_KIND = {each.kind: each for each in (*RIGS, *STANDINS)}


def made(kind: str, directory: Path) -> Subject:
    """Return a subject that runs."""
    subject = BY_KIND[kind](directory)  # type: ignore[call-arg]  # all take a directory
    try:
        subject.start()
    except BaseException:
        subject.close()
        raise
    return subject
