"""Where the nodes of a fleet connect, and how they and Firedoor know each other."""

from __future__ import annotations

import ipaddress
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.errors import BadInput

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listen:
    """
    Where the nodes connect: ``address:port``, with TLS or on a loopback address.

    Raises:
        BadInput: Neither holds, or it is no address.
    """

    gateway: str
    address: str
    certificate: Path | None = None
    private_key: Path | None = None
    client_ca: Path | None = None

    def __post_init__(self) -> None:
        given = [self.certificate, self.private_key, self.client_ca]
        match = re.fullmatch(r"\[?([0-9A-Fa-f.:]+?)\]?:(\d{1,5})", self.address)
        try:
            host = ipaddress.ip_address(match[1] if match else "")
        except ValueError:
            raise BadInput(
                f"Gateway {self.gateway} cannot listen on {self.address!r}, which is no address "
                "and port; nothing was done. Write it as 10.0.0.5:18000 or [::1]:18000."
            ) from None
        if any(given) and not all(given):
            raise BadInput(
                f"Gateway {self.gateway} has only a part of what TLS needs; nothing was done. "
                "Set `certificate`, `private_key` and `client_ca`: nodes and Firedoor check each "
                "other."
            )
        if not any(given) and not host.is_loopback:
            raise BadInput(
                f"Gateway {self.gateway} would listen on {self.address} without TLS, where anybody "
                "could read routes and pass for a node; nothing was done. Set `certificate`, "
                "`private_key` and `client_ca`, or listen on a loopback address."
            )

    def credentials(self) -> Any:
        """Return what gRPC needs for TLS, None for none. Raises BadInput."""
        if self.certificate is None or self.private_key is None or self.client_ca is None:
            return None
        import grpc

        files = (self.private_key, self.certificate, self.client_ca)
        seen: list[Any] = []

        def changed() -> Any:
            """Return the files' content if they were changed: certificates are renewed."""
            stamps = [(each.stat().st_ino, each.stat().st_mtime_ns) for each in files]
            if seen == stamps:
                return None
            seen[:] = stamps
            key, chain, roots = (each.read_bytes() for each in files)
            return grpc.ssl_server_certificate_configuration([(key, chain)], roots)

        def renewed() -> Any:
            try:
                return changed()
            except OSError as error:
                log.warning("Gateway %s: %s; the certificate before is used.", self.gateway, error)
                return None

        try:
            first = changed()
        except OSError as error:
            raise BadInput(
                f"TLS of gateway {self.gateway} cannot be set up ({error}); nothing was started. "
                "Mend `certificate`, `private_key` and `client_ca` in firedoor.yaml."
            ) from None
        return grpc.dynamic_ssl_server_credentials(
            first, renewed, require_client_authentication=True
        )
